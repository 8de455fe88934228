"""Run several of our processes as one: start, restart after a crash, stop together.

Used by `syncline up CONFIG` and by the demo, which kills the children on purpose. In production a
process manager (systemd, Kubernetes) does this.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Child", "Supervisor", "die_with_parent"]

QUICK_S = 5.0
"""A child that lives shorter than this has failed; longer, and its back-off begins anew."""
BACKOFF_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
FAILURES_MAX = 8
"""So many quick exits in a row end the whole: it will not mend itself."""
_PARENT = "SYNCLINE_PARENT"


def die_with_parent() -> None:
    """Called first thing in a child: SIGTERM reaches it when its supervisor dies, however.

    Only Linux can do it; elsewhere a supervisor that is killed leaves its children running.
    """
    parent = os.environ.pop(_PARENT, "")
    if not parent or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != int(parent):  # it died before we could ask
        sys.exit(0)


@dataclass
class Child:
    """One process of ours and its log."""

    name: str
    args: list[str]
    env: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    due_s: float = 0.0
    failures: int = 0
    restarts: int = 0

    def start(self, now_s: float) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "syncline", *self.args],
                env={**os.environ, **self.env, _PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone
            )
        self.started_s = now_s

    def last_lines(self, lines: int = 5) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 8192))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


@dataclass
class Supervisor:
    """Children by name. Start them from the main thread: a child dies with the thread's process."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    children: dict[str, Child] = field(default_factory=dict)

    def add(self, name: str, *args: str, env: Mapping[str, str] | None = None) -> Child:
        """Start a process `syncline ARGS…`; its output goes to `folder/name.log`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        child = Child(name, list(args), {**self.env, **(env or {})}, self.folder / f"{name}.log")
        self.children[name] = child
        child.start(self.clock())
        return child

    def check(self) -> list[str]:
        """Restart what has ended, with back-off; names of what was restarted.

        Raises RuntimeError with the last lines of its log for a child that will not stay up, or
        that says that it is used wrongly (exit 2).
        """
        restarted: list[str] = []
        now_s = self.clock()
        for child in self.children.values():
            if child.process is None:
                if now_s >= child.due_s:
                    child.start(now_s)
                    child.restarts += 1
                    restarted.append(child.name)
                continue
            code = child.process.poll()
            if code is None:
                continue
            child.failures = child.failures + 1 if now_s - child.started_s < QUICK_S else 1
            if code == 2 or child.failures > FAILURES_MAX:
                raise RuntimeError(
                    f"{child.name} ended with exit code {code} ({child.failures} times in a row); "
                    f"its log is {child.log}:\n{child.last_lines()}"
                )
            child.process = None
            child.due_s = now_s + BACKOFF_S[min(child.failures - 1, len(BACKOFF_S) - 1)]
        return restarted

    def kill(self, name: str) -> bool:
        """SIGKILL; `check` starts it again. False where it was not running."""
        process = self.children[name].process
        if process is None or process.poll() is not None:
            return False
        process.kill()
        process.wait()
        return True

    def stop(self, timeout_s: float = 12.0) -> None:
        """SIGTERM to all, SIGKILL to what is still there after `timeout_s`."""
        running = [c.process for c in self.children.values() if c.process is not None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + timeout_s
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.children.clear()

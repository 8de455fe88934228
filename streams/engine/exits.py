"""How a worker leaves when going on could lose or repeat something.

A worker that is unsure writes nothing more: what it had decided since the last checkpoint is in
memory only, so leaving at once is always safe, and a successor decides it anew.
"""

import os
import signal
import sys
import time
from typing import NoReturn

import structlog

__all__ = ["AWAY_S_MAX", "EXIT_CODE", "boot_s", "hit", "leave"]

log = structlog.get_logger("streams.engine")

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h. A supervisor starts the worker again, with a back-off."""

AWAY_S_MAX = 300.0
"""Longest wait for a Kafka that answers nothing. A worker that is there when it comes back goes on
at once; one that had left would have to start, join and restore first."""


def leave(why: str, **context: object) -> NoReturn:
    """End the process at once, with one line that says why. Nothing is flushed or committed."""
    log.critical(why, **context)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CODE)


def boot_s() -> float:
    """A clock that also counts while the machine sleeps, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _armed() -> dict[str, tuple[int, int]]:
    """`SYNCLINE_ENGINE_POINT=committed:3:kill` -> {"committed": (3, SIGKILL)}."""
    text = os.environ.get("SYNCLINE_ENGINE_POINT", "")
    if not text:
        return {}
    name, count, what = (*text.split(":"), "1", "kill")[:3]
    return {name: (int(count), signal.SIGSTOP if what == "stop" else signal.SIGKILL)}


_ARMED = _armed()
_seen: dict[str, int] = {}


def hit(point: str) -> None:
    """A named point at which a test may kill (`kill`) or freeze (`stop`) this worker.

    Points, in order: `chunk`, `offsets_sent`, `outputs_produced`, `delivered`, `committed`,
    `local_written`, and `restoring`. Not armed, it costs one look into an empty dict.
    """
    if point in _ARMED:
        count, signum = _ARMED[point]
        _seen[point] = _seen.get(point, 0) + 1
        if _seen[point] == count:
            os.kill(os.getpid(), signum)

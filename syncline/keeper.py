"""Stays beside one Java process and ends it when whoever started it is gone.

Run as `python -S -E keeper.py COMMAND…` with a pipe as standard input: the pipe closes when its
owner dies, however it dies. Killed itself, the kernel tells the child (Linux). The first line on
standard output is the child's process id; the child's own output goes to standard error.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

KILL_S = 30.0
"""After SIGTERM; the slowest clean stop, one that records for the cache, takes 4 s when idle."""

keeper = os.getpid()


def die_with_me() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != keeper:  # killed before we could ask
        os._exit(1)


child = subprocess.Popen(  # noqa: S603 - the command is our own
    sys.argv[1:],
    stdin=subprocess.DEVNULL,
    stdout=sys.stderr,
    close_fds=False,  # it holds the lock on the data folder for as long as it lives
    preexec_fn=die_with_me if sys.platform == "linux" else None,
)


def stop(*_: object) -> None:
    child.terminate()
    killer = threading.Timer(KILL_S, child.kill)
    killer.daemon = True
    killer.start()


def watch() -> None:
    os.read(0, 1)  # end of file: our owner is gone
    stop()


signal.signal(signal.SIGTERM, stop)
threading.Thread(target=watch, daemon=True).start()
print(child.pid, flush=True)  # only now may anybody send us a signal
os._exit(child.wait() & 0xFF)

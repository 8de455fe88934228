"""Stays beside one Java process and ends it when whoever started it is gone.

Run as `python -S -E keeper.py COMMAND…` with a pipe as standard input: the pipe closes when its
owner dies, however it dies. Killed itself, the kernel tells the child (Linux).
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading


def die_with_me() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


child = subprocess.Popen(  # noqa: S603 - the command is our own
    sys.argv[1:],
    stdin=subprocess.DEVNULL,
    preexec_fn=die_with_me if sys.platform == "linux" else None,
)


def stop(*_: object) -> None:
    child.terminate()
    threading.Timer(10, child.kill).start()


def watch() -> None:
    os.read(0, 1)  # end of file: our owner is gone
    stop()


signal.signal(signal.SIGTERM, stop)
threading.Thread(target=watch, daemon=True).start()
os._exit(child.wait() & 0xFF)

"""How a worker leaves when going on could lose or repeat something.

A worker that is unsure writes nothing more: what it has not committed is done again by a successor,
so leaving at once is always safe.
"""

import os
import sys
from typing import NoReturn

import structlog

__all__ = ["EXIT_CODE", "leave"]

log = structlog.get_logger("connectors")

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h. A supervisor starts the worker again, with a back-off."""


def leave(why: str, **context: object) -> NoReturn:
    """End the process at once, with one line that says why. Nothing is flushed or committed."""
    log.critical(why, **context)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CODE)

"""`python -m webhook_gateway`: the process that serves, told everything on its standard input.

`syncline gateway` reads options and settings and then becomes this one (same process, same id): the
25 MB that it takes to read them are not carried along.
"""

import logging
import os
import sys
from tempfile import TemporaryFile
from typing import IO, NoReturn

from webhook_gateway.config import GatewayConfig, told, untold

__all__ = ["become", "main"]

# librdkafka's threads allocate little, and glibc would give each of them a heap of its own; and it
# would keep large buffers for itself once one was freed (see streams/engine/memory.py).
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "131072"}


def become(config: GatewayConfig) -> NoReturn:
    """Goes on as a process that serves with this configuration; its exit codes are those of `run`,
    and 1 where a port is taken."""
    with _file() as file:
        file.write(told(config))
        file.seek(0)
        os.dup2(file.fileno(), 0)
        os.set_inheritable(0, True)  # where nothing was open there, it is the file itself
        command = [sys.executable, "-m", "webhook_gateway"]
        os.execve(sys.executable, command, ENVIRONMENT | dict(os.environ))  # noqa: S606 - ourselves


def _file() -> IO[bytes]:
    """Without a name, and on Linux on no disk: passwords are in it. (A pipe would hold 64 KiB.)"""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("configuration"), "w+b")
    return TemporaryFile()


def main() -> int:
    sys.modules["rich"] = None  # type: ignore[assignment]  # structlog loads it for colours, which no log of ours has
    from schemas.logs import log_from, log_library_warnings
    from webhook_gateway.run import run

    config = untold(sys.stdin.buffer.read())
    level = logging.getLevelNamesMapping()[config.log_level.upper()]
    log_library_warnings(level)
    log_from(level)
    try:
        return run(config)
    except OSError as error:
        print(
            f"gateway: port {config.port} or {config.admin_port}: {error.strerror}",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())

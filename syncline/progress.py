"""Tell a person at the terminal, or a log, how a long step is going."""

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

__all__ = ["Teller"]

EVERY_S = 2.0
"""Between two lines in a log."""


class Teller:
    """`say` prints a line on standard error; `progress` draws a bar there, or a line now and then.

    `with Teller() as teller: Stack.start(say=teller.say, progress=teller.progress)`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.said_s = clock, 0.0
        self.bar: Progress | None = None

    def __enter__(self) -> "Teller":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def say(self, text: str) -> None:
        self._close()
        print(text, file=sys.stderr, flush=True)

    def progress(self, done: int, total: int) -> None:
        """Bytes that are there, of how many."""
        if sys.stderr.isatty():
            self._draw(done, total)
        elif self.clock() - self.said_s >= EVERY_S or done >= total:
            self.said_s = self.clock()
            print(f"  {done / 1e6:.0f} of {total / 1e6:.0f} MB", file=sys.stderr, flush=True)

    def _draw(self, done: int, total: int) -> None:
        if self.bar is None:
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self.bar = Progress(TextColumn(" "), *columns, console=Console(stderr=True))
            self.bar.add_task("", total=total)
            self.bar.start()
        self.bar.update(self.bar.task_ids[0], completed=done, total=total)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

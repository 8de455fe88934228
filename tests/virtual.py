"""An event loop whose clock jumps: hours of waiting pass in no time, and always the same way."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time moves only when nothing is ready to run, straight to the next timer."""

    def __init__(self, start_s: float = 1_800_000_000.0) -> None:
        super().__init__()
        self.now_s = start_s
        self._clock_resolution = 1e-6  # finer than Unix time as a float: it would never arrive
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None) -> Any:
            if timeout:
                self.now_s += timeout
            elif timeout is None:
                raise AssertionError("everything waits, and nothing will ever wake it")
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now_s


def run(make: Any, *args: Any) -> Any:
    """`make(loop, *args)` is a coroutine function; returns what it returns."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        coroutine: Coroutine[Any, Any, Any] = make(loop, *args)
        return loop.run_until_complete(coroutine)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()

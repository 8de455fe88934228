"""A platform that counts strictly and by itself, a log of leases, and workers that can be killed.

Time is virtual. A request that was sent goes on at the platform whatever becomes of its sender.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from ratelimits import bucket as b
from ratelimits.limiter import Limiter
from ratelimits.registry import HeaderRule, Limits


class Strict:
    """At most `limit` in any stretch (t - window_s, t], counted at arrival. None is refused."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit, self.window_s = limit, window_s
        self.seen: deque[float] = deque()
        self.overspent = self.total = 0

    def used(self, now_s: float) -> int:
        while self.seen and self.seen[0] <= now_s - self.window_s:
            self.seen.popleft()
        return len(self.seen)

    def arrive(self, now_s: float) -> None:
        self.overspent += self.used(now_s) >= self.limit
        self.seen.append(now_s)
        self.total += 1


class Platform:
    """Several windows and a number of requests at once. `latency_s` draws how long one takes; the
    moment within at which it counts is drawn too."""

    def __init__(
        self,
        windows: list[Strict],
        rng: random.Random,
        latency_s: Callable[[], float],
        slots: int = 1_000_000,
        whole: bool = False,
    ) -> None:
        """`whole`: a request counts, and runs, from its first moment to its last."""
        self.windows, self.slots, self._rng, self._latency_s = windows, slots, rng, latency_s
        self.running = self.slots_overspent = 0
        self._whole = whole
        self._tasks: set[asyncio.Task[dict[str, str]]] = set()

    async def serve(self) -> dict[str, str]:
        """-> headers of the answer, as they were when the request counted."""
        task = asyncio.ensure_future(self._serve())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _serve(self) -> dict[str, str]:
        latency_s, share = self._latency_s(), 0.0 if self._whole else self._rng.random()
        await asyncio.sleep(latency_s * share)
        now_s = asyncio.get_running_loop().time()
        for window in self.windows:
            window.arrive(now_s)
        self.running += 1
        self.slots_overspent += self.running > self.slots
        left = {
            f"x-left-{i}": str(max(0, w.limit - w.used(now_s))) for i, w in enumerate(self.windows)
        }
        work_s = latency_s * (1 - share) * (1.0 if self._whole else self._rng.random())
        await asyncio.sleep(work_s)
        self.running -= 1
        await asyncio.sleep(latency_s * (1 - share) - work_s)
        return left

    @property
    def overspent(self) -> int:
        return sum(w.overspent for w in self.windows) + self.slots_overspent


class Log:
    """One key of a compacted topic: the newest lease."""

    def __init__(self, rng: random.Random, write_s: float = 0.02) -> None:
        self.newest, self.writes = "", 0
        self._rng, self._write_s = rng, write_s

    async def append(self, document: str, alive: Callable[[], bool]) -> None:
        """What is on its way when its writer dies may still arrive."""
        await asyncio.sleep(self._rng.uniform(0, self._write_s / 2))
        if alive() or self._rng.random() < 0.5:
            self.newest, self.writes = document, self.writes + 1
        await asyncio.sleep(self._rng.uniform(0, self._write_s / 2))
        if not alive():
            raise RuntimeError("dead")


class Worker:
    """A process with `hands` that send as fast as the limiter lets them."""

    def __init__(
        self, limits: Limits, platform: Platform, log: Log, hands: int, priority: str = "bulk"
    ) -> None:
        loop = asyncio.get_running_loop()
        self.alive, self.answers, self._log = True, 0, log
        self.limiter = Limiter(limits, write_lease=self._write, clock=loop.time, wall=loop.time)
        if log.newest:
            self.limiter.restore(log.newest)
        self._platform = platform
        self._tasks = [asyncio.ensure_future(self._work(priority)) for _ in range(hands)]

    async def _write(self, document: str) -> None:
        await self._log.append(document, lambda: self.alive)

    async def _work(self, priority: str) -> None:
        while True:
            await self.once(priority)

    async def once(self, priority: str = "bulk") -> None:
        async with self.limiter.permit("write", priority):
            headers = await self._platform.serve()
            self.limiter.observe("write", headers)
            self.answers += 1

    async def kill(self) -> None:
        """Nothing of it runs on, nothing is handed over."""
        self.alive = False
        for task in self._tasks:
            task.cancel()
        self.limiter._stop(RuntimeError("killed"))  # type: ignore[arg-type]
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def finish(self) -> None:
        """As at SIGTERM: start nothing more, wait for answers, hand back."""
        await self.limiter.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.limiter.close()
        self.alive = False


def limits(*quotas: b.Quota, headers: bool = False, **groups: list[str]) -> Limits:
    """All quotas in the group `write`, unless groups are given."""
    return Limits(
        platform="test",
        quotas={q.name: q for q in quotas},
        groups=groups or {"write": [q.name for q in quotas]},
        headers=[
            HeaderRule(window=q.name, header=f"x-left-{i}")
            for i, q in enumerate(quotas)
            if headers and q.kind != "slots"
        ],
        retry_after_max_s=3600,
    )


def p99(draw: Callable[[], float]) -> float:
    return sorted(draw() for _ in range(2_000))[1_980]


async def nothing(_: str) -> Any: ...

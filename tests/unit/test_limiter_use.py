"""Real quotas are used while work waits, also when the account's worker changes in the middle; the
platform, which counts by itself, is never asked for more. In virtual time, a call being the unit.

Use is what stands as spent at the platform, of what it allows, looked at every 100 ms while some
worker has the account. The best possible is the window ÷ (the window + the 99th percentile of the
calls' time), as a call under way may count later; of calls at once it is all of them.
"""

import asyncio
import random
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from connectors.account import IN_FLIGHT_LIVE, IN_FLIGHT_MAX
from ratelimits import registry
from ratelimits.lease import GRACE_S, RETURNS_MAX
from ratelimits.limiter import Limiter, NoLease
from simulators.quotas import Concurrent, Rolling, Window
from tests import virtual
from tests.unit.limits_kit import Log


@dataclass(frozen=True)
class Case:
    platform: str
    group: str
    limit: int
    window_s: float
    """0: calls at once."""
    latency_s: tuple[float, float]
    call_rows: int
    tier: str = "default"

    def window(self) -> Window:
        if self.window_s:
            return Rolling("window", self.limit, self.window_s)
        return Concurrent("slots", self.limit)


HUBSPOT = Case("hubspot", "write", 190, 10.0, (0.1, 0.4), 100, tier="professional")
SALESFORCE = Case("salesforce", "api", 25, 0.0, (1.0, 4.0), 200)
MAILCHIMP = Case("mailchimp", "write", 10, 0.0, (2.0, 10.0), 500)
SEGMENT = Case("segment", "write", 50, 1.0, (0.02, 0.08), 50)
RECORDS = 100_000
AWAY_S = 2.0
"""Nobody has the account for so long when it goes to another worker."""


@dataclass
class Platform:
    """Counts at arrival, and refuses nothing: what is too much is noted."""

    case: Case
    rng: random.Random
    calls: int = 0
    over: int = 0
    took_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.window = self.case.window()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        took_s = self.rng.uniform(*self.case.latency_s)
        # Nobody knows when a call counts; a place among calls at once is taken from the first on.
        before_s = took_s * self.rng.random() if self.case.window_s else 0.0
        await asyncio.sleep(before_s)
        at_s = loop.time()
        self.over += self.window.full(at_s)
        self.window.take(at_s)
        await asyncio.sleep(took_s - before_s)
        self.window.release(at_s, loop.time())
        self.took_s.append(took_s)
        self.calls += 1


@asynccontextmanager
async def worker(loop: Any, platform: Platform, log: Log, *, killed: bool) -> AsyncIterator[None]:
    """Bulk work without end. It goes as at SIGTERM, or as at SIGKILL."""
    alive, case = True, platform.case
    limits = registry.load(case.platform, case.tier)

    async def write(document: str) -> None:
        await log.append(document, lambda: alive)

    limiter = Limiter(limits, write_lease=write, clock=loop.time, wall=loop.time)
    if log.newest:
        limiter.restore(log.newest)

    async def hand() -> None:
        while True:
            async with limiter.permit(case.group, "bulk"):
                await asyncio.shield(asyncio.ensure_future(platform.serve()))

    hands = [asyncio.ensure_future(hand()) for _ in range(IN_FLIGHT_MAX - IN_FLIGHT_LIVE)]
    yield
    if killed:
        alive = False
        for task in hands:
            task.cancel()
        limiter._stop(NoLease("killed"))
    else:
        await limiter.close()
    await asyncio.gather(*hands, return_exceptions=True)
    if not killed:
        await limiter.close()


@dataclass(frozen=True)
class Told:
    calls: int
    over: int
    """Calls that were too much."""
    use: float
    best: float
    lasted_s: float


async def carried(loop: Any, case: Case, changes: int, killed: bool) -> Told:
    """100,000 records in full calls, by one worker after the other."""
    rng, began_s = random.Random(1), loop.time()
    platform, log = Platform(case, rng), Log(rng)
    used: list[float] = []
    for turn in range(1, changes + 2):
        async with worker(loop, platform, log, killed=killed):
            while platform.calls < RECORDS / case.call_rows * turn / (changes + 1):
                await asyncio.sleep(0.1)
                used.append(platform.window.used(loop.time()) / case.limit)
        await asyncio.sleep(AWAY_S)
    p99_s = sorted(platform.took_s)[int(platform.calls * 0.99)]
    best = case.window_s / (case.window_s + p99_s) if case.window_s else 1.0
    return Told(platform.calls, platform.over, statistics.fmean(used), best, loop.time() - began_s)


CASES = pytest.mark.parametrize(
    "case", [HUBSPOT, SALESFORCE, MAILCHIMP, SEGMENT], ids=lambda case: case.platform
)


@CASES
@pytest.mark.parametrize("changes", [0, 1])
def test_quotas_are_used_also_when_the_account_goes_to_another_worker(
    case: Case, changes: int
) -> None:
    """That costs what clocks may differ by, and what times on the topic are rounded by, once."""
    told = virtual.run(carried, case, changes, False)
    assert told.calls >= RECORDS / case.call_rows
    assert told.over == 0
    lost_s = changes * (GRACE_S + case.window_s / RETURNS_MAX)
    assert told.use >= 0.98 * told.best - lost_s / told.lasted_s


@CASES
def test_three_killed_workers_overspend_nothing(case: Case) -> None:
    assert virtual.run(carried, case, 3, True).over == 0

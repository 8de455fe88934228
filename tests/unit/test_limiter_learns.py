"""The limiter learns, in virtual time, against a platform that refuses and others who spend: it
hears headers, closes and slows after refusals, opens again to the registry figure, never above."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from ratelimits import bucket as b
from ratelimits.limiter import Limiter
from tests import virtual
from tests.unit.limits_kit import Strict, limits, nothing

HUBSPOT = b.Quota("w", "moving", 190, 10.0)
SEGMENT = b.Quota("w", "moving", 50, 1.0)


@dataclass
class World:
    """A platform that refuses what is too much, another application, and ours with 40 hands."""

    loop: Any
    rng: random.Random
    quota: b.Quota
    headers: bool = False
    limit: int = 0
    """What the platform really allows; 0: what the registry says."""
    tells: bool = True
    """A refusal says how long to wait."""
    good: int = 0
    refused: int = 0
    theirs: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.window = Strict(self.limit or self.quota.limit, self.quota.window_s)
        self.limiter = Limiter(
            limits(self.quota, headers=self.headers), write_lease=nothing, clock=self.loop.time,
            wall=self.loop.time,
        )  # fmt: skip

    def arrive(self) -> bool:
        if self.window.used(self.loop.time()) >= self.window.limit:
            return False
        self.window.arrive(self.loop.time())
        return True

    async def others(self, share: float) -> None:
        """They come by chance, this part of the quota on average."""
        while True:
            await asyncio.sleep(
                self.rng.expovariate(share * self.quota.limit / self.quota.window_s)
            )
            self.theirs += self.arrive()

    async def hand(self) -> None:
        while True:
            async with self.limiter.permit("write", "bulk"):
                took_s, moment = self.rng.uniform(0.05, 0.3), self.rng.random()
                await asyncio.sleep(took_s * moment)
                now_s, good = self.loop.time(), self.arrive()
                left = self.window.limit - self.window.used(now_s)
                opens_s = self.window.seen[0] + self.quota.window_s - now_s
                await asyncio.sleep(took_s * (1 - moment))
                if good:
                    self.good += 1
                    self.limiter.observe("write", {"x-left-0": str(left)})
                else:
                    self.refused += 1
                    self.limiter.refused("write", max(0.0, opens_s) if self.tells else None, "w")

    async def work(self, for_s: float, others: float = 0.0) -> float:
        """-> part of the quota that was used, by both."""
        before = self.good + self.theirs
        works = [self.hand() for _ in range(40)] + ([self.others(others)] if others else [])
        tasks = [asyncio.ensure_future(work) for work in works]
        await asyncio.sleep(for_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        could = self.window.limit / self.quota.window_s * for_s
        return (self.good + self.theirs - before) / could

    @property
    def share(self) -> float:
        state = self.limiter.books.buckets["w"]
        return b.allowed(state, self.quota, self.loop.time()) / self.quota.limit


def world(make: Callable[[World], Any], seed: int, quota: b.Quota, **how: Any) -> Any:
    async def main(loop: Any) -> Any:
        return await make(World(loop, random.Random(seed), quota, **how))

    return virtual.run(main)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("quota", [HUBSPOT, SEGMENT], ids=["190 in 10 s", "50 a second"])
def test_with_headers_others_are_left_their_third_and_hardly_anything_is_refused(
    quota: b.Quota, seed: int
) -> None:
    """Below one in a thousand, while more than two thirds of what they leave is used."""

    async def main(w: World) -> tuple[int, int, float]:
        used = await w.work(600, others=1 / 3)
        return w.refused, w.good, used

    refused, good, used = world(main, seed, quota, headers=True)
    assert refused < 0.001 * (good + refused)
    assert used > 1 / 3 + 0.36


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("tells", [True, False], ids=["tells", "tells not"])
def test_without_headers_refusals_alone_make_room_for_others(seed: int, tells: bool) -> None:
    """After it has learned, about one in a thousand; it goes on asking for more, ever so slowly."""

    async def main(w: World) -> tuple[int, int, float]:
        await w.work(600, others=1 / 3)
        refused, good = w.refused, w.good
        used = await w.work(900, others=1 / 3)
        return w.refused - refused, w.good - good, used

    refused, good, used = world(main, seed, HUBSPOT, tells=tells)
    assert 0 < refused < 0.0015 * good
    assert used > 0.7


@pytest.mark.parametrize("seed", range(1))
def test_a_registry_figure_that_is_too_high_is_found_out_and_held(seed: int) -> None:
    async def main(w: World) -> tuple[int, int, float, float]:
        await w.work(400)
        refused, good = w.refused, w.good
        used = await w.work(900)
        return w.refused - refused, w.good - good, used, w.share

    refused, good, used, share = world(main, seed, HUBSPOT, limit=120)
    assert refused < 0.0015 * good
    assert used > 0.75  # of what the platform really allows
    assert 0.45 < share <= 0.72


@pytest.mark.parametrize("seed", range(2))
def test_quiet_minutes_open_it_again_to_the_registry_figure_and_never_above(seed: int) -> None:
    async def main(w: World) -> tuple[float, float, float]:
        await w.work(200, others=1 / 2)
        slowed = w.share
        await asyncio.sleep(900)  # they have gone
        return slowed, w.share, await w.work(100)

    slowed, opened, used = world(main, seed, HUBSPOT)
    assert slowed < 0.8
    assert opened == 1.0
    assert 0.9 < used <= 1.0


@pytest.mark.parametrize("seed", range(5))
def test_whatever_a_platform_says_it_is_closed_no_longer_than_is_believable(seed: int) -> None:
    """Waits, windows and headers drawn at random: it opens within the bound, and works on."""

    async def main(w: World) -> None:
        for _ in range(30):
            said = w.rng.choice([None, -5.0, 0.0, 3.0, 1e4, 1e12, float("inf")])
            for_s = w.limiter.refused("write", said, w.rng.choice(["", "w", "WHAT", "day"]))
            assert 0 <= for_s <= w.limiter.limits.retry_after_max_s
            w.limiter.observe("write", {"x-left-0": w.rng.choice(["-7", "", "1e9", "0", "many"])})
            view = w.limiter.view()[0]
            assert view.left == 0 or for_s == 0
            start_s = w.loop.time()
            async with w.limiter.permit("write", "live"):
                pass
            assert w.loop.time() - start_s <= for_s + 2 * w.quota.window_s + 1
            assert 1 <= w.limiter.view()[0].limit <= w.quota.limit

    world(main, seed, HUBSPOT, headers=True)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["day", "rolling"])
def test_a_part_of_the_day_is_left_for_live_work_however_much_bulk_waits(
    seed: int, kind: str
) -> None:
    """Bulk takes all that it can get from the first moment; live changes come by chance, at up to
    a twentieth of the day's rate: none of them waits for the next day."""

    async def main(loop: Any) -> tuple[list[float], int, int]:
        rng, day = random.Random(seed), 2_000
        quota = {
            "day": b.Quota("d", "day", day), "rolling": b.Quota("d", "moving", day, 86_400.0)
        }[kind]  # fmt: skip
        limiter = Limiter(
            limits(quota, b.Quota("at_once", "slots", 5)), write_lease=nothing, clock=loop.time,
            wall=loop.time,
        )  # fmt: skip
        await asyncio.sleep(b.next_midnight_s("UTC", loop.time()) - loop.time() + 2)
        spent = {"bulk": 0, "live": 0}
        waits: list[float] = []

        async def one(priority: str) -> None:
            start_s = loop.time()
            async with limiter.permit("write", priority):
                await asyncio.sleep(rng.uniform(0.1, 0.3))
            spent[priority] += 1
            if priority == "live":
                waits.append(loop.time() - start_s)

        async def bulk() -> None:
            while True:
                await one("bulk")

        tasks = [asyncio.ensure_future(bulk()) for _ in range(5)]
        end_s = loop.time() + 80_000
        while loop.time() < end_s:
            await asyncio.sleep(rng.expovariate(0.03 * day / 86_400))
            await one("live")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return waits, spent["bulk"], spent["live"]

    waits, bulk, live = virtual.run(main)
    assert live > 30
    assert max(waits) < 5.0
    assert 0.9 * 2_000 < bulk + live <= 2_000


@dataclass
class Places:
    """A platform that takes so many calls at once and refuses the next, and tells nobody how many
    others hold; ours with 40 hands, whose calls take about four seconds."""

    loop: Any
    rng: random.Random
    quota: b.Quota
    taken: int = 0
    good: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.limiter = Limiter(
            limits(self.quota), write_lease=nothing, clock=self.loop.time, wall=self.loop.time
        )

    async def call(self) -> bool:
        if self.taken >= self.quota.limit:
            await asyncio.sleep(0.05)
            return False
        self.taken += 1
        await asyncio.sleep(self.rng.uniform(3.5, 4.5))
        self.taken -= 1
        return True

    async def hand(self) -> None:
        while True:
            async with self.limiter.permit("write", "bulk"):
                if await self.call():
                    self.good += 1
                    self.limiter.observe("write", {})
                else:
                    self.refused += 1
                    self.limiter.refused("write", None, "w")

    async def work(self, for_s: float, others: int = 0) -> tuple[int, int]:
        """-> good and refused calls of ours, while others hold so many places all the time."""
        good, refused = self.good, self.refused
        self.taken += others
        tasks = [asyncio.ensure_future(self.hand()) for _ in range(40)]
        await asyncio.sleep(for_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.taken = 0
        return self.good - good, self.refused - refused

    @property
    def allowed(self) -> int:
        return self.limiter.view()[0].limit


@pytest.mark.parametrize("limit", [10, 25])
def test_places_that_others_hold_are_found_by_as_many_refusals_and_then_left_to_them(
    limit: int,
) -> None:
    others = limit // 3

    async def main(loop: Any) -> None:
        w = Places(loop, random.Random(1), b.Quota("w", "slots", limit))
        _, refused = await w.work(60, others)
        assert refused == others
        assert w.allowed == limit - others
        good, refused = await w.work(3_600, others)
        assert good > 0.95 * (limit - others) * 3_600 / 4
        assert refused < 0.001 * good
        await asyncio.sleep(1_800)  # virtual; the others have gone
        assert w.allowed == limit
        assert (await w.work(60))[1] == 0

    virtual.run(main)

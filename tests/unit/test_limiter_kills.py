"""Twenty workers are killed at random moments, with leases over a log: the platform, which counts
by itself, never sees a window overspent, and a kill costs no more than what was leased (P6)."""

import asyncio
import json
import random
from typing import Any

import pytest

from ratelimits import bucket as b
from ratelimits.lease import GRACE_S, RETURNS_MAX
from ratelimits.limiter import Limiter
from tests import virtual
from tests.unit.limits_kit import Log, Platform, Strict, Worker, limits, p99

KILLS = 20
FORTY = b.Quota("forty", "moving", 40, 4.0)
TWENTY_S = b.Quota("twenty_s", "moving", 150, 20.0)
FIVE = b.Quota("five", "slots", 5)


@pytest.mark.parametrize("seed", range(12))
def test_twenty_kills_overspend_nothing(seed: int) -> None:
    async def main(loop: Any) -> tuple[int, int, list[float]]:
        rng = random.Random(seed)
        slow_s = rng.choice([0.1, 0.4, 2.5])
        platform = Platform(
            [Strict(40, 4.0), Strict(150, 20.0)], rng, lambda: rng.uniform(0.01, slow_s), slots=5
        )
        log, began_s = Log(rng), []
        for _ in range(KILLS):
            worker = Worker(limits(FORTY, TWENTY_S, FIVE, headers=True), platform, log, hands=8)
            born_s, before = loop.time(), platform.windows[0].total
            await asyncio.sleep(rng.uniform(0.05, 9))
            if platform.windows[0].total > before:
                began_s.append(loop.time() - born_s)
            await worker.kill()
            await asyncio.sleep(rng.uniform(0.05, 1))  # what it wrote last has arrived
        await asyncio.sleep(slow_s)
        return platform.overspent, platform.windows[0].total, began_s

    overspent, total, began_s = virtual.run(main)
    assert overspent == 0
    assert total > 5 * KILLS
    assert began_s


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_costs_what_was_leased_and_no_more(seed: int) -> None:
    """Against what the dead worker itself thought: its successor counts one lease more, a second's
    worth; and all of it for a second and a fiftieth of the window longer, since clocks differ and a
    lease is rounded."""

    async def main(loop: Any) -> list[int]:
        rng = random.Random(seed)
        platform = Platform([Strict(190, 10.0)], rng, lambda: rng.uniform(0.05, 0.3))
        quota, log, more = b.Quota("ten", "moving", 190, 10.0), Log(rng), []
        for _ in range(KILLS):
            worker = Worker(limits(quota, headers=True), platform, log, hands=40)
            await asyncio.sleep(rng.uniform(1, 12))
            thought = b.used(worker.limiter.books.buckets["ten"], loop.time())
            await worker.kill()
            successor = Worker(limits(quota), platform, log, hands=0)
            later_s = loop.time() + GRACE_S + 10.0 / RETURNS_MAX
            more.append(b.used(successor.limiter.books.buckets["ten"], later_s) - thought)
            await successor.kill()
            await asyncio.sleep(0.1)
        assert platform.overspent == 0
        return more

    more = virtual.run(main)
    assert max(more) <= 190 / 10


def test_a_worker_that_hands_back_costs_nothing() -> None:
    async def main(loop: Any) -> int:
        rng = random.Random(1)
        platform = Platform([Strict(100, 10.0)], rng, lambda: rng.uniform(0.05, 0.3))
        quota, log = b.Quota("ten", "moving", 100, 10.0), Log(rng)
        first = Worker(limits(quota), platform, log, hands=3)
        await asyncio.sleep(1.0)
        await first.finish()
        successor = Worker(limits(quota), platform, log, hands=0)
        return b.used(successor.limiter.books.buckets["ten"], loop.time()) - first.answers

    assert virtual.run(main) == 0


def test_a_request_that_outlasts_its_lease_is_still_counted_by_a_successor() -> None:
    """One slot, held for 20 s; its sender is killed after 12, when its first lease is long over."""

    async def main(loop: Any) -> int:
        platform = Platform([], random.Random(3), lambda: 20.0, slots=1, whole=True)
        log, one = Log(random.Random(3)), b.Quota("one", "slots", 1)
        first = Worker(limits(one), platform, log, hands=1)
        await asyncio.sleep(12.0)
        await first.kill()
        successor = Worker(limits(one), platform, log, hands=1)
        await asyncio.sleep(60.0)
        assert successor.answers >= 1
        await successor.kill()
        return platform.slots_overspent

    assert virtual.run(main) == 0


@pytest.mark.parametrize("idle_s", [0.5, 1.1, 1.9, 2.5])
def test_a_request_that_starts_late_in_its_lease_and_outlasts_it_is_counted(idle_s: float) -> None:
    """A quick request first, so that a lease stands; then a long one under what is left of it."""

    async def main(loop: Any) -> int:
        took_s = iter([0.05, 20.0, 0.05, 0.05])
        platform = Platform([], random.Random(4), lambda: next(took_s), slots=1, whole=True)
        log, one = Log(random.Random(4)), b.Quota("one", "slots", 1)
        first = Worker(limits(one), platform, log, hands=0)
        for wait_s in (0.0, idle_s):
            await asyncio.sleep(wait_s)
            long = asyncio.ensure_future(first.once())
            await asyncio.wait([long], timeout=0.3)
        await asyncio.sleep(12.0)
        assert not long.done()
        await first.kill()
        successor = Worker(limits(one), platform, log, hands=0)
        quick = asyncio.ensure_future(successor.once())
        await asyncio.wait([quick], timeout=60.0)
        assert quick.done()
        await successor.kill()
        long.cancel()
        return platform.slots_overspent

    assert virtual.run(main) == 0


@pytest.mark.parametrize("write_s", [0.001, 0.1, 0.9])
def test_what_is_spent_stands_in_a_lease_that_is_written(write_s: float) -> None:
    """At the start of each request: no more was spent since a lease was drawn up than it grants."""

    async def main(loop: Any) -> int:
        spent_then, granted = 0, 0

        async def write(document: str) -> None:
            nonlocal spent_then, granted
            drawn_up = limiter.tokens_spent, json.loads(document)["windows"]["w"]["granted"]
            await asyncio.sleep(write_s)
            spent_then, granted = drawn_up

        limiter = Limiter(
            limits(b.Quota("w", "moving", 200, 2.0)), write_lease=write, clock=loop.time,
            wall=loop.time,
        )  # fmt: skip
        rng = random.Random(5)

        async def hand() -> None:
            while True:
                async with limiter.permit("write") as permit:
                    assert limiter.tokens_spent - spent_then <= granted
                    permit.sent = rng.random() < 0.9
                    await asyncio.sleep(rng.uniform(0, 0.2))

        hands = [asyncio.ensure_future(hand()) for _ in range(60)]
        done, _ = await asyncio.wait(hands, timeout=20, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        return limiter.tokens_spent

    assert virtual.run(main) > 500


@pytest.mark.parametrize(
    ("limit", "window_s", "headers"),
    [(190, 10.0, False), (190, 10.0, True), (100, 10.0, True), (5, 1.0, False), (1250, 1.0, True)],
)
def test_while_work_waits_the_quota_is_used(limit: int, window_s: float, headers: bool) -> None:
    """At least 95 % of the best possible, window ÷ (window + p99 latency), leases and all."""

    async def main(loop: Any) -> tuple[int, int, float, float, int]:
        rng = random.Random(7)

        def latency_s() -> float:
            return min(2.0, rng.lognormvariate(-1.6, 0.4))  # median 0.2 s

        platform = Platform([Strict(limit, window_s)], rng, latency_s)
        quota, log = b.Quota("w", "moving", limit, window_s), Log(rng)
        worker = Worker(limits(quota, headers=headers), platform, log, hands=max(16, limit // 2))
        await asyncio.sleep(window_s)  # the burst of a full window is not counted
        before, rounds = platform.windows[0].total, 20 if limit < 1000 else 6
        for _ in range(rounds * 10):
            await asyncio.sleep(window_s / 10)
            worker.limiter.sample(["write"])
        await worker.kill()
        spent, lasted_s = platform.windows[0].total - before, rounds * window_s
        best = limit * lasted_s / (window_s + p99(latency_s))
        used = worker.limiter.use("write") or 0.0
        return platform.overspent, log.writes, spent / best, used, int(lasted_s + window_s)

    overspent, writes, part, used, lasted_s = virtual.run(main)
    assert overspent == 0
    assert part >= 0.95
    assert used >= 0.95
    assert writes <= 3 * lasted_s + 30  # bursts apart, one or two a second

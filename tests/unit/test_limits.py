"""No window of any quota is ever overspent, across workers and crashes; while work waits and the
quota is free, it is used (P6). The counters here are the platform's: strict, and not ours."""

import asyncio
import json
import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratelimits import bucket as b
from ratelimits.headers import retry_after_s
from ratelimits.limiter import Limiter, NoLease
from ratelimits.registry import FOLDER, Limits, load, schema
from tests import virtual

TEN = b.Quota("ten", "moving", 19, 10.0)


class Strict:
    """A platform's own moving window, which counts when a request arrives."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit, self.window_s = limit, window_s
        self.seen: deque[float] = deque()
        self.overspent = 0
        self.total = 0

    def arrive(self, now_s: float) -> None:
        while self.seen and self.seen[0] <= now_s - self.window_s:
            self.seen.popleft()
        self.seen.append(now_s)
        self.total += 1
        self.overspent += len(self.seen) > self.limit


@given(
    limit=st.integers(1, 30),
    window_s=st.sampled_from([1.0, 10.0]),
    steps=st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 3.0), st.floats(0, 1)), max_size=200),
)
def test_no_window_is_overspent_whenever_the_platform_counts(limit, window_s, steps) -> None:
    quota, state = b.Quota("w", "moving", limit, window_s), b.Bucket()
    now_s, pending, counted = 1000.0, [], []
    for pause_s, latency_s, moment in steps:
        now_s += pause_s
        for answer_s in [a for a in pending if a <= now_s]:
            state = b.give_back(state, quota, answer_s)
            pending.remove(answer_s)
        state, wait_s = b.take(state, quota, now_s)
        if wait_s == 0:
            pending.append(now_s + latency_s)
            counted.append(now_s + moment * latency_s)
    counted.sort()
    for i, at in enumerate(counted):
        inside = sum(at - window_s < other <= at for other in counted[: i + 1])
        assert inside <= limit


def test_a_wait_is_long_enough_and_no_longer_than_needed() -> None:
    state = b.Bucket()
    for _ in range(19):
        state, wait_s = b.take(state, TEN, 100.0)
        assert wait_s == 0
    for _ in range(19):
        state = b.give_back(state, TEN, 100.2)
    _, wait_s = b.take(state, TEN, 101.0)
    assert 9.2 <= wait_s <= 9.2 + 2 * TEN.slot_s
    _, again_s = b.take(state, TEN, 101.0 + wait_s)
    assert again_s == 0


def test_what_the_platform_never_saw_is_back_at_once() -> None:
    quota = b.Quota("w", "moving", 1, 10.0)
    state, _ = b.take(b.Bucket(), quota, 5.0)
    assert b.left(b.give_back(state, quota, 5.1, sent=False), quota, 5.1) == 1


def test_headers_correct_down_and_never_up() -> None:
    state, _ = b.take(b.Bucket(), TEN, 5.0)
    assert b.left(b.correct(state, TEN, 5.0, 3), TEN, 5.0) == 3
    assert b.left(b.correct(state, TEN, 5.0, 500), TEN, 5.0) == 18


def test_after_a_refusal_it_goes_slower_and_recovers_to_the_registry_figure_and_not_above() -> None:
    quota = b.Quota("w", "moving", 100, 1.0)
    state = b.close(b.Bucket(), quota, 10.0, 12.0)
    assert b.take(state, quota, 11.0) == (state, 1.0)
    assert b.left(state, quota, 12.0) == 80
    assert b.left(state, quota, 13.0) == 85
    assert b.left(state, quota, 1000.0) == 100


@pytest.mark.parametrize(
    ("zone", "day", "hours"), [("UTC", "2026-06-01", 12), ("Europe/Berlin", "2026-10-25", 13)]
)
def test_a_day_ends_at_midnight_of_its_zone_also_when_clocks_change(zone, day, hours) -> None:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(zone))
    if hours == 13:  # asked at half past one, before the clocks go back
        noon = datetime.fromisoformat(f"{day}T01:30").replace(tzinfo=ZoneInfo(zone))
        hours = 23.5
    assert b.next_midnight_s(zone, noon.timestamp()) - noon.timestamp() == hours * 3600


def limits(**quotas: b.Quota) -> Limits:
    return Limits(
        platform="test", quotas=quotas, groups={"write": list(quotas)}, headers=[],
        retry_after_max_s=3600,
    )  # fmt: skip


async def _nothing(_: str) -> None: ...


def test_work_that_waits_uses_what_the_quota_allows() -> None:
    async def main(loop: Any) -> tuple[int, int]:
        platform = Strict(190, 10.0)
        limiter = Limiter(
            limits(ten=b.Quota("ten", "moving", 190, 10.0)),
            write_lease=_nothing,
            clock=loop.time,
            wall=loop.time,
        )
        rng = random.Random(7)

        async def one() -> None:
            while True:
                async with limiter.permit("write", "bulk"):
                    latency_s = rng.uniform(0.05, 0.3)
                    at = rng.uniform(0, latency_s)
                    await asyncio.sleep(at)
                    platform.arrive(loop.time())
                    await asyncio.sleep(latency_s - at)

        tasks = [asyncio.ensure_future(one()) for _ in range(64)]
        await asyncio.sleep(300)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return platform.total, platform.overspent

    total, overspent = virtual.run(main)
    assert overspent == 0
    best = 190 * (300 / 10 + 1) * 10.0 / (10.0 + 0.3)
    assert total >= 0.95 * best


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_twenty_crashes_with_leases_overspend_nothing(seed: int) -> None:
    async def main(loop: Any) -> tuple[int, int, int]:
        rng = random.Random(seed)
        platform = Strict(40, 4.0)
        slots, most = [0], [0]
        topic = [""]

        async def request(limiter: Limiter, alive: list[bool]) -> None:
            while alive[0]:
                async with limiter.permit("write", "bulk"):
                    if not alive[0]:
                        return
                    latency_s = rng.uniform(0.01, 0.2)
                    slots[0] += 1
                    most[0] = max(most[0], slots[0])
                    await asyncio.sleep(latency_s * rng.random())
                    platform.arrive(loop.time())
                    await asyncio.sleep(latency_s / 2)
                    slots[0] -= 1

        for _ in range(20):

            async def write(document: str) -> None:
                await asyncio.sleep(rng.uniform(0.001, 0.02))
                topic[0] = document

            limiter = Limiter(
                limits(four=b.Quota("four", "moving", 40, 4.0), slots=b.Quota("slots", "slots", 5)),
                write_lease=write,
                clock=loop.time,
                wall=loop.time,
            )
            if topic[0]:
                limiter.restore(topic[0])
            alive = [True]
            tasks = [asyncio.ensure_future(request(limiter, alive)) for _ in range(8)]
            await asyncio.sleep(rng.uniform(0.05, 6))
            alive[0] = False  # killed: it starts nothing more, what is under way still arrives
            limiter._granted = dict.fromkeys(limiter._granted, 0)
            limiter._write_lease = _dead
            await asyncio.sleep(rng.uniform(0, 0.5))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            slots[0] = 0
        return platform.overspent, most[0], platform.total

    async def _dead(_: str) -> None:
        raise RuntimeError("dead")

    overspent, most, total = virtual.run(main)
    assert overspent == 0
    assert most <= 5
    assert total > 20


def test_nothing_starts_before_its_lease_is_written() -> None:
    async def main(loop: Any) -> None:
        gate = asyncio.Event()

        async def write(document: str) -> None:
            assert json.loads(document)["windows"]["ten"]["granted"] >= 1
            await gate.wait()

        limiter = Limiter(limits(ten=TEN), write_lease=write, clock=loop.time, wall=loop.time)
        started = asyncio.ensure_future(limiter._taken("write", 0, 1))
        await asyncio.sleep(1)
        assert not started.done()
        gate.set()
        await asyncio.wait_for(started, 1)

    virtual.run(main)


def test_a_lease_that_cannot_be_written_says_so() -> None:
    async def main(loop: Any) -> None:
        async def write(_: str) -> None:
            raise OSError("no broker")

        limiter = Limiter(limits(ten=TEN), write_lease=write, clock=loop.time, wall=loop.time)
        with pytest.raises(NoLease, match="no broker"):
            async with limiter.permit("write"):
                pass

    virtual.run(main)


def test_live_goes_before_bulk_and_bulk_does_not_starve() -> None:
    async def main(loop: Any) -> list[str]:
        limiter = Limiter(
            limits(ten=b.Quota("ten", "moving", 10, 1.0)),
            write_lease=_nothing,
            clock=loop.time,
            wall=loop.time,
        )
        order: list[str] = []

        async def one(priority: str) -> None:
            async with limiter.permit("write", priority):
                order.append(priority)

        tasks = [asyncio.ensure_future(one("bulk")) for _ in range(100)]
        await asyncio.sleep(0.01)
        tasks += [asyncio.ensure_future(one("live")) for _ in range(100)]
        await asyncio.gather(*tasks)
        return order

    order = virtual.run(main)
    after = order[12:112]
    assert after.count("live") >= 90
    assert after.count("bulk") >= 2


def test_a_refusal_closes_the_group_for_as_long_as_the_platform_said() -> None:
    async def main(loop: Any) -> float:
        limiter = Limiter(limits(ten=TEN), write_lease=_nothing, clock=loop.time, wall=loop.time)
        async with limiter.permit("write"):
            pass
        limiter.refused("write", 30.0)
        start_s = loop.time()
        async with limiter.permit("write"):
            return loop.time() - start_s

    assert 30.0 <= virtual.run(main) <= 30.1


def test_an_unbelievable_wait_is_clamped() -> None:
    async def main(loop: Any) -> float:
        limiter = Limiter(limits(ten=TEN), write_lease=_nothing, clock=loop.time, wall=loop.time)
        return limiter.refused("write", 1e9)

    assert virtual.run(main) == 3600


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda p: p.stem)
def test_every_registry_file_loads_and_gives_its_sources(path) -> None:
    loaded = load(path.stem)
    assert loaded.platform == path.stem
    assert loaded.groups
    for entry in json.loads(path.read_text())["windows"].values():
        assert entry["source"].startswith("https://")
        assert entry["read_on"]


def test_tier_and_overrides_choose_the_figure() -> None:
    assert load("hubspot").quotas["ten_seconds"].limit == 100
    assert load("hubspot", "professional").quotas["ten_seconds"].limit == 190
    assert load("hubspot", "professional", {"ten_seconds": 50}).quotas["ten_seconds"].limit == 50
    assert "day" not in load("hubspot", "", {"day": 0}).quotas
    assert load("hubspot", "", {"unlimited": True}).quotas == {}
    with pytest.raises(KeyError, match="it has ten_seconds"):
        load("hubspot", "", {"minute": 5})


def test_the_json_schema_for_editors_is_fresh() -> None:
    assert (FOLDER.parent / "registry.schema.json").read_text() == schema()


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [("12", 12.0), ("Thu, 01 Jan 1970 00:01:40 GMT", 100.0), ("soon", None), ("", None)],
)
def test_retry_after_in_all_its_forms(text: str, wait_s: float | None) -> None:
    assert retry_after_s(text, 0.0) == wait_s

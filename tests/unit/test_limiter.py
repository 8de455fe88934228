"""One account's limiter: leases before requests, urgent before bulk, headers and refusals heard,
and clocks that jump (P6, P7)."""

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratelimits import bucket as b
from ratelimits import lease as leases
from ratelimits.limiter import Limiter, NoLease
from ratelimits.registry import Limits, load
from tests import virtual
from tests.unit.limits_kit import limits, nothing

TEN = b.Quota("ten", "moving", 19, 10.0)


def make(loop: Any, figures: Limits, write: Any = nothing) -> Limiter:
    return Limiter(figures, write_lease=write, clock=loop.time, wall=loop.time)


async def spend(limiter: Limiter, group: str = "write", priority: str = "live") -> None:
    async with limiter.permit(group, priority):
        pass


# leases


def test_nothing_starts_before_its_lease_is_written() -> None:
    async def main(loop: Any) -> None:
        gate = asyncio.Event()

        async def write(document: str) -> None:
            assert json.loads(document)["windows"]["ten"]["granted"] >= 1
            await gate.wait()

        limiter = make(loop, limits(TEN), write)
        started = asyncio.ensure_future(spend(limiter))
        await asyncio.sleep(1)
        assert not started.done()
        assert limiter.waiting("write") == 1
        gate.set()
        await asyncio.wait_for(started, 1)

    virtual.run(main)


def test_a_lease_that_cannot_be_written_says_so_to_all_and_for_good() -> None:
    async def main(loop: Any) -> None:
        async def write(_: str) -> None:
            raise OSError("no broker")

        limiter = make(loop, limits(TEN), write)
        said = await asyncio.gather(*(spend(limiter) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in said] == [NoLease] * 3
        with pytest.raises(NoLease, match="no broker"):
            await spend(limiter)

    virtual.run(main)


def test_a_lease_outlasts_slow_writing_and_is_not_started_under_when_it_ended() -> None:
    async def main(loop: Any) -> float:
        wait_s = [0.9, 4.0, 0.9, 0.9]

        async def write(_: str) -> None:
            await asyncio.sleep(wait_s.pop(0) if wait_s else 0.9)

        limiter = make(loop, limits(b.Quota("w", "moving", 1000, 1.0)), write)
        began_s: list[float] = []

        async def hand() -> None:
            while loop.time() < end_s:
                async with limiter.permit("write"):
                    began_s.append(loop.time())
                    assert loop.time() < limiter._until_s
                    await asyncio.sleep(0.1)

        end_s = loop.time() + 30
        await asyncio.gather(*(hand() for _ in range(4)))
        return max(after - before for before, after in itertools.pairwise(began_s))

    assert 1.0 < virtual.run(main) < 6.0  # one gap, where writing took longer than the lease


def test_a_free_group_needs_no_lease() -> None:
    async def main(loop: Any) -> int:
        limiter = make(loop, load("hubspot", "", {"unlimited": True}))
        for _ in range(100):
            await spend(limiter, "search")
        assert limiter.left("search") > 1000
        return limiter.leases_written

    assert virtual.run(main) == 0


def test_an_idle_account_writes_nothing() -> None:
    async def main(loop: Any) -> tuple[int, int]:
        limiter = make(loop, limits(TEN))
        await spend(limiter)
        await asyncio.sleep(5)
        before = limiter.leases_written
        await asyncio.sleep(3600)
        return before, limiter.leases_written

    before, after = virtual.run(main)
    assert before == after <= 2


def test_a_lease_of_other_figures_or_of_no_sense_is_heard_as_far_as_it_goes() -> None:
    async def main(loop: Any) -> None:
        held = make(loop, limits(TEN, b.Quota("gone", "moving", 5, 1.0)))
        await spend(held)
        heir = make(loop, limits(TEN, b.Quota("new", "moving", 5, 1.0)))
        heir.restore(held.document())
        assert heir.view()[0].used_by_us >= 1
        assert heir.view()[1].left == 5
        for text in ("", "{}", "[]", "null", '{"until_s": 1, "windows": {"ten": {}}}'):
            with pytest.raises(ValueError):
                heir.restore(text)

    virtual.run(main)


def test_a_lease_stays_small_and_is_rounded_to_later_and_never_twice() -> None:
    """A rolling day: a fiftieth of it is half an hour, no second of grace makes up for that."""
    day = b.Quota("day", "moving", 100_000, 86_400.0)
    quotas, now_s = {"day": day}, 5_000_000.0
    returns = tuple((now_s + 216.0 * i, 3) for i in range(1, 400))
    state, texts = b.Bucket(returns=returns), []
    for unix_s in (1_800_000_000.0, 1_800_000_007.7, 1_800_000_123.4):
        lease = leases.Lease(now_s, 1.0, {"day": 0}, {"day": state})
        texts.append(leases.encode(lease, quotas, now_s, unix_s))
        after = leases.decode(texts[-1], quotas, now_s, unix_s).buckets["day"]
        for hour in range(24):
            at_s = now_s + hour * 3600
            kept, before = b.used(after, at_s), b.used(state, at_s)
            assert before <= kept <= b.used(state, at_s - 86_400 / 50) + 1
        again = leases.encode(replace(lease, buckets={"day": after}), quotas, now_s, unix_s)
        assert again == texts[-1]
    assert max(len(text) for text in texts) < 2_000


def test_what_is_handed_back_cannot_be_spent_any_more() -> None:
    async def main(loop: Any) -> None:
        written: list[str] = []

        async def write(document: str) -> None:
            written.append(document)

        limiter = make(loop, limits(b.Quota("one", "slots", 1)), write)
        async with limiter.permit("write"):
            waits = asyncio.ensure_future(spend(limiter))
            await asyncio.sleep(1)
            await limiter.close()
            with pytest.raises(NoLease):
                await waits
        with pytest.raises(NoLease):
            await spend(limiter)
        last = json.loads(written[-1])["windows"]["one"]
        assert (last["granted"], last["open"]) == (0, 1)

    virtual.run(main)


# clocks


def test_a_wall_clock_that_jumps_opens_no_window_and_closes_none() -> None:
    async def main(loop: Any) -> None:
        ahead_s = 0.0
        limiter = Limiter(
            limits(TEN), write_lease=nothing, clock=loop.time, wall=lambda: loop.time() + ahead_s
        )
        for _ in range(19):
            await spend(limiter)
        for ahead_s in (100.0, -100_000.0, 1e6):  # noqa: B007 - the clock above reads it
            assert limiter.left("write") == 0
            assert limiter.wait_s("write") < 11
        await asyncio.sleep(10.1)
        assert limiter.left("write") == 19

    virtual.run(main)


@pytest.mark.parametrize(
    ("ahead_s", "earliest_s", "latest_s"),
    [(0.0, 10.0, 15.0), (-0.9, 10.0, 15.0), (0.9, 10.0, 15.0), (-1e6, 10.0, 25.0)],
)
def test_a_successor_with_another_clock_errs_on_the_safe_side(
    ahead_s: float, earliest_s: float, latest_s: float
) -> None:
    """Up to a second ahead costs nothing; far behind, it waits a window and not a week."""

    async def main(loop: Any) -> float:
        first = make(loop, limits(b.Quota("w", "moving", 2, 10.0)))
        await spend(first)
        await spend(first)
        heir = Limiter(
            first.limits,
            write_lease=nothing,
            clock=lambda: loop.time() - 1e9,
            wall=lambda: loop.time() + ahead_s,
        )
        heir.restore(first.document())
        for tenth in range(300):
            if heir.left("write") == 2:
                return tenth / 10
            await asyncio.sleep(0.1)
        return float("inf")

    assert earliest_s <= virtual.run(main) <= latest_s


def test_a_machine_that_was_suspended_starts_nothing_under_a_lease_that_ended_meanwhile() -> None:
    """Its monotonic clock stood still; the wall clock, put right, shows it."""

    async def main(loop: Any) -> None:
        slept_s, refuse = 0.0, False

        async def write(_: str) -> None:
            if refuse:
                raise OSError("somebody else owns the account")

        figures = limits(b.Quota("w", "moving", 100, 1.0))
        limiter = Limiter(
            figures, write_lease=write, clock=loop.time, wall=lambda: loop.time() + slept_s
        )
        await spend(limiter)
        slept_s, refuse = 60.0, True
        with pytest.raises(NoLease, match="somebody else"):
            await spend(limiter)

    virtual.run(main)


# who goes first


def grants(bulk: int, live: int, quota: b.Quota) -> list[str]:
    async def main(loop: Any) -> list[str]:
        limiter = make(loop, limits(quota))
        order: list[str] = []

        async def one(priority: str) -> None:
            async with limiter.permit("write", priority):
                order.append(priority)

        tasks = [asyncio.ensure_future(one("bulk")) for _ in range(bulk)]
        await asyncio.sleep(0.01)
        tasks += [asyncio.ensure_future(one("live")) for _ in range(live)]
        await asyncio.gather(*tasks)
        return order

    return virtual.run(main)


def test_live_goes_before_bulk_and_bulk_does_not_starve() -> None:
    order = grants(100, 100, b.Quota("ten", "moving", 10, 1.0))
    first_live = order.index("live")
    assert first_live <= 10
    while_both_wait = order[first_live : len(order) - 1 - order[::-1].index("live")]
    assert 0.9 <= while_both_wait.count("live") / len(while_both_wait) <= 0.97


def test_all_lower_priorities_get_their_floor_in_turn() -> None:
    async def main(loop: Any) -> list[str]:
        limiter = make(loop, limits(b.Quota("ten", "moving", 10, 1.0)))
        order: list[str] = []

        async def one(priority: str) -> None:
            async with limiter.permit("write", priority):
                order.append(priority)

        every = [one(p) for p in ("replay", "bulk", "released", "live") for _ in range(90)]
        tasks = [asyncio.ensure_future(one_of) for one_of in every]
        await asyncio.sleep(8)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return order

    order = virtual.run(main)
    assert order.count("live") >= 70
    assert {p: order.count(p) for p in ("released", "bulk", "replay")} == {
        "released": 2,
        "bulk": 1,
        "replay": 1,
    }


def test_live_work_need_not_wait_for_a_window_that_bulk_has_burst() -> None:
    """190 in 10 s, all free, a thousand bulk requests: what comes live waits for half a second at
    most, not for ten."""

    async def main(loop: Any) -> list[float]:
        limiter = make(loop, limits(b.Quota("ten", "moving", 190, 10.0)))

        async def bulk() -> None:
            while True:
                async with limiter.permit("write", "bulk"):
                    await asyncio.sleep(0.2)

        async def live() -> float:
            start_s = loop.time()
            await spend(limiter)
            return loop.time() - start_s

        tasks = [asyncio.ensure_future(bulk()) for _ in range(100)]
        waits = []
        for _ in range(60):
            await asyncio.sleep(0.7)
            waits.append(await live())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return waits

    assert max(virtual.run(main)) <= 0.5


def test_one_that_waits_for_a_window_of_its_own_holds_up_nobody_else() -> None:
    async def main(loop: Any) -> tuple[float, float]:
        figures = limits(
            b.Quota("second", "moving", 1, 60.0),
            b.Quota("all", "moving", 1000, 1.0),
            search=["second", "all"],
            write=["all"],
        )
        limiter = make(loop, figures)
        start_s = loop.time()
        await spend(limiter, "search")
        blocked = asyncio.ensure_future(spend(limiter, "search"))
        await asyncio.sleep(0)
        await spend(limiter, "write", "replay")
        write_s = loop.time() - start_s
        await blocked
        return write_s, loop.time() - start_s

    write_s, search_s = virtual.run(main)
    assert write_s < 0.1
    assert 60 <= search_s <= 61


def test_small_requests_of_another_group_do_not_starve_an_urgent_large_one() -> None:
    async def main(loop: Any) -> float:
        shared = b.Quota("shared", "moving", 10, 1.0, weighted=True)
        limiter = make(loop, limits(shared, big=["shared"], small=["shared"]))

        async def bulk() -> None:
            while True:
                await spend(limiter, "small", "bulk")

        tasks = [asyncio.ensure_future(bulk()) for _ in range(20)]
        await asyncio.sleep(3)
        start_s = loop.time()
        async with limiter.permit("big", "live", cost=10):
            waited_s = loop.time() - start_s
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return waited_s

    assert virtual.run(main) <= 1.1


def test_a_cost_is_spent_where_it_weighs_and_an_impossible_one_is_refused() -> None:
    async def main(loop: Any) -> None:
        figures = limits(
            b.Quota("tokens", "moving", 50, 10.0, weighted=True), b.Quota("slots", "slots", 3)
        )
        limiter = make(loop, figures)
        async with limiter.permit("write", cost=40):
            assert [(v.window, v.left) for v in limiter.view()] == [("tokens", 10), ("slots", 2)]
        with pytest.raises(ValueError, match="never has 51"):
            async with limiter.permit("write", cost=51):
                pass
        with pytest.raises(KeyError, match="no quota group"):
            await spend(limiter, "wrote")

    virtual.run(main)


def test_a_request_costs_what_the_registry_says_of_its_group() -> None:
    async def main(loop: Any) -> None:
        limiter = make(loop, load("ga4"))
        async with limiter.permit("read"):
            left = {v.window: v.left for v in limiter.view()}
        assert left["tokens_hour"] == 40_000 - 10
        assert left["concurrent"] == 10 - 1
        async with limiter.permit("read", cost=200):
            assert limiter.left("read_thresholded") == 10 - 1
        async with limiter.permit("write"):
            assert limiter.wait_s("write") == 0

    virtual.run(main)


@settings(max_examples=40, deadline=None)
@given(
    seed_waits=st.lists(
        st.tuples(st.sampled_from(["live", "bulk"]), st.floats(0, 0.4), st.floats(0, 0.3)),
        min_size=1,
        max_size=60,
    )
)
def test_who_gives_up_waiting_costs_nothing(seed_waits: list[tuple[str, float, float]]) -> None:
    """Cancelled before, while and just after its grant: no token and no slot is lost."""

    async def main(loop: Any) -> None:
        limiter = make(loop, limits(b.Quota("w", "moving", 5, 1.0), b.Quota("slots", "slots", 2)))

        async def one(priority: str, at_s: float, for_s: float) -> None:
            await asyncio.sleep(at_s)
            async with limiter.permit("write", priority):
                await asyncio.sleep(for_s)

        tasks = [asyncio.ensure_future(one(*wait)) for wait in seed_waits]
        for i, task in enumerate(tasks):
            await asyncio.sleep(0.01)
            if i % 2:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(10)
        assert limiter.waiting() == 0
        assert [v.left for v in limiter.view()] == [5, 2]
        assert not limiter._open

    virtual.run(main)


# what the platform says


def waited_after(act: Callable[[Limiter], object], figures: Limits, group: str = "write") -> float:
    async def main(loop: Any) -> float:
        limiter = make(loop, figures)
        await spend(limiter, group)
        act(limiter)
        start_s = loop.time()
        await spend(limiter, group)
        return loop.time() - start_s

    return virtual.run(main)


def test_a_refusal_closes_the_group_for_as_long_as_the_platform_said() -> None:
    assert 30.0 <= waited_after(lambda li: li.refused("write", 30.0), limits(TEN)) <= 30.1


def test_an_unbelievable_wait_is_clamped() -> None:
    assert 3600 <= waited_after(lambda li: li.refused("write", 1e9), limits(TEN)) <= 3601


def test_a_refusal_by_name_closes_that_window_and_a_day_until_it_ends() -> None:
    """HubSpot calls it DAILY, and promises no Retry-After; searching goes on by another window."""

    async def main(loop: Any) -> tuple[float, float, float]:
        limiter = make(loop, load("hubspot", "oauth", {"day": 1000}))
        await spend(limiter)
        closed_s = limiter.refused("write", None, "DAILY")
        midnight_s = b.next_midnight_s("UTC", loop.time()) - loop.time()
        assert [v.window for v in limiter.view() if v.closed_s > 0] == ["day"]
        limiter.refused("write", 5.0, "TEN_SECONDLY_ROLLING")
        ten_s = next(v.closed_s for v in limiter.view() if v.window == "ten_seconds")
        return closed_s, midnight_s, ten_s

    closed_s, midnight_s, ten_s = virtual.run(main)
    assert midnight_s < closed_s < midnight_s + 2
    assert ten_s == pytest.approx(5.0)


def test_a_refusal_that_names_no_window_says_nothing_exact_of_places() -> None:
    async def main(loop: Any) -> int:
        limiter = make(loop, limits(b.Quota("w", "moving", 50, 10.0), b.Quota("s", "slots", 20)))
        async with limiter.permit("write"):
            limiter.refused("write", 1.0)
        return limiter.view()[1].limit

    assert virtual.run(main) == 17


def test_a_rolling_day_that_is_spent_is_asked_again_after_a_quarter_of_an_hour() -> None:
    wait_s = waited_after(lambda li: li.refused("api", None, "day"), load("salesforce"), "api")
    assert 900 <= wait_s <= 901


def test_refusals_without_a_wait_close_longer_each_time_in_a_row_and_many_at_once_are_one() -> None:
    async def main(loop: Any) -> list[float]:
        limiter = make(loop, limits(TEN))
        waits = []
        for _ in range(3):
            waits.append(limiter.refused("write"))
            limiter.refused("write")
            limiter.refused("write")
            await asyncio.sleep(3600)
        limiter.observe("write", {})
        return [*waits, limiter.refused("write")]

    assert virtual.run(main) == [1.0, 2.0, 5.0, 1.0]


def test_headers_tell_what_others_spend() -> None:
    async def main(loop: Any) -> None:
        limiter = make(loop, load("salesforce"))
        async with limiter.permit("api"):
            limiter.observe("api", {"sforce-limit-info": "api-usage=99990/100000"})
        day = limiter.view()[0]
        assert (day.window, day.used_by_us, day.used_by_others, day.left) == (
            "day", 1, 99_989, 10,
        )  # fmt: skip
        limiter.observe("api", {"sforce-limit-info": "nonsense"})
        limiter.observe("api", {"sforce-limit-info": "api-usage=1/5000"})
        assert limiter.view()[0].left <= 5_000

    virtual.run(main)


def test_an_answer_that_never_came_holds_its_slot_for_a_while() -> None:
    async def main(loop: Any) -> float:
        limiter = make(loop, limits(b.Quota("one", "slots", 1)))
        async with limiter.permit("write"):
            await asyncio.sleep(3)  # the slowest so far
        with pytest.raises(TimeoutError):
            async with limiter.permit("write"):
                raise TimeoutError
        start_s = loop.time()
        await spend(limiter)
        return loop.time() - start_s

    assert 4.0 <= virtual.run(main) <= 4.1


def test_other_figures_hold_at_once_and_what_was_spent_counts_on() -> None:
    async def main(loop: Any) -> None:
        limiter = make(loop, limits(b.Quota("w", "moving", 5, 10.0)))
        for _ in range(5):
            await spend(limiter)
        waits = asyncio.ensure_future(spend(limiter))
        await asyncio.sleep(0.1)
        limiter.relimit(limits(b.Quota("w", "moving", 7, 10.0), b.Quota("slots", "slots", 1)))
        await asyncio.wait_for(waits, 1)
        assert limiter.left("write") == 1
        limiter.relimit(limits(b.Quota("w", "moving", 3, 10.0)))
        assert 9 < limiter.wait_s("write") < 11

    virtual.run(main)


def test_a_window_that_is_new_counts_what_is_under_way() -> None:
    async def main(loop: Any) -> None:
        limiter = make(loop, limits(TEN))
        async with limiter.permit("write"):
            limiter.relimit(limits(TEN, b.Quota("slots", "slots", 1)))
            waits = asyncio.ensure_future(spend(limiter))
            await asyncio.sleep(1)
            assert not waits.done()
        await asyncio.wait_for(waits, 1)

    virtual.run(main)


def test_use_is_what_was_spent_of_what_could_have_been_while_rows_waited() -> None:
    async def main(loop: Any) -> None:
        limiter = make(loop, limits(b.Quota("w", "moving", 10, 10.0), b.Quota("slots", "slots", 5)))
        assert limiter.use("write") is None
        for _ in range(5):
            await spend(limiter)
        for _ in range(10):
            limiter.sample(["write"])
        assert limiter.use("write") == pytest.approx(0.5)
        limiter.refused("write", 5.0)
        limiter.sample(["write"])  # nothing could be spent: no fault of ours
        assert limiter.use("write") == pytest.approx(0.5)

    virtual.run(main)

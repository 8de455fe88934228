"""One window of a quota: never overspent whenever the platform counts; no needless waiting (P6).
The counters here are the platform's: strict, and not ours."""

from bisect import bisect_right
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratelimits import bucket as b

TEN = b.Quota("ten", "moving", 19, 10.0)
ROLLING = b.Quota("rolling", "moving", 100, 86_400.0)

requests = st.tuples(
    st.floats(0, 0.5, width=32),  # pause before it
    st.floats(0, 3, width=32),  # latency
    st.floats(0, 1, width=32),  # when within it the platform counts
    st.sampled_from(["answer", "answer", "answer", "none", "unsent"]),
)


def most_in_a_window(counted: list[float], window_s: float) -> int:
    """The platform's own moving window: the most it ever saw."""
    counted = sorted(counted)
    return max(
        (i + 1 - bisect_right(counted, at - window_s) for i, at in enumerate(counted)), default=0
    )


@settings(deadline=None)
@given(
    limit=st.integers(1, 30),
    window_s=st.sampled_from([0.3, 1.0, 10.0]),
    keep=st.sampled_from([0.0, 0.2]),
    steps=st.lists(requests, max_size=200),
)
def test_no_window_is_overspent_whenever_the_platform_counts(limit, window_s, keep, steps) -> None:
    """Also where no answer comes: then it may count until the time-out."""
    quota, state = b.Quota("w", "moving", limit, window_s), b.Bucket()
    now_s, pending, counted = 1000.0, [], []
    for pause_s, latency_s, moment, end in steps:
        now_s += pause_s
        for over_s, how in sorted(p for p in pending if p[0] <= now_s):
            state = {
                "answer": lambda s, at: b.give_back(s, quota, at),
                "none": lambda s, at: b.give_back(s, quota, at, until_s=at + 5.0),
                "unsent": lambda s, at: b.give_back(s, quota, at, sent=False),
            }[how](state, over_s)
            pending.remove((over_s, how))
        state, wait_s = b.take(state, quota, now_s, keep=keep)
        if wait_s == 0:
            pending.append((now_s + latency_s, end))
            if end != "unsent":
                late_s = 5.0 if end == "none" else 0.0
                counted.append(now_s + moment * (latency_s + late_s))
    assert most_in_a_window(counted, window_s) <= limit


@settings(deadline=None)
@given(
    limit=st.integers(1, 60),
    latencies=st.lists(st.floats(0.001, 0.5), min_size=5, max_size=40),
    keep=st.sampled_from([0.0, 0.2]),
)
def test_while_work_waits_the_quota_is_used(limit, latencies, keep) -> None:
    """Work always waits; each wait is slept as told. Of the best possible at most the rounding is
    lost: a four-hundredth of the window and the millisecond of each wait."""
    quota, state = b.Quota("w", "moving", limit, 10.0), b.Bucket()
    now_s, end_s, spent, pending = 0.0, 200.0, 0, []
    while now_s < end_s:
        state, wait_s = b.take(state, quota, now_s, keep=keep)
        if wait_s == 0:
            pending.append(now_s + latencies[spent % len(latencies)])
            spent += 1
        else:
            next_s = min([now_s + wait_s, *pending])
            now_s = max(next_s, now_s + 1e-6)
            for over_s in [p for p in pending if p <= now_s]:
                state = b.give_back(state, quota, over_s)
                pending.remove(over_s)
    round_s = 10.0 + max(latencies) + 2 * quota.slot_s
    kept = 0.3 if keep else 0.0  # the first window is not taken in one gulp
    assert spent >= limit * (int(end_s / round_s) - kept)


@settings(deadline=None)
@given(
    quota=st.sampled_from([TEN, ROLLING, b.Quota("day", "day", 50), b.Quota("slots", "slots", 4)]),
    steps=st.lists(
        st.tuples(st.floats(0, 50_000, width=32), st.integers(0, 3), st.integers(0, 120)),
        max_size=300,
    ),
)
def test_whatever_happens_it_stays_small_and_within_the_registry_figure(quota, steps) -> None:
    state, now_s = b.Bucket(), 1_800_000_000.0
    for pause_s, act, number in steps:
        now_s += pause_s / 100
        if act == 0:
            state, _ = b.take(state, quota, now_s)
        elif act == 1 and state.open:
            state = b.give_back(state, quota, now_s)
        elif act == 2:
            state = b.correct(state, quota, now_s, number)
        elif act == 3:
            state = b.close(state, quota, now_s, now_s + number)
        assert 0 <= b.left(state, quota, now_s) <= b.allowed(state, quota, now_s) <= quota.limit
        assert len(state.returns) <= b.SLOTS + 2
        assert len(state.others) <= b.SLOTS + 2
        assert list(state.returns) == sorted(state.returns)


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


def test_slots_come_back_with_the_answer_and_only_then() -> None:
    quota = b.Quota("slots", "slots", 2)
    state, _ = b.take(b.take(b.Bucket(), quota, 0.0)[0], quota, 0.0)
    assert b.take(state, quota, 1e6)[1] == float("inf")
    assert b.left(b.give_back(state, quota, 5.0), quota, 5.0) == 1
    lost = b.give_back(state, quota, 5.0, until_s=35.0)
    assert b.take(lost, quota, 5.0)[1] == 30.0
    assert b.left(lost, quota, 35.0) == 1


def test_weighted_costs_count_and_an_impossible_one_is_a_mistake() -> None:
    state, wait_s = b.take(b.Bucket(), TEN, 0.0, 15)
    assert (b.left(state, TEN, 0.0), wait_s) == (4, 0.0)
    state = b.give_back(state, TEN, 1.0, 15)
    assert 10 < b.take(state, TEN, 1.0, 5)[1] < 10.1
    with pytest.raises(ValueError, match="never has 20"):
        b.take(state, TEN, 1.0, 20)


def test_what_the_platform_never_saw_is_back_at_once() -> None:
    quota = b.Quota("w", "moving", 1, 10.0)
    state, _ = b.take(b.Bucket(), quota, 5.0)
    assert b.left(b.give_back(state, quota, 5.1, sent=False), quota, 5.1) == 1


def test_a_burst_leaves_what_live_work_may_need_until_more_comes_back() -> None:
    """100 in 10 s, a fifth for live: two a second, all the time; what is not needed any more is
    given to bulk as the window goes round, and all of it is spent by its end."""
    quota, state, bulk = b.Quota("w", "moving", 100, 10.0), b.Bucket(), 0
    for tenth in range(100):
        while b.take(state, quota, tenth / 10, keep=0.2)[1] == 0:
            taken, _ = b.take(state, quota, tenth / 10, keep=0.2)
            state, bulk = b.give_back(taken, quota, tenth / 10), bulk + 1
        kept = b.left(state, quota, tenth / 10)
        assert kept >= int(0.2 * 10.0 * (10.0 - tenth / 10)) - 1
        if tenth == 0:
            assert bulk == 80
    assert bulk >= 99


def test_tokens_that_return_evenly_hold_back_nothing() -> None:
    quota = b.Quota("w", "moving", 100, 10.0)
    state = b.Bucket(returns=tuple((10.0 + i / 10, 1) for i in range(1, 99)))
    assert b.left(state, quota, 10.0) == 2
    for _ in range(2):
        state, wait_s = b.take(state, quota, 10.0, keep=0.2)
        assert wait_s == 0


def test_headers_correct_down_and_never_up() -> None:
    state, _ = b.take(b.Bucket(), TEN, 5.0)
    assert b.left(b.correct(state, TEN, 5.0, 3), TEN, 5.0) == 3
    assert b.left(b.correct(state, TEN, 5.0, 500), TEN, 5.0) == 18
    seen = b.correct(state, TEN, 5.0, 3)
    assert b.left(b.correct(seen, TEN, 6.0, 15), TEN, 6.0) == 3
    assert b.others(seen, 5.0) == 15


def test_what_others_spent_of_a_rolling_day_comes_back_as_the_platform_says_and_ours_does_not() -> (
    None
):
    state = b.Bucket()
    for _ in range(30):
        state, _ = b.take(state, ROLLING, 0.0)
        state = b.give_back(state, ROLLING, 0.0)
    state = b.correct(state, ROLLING, 10.0, 5)  # 65 by others
    assert b.left(state, ROLLING, 10.0) == 5
    state, _ = b.take(state, ROLLING, 20.0)
    state = b.correct(state, ROLLING, 20.0, 50)  # 45 of theirs are back; one of ours is under way
    assert b.left(state, ROLLING, 20.0) == 49
    state = b.correct(state, ROLLING, 30.0, 100)  # and never more than ours leave over
    assert b.left(state, ROLLING, 30.0) == 69


def test_a_slowed_quota_does_not_take_our_own_caution_for_others() -> None:
    """Trusting half of 100, with 40 left by the platform: others have 10, not none and not 60."""
    quota = b.Quota("w", "moving", 100, 10.0)
    state = b.Bucket(share=0.5, quiet_since_s=5.0)
    for _ in range(50):
        state, wait_s = b.take(state, quota, 5.0)
        assert wait_s == 0
    assert b.others(b.correct(state, quota, 5.0, 40), 5.0) == 10


@settings(deadline=None)
@given(
    theirs=st.integers(0, 100), open_=st.integers(0, 40), took_s=st.floats(0, 5),
    heard_ago_s=st.floats(0, 100), window_s=st.sampled_from([1.0, 10.0, 60.0]),
)  # fmt: skip
def test_what_is_left_for_others_is_never_more_than_half_of_what_they_leave(
    theirs, open_, took_s, heard_ago_s, window_s
) -> None:
    """Nothing where there are none; and never so much that we should starve."""
    quota = b.Quota("w", "moving", 100, window_s)
    state = b.Bucket(heard_s=1000.0 - heard_ago_s)
    if theirs:
        state = b.Bucket(others=((1000.0 + window_s / 2, theirs),), heard_s=state.heard_s)
    state, taken = b.Bucket(open_, others=state.others, heard_s=state.heard_s), 0
    while b.take(state, quota, 1000.0, took_s=took_s)[1] == 0:
        state, taken = b.take(state, quota, 1000.0, took_s=took_s)[0], taken + 1
    spare = max(0, 100 - theirs - open_)
    assert taken <= spare
    assert taken == spare if not theirs else taken >= spare - (100 - theirs) // 2


def test_after_a_refusal_it_goes_slower_and_recovers_to_the_registry_figure_and_not_above() -> None:
    quota = b.Quota("w", "moving", 100, 1.0)
    state = b.close(b.Bucket(), quota, 10.0, 12.0)
    assert b.take(state, quota, 11.0) == (state, 1.0)
    minutes = [b.left(state, quota, 12.0 + 60.0 * n) for n in range(7)]
    assert minutes == [85, 86, 88, 91, 95, 100, 100]
    again = b.close(state, quota, 132.0, 133.0)
    assert b.left(again, quota, 133.0) == 74  # of what was trusted by then
    assert b.left(state, quota, 1000.0) == 100


def test_refusals_of_one_moment_slow_once_rare_ones_not_at_all_and_a_day_never() -> None:
    quota = b.Quota("w", "moving", 100, 1.0)
    state = b.Bucket()
    for _ in range(20):
        state = b.close(state, quota, 10.0, 12.0)
    assert b.left(state, quota, 12.0) == 85
    calm = b.close(b.Bucket(asked=1000), quota, 10.0, 12.0)
    assert b.left(calm, quota, 12.0) == 100
    day = b.close(b.Bucket(), b.Quota("d", "day", 100), 10.0, 12.0)
    assert b.left(day, b.Quota("d", "day", 100), 12.0) == 100


@pytest.mark.parametrize(
    ("zone", "at", "hours"),
    [
        ("UTC", "2026-06-01T12:00", 12),
        ("Europe/Berlin", "2026-10-25T01:30", 23.5),  # before the clocks go back
        ("Europe/Berlin", "2026-03-29T01:30", 21.5),
        ("America/New_York", "2026-06-01T23:59", 1 / 60),
    ],
)
def test_a_day_ends_at_midnight_of_its_zone_also_when_clocks_change(zone, at, hours) -> None:
    now_s = datetime.fromisoformat(at).replace(tzinfo=ZoneInfo(zone)).timestamp()
    assert b.next_midnight_s(zone, now_s) - now_s == pytest.approx(hours * 3600)


def test_a_request_under_way_at_midnight_counts_for_both_days() -> None:
    quota = b.Quota("d", "day", 1, zone="UTC")
    midnight_s = b.next_midnight_s("UTC", 1_800_000_000.0)
    state, _ = b.take(b.Bucket(), quota, midnight_s - 0.5)
    assert b.left(state, quota, midnight_s + 2) == 0
    state = b.give_back(state, quota, midnight_s + 2)
    assert 86_390 < b.take(state, quota, midnight_s + 2)[1] < 86_400


def test_a_days_tokens_come_back_a_second_after_midnight_of_its_zone() -> None:
    quota = b.Quota("d", "day", 1, zone="Asia/Tokyo")
    noon_s = datetime.fromisoformat("2026-06-01T12:00+09:00").timestamp()
    state, _ = b.take(b.Bucket(), quota, noon_s)
    state = b.give_back(state, quota, noon_s)
    assert b.take(state, quota, noon_s)[1] == 12 * 3600 + 1


def test_a_successor_counts_all_as_spent_at_the_end_of_the_lease() -> None:
    state = b.Bucket(open=7, returns=((103.0, 4), (99.0, 1), (5_000.0, 2)))
    after = b.restore(state, TEN, 100.0, 102.0)
    assert after.open == 0
    assert b.left(after, TEN, 100.0) == 19 - 13
    assert b.left(after, TEN, 103.5) == 19 - 9
    assert b.left(after, TEN, 111.9) == 19 - 9
    assert b.left(after, TEN, 112.1) == 19  # a return in an hour was a clock gone wrong

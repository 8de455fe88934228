"""Windows count strictly, and tell afterwards how much of them was used. Pure: time is given."""

import random

import pytest

from simulators.quotas import (
    Calendar,
    Concurrent,
    Rolling,
    Slow,
    Window,
    admit,
    change,
    timeline,
    use,
)

DAY_S = 86_400.0


def test_a_rolling_window_is_never_overspent_in_any_span() -> None:
    draw = random.Random(5)
    window, now, taken = Rolling("w", 7, 3.0), 100.0, []
    for _ in range(3000):
        now += draw.expovariate(4.0)
        if admit([window], now) is None:
            taken.append(now)
    spans = [sum(1 for t in taken if end - 3.0 < t <= end) for end in taken]
    assert max(spans) == window.peak == 7
    assert window.refused == window.overspends == 3000 - len(taken) > 0


def test_a_token_is_back_exactly_a_window_later() -> None:
    window = Rolling("w", 1, 10.0)
    assert admit([window], 50.0) is None
    assert admit([window], 59.999) is window
    assert admit([window], 60.0) is None


def test_a_refusal_takes_nothing_and_counts_in_every_full_window() -> None:
    one, two, free = Rolling("one", 1, 10.0), Rolling("two", 1, 20.0), Rolling("free", 9, 10.0)
    assert admit([one, two, free], 0.0) is None
    assert admit([one, two, free], 1.0) is one
    assert admit([one, two, free], 12.0) is two
    assert [(w.spent, w.refused, w.overspends) for w in (one, two, free)] == [
        (1, 1, 1),
        (1, 1, 2),
        (1, 0, 0),
    ]


@pytest.mark.parametrize(
    ("zone", "reset"),
    [
        ("UTC", 20_000 * DAY_S),
        ("America/New_York", 20_000 * DAY_S + 4 * 3600),  # 2024-10-04, summer time
        ("Asia/Kolkata", 20_000 * DAY_S - 5.5 * 3600),
    ],
)
def test_a_day_ends_at_midnight_of_its_zone(zone: str, reset: float) -> None:
    day = Calendar("day", 1, zone=zone)
    assert admit([day], reset - 1.0) is None
    assert admit([day], reset - 0.5) is day
    assert admit([day], reset) is None
    assert day.next_reset(reset) == reset + DAY_S


def test_a_short_day_for_a_demo() -> None:
    day = Calendar("day", 2, window_s=60.0)
    assert [admit([day], t) for t in (119.0, 119.5)] == [None, None]
    assert admit([day], 119.9) is day
    assert admit([day], 120.0) is None


def test_requests_at_once() -> None:
    window = Concurrent("connections", 2)
    assert [admit([window], t) for t in (1.0, 2.0)] == [None, None]
    assert admit([window], 3.0) is window
    window.release(1.0, 4.0)
    assert admit([window], 5.0) is None
    assert window.peak == 2
    assert window.spent_in(0.0, 6.0) == pytest.approx(1.0 + 2 * 2.0 + 1.0 + 2.0)
    assert use(window, [(1.0, 5.0)]) == {"spent": 6.0, "spendable": 8.0, "use": 0.75}


def test_only_old_requests_take_a_place_among_slow_ones() -> None:
    window = Slow("long", 1, 20.0)
    assert admit([window], 0.0) is None
    assert admit([window], 19.0) is None
    assert admit([window], 20.0) is window
    window.release(0.0, 21.0)
    assert admit([window], 22.0) is None


def test_what_could_have_been_spent() -> None:
    window = Rolling("w", 10, 10.0)
    for _ in range(4):
        admit([window], 95.0)
    # six are free at 100, four come back at 105; the six again at 110, the four at 115 …
    for end, spendable in ((100.0, 6), (104.9, 6), (105.0, 10), (110.0, 16), (120.0, 26)):
        assert window.spendable_in(100.0, end) == spendable
    for t in (101.0, 102.0, 103.0):
        admit([window], t)
    assert use(window, [(100.0, 104.0)]) == {"spent": 3, "spendable": 6, "use": 0.5}
    pieces = [(100.0, 102.0), (102.0, 104.0)]
    assert use(window, pieces) == use(window, [(100.0, 104.0)]), "touching spans are one"
    assert use(window, [(90.0, 91.0), (100.0, 104.0)])["spendable"] == 16


def test_a_greedy_caller_reaches_the_best_use() -> None:
    draw = random.Random(1)
    window = Rolling("w", 19, 1.0)
    now = 1000.0
    while now < 1060.0:
        admit([window], now)
        now += draw.uniform(0.0001, 0.0002)
    reached = use(window, [(1000.0, 1059.5)])["use"]
    assert 0.99 < reached <= 1.0


def test_what_a_day_could_have_given() -> None:
    day = Calendar("day", 100, window_s=60.0)
    for _ in range(30):
        admit([day], 70.0)
    assert day.spendable_in(80.0, 119.0) == 70
    assert day.spendable_in(80.0, 120.0) == 170
    assert use(day, [(65.0, 119.0)]) == {"spent": 30, "spendable": 100, "use": 0.3}


def test_the_timeline_is_columns() -> None:
    window = Rolling("w", 3, 0.25)
    for t in (10.0, 10.1, 10.2):
        admit([window], t)
    assert timeline(window, 10.0, 10.4, 0.1) == {
        "limit": 3,
        "at_ms": [10_000, 10_100, 10_200, 10_300, 10_400],
        "used": [1, 2, 3, 2, 1],
        "spent": [1, 2, 3, 3, 3],
    }


def test_limits_are_changed_in_flight() -> None:
    window = Rolling("w", 1, 10.0)
    admit([window], 0.0)
    change(window, "2")
    assert admit([window], 1.0) is None
    change(window, "2/1.5")
    assert admit([window], 1.5) is None
    change(window, "off")
    assert [admit([window], 1.6) for _ in range(5)] == [None] * 5
    assert use(window, [(0.0, 2.0)]) == {"spent": 8, "spendable": None, "use": None}
    slow = Slow("long", 1, 20.0)
    change(slow, "3/0.5")
    assert (slow.limit, slow.slow_s) == (3, 0.5)


@pytest.mark.parametrize("setting", ["x", "-1", "5/0", "5/-1", "", "5/x"])
def test_settings_that_make_no_sense(setting: str) -> None:
    with pytest.raises(ValueError):
        change(Rolling("w", 1, 1.0), setting)


def test_requests_at_once_have_no_length() -> None:
    window: Window = Concurrent("connections", 10)
    with pytest.raises(ValueError, match="no length"):
        change(window, "10/5")

"""When a run is due: time zones, clocks that change, what was missed, and never twice."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.definitions import Schedule
from syncline.schedules import due, mistake, newest_due, next_due, wait_for

BERLIN = Schedule(cron="30 6 * * *", zone="Europe/Berlin")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_times_are_of_the_zone() -> None:
    assert next_due(BERLIN, at("2026-01-10T00:00")) == at("2026-01-10T05:30")
    assert next_due(BERLIN, at("2026-07-10T00:00")) == at("2026-07-10T04:30")


def test_an_hour_that_is_left_out_is_made_up_for_and_one_that_comes_twice_counts_once() -> None:
    night = Schedule(cron="30 2 * * *", zone="Europe/Berlin")
    assert next_due(night, at("2026-03-28T12:00")) == at("2026-03-29T01:00")  # 03:00 there
    autumn = [at("2026-10-24T12:00")]
    while len(autumn) < 3:
        autumn.append(next_due(night, autumn[-1]))
    assert autumn[1:] == [at("2026-10-25T00:30"), at("2026-10-26T01:30")]


@settings(deadline=None)
@given(
    st.sampled_from(["30 2 * * *", "*/15 * * * *", "0 0 1 * *", "15 3 * * sun", "0 */7 * * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    st.integers(0, 525_600),
)
def test_the_newest_is_the_last_that_is_not_in_the_future(cron: str, zone: str, n: int) -> None:
    schedule = Schedule(cron=cron, zone=zone)
    now = at("2026-01-01T00:00") + timedelta(minutes=n)
    newest = newest_due(schedule, now)
    assert newest <= now < next_due(schedule, newest)


def test_a_run_is_named_by_its_time_and_begins_once() -> None:
    now = at("2026-07-10T04:30:01")
    found = due("leads", BERLIN, LONG_AGO, now, {})
    assert found is not None
    assert (found.run, found.late) == ("leads-20260710T043000000", False)
    assert due("leads", BERLIN, LONG_AGO, now, {found.run: "completed"}) is None
    assert due("leads", BERLIN, LONG_AGO, at("2026-07-10T04:29:59"), {}) != found


def test_what_was_missed_is_made_up_for_once_or_not_at_all() -> None:
    now = at("2026-07-13T12:00")  # three were missed
    found = due("leads", BERLIN, LONG_AGO, now, {"leads-20260709T043000000": "completed"})
    assert found is not None
    assert (found.run, found.late) == ("leads-20260713T043000000", True)
    skips = BERLIN.model_copy(update={"missed": "skip"})
    assert due("leads", skips, LONG_AGO, now, {}) is None
    soon = due("leads", skips, LONG_AGO, at("2026-07-13T04:34"), {})
    assert soon is not None


def test_nothing_is_made_up_for_from_before_the_schedule_was() -> None:
    assert due("leads", BERLIN, at("2026-07-10T04:30"), at("2026-07-10T12:00"), {}) is None
    assert due("leads", BERLIN, at("2026-07-10T04:29"), at("2026-07-10T12:00"), {})


def test_what_is_due_waits_for_the_run_before_and_for_a_pause() -> None:
    assert wait_for({"a-1": "completed", "a-2": "cancelled"}, paused=False) == ""
    assert wait_for({"a-1": "completed", "a-2": "stuck"}, paused=False) == "a-2 is still stuck"
    assert wait_for({}, paused=True) == "the sync is paused"


@pytest.mark.parametrize(
    ("cron", "zone", "key", "words"),
    [
        ("30 6 * *", "UTC", "cron", "wants five fields"),
        ("0 30 6 * * *", "UTC", "cron", "wants five fields"),
        ("61 6 * * *", "UTC", "cron", "Bad minute"),
        ("0 0 31 2 *", "UTC", "cron", ""),
        ("30 6 * * *", "Europe/Berlyn", "zone", "no time zone Europe/Berlyn"),
        ("30 6 * * *", "../etc", "zone", "no time zone"),
    ],
)
def test_a_mistake_is_named(cron: str, zone: str, key: str, words: str) -> None:
    found = mistake(Schedule(cron=cron, zone=zone))
    assert found is not None
    assert found[0] == key
    assert words in found[1]
    assert mistake(BERLIN) is None

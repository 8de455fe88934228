"""What a command says of its acts is what the journal says of the records they were about."""

import pytest

from audit.answers import Answers, Place
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing


def answers() -> Answers:
    return Answers(frozenset({"a1"}))


def noted(of: Answers, row: str, standing: str, code: str = "", **more: str) -> None:
    note = RowNote(row_id=row, event_id="e", standing=Standing(standing), code=code, **more)  # type: ignore[arg-type]
    of.take(JournalEntry(kind=JournalKind.decided, at_ms=1, sync="leads", rows=[note]))


def entry(**more: object) -> JournalEntry:
    told = {"kind": JournalKind.confirmed, "at_ms": 1, "act_id": "a1", **more}
    return JournalEntry(**told)  # type: ignore[arg-type]


def test_a_record_that_was_released_is_followed_to_its_fate() -> None:
    told = answers()
    assert told.place("r") == Place("asked")
    for standing, code, rests in [
        ("waiting", "released", False), ("out", "", False), ("written", "", True),
    ]:  # fmt: skip
        noted(told, "r", standing, code)
        assert told.settled(["r"]) is rests
    assert told.place("r") == Place("written")


def test_one_that_waits_for_somebody_is_said_to_wait_and_what_for() -> None:
    told = answers()
    noted(told, "r", "waiting", "released", reason="asked")
    assert not told.settled(["r"])
    noted(told, "r", "waiting", "account_closed", reason="unpaid")
    assert told.settled(["r"])
    assert str(told.place("r")) == "waiting for account_closed (unpaid)"


def test_one_that_another_carries_stands_where_that_one_stands() -> None:
    told = answers()
    noted(told, "r2", "parked", "BAD", field="Phone")
    noted(told, "r", "superseded", "newer", by="r2")
    assert str(told.place("r")) == "refused again: BAD Phone"
    assert told.settled(["r"])


def test_a_repeat_says_nothing_of_the_record() -> None:
    told = answers()
    noted(told, "r", "duplicate")
    assert told.place("r") == Place("asked")


def test_confirmations_are_told_apart() -> None:
    told = answers()
    told.take(entry(partition=3))
    told.take(entry(partition=3))
    told.take(entry(partition=1, who="eve", records=2))
    told.take(entry(who="eve", records=0, why="not parked any more"))
    told.take(entry(account="salesforce/o1", who="eve", records=4, why="connectors"))
    told.take(entry(act_id="somebody else's", partition=2))
    assert told.partitions == {3}
    assert (told.confirmed, told.done, told.whys) == (2, 2, {"not parked any more"})
    assert told.workers == {"a1": 4}


def test_an_act_that_is_refused_says_why() -> None:
    told = answers()
    told.take(entry(kind=JournalKind.act, why="typing mistake"))
    assert told.refused == ""
    told.take(entry(kind=JournalKind.act, why="refused: the run is completed"))
    assert told.refused == "the run is completed"


@pytest.mark.parametrize("mine", [True, False])
def test_rows_of_events_are_found(mine: bool) -> None:
    told = answers()
    noted(told, "r", "out")
    assert told.rows_of({"e" if mine else "other"}) == (["r"] if mine else [])

"""What a preview says, as the journal of its run tells it."""

from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from syncline.previewing import Shown

RUN = "leads-20260101T000000000"


def note(number: int, standing: Standing, code: str, field: str = "", reason: str = "") -> RowNote:
    return RowNote(
        row_id=str(number), event_id="e", record_no=number, standing=standing, code=code,
        field=field, reason=reason,
    )  # fmt: skip


def shown(*notes: RowNote, run: str = RUN) -> Shown:
    found = Shown(RUN)
    for one in notes:
        found.take(JournalEntry(kind=JournalKind.decided, at_ms=1, run=run, rows=[one]))
    return found


def test_each_record_counts_by_its_last_word() -> None:
    filtered = Standing.filtered
    found = shown(
        note(1, Standing.held, "looking"), note(1, filtered, "would_create"),
        note(2, filtered, "would_update", "Company,Phone"),
        note(3, filtered, "would_update", "Phone"),
        note(4, filtered, "would_refuse", "Email", "required"),
        note(5, filtered, "filter", reason="no consent"),
        note(6, Standing.unchanged, "equal"),
        note(7, Standing.held, "looking"),
    )  # fmt: skip
    assert found.counts == {
        "would be created": 1, "would be updated": 2, "unchanged": 1, "would be refused": 1,
        "would be left out": 1,
    }  # fmt: skip
    assert found.details == {
        "would be updated": {"Phone": 2, "Company": 1},
        "would be refused": {"Email: required": 1},
        "would be left out": {"no consent": 1},
    }
    assert found.samples["would be updated"] == [2, 3]


def test_other_runs_are_none_of_its_business() -> None:
    assert shown(note(1, Standing.filtered, "would_create"), run="other-1").counts == {}


def test_its_end_and_what_it_is_stuck_for() -> None:
    found = shown()
    for after, why in (("stuck", "no answer"), ("running", ""), ("completed", "")):
        found.take(JournalEntry(kind=JournalKind.run_state, at_ms=1, run=RUN, after=after, why=why))
        assert found.stuck == (why if after == "stuck" else "")
    assert found.ended == "completed"

"""Which releases there are, and what is asked where they are undone."""

from schemas.control import ActKind
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from syncline.undoing import asked, released


def entry(at_ms: int, *notes: tuple[str, Standing, str], sync: str = "leads") -> JournalEntry:
    rows = [
        RowNote(
            row_id=row_id, event_id="e", person=f"p{row_id}", standing=standing, code=code,
            by="eve", reason="typo",
        )
        for row_id, standing, code in notes
    ]  # fmt: skip
    return JournalEntry(kind=JournalKind.decided, at_ms=at_ms, sync=sync, rows=rows)


def test_a_release_is_found_with_where_it_stands_now() -> None:
    found = released([
        entry(1, ("1", Standing.parked, "BAD"), ("2", Standing.written, "")),
        entry(3, ("1", Standing.waiting, "released"), ("3", Standing.waiting, "resent")),
        entry(2, ("4", Standing.waiting, "released"), sync="news"),
        entry(4, ("1", Standing.out, "looking"), ("1", Standing.written, "")),
        entry(5, ("4", Standing.parked, "BAD")),
    ])  # fmt: skip
    assert [(r.row_id, r.sync, r.standing, r.can_be_undone) for r in found] == [
        ("4", "news", "parked", False), ("1", "leads", "written", True),
    ]  # fmt: skip
    assert (found[1].who, found[1].why) == ("eve", "typo")


def test_one_act_a_sync_and_the_ids_of_what_it_makes() -> None:
    chosen = released([
        entry(1, ("1", Standing.waiting, "released"), ("2", Standing.waiting, "released")),
        entry(2, ("3", Standing.waiting, "released"), sync="news"),
    ])  # fmt: skip
    made, rows = asked(chosen, "wrong")
    assert [(a.kind, a.sync, [t.row_id for t in a.targets]) for a in made] == [
        (ActKind.undo, "leads", ["1", "2"]), (ActKind.undo, "news", ["3"]),
    ]  # fmt: skip
    assert len({*rows}) == 3
    assert {t.parked_id for a in made for t in a.targets} == {""}

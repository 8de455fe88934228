"""A release is taken back: what stood there just before is put there again, field by field, where
nobody has changed it since; and stays until the source says something new."""

import json
from typing import Any

from schemas.commands import LookUp
from schemas.control import ActKind, Target
from schemas.events import EventKind
from schemas.outcomes import OutcomeKind
from schemas.parked import ParkedRecord
from tests.simulation.definitions import SYNCS, catalog
from tests.unit import steps_kit
from tests.unit.steps_kit import ANN


class Desk(steps_kit.Desk):
    @property
    def looks(self) -> list[LookUp]:
        return [s.message for s in self.sends if isinstance(s.message, LookUp)]

    def seen(self, values: dict[str, Any] | None, code: str = "") -> "Desk":
        """The worker's answer to the one that was asked for."""
        [look] = self.looks
        [row] = look.rows
        seen = None if values is None else json.dumps(values).encode()
        self.outcome(OutcomeKind.seen, row, seen=seen, code=code)  # type: ignore[arg-type]
        return self

    def last(self) -> tuple[str, str, str]:
        note = self.notes[-1]
        return note.standing.value, note.code, note.field


def stuck(desk: Desk | None = None) -> tuple[Desk, ParkedRecord]:
    """Written once, then a change of the phone is refused, and mended by hand."""
    desk = desk or Desk()
    desk.event(ANN, 100)
    desk.written(desk.row)
    desk.event({**ANN, "phone": "bad", "company": "initech"}, 200)
    desk.outcome(OutcomeKind.parked, desk.row, code="BAD", field="Phone", words="no")
    [record] = [p for p in desk.parked.values() if p]
    targets = desk.target(record)
    desk.act(ActKind.fix, sync="leads", targets=targets, values=b'{"phone": "2"}')
    desk.act(ActKind.release, sync="leads", targets=targets)
    return desk, record


def released(before: dict[str, Any]) -> tuple[Desk, ParkedRecord]:
    desk, record = stuck()
    desk.seen(before).written(desk.row)
    return desk, record


def undo(desk: Desk, record: ParkedRecord) -> Desk:
    target = Target(parked_id="", person=desk.who, row_id=record.row_id)
    desk.act(ActKind.undo, sync="leads", targets=[target])
    return desk


STOOD = {"Phone": "+1 (by sales)", "Company": "acme", "Email": "ann@x.io"}


def test_before_a_release_what_stands_there_is_read() -> None:
    desk, record = stuck()
    assert desk.out == []
    [look] = desk.looks
    assert (look.rows[0].object_id, look.rows[0].row_id) == ("00Q1", record.row_id)
    assert {"Phone", "Company"} <= set(look.fields)
    desk.seen(STOOD)
    assert desk.sent["Phone"] == "2"


def test_what_stood_there_is_put_back_and_stays_until_the_source_says_something_new() -> None:
    desk, record = released(STOOD)
    undo(desk, record)
    assert desk.out == [], "it is read once more"
    desk.seen({"Phone": "2", "Company": "initech"})
    assert desk.sent == {"Phone": "+1 (by sales)", "Company": "acme", "Email": "ann@x.io"}
    desk.written(desk.row)
    desk.event({"lastname": "new"}, 300, thin=True)
    assert desk.sent == {"LastName": "NEW", "Email": "ann@x.io"}
    desk.written(desk.row)
    desk.event({"phone": "3"}, 400, thin=True)
    assert desk.sent == {"Phone": "3", "Email": "ann@x.io"}


def test_a_field_that_was_changed_since_is_left_as_it_is() -> None:
    desk, record = released(STOOD)
    undo(desk, record).seen({"Phone": "by marketing", "Company": "initech"})
    assert desk.sent == {"Company": "acme", "Email": "ann@x.io"}
    assert [n.field for n in desk.notes if n.reason.startswith("changed since")] == ["Phone"]


def test_where_all_was_changed_since_nothing_is_sent() -> None:
    desk, record = released(STOOD)
    undo(desk, record).seen({"Phone": "x", "Company": "y"})
    assert desk.out == []
    assert desk.last() == ("stale", "changed_since", "Company,Phone")


def test_where_the_object_is_gone_nothing_is_sent() -> None:
    desk, record = released(STOOD)
    undo(desk, record).seen(None, "absent")
    assert (desk.out, desk.last()[:2]) == ([], ("stale", "absent"))


def test_undone_twice_is_undone_once_and_what_was_not_read_cannot_be() -> None:
    desk, record = released(STOOD)
    undo(desk, record).seen({"Phone": "2", "Company": "initech"}).written(desk.row)
    undo(desk, record)
    assert (desk.looks, desk.out) == ([], [])
    desk, record = stuck()
    desk.seen(None, "cannot_be_read").written(desk.row)
    undo(desk, record)
    assert (desk.looks, desk.out) == ([], [])


def test_what_was_released_at_a_destination_that_was_replaced_since_cannot_be_undone() -> None:
    desk, record = released(STOOD)
    desk.act(ActKind.sync_pause, sync="leads")
    desk.event({"lastname": "new"}, 300, thin=True)
    desk.act(ActKind.forget, sync="leads", values=b'{"target": "sales:Lead"}')
    desk.act(ActKind.sync_resume, sync="leads")
    desk.written(desk.row)
    undo(desk, record)
    assert (desk.looks, desk.out) == ([], [])


def test_a_look_into_an_account_that_closes_waits_by_name() -> None:
    desk, _ = stuck()
    [look] = desk.looks
    desk.outcome(OutcomeKind.returned, look.rows[0], words="closed", until_ms=20_000)  # type: ignore[arg-type]
    assert desk.last()[0] == "waiting"
    desk.event({"lastname": "new"}, 30_000, thin=True)
    assert len(desk.looks) == 1


def test_a_release_of_something_that_is_not_there_yet_needs_no_look() -> None:
    desk = Desk()
    desk.event(ANN, 100)
    desk.outcome(OutcomeKind.parked, desk.row, code="BAD", field="Phone", words="no")
    [record] = [p for p in desk.parked.values() if p]
    desk.act(ActKind.release, sync="leads", targets=desk.target(record))
    assert (desk.looks, len(desk.out)) == ([], 1)


def test_what_joined_the_row_after_it_was_read_is_not_blanked() -> None:
    """They say no elsewhere while the row is looked up: the row carries that, and nobody has read
    what stood there. Later they say yes again, and the release is taken back."""
    known = catalog("leads", "leads2")
    kinds = {"unsubscribed": {"OptOut": True}}
    known.syncs = {**known.syncs, ("leads", 1): SYNCS["leads"].model_copy(update={"kinds": kinds})}
    desk, record = stuck(Desk(catalog_=known))
    [look] = desk.looks
    desk.event({}, 300, kind=EventKind.unsubscribed, source="hub2", number=9, thin=True)
    desk.outcome(OutcomeKind.seen, look.rows[0], seen=json.dumps(STOOD).encode())  # type: ignore[arg-type]
    assert desk.sent["OptOut"] is True
    desk.written(desk.row)
    desk.event({}, 400, kind=EventKind.subscribed, source="hub2", number=9, thin=True)
    undo(desk, record).seen({"Phone": "2", "Company": "initech", "OptOut": True})
    assert desk.sent == {"Phone": "+1 (by sales)", "Company": "acme", "Email": "ann@x.io"}


def test_an_answer_that_comes_twice_changes_nothing() -> None:
    desk, _ = stuck()
    [look] = desk.looks
    desk.seen(STOOD)
    desk.outcome(OutcomeKind.seen, look.rows[0], seen=b"{}")  # type: ignore[arg-type]
    assert desk.out == []
    assert desk.person.destinations["sales:Lead"].out is not None


def test_an_undoing_that_was_refused_can_be_released() -> None:
    """It has no object of its own: what the person's objects say counts again."""
    desk, record = released(STOOD)
    undo(desk, record).seen({"Phone": "2", "Company": "initech"})
    desk.outcome(OutcomeKind.parked, desk.row, code="BAD", field="Phone", words="no")
    [parked] = [p for p in desk.parked.values() if p]
    desk.act(ActKind.release, sync="leads", targets=desk.target(parked))
    assert "released" in [note.code for note in desk.notes]

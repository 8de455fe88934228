"""A run that shows what it would do: every record ends with a code that says it, nothing is sent,
and the real run after it finds everything as if there had been none."""

import json
from typing import Any

from schemas import ids
from schemas.commands import LookUp
from schemas.control import ActKind
from schemas.events import Origin
from schemas.outcomes import OutcomeKind
from tests.unit import steps_kit
from tests.unit.steps_kit import ANN
from tests.unit.test_steps_runs import Desk as Runs

RUN = ids.run_id("leads", "20260101")


class Desk(steps_kit.Desk):
    def __init__(self, *syncs: str, **options: Any) -> None:
        super().__init__(*syncs)
        values = json.dumps({"preview": True, **options}).encode()
        self.act(ActKind.run_start, sync="leads", run=RUN, values=values)

    def fetched(self, values: dict[str, Any], at_ms: int = 100, **more: Any) -> "Desk":
        self.event(values, at_ms, run=RUN, origin=Origin.fetch, record_no=1, **more)
        return self

    def seen(self, values: dict[str, Any] | None, code: str = "") -> "Desk":
        [look] = [s.message for s in self.sends if isinstance(s.message, LookUp)]
        [row] = look.rows
        assert (look.field, row.value, look.run) == ("Email", "ann@x.io", RUN)
        seen = None if values is None else json.dumps(values).encode()
        self.outcome(OutcomeKind.seen, row, seen=seen, code=code)  # type: ignore[arg-type]
        return self

    def last(self) -> tuple[str, str, str]:
        assert self.out == []
        assert self.parked == {}
        note = self.notes[-1]
        return note.standing.value, note.code, note.field


def test_who_is_not_there_would_be_made() -> None:
    desk = Desk().fetched(ANN)
    assert desk.last() == ("held", "looking", "")
    assert desk.seen(None, "absent").last() == ("filtered", "would_create", "")


def test_who_is_there_would_be_updated_in_what_differs() -> None:
    stands = {"Email": "ANN@x.io", "LastName": "LEE", "Phone": 1, "Company": "other"}
    desk = Desk().fetched(ANN).seen(stands)
    assert desk.last() == ("filtered", "would_update", "Company,Email")
    same = {"Email": "ann@x.io", "LastName": "LEE", "Phone": 1, "Company": "acme"}
    assert Desk().fetched(ANN).seen(same).last() == ("unchanged", "equal", "")


def test_what_would_be_refused_is_told_without_being_parked() -> None:
    assert Desk().fetched({**ANN, "email": ""}).last() == ("filtered", "would_refuse", "Email")
    desk = Desk().fetched(ANN).seen(None, "ambiguous_match")
    assert desk.last() == ("filtered", "would_refuse", "Email")
    assert desk.notes[-1].reason == "ambiguous_match"


def test_what_the_filter_leaves_out_is_left_out() -> None:
    assert Desk().fetched({**ANN, "optin": "no"}).last() == ("filtered", "filter", "")


def test_where_we_have_written_before_nobody_is_asked() -> None:
    desk = Desk()
    desk.event(ANN, 50)
    desk.written(desk.row)
    assert desk.fetched({**ANN, "phone": "2"}).last() == ("filtered", "would_update", "Phone")
    assert Desk().fetched(ANN).last()[1] == "looking"


def test_what_is_older_than_what_another_object_says_would_be_stale() -> None:
    desk = Desk("leads", "leads2")
    desk.event({**ANN, "phone": "9"}, 300, source="hub2")
    desk.written(desk.row)
    assert desk.fetched(ANN).last() == ("stale", "older", "Phone")
    there = desk.person.destinations["sales:Lead"]
    assert (there.written.values["Phone"], there.written.time("Phone") >> 10) == ("9", 300)


def test_a_run_that_sends_what_is_equal_too_says_so() -> None:
    desk = Desk(force=True)
    desk.event(ANN, 50)
    desk.written(desk.row)
    assert desk.fetched(ANN).last() == ("filtered", "would_update", "Company,Email,LastName,Phone")


def test_a_preview_makes_nothing_newer_that_stands_there() -> None:
    desk = Desk()
    desk.event(ANN, 50)
    desk.written(desk.row)
    before = desk.person.destinations
    assert desk.fetched(ANN, 500).last() == ("unchanged", "equal", "")
    assert desk.person.destinations == before


def test_a_closed_account_cannot_tell() -> None:
    desk = Desk().fetched(ANN)
    [look] = [s.message for s in desk.sends if isinstance(s.message, LookUp)]
    desk.outcome(OutcomeKind.returned, look.rows[0], words="closed by eve")  # type: ignore[arg-type]
    assert desk.last() == ("filtered", "cannot_tell", "")


def test_afterwards_everything_is_as_if_there_had_been_none() -> None:
    desk = Desk().fetched(ANN).seen(None, "absent")
    assert desk.person.destinations == {}
    assert desk.person.previews == {}
    desk.event(ANN, 100, run=ids.run_id("leads", "20260102"), origin=Origin.fetch, record_no=0)
    assert desk.sent["Email"] == "ann@x.io"


def test_live_changes_go_out_while_a_preview_runs() -> None:
    desk = Desk().fetched(ANN)
    desk.event({**ANN, "phone": "2"}, 200)
    assert desk.sent["Phone"] == "2"


def test_no_more_is_fetched_than_was_asked_for() -> None:
    desk = Runs(fetch_max=5).started()
    desk.page(3)
    assert not desk.run.last
    desk.page(3)
    assert desk.run.last
    assert desk.fetches == []

"""An object is read only when something is unknown or in doubt, and never twice at a time."""

import pytest

from schemas.commands import ReadObjects
from schemas.events import EventKind, Origin, ResolvedRecord
from schemas.ids import run_id
from streams.steps.catalog import Catalog
from streams.steps.reading import WAITING_MAX
from streams.steps.rows import Values
from streams.steps.values import DOUBT_MS, patch
from tests.simulation.definitions import LEAD, MAPPINGS, catalog, mapped
from tests.unit.steps_kit import ANN, Desk, event


def reads(desk: Desk) -> list[ReadObjects]:
    return [s.message for s in desk.sends if isinstance(s.message, ReadObjects)]


def test_a_thin_event_of_an_object_never_seen_whole_waits_for_it() -> None:
    desk = Desk("leads", "news").event({"phone": "2"}, 100, thin=True)
    [read] = reads(desk)
    assert (read.object_ids, read.account, "email" in read.fields) == (["1"], "p1", True)
    assert [(n.standing, n.code) for n in desk.notes] == [("held", "unknown_field")] * 2
    desk.event({"phone": "3"}, 120, thin=True)
    assert (reads(desk), desk.out) == ([], [])
    desk.event({**ANN, "phone": "3"}, 120, origin=Origin.read)
    assert len(desk.out) == 2
    assert {n.was for n in desk.notes} == {"held"}
    assert sorted(desk.told) == ["out", "out", "waiting", "waiting"]
    assert desk.person.sources["hub:contact:1"].waiting == []


def test_a_whole_event_completes_it_and_the_answer_then_changes_nothing() -> None:
    desk = Desk().event({"phone": "2"}, 100, thin=True).event({**ANN, "phone": "2"}, 150)
    assert [n.standing.value for n in desk.notes] == ["out", "waiting"]
    assert desk.sent["Phone"] == "2"
    desk.event({**ANN, "phone": "2"}, 150, origin=Origin.read)
    assert (desk.notes, desk.person.sources["hub:contact:1"].reading) == ([], 0)


def test_who_asks_for_less_lets_nobody_go_who_waits_for_more() -> None:
    """Whether they have opted in is not known yet, and a list of another sync does not need it."""
    desk = Desk("leads", "vips").event({"email": "a@x.io", "lastname": "lee"}, 100, thin=True)
    assert [(n.standing, n.code) for n in desk.notes if n.code != "not_member"] == [
        ("held", "unknown_field")
    ]
    run = run_id("vips", "1")
    desk.event({}, 110, thin=True, kind=EventKind.joined, run=run, origin=Origin.fetch)
    assert (desk.told, desk.out) == (["held"], [])
    desk.event({**ANN, "email": "a@x.io"}, 120, origin=Origin.read)
    assert len(desk.out) == 2


def test_an_object_that_is_gone_keeps_nobody_waiting() -> None:
    desk = Desk("news").event({"phone": "2", "email": "a@x.io"}, 100, thin=True)
    desk.event({}, 150, thin=True, kind=EventKind.deleted, origin=Origin.read)
    assert desk.sent == {"email_address": "a@x.io", "PHONE": "2"}


@pytest.mark.parametrize("first", ["2", "3"])
def test_two_values_of_one_millisecond_are_settled_by_reading(first: str) -> None:
    desk = Desk().event(ANN, 100)
    desk.written(desk.row).event({"phone": first}, 200, thin=True).written(desk.row)
    second = {"2": "3", "3": "2"}[first]
    desk.event({"phone": second}, 200, thin=True)
    assert [(n.code, n.field) for n in desk.notes] == [("in_doubt", "phone")]
    assert len(reads(desk)) == 1
    desk.event({**ANN, "phone": first}, 200, origin=Origin.read)
    assert (desk.told, desk.out) == (["unchanged"], []), "the first it was, and so it stays"


def test_a_doubt_that_came_up_while_a_read_was_under_way_is_read_for_once_more() -> None:
    desk = Desk().event({"phone": "1"}, 100, thin=True)
    desk.event({"phone": "2"}, 100, thin=True)
    assert reads(desk) == []
    desk.event({**ANN, "phone": "1"}, 100, origin=Origin.read)
    assert (len(reads(desk)), desk.out) == (1, []), "it may have been read before the second change"
    desk.event({**ANN, "phone": "2"}, 100, origin=Origin.read, received_ms=101)
    assert desk.sent["Phone"] == "2"


def test_a_guessed_time_is_no_order_if_it_is_near() -> None:
    known = Values()
    doubts: list[str] = []
    more = {"whole": False, "doubts": doubts}
    patch(known, {"a": 1}, ["a"], 100_000, certain=False, **more)
    patch(known, {"a": 2}, ["a"], 100_000 - DOUBT_MS, certain=True, **more)
    assert (known.values, doubts) == ({"a": 1}, ["a"])
    patch(known, {"a": 3}, ["a"], 100_001 + DOUBT_MS, certain=True, **more)
    assert (known.values, doubts) == ({"a": 3}, []), "this is surely the newest"
    patch(known, {"a": "3"}, ["a"], 100_001 + DOUBT_MS, certain=True, **more)
    assert doubts == [], "the same, written in another way"


def test_what_is_said_again_later_is_in_doubt_no_more() -> None:
    """Else the answer to the question, older by then, would overrule it."""
    known = Values()
    doubts: list[str] = []
    more = {"whole": False, "doubts": doubts}
    patch(known, {"a": 1}, ["a"], 100, certain=True, **more)
    patch(known, {"a": 2}, ["a"], 100, certain=True, **more)
    assert doubts == ["a"]
    patch(known, {"a": 2}, ["a"], 300, certain=True, **more)
    assert (known.values, doubts) == ({"a": 2}, [])


def test_a_new_mapping_reads_what_the_old_one_did_not_look_at() -> None:
    """What the snapshot does not hold was never looked at: it is not empty."""
    desk = Desk().event(ANN, 100)
    desk.written(desk.row)
    wider = mapped("leads@2#b", "Email", {**LEAD, "Title": ("jobtitle", str)}, "optin", "Email")
    old = desk.catalog
    desk.catalog = Catalog(
        connections=old.connections, syncs=old.syncs, active=old.active, flows=old.flows,
        compiled=lambda name, *_: wider if name == "leads" else MAPPINGS.get(name),
    )  # fmt: skip
    desk.event({"phone": "2"}, 200, thin=True)
    assert (desk.out, len(reads(desk))) == ([], 1)
    desk.event({**ANN, "phone": "2", "jobtitle": "CEO"}, 200, origin=Origin.read)
    assert (desk.sent["Title"], desk.sent["Phone"]) == ("CEO", "2")


def test_more_than_a_hundred_waiting_events_are_parked_not_lost() -> None:
    records = [
        ResolvedRecord(person=Desk().who, event=event({"phone": str(n)}, n, thin=True))
        for n in range(1, WAITING_MAX + 2)
    ]
    desk = Desk().take(*records)
    assert desk.told == ["held"] * WAITING_MAX + ["parked"]
    assert len(reads(desk)) == 1


def test_what_cannot_be_read_is_decided_with_what_is_known() -> None:
    there = catalog("news")
    there.flows = {}
    desk = Desk(catalog_=there).event({"email": "a@x.io", "phone": "2"}, 100, thin=True)
    assert desk.sent == {"email_address": "a@x.io", "PHONE": "2"}

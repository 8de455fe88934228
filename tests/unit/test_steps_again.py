"""Events parked before they were decided are let in again, or given up: once, in their order."""

import pytest

from schemas import ids
from schemas.control import ActKind, Again
from schemas.events import EventKind, Origin, PlatformEvent, ResolvedRecord
from schemas.journal import JournalEntry, JournalKind
from streams.steps.admit import WAITING_MAX
from streams.steps.links import Links
from streams.steps.outputs import Send
from streams.steps.people import People
from tests.simulation.definitions import catalog
from tests.unit.steps_kit import ANN, Desk, Rows, event

RUN = ids.run_id("leads", "20260101")


def again(e: PlatformEvent, kind: ActKind = ActKind.release, act_id: str = "a1", **more) -> Again:
    return Again(**{
        "act_id": act_id, "kind": kind, "parked_id": e.event_id, "who": "eve", "why": "mended",
        "when_ms": 9_000, "event": e, **more,
    })  # fmt: skip


def notes(sends: list[Send]) -> list[tuple[str, str, str, str]]:
    entries = [s.message for s in sends if isinstance(s.message, JournalEntry)]
    return [
        (n.was, n.standing.value, n.code, n.by) for entry in entries for n in entry.rows
    ]  # fmt: skip


def confirmed(sends: list[Send]) -> list[int]:
    return [
        s.message.records
        for s in sends
        if isinstance(s.message, JournalEntry) and s.message.kind is JournalKind.confirmed
    ]


class Admit:
    """One partition of source objects; each call is a chunk."""

    def __init__(self) -> None:
        self.rows = Rows()

    def take(self, *messages: PlatformEvent | Again) -> list[Send]:
        links = Links(self.rows, catalog("leads"))
        for message in messages:
            e = message.event if isinstance(message, Again) else message
            links.take(e.object_key, message)
        return links.close()

    def park(self, e: PlatformEvent) -> list[Send]:
        links = Links(self.rows, catalog("leads"))
        links.park(e.object_key, e, ZeroDivisionError())
        return links.close()


def resolved(sends: list[Send]) -> list[str]:
    return [s.message.event.event_id for s in sends if isinstance(s.message, ResolvedRecord)]


def test_an_event_parked_at_admit_is_let_in_once() -> None:
    desk = Admit()
    e = event({"phone": "1"}, 100, kind=EventKind.deleted)
    assert [n[1] for n in notes(desk.park(e))] == ["parked"]
    sends = desk.take(again(e))
    assert resolved(sends) == [e.event_id]
    assert notes(sends) == [("parked", "in_transit", "released", "eve")]
    assert [s.message for s in sends if s.topic == "parked"] == [None]
    assert confirmed(sends) == [1]
    for later in (again(e), again(e, act_id="a2"), again(e, ActKind.discard, "a3")):
        sends = desk.take(later)
        assert (resolved(sends), notes(sends), confirmed(sends)) == ([], [], [0])
    assert notes(desk.take(e)) == [("", "duplicate", "duplicate", "")]


def test_an_event_parked_at_admit_is_given_up_with_who_and_why() -> None:
    desk = Admit()
    e = event(ANN, 100)
    desk.park(e)
    sends = desk.take(again(e, ActKind.discard))
    assert (resolved(sends), notes(sends)) == ([], [("parked", "discarded", "discarded", "eve")])
    assert [s.key for s in sends if s.topic == "parked"] == [e.event_id]


def test_what_was_parked_because_too_much_waits_goes_on_when_there_is_room() -> None:
    desk = Admit()
    thin = [event({"phone": f"{n}"}, 100 + n, thin=True) for n in range(WAITING_MAX + 1)]
    sends = desk.take(*thin)
    assert [n[1] for n in notes(sends)] == ["parked"]
    sends = desk.take(again(thin[-1]))
    assert (notes(sends), confirmed(sends)) == ([], [0])
    assert [s for s in sends if s.topic == "parked"] == [], "it stays parked"
    whole = event({}, 999, kind=EventKind.created, origin=Origin.read)
    assert len(resolved(desk.take(whole))) == WAITING_MAX + 1
    assert resolved(desk.take(again(thin[-1]))) == [thin[-1].event_id]


def shaped(desk: Desk, e: PlatformEvent) -> Desk:
    """The step has thrown for the event."""
    people = People(desk.rows, desk.catalog, 0)
    people.park(desk.who, ResolvedRecord(person=desk.who, event=e), ZeroDivisionError())
    desk.sends = people.close()
    return desk


def test_an_event_parked_undecided_is_decided_for_its_sync_alone() -> None:
    e = event(ANN, 100)
    desk = shaped(Desk("leads", "news"), e)
    assert desk.told == ["parked", "parked"]
    row = ids.row_id(e.event_id, "leads")
    desk.take(again(e, sync="leads", parked_id=row))
    assert [b.sync for b in desk.uploads] == ["leads"]
    assert desk.uploads[0].priority == "released"
    assert notes(desk.sends)[:2] == [
        ("parked", "waiting", "released", "eve"), ("waiting", "out", "", ""),
    ]  # fmt: skip
    assert desk.parked == {row: None}
    assert desk.row.row_id == row
    desk.take(again(e, sync="leads", parked_id=row, act_id="a2"))
    assert (desk.out, desk.told, confirmed(desk.sends)) == ([], [], [0])
    other = ids.row_id(e.event_id, "news")
    assert desk.take(again(e, sync="news", parked_id=other)).row.row_id == other


def test_a_late_release_overwrites_nothing_newer() -> None:
    e = event(ANN, 100)
    desk = shaped(Desk(), e).event({**ANN, "phone": "2"}, 200)
    desk.written(desk.row)
    desk.take(again(e, sync="leads", parked_id=ids.row_id(e.event_id, "leads")))
    assert desk.told == ["waiting", "stale"]


def test_what_was_undecided_is_given_up_without_any_other_trace() -> None:
    e = event(ANN, 100)
    row = ids.row_id(e.event_id, "leads")
    desk = shaped(Desk(), e).take(again(e, ActKind.discard, sync="leads", parked_id=row))
    assert notes(desk.sends) == [("parked", "discarded", "discarded", "eve")]
    assert desk.parked == {row: None}
    assert desk.take(again(e, sync="leads", parked_id=row, act_id="a2")).out == []


@pytest.mark.parametrize("run", [ids.run_id("nobody", "1")])
def test_a_record_whose_sync_is_not_defined_stays_parked(run: str) -> None:
    e = event(ANN, 100, run=run, record_no=0, origin=Origin.fetch)
    desk = Desk().take(ResolvedRecord(person=Desk().who, event=e))
    [row] = desk.parked
    desk.take(again(e, sync="nobody", parked_id=row))
    assert (desk.told, desk.parked, confirmed(desk.sends)) == ([], {}, [0])

"""Who has unsubscribed stays so, whatever the mapping says and whichever way the row comes."""

import json

import pytest

from schemas import ids
from schemas.commands import LookUp, Recall
from schemas.control import ActKind
from schemas.events import EventKind, Origin
from schemas.outcomes import OutcomeKind
from streams.steps.catalog import Catalog
from streams.steps.rows import Joins, Member, pack
from streams.steps.values import stamp_at
from tests.simulation.definitions import CONNECTIONS, LEAD, SYNCS, catalog, mapped
from tests.unit.steps_kit import ANN, Desk

KINDS = {
    "unsubscribed": {"Status": "unsubscribed"}, "bounced": {"Status": "cleaned"},
    "subscribed": {"Status": "subscribed"}, "deleted": {"Archived": True},
}  # fmt: skip
MAPPING = mapped(
    "leads@1#a", "Email", {**LEAD, "Status": ("optin", lambda _: "subscribed")}, "", "Email"
)


def desk() -> Desk:
    base = catalog("leads")
    there = Catalog(
        connections=CONNECTIONS, active=base.active, flows=base.flows,
        syncs={("leads", 1): SYNCS["leads"].model_copy(update={"kinds": KINDS})},
        compiled=lambda *_: MAPPING,
    )  # fmt: skip
    return Desk(catalog_=there)


def started() -> Desk:
    first = desk().event(ANN, 100)
    return first.written(first.row)


def unsubscribed(there: Desk, at_ms: int = 200) -> Desk:
    return there.event({}, at_ms, thin=True, kind=EventKind.unsubscribed)


def test_an_unsubscribe_sets_what_the_sync_says() -> None:
    there = unsubscribed(started())
    assert there.sent == {"Status": "unsubscribed", "Email": "ann@x.io"}
    assert there.told == ["out"]


def test_no_newer_row_subscribes_again_live_or_from_a_run() -> None:
    there = unsubscribed(started())
    there.written(there.row).event({**ANN, "phone": "2"}, 900)
    assert there.sent == {"Phone": "2", "Email": "ann@x.io"}
    run = ids.run_id("leads", "1")
    there.written(there.row).event({**ANN, "phone": "3"}, 950, run=run, origin=Origin.fetch)
    assert "subscribed" not in json.loads(there.row.fields).values()
    again = there.written(there.row).event({**ANN, "phone": "4"}, 990, origin=Origin.replay)
    assert "subscribed" not in json.loads(again.row.fields).values()


def test_who_was_unsubscribed_before_the_first_row_is_made_so() -> None:
    there = desk().event({**ANN}, 100, kind=EventKind.unsubscribed)
    assert there.sent["Status"] == "unsubscribed"


def test_only_a_later_subscription_lifts_it() -> None:
    there = unsubscribed(started())
    there.written(there.row).event({}, 150, thin=True, kind=EventKind.subscribed)
    assert there.out == []
    there.event({}, 300, thin=True, kind=EventKind.subscribed)
    assert there.sent["Status"] == "subscribed"
    assert unsubscribed(there.written(there.row), 250).out == [], "an older no"


def test_it_overtakes_what_is_out_and_does_not_wait_behind_what_was_refused() -> None:
    there = started().event({"phone": "2"}, 150, thin=True)
    row = there.row
    recalls = [s.message for s in unsubscribed(there).sends if isinstance(s.message, Recall)]
    assert [r.row_ids for r in recalls] == [[row.row_id]]
    there.outcome(OutcomeKind.parked, row, code="BAD", field="Phone")
    assert there.sent == {"Status": "unsubscribed", "Email": "ann@x.io"}
    there.written(there.row)
    assert there.person.destinations["sales:Lead"].syncs["leads"].owed is not None


def test_a_release_does_not_subscribe_again() -> None:
    there = started().event({"phone": "bad"}, 150, thin=True)
    there.outcome(OutcomeKind.parked, there.row, code="BAD", field="Phone")
    [parked] = there.parked.values()
    assert parked is not None
    unsubscribed(there)
    there.written(there.row).act(ActKind.release, targets=there.target(parked), sync="leads")
    [row] = [r for s in there.sends if isinstance(s.message, LookUp) for r in s.message.rows]
    there.outcome(OutcomeKind.seen, row, seen=b"{}")  # type: ignore[arg-type]
    assert json.loads(there.row.fields).get("Status") in (None, "unsubscribed")
    assert there.sent["Phone"] == "bad"


def test_it_does_not_wait_for_a_read() -> None:
    there = started()
    there.event({"phone": "2"}, 150, thin=True)
    there.written(there.row).event({"phone": "3"}, 150, thin=True)
    assert there.told == ["held"]
    assert unsubscribed(there).sent["Status"] == "unsubscribed"


@pytest.mark.parametrize(("known", "told"), [(True, "out"), (False, "filtered")])
def test_a_deletion_sets_what_the_sync_says_if_there_is_something(known: bool, told: str) -> None:
    there = started() if known else desk()
    there.event({}, 200, thin=True, kind=EventKind.deleted)
    assert there.told == [told]
    if known:
        assert there.sent == {"Archived": True, "Email": "ann@x.io"}


def test_a_row_that_waited_says_no_too_when_somebody_said_no_meanwhile() -> None:
    """Nothing stands there yet, and the mapping leaves the person out by now: no row of its own
    goes out for the word, and yet the one that waited must not subscribe anybody."""
    desk = Desk(catalog_=catalog("letters"))
    desk.act(ActKind.sync_pause, sync="letters").event(ANN, 100)
    desk.event({"email": None}, 150, thin=True)
    desk.event({}, 200, kind=EventKind.unsubscribed, thin=True)
    desk.act(ActKind.sync_resume, sync="letters")
    assert desk.sent["STATUS"] == "unsubscribed"


def test_the_last_yes_counts_though_a_no_of_who_was_joined_stands_there_as_newer() -> None:
    """A no is laid over rows that are newer than itself, and takes their time."""
    there = unsubscribed(started())
    there.written(there.row).account(open=False)
    there.event({}, 300, thin=True, kind=EventKind.subscribed)
    person = there.person
    stands = person.destinations["sales:Lead"].written
    stands.times["Status"] = stamp_at(900, "hub:contact:2")
    person.joins = Joins(members={"other": Member(there.who, "join")})
    there.rows[there.who] = pack(person)
    there.account(open=True)
    assert there.sent["Status"] == "subscribed"


def lost(kind: OutcomeKind = OutcomeKind.unknown) -> Desk:
    """Their first row was sent and never answered; by now their address is emptied."""
    desk = Desk(catalog_=catalog("letters")).event(ANN, 100)
    desk.outcome(kind, desk.row, connection="mail", object_type="subscriber", sync="letters")
    [parked] = [record for record in desk.parked.values() if record]
    desk.event({"email": None}, 150, thin=True)
    return desk.act(ActKind.release, targets=desk.target(parked), sync="letters")


def test_a_no_goes_to_the_address_that_a_row_without_an_answer_was_sent_to() -> None:
    desk = lost()
    assert desk.told == ["waiting", "filtered"]
    desk.event({}, 200, kind=EventKind.unsubscribed, thin=True)
    assert desk.sent == {"STATUS": "unsubscribed", "email_address": "ann@x.io"}


def test_a_no_to_somebody_who_never_was_there_goes_nowhere() -> None:
    desk = lost(OutcomeKind.parked).event({}, 200, kind=EventKind.unsubscribed, thin=True)
    assert (desk.out, desk.told) == ([], ["filtered"])


def test_a_no_that_was_refused_goes_out_again_when_it_is_released() -> None:
    """Whatever the mapping gives by then: who said so is not left subscribed."""
    mail = {"connection": "mail", "object_type": "subscriber", "sync": "letters"}
    desk = Desk(catalog_=catalog("letters")).event(ANN, 100)
    desk.outcome(OutcomeKind.written, desk.row, object_id="1", **mail)
    desk.event({"email": None}, 150, thin=True)
    desk.event({}, 200, kind=EventKind.unsubscribed, thin=True)
    desk.outcome(OutcomeKind.unknown, desk.row, **mail)
    [parked] = [record for record in desk.parked.values() if record]
    desk.act(ActKind.release, targets=desk.target(parked), sync="letters")
    [row] = [r for s in desk.sends if isinstance(s.message, LookUp) for r in s.message.rows]
    desk.outcome(OutcomeKind.seen, row, seen=b"{}", **mail)
    assert (desk.row.object_id, desk.sent["STATUS"]) == ("1", "unsubscribed")

"""The order of decisions, one row out, and what a refusal does to later changes, by example."""

import json

import pytest

from schemas import ids
from schemas.commands import Priority, Recall
from schemas.control import ActKind, Tick
from schemas.events import EventKind, Origin, ResolvedRecord
from schemas.identity import LinkClaim
from schemas.outcomes import OutcomeKind, RecordOutcome
from streams.steps.catalog import Catalog
from streams.steps.outputs import BATCH_ROWS_MAX
from streams.steps.people import DRAIN_MAX, People
from tests.simulation.definitions import CONNECTIONS, MAPPINGS, SYNCS, catalog, sync
from tests.unit.steps_kit import ANN, Desk, Rows, event

RUN = ids.run_id("leads", "20260101")


def refused(desk: Desk, code: str = "BAD_PHONE", field: str = "Phone") -> Desk:
    return desk.outcome(
        OutcomeKind.parked, desk.row, code=code, field=field, words="Phone bad is refused"
    )


# ---- stale, filtered, mapped, validated, unchanged, next


def test_a_new_person_goes_out_whole_and_a_change_goes_out_alone() -> None:
    desk = Desk().event(ANN, 100)
    assert desk.sent == {"Email": "ann@x.io", "LastName": "LEE", "Phone": "1", "Company": "acme"}
    assert (desk.row.object_id, desk.uploads[0].priority) == ("", Priority.live)
    desk.written(desk.row).event({"phone": "2"}, 200, thin=True)
    assert desk.sent == {"Phone": "2", "Email": "ann@x.io"}  # the key goes with every row
    assert desk.row.object_id == "00Q1"
    assert desk.row.occurred_ms == 200


def test_an_older_event_is_stale_and_a_late_one_changes_only_what_is_older() -> None:
    desk = Desk().event(ANN, 100)
    desk.written(desk.row).event({"phone": "2"}, 300, thin=True).written(desk.row)
    assert desk.event({"phone": "9"}, 200, thin=True).told == ["stale"]
    desk.event({"phone": "9", "company": "initech"}, 250, thin=True)
    assert desk.sent == {"Company": "initech", "Email": "ann@x.io"}


def test_a_change_that_came_with_another_syncs_run_still_reaches_this_sync() -> None:
    """The run's page has told the snapshot; its webhook is stale there, but not for this sync."""
    desk = Desk("leads", "news").event(ANN, 100)
    for batch in desk.uploads:
        desk.outcome(
            OutcomeKind.written, batch.rows[0], connection=batch.connection,
            object_type=batch.object_type, sync=batch.sync,
        )  # fmt: skip
    run = ids.run_id("news", "1")
    desk.event({**ANN, "phone": "2"}, 300, run=run, origin=Origin.fetch, record_no=0)
    assert [b.sync for b in desk.uploads] == ["news"]
    desk.event({"phone": "2"}, 200, thin=True)
    assert [b.sync for b in desk.uploads] == ["leads"]
    assert json.loads(desk.row.fields)["Phone"] == "2"
    assert sorted(desk.told) == ["out", "stale"]


def test_a_time_in_the_future_counts_as_receipt() -> None:
    desk = Desk().event(ANN, 10_000_000, received_ms=100)
    desk.written(desk.row).event({"phone": "2"}, 100_000, thin=True)
    assert desk.sent["Phone"] == "2"
    source = desk.person.sources["hub:contact:1"]
    assert source.known.uncertain == ["*"]


def test_what_the_filter_leaves_out_is_not_sent_and_has_its_reason() -> None:
    desk = Desk().event({**ANN, "optin": "no"}, 100)
    assert (desk.told, desk.out) == (["filtered"], [])
    assert desk.notes[0].reason
    assert desk.event({"optin": "yes"}, 200, thin=True).sent["LastName"] == "LEE"


def test_our_own_refusal_parks_for_that_sync_only_and_names_the_field() -> None:
    desk = Desk("leads", "visits").event({**ANN, "email": None, "page": "/a"}, 100)
    assert sorted(desk.told) == ["out", "parked"]
    record = desk.parked["leads:hub:contact:1"]
    assert record is not None
    assert (record.stage, record.field, record.code) == ("validate", "Email", "required")
    assert json.loads(record.source)["lastname"] == "lee"
    desk.event({"email": "ann@x.io"}, 200, thin=True)
    assert "superseded" in desk.told
    assert desk.parked == {"leads:hub:contact:1": None}
    assert "leads" in [b.sync for b in desk.uploads]


def test_words_in_the_journal_hold_no_values() -> None:
    desk = refused(Desk().event({**ANN, "phone": "555-1234"}, 100), field="Phone")
    desk.event({**ANN, "phone": "555-9999"}, 200).outcome(
        OutcomeKind.parked, desk.row, code="X", field="Phone", words="555-9999 of lee is bad"
    )
    note = desk.notes[0]
    assert note.reason == "<phone> of <lastname> is bad"
    record = desk.parked[f"leads:{desk.who}"]
    assert record is not None
    assert record.words == "555-9999 of lee is bad"
    assert record.attempts == 2


def test_equal_values_are_unchanged_and_need_no_row() -> None:
    desk = Desk().event(ANN, 100)
    desk.written(desk.row).event(ANN, 200)
    assert (desk.told, desk.out) == (["unchanged"], [])


def test_unchanged_compares_with_what_was_written_not_with_what_is_out() -> None:
    desk = Desk().event(ANN, 100)
    first = desk.row
    desk.written(first).event({"phone": "2"}, 200, thin=True)
    second = desk.row
    desk.event({"phone": "1"}, 300, thin=True)
    assert desk.told == ["waiting"]
    desk.written(second)
    assert desk.sent["Phone"] == "1"


@pytest.mark.parametrize("kind", [EventKind.deleted, EventKind.associated])
def test_kinds_that_are_not_followed_yet_have_a_fate(kind: EventKind) -> None:
    desk = Desk().event({}, 100, kind=kind, thin=True)
    assert (desk.told, desk.notes[0].code) == (["filtered"], f"kind_{kind.value}")


def test_what_we_read_ourselves_completes_and_is_no_record() -> None:
    desk = Desk().event(ANN, 100, origin=Origin.read)
    assert (desk.told, desk.out) == ([], [])
    assert desk.event({"phone": "2"}, 200, thin=True).sent["LastName"] == "LEE"


def test_an_event_that_no_sync_wants_leaves_no_row() -> None:
    desk = Desk().take(ResolvedRecord(person="x", event=event({}, 1, source="other")), key="x")
    assert "x" not in desk.rows
    assert desk.sends == []


# ---- one row out


def test_meanwhile_changes_fold_into_next_and_supersede_each_other() -> None:
    desk = Desk().event(ANN, 100)
    first = desk.row
    desk.event({"phone": "2"}, 200, thin=True)
    assert (desk.out, desk.told) == ([], ["waiting"])
    desk.event({"company": "initech"}, 300, thin=True)
    assert (desk.out, desk.told) == ([], ["superseded", "waiting"])
    assert desk.notes[0].by == desk.notes[1].row_id
    desk.written(first)
    assert desk.sent == {"Phone": "2", "Company": "initech", "Email": "ann@x.io"}
    assert desk.told == ["written", "out"]


def test_an_outcome_of_another_row_changes_nothing() -> None:
    desk = Desk().event(ANN, 100)
    before = dict(desk.rows)
    desk.take(Tick(now_ms=9_000))
    stray = desk.out or [Desk().event(ANN, 1).row]
    desk.outcome(OutcomeKind.parked, stray[0], code="X")
    assert desk.rows[desk.who] == before[desk.who]
    assert desk.told == []


def test_a_live_change_recalls_the_bulk_row_that_is_out_and_stays_live() -> None:
    desk = Desk().event(ANN, 100, run=RUN, origin=Origin.fetch, record_no=0)
    bulk = desk.row
    assert desk.uploads[0].priority is Priority.bulk
    desk.event({"phone": "2"}, 200, thin=True)
    [recall] = [s.message for s in desk.sends if isinstance(s.message, Recall)]
    assert recall.row_ids == [bulk.row_id]
    desk.outcome(OutcomeKind.returned, bulk, code="recalled", run=RUN)
    assert desk.told == ["waiting", "superseded", "out"]
    assert desk.uploads[0].priority is Priority.live
    assert desk.sent["Phone"] == "2"


def test_a_bulk_row_never_carries_a_live_one() -> None:
    """Else cancelling the run would take the live change with it."""
    desk = Desk().account(open=False).event(ANN, 100)
    desk.event({**ANN, "phone": "2"}, 200, run=RUN, origin=Origin.fetch, record_no=0)
    assert desk.told == ["superseded"]
    assert desk.notes[0].record_no == 0
    desk.act(ActKind.run_cancel, run=RUN).account(open=True)
    assert desk.sent["Phone"] == "2"


def test_two_objects_of_one_person_do_not_write_each_other_over() -> None:
    """Contacts 1 and 2 are one person; their values are ordered by source time, also when late."""
    desk = Desk().event({**ANN, "company": "old"}, 100)
    desk.written(desk.row).event({**ANN, "company": "new", "phone": "2"}, 300, number=2)
    assert desk.sent == {"Company": "new", "Phone": "2", "Email": "ann@x.io"}
    desk.written(desk.row).event({"phone": "9"}, 200, thin=True)
    assert (desk.out, desk.told) == ([], ["stale"])


def test_two_objects_that_changed_in_the_same_millisecond_settle_on_one() -> None:
    desk = Desk().event({**ANN, "company": "a"}, 100)
    desk.written(desk.row).event({**ANN, "company": "b"}, 100, number=2)
    flips = len(desk.out)
    for row in desk.out:
        desk.written(row)
    for n, values in enumerate([{"company": "a"}, {"company": "b"}] * 3):
        desk.event(values, 100, number=1 + n % 2, thin=True)
        flips += len(desk.out)
    assert flips <= 1


# ---- outcomes


@pytest.mark.parametrize("kind", [OutcomeKind.written, OutcomeKind.unchanged, OutcomeKind.accepted])
def test_what_stands_there_is_remembered(kind: OutcomeKind) -> None:
    desk = Desk().event(ANN, 100)
    desk.outcome(kind, desk.row, object_id="00Q1")
    assert desk.told == [kind.value]
    there = desk.person.destinations["sales:Lead"]
    assert (there.object_id, there.written.values["Phone"], there.out) == ("00Q1", "1", None)


@pytest.mark.parametrize("kind", [OutcomeKind.unknown, OutcomeKind.returned])
def test_after_no_answer_nothing_is_taken_for_written(kind: OutcomeKind) -> None:
    """The platform may hold 2 now: going back to 1 is a change, though 1 was written last."""
    desk = Desk().event(ANN, 100)
    desk.written(desk.row).event({"phone": "2"}, 200, thin=True)
    desk.outcome(kind, desk.row, until_ms=99_000)
    assert desk.event({"phone": "1"}, 300, thin=True).sent["Phone"] == "1"


def test_an_unknown_outcome_is_parked_with_words() -> None:
    desk = Desk().event(ANN, 100)
    desk.outcome(OutcomeKind.unknown, desk.row)
    record = desk.parked[f"leads:{desk.who}"]
    assert record is not None
    assert (record.code, "no answer" in record.words) == ("unknown", True)


def test_a_returned_row_waits_and_goes_when_its_time_has_come() -> None:
    desk = Desk().event(ANN, 100)
    desk.outcome(OutcomeKind.returned, desk.row, code="daily_limit", until_ms=20_000)
    assert (desk.told, desk.out) == (["waiting"], [])
    assert desk.take(Tick(now_ms=19_999)).out == []
    assert desk.take(Tick(now_ms=20_000)).sent["Phone"] == "1"
    assert desk.told == ["out"]
    assert desk.index.lanes == {}


def test_our_own_object_is_claimed_only_where_somebody_reads_from_there() -> None:
    desk = Desk().event(ANN, 100)
    assert not [s for s in desk.written(desk.row).sends if isinstance(s.message, LinkClaim)]
    back = sync("back", "sales", "hub", "contact").model_copy(update={"source_object": "Lead"})
    both = Catalog(
        connections=CONNECTIONS, syncs={("leads", 1): SYNCS["leads"], ("back", 1): back},
        active={"sync:leads": 1, "sync:back": 1, "mapping:leads": 1, "mapping:back": 1},
        compiled=lambda name, *_: MAPPINGS["leads"],
    )  # fmt: skip
    desk = Desk(catalog_=both).event(ANN, 100)
    [claim] = [s for s in desk.written(desk.row).sends if isinstance(s.message, LinkClaim)]
    assert claim.key == "sales:Lead:00Q1"
    assert claim.message == LinkClaim(object_key="sales:Lead:00Q1", person=desk.who)


# ---- accounts, lanes


def test_nothing_goes_to_a_closed_account_and_others_are_not_held_up() -> None:
    desk = Desk("leads", "news").account(open=False).event(ANN, 100)
    assert [b.sync for b in desk.uploads] == ["news"]
    note = next(n for n in desk.notes if n.standing == "waiting")
    assert (note.code, note.reason) == ("account_closed", "unpaid")
    assert [b.sync for b in desk.account(open=True).uploads] == ["leads"]


def test_an_opened_account_is_drained_live_first_and_in_bounded_steps() -> None:
    desk = Desk().account(open=False)
    people = People(desk.rows, desk.catalog, 0)
    many = DRAIN_MAX + 50
    for n in range(many):
        told = event(ANN, 100, number=n, run=RUN, record_no=n)
        people.take(f"{n:x}", ResolvedRecord(person=f"{n:x}", event=told))
    people.take("x", ResolvedRecord(person="x", event=event(ANN, 100, number=9_999)))
    people.close()
    assert desk.index.lanes.keys() == {"salesforce/o1|leads|", f"salesforce/o1|leads|{RUN}"}
    desk.account(open=True)
    assert len(desk.out) == DRAIN_MAX
    assert desk.uploads[0].priority is Priority.live
    assert len(desk.take(Tick(now_ms=6_000)).out) == many + 1 - DRAIN_MAX
    assert (desk.index.lanes, [k for k in desk.rows if k.startswith("!lane")]) == ({}, [])


def test_an_account_that_closes_again_keeps_what_has_not_gone() -> None:
    desk = Desk().account(open=False).event(ANN, 100).account(open=False, at_ms=6_000)
    assert desk.take(Tick(now_ms=90_000)).out == []
    assert len(desk.account(open=True, at_ms=91_000).out) == 1


# ---- policies


def test_merge_tries_again_when_what_was_refused_has_changed() -> None:
    desk = refused(Desk().event({**ANN, "phone": "bad"}, 100))
    desk.event({"company": "initech"}, 200, thin=True)
    assert (desk.out, desk.told) == ([], ["superseded", "parked"])
    [record] = desk.parked.values()
    assert record is not None
    assert json.loads(record.fields)["Company"] == "initech"
    desk.event({"phone": "2"}, 300, thin=True)
    assert (desk.sent["Phone"], desk.sent["Company"]) == ("2", "initech")
    assert desk.parked == {f"leads:{desk.who}": None}


def test_hold_waits_for_a_person_even_when_the_value_has_changed() -> None:
    desk = Desk("leads2")
    desk.take(ResolvedRecord(person=desk.who, event=event(ANN, 100, source="hub2")))
    desk.outcome(OutcomeKind.parked, desk.row, sync="leads2", code="X", field="Phone")
    changed = event({**ANN, "phone": "2"}, 200, source="hub2")
    desk.take(ResolvedRecord(person=desk.who, event=changed))
    assert (desk.out, desk.told) == ([], ["superseded", "parked"])
    [record] = desk.parked.values()
    assert record is not None
    assert desk.act(ActKind.release, sync="leads2", targets=desk.target(record)).sent["Phone"] == (
        "2"
    )


def test_pass_goes_on_without_the_refused_field() -> None:
    mail = {"connection": "mail", "object_type": "member", "sync": "news"}
    desk = Desk("news").event({**ANN, "phone": "bad"}, 100)
    desk.outcome(OutcomeKind.parked, desk.row, code="X", field="PHONE", **mail)
    desk.event({"lastname": "kim"}, 200, thin=True)
    assert desk.sent == {"email_address": "ann@x.io", "LNAME": "kim"}
    desk.outcome(OutcomeKind.written, desk.row, **mail)
    assert desk.told == ["written"]
    desk.event({"phone": "3"}, 300, thin=True)
    assert desk.sent["PHONE"] == "3"
    assert desk.parked == {f"news:{desk.who}": None}


# ---- facts


def test_facts_go_out_each_for_itself_and_wait_for_nothing_of_each_other() -> None:
    desk = Desk("visits").event({"page": "/a"}, 100, thin=True)
    first = desk.row
    desk.event({"page": "/b"}, 90, thin=True)
    assert desk.told == ["out"]  # older, and no less true
    mail = {"connection": "mail", "object_type": "visit", "sync": "visits"}
    desk.outcome(OutcomeKind.parked, first, code="X", **mail)
    [parked_id] = desk.parked
    assert parked_id == first.row_id
    record = desk.parked[parked_id]
    assert record is not None
    desk.act(ActKind.release, sync="visits", targets=desk.target(record))
    assert desk.row.row_id == first.row_id
    desk.outcome(OutcomeKind.written, first, **mail)
    assert desk.told == ["written"]


# ---- what travels


def test_a_chunk_becomes_few_messages() -> None:
    rows = Rows()
    people = People(rows, Desk("leads", "news").catalog, 0)
    count = BATCH_ROWS_MAX + 20
    for n in range(count):
        told = event(ANN, 100, number=n)
        people.take(f"{n:x}", ResolvedRecord(person=f"{n:x}", event=told))
    kinds = [(s.topic, type(s.message).__name__) for s in people.close()]
    assert kinds.count(("commands.salesforce", "UploadBatch")) == 2
    assert kinds.count(("commands.mailchimp", "UploadBatch")) == 2
    assert kinds.count(("journal", "JournalEntry")) == 2
    assert len(kinds) == 6


def test_a_step_that_throws_parks_its_record_and_nothing_else() -> None:
    desk = Desk()
    people = People(desk.rows, desk.catalog, 0)
    good = ResolvedRecord(person="aa", event=event(ANN, 100))
    bad = ResolvedRecord(person="bb", event=event(ANN, 100, number=2))
    bad = bad.model_copy(update={"event": bad.event.model_copy(update={"values": b"not json"})})
    people.take("aa", good)
    with pytest.raises(ValueError, match="JSON"):
        people.take("bb", bad)
    people.park("bb", bad, ValueError("with personal data"))
    desk.sends = people.close()
    assert sorted(desk.told) == ["out", "parked"]
    [record] = desk.parked.values()
    assert record is not None
    assert (record.stage, record.code, record.source) == ("shape", "bug", b"not json")
    assert "personal" not in record.words
    assert "bb" not in desk.rows


def test_a_person_takes_few_bytes() -> None:
    """A contact with 5 fields at two destinations, settled: what a million persons cost."""
    desk = Desk("leads", "news").event(ANN, 1_700_000_000_000)
    for batch in desk.uploads:
        desk.outcome(
            OutcomeKind.written, batch.rows[0], connection=batch.connection,
            object_type=batch.object_type, sync=batch.sync, object_id="00Q1000000000001",
        )  # fmt: skip
    assert len(desk.rows[desk.who]) <= 400


def test_an_account_that_we_take_for_open_is_not_hammered() -> None:
    """Somebody opened it here by hand; the worker, whose account is closed, gives rows back."""
    desk = Desk().event(ANN, 100)
    for at_ms in (10_000, 15_000, 20_000):
        desk.outcome(OutcomeKind.returned, desk.row, words="account halted: unpaid", at_ms=at_ms)
        assert desk.out == []
        assert desk.take(Tick(now_ms=at_ms + 4_999)).out == []
        assert len(desk.take(Tick(now_ms=at_ms + 5_000)).out) == 1


def test_who_waits_until_later_does_not_hold_up_who_waits_behind() -> None:
    """60 persons given back until midnight, one until soon, all in one lane."""
    desk = Desk()
    people = People(desk.rows, desk.catalog, 0)
    for n in range(61):
        told = event(ANN, 100, number=n)
        people.take(f"p{n}", ResolvedRecord(person=f"p{n}", event=told))
    desk.sends = people.close()
    until_ms = {row.person: 86_400_000 for row in desk.out} | {"p60": 12_000}
    for row in desk.out:
        desk.take(
            RecordOutcome(
                row_id=row.row_id, person=row.person, connection="sales", object_type="Lead",
                sync="leads", kind=OutcomeKind.returned, until_ms=until_ms[row.person],
                at_ms=10_000,
            ),
            key=row.person,
        )  # fmt: skip
    went = [row.person for n in range(4) for row in desk.take(Tick(now_ms=12_000 + n)).out]
    assert went == ["p60"]
    [lane] = desk.index.lanes.values()
    assert lane.waiting == 60


def test_a_field_has_the_source_that_rules_it() -> None:
    desk = Desk(catalog_=catalog("leads", "leads2", ruling={"Phone": "hub"})).event(ANN, 100)
    desk.written(desk.row).event({**ANN, "phone": "9", "lastname": "New"}, 900, source="hub2")
    assert "LastName" in desk.sent
    assert "Phone" not in desk.sent
    desk.written(desk.row).event({"phone": "3", "lastname": "Old"}, 300, thin=True)
    assert desk.sent["Phone"] == "3"
    assert "LastName" not in desk.sent


def test_all_but_one_field_may_be_ruled() -> None:
    rules = {"*": "hub", "Phone": "hub2"}
    desk = Desk(catalog_=catalog("leads", "leads2", ruling=rules)).event(ANN, 100)
    desk.written(desk.row).event({**ANN, "phone": "9", "lastname": "New"}, 50, source="hub2")
    assert desk.sent["Phone"] == "9"
    assert "LastName" not in desk.sent
    desk.written(desk.row).event({"phone": "3", "lastname": "Later"}, 300, thin=True)
    assert desk.sent["LastName"] == "LATER"
    assert "Phone" not in desk.sent


def test_a_version_that_is_no_longer_active_rules_nothing() -> None:
    told = catalog("leads", "leads2", ruling="hub")
    told.syncs["leads", 2] = told.syncs["leads", 1].model_copy(update={"ruling": ""})
    told.active["sync:leads"] = 2
    desk = Desk(catalog_=told).event(ANN, 100)
    desk.written(desk.row).event({**ANN, "phone": "9"}, 900, source="hub2")
    assert desk.sent["Phone"] == "9"


def test_the_source_that_rules_is_above_whatever_is_newer() -> None:
    desk = Desk(catalog_=catalog("leads", "leads2", ruling="hub")).event(ANN, 100)
    assert desk.row.occurred_ms == 100
    desk.written(desk.row).event({**ANN, "phone": "9"}, 900, source="hub2")
    assert (desk.out, desk.told, desk.notes[0].code) == ([], ["stale"], "older")
    assert "Phone" in desk.notes[0].field
    desk.event({"phone": "3"}, 300, thin=True)
    assert desk.sent["Phone"] == "3"

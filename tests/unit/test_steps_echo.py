"""What comes back of our own writes, what does not, and what stands at the other side."""

import json
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as replace_own

from schemas.commands import ReadObjects, UploadBatch
from schemas.control import ActKind, Tick
from schemas.events import EventKind, Origin, PlatformEvent, ResolvedRecord
from schemas.identity import AddressAsked, Join
from schemas.outcomes import OutcomeKind, RecordOutcome
from schemas.topics import ASKED
from streams.steps.catalog import Catalog, Flow
from streams.steps.echo import EXPIRES_MS, ROUNDS_MAX
from streams.steps.rows import pack
from tests.simulation.twoway import CONNECTIONS, KINDS, MAPPINGS, SYNCS
from tests.unit.steps_kit import Desk, event

ANN = {"email": "ann@x.io", "lastname": "lee", "phone": "1", "company": "acme"}
LEAD = {"Email": "ann@x.io", "LastName": "LEE", "Phone": "1", "Company": "acme"}


def two_way() -> Desk:
    there = Catalog(
        connections=CONNECTIONS, syncs={(n, 1): SYNCS[n] for n in ("leads", "back")},
        active={f"{kind}:{n}": 1 for n in ("leads", "back") for kind in ("sync", "mapping")},
        compiled=lambda name, *_: MAPPINGS.get(name),
        flows={f"{c}:{kind}": Flow() for c, kind in KINDS.items()},
    )  # fmt: skip
    return Desk(catalog_=there)


def hub(desk: Desk, values: dict[str, Any], at_ms: int, **more: Any) -> Desk:
    return desk.event(values, at_ms, **more)


def sales(desk: Desk, values: dict[str, Any], at_ms: int, **more: Any) -> Desk:
    told: PlatformEvent = event(values, at_ms, source="sales", number=7).model_copy(
        update={"platform": "salesforce", "object_type": "Lead", **more}
    )
    return desk.take(ResolvedRecord(person=desk.who, event=told))


def done(
    desk: Desk, kind: OutcomeKind = OutcomeKind.written, batches: list[UploadBatch] | None = None,
    **more: Any,
) -> Desk:  # fmt: skip
    """What is out gets its fate."""
    messages = [
        RecordOutcome(
            row_id=row.row_id, person=row.person, connection=batch.connection,
            object_type=batch.object_type, sync=batch.sync, kind=kind, at_ms=1_000,
            object_id={"sales": "7", "hub": "1"}[batch.connection], **more,
        )
        for batch in batches or desk.uploads for row in batch.rows
    ]  # fmt: skip
    return desk.take(*messages)


def started() -> Desk:
    return done(hub(two_way(), ANN, 1_000))


def test_our_own_write_is_no_news_for_the_sync_that_leads_back() -> None:
    desk = sales(started(), LEAD, 2_000)
    assert (desk.told, desk.out) == (["echo"], [])
    assert desk.notes[0].code == "own_write"
    assert desk.index.echoes == {"back|echo": 1}
    desk = sales(desk, {"LastName": "LI"}, 3_000, thin=True)
    assert (desk.sent, desk.row.object_id) == ({"lastname": "LI"}, "1")


def test_it_is_remembered_from_the_moment_it_goes_out() -> None:
    assert sales(hub(two_way(), ANN, 1_000), LEAD, 1_500).told == ["echo"]


def test_what_was_refused_never_comes_back() -> None:
    desk = hub(started(), {"phone": "2"}, 3_000, thin=True)
    sent = desk.person.destinations["sales:Lead"].sent
    assert [own.text for own in sent["Phone"]] == ["1", "2"]
    done(desk, OutcomeKind.parked, code="BAD", field="Phone")
    sent = desk.person.destinations["sales:Lead"].sent
    assert [own.text for own in sent["Phone"]] == ["1"]


def test_an_echo_is_as_old_as_the_change_that_it_came_from() -> None:
    """It arrives after the source has changed again: it must not beat that change."""
    desk = started()
    hub(desk, {"company": "initech"}, 2_500, thin=True)
    sales(desk, LEAD, 3_000)
    sales(desk, {"Phone": "9"}, 4_000, thin=True)
    assert desk.sent == {"phone": "9"}


def test_a_value_that_the_platform_writes_in_its_own_way_goes_through_but_is_no_newer() -> None:
    desk = hub(started(), {"phone": "+49 30-1"}, 2_000, thin=True)
    sales(done(desk), {**LEAD, "Phone": "(+49) 301"}, 3_000)
    assert desk.sent["phone"] == "(+49) 301"
    assert desk.index.echoes["leads|echo_near_miss"] == 1
    desk = hub(started(), {"phone": "+49 30-1"}, 2_000, thin=True)
    hub(done(desk), {"phone": "5"}, 2_500, thin=True)
    sales(desk, {**LEAD, "Phone": "(+49) 301"}, 3_000)
    assert [row for row in desk.out if "phone" in json.loads(row.fields)] == []


def test_an_echo_that_comes_after_a_day_is_counted_as_such() -> None:
    late_ms = 2_000 + EXPIRES_MS
    desk = sales(started(), LEAD, 2_000, received_ms=late_ms)
    assert desk.index.echoes["leads|echo_expired"] >= 1


def test_the_same_value_set_by_hand_is_a_change_once_our_own_has_come_back() -> None:
    desk = sales(started(), LEAD, 2_000)
    done(sales(desk, {"Phone": "2"}, 3_000, thin=True))
    assert sales(desk, {"Phone": "1"}, 4_000, thin=True).sent["phone"] == "1"


def test_our_own_write_that_a_read_has_told_already_is_no_news_after_the_next_one() -> None:
    """The webhook of the first write comes after the second was written: nobody took it back."""
    desk = done(hub(started(), {"company": "initech"}, 1_500, thin=True))
    sales(desk, LEAD, 2_001, origin=Origin.read)
    sales(desk, {"Company": "acme"}, 2_001, thin=True)
    assert desk.out == []
    sales(desk, {"Company": "acme"}, 3_001, thin=True)
    assert desk.sent == {"company": "acme"}, "somebody took it back"


def test_a_save_from_before_our_write_tells_the_old_value_and_takes_nothing_back() -> None:
    """Some platforms tell all fields with each save, so also those that we have written since."""
    desk = sales(started(), LEAD, 2_000)
    desk.take(Tick(now_ms=9_500))
    done(hub(desk, {"company": "initech"}, 3_000, thin=True))
    sales(desk, {**LEAD, "Phone": "9"}, 8_000, thin=True)
    assert desk.sent == {"phone": "9"}
    done(desk)
    sales(desk, {**LEAD, "Phone": "9"}, 9_900, thin=True)
    assert desk.sent == {"company": "acme"}, "somebody took it back"


def test_a_change_at_the_destination_stands_there_and_an_older_one_does_not_beat_it() -> None:
    desk = sales(started(), {**LEAD, "Phone": "5"}, 3_000)
    done(desk)
    assert hub(desk, {"phone": "4"}, 2_900, thin=True).out == []
    desk = sales(started(), {**LEAD, "Phone": "5"}, 3_000)
    done(desk)
    assert hub(desk, {"phone": "1"}, 3_500, thin=True).sent["Phone"] == "1", "it is not unchanged"


def test_a_row_names_its_object_where_nothing_else_does_though_the_name_came_from_there() -> None:
    base = two_way().catalog
    flows = {**base.flows, "hub:contact": Flow(identity="email")}
    desk = Desk(catalog_=replace(base, flows=flows))
    done(hub(desk, ANN, 1_000))
    sales(desk, LEAD, 3_000)
    sales(desk, {"Phone": "9"}, 4_000, thin=True)
    assert desk.sent == {"phone": "9", "email": "ann@x.io"}


def test_an_address_that_was_mended_is_the_persons_before_it_stands_there() -> None:
    """Else the webhook of the object that we make asks first whose it is, and is a stranger."""
    desk = hub(two_way(), ANN, 1_000)
    assert not [s for s in desk.sends if s.topic == ASKED], "the contact shows it itself"
    desk = hub(two_way(), {**ANN, "email": "ann@x"}, 1_000)
    [record] = done(desk, OutcomeKind.parked, code="BAD", field="Email").parked.values()
    assert record is not None
    mend = {"sync": "leads", "targets": desk.target(record)}
    desk.act(ActKind.fix, **mend, values=b'{"email": "ann@x.io"}').act(ActKind.release, **mend)
    [asked] = [s.message for s in desk.sends if s.topic == ASKED]
    assert isinstance(asked, AddressAsked)
    assert (asked.proposed, asked.object_key) == (desk.who, "hub:contact:1")
    lead = event({"Email": "ann@x.io"}, 2_000, source="sales").model_copy(
        update={"object_type": "Lead"}
    )
    assert asked.identity == desk.catalog.identity(lead)


def test_an_object_that_is_known_there_is_taken_and_not_looked_for() -> None:
    desk = sales(two_way(), LEAD, 1_000)
    assert desk.row.object_id == ""
    desk = hub(desk, {**ANN, "phone": "2"}, 2_000)
    [row] = [r for b in desk.uploads for r in b.rows if b.connection == "sales"]
    assert (row.object_id, json.loads(row.fields)["Phone"]) == ("7", "2")


def test_a_mark_that_a_person_did_it_is_believed() -> None:
    desk = done(sales(two_way(), LEAD, 1_000))
    told = {"payload": b'{"changeSource":"CRM_UI"}'}
    hub(desk, {**ANN, "lastname": "LEE"}, 2_000, **told)
    assert "echo" not in desk.told


def test_what_goes_round_too_often_is_stopped_with_the_names_of_the_syncs() -> None:
    desk = started()
    parked = []
    for turn in range(ROUNDS_MAX + 2):
        at_ms = 10_000 + 100 * turn
        hub(desk, {"phone": f"h{turn}"}, at_ms, thin=True)
        done(desk)
        sales(desk, {**LEAD, "Phone": f"s{turn}"}, at_ms + 50)
        parked += [p for p in desk.parked.values() if p is not None]
        done(desk)
    assert {p.code for p in parked} == {"goes_round"}
    assert "back" in parked[0].words
    assert "leads" in parked[0].words


def test_the_loser_of_a_conflict_is_in_the_journal_with_its_field() -> None:
    desk = done(sales(started(), {**LEAD, "Phone": "5"}, 3_000))
    assert hub(desk, {"phone": "4"}, 2_900, thin=True).notes[-1].field == "Phone"
    hub(desk, {"phone": "3", "company": "initech"}, 2_950, thin=True)
    assert desk.sent == {"Company": "initech", "Email": "ann@x.io"}
    [note] = [n for n in desk.notes if n.standing.value == "out"]
    assert (note.code, note.field) == ("older_left_out", "Phone")


def test_another_object_of_the_person_there_tells_again_what_is_old_by_now() -> None:
    """A whole object has the time of its last change, whichever field that was."""
    twin = {**LEAD, "LastName": "OLD"}
    desk = done(sales(started(), twin, 1_100, object_id="8"))
    desk = done(hub(desk, {"lastname": "new"}, 2_000, thin=True))
    sent = sales(desk, {**twin, "Company": "initech"}, 3_000, object_id="8").sent
    assert (sent["company"], "lastname" in sent) == ("initech", False)


def test_what_we_wrote_to_an_object_that_a_join_brought_is_an_echo_of_that_one_only() -> None:
    desk = started()
    person = desk.person
    there = person.destinations["sales:Lead"]
    there.also = ["8"]
    there.sent["Company"] = [replace_own(there.sent["Company"][0], text="initech", other="8")]
    told = {**LEAD, "Company": "initech"}
    desk.rows[desk.who] = pack(person)
    assert sales(desk, told, 2_000).sent["company"] == "initech"
    desk.rows[desk.who] = pack(person)
    rows = sales(desk, told, 2_000, object_id="8").out
    assert not [row for row in rows if "company" in json.loads(row.fields)]


def test_a_contact_that_was_merged_is_written_as_the_one_that_is_left() -> None:
    """Until its person has joined this one: else the contact is made once more."""
    desk = done(hub(two_way(), ANN, 1_000))
    join = Join(
        join_id="j", person=desk.who, into="f" * 32, automatic=True, gone="hub:contact:1",
        became="hub:contact:2", gone_ms=1_500,
    )  # fmt: skip
    desk.take(join)
    assert sales(desk, {**LEAD, "Phone": "9"}, 2_000).row.object_id == "2"


def test_what_a_merge_has_left_is_newer_than_what_was_changed_before_it() -> None:
    """Though the contact has held it for long."""
    desk = hub(started(), ANN, 2_500)
    hub(desk, {}, 3_000, thin=True, kind=EventKind.merged, related=["hub:contact:2"])
    hub(desk, ANN, 3_000, origin=Origin.read)
    sales(desk, {**LEAD, "Company": "initech"}, 1_500)
    assert (desk.sent["Company"], desk.row.object_id) == ("acme", "7")


def test_a_value_is_as_old_as_its_change_also_before_anything_came_from_the_other_side() -> None:
    """A whole contact is told with the time of its last change, whichever field that was."""
    desk = done(hub(started(), {**ANN, "company": "initech"}, 5_000))
    sales(desk, {**LEAD, "Phone": "9"}, 3_000)
    assert desk.sent == {"phone": "9"}


def test_of_two_equal_writes_it_is_the_last_that_has_come_back() -> None:
    desk = done(hub(sales(started(), LEAD, 2_000), {"lastname": "li"}, 3_000, thin=True))
    done(sales(desk, {"LastName": "X"}, 3_500, thin=True))
    done(hub(desk, {"lastname": "li"}, 4_000, thin=True))
    assert sales(desk, {"LastName": "LI"}, 4_500, thin=True).out == []


def crossed() -> tuple[Desk, list[UploadBatch]]:
    """At a platform that tells nothing of what we write, somebody edits while a row is out."""
    base = two_way().catalog
    flows = {**base.flows, "sales:Lead": Flow(quiet=True)}
    desk = sales(done(hub(Desk(catalog_=replace(base, flows=flows)), ANN, 1_000)), LEAD, 2_000)
    out = hub(desk, {"phone": "2"}, 5_000, thin=True).uploads
    sales(desk, {"Phone": "9"}, 6_000, thin=True)
    return desk, out


def reads(desk: Desk) -> list[list[str]]:
    return [s.message.object_ids for s in desk.sends if isinstance(s.message, ReadObjects)]


def test_a_change_that_met_a_row_of_ours_waits_until_it_is_read_who_came_last() -> None:
    desk, out = crossed()
    assert ([(n.code, n.field) for n in desk.notes], reads(desk)) == ([("in_doubt", "Phone")], [])
    hub(desk, {"company": "initech"}, 6_500, thin=True)
    done(desk, batches=out)
    assert (reads(desk), desk.out) == ([["7"]], []), "nothing more goes out until then"
    sales(desk, {**LEAD, "Phone": "9"}, 6_000, origin=Origin.read)
    assert [json.loads(row.fields) for row in desk.out] == [
        {"phone": "9"}, {"Company": "initech", "Email": "ann@x.io"}
    ]  # fmt: skip


def test_a_change_that_we_have_written_over_gives_way_on_both_sides() -> None:
    desk, out = crossed()
    done(desk, batches=out)
    sales(desk, {**LEAD, "Phone": "2"}, 7_000, origin=Origin.read)
    assert (desk.told, desk.out) == (["waiting", "waiting", "unchanged", "echo"], [])
    assert sales(desk, {"Phone": "9"}, 8_000, thin=True).sent == {"phone": "9"}, "this one is clear"


def test_what_was_equal_there_is_sent_once_an_older_change_took_its_place() -> None:
    """Nothing had to be sent, as it stood there; the change was told later than it was made."""
    desk = sales(sales(started(), LEAD, 2_000), {"Phone": "3"}, 4_000, thin=True)
    done(desk, OutcomeKind.parked, code="BAD", field="phone")
    assert hub(desk, {"phone": "3"}, 9_000, thin=True).out == []
    sales(desk, {"Phone": "8"}, 7_000, thin=True)
    assert (desk.sent, desk.row.object_id) == ({"Phone": "3", "Email": "ann@x.io"}, "7")
    assert sales(done(desk), {"Phone": "3"}, 9_500, thin=True).out == []


def test_what_was_written_over_since_is_a_change_when_a_person_types_it() -> None:
    """Nobody told of either write; the whole object shows the later one."""
    desk = sales(started(), LEAD, 2_000)
    done(hub(desk, {"phone": "2"}, 3_000, thin=True))
    done(hub(desk, {"phone": "1"}, 4_000, thin=True))
    sales(desk, LEAD, 9_000)
    assert sales(desk, {"Phone": "2"}, 10_000, thin=True).sent == {"phone": "2"}

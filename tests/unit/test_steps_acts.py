"""What people press: fix, release, discard, pause, cancel, activate; twice is once."""

import json

import pytest

from schemas import ids
from schemas.control import Act, ActKind, Target, Tick
from schemas.events import Origin
from schemas.journal import JournalKind
from schemas.outcomes import OutcomeKind
from schemas.parked import Fix, ParkedRecord
from schemas.topics import FIXES
from streams.steps.catalog import Catalog
from streams.steps.people import People
from tests.simulation.definitions import CONNECTIONS, MAPPINGS, SYNCS
from tests.unit.steps_kit import ANN, Desk

RUN = ids.run_id("leads", "20260101")


def parked(desk: Desk) -> ParkedRecord:
    [record] = desk.parked.values()
    assert record is not None
    return record


def refused(values: dict[str, str] | None = None, **more: object) -> tuple[Desk, ParkedRecord]:
    desk = Desk().event({**ANN, "phone": "bad", **(values or {})}, 100, **more)
    desk.outcome(OutcomeKind.parked, desk.row, code="BAD", field="Phone", words="no")
    return desk, parked(desk)


def test_a_fix_is_remembered_and_a_release_sends_it_first() -> None:
    desk, record = refused(run=RUN, origin=Origin.fetch, record_no=7)
    targets = desk.target(record)
    desk.act(ActKind.fix, sync="leads", targets=targets, values=b'{"phone": "2"}')
    assert (desk.told, desk.notes[0].reason, desk.notes[0].by) == (["parked"], "fix: phone", "eve")
    desk.act(ActKind.release, sync="leads", targets=targets)
    assert desk.sent["Phone"] == "2"
    assert desk.uploads[0].priority == "released"
    assert desk.uploads[0].run == RUN, "it stays in its cohort"
    assert desk.row.row_id == record.row_id
    assert desk.parked == {record.parked_id: None}
    assert desk.told == ["waiting", "out"]


def test_a_fix_holds_as_long_as_the_source_says_the_same() -> None:
    desk, record = refused()
    fix = {"sync": "leads", "targets": desk.target(record), "values": b'{"phone": "2"}'}
    desk.act(ActKind.fix, **fix).act(ActKind.release, **fix)
    desk.written(desk.row)
    desk.event({"company": "initech"}, 200, thin=True)
    assert "Phone" not in desk.sent
    desk.written(desk.row).event({"phone": "3"}, 300, thin=True)
    assert desk.sent["Phone"] == "3"
    assert desk.person.sources["hub:contact:1"].fixes == {}


def test_a_fix_can_be_removed() -> None:
    desk, record = refused()
    fix = {"sync": "leads", "targets": desk.target(record), "values": b'{"phone": "2"}'}
    desk.act(ActKind.fix, **fix).act(ActKind.unfix, **fix).act(ActKind.release, **fix)
    assert desk.sent["Phone"] == "bad"


def test_a_release_sends_what_is_known_now_never_an_older_value() -> None:
    """Refused for its phone; the company changes while it is parked."""
    desk, record = refused()
    desk.event({"company": "initech"}, 200, thin=True)
    desk.act(ActKind.release, sync="leads", targets=desk.target(parked(desk)))
    assert desk.sent["Company"] == "initech"
    assert desk.row.row_id != record.row_id, "the later record carries the earlier one"


def test_a_discard_ends_the_record_and_says_who_and_why() -> None:
    desk, record = refused()
    desk.act(ActKind.discard, sync="leads", targets=desk.target(record))
    note = desk.notes[0]
    assert (note.standing, note.by, note.reason) == ("discarded", "eve", "asked")
    assert desk.parked == {record.parked_id: None}


@pytest.mark.parametrize("kind", [ActKind.release, ActKind.discard, ActKind.fix])
def test_an_act_done_twice_is_done_once(kind: ActKind) -> None:
    desk, record = refused()
    act = Act(
        act_id="a1", kind=kind, sync="leads", targets=desk.target(record), who="eve", when_ms=1,
        values=b'{"phone": "2"}',
    )  # fmt: skip
    desk.take(act)
    rows = dict(desk.rows)
    assert desk.take(act).told == []
    assert desk.rows == rows
    assert desk.sends == []


def test_an_act_about_another_row_by_now_does_nothing_and_says_so() -> None:
    desk, record = refused()
    old = desk.target(record)
    desk.event({"company": "initech"}, 200, thin=True)
    desk.act(ActKind.discard, sync="leads", targets=old)
    assert desk.told == []
    [entry] = [e for e in desk.journal if e.kind is JournalKind.confirmed]
    assert (entry.records, "not parked" in entry.why) == (0, True)


def test_what_our_own_checks_refused_can_be_fixed_and_released() -> None:
    desk = Desk().event({**ANN, "phone": "unmappable"}, 100)
    record = parked(desk)
    assert (record.parked_id, record.stage) == ("leads:hub:contact:1", "map")
    fix = {"sync": "leads", "targets": desk.target(record), "values": b'{"phone": "2"}'}
    assert desk.act(ActKind.fix, **fix).act(ActKind.release, **fix).sent["Phone"] == "2"


def test_a_paused_sync_keeps_its_rows_and_holds_up_nobody() -> None:
    desk = Desk("leads", "news").act(ActKind.sync_pause, sync="leads").event(ANN, 100)
    assert [b.sync for b in desk.uploads] == ["news"]
    assert [n.code for n in desk.notes if n.standing == "waiting"] == ["sync_paused"]
    assert desk.act(ActKind.sync_resume, sync="leads").sent["Phone"] == "1"


def test_a_paused_run_waits_and_a_live_change_does_not_wait_with_it() -> None:
    desk = Desk().act(ActKind.run_pause, run=RUN, sync="leads")
    desk.event(ANN, 100, run=RUN, record_no=0)
    assert [(n.standing, n.code) for n in desk.notes] == [("waiting", "run_paused")]
    desk.event({"phone": "2"}, 200, thin=True)
    assert desk.sent["Phone"] == "2"
    assert desk.act(ActKind.run_resume, run=RUN, sync="leads").out == []


def test_a_cancelled_run_drops_what_waits_and_what_still_comes() -> None:
    desk = Desk().account(open=False).event(ANN, 100, run=RUN, record_no=0)
    desk.act(ActKind.run_cancel, run=RUN, sync="leads")
    assert [(n.standing, n.by) for n in desk.notes] == [("cancelled", "eve")]
    desk.event({**ANN, "phone": "2"}, 200, run=RUN, record_no=1)
    assert desk.told == ["cancelled"]
    assert desk.account(open=True).out == []
    # what is known of the object is known all the same
    assert desk.event({"company": "initech"}, 300, thin=True).sent["Phone"] == "2"


def test_acts_for_all_are_confirmed_with_the_partition() -> None:
    desk = Desk().act(
        ActKind.run_start, run=RUN, sync="leads", values=b'{"pins": {"sync:leads": 1}}'
    )
    [entry] = desk.journal
    assert (entry.kind, entry.run, entry.partition) == ("confirmed", RUN, 0)
    assert desk.index.runs[RUN].pins == {"sync:leads": 1}


def test_an_account_can_be_opened_by_hand() -> None:
    desk = Desk().account(open=False).event(ANN, 100)
    assert desk.act(ActKind.account_open, account="o1").sent["Phone"] == "1"


def two_versions() -> Catalog:
    """Version 2 of the mapping sends the company only."""
    second = MAPPINGS["leads"]
    narrow = type(second)(
        "leads@2#b", "Email", {k: v for k, v in second.made.items() if k != "Phone"}, "optin",
        ("Email",), second.reads, second.inputs,
    )  # fmt: skip
    return Catalog(
        connections=CONNECTIONS, syncs={("leads", 1): SYNCS["leads"]},
        active={"sync:leads": 1, "mapping:leads": 1},
        compiled=lambda name, version, *_: {1: second, 2: narrow}.get(version),
    )  # fmt: skip


def test_a_record_is_decided_with_the_version_that_is_active_at_its_point_of_the_log() -> None:
    desk = Desk(catalog_=two_versions()).event(ANN, 100)
    assert "Phone" in desk.sent
    assert desk.journal[0].mapping == "leads@1#a"
    desk.act(ActKind.activate, definition="mapping:leads@2")
    desk.event({**ANN, "phone": "3", "company": "initech"}, 200, number=2)
    desk.written(Desk().event(ANN, 100).row)
    assert desk.journal[0].mapping == "leads@2#b"
    assert json.loads(desk.row.fields).keys() == {"Company", "Email"}


def test_a_run_keeps_the_versions_that_it_began_with() -> None:
    desk = Desk(catalog_=two_versions())
    desk.act(ActKind.run_start, run=RUN, sync="leads", values=b'{"pins": {"mapping:leads": 1}}')
    desk.act(ActKind.activate, definition="mapping:leads@2")
    assert "Phone" in desk.event(ANN, 100, run=RUN, record_no=0).sent


def test_what_a_run_had_refused_is_released_with_the_mapping_of_today() -> None:
    """A new version of the mapping mends a whole group, also where a bulk run brought it."""
    desk = Desk(catalog_=two_versions())
    desk.act(ActKind.run_start, run=RUN, sync="leads", values=b'{"pins": {"mapping:leads": 1}}')
    row = desk.event(ANN, 100, run=RUN, record_no=0).row
    record = parked(desk.outcome(OutcomeKind.parked, row, code="BAD", field="Phone"))
    desk.act(ActKind.activate, definition="mapping:leads@2")
    desk.act(ActKind.release, sync="leads", targets=desk.target(record))
    assert desk.sent.keys() == {"Company", "Email", "LastName"}


def test_an_act_that_concerns_nobody_here_is_a_bug() -> None:
    with pytest.raises(TypeError):
        People(Desk().rows, two_versions(), 0).take("x", parked(refused()[0]))


def test_a_person_at_whom_the_step_throws_holds_up_nobody_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two wait for a closed account; at the first of them a bug strikes when it opens."""
    desk = Desk().account(open=False).event(ANN, 100)
    first, desk.who = desk.who, ids.person_key("hub:contact:2")
    desk.event({**ANN, "email": "bo@x.io"}, 100, number=2)
    before = People._go_on

    def go_on(self: People, lane: str) -> bool:
        if self.work.key == first:
            raise ZeroDivisionError
        return before(self, lane)

    with monkeypatch.context() as patched:
        patched.setattr(People, "_go_on", go_on)
        assert [row.person for row in desk.account(open=True).out] == [desk.who]
    assert [row.person for row in desk.take(Tick(now_ms=10_000)).out] == [first]


# ---- closed by hand


def test_an_account_closed_by_hand_takes_nothing_whatever_its_worker_says() -> None:
    desk = Desk("leads", "news").act(ActKind.account_close, account="salesforce/o1", why="wrong")
    desk.event(ANN, 100)
    assert [b.sync for b in desk.uploads] == ["news"]
    [waits] = [n for n in desk.notes if n.standing == "waiting"]
    assert (waits.code, waits.reason) == ("closed_by_hand", "closed by eve: wrong")
    assert desk.account(open=True).out == [], "the worker opens it after a probe"
    assert desk.take(Tick(now_ms=60_000)).out == []
    assert desk.act(ActKind.account_open, account="salesforce/o1").sent["Phone"] == "1"
    assert desk.index.closed == {}


def test_an_account_may_be_named_by_its_id_alone() -> None:
    desk = Desk().act(ActKind.account_close, account="o1").event(ANN, 100)
    assert desk.out == []
    assert desk.act(ActKind.account_open, account="o1").sent["Phone"] == "1"


# ---- sent again, equal or not


def test_a_forced_run_sends_what_is_equal_and_another_does_not() -> None:
    desk = Desk().event(ANN, 100)
    desk.written(desk.row)
    again = {"number": 1, "run": RUN, "record_no": 0, "origin": Origin.fetch}
    assert desk.event(ANN, 200, **again).told == ["unchanged"]
    desk.act(ActKind.run_start, run=RUN, sync="leads", values=b'{"force": true}')
    assert desk.event({**ANN, "x": "1"}, 300, **again).sent["Phone"] == "1"
    assert desk.written(desk.row).told == ["written"]


def test_a_forced_run_never_overwrites_what_is_newer() -> None:
    desk = Desk().act(ActKind.run_start, run=RUN, sync="leads", values=b'{"force": true}')
    desk.event({**ANN, "phone": "2"}, 300)
    desk.written(desk.row)
    desk.event(ANN, 200, run=RUN, record_no=0, origin=Origin.fetch)
    assert desk.told == ["stale"]


def test_a_person_sent_again_is_a_record_of_its_own_for_each_sync() -> None:
    desk = Desk("leads", "news").event(ANN, 100)
    for row, batch in [(r, b) for b in desk.uploads for r in b.rows]:
        kind = {"connection": batch.connection, "object_type": batch.object_type}
        desk.outcome(OutcomeKind.written, row, sync=batch.sync, object_id="1", **kind)
    desk.act(ActKind.resend, act_id="a1", targets=[Target(parked_id="", person=desk.who)])
    assert {b.sync: b.priority for b in desk.uploads} == {"leads": "released", "news": "released"}
    assert [(n.standing, n.code, n.by) for n in desk.notes if n.code] == [
        ("waiting", "resent", "eve")
    ] * 2
    [entry] = [e for e in desk.journal if e.kind is JournalKind.confirmed]
    assert entry.records == 1
    rows = {n.row_id for n in desk.notes}
    assert len(rows) == 2
    assert rows == {r.row_id for r in desk.out}


def test_a_resend_can_be_for_one_sync_and_never_repeats_a_fact() -> None:
    desk = Desk("leads", "visits").event({**ANN, "page": "/"}, 100)
    targets = [Target(parked_id="", person=desk.who)]
    desk.act(ActKind.resend, sync="visits", targets=targets)
    assert desk.out == []
    desk.act(ActKind.resend, sync="leads", targets=targets)
    assert [(n.sync, m.code) for n in desk.journal for m in n.rows] == [
        ("leads", "resent"), ("leads", "behind"),
    ]  # fmt: skip


# ---- fixes are listed as long as they apply


def fixed() -> tuple[Desk, ParkedRecord, list[Fix | None]]:
    desk, record = refused()
    told = {"sync": "leads", "targets": desk.target(record), "values": b'{"phone": "2"}'}
    desk.act(ActKind.fix, **told)
    listed = fixes(desk)
    desk.act(ActKind.release, **told)
    desk.written(desk.row)
    return desk, record, listed


def fixes(desk: Desk) -> list[Fix | None]:
    return [s.message for s in desk.sends if s.topic == FIXES]  # type: ignore[misc]


def test_a_fix_is_listed_with_what_it_replaces_and_by_whom() -> None:
    desk, _, [fix] = fixed()
    assert fix is not None
    assert (fix.person, fix.source, fix.field) == (desk.who, "hub:contact:1", "phone")
    assert (fix.was, fix.value, fix.who, fix.why) == (b'"bad"', b'"2"', "eve", "asked")


def test_a_fix_that_the_source_has_overtaken_is_not_listed_any_more() -> None:
    desk, _, _ = fixed()
    assert fixes(desk.event({"company": "initech"}, 200, thin=True)) == []
    assert fixes(desk.event({"phone": "3"}, 300, thin=True)) == [None]


def test_a_fix_is_removed_by_its_object_long_after_the_record_was_settled() -> None:
    desk, _, _ = fixed()
    target = [Target(parked_id="hub:contact:1", person=desk.who)]
    desk.act(ActKind.unfix, targets=target, values=b'{"phone": null}')
    assert fixes(desk) == [None]
    assert desk.person.sources["hub:contact:1"].fixes == {}
    desk.act(ActKind.unfix, targets=target, values=b'{"phone": null}', act_id="again")
    assert [e.records for e in desk.journal] == [0]
    desk.act(ActKind.resend, targets=[Target(parked_id="", person=desk.who)])
    assert desk.sent["Phone"] == "bad"


def test_what_was_released_and_still_waits_says_what_for() -> None:
    desk, record = refused()
    desk.account(open=False).act(ActKind.release, sync="leads", targets=desk.target(record))
    assert desk.out == []
    assert [(n.was, n.standing, n.code, n.reason) for n in desk.notes] == [
        ("parked", "waiting", "released", "asked"),
        ("waiting", "waiting", "account_closed", "unpaid"),
    ]
    assert desk.take(Tick(now_ms=60_000)).told == [], "said once"
    assert desk.account(open=True).told == ["out"]


# ---- what stood at a destination that was replaced


def forget(desk: Desk, target: str = "sales:Lead") -> Desk:
    return desk.act(ActKind.forget, sync="leads", values=json.dumps({"target": target}).encode())


def test_what_was_forgotten_goes_out_whole_and_is_matched_anew() -> None:
    desk = Desk().event(ANN, 100)
    desk.written(desk.row).event(ANN, 150)
    assert desk.out == [], "it is equal"
    forget(desk)
    assert [e.partition for e in desk.journal if e.kind is JournalKind.confirmed] == [0]
    row = desk.event(ANN, 200).row
    assert row.object_id == ""
    assert desk.sent["Company"] == "acme"
    desk.written(row).event({**ANN, "phone": "2"}, 300)
    assert desk.row.object_id == "00Q1", "once, and not again and again"
    assert desk.sent == {"Email": "ann@x.io", "Phone": "2"}


def test_a_row_that_is_out_ends_before_its_person_forgets() -> None:
    desk = Desk().event(ANN, 100)
    row = desk.row
    forget(desk)
    desk.written(row)
    assert desk.told == ["written"]
    row = desk.event({**ANN, "phone": "2"}, 200).row
    assert row.object_id == ""
    assert desk.sent["Company"] == "acme"


def test_what_is_owed_is_kept_and_other_destinations_are_left_alone() -> None:
    desk, record = refused()
    forget(desk, "mail:member")
    assert desk.person.destinations["sales:Lead"].syncs["leads"].owed is not None
    forget(desk)
    desk.act(ActKind.release, sync="leads", targets=desk.target(record))
    assert desk.row.row_id == record.row_id


def test_who_is_new_has_nothing_to_forget() -> None:
    desk = forget(Desk())
    desk.event(ANN, 100)
    desk.written(desk.row).event({**ANN, "phone": "2"}, 200)
    assert desk.row.object_id == "00Q1"


def test_an_object_of_ours_at_a_replaced_destination_is_forgotten_too() -> None:
    desk = Desk().event(ANN, 100).event(ANN, 120, number=2)
    forget(desk, "hub:contact")
    desk.event(ANN, 300, number=3)
    assert list(desk.person.sources) == ["hub:contact:3"]

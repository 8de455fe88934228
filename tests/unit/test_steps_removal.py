"""Who is deleted at the source is taken away at the destination, and nothing brings them back; but
who is there again, is."""

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import ids
from schemas.commands import Recall, UploadRow
from schemas.control import ActKind
from schemas.events import EventKind, Origin
from schemas.outcomes import AccountState, OutcomeKind
from streams.steps.catalog import Catalog
from tests.simulation.definitions import CONNECTIONS, MAPPINGS, SYNCS, catalog
from tests.unit.steps_kit import ANN, Desk
from tests.unit.test_steps_joins import GOES, JOIN, NUMBER, STAYS, Backbone

KINDS = {"deleted": "delete", "unsubscribed": {"Phone": None}}


def desk(**kinds: object) -> Desk:
    base = catalog("leads")
    there = Catalog(
        connections=CONNECTIONS, active=base.active, flows=base.flows, compiled=base.compiled,
        syncs={("leads", 1): SYNCS["leads"].model_copy(update={"kinds": kinds or KINDS})},
    )  # fmt: skip
    return Desk(catalog_=there)


def started() -> Desk:
    first = desk().event(ANN, 100)
    return first.written(first.row)


def deleted(there: Desk, at_ms: int = 200, **more: object) -> Desk:
    return there.event({}, at_ms, thin=True, kind=EventKind.deleted, **more)


def gone() -> Desk:
    there = deleted(started())
    return there.written(there.row)


def what(row: UploadRow) -> tuple[str, str]:
    return row.removal, row.object_id


def test_a_deletion_takes_the_object_away() -> None:
    there = deleted(started())
    assert (what(there.row), there.sent) == (("delete", "00Q1"), {"Email": "ann@x.io"})
    assert there.told == ["out"]
    there.written(there.row)
    assert there.told == ["written"]
    left = there.person.destinations["sales:Lead"]
    assert (left.object_id, left.written.values, left.gone) == ("", {}, ["00Q1"])


def test_nothing_is_taken_away_where_nothing_is() -> None:
    assert deleted(desk()).told == ["filtered"]
    assert deleted(gone(), 300).told == ["filtered"], "nor twice"


@pytest.mark.parametrize(
    ("more", "run"),
    [({}, False), ({"origin": Origin.fetch}, True), ({"origin": Origin.replay}, False)],
)
def test_what_was_said_before_does_not_bring_it_back(more: dict[str, object], run: bool) -> None:
    """Live, from a page that was read before, or replayed."""
    more = {**more, **({"run": ids.run_id("leads", "1")} if run else {})}
    there = gone().event({**ANN, "phone": "2"}, 190, **more)
    assert (there.out, there.told) == ([], ["stale"])


def test_nor_does_a_resend_or_a_forced_run() -> None:
    there = gone()
    there.act(ActKind.resend, sync="leads", targets=[{"parked_id": "", "person": there.who}])
    assert there.out == []
    run = ids.run_id("leads", "2")
    there.act(ActKind.run_start, run=run, sync="leads", values=json.dumps({"force": True}).encode())
    there.event(ANN, 150, run=run, origin=Origin.fetch)
    assert (there.out, there.told) == ([], ["stale"])


def test_who_is_there_again_is_made_anew() -> None:
    """Restored at the source: the event tells no values, what is known goes out whole."""
    there = gone().event({}, 300, thin=True, kind=EventKind.created)
    assert what(there.row) == ("", "")
    assert there.sent == {
        "Email": "ann@x.io", "LastName": "LEE", "Phone": "1", "Company": "acme"
    }  # fmt: skip
    there.written(there.row)
    assert deleted(there, 250).told == ["stale"], "the older deletion"
    assert what(deleted(there, 350).row) == ("delete", "00Q1")


def test_an_older_deletion_that_comes_late_takes_nothing_away() -> None:
    there = started().event({"phone": "2"}, 300, thin=True)
    there.written(there.row)
    assert (deleted(there).out, there.told) == ([], ["stale"])
    restored = started().event({}, 300, thin=True, kind=EventKind.created)
    assert (deleted(restored).out, restored.told) == ([], ["stale"])


def test_it_overtakes_what_is_out_and_what_waits() -> None:
    there = started().event({"phone": "2"}, 150, thin=True)
    row = there.row
    there.event({"phone": "3"}, 160, thin=True)
    recalls = [s.message for s in deleted(there).sends if isinstance(s.message, Recall)]
    assert [r.row_ids for r in recalls] == [[row.row_id]]
    assert there.told == ["superseded", "waiting"]
    there.outcome(OutcomeKind.returned, row, code="recalled")
    assert what(there.row) == ("delete", "00Q1")
    assert there.told == ["waiting", "superseded", "out"]
    assert there.written(there.row).out == []


def test_it_ends_what_was_refused() -> None:
    there = started().event({"phone": "2"}, 150, thin=True)
    there.outcome(OutcomeKind.parked, there.row, code="BAD", field="Phone")
    assert list(deleted(there).parked.values()) == [None]
    assert what(there.row) == ("delete", "00Q1")
    assert there.told == ["superseded", "out"]


def test_who_waits_still_is_not_even_made() -> None:
    there = desk().account(open=False)
    assert there.event(ANN, 100).told == ["waiting"]
    assert deleted(there).told == ["superseded", "waiting"]
    assert (there.account(open=True).out, there.told) == ([], ["filtered"])


def test_who_comes_back_while_the_deletion_waits_is_only_updated() -> None:
    there = started().account(open=False)
    deleted(there).event({**ANN, "phone": "2"}, 300, kind=EventKind.updated)
    assert there.told == ["superseded", "waiting"]
    assert what(there.account(open=True).row) == ("", "00Q1")
    assert there.sent == {"Phone": "2", "Email": "ann@x.io"}


def test_a_run_that_finds_them_again_counts_as_well() -> None:
    there = deleted(started().account(open=False))
    run = ids.run_id("leads", "1")
    there.event({**ANN, "phone": "2"}, 300, kind=EventKind.updated, run=run, origin=Origin.fetch)
    assert what(there.account(open=True).row) == ("", "00Q1")
    assert there.sent["Phone"] == "2"


def test_who_comes_back_after_a_deletion_without_an_answer_is_found_or_made() -> None:
    """The object may be gone: the row does not count on its id, and is whole."""
    there = deleted(started())
    row = there.row
    there.event({**ANN, "phone": "2"}, 300, kind=EventKind.updated)
    there.outcome(OutcomeKind.returned, row, words="closed", until_ms=1)
    assert what(there.row) == ("", "")
    assert there.sent == {
        "Email": "ann@x.io", "LastName": "LEE", "Phone": "2", "Company": "acme"
    }  # fmt: skip


def test_a_deletion_without_an_answer_is_repeated() -> None:
    there = deleted(started())
    there.outcome(OutcomeKind.returned, there.row, words="killed", until_ms=1)
    assert what(there.row) == ("delete", "00Q1")


def test_who_was_perhaps_made_again_is_looked_for_and_not_taken_by_the_old_id() -> None:
    """Deleted, said again, deleted again, and neither of the first two rows was answered: what
    stands there is the old object, or another one with our key."""
    there = deleted(started())
    first = there.row
    there.event({**ANN, "phone": "2"}, 300, kind=EventKind.updated)
    there.outcome(OutcomeKind.returned, first, words="killed", until_ms=1)
    again = there.row
    deleted(there, 400)
    there.outcome(OutcomeKind.returned, again, words="killed", until_ms=1)
    assert (what(there.row), there.sent) == (("delete", ""), {"Email": "ann@x.io"})


def test_a_first_row_without_an_answer_is_looked_for() -> None:
    there = desk().event(ANN, 100)
    there.outcome(OutcomeKind.unknown, there.row)
    assert (what(deleted(there).row), there.sent) == (("delete", ""), {"Email": "ann@x.io"})
    assert there.outcome(OutcomeKind.unchanged, there.row).told == ["unchanged"]


def test_a_refused_deletion_is_parked_and_released_as_what_it_is() -> None:
    there = deleted(started())
    there.outcome(OutcomeKind.parked, there.row, code="DELETE_FAILED")
    [parked] = [record for record in there.parked.values() if record]
    there.act(ActKind.release, targets=there.target(parked), sync="leads")
    assert what(there.row) == ("delete", "00Q1")


def test_as_long_as_another_object_of_the_person_leads_there_it_stays() -> None:
    there = started().event({**ANN, "phone": "2"}, 150, number=2)
    there.written(there.row)
    assert (deleted(there).out, there.told) == ([], ["filtered"])
    assert there.notes[0].code == "another_remains"
    assert what(deleted(there, 250, number=2).row) == ("delete", "00Q1")


def test_an_object_that_is_gone_speaks_no_more_for_those_that_remain() -> None:
    there = started().event({**ANN, "phone": "2", "company": "initech"}, 150, number=2)
    there.written(there.row)
    deleted(there, number=2).act(ActKind.forget, sync="leads", values=b'{"target":"sales:Lead"}')
    there.act(ActKind.resend, sync="leads", targets=[{"parked_id": "", "person": there.who}])
    assert (there.sent["Phone"], there.sent["Company"]) == ("1", "acme")


def test_a_deletion_that_no_sync_answers_changes_nothing() -> None:
    there = desk(unsubscribed={"Phone": None}).event(ANN, 100)
    there.written(there.row)
    assert (deleted(there).out, there.told) == ([], ["filtered"])
    assert there.event({"phone": "2"}, 300, thin=True).sent["Phone"] == "2"


# ---- forgotten


def privacy(*, leads: object = "erase", news: object = None) -> Desk:
    """Two syncs; the second one says nothing of it unless told."""
    base = catalog("leads", "news")
    syncs = {
        ("leads", 1): SYNCS["leads"].model_copy(
            update={"kinds": {"forgotten": leads, "deleted": "delete"}}
        ),
        ("news", 1): SYNCS["news"].model_copy(
            update={"kinds": {"forgotten": news} if news else {}}
        ),
    }
    there = Catalog(
        connections=CONNECTIONS, active=base.active, flows=base.flows, syncs=syncs,
        compiled=lambda name, *_: MAPPINGS.get(name),
    )  # fmt: skip
    desk = Desk(catalog_=there).event(ANN, 100)
    lead, member = sorted(desk.out, key=lambda row: "LNAME" in json.loads(row.fields))
    desk.written(lead)
    mail = {"connection": "mail", "object_type": "member", "sync": "news", "object_id": "m1"}
    return desk.outcome(OutcomeKind.written, member, **mail)


def forgotten(there: Desk, at_ms: int = 200) -> Desk:
    return there.event({}, at_ms, thin=True, kind=EventKind.forgotten)


def test_who_is_forgotten_is_erased_and_no_value_of_theirs_stays() -> None:
    there = forgotten(privacy())
    assert sorted(there.told) == ["filtered", "out"]
    assert what(there.row) == ("erase", "00Q1")
    row = there.row
    assert b"ann@x.io" in there.rows[there.who], "by which a platform may have to find them"
    there.written(row)
    assert there.told == ["written"]
    for value in ANN.values():
        if len(value) > 1:
            assert value.encode() not in there.rows[there.who].lower()


@pytest.mark.parametrize("kind", [EventKind.created, EventKind.updated, EventKind.subscribed])
def test_nothing_is_sent_of_who_is_forgotten_by_any_sync(kind: EventKind) -> None:
    there = forgotten(privacy())
    there.written(there.row).event({**ANN, "phone": "2"}, 900, kind=kind)
    assert (there.out, there.told) == ([], ["filtered", "filtered"])
    assert {note.code for note in there.notes} == {"forgotten"}
    run = ids.run_id("news", "1")
    there.event({**ANN, "phone": "3"}, 950, run=run, origin=Origin.fetch)
    assert (there.out, there.told) == ([], ["filtered"])
    there.event({**ANN, "phone": "4"}, 960, origin=Origin.replay)
    assert there.out == []
    there.act(ActKind.resend, sync="news", targets=[{"parked_id": "", "person": there.who}])
    assert there.out == []


def test_what_was_refused_and_what_waits_of_who_is_forgotten_ends() -> None:
    there = privacy().event({"phone": "2"}, 150, thin=True)
    lead, member = sorted(there.out, key=lambda row: "PHONE" in json.loads(row.fields))
    mail = {"connection": "mail", "object_type": "member", "sync": "news"}
    there.outcome(OutcomeKind.parked, lead, code="BAD", field="Phone")
    [parked] = [record for record in there.parked.values() if record]
    forgotten(there)
    assert list(there.parked.values()) == [None]
    assert what(there.row) == ("erase", "00Q1")
    there.written(there.row)
    there.act(ActKind.release, targets=there.target(parked), sync="leads")
    assert there.out == []
    refused = there.outcome(OutcomeKind.parked, member, code="BAD", **mail)
    assert (refused.told, refused.parked, refused.out) == (["filtered"], {}, [])
    assert b"lee" not in there.rows[there.who].lower()


def test_who_was_deleted_before_is_erased_all_the_same() -> None:
    """HubSpot tells a privacy deletion as a deletion, too, in any order."""
    there = deleted(privacy())
    there.written(there.row)
    assert what(forgotten(there, 201).row) == ("erase", "00Q1")
    there.written(there.row)
    assert there.person.destinations.keys() == {"mail:member"}
    assert (deleted(there, 202).out, set(there.told)) == ([], {"filtered"})


def test_a_deletion_that_waits_becomes_an_erasure() -> None:
    there = privacy().account(open=False)
    forgotten(deleted(there), 201)
    assert what(there.account(open=True).row) == ("erase", "00Q1")


def test_a_sync_may_set_values_of_who_is_forgotten_instead() -> None:
    there = forgotten(privacy(news={"LNAME": None, "PHONE": None}))
    assert {row.removal for row in there.out} == {"erase", ""}
    [row] = [row for row in there.out if not row.removal]
    assert json.loads(row.fields) == {"LNAME": None, "PHONE": None, "email_address": "ann@x.io"}


def test_what_is_set_of_who_is_forgotten_is_parked_where_it_is_refused() -> None:
    """And stays so until somebody acts: what it set is not what they said."""
    there = forgotten(privacy(news={"PHONE": None}))
    [row] = [row for row in there.out if not row.removal]
    mail = {"connection": "mail", "object_type": "member", "sync": "news"}
    there.outcome(OutcomeKind.parked, row, code="BAD", field="PHONE", **mail)
    assert [record.code for record in there.parked.values() if record] == ["BAD"]


def test_people_can_forget_somebody_too() -> None:
    there = privacy()
    there.act(ActKind.erase, targets=[{"parked_id": "", "person": there.who}])
    assert (what(there.row), there.told) == (("erase", "00Q1"), ["waiting", "out"])
    there.written(there.row)
    assert there.person.sources == {}
    assert (there.event({**ANN, "phone": "2"}, 10_000).out, set(there.told)) == ([], {"filtered"})


def test_where_no_sync_says_what_becomes_of_them_nothing_does() -> None:
    there = desk(deleted="delete").event(ANN, 100)
    there.written(there.row)
    assert (forgotten(there).out, there.told) == ([], ["filtered"])
    assert there.event({"phone": "2"}, 300, thin=True).sent["Phone"] == "2"


# ---- with joins


def two() -> Backbone:
    """Ann and Bob, whose join is proposed."""
    there = Backbone()
    plain = there.catalog
    leads = SYNCS["leads"].model_copy(update={"kinds": {"deleted": "delete", "forgotten": "erase"}})
    there.catalog = Catalog(
        connections=plain.connections, active=plain.active, compiled=plain.compiled,
        flows=plain.flows, identity_key=b"k", syncs={("leads", 1): leads},
    )  # fmt: skip
    there.known().shown()
    return there.written(there.row, "00Q1")


def account(there: Backbone, *, open_: bool) -> Backbone:
    state = AccountState(account="o1", connection="sales", open=open_, at_ms=5_000)
    return there.take(("outcomes", "", state))


def test_a_deletion_that_waits_takes_nothing_from_who_was_joined_meanwhile() -> None:
    there = account(two(), open_=False)
    there.event({}, 300, number=NUMBER[GOES], thin=True, kind=EventKind.deleted)
    there.act(ActKind.release, JOIN, GOES)
    assert ("filtered", "another_remains") in there.told()
    account(there, open_=True)
    assert [row.removal for row in there.rows if row.removal] == []


def test_who_is_one_with_somebody_forgotten_is_forgotten() -> None:
    there = two().event({}, 300, number=NUMBER[GOES], thin=True, kind=EventKind.forgotten)
    there.written(there.row, f"00Q{NUMBER[GOES]}")
    there.act(ActKind.release, JOIN, GOES)
    person = there.person(STAYS)
    assert (person.sources, person.erased_ms) == ({}, 300)
    there.event({**ANN, "phone": "9"}, 900, number=NUMBER[STAYS])
    assert (there.rows, there.told()) == ([], [("filtered", "forgotten")])


def test_all_objects_of_the_person_there_are_erased() -> None:
    there = two()
    there.act(ActKind.release, JOIN, GOES)
    there.settled().event({}, 300, thin=True, kind=EventKind.forgotten)
    erased: list[str] = []
    while there.rows:
        erased.append(there.row.object_id)
        there.written(there.row, there.row.object_id)
    assert sorted(erased) == ["00Q1", "00Q2"]
    assert b"x.io" not in there.people[STAYS]


# ---- any order, any answer


class Leads:
    """What Salesforce holds of one person, found by its id or by our key."""

    def __init__(self) -> None:
        self.made, self.object_id, self.values = 0, "", dict[str, object]()

    def take(self, row: UploadRow) -> str:
        """-> the id. An update of what is gone would be refused."""
        if row.removal:
            if row.object_id in ("", self.object_id):
                self.object_id = ""
            return row.object_id
        assert row.object_id in ("", self.object_id), "it updates what is gone"
        if not self.object_id:
            self.made += 1
            self.object_id, self.values = f"00Q{self.made}", {}
        self.values |= json.loads(row.fields)
        return self.object_id


ANSWERS = ("written", "lost", "not tried")
EVENTS = st.lists(st.sampled_from(("says", "gone", "back", "closed", "open")), max_size=12)


@settings(deadline=None, max_examples=300)
@given(EVENTS, st.randoms(use_true_random=False))
def test_in_whatever_order_it_comes_the_last_word_counts(told: list[str], chance: Random) -> None:
    """Said, deleted, restored; late and early; with answers that are lost, while the account opens
    and closes: in the end the person is there if the last thing that happened was no deletion."""
    there, leads = desk(), Leads()
    out: list[UploadRow] = []

    def took() -> None:
        out.extend(there.out)

    def answer(how: str) -> None:
        row = out.pop(0)
        object_id = leads.take(row) if how != "not tried" else ""
        if how == "written":
            there.outcome(OutcomeKind.written, row, object_id=object_id)
        else:
            there.outcome(OutcomeKind.returned, row, words="killed", until_ms=1)
        took()

    happened = [what for what in told if what in ("says", "gone", "back")]
    times = [1_000 * n for n in range(1, len(happened) + 1)]
    story = list(zip(times, happened, strict=True))
    late = sorted(story, key=lambda one: one[0] + chance.choice((0, 0, 1_500, 3_500)))
    acts = iter(late)
    for what in told:
        if what in ("closed", "open"):
            there.account(open=what == "open")
        else:
            at_ms, what = next(acts)
            match what:
                case "says":
                    there.event({**ANN, "phone": str(at_ms)}, at_ms, kind=EventKind.updated)
                case "gone":
                    deleted(there, at_ms)
                case _:
                    there.event({}, at_ms, thin=True, kind=EventKind.created)
        took()
        if out and chance.random() < 0.5:
            answer(chance.choice(ANSWERS))
    there.account(open=True)
    took()
    while out:
        answer("written")
    said = [at_ms for at_ms, what in story if what == "says"]
    if not said:
        return
    alive = story[-1][1] != "gone"
    assert bool(leads.object_id) is alive
    if alive:
        assert leads.values["Phone"] == str(max(said))

"""Two persons become one, and one two again; what is waiting, out, parked or mended goes along."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from schemas import ids
from schemas.base import Message
from schemas.commands import LookUp, ReadObjects, UploadBatch, UploadRow
from schemas.control import Act, ActKind, Target
from schemas.definitions import Connection, Identify
from schemas.events import EventKind, Origin, ResolvedRecord
from schemas.identity import Join, LinkClaim, Moved
from schemas.journal import JournalEntry, JournalKind
from schemas.outcomes import OutcomeKind, RecordOutcome
from schemas.parked import ParkedRecord, Stage
from schemas.topics import ACTS, ANSWERED, ASKED, RESOLVED
from streams.steps.addresses import Addresses
from streams.steps.catalog import Catalog, normal
from streams.steps.links import Links
from streams.steps.outputs import Send
from streams.steps.people import People
from streams.steps.rows import Destination, Person, Source, pack, unpack_person
from tests.simulation.definitions import CONNECTIONS, catalog
from tests.unit.steps_kit import ANN, Rows, event

BOB = {**ANN, "email": "bob@x.io", "lastname": "bo"}
ONE, TWO = (ids.person_key(f"hub:contact:{n}") for n in (1, 2))
STAYS, GOES = sorted((ONE, TWO))
NUMBER = {ONE: 1, TWO: 2}
JOIN = ids.join_id(ONE, TWO)


class Backbone:
    """Admit, addresses and persons on one partition; every message is taken up at once."""

    def __init__(self, *syncs: str, **identify: Any) -> None:
        base = catalog(*(syncs or ("leads",)))
        hub = CONNECTIONS["hub"].model_dump() | {
            "identify": {"contact": Identify(field="email", **identify)}
        }
        connections = {**CONNECTIONS, "hub": Connection.model_validate(hub)}
        self.catalog = Catalog(
            connections=connections, syncs=base.syncs, active=base.active, compiled=base.compiled,
            facts=base.facts, flows=base.flows, identity_key=b"k",
        )  # fmt: skip
        self.links, self.owners, self.people = Rows(), Rows(), Rows()
        self.sends: list[Send] = []
        self.acts = 0

    def take(self, *messages: tuple[str, str, Message]) -> "Backbone":
        self.sends = []
        todo = deque(messages)
        while todo:
            topic, key, message = todo.popleft()
            if topic in (ANSWERED, "events.hubspot"):
                step: Any = Links(self.links, self.catalog)
            elif topic == ASKED:
                step = Addresses(self.owners)
            elif topic in (RESOLVED, ACTS, "outcomes"):
                step = People(self.people, self.catalog, 0)
            else:
                continue
            step.take(key, message)
            sent = step.close()
            self.sends += sent
            todo += [(s.topic, s.key, s.message) for s in sent if s.message is not None]
        return self

    def event(self, values: dict[str, Any], at_ms: int, **more: Any) -> "Backbone":
        told = event(values, at_ms, **more)
        return self.take(("events.hubspot", told.object_key, told))

    def read(self, values: dict[str, Any], at_ms: int, number: int) -> "Backbone":
        return self.event(values, at_ms, number=number, origin=Origin.read)

    def written(self, row: UploadRow, object_id: str, **more: Any) -> "Backbone":
        told: dict[str, Any] = {
            "row_id": row.row_id, "person": row.person, "connection": "sales",
            "object_type": "Lead", "sync": "leads", "kind": OutcomeKind.written, "at_ms": 9_000,
            "object_id": object_id, **more,
        }  # fmt: skip
        return self.take(("outcomes", row.person, RecordOutcome(**told)))

    def settled(self) -> "Backbone":
        """Everything that is out is written, until nothing is."""
        while self.rows:
            for row in self.rows:
                self.written(row, row.object_id)
        return self

    def act(self, kind: ActKind, target: str, person: str) -> "Backbone":
        self.acts += 1
        act = Act(
            act_id=f"act-{self.acts}", kind=kind, who="eve", why="asked her", when_ms=9_500,
            values=b"{}", targets=[Target(parked_id=target, person=person)],
        )  # fmt: skip
        return self.take((ACTS, person, act))

    def known(self) -> "Backbone":
        """Ann and Bob, each with a lead of their own."""
        for number, values in ((1, ANN), (2, BOB)):
            self.event(values, 100, number=number)
            self.written(self.row, f"00Q{number}")
        return self

    def shown(self, at_ms: int = 200) -> "Backbone":
        """Ann's contact shows Bob's address."""
        return self.event({**ANN, "email": "bob@x.io"}, at_ms)

    # ---- what came of it

    def messages(self, kind: type[Any]) -> list[Any]:
        return [s.message for s in self.sends if isinstance(s.message, kind)]

    @property
    def rows(self) -> list[UploadRow]:
        return [row for batch in self.messages(UploadBatch) for row in batch.rows]

    @property
    def row(self) -> UploadRow:
        [row] = self.rows
        return row

    def journal(self, *kinds: JournalKind) -> list[JournalEntry]:
        return [e for e in self.messages(JournalEntry) if e.kind in kinds]

    def told(self) -> list[tuple[str, str]]:
        return [(n.standing.value, n.code) for e in self.messages(JournalEntry) for n in e.rows]

    @property
    def parked(self) -> dict[str, ParkedRecord | None]:
        return {s.key: s.message for s in self.sends if s.topic == "parked"}  # type: ignore[misc]

    def person(self, key: str) -> Person:
        return unpack_person(self.people[key])


def fields(row: UploadRow) -> dict[str, Any]:
    return msgspec.json.decode(row.fields)


def standings(entries: Iterable[JournalEntry]) -> list[str]:
    return [note.standing.value for entry in entries for note in entry.rows]


def test_a_join_is_proposed_and_moves_nobody_until_it_is_released() -> None:
    desk = Backbone().known().shown()
    record = desk.parked[JOIN]
    assert record is not None
    assert (record.stage, record.code, record.person) == (Stage.joining, "join_proposed", GOES)
    assert desk.person(ONE).sources.keys() == {"hub:contact:1"}
    assert [e.kind for e in desk.journal(*JournalKind)] != []
    desk.written(desk.row, "00Q1")
    desk.act(ActKind.release, JOIN, GOES)
    [entry] = desk.journal(JournalKind.joined)
    assert (entry.before, entry.after, entry.who, entry.why) == (GOES, STAYS, "eve", "asked her")
    assert desk.parked[JOIN] is None
    assert desk.person(STAYS).sources.keys() == {"hub:contact:1", "hub:contact:2"}
    joins = desk.person(GOES).joins
    assert joins is not None
    assert joins.moved_to == STAYS


def test_a_proposal_is_settled_when_the_two_become_one_by_another_join() -> None:
    desk = Backbone().known().shown()
    desk.written(desk.row, "00Q1")
    join = Join(join_id="merged", person=GOES, into=STAYS, automatic=True)
    desk.take((ACTS, GOES, join))
    assert desk.parked[JOIN] is None
    joins = desk.person(STAYS).joins
    assert joins is not None
    assert joins.proposed == {}


def test_a_proposal_that_is_discarded_keeps_them_apart_and_is_not_made_again() -> None:
    desk = Backbone().known().shown()
    desk.written(desk.row, "00Q1")
    desk.act(ActKind.discard, JOIN, GOES)
    assert [e.who for e in desk.journal(JournalKind.kept_apart)] == ["eve"]
    desk.event({**BOB, "email": "ann@x.io"}, 300, number=2)
    assert desk.parked == {}


def test_by_policy_it_is_done_at_once_or_only_told() -> None:
    desk = Backbone(joins="automatic").known().shown()
    desk.written(desk.row, "00Q1")
    assert len(desk.person(STAYS).sources) == 2
    desk = Backbone(joins="never").known().shown()
    assert [e.after for e in desk.journal(JournalKind.kept_apart)] != []
    assert desk.parked == {}


def test_nobody_moves_while_a_row_is_out_and_nothing_more_goes_out_until_then() -> None:
    desk = Backbone(joins="automatic").known()
    own = {1: ANN, 2: BOB}[NUMBER[GOES]]
    desk.event({**own, "phone": "2"}, 150, number=NUMBER[GOES])
    out = desk.row
    desk.take((ACTS, GOES, Join(join_id=JOIN, person=GOES, into=STAYS, automatic=True)))
    assert desk.journal(JournalKind.joined) == []
    desk.event({**own, "phone": "3"}, 160, number=NUMBER[GOES])
    assert (desk.rows, desk.told()) == ([], [("waiting", "behind")])
    desk.written(out, out.object_id)
    assert len(desk.journal(JournalKind.joined)) == 1
    assert (desk.row.person, fields(desk.row)["Phone"]) == (STAYS, "3")


def test_nobody_moves_while_a_preview_waits_to_hear_what_stands_there() -> None:
    desk = Backbone()
    run = ids.run_id("leads", "20260101")
    desk.take((ACTS, "", Act(
        act_id="a", kind=ActKind.run_start, sync="leads", run=run, when_ms=1,
        values=b'{"preview": true}',
    )))  # fmt: skip
    desk.event(ANN, 100, number=NUMBER[GOES], run=run, origin=Origin.fetch, record_no=1)
    [look] = [row for asked in desk.messages(LookUp) for row in asked.rows]
    desk.take((ACTS, GOES, Join(join_id=JOIN, person=GOES, into=STAYS, automatic=True)))
    assert desk.journal(JournalKind.joined) == []
    desk.take(("outcomes", look.person, RecordOutcome(
        row_id=look.row_id, person=look.person, connection="sales", object_type="Lead",
        sync="leads", kind=OutcomeKind.seen, code="absent", at_ms=200,
    )))  # fmt: skip
    assert ("filtered", "would_create") in desk.told()
    assert len(desk.journal(JournalKind.joined)) == 1


@pytest.fixture
def joined() -> Backbone:
    desk = Backbone().known().shown()
    desk.written(desk.row, "00Q1")
    return desk.act(ActKind.release, JOIN, GOES)


def test_the_two_are_decided_anew_and_one_of_two_leads_is_written(joined: Backbone) -> None:
    kept = f"00Q{NUMBER[STAYS]}"
    sent = {f: v for row in joined.rows for f, v in fields(row).items()}
    assert {row.object_id for row in joined.rows} == {kept}
    assert ("waiting", "resent") in joined.told()
    there = joined.person(STAYS).destinations["sales:Lead"]
    assert there.also == [f"00Q{NUMBER[GOES]}"]
    assert sent.keys() <= {"Email", "LastName", "Phone", "Company"}
    [row] = joined.rows
    joined.written(row, kept)
    assert joined.person(STAYS).destinations["sales:Lead"].out is None


def test_what_comes_later_for_either_goes_to_the_one_row(joined: Backbone) -> None:
    joined.written(joined.row, f"00Q{NUMBER[STAYS]}")
    joined.event({**BOB, "phone": "7"}, 400, number=2)
    assert (joined.row.person, fields(joined.row)["Phone"]) == (STAYS, "7")
    joined.written(joined.row, f"00Q{NUMBER[STAYS]}")
    joined.event({**ANN, "phone": "8"}, 500)
    assert (joined.row.person, fields(joined.row)["Phone"]) == (STAYS, "8")
    records = [s for s in joined.sends if isinstance(s.message, ResolvedRecord)]
    assert sum(s.topic == RESOLVED for s in records) == 1, "downstream teams see it once"


def test_an_undoing_gives_each_its_objects_back_and_sends_both_again(joined: Backbone) -> None:
    joined.written(joined.row, f"00Q{NUMBER[STAYS]}")
    joined.event({**BOB, "phone": "7"}, 400, number=2)
    row = joined.row
    joined.act(ActKind.unjoin, "", GOES)
    assert joined.journal(JournalKind.join_undone) == [], "a row is out: it waits"
    joined.written(row, f"00Q{NUMBER[STAYS]}")
    [entry] = joined.journal(JournalKind.join_undone)
    assert (entry.before, entry.after, entry.who) == (GOES, STAYS, "eve")
    rows = {row.person: row for row in joined.rows}
    assert {p: r.object_id for p, r in rows.items()} == {p: f"00Q{n}" for p, n in NUMBER.items()}
    assert fields(rows[ONE])["LastName"] == "LEE"
    assert (fields(rows[TWO])["LastName"], fields(rows[TWO])["Phone"]) == ("BO", "7")
    for row in rows.values():
        joined.written(row, row.object_id)
    joined.event({**BOB, "phone": "9"}, 600, number=2)
    assert joined.row.person == TWO
    joined.written(joined.row, "00Q2")
    joined.event({**ANN, "email": "bob@x.io", "phone": "3"}, 700)
    assert joined.row.person == ONE
    assert joined.journal(JournalKind.joined, JournalKind.join_proposed) == []


def test_what_was_refused_goes_along_and_can_be_released_under_its_new_name() -> None:
    desk = Backbone().known().shown()
    desk.written(desk.row, "00Q1")
    values = {**(ANN if NUMBER[GOES] == 1 else BOB), "email": "bob@x.io", "phone": "bad"}
    desk.event(values, 300, number=NUMBER[GOES])
    desk.written(desk.row, "", kind=OutcomeKind.parked, code="INVALID", field="Phone", words="no")
    assert list(desk.parked) == [f"leads:{GOES}"]
    desk.act(ActKind.release, JOIN, GOES)
    assert desk.parked[f"leads:{GOES}"] is None
    record = desk.parked[f"leads:{STAYS}"]
    assert record is not None
    assert record.person == STAYS
    for row in desk.rows:
        desk.written(row, row.object_id)
    desk.act(ActKind.release, f"leads:{STAYS}", STAYS)
    assert desk.parked[f"leads:{STAYS}"] is None


def test_a_merge_at_the_source_is_a_join_and_the_one_that_is_gone_speaks_no_more() -> None:
    desk = Backbone(joins="never").known()
    desk.event({}, 300, kind=EventKind.merged, related=["hub:contact:2"], thin=True)
    assert len(desk.messages(ReadObjects)) == 1
    assert len(desk.journal(JournalKind.joined)) == 1, "whatever the policy: it is a fact"
    assert ("held", "merged") in desk.told()
    desk.settled().read({**ANN, "phone": "9"}, 310, 1).settled()
    assert desk.person(STAYS).sources["hub:contact:2"].became == "hub:contact:1"
    desk.event({**BOB, "phone": "6"}, 290, number=2)
    assert ("filtered", "object_merged") in desk.told()
    assert desk.rows == []
    there = desk.person(STAYS).destinations["sales:Lead"]
    assert there.written.values["LastName"] == "LEE"


def test_an_object_with_a_new_id_is_its_former_selfs_person_before_anything_is_sent() -> None:
    desk = Backbone().known()
    desk.event(
        {"email": "new@x.io"}, 300, number=3, thin=True, platform_kind="upemail",
        related=["hub:contact:1"],
    )  # fmt: skip
    assert [r.person for r in desk.messages(ResolvedRecord)] == [ONE]
    desk.read({**ANN, "email": "new@x.io"}, 310, 3)
    assert [row.object_id for row in desk.rows] == ["00Q1"]
    assert fields(desk.row)["Email"] == "new@x.io"


def test_an_object_whose_former_self_nobody_knew_is_met_as_any_other() -> None:
    desk = Backbone()
    desk.event(ANN, 300, platform_kind="upemail", related=["hub:contact:9"])
    assert [r.person for r in desk.messages(ResolvedRecord)] == [ONE]
    desk.event(BOB, 200, number=9)
    assert desk.messages(ResolvedRecord)[0].person == ONE, (
        "what comes late of the old one is theirs"
    )


def test_two_ids_that_became_each_other_wait_for_nobody() -> None:
    desk = Backbone()
    first = event(ANN, 300, platform_kind="upemail", related=["hub:contact:2"])
    second = event(BOB, 310, number=2, platform_kind="upemail", related=["hub:contact:1"])
    desk.take(
        ("events.hubspot", first.object_key, first), ("events.hubspot", second.object_key, second)
    )
    assert {r.event.object_id for r in desk.messages(ResolvedRecord)} == {"1", "2"}


def test_an_object_that_we_made_and_that_had_no_person_but_itself_is_joined() -> None:
    desk = Backbone().known()
    company = event({"name": "acme"}, 100, object_type="company")
    desk.take(("events.hubspot", company.object_key, company))
    desk.take((ANSWERED, company.object_key, LinkClaim(object_key=company.object_key, person=ONE)))
    assert len(desk.journal(JournalKind.joined)) == 1


def test_objects_that_may_share_an_address_stay_apart_and_it_is_told() -> None:
    desk = Backbone(shared=True).known()
    desk.event({**ANN, "lastname": "kid"}, 200, number=3)
    other = ids.person_key("hub:contact:3")
    assert desk.row.person == other
    assert [(e.before, e.after) for e in desk.journal(JournalKind.kept_apart)] in (
        [(other, ONE)], [(ONE, other)],
    )  # fmt: skip
    assert desk.journal(JournalKind.join_proposed, JournalKind.joined) == []


def test_a_join_that_comes_before_the_persons_first_record_holds_for_it_too() -> None:
    desk = Backbone()
    join = Join(join_id=JOIN, person=GOES, into=STAYS, automatic=True)
    desk.take((ACTS, GOES, join))
    desk.event(ANN, 100).event(BOB, 100, number=2)
    assert {r.person for r in desk.rows} <= {STAYS}
    assert len(desk.person(STAYS).sources) == 2


def test_asked_of_the_wrong_one_it_is_turned_round_and_a_repeat_changes_nothing() -> None:
    desk = Backbone().known()
    join = Join(join_id=JOIN, person=STAYS, into=GOES, automatic=True)
    desk.take((ACTS, STAYS, join), (ACTS, STAYS, join), (ACTS, GOES, join))
    assert [e.before for e in desk.journal(JournalKind.joined)] == [GOES]


def test_what_was_replaced_while_a_row_was_on_its_way_is_void_in_it_too() -> None:
    desk = Backbone()
    values = b'{"target": "sales:Lead"}'
    desk.take((ACTS, "", Act(act_id="a", kind=ActKind.forget, when_ms=1, values=values)))
    theirs = Person(
        sources={"hub:contact:1": Source(), "sales:Lead:00Q1": Source()},
        destinations={"sales:Lead": Destination("00Q1", also=["00Q2"])},
    )
    moved = Moved(join_id=JOIN, person=GOES, into=STAYS, who="", why="", row=pack(theirs))
    person = desk.take((ACTS, STAYS, moved)).person(STAYS)
    assert (list(person.sources), person.destinations) == (["hub:contact:1"], {})


def test_three_persons_in_a_circle_of_joins_become_one() -> None:
    desk = Backbone().known()
    desk.event({**ANN, "email": "cy@x.io"}, 100, number=3)
    three = ids.person_key("hub:contact:3")
    people = [ONE, TWO, three]
    joins = [
        Join(join_id=ids.join_id(a, b), person=a, into=b, automatic=True)
        for a, b in zip(people, [*people[1:], ONE], strict=True)
    ]
    desk.written(desk.row, "00Q3")
    desk.take(*[(ACTS, join.person, join) for join in joins])
    assert len(desk.settled().person(min(people)).sources) == 3
    desk.act(ActKind.unjoin, "", max(people))
    parted = len(desk.journal(JournalKind.join_undone))
    assert (parted, len(desk.person(min(people)).sources) < 3) == (1, True)


def test_who_parts_takes_along_what_came_through_them() -> None:
    """The only lead of three is of the one who was joined to the one who parts."""
    number = {ids.person_key(f"hub:contact:{n}"): n for n in (1, 2, 3)}
    stays, parts, through = sorted(number)
    desk = Backbone()
    for person in (stays, parts, through):
        values = {**ANN, "email": f"{person}@x.io", "optin": "yes" if person == through else "no"}
        desk.event(values, 100, number=number[person])
    desk.written(desk.row, "00Q3")
    for person, into in ((parts, stays), (through, parts)):
        join = Join(join_id=ids.join_id(person, into), person=person, into=into, automatic=True)
        desk.take((ACTS, person, join)).settled()
    assert desk.person(stays).destinations["sales:Lead"].object_id == "00Q3"
    desk.act(ActKind.unjoin, "", parts)
    assert desk.person(parts).destinations["sales:Lead"].object_id == "00Q3"
    assert "sales:Lead" not in desk.person(stays).destinations


@pytest.mark.parametrize(
    ("how", "key", "same"),
    [
        ("email", "Ann@X.io", "ann@x.io"), ("email_case", "Ann@X.io", "Ann@x.io"),
        ("email_plus", "Ann+news@X.io", "ann@x.io"), ("email_plus", "+only@x.io", "+only@x.io"),
        ("text", "A-1", "A-1"),
    ],
)  # fmt: skip
def test_keys_are_compared_as_their_connection_says(how: str, key: str, same: str) -> None:
    assert normal(key, how) == same


MAIL = {"connection": "mail", "object_type": "subscriber", "sync": "letters"}


def letters() -> Backbone:
    """Ann and Bob get letters, each as a subscriber of their own."""
    desk = Backbone("letters")
    for number, values in ((1, ANN), (2, BOB)):
        desk.event(values, 100, number=number).written(desk.row, f"m{number}", **MAIL)
    return desk


def said(desk: Backbone, kind: EventKind, at_ms: int, number: int) -> Backbone:
    return desk.event({}, at_ms, kind=kind, thin=True, number=number)


def letters_are(kind: ActKind) -> Act:
    return Act(act_id=kind, kind=kind, who="eve", when_ms=1, sync="letters", values=b"{}")


def merge_of(desk: Backbone, *, stays: int, goes: int) -> Backbone:
    """The contact of who goes becomes that of who stays."""
    gone = [f"hub:contact:{goes}"]
    return desk.event({}, 300, kind=EventKind.merged, related=gone, thin=True, number=stays)


@pytest.mark.parametrize(
    ("words", "last"),
    [
        ((EventKind.unsubscribed,), "unsubscribed"),
        ((EventKind.unsubscribed, EventKind.subscribed), "subscribed"),
    ],
)
def test_the_last_word_of_who_is_gone_is_told_to_the_subscriber_who_stays(
    words: tuple[EventKind, ...], last: str
) -> None:
    desk = letters()
    stays, goes = NUMBER[STAYS], NUMBER[GOES]
    if last == "subscribed":
        said(desk, EventKind.unsubscribed, 150, stays).written(desk.row, f"m{stays}", **MAIL)
    for at_ms, kind in enumerate(words, 200):
        said(desk, kind, at_ms, goes).written(desk.row, f"m{goes}", **MAIL)
    merge_of(desk, stays=stays, goes=goes)
    assert (desk.row.object_id, fields(desk.row)["STATUS"]) == (f"m{stays}", last)


def test_a_no_that_waits_while_two_are_parted_still_goes_out_for_an_object_that_is_gone() -> None:
    desk = letters()
    stays, goes = NUMBER[STAYS], NUMBER[GOES]
    desk.take((ACTS, "", letters_are(ActKind.sync_pause)))
    said(desk, EventKind.bounced, 200, stays)
    merge_of(desk, stays=goes, goes=stays).act(ActKind.unjoin, "", GOES)
    assert len(desk.journal(JournalKind.join_undone)) == 1
    desk.take((ACTS, "", letters_are(ActKind.sync_resume)))
    sent = {row.object_id: fields(row)["STATUS"] for row in desk.rows}
    assert sent == {"m1": "cleaned", "m2": "cleaned"}

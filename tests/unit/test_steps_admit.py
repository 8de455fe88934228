"""A repeat goes no further; an object's person is settled once, by one hop, in order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import ids
from schemas.commands import ReadObjects
from schemas.events import EventKind, Origin, PlatformEvent, ResolvedRecord
from schemas.identity import AddressAnswered, AddressAsked, LinkClaim
from schemas.journal import JournalEntry
from schemas.parked import ParkedRecord
from streams.steps.addresses import Addresses
from streams.steps.admit import DAY_MS, RECENT_BYTES_MAX, WAITING_MAX
from streams.steps.links import Links
from streams.steps.outputs import Send
from streams.steps.rows import Link, unpack_link
from tests.simulation.definitions import catalog
from tests.unit.steps_kit import ANN, Rows, event

KEY = "hub:contact:1"
OWN = ids.person_key(KEY)


class Gate:
    """Links and addresses, as two tables; an answer comes when it is asked for."""

    def __init__(self) -> None:
        self.links, self.owners = Rows(), Rows()
        self.sends: list[Send] = []

    def take(self, *messages: PlatformEvent | AddressAnswered | LinkClaim) -> "Gate":
        links = Links(self.links, catalog())
        for message in messages:
            links.take(message.object_key, message)
        self.sends = links.close()
        return self

    def answer(self) -> "Gate":
        """The questions of the last chunk go to the owners, their answers come back."""
        addresses = Addresses(self.owners)
        for asked in self.asked:
            addresses.take(asked.identity, asked)
        answers = [s.message for s in addresses.close()]
        return self.take(*[a for a in answers if isinstance(a, AddressAnswered)])

    @property
    def asked(self) -> list[AddressAsked]:
        return [s.message for s in self.sends if isinstance(s.message, AddressAsked)]

    @property
    def went(self) -> list[ResolvedRecord]:
        return [s.message for s in self.sends if isinstance(s.message, ResolvedRecord)]

    @property
    def told(self) -> list[tuple[str, str]]:
        entries = [s.message for s in self.sends if isinstance(s.message, JournalEntry)]
        return [(e.sync, n.standing.value) for e in entries for n in e.rows]

    @property
    def reads(self) -> list[ReadObjects]:
        return [s.message for s in self.sends if isinstance(s.message, ReadObjects)]

    def link(self, key: str = KEY) -> Link:
        return unpack_link(self.links[key])


def test_a_first_sighting_asks_and_goes_on_with_its_answer() -> None:
    gate = Gate().take(event(ANN, 100))
    assert (gate.went, len(gate.asked)) == ([], 1)
    assert gate.asked[0].proposed == OWN
    [record] = gate.answer().went
    assert (record.person, record.event) == (OWN, event(ANN, 100))
    assert gate.take(event(ANN, 200)).went[0].person == OWN
    assert gate.asked == []


def test_two_first_sightings_of_one_address_are_one_person() -> None:
    gate = Gate().take(event(ANN, 100), event({**ANN, "email": " ANN@X.io"}, 100, number=2))
    assert len({a.identity for a in gate.asked}) == 1
    assert {r.person for r in gate.answer().went} == {OWN}


def test_later_events_wait_for_the_answer_in_their_order() -> None:
    first, second, third = event(ANN, 100), event({"phone": "2"}, 200, thin=True), event(ANN, 300)
    gate = Gate().take(first)
    asked = gate.sends
    gate.take(second, third)
    assert (gate.went, gate.asked) == ([], [])
    gate.sends = asked
    assert [r.event for r in gate.answer().went] == [first, second, third]


def test_a_repeat_is_journalled_for_every_sync_that_wanted_it_and_ends() -> None:
    gate = Gate().take(event(ANN, 100)).answer().take(event(ANN, 100))
    assert gate.went == []
    assert gate.told == [("leads", "duplicate"), ("news", "duplicate")]
    run = ids.run_id("leads", "1")
    page = event(ANN, 100, run=run, record_no=4)
    assert len(gate.take(page, page).went) == 1
    assert gate.told == [("leads", "duplicate")]


def test_the_same_id_with_other_content_is_a_new_event() -> None:
    gate = Gate().take(event(ANN, 100)).answer()
    assert len(gate.take(event({**ANN, "phone": "2"}, 100)).went) == 1


@settings(deadline=None)  # a machine that is shared
@given(st.lists(st.integers(0, 20), max_size=300))
def test_recent_ids_are_bounded_in_days_and_bytes(days: list[int]) -> None:
    gate = Gate().take(event(ANN, 0)).answer()
    newest = 0
    for n, day in enumerate(days):
        newest = max(newest, day)
        gate.take(event(ANN, n + 1, received_ms=day * DAY_MS))
        recent = gate.link().recent
        assert sum(map(len, recent.values())) <= RECENT_BYTES_MAX
        assert all(d > newest - 8 for d in recent)


def test_an_id_is_known_for_eight_days() -> None:
    gate = Gate().take(event(ANN, 100, received_ms=100)).answer()
    gate.take(event(ANN, 200, received_ms=7 * DAY_MS))
    assert gate.take(event(ANN, 100, received_ms=7 * DAY_MS)).told
    gate.take(event(ANN, 300, received_ms=8 * DAY_MS))
    assert gate.take(event(ANN, 100, received_ms=8 * DAY_MS)).went


def test_an_object_without_a_declared_key_or_without_address_is_a_person_of_its_own() -> None:
    gate = Gate()
    company = event({"name": "acme"}, 100, object_type="company")
    assert gate.take(company).went[0].person == ids.person_key("hub:company:1")
    assert gate.take(event({**ANN, "email": " "}, 100)).went[0].person == OWN
    # an address that comes later is claimed, and moves nobody
    assert len(gate.take(event(ANN, 200)).went) == 1
    assert gate.asked[0].proposed == OWN
    gate.answer()
    assert gate.link().join == ""


def test_a_thin_event_of_an_unknown_object_asks_for_the_whole_and_waits() -> None:
    thin = event({"phone": "2"}, 100, thin=True)
    gate = Gate().take(thin)
    assert [(r.object_ids, "email" in r.fields) for r in gate.reads] == [(["1"], True)]
    assert (gate.went, gate.asked) == ([], [])
    assert gate.take(event({"phone": "3"}, 150, thin=True)).reads == []  # one read under way
    assert gate.take(event({"phone": "4"}, 90_000, thin=True)).reads == []  # however long it takes
    assert gate.take(event({**ANN, "phone": "5"}, 95_000)).asked == [], "it waits for the read too"
    whole = event(ANN, 120, origin=Origin.read)
    went = gate.take(whole).answer().went
    assert went[0].event == whole, "what was read completes the thin events: it goes first"
    assert [r.event.occurred_ms for r in went] == [120, 100, 150, 90_000, 95_000]


def test_a_deleted_object_that_nobody_knew_has_no_address_to_wait_for() -> None:
    assert Gate().take(event({}, 200, thin=True, kind=EventKind.deleted)).went[0].person == OWN
    gate = Gate().take(event({"phone": "2"}, 100, thin=True))
    assert gate.take(event({}, 200, thin=True, kind=EventKind.deleted)).went == []
    gone = event({}, 210, thin=True, kind=EventKind.deleted, origin=Origin.read)
    assert [r.person for r in gate.take(gone).went] == [OWN] * 3


def test_what_is_gone_when_it_is_read_is_the_persons_whose_address_it_told_before() -> None:
    gate = Gate().take(event({"phone": "2"}, 100, thin=True), event(ANN, 120))
    gone = event({}, 210, thin=True, kind=EventKind.deleted, origin=Origin.read)
    assert gate.take(gone).asked[0].proposed == OWN
    assert len(gate.answer().went) == 3


def test_an_object_that_cannot_be_read_is_itself() -> None:
    thin = event({"phone": "2"}, 100, thin=True, object_type="ticket")
    links = Links(Rows(), catalog())
    links.take(thin.object_key, thin)
    assert [s.message for s in links.close() if isinstance(s.message, ReadObjects)] == []


def test_a_changed_address_is_claimed_and_a_join_only_proposed() -> None:
    gate = Gate().take(event(ANN, 100)).answer()
    gate.take(event({**ANN, "email": "bob@x.io"}, 100, number=2)).answer()
    assert gate.take(event({**ANN, "email": "bob@x.io"}, 200)).went[0].person == OWN
    gate.answer()
    assert gate.link().join == ids.person_key("hub:contact:2")
    assert gate.take(event({**ANN, "email": "bob@x.io"}, 300)).asked == []


def test_an_object_that_we_made_ourselves_is_the_persons_that_we_made_it_for() -> None:
    gate = Gate().take(LinkClaim(object_key=KEY, person="p"))
    assert gate.take(event(ANN, 100)).went[0].person == "p"
    gate = Gate().take(event({"phone": "1"}, 100, thin=True), LinkClaim(object_key=KEY, person="p"))
    assert gate.went == [], "its read is under way"
    gate.take(event(ANN, 120, origin=Origin.read))
    assert [(r.person, r.event.origin.value) for r in gate.went] == [
        ("p", "read"),
        ("p", "webhook"),
    ]
    assert gate.take(LinkClaim(object_key=KEY, person="other")).link().join == "other"


def test_more_than_a_hundred_waiting_events_are_parked_not_lost() -> None:
    gate = Gate()
    gate.take(*[event({"phone": str(n)}, n, thin=True) for n in range(WAITING_MAX + 1)])
    parked = [s.message for s in gate.sends if isinstance(s.message, ParkedRecord)]
    assert [(p.stage, p.code) for p in parked] == [("admit", "too_many_waiting")]
    assert gate.told == [("leads", "parked"), ("news", "parked")]
    assert len(gate.link().waiting) == WAITING_MAX


def test_a_step_that_throws_parks_its_event() -> None:
    gate = Gate()
    links = Links(gate.links, catalog())
    bad = event(ANN, 100).model_copy(update={"values": b"no json"})
    with pytest.raises(ValueError, match="JSON"):
        links.take(KEY, bad)
    links.park(KEY, bad, ValueError())
    gate.sends = links.close()
    assert gate.told == [("leads", "parked"), ("news", "parked")]


@given(st.permutations(["p1", "p2", "p3"]), st.lists(st.integers(0, 2), min_size=1))
def test_the_first_who_asks_owns_the_identity_for_ever(order: list[str], asks: list[int]) -> None:
    addresses = Addresses(Rows())
    for n in asks:
        asked = AddressAsked(identity="i", object_key=f"o{n}", proposed=order[n])
        addresses.take("i", asked)
    answers = [s.message for s in addresses.close() if isinstance(s.message, AddressAnswered)]
    assert {a.person for a in answers} == {order[asks[0]]}
    assert [a.object_key for a in answers] == [f"o{n}" for n in asks]

"""A sync for the objects of a list: each member has one fate, and its run resumes anywhere."""

import json

import pytest

from schemas import ids
from schemas.audiences import AudiencePart, Change
from schemas.commands import ReadObjects
from schemas.control import Act, ActKind
from schemas.definitions import Audience
from schemas.events import EventKind, Origin, PlatformEvent, ResolvedRecord
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from schemas.outcomes import OutcomeKind
from streams.steps.catalog import Catalog
from streams.steps.rows import pack
from tests.simulation.definitions import SYNCS, catalog
from tests.unit import steps_kit, test_steps_runs
from tests.unit.steps_kit import ANN
from tests.unit.test_steps_runs import RUN

VIP = Audience(joined={"Rating": "Hot"}, left={"Rating": "Cold"})


def listed(audience: Audience | None = VIP, ruling: str = "") -> Catalog:
    """`leads` for the members of a list only."""
    made = catalog("leads")
    leads = SYNCS["leads"].model_copy(update={"audience": audience, "ruling": ruling})
    made.syncs = {("leads", 1): leads}
    return made


class Desk(steps_kit.Desk):
    def __init__(self, audience: Audience | None = VIP, ruling: str = "") -> None:
        super().__init__(catalog_=listed(audience, ruling))

    def on_list(self, change: Change, at_ms: int, number: int = 1, run: str = "") -> "Desk":
        """What a list says of an object of this person."""
        key = f"hub:contact:{number}"
        name = run or f"leads-{at_ms}"
        event = PlatformEvent(
            event_id=ids.fetched_event_id(name, key, change.value.encode()), connection="hub",
            platform="hubspot", object_type="contact", object_id=str(number), run=name,
            kind=EventKind.left if change is Change.leaves else EventKind.joined,
            origin=Origin.fetch, occurred_ms=at_ms, received_ms=at_ms, thin=True, values=b"{}",
            payload=b"",
        )  # fmt: skip
        self.take(ResolvedRecord(person=self.who, event=event))
        return self

    def last(self) -> tuple[str, str]:
        note = self.notes[-1]
        return note.standing.value, note.code


def test_who_is_on_no_list_is_not_sent_and_not_read() -> None:
    desk = Desk().event({"email": "ann@x.io"}, 1_000, thin=True)
    assert (desk.out, desk.last()) == ([], ("filtered", "not_member"))
    assert not [s for s in desk.sends if isinstance(s.message, ReadObjects)]


def test_a_member_goes_out_whole_with_what_members_get() -> None:
    desk = Desk().event(ANN, 1_000)
    desk.on_list(Change.joins, 2_000)
    assert desk.sent["Rating"] == "Hot"
    assert desk.sent["Email"] == "ann@x.io"


def test_an_unknown_member_is_read_first() -> None:
    desk = Desk().on_list(Change.joins, 2_000)
    assert desk.last() == ("held", "unknown_field")
    [read] = [s.message for s in desk.sends if isinstance(s.message, ReadObjects)]
    assert read.object_ids == ["1"]
    desk.event(ANN, 2_500, origin=Origin.read)
    assert desk.sent["Rating"] == "Hot"


def test_who_stays_is_unchanged() -> None:
    desk = Desk().event(ANN, 1_000)
    desk.on_list(Change.joins, 2_000).written(desk.row)
    desk.on_list(Change.stays, 3_000)
    assert (desk.out, desk.last()) == ([], ("unchanged", "equal"))


def test_who_left_gets_only_what_leaving_sets_and_nothing_more_afterwards() -> None:
    desk = Desk().event(ANN, 1_000)
    desk.on_list(Change.joins, 2_000).written(desk.row)
    desk.on_list(Change.leaves, 3_000)
    assert desk.sent == {"Rating": "Cold", "Email": "ann@x.io"}
    desk.written(desk.row)
    desk.event({**ANN, "company": "new"}, 4_000)
    assert (desk.out, desk.told) == ([], ["unchanged"])


def test_where_the_source_rules_what_the_list_sets_is_above_what_was_mapped() -> None:
    """Both set a field that is mapped as well."""
    vip = Audience(joined={"Company": "vip"}, left={"Company": "none"})
    desk = Desk(vip, ruling="hub").event(ANN, 1_000)
    desk.on_list(Change.joins, 2_000).written(desk.row)
    desk.on_list(Change.leaves, 3_000)
    assert desk.sent == {"Company": "none", "Email": "ann@x.io"}
    desk.written(desk.row)
    desk.on_list(Change.joins, 4_000)
    assert desk.sent["Company"] == "vip"


def test_who_left_where_the_source_rules_is_not_stale() -> None:
    desk = Desk(Audience(left={"Company": "none"}), ruling="hub").event(ANN, 1_000)
    desk.on_list(Change.joins, 2_000).written(desk.row)
    desk.on_list(Change.leaves, 3_000)
    assert desk.sent == {"Company": "none", "Email": "ann@x.io"}


def test_where_leaving_sets_nothing_nothing_is_sent() -> None:
    desk = Desk(Audience(joined={"Rating": "Hot"})).event(ANN, 1_000)
    desk.on_list(Change.joins, 2_000).written(desk.row)
    desk.on_list(Change.leaves, 3_000)
    assert (desk.out, desk.last()) == ([], ("filtered", "left"))


def test_leaving_overtaken_by_the_join_that_is_out_follows_it() -> None:
    desk = Desk().event(ANN, 1_000)
    join = desk.on_list(Change.joins, 2_000).row
    desk.on_list(Change.leaves, 3_000)
    assert desk.out == []
    desk.written(join)
    assert desk.sent["Rating"] == "Cold"


def test_an_older_list_that_comes_later_changes_nothing() -> None:
    desk = Desk().event(ANN, 1_000)
    desk.on_list(Change.joins, 2_000).written(desk.row)
    desk.on_list(Change.leaves, 1_500)
    assert (desk.out, desk.last()) == ([], ("unchanged", "equal"))


def test_one_of_two_objects_of_a_person_keeps_it_on_the_list() -> None:
    desk = Desk().event(ANN, 1_000)
    desk.on_list(Change.joins, 2_000).written(desk.row)
    desk.event(ANN, 2_100, number=2)
    desk.on_list(Change.joins, 3_000, number=2)
    desk.on_list(Change.leaves, 4_000)
    assert desk.out == []
    assert desk.last() == ("unchanged", "equal")


def test_a_refused_member_keeps_what_members_get_when_it_is_released() -> None:
    desk = Desk().event(ANN, 1_000)
    row = desk.on_list(Change.joins, 2_000).row
    desk.outcome(OutcomeKind.parked, row, code="BAD", field="Rating", words="no")
    [parked] = [p for p in desk.parked.values() if p]
    desk.act(ActKind.release, sync="leads", targets=desk.target(parked))
    assert desk.sent["Rating"] == "Hot"


def test_who_left_while_refused_leaves_without_what_was_refused() -> None:
    desk = Desk().event(ANN, 1_000)
    desk.on_list(Change.joins, 2_000).written(desk.row)
    row = desk.event({**ANN, "phone": "2"}, 3_000).row
    desk.outcome(OutcomeKind.parked, row, code="BAD", field="Phone", words="no")
    desk.on_list(Change.leaves, 4_000)
    assert desk.sent["Rating"] == "Cold"
    assert "Phone" not in desk.sent


def test_a_list_for_a_sync_without_one_changes_nothing() -> None:
    desk = Desk(None).event(ANN, 1_000)
    desk.written(desk.row)
    desk.on_list(Change.leaves, 3_000)
    assert (desk.out, desk.last()) == ([], ("filtered", "no_list"))


# ---- the run that hands it out


class Runs(test_steps_runs.Desk):
    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.catalog = listed()
        self.parts = [
            AudiencePart(
                run=RUN, sync="leads", part=n, object_ids=[f"{n}-{i}" for i in range(size)],
                change=Change.leaves if n == len(sizes) - 1 else Change.joins,
            )
            for n, size in enumerate(sizes)
        ]  # fmt: skip

    def put(self) -> "Runs":
        self.take(*self.parts)
        self.options = {"parts": len(self.parts), "expected": 5}
        self.started()
        return self

    @property
    def events(self) -> list[PlatformEvent]:
        return [s.message for s in self.sends if isinstance(s.message, PlatformEvent)]

    @property
    def pages(self) -> list[JournalEntry]:
        return [
            s.message for s in self.sends
            if isinstance(s.message, JournalEntry) and s.message.kind is JournalKind.page_fetched
        ]  # fmt: skip

    def fated(self, records: list[PlatformEvent]) -> None:
        notes = [
            RowNote(
                row_id=ids.row_id(e.event_id, "leads"), event_id=e.event_id,
                standing=Standing.unchanged,
            )
            for e in records
        ]  # fmt: skip
        self.take(self.entry(JournalKind.decided, rows=notes))


def test_a_list_is_handed_out_once_in_order_and_on_credit() -> None:
    desk = Runs(15, 15, 3).put()
    assert desk.run.credit == 20
    handed: list[PlatformEvent] = []
    while desk.events:
        handed += desk.events
        [page], events = desk.pages, desk.events
        assert len(page.rows) == page.records == len(events)
        desk.take(page)
        assert desk.events == [] or desk.run.credit > len(events)
        handed += desk.events
        for page in desk.pages:
            events = events + desk.events
            desk.take(page)
        desk.fated(events)
    assert [e.record_no for e in handed] == list(range(33))
    assert [e.kind for e in handed] == [EventKind.joined] * 30 + [EventKind.left] * 3
    assert len({e.event_id for e in handed}) == 33
    assert desk.state == "completed"
    assert not [key for key in desk.rows if key.startswith("!part|")]


def test_an_answer_that_comes_twice_hands_out_nothing_twice() -> None:
    desk = Runs(25, 15, 3).put()
    [page], handed = desk.pages, desk.events
    desk.take(page)
    desk.fated(handed)
    assert len(desk.events) == 18
    desk.take(page)
    assert desk.events == []


def test_a_list_given_again_for_a_run_that_has_begun_changes_nothing() -> None:
    desk = Runs(25, 15, 3).put()
    desk.take(desk.parts[0].model_copy(update={"object_ids": ["other"]}))
    assert [key for key in desk.rows if key.startswith("!part|")] == [
        f"!part|{RUN}|1", f"!part|{RUN}|2"
    ]  # fmt: skip


def test_a_cancelled_list_leaves_nothing_behind() -> None:
    desk = Runs(25, 15, 3).put()
    [page], handed = desk.pages, desk.events
    desk.take(page)
    desk.act(ActKind.run_cancel).confirmed()
    desk.fated(handed)
    desk.tick()
    assert desk.state == "cancelled"
    assert not [key for key in desk.rows if key.startswith("!part|")]


def test_a_list_for_an_unknown_sync_leaves_nothing_behind() -> None:
    desk = Runs(5, 5)
    desk.catalog.syncs = {}
    desk.take(*desk.parts)
    options = json.dumps({"parts": 2}).encode()
    desk.take(Act(
        act_id="a", kind=ActKind.run_start, run=RUN, sync="leads", when_ms=1, values=options
    ))  # fmt: skip
    assert desk.state == "cancelled"
    assert not [key for key in desk.rows if key.startswith("!part|")]


@pytest.mark.parametrize("room", [1, 499, 500])
def test_at_least_one_part_is_handed_out(room: int) -> None:
    desk = Runs(4, 4)
    desk.take(*desk.parts)
    desk.options = {"parts": 2, "credit": room}
    desk.started()
    assert len(desk.events) == (4 if room < 5 else 8)


def test_a_list_does_not_bring_an_object_back_to_life_that_is_another_one_now() -> None:
    desk = Desk().on_list(Change.joins, 1_000).event(ANN, 1_100)
    person = desk.person
    source = person.sources["hub:contact:1"]
    source.became, source.gone_ms = "hub:contact:2", 1_200
    desk.rows[desk.who] = pack(person)
    desk.on_list(Change.joins, 2_000)
    assert desk.last() == ("filtered", "object_merged")
    assert desk.person.sources["hub:contact:1"].became == "hub:contact:2"

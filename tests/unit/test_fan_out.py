"""One form, six actions: `examples/one-form-six-actions`, decided by the real steps with its own
mappings. Each action has its own fate, and what happened once is told once."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from schemas import ids
from schemas.commands import UploadRow
from schemas.control import ActKind
from schemas.events import PlatformEvent, ResolvedRecord
from schemas.journal import Standing
from schemas.outcomes import OutcomeKind, RecordOutcome
from streams.definitions import compiled
from streams.steps.catalog import Catalog, Flow
from syncline.commands.apply import traits
from syncline.config import load_folder
from tests.unit import steps_kit

EXAMPLE = Path(__file__).parents[2] / "examples" / "one-form-six-actions"
SYNCS = {"lead", "member", "person", "customerio_event", "braze_event", "klaviyo_event"}
FACTS = {"customerio_event", "braze_event", "klaviyo_event"}
CONTACT = {
    "email": "ann@acme.example", "firstname": "Ann", "lastname": "Lee", "company": "ACME",
    "recent_conversion_event_name": "Demo", "recent_conversion_date": "2026-01-15T08:00:00Z",
}  # fmt: skip


@cache
def example() -> Catalog:
    folder = load_folder(EXAMPLE)
    told = {name: traits(c) for name, c in folder.connections.items()}
    return Catalog(
        connections=folder.connections,
        syncs={(name, 1): sync for name, sync in folder.syncs.items()},
        active={
            **{f"sync:{n}": 1 for n in folder.syncs}, **{f"mapping:{n}": 1 for n in folder.mappings}
        },
        compiled=lambda name, version, target, fields: compiled(
            folder.mappings[name].model_dump_json(by_alias=True), ""
        ),
        facts=frozenset((t["platform"], o) for t in told.values() for o in t["facts"]),
        flows={f"{n}:{o}": Flow(**f) for n, t in told.items() for o, f in t["flows"].items()},
        identity_key=b"k",
    )  # fmt: skip


class Desk(steps_kit.Desk):
    def __init__(self) -> None:
        super().__init__(catalog_=example())
        self.who = ids.person_key("hubspot:contact:1")

    def submit(self, at_ms: int, *changed: str, **values: Any) -> dict[str, UploadRow]:
        """HubSpot tells of the contact -> sync to the row that goes out."""
        document = json.dumps({**CONTACT, **values}).encode()
        event = PlatformEvent(
            event_id=ids.event_id("hubspot", [str(at_ms)], document), connection="hubspot",
            platform="hubspot", object_type="contact", object_id="1", occurred_ms=at_ms,
            received_ms=at_ms, changed=list(changed), values=document, payload=document,
        )  # fmt: skip
        self.take(ResolvedRecord(person=self.who, event=event))
        return self.by_sync()

    def by_sync(self) -> dict[str, UploadRow]:
        return {batch.sync: row for batch in self.uploads for row in batch.rows}

    def became(self, sync: str, row: UploadRow, kind: OutcomeKind, **more: Any) -> None:
        plan = self.catalog.plan(sync, {})
        assert plan is not None
        self.take(RecordOutcome(
            row_id=row.row_id, person=self.who, connection=plan.destination,
            object_type=plan.destination_object, sync=sync, kind=kind, at_ms=9_000, **more,
        ))  # fmt: skip


FORM = "recent_conversion_date"


def test_one_submission_is_six_rows_at_five_destinations() -> None:
    rows = Desk().submit(1_000, FORM)
    assert rows.keys() == SYNCS
    assert len({row.row_id for row in rows.values()}) == 6
    assert json.loads(rows["braze_event"].fields) == {
        "name": "Form submitted", "form": "Demo", "at": "2026-01-15T08:00:00Z",
    }  # fmt: skip


def test_each_has_its_own_fate() -> None:
    desk = Desk()
    rows = desk.submit(1_000, FORM)
    fates = {
        "lead": OutcomeKind.parked, "member": OutcomeKind.written, "person": OutcomeKind.unknown,
        "customerio_event": OutcomeKind.accepted, "braze_event": OutcomeKind.parked,
        "klaviyo_event": OutcomeKind.returned,
    }  # fmt: skip
    told: dict[str, str] = {}
    for sync, kind in fates.items():
        more = {"until_ms": 10_000} if kind is OutcomeKind.returned else {"code": "BAD"}
        desk.became(sync, rows[sync], kind, object_id="1", **more)
        [told[sync]] = [n.standing for n in desk.notes if n.row_id == rows[sync].row_id]
    assert told == {
        "lead": Standing.parked, "member": Standing.written, "person": Standing.parked,
        "customerio_event": Standing.accepted, "braze_event": Standing.parked,
        "klaviyo_event": Standing.waiting,
    }  # fmt: skip


def test_what_happened_twice_is_told_twice_and_what_stands_there_once() -> None:
    """Nothing has an outcome yet: facts go out one by one, states wait behind their own row."""
    desk = Desk()
    first = desk.submit(1_000, FORM)
    second = desk.submit(2_000, FORM, recent_conversion_event_name="Pricing")
    assert second.keys() == FACTS
    assert json.loads(second["braze_event"].fields)["form"] == "Pricing"
    for sync in FACTS:
        desk.became(sync, first[sync], OutcomeKind.accepted)
        assert desk.told == ["accepted"]
        desk.became(sync, first[sync], OutcomeKind.accepted)
        assert desk.told == [], "an outcome that comes twice changes nothing"


def test_a_change_that_is_no_submission_is_no_fact() -> None:
    desk = Desk()
    desk.submit(1_000, FORM)
    desk.submit(2_000, "firstname", firstname="Anna")
    codes = Counter(n.standing for n in desk.notes)
    assert codes == {Standing.filtered: 3, Standing.waiting: 3}


def test_what_happened_is_told_as_it_was_though_something_newer_is_known() -> None:
    desk = Desk()
    desk.submit(2_000, FORM, recent_conversion_event_name="Pricing")
    late = desk.submit(1_000, FORM)
    assert late.keys() == FACTS
    assert json.loads(late["braze_event"].fields)["form"] == "Demo"


@pytest.mark.parametrize("sync", sorted(FACTS))
@pytest.mark.parametrize("fix", ["", "Mended"])
def test_a_fact_that_was_refused_is_released_with_what_it_said_but_for_fixes(
    sync: str, fix: str
) -> None:
    desk = Desk()
    row = desk.submit(1_000, FORM)[sync]
    desk.became(sync, row, OutcomeKind.parked, code="BAD")
    [record] = [p for p in desk.parked.values() if p]
    assert record.parked_id == row.row_id
    desk.submit(2_000, FORM, recent_conversion_event_name="Pricing", recent_conversion_date="now")
    if fix:
        values = json.dumps({"recent_conversion_event_name": fix}).encode()
        desk.act(ActKind.fix, sync=sync, targets=desk.target(record), values=values)
    desk.act(ActKind.release, sync=sync, targets=desk.target(record))
    again = desk.by_sync()[sync]
    assert again.row_id == row.row_id
    before, after = json.loads(row.fields), json.loads(again.fields)
    assert after == {**before, "form": fix or "Demo"}

"""A list that people gave, handed out as records of its bulk run, part by part.

The parts wait in rows of the run's partition. What a step hands out, the journal entry that says so
and the end of the rows are one transaction: whatever is killed, each record stands on its topic
once. Otherwise it is as with pages that a worker fetches: on credit, numbered, answered.
"""

import msgspec

from schemas import ids
from schemas.audiences import AudiencePart, Change
from schemas.events import EventKind, Origin, PlatformEvent
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from schemas.topics import JOURNAL, events_of
from streams.steps.catalog import Plan
from streams.steps.outputs import Outputs
from streams.steps.rows import Run
from streams.steps.work import Rows

__all__ = ["forget_parts", "hand_out", "part_key"]

RECORDS_MAX = 2_000
"""Of one transaction and one journal entry; a part that is begun is taken whole."""


def part_key(run: str, part: int) -> str:
    """Row that holds a part until it is handed out."""
    return f"!part|{run}|{part}"


def hand_out(
    run: Run, plan: Plan, platform: str, room: int, rows: Rows, out: Outputs
) -> None:  # fmt: skip
    """The next parts, at least one, as long as there is room for their records. `platform`: the
    source's."""
    run.step += 1
    notes: list[RowNote] = []
    pages = 0
    while run.part < run.parts and (not pages or len(notes) < min(room, RECORDS_MAX)):
        key = part_key(run.run, run.part)
        data = rows.get(key)
        assert data is not None, f"{key} is missing: parts stand before the act that starts"
        part = AudiencePart.model_validate(msgspec.msgpack.decode(data))
        rows.put(key, None)
        run.part, pages = run.part + 1, pages + 1
        for object_id in part.object_ids:
            number = run.fetched + len(notes)
            event = _event(run, plan, platform, part.change, object_id, number)
            out.send(events_of(platform), event.object_key, event)
            notes.append(
                RowNote(
                    row_id=ids.row_id(event.event_id, run.sync), event_id=event.event_id,
                    record_no=number, standing=Standing.in_transit,
                )
            )  # fmt: skip
    entry = JournalEntry(
        kind=JournalKind.page_fetched, at_ms=run.now_ms, sync=run.sync, run=run.run, rows=notes,
        connection=plan.source, step=run.step, cursor=str(run.part), pages=pages,
        records=len(notes), last=run.part >= run.parts,
    )  # fmt: skip
    out.send(JOURNAL, run.run, entry)


def forget_parts(run: Run, rows: Rows) -> None:
    """The run has ended: what was not handed out will never be."""
    for part in range(run.part, run.parts):
        rows.put(part_key(run.run, part), None)


def _event(
    run: Run, plan: Plan, platform: str, change: Change, object_id: str, record_no: int
) -> PlatformEvent:  # fmt: skip
    """What the list says of one object: nothing about its fields."""
    key = ids.object_key(plan.source, plan.source_object, object_id)
    return PlatformEvent(
        event_id=ids.fetched_event_id(run.run, key, change.value.encode()),
        connection=plan.source, platform=platform, object_type=plan.source_object,
        object_id=object_id, kind=EventKind.left if change is Change.leaves else EventKind.joined,
        origin=Origin.fetch, run=run.run, record_no=record_no, occurred_ms=run.listed_ms,
        received_ms=run.now_ms,
        platform_kind=f"audience.{change.value}", thin=True, values=b"{}", payload=b"",
    )  # fmt: skip

"""Events that were parked before they were decided, let in again or given up. Once for each.

They stand in no row: whoever asks brings them along. Where the object or person remembers that it
was done, a second asking changes nothing.
"""

from schemas.control import ActKind, Again
from schemas.events import ResolvedRecord
from schemas.ids import row_id
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from schemas.topics import JOURNAL
from streams.steps.admit import enter, full, seen
from streams.steps.catalog import Catalog
from streams.steps.outputs import Outputs
from streams.steps.rows import Link
from streams.steps.shape import decide
from streams.steps.work import Work

__all__ = ["again_at_admit", "again_at_shape"]

MENDED_MAX = 64
DONE = "released or discarded already"


def again_at_admit(link: Link, again: Again, catalog: Catalog, out: Outputs) -> Link:
    """Parked before it was known whose it is -> the object's row after."""
    event = again.event
    released = again.kind is ActKind.release
    if again.parked_id in link.mended:
        _confirm(out, again, 0, DONE)
    elif released and full(link):
        _confirm(out, again, 0, "its object still waits for its address, with too many events")
    else:
        link.mended = [*link.mended[1 - MENDED_MAX :], again.parked_id]
        out.parked(again.parked_id, None)
        for sync in catalog.wanted(event, {}):
            note = _note(again, sync, Standing.in_transit if released else Standing.discarded)
            out.note(JournalKind.admitted, sync, event.run, "", note)
        seen(link, event)
        if released:
            link = enter(link, event, catalog, out)
        _confirm(out, again, 1)
    return link


def again_at_shape(work: Work, again: Again) -> None:
    """Parked before it was decided for a sync. However late, it overwrites nothing newer."""
    person, event = work.person, again.event
    released = again.kind is ActKind.release
    if again.parked_id in person.mended:
        _confirm(work.out, again, 0, DONE)
    elif released and work.plan(again.sync, event.run) is None:
        _confirm(work.out, again, 0, "its sync is not defined")
    else:
        person.mended = [*person.mended[1 - MENDED_MAX :], again.parked_id]
        work.out.parked(again.parked_id, None)
        note = _note(again, again.sync, Standing.waiting if released else Standing.discarded)
        note = note.model_copy(update={"person": work.key})
        work.out.note(JournalKind.decided, again.sync, event.run, "", note)
        if released:
            decide(work, ResolvedRecord(person=work.key, event=event), again.sync)
        _confirm(work.out, again, 1)


def _note(again: Again, sync: str, standing: Standing) -> RowNote:
    event = again.event
    return RowNote(
        row_id=row_id(event.event_id, sync), event_id=event.event_id, record_no=event.record_no,
        standing=standing, was=Standing.parked.value, reason=again.why, by=again.who,
        code="released" if again.kind is ActKind.release else "discarded",
    )  # fmt: skip


def _confirm(out: Outputs, again: Again, done: int, why: str = "") -> None:
    entry = JournalEntry(
        kind=JournalKind.confirmed, at_ms=again.when_ms, sync=again.sync, run=again.event.run,
        act_id=again.act_id, who=again.who, records=done, why=why,
    )  # fmt: skip
    out.send(JOURNAL, again.event.run or again.sync or again.act_id, entry)

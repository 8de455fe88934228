"""Objects that are taken away at a destination, since theirs at the source is deleted or forgotten.

A sync says so in its `kinds`: `deleted: archive`. The row of such an event carries no values; it
overtakes what waits and what was refused of the person there. A deletion has its time, as a value
has: one that is older than what the object has told since is stale, and what the object has told
before it is stale from then on. Who tells of it again later brings it back, and it is made anew. As
long as another object of the person leads to the same destination, nothing is taken away there.
"""

from schemas.definitions import ERASE
from schemas.events import EventKind, Origin, PlatformEvent
from schemas.ids import object_key
from schemas.journal import Standing
from schemas.outcomes import RecordOutcome
from streams.steps.catalog import Plan
from streams.steps.rows import Destination, Row, Source, Values
from streams.steps.values import along, forget, timed
from streams.steps.work import Work

__all__ = [
    "another", "found_by", "given_back", "hear", "may_stand", "outdated", "removed", "silent",
]  # fmt: skip

BACK = frozenset((EventKind.created, EventKind.updated, EventKind.subscribed))
"""Kinds by which a deleted object shows that it is there again."""
ANYWAY = frozenset((EventKind.forgotten, EventKind.merged, EventKind.associated))
GONE_MAX = 8


def hear(work: Work, source: Source, event: PlatformEvent, *, kept: bool) -> None:
    """Remember that an object is gone, or there again. `kept`: also if it was never heard of."""
    at_ms = min(event.occurred_ms, event.received_ms)
    if event.kind is EventKind.deleted and event.origin is not Origin.read:
        if at_ms >= max(source.known.newest(), source.made_ms) and (
            kept or event.object_key in work.person.sources
        ):
            source.deleted_ms = max(source.deleted_ms, at_ms)
            work.person.sources[event.object_key] = source
    elif event.kind in BACK:
        if event.kind is EventKind.created:
            source.made_ms = max(source.made_ms, at_ms)
        if at_ms > source.deleted_ms:
            source.deleted_ms = 0


def outdated(plan: Plan, source: Source, event: PlatformEvent) -> bool:
    """Whether the object is gone by now, or has told of itself since it was said to be."""
    if EventKind.deleted not in plan.removals or event.kind in ANYWAY:
        return False
    return (event.kind is EventKind.deleted) is not bool(source.deleted_ms)


def silent(plan: Plan, source: Source) -> bool:
    """The object is another one now, or gone: it says nothing more to this sync."""
    return bool(source.became or (source.deleted_ms and EventKind.deleted in plan.removals))


def another(work: Work, plan: Plan, gone: str) -> str:
    """An object of the person, other than the one that is gone, that leads to the same place."""
    for key, source in work.person.sources.items():
        if key != gone and source.stands:
            plans = (work.plan(sync, "") for sync in source.decided)
            if any(other is not None and other.target == plan.target for other in plans):
                return key
    return ""


def may_stand(there: Destination, how: str) -> bool:
    """Whether something of the person stands there, or is about to."""
    waits = any(state.next is not None for state in there.syncs.values())
    stands = there.object_id or there.written.values or there.maybe or (there.gone and how == ERASE)
    return bool(stands or there.out or waits)


def found_by(plan: Plan, there: Destination, row: Row) -> bool:
    """Say which object is meant, and by what it is found where no id is known, or where another one
    may have been made since -> whether there may be one."""
    if not there.object_id and there.gone and not there.maybe:
        there.object_id = there.gone.pop()
    maybe = timed(there.maybe, {name: there.written.time(name) for name in there.maybe})
    along(row.fields, maybe, plan.always)
    along(row.fields, there.written, plan.always)
    return bool(there.object_id or there.written.values or there.maybe)


def removed(work: Work, there: Destination, row: Row, outcome: RecordOutcome) -> bool:
    """It is gone -> whether another object of the person there has yet to go the same way."""
    object_id, there.object_id = outcome.object_id or there.object_id, ""
    there.written, there.maybe, there.sent, there.released = Values(), {}, {}, {}
    if object_id and row.removal != ERASE:  # an erasure may still come, and must reach it
        there.gone = [*(i for i in there.gone if i != object_id), object_id][-GONE_MAX:]
    key = object_key(outcome.connection, outcome.object_type, object_id)
    if source := work.person.sources.get(key):
        source.deleted_ms = max(source.known.newest(), outcome.at_ms)
    if there.also:
        there.object_id = there.also.pop(0)
    elif not (row.removal == ERASE and there.gone):
        return False
    work.note(row, Standing.waiting, "also", reason="the person has another object there")
    return True


def given_back(there: Destination, row: Row) -> None:
    """Nobody knows whether it was done: what comes next must not count on the object."""
    if there.object_id:
        there.gone = [*there.gone, there.object_id]
        there.object_id = ""
    else:
        there.maybe |= row.fields.values
    forget(there.written, list(there.written.values))

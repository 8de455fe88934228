"""Syncs for the objects of a list: who is on it, and what that sets at the destination.

A list comes as records of a bulk run, one for each object that is on it and one for each that has
left (`joined`, `left`). The object remembers what the newest list said. Every row of a member
carries what the sync sets for members; of a person none of whose objects is on the list, only what
it sets for those who left goes out, to where something of them stands.
"""

from typing import Any

from schemas.events import EventKind, PlatformEvent
from schemas.journal import Standing
from streams.steps.catalog import Plan
from streams.steps.rows import Destination, Row, Source, Values
from streams.steps.values import along, stamp_at, timed
from streams.steps.work import Work

__all__ = ["LISTED", "hear", "leaves", "member", "overlay"]

LISTED = frozenset((EventKind.joined, EventKind.left))


def hear(source: Source, event: PlatformEvent, sync: str) -> None:
    """Remember whether the object is on the list of a sync. An older list changes nothing."""
    stamp = stamp_at(event.occurred_ms, event.object_key)
    if stamp >= source.lists.get(sync, (0, False))[0]:
        source.lists[sync] = (stamp, event.kind is EventKind.joined)


def member(work: Work, plan: Plan) -> bool:
    """Whether the sync has no list, or some object of the person is on it."""
    return plan.audience is None or _newest(work, plan, on=True) > 0


def overlay(work: Work, plan: Plan, row: Row) -> None:
    """Put what members get over what was mapped: as new as the newest list."""
    if plan.audience is not None and plan.audience.joined:
        _set(plan, row, plan.audience.joined, _newest(work, plan, on=True))


def leaves(work: Work, plan: Plan, there: Destination, row: Row) -> bool:
    """No object of the person is on the list: the row is only what that sets, if anything of the
    person stands there, or is on its way -> whether it is to go out; else it has its fate."""
    assert plan.audience is not None
    state = there.syncs.get(plan.sync)
    under_way = there.out is not None or (state is not None and not state.idle())
    stamp = _newest(work, plan, on=False)
    if not stamp:
        work.note(row, Standing.filtered, "not_member", reason="it is on no list of the sync")
        return False
    if not plan.audience.left or not (there.object_id or there.written.values or under_way):
        work.note(row, Standing.filtered, "left", reason="nothing is to be set there")
        return False
    row.fields = Values(stamp, dict[str, Any]())
    _set(plan, row, plan.audience.left, stamp)
    along(row.fields, there.written, plan.always)
    return True


def _set(plan: Plan, row: Row, sets: dict[str, Any], stamp: int) -> None:
    """Where the sync's source rules, the list's word does as well: else what the source has mapped
    is above it."""
    times = {name: row.fields.time(name) for name in row.fields.values}
    times |= {name: plan.rules.raised(name, stamp) for name in sets}
    row.fields = timed({**row.fields.values, **sets}, times)


def _newest(work: Work, plan: Plan, *, on: bool) -> int:
    """Stamp of the newest word that an object of the person is on the list, or off it; 0: none."""
    of = f"{plan.source}:{plan.source_object}:"
    return max(
        (
            stamp
            for key, source in work.person.sources.items()
            if key.startswith(of) and (told := source.lists.get(plan.sync)) is not None
            for stamp, member_ in (told,)
            if member_ is on
        ),
        default=0,
    )

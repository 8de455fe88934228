"""Kinds of events that a sync answers by itself: unsubscribed, bounced, deleted, forgotten.

A sync says what each kind sets at its destination (`kinds:`). An unsubscribe is about the person:
until somebody subscribes again later, every row of such a sync carries what it sets, whatever the
mapping says, whether the row comes live, from a run, a release, a resend or a replay. It overtakes
what is queued for the person, and waits behind nothing that was refused.
"""

from typing import Any

from schemas.events import EventKind, PlatformEvent
from streams.steps.catalog import Plan
from streams.steps.rows import Destination, Row, Values
from streams.steps.values import along, drop, stamp_at, timed
from streams.steps.work import Work

__all__ = [
    "ANSWERED",
    "GONE",
    "SUPPRESSING",
    "alone",
    "answered_by",
    "hear",
    "heard_last",
    "only_what_it_sets",
    "overlay",
    "standing_no",
]

SUPPRESSING = frozenset((EventKind.unsubscribed.value, EventKind.bounced.value))
CONSENT = SUPPRESSING | {EventKind.subscribed.value}
GONE = frozenset((EventKind.deleted.value, EventKind.forgotten.value))
ANSWERED = CONSENT | GONE


def hear(work: Work, event: PlatformEvent, at_ms: int) -> None:
    """Remember the latest word on whether the person may be written to."""
    stamp = stamp_at(at_ms, event.object_key)
    if event.kind.value in CONSENT and stamp >= work.person.consent[0]:
        work.person.consent = (stamp, event.kind.value)


def answered_by(plan: Plan, event: PlatformEvent) -> bool:
    """Whether the sync has an answer to this kind."""
    kind = event.kind.value
    return (kind in plan.kinds or kind in plan.removals) and not plan.fact


def overlay(work: Work, plan: Plan, there: Destination, row: Row, kind: str) -> None:
    """Put what the kind of the event, or the person's standing no, sets over what was mapped.

    A word on consent is as new as whatever stands there: no mapped value, however new, is above it.
    """
    stamp, latest = work.person.consent
    sets = dict[str, Any]()
    if kind in GONE or kind == latest:
        sets |= plan.kinds.get(kind, {})
    if latest in SUPPRESSING:
        sets |= plan.kinds.get(latest, {})
    if not sets:
        return
    times = {name: row.fields.time(name) for name in row.fields.values}
    for name in sets:
        times[name] = row.fields.newest()
        if kind not in GONE:
            times[name] = max(stamp, times[name], _newest(there, name))
    row.fields = timed({**row.fields.values, **sets}, times)


def heard_last(work: Work, plan: Plan, row: Row) -> bool:
    """Whether the row holds the last word of a person who was joined: a no of the other one may
    have borrowed a newer time."""
    (stamp, latest), joins = work.person.consent, work.person.joins
    sets = plan.kinds.get(latest, {})
    return bool(sets and joins is not None and joins.members) and all(
        row.fields.values.get(name) == value and row.fields.time(name) >= stamp
        for name, value in sets.items()
    )


def _newest(there: Destination, name: str) -> int:
    """Of what stands there, is on its way, or waits."""
    rows = [there.out, *(state.next for state in there.syncs.values())]
    on_their_way = [row.fields for row in rows if row is not None and name in row.fields.values]
    return max(values.time(name) for values in (there.written, *on_their_way))


def alone(plan: Plan, row: Row) -> None:
    """Something of the person was refused before: leave of the row what withdraws the consent."""
    kept = plan.always.union(*(plan.kinds.get(kind, {}) for kind in SUPPRESSING))
    for name in [n for n in row.fields.values if n not in kept]:
        drop(row.fields, name)


def standing_no(work: Work, plan: Plan) -> str:
    """The person's last word, if it is a no that the sync answers; else nothing."""
    latest = work.person.consent[1]
    return latest if latest in SUPPRESSING and latest in plan.kinds else ""


def only_what_it_sets(
    work: Work, plan: Plan, there: Destination, row: Row, kind: str, stamp: int
) -> bool:  # fmt: skip
    """The mapping gives no row, or the object is gone: what the kind sets goes out alone, if there
    is, or may be, something at the destination that it could concern -> whether it does."""
    waits = any(state.next is not None for state in there.syncs.values())
    if not (there.object_id or there.written.values or there.out or waits or there.maybe):
        return False
    row.urgent |= kind in SUPPRESSING
    row.fields = Values(stamp, dict[str, object]())
    overlay(work, plan, there, row, kind)
    if row.fields.values:
        written = there.written
        maybe = timed(there.maybe, {name: written.time(name) for name in there.maybe})
        along(row.fields, maybe, plan.always)
        along(row.fields, written, plan.always)
    return bool(row.fields.values)

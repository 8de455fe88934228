"""Snapshot first: an object is read only when what an event needs is unknown, or in doubt.

Unknown: a field that some mapping looks at has never been seen of this object. In doubt: two values
of a field whose times do not tell which is the later one, or a change that met a row of ours on its
way. Then the event waits in the object's row, in order with those that come after it, until the
whole has been read; what met a row, when that has its outcome. Never more than one read of an
object is under way; a worker answers each, if only by saying that the object is gone.
"""

from collections.abc import Iterable, Sequence

import msgspec

from schemas.events import EventKind, PlatformEvent
from schemas.journal import Standing
from streams.steps.catalog import Plan
from streams.steps.rows import Row, Source, pack
from streams.steps.values import stamp_at
from streams.steps.work import Work

__all__ = [
    "ONCE_MORE", "all_in_doubt", "answered", "full", "open_questions", "read_what_met", "saw_whole",
    "take_waiting", "wait",
]  # fmt: skip

WAITING_MAX = 100
WAITING_BYTES_MAX = 400_000
UNDER_WAY, ONCE_MORE = 1, 2
"""Once more: what was in doubt came up while the read was under way, so it may not show it."""


def saw_whole(work: Work, source: Source, event: PlatformEvent) -> None:
    """The whole object was told: remember of which fields that speaks."""
    source.scope = work.catalog.scope(event.connection, event.object_type)
    if source.scope not in work.index.scopes:
        reads = work.catalog.reads(event.connection, event.object_type)
        work.index.scopes[source.scope] = sorted(reads)


def open_questions(
    work: Work, source: Source, event: PlatformEvent, plans: Sequence[Plan]
) -> bool:  # fmt: skip
    """Whether something must be read before this event can be decided for these syncs, and those
    before it that wait."""
    waiting = {sync for _, syncs in source.waiting for sync in syncs}
    known = [plan for sync in waiting if (plan := work.plan(sync, "")) is not None]
    if not source.doubts and not _unknown(work, source, event, [*plans, *known]):
        return False
    return bool(event.object_id) and work.catalog.readable(event.connection, event.object_type)


def all_in_doubt(source: Source, reads: Iterable[str], event: PlatformEvent) -> None:
    """Two objects have become this one: of neither is known what it holds now. What was told of it
    before that is older, whatever it says; what it holds, it holds by that choice, made then."""
    known = source.known
    source.doubts = sorted(reads)
    times = {name: known.time(name) for name in source.doubts}
    now_ms = min(event.occurred_ms, event.received_ms)
    known.times = {name: max(at, now_ms) for name, at in times.items() if at}
    chosen = stamp_at(now_ms, event.object_key)
    source.born = {name: max(at, chosen) for name, at in source.born.items()}


def wait(
    work: Work, source: Source, event: PlatformEvent, rows: Sequence[Row], doubtful: int,
    met: Sequence[str] = (),
) -> None:  # fmt: skip
    """Let the event wait in the object's row; ask, if no read is under way. `rows`: what it asks of
    each sync. `doubtful`: number of fields that were in doubt before it came; -1: all of them.
    `met`: fields whose change met a row of ours on its way."""
    source.met |= bool(met)
    source.waiting.append((pack(event.model_dump()), [row.sync for row in rows]))
    for row in rows:
        code = "in_doubt" if source.doubts else "unknown_field"
        code = "merged" if event.kind is EventKind.merged else code
        work.note(row, Standing.held, code, field=",".join(source.doubts))
    if not source.reading:
        _ask(work, source, event.object_key)
    elif len(source.doubts) > doubtful:
        source.reading = ONCE_MORE


def full(source: Source) -> bool:
    """Whether as many events as a row may hold wait for a read."""
    sizes = [len(packed) for packed, _ in source.waiting]
    return len(sizes) >= WAITING_MAX or sum(sizes) > WAITING_BYTES_MAX


def answered(work: Work, source: Source, event: PlatformEvent, met: Sequence[str] = ()) -> bool:
    """A read of ours has come back -> whether it settles everything. `met`: as for `wait`."""
    source.met |= bool(met)
    if source.reading == ONCE_MORE or met:
        _ask(work, source, event.object_key)
        return False
    source.reading, source.met = 0, False
    source.doubts = []
    return True


def take_waiting(source: Source) -> list[tuple[PlatformEvent, list[str]]]:
    """Those that waited, in order, each with its syncs; none waits any more."""
    waited = [
        (PlatformEvent.model_validate(msgspec.msgpack.decode(packed)), syncs)
        for packed, syncs in source.waiting
    ]
    source.waiting = []
    return waited


def _unknown(work: Work, source: Source, event: PlatformEvent, plans: Sequence[Plan]) -> bool:
    known, scope = source.known, source.scope
    if known.at_ms:
        if not scope or scope == work.catalog.scope(event.connection, event.object_type):
            return False
        seen = work.index.scopes.get(scope, ())
        return any(
            name not in seen and name not in known.times
            for plan in plans
            for name in plan.mapping.inputs
        )
    return any(name not in known.times for plan in plans for name in plan.mapping.inputs)


def read_what_met(work: Work, target: str) -> None:
    """A row to this destination has its outcome: what met it on its way can be read now."""
    for key, source in work.person.sources.items():
        if source.met and not source.reading and key.startswith(f"{target}:"):
            _ask(work, source, key)


def _ask(work: Work, source: Source, object_key: str) -> None:
    """Not while a row is out to an object where one was met: the read could come before it."""
    name, kind, object_id = object_key.split(":", 2)
    there = work.person.destinations.get(f"{name}:{kind}")
    if source.met and there is not None and there.out is not None:
        source.reading = 0
        return
    connection = work.catalog.connections[name]
    work.out.read(
        connection.platform, connection.account, name, kind, object_id,
        work.catalog.reads(name, kind),
    )  # fmt: skip
    source.reading = UNDER_WAY

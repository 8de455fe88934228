"""What is each destination owed? `records.resolved` to rows, by person.

For each sync that wants the event, in this order: stale, filtered, mapped, validated, echo,
unchanged, next. A fetched record is decided for its run's sync only, and what we read
ourselves for none; both refresh what is known of the object, for all.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from schemas.events import EventKind, Origin, PlatformEvent, ResolvedRecord
from schemas.ids import derive, row_id, sync_of
from schemas.journal import Standing
from schemas.parked import ParkedRecord, Stage
from streams.steps import audience, facts, preview, removal
from streams.steps.catalog import FieldError, Plan, Shaped
from streams.steps.consent import (
    ANSWERED,
    GONE,
    SUPPRESSING,
    answered_by,
    hear,
    only_what_it_sets,
    overlay,
    standing_no,
)
from streams.steps.echo import (
    ROUNDS_MAX,
    Turn,
    adopt,
    echoed,
    leave_out,
    look,
    read_since,
    rounds,
    stands,
    told,
)
from streams.steps.fixes import overtaken
from streams.steps.privacy import forget_all, refuse, wipe
from streams.steps.reading import (
    ONCE_MORE,
    all_in_doubt,
    answered,
    full,
    open_questions,
    saw_whole,
    take_waiting,
    wait,
)
from streams.steps.rows import Destination, Row, Source, Values
from streams.steps.sending import advance, mended, offer, owe
from streams.steps.values import (
    OBJECT_BITS,
    fold,
    overrule,
    patch,
    renew,
    stamp_at,
    stamp_of,
    timed,
)
from streams.steps.work import Work, without_values

__all__ = ["decide", "end_there", "map_again", "park_unshaped", "say_again"]

FUTURE_MS = 5 * 60_000
RELEASED = 1
NOT_FOLLOWED = frozenset((
    EventKind.deleted, EventKind.forgotten, EventKind.merged, EventKind.associated,
))  # fmt: skip
"""Kinds that say nothing about the fields of the object."""


def decide(work: Work, record: ResolvedRecord, again: str = "") -> None:
    """One event of one person, for every sync that wants it: exactly one note each.

    `again`: only for this sync, for which it was parked undecided and has been released.
    """
    event = record.event
    key = event.object_key
    plans = tuple(p for p in _plans(work, event) if not again or p.sync == again)
    reads = work.catalog.reads(event.connection, event.object_type)
    if not reads and not plans:
        return
    if work.person.erased_ms:
        for row in (_row(work, plan.sync, event) for plan in plans):
            row.standing = Standing.waiting.value if again else ""
            refuse(work, row)
        return
    source = work.person.sources.get(key) or Source()
    if (
        source.became
        and source.gone_ms < event.occurred_ms <= event.received_ms + FUTURE_MS
        and event.kind not in NOT_FOLLOWED
        and event.kind not in audience.LISTED
    ):
        source.became = ""  # its address is given back: it lives again
    stale, doubtful, turns, met = False, len(source.doubts), list[Turn](), list[str]()
    there: Destination | None = None
    if event.kind not in NOT_FOLLOWED and reads and not source.became:
        work.person.sources[key] = source
        seen = look(work, source, event)
        stale = _learn(work, source, event, reads)
        if seen is not None:
            there = seen.there
            turns, met, behind = told(work, source, event, seen)
            source.doubts += [name for name in met if name not in source.doubts]
            if behind:
                _say_newer(work, event)
    removal.hear(work, source, event, kept=any(plan.removals for plan in plans))
    if event.kind in audience.LISTED:
        work.person.sources[key] = source
        audience.hear(source, event, sync_of(event.run))
    if event.origin is Origin.read:
        in_doubt = source.doubts
        if answered(work, source, event, met):
            if there is not None:
                read_since(there, in_doubt)
            _decide_waiting(work, source)
            if there is not None:
                advance(work, there)
        return
    if event.kind.value in ANSWERED:
        hear(work, event, min(event.occurred_ms, event.received_ms))
    rows = [_row(work, plan.sync, event) for plan in plans]
    for row in rows if again else ():
        row.standing, row.rank, row.asked = Standing.waiting.value, RELEASED, True
    if event.kind is EventKind.forgotten and any(answered_by(plan, event) for plan in plans):
        _forget(work, list(zip(plans, rows, strict=True)), event)
        return
    news = [
        (plan, row)
        for plan, row in zip(plans, rows, strict=True)
        if not _at_once(work, plan, source, row, event, stale=stale and not source.doubts)
    ]
    if not news:
        return
    if event.kind.value in ANSWERED:
        for plan, row in [pair for pair in news if answered_by(pair[0], event)]:
            _decide_for(work, plan, source, row, event)  # it waits for no read
        news = [pair for pair in news if not answered_by(pair[0], event)]
    for pair in [pair for pair in news if not audience.member(work, pair[0])]:
        _decide_for(work, pair[0], source, pair[1], event)  # it is sent nothing that must be known
        news.remove(pair)
    merged = event.kind is EventKind.merged
    if merged:
        all_in_doubt(source, reads, event)
    asking = [plan for plan, _ in news]
    if not open_questions(work, source, event, asking):
        if source.waiting:
            _decide_waiting(work, source)
        for plan, row in news:
            source.decided[plan.sync] = source.revision
            turn = rounds(work, plan, turns) if turns else None
            _decide_for(work, plan, source, row, event, turn)
    elif full(source):
        words = f"{len(source.waiting)} events of this object wait for a read already"
        for _, row in news:
            _park_unshaped(work, row, event, "too_many_waiting", words)
    else:
        work.person.sources[key] = source
        wait(work, source, event, [row for _, row in news], -1 if merged or met else doubtful, met)


def _forget(work: Work, pairs: Sequence[tuple[Plan, Row]], event: PlatformEvent) -> None:
    """The person is forgotten: each sync that says so does its part, and nothing else goes out of
    them from then on."""
    forget_all(work, min(event.occurred_ms, event.received_ms))
    for plan, row in pairs:
        if answered_by(plan, event):
            _decide_for(work, plan, Source(), row, event)
        else:
            work.note(row, Standing.filtered, f"kind_{event.kind.value}")
    wipe(work)


def _row(work: Work, sync: str, event: PlatformEvent) -> Row:
    """What the event asks of one sync, not decided yet."""
    mark = work.index.runs.get(event.run) if event.run else None
    return Row(
        row_id=row_id(event.event_id, sync), event_id=event.event_id, sync=sync,
        source=event.object_key, fields=Values(), run=event.run, record_no=event.record_no,
        rank=_rank(event), force=mark is not None and mark.force,
    )  # fmt: skip


def _at_once(
    work: Work, plan: Plan, source: Source, row: Row, event: PlatformEvent, *, stale: bool
) -> bool:  # fmt: skip
    """Whether the record has its fate already: nothing needs to be known of its object for that."""
    mark = work.index.runs.get(event.run) if event.run else None
    if mark is not None and mark.state == "cancelled":
        work.note(row, Standing.cancelled, "run_cancelled", reason=mark.why, by=mark.who)
    elif source.became and (event.kind is EventKind.deleted or not answered_by(plan, event)):
        work.note(row, Standing.filtered, "object_merged", reason=f"it is {source.became} now")
    elif removal.outdated(plan, source, event):
        words = "it was deleted" if source.deleted_ms else "it has told of itself since"
        work.note(row, Standing.stale, "deleted", reason=words)
    elif (
        event.kind in NOT_FOLLOWED
        and not answered_by(plan, event)
        and not _read_anew(work, plan, event)
    ):
        work.note(row, Standing.filtered, f"kind_{event.kind.value}")
    elif event.kind in audience.LISTED and plan.audience is None:
        work.note(row, Standing.filtered, "no_list", reason="its sync has no audience any more")
    elif stale and source.decided.get(plan.sync) == source.revision and not plan.fact:
        work.note(row, Standing.stale, "older", reason="something newer was known already")
    else:
        return False
    return True


def _read_anew(work: Work, plan: Plan, event: PlatformEvent) -> bool:
    """Two objects have become this one: what it holds now, only a read can tell."""
    readable = work.catalog.readable(event.connection, event.object_type)
    return event.kind is EventKind.merged and readable and not plan.fact


def _decide_waiting(work: Work, source: Source) -> None:
    """Everything is known now that the waiting events need: decide them, in order."""
    for event, syncs in take_waiting(source):
        for sync in syncs:
            plan = work.plan(sync, event.run)
            row = _row(work, sync, event)
            row.standing = Standing.held.value
            if plan is None:
                _park_unshaped(work, row, event, "no_definition", "its sync is not defined")
            elif not _at_once(work, plan, source, row, event, stale=False):
                source.decided[sync] = source.revision
                _decide_for(work, plan, source, row, event)


def map_again(
    work: Work, plan: Plan, there: Destination, row: Row, *, invalid: bool, word: str = ""
) -> None:  # fmt: skip
    """Decide a row anew from what is known now: it was owed, and has been released.

    `invalid`: our own checks refused it, for what its object says. What the destination refused
    may carry values of all the person's objects that came through this sync: they all speak again.
    `word`: the last one on consent, where it is news for the destination. Where no object gives a
    row, that word goes out alone, as a no that stands always does.
    """
    work.person.seq += 1
    row.seq = work.person.seq
    own = work.person.sources.get(row.source)
    if plan.fact:
        _fact_again(work, plan, there, row, own or Source())
        return
    shaped, whole = Shaped(None, why="no object says so by itself"), Values()
    if own is not None:
        shaped = _said(work, plan, own, _event_again(work, row, row.source, own))
    if own is not None and not shaped.errors:
        whole = _with_times(plan, row.source, own, shaped.fields or {})
    for key, source in work.person.sources.items():
        if invalid or key == row.source or plan.sync not in source.decided:
            continue
        if removal.silent(plan, source):
            continue
        other = _shape(work, plan, source, _event_again(work, row, key, source))
        if other.fields and not other.errors:
            whole = fold(_with_times(plan, key, source, other.fields), whole)
    valid = shaped.fields is not None and not shaped.errors
    word = word or standing_no(work, plan)
    if whole.values:
        shaped = Shaped(whole.values)
    elif word and not invalid:
        stamp = work.person.consent[0]
        if only_what_it_sets(work, plan, there, row, word, stamp):
            offer(work, plan, there, row)
            advance(work, there)
            return
    _take(work, plan, there, row, shaped, whole, valid=valid, kind=word)


def say_again(
    work: Work, plan: Plan, keys: Iterable[str], row_id: str, event_id: str,
    *, why: str, by: str, force: bool, word: str = "",
) -> bool:  # fmt: skip
    """What these objects of the person say now, as one new record of the sync -> whether any of
    them speaks, or what the person said of consent does. `keys`: of objects that are known;
    `word`: as in `map_again`."""
    sources = work.person.sources
    told = {key: sources[key].known.newest() for key in keys}
    known = {key: at_ms for key, at_ms in told.items() if not removal.silent(plan, sources[key])}
    if not known and (word or standing_no(work, plan)):
        known = told
    if not known:
        return False
    there = work.person.destinations.setdefault(plan.target, Destination())
    row = Row(
        row_id=row_id, event_id=event_id, sync=plan.sync,
        source=max(known, key=lambda key: (known[key], key)), fields=Values(), rank=RELEASED,
        force=force,
    )  # fmt: skip
    work.note(row, Standing.waiting, "resent", reason=why, by=by)
    map_again(work, plan, there, row, invalid=False, word=word)
    return True


def _say_newer(work: Work, event: PlatformEvent) -> None:
    """What stands at the event's object is older than what others say, who were sent nothing as it
    was equal there: now they are."""
    target = f"{event.connection}:{event.object_type}"
    of = {tuple(key.split(":", 2)[:2]) for key in work.person.sources}
    for plan in [plan for source in sorted(of) for plan in work.live(*source)]:
        if plan.fact or plan.target != target:
            continue
        keys = [key for key, s in work.person.sources.items() if plan.sync in s.decided]
        words = "something older than what was equal there stands there now"
        new = derive("newer", event.event_id, plan.sync)
        say_again(work, plan, keys, new, event.event_id, why=words, by="", force=False)


def _fact_again(work: Work, plan: Plan, there: Destination, row: Row, own: Source) -> None:
    """What happened once is told as it was, but for what people have mended since. Where our own
    checks refused it, it is made of what is known now; the mapping sees all fields as changed."""
    event = _event_again(work, row, row.source, own)
    event = event.model_copy(update={"changed": sorted(plan.mapping.inputs)})
    shaped, said = _shape(work, plan, own, event), row.fields
    fields = shaped.fields or {}
    if said.values:
        mended = {
            name: fields[name]
            for name, made_of in plan.mapping.reads.items()
            if name in fields and not made_of.isdisjoint(own.fixes)
        }
        fields = {**said.values, **mended}
        shaped = Shaped(fields, tuple(e for e in shaped.errors if e.field in mended))
    times = _with_times(plan, row.source, own, fields)
    fields_then = timed(fields, {name: said.time(name) or times.time(name) for name in fields})
    _take(work, plan, there, row, shaped, fields_then, valid=True)


def park_unshaped(work: Work, record: ResolvedRecord, code: str, words: str) -> None:
    """The event could not be decided at all: it is parked for every sync that wanted it."""
    event = record.event
    for sync in work.catalog.wanted(event, work.index.pins):
        _park_unshaped(work, _row(work, sync, event), event, code, words)


def _plans(work: Work, event: PlatformEvent) -> tuple[Plan, ...]:
    if event.run:
        plan = work.plan(sync_of(event.run), event.run)
        if plan is None:
            words = "its sync is not defined"
            park_unshaped(
                work, ResolvedRecord(person=work.key, event=event), "no_definition", words
            )
        return (plan,) if plan else ()
    if event.origin is Origin.read:
        return ()
    return work.live(event.connection, event.object_type)


def _rank(event: PlatformEvent) -> int:
    if event.origin is Origin.replay:
        return 3
    return 2 if event.run or event.origin is Origin.backfill else 0


def _learn(work: Work, source: Source, event: PlatformEvent, reads: frozenset[str]) -> bool:
    """Enter the event into the snapshot -> whether it is stale.

    A source time later than receipt + 5 min counts as receipt, and is uncertain.
    """
    seen: dict[str, Any] = msgspec.json.decode(event.values)
    at_ms, certain = event.occurred_ms, event.time_certain
    if at_ms > event.received_ms + FUTURE_MS:
        at_ms, certain = event.received_ms, False
    changed, stale = patch(
        source.known, seen, reads, at_ms, whole=not event.thin, certain=certain,
        doubts=source.doubts,
    )  # fmt: skip
    if not event.thin:
        saw_whole(work, source, event)
        if event.origin is Origin.read and source.doubts and source.reading != ONCE_MORE:
            changed |= overrule(source.known, seen, source.doubts)
    if changed:
        source.revision += 1
        overtaken(work, event.object_key, source)
    return stale


def _decide_for(
    work: Work, plan: Plan, source: Source, row: Row, event: PlatformEvent, turn: Turn | None = None
) -> None:  # fmt: skip
    """`turn`: what makes it go round between two syncs too often."""
    if answered_by(plan, event) and preview.only_shown(work, row):
        work.note(row, Standing.filtered, f"would_answer_{event.kind.value}")
        return
    if event.kind.value in GONE and answered_by(plan, event):
        stamp = stamp_at(event.occurred_ms, event.object_key)
        end_there(work, plan, row, event.kind.value, stamp, event.object_key)
        return
    work.person.seq += 1
    row.seq = work.person.seq
    there = adopt(work, plan)
    shaped = _said(work, plan, source, event)
    fields = _with_times(plan, row.source, source, shaped.fields or {})
    if turn is not None and shaped.fields is not None and not shaped.errors:
        words = (
            f"`{plan.sync}` and `{turn.sync}` send it round, more than {ROUNDS_MAX} times an hour"
        )
        shaped = Shaped(shaped.fields, (FieldError("validate", turn.field, "goes_round", words),))
    if answered_by(plan, event):
        row.urgent = event.kind.value in SUPPRESSING
        stamp = stamp_at(event.occurred_ms, event.object_key)
        if (shaped.fields is None or shaped.errors) and only_what_it_sets(
            work, plan, there, row, event.kind.value, stamp
        ):
            offer(work, plan, there, row)
            advance(work, there)
            return
    _take(work, plan, there, row, shaped, fields, valid=True, kind=event.kind.value)
    if there.blank():
        del work.person.destinations[plan.target]


def end_there(work: Work, plan: Plan, row: Row, kind: str, stamp: int, gone: str) -> None:
    """What a sync does at its destination about who is deleted or forgotten: the object is taken
    away, or fields are set. `gone`: the source object; empty: all of the person's."""
    work.person.seq += 1
    row.seq = work.person.seq
    row.urgent = kind == EventKind.forgotten or kind in plan.removals
    there = adopt(work, plan)
    row.fields, row.removal = Values(stamp, dict[str, object]()), plan.removals.get(kind, "")
    other = removal.another(work, plan, gone) if row.removal and kind == EventKind.deleted else ""
    if row.removal:
        concerns = removal.may_stand(there, row.removal)
    else:
        concerns = only_what_it_sets(work, plan, there, row, kind, stamp)
    if other:
        work.note(row, Standing.filtered, "another_remains", reason=f"{other} is the same person's")
    elif concerns:
        offer(work, plan, there, row)
        advance(work, there)
    else:
        work.note(row, Standing.filtered, "nothing_there")
    if there.blank():
        del work.person.destinations[plan.target]


def _said(work: Work, plan: Plan, source: Source, event: PlatformEvent) -> Shaped:
    """What an object says by itself: nothing, where it is another one now."""
    if source.became:
        return Shaped(None, why=f"it is {source.became} now")
    if removal.silent(plan, source):
        return Shaped(None, why="it was deleted")
    return _shape(work, plan, source, event)


def _shape(work: Work, plan: Plan, source: Source, event: PlatformEvent) -> Shaped:
    """Filter, map and validate what is known of an object, with what people have mended in it."""
    known = source.known.values
    values = {name: known.get(name) for name in plan.mapping.inputs}
    if plan.fact:  # what the event itself says, however much is known that is newer
        told: dict[str, Any] = msgspec.json.decode(event.values)
        values |= {name: told[name] for name in told.keys() & values.keys()}
    for name, (_, instead) in source.fixes.items():
        values[name] = instead
    return plan.mapping.shape(values, event, work.key)


def _take(
    work: Work, plan: Plan, there: Destination, row: Row, shaped: Shaped, fields: Values,
    *, valid: bool, kind: str = "",
) -> None:  # fmt: skip
    """Every decided record lands in exactly one branch; then the destination goes on.

    `valid`: the row is made of its own object; else only others of the person speak in it.
    """
    row.fields = fields
    if not audience.member(work, plan):
        if preview.only_shown(work, row):
            work.note(row, Standing.filtered, "not_member")
        elif audience.leaves(work, plan, there, row):
            offer(work, plan, there, row)
        advance(work, there)
        return
    if fields.values:
        audience.overlay(work, plan, row)
    source = work.person.sources.get(row.source)
    if source is not None and source.echoes and not plan.fact:
        leave_out(plan, there, source, row)
    if plan.kinds and row.fields.values and not plan.fact:
        overlay(work, plan, there, row, kind)
    if preview.only_shown(work, row):
        preview.show(work, plan, there, row, shaped)
    elif shaped.errors:
        first = shaped.errors[0]
        words = "; ".join(f"{e.field}: {e.words}" for e in shaped.errors)
        park = facts.owe if plan.fact else owe
        park(work, there, row, Stage(first.stage), first.code, first.field, words)
    elif shaped.fields is None:
        work.note(row, Standing.filtered, "filter", reason=shaped.why)
    elif row.echo and stands(there, row):
        renew(there.written, row.fields, row.fields.values)
        echoed(work, row)
    elif not fields.values:
        work.note(row, Standing.unchanged, "nothing_known")
    elif plan.fact:
        facts.send(work, plan, there, row)
    else:
        if valid:
            mended(work, there, row)
        offer(work, plan, there, row)
    advance(work, there)


def _event_again(work: Work, row: Row, key: str, source: Source) -> PlatformEvent:
    """What a mapping may ask about an event, where there is none any more."""
    connection, object_type, object_id = key.split(":", 2)
    return PlatformEvent(
        event_id=row.event_id, connection=connection,
        platform=work.catalog.gate(connection).partition("/")[0], object_type=object_type,
        object_id=object_id, kind=EventKind.updated, run=row.run, record_no=row.record_no,
        occurred_ms=source.known.newest(), received_ms=work.index.now_ms, values=b"{}",
        payload=b"",
    )  # fmt: skip


def _with_times(plan: Plan, key: str, source: Source, fields: dict[str, Any]) -> Values:
    """The mapped fields, each as new as the newest source field that it is made of.

    Where the object was never seen whole, a field that is made of unknown ones only is left out:
    what the destination holds there stays.
    """
    known, born, stamp = source.known, source.born, stamp_of(key)
    if not known.times and known.at_ms and not born:
        return plan.rules.over(Values((known.at_ms << OBJECT_BITS) + stamp, fields))

    def time(name: str) -> int:
        at_ms = known.time(name)
        return born.get(name) or (at_ms and (at_ms << OBJECT_BITS) + stamp)

    newest = (known.newest() << OBJECT_BITS) + stamp if known.newest() else 0
    times: dict[str, int] = {}
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        made_of = plan.mapping.reads.get(name)
        at = max(map(time, made_of)) if made_of else newest
        if at > 0:
            kept[name], times[name] = value, at
    return plan.rules.over(timed(kept, times))


def _park_unshaped(work: Work, row: Row, event: PlatformEvent, code: str, words: str) -> None:
    work.note(row, Standing.parked, code, reason=without_values(words, {}))
    work.out.parked(
        row.row_id,
        ParkedRecord(
            parked_id=row.row_id, stage=Stage.shape, sync=row.sync, run=row.run, person=work.key,
            row_id=row.row_id, event_id=row.event_id, record_no=row.record_no,
            connection=event.connection, object_type=event.object_type, code=code, words=words,
            first_ms=event.received_ms, last_ms=event.received_ms, source=event.values,
            fields=b"{}",
        ),
    )  # fmt: skip

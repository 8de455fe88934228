"""What people asked for, done in the rows of the persons it is about. A repeat changes nothing."""

from typing import Any

import msgspec

from schemas.control import Act, ActKind, Target
from schemas.journal import JournalEntry, JournalKind, Standing
from schemas.parked import Stage
from schemas.topics import JOURNAL
from streams.steps.rows import Account, Destination, Owed, Row, RunMark, Source, SyncState, Values
from streams.steps.sending import advance, parked_id, settle_parked
from streams.steps.shape import map_again
from streams.steps.work import Work

__all__ = ["BROADCAST", "act_on_all", "act_on_person"]

BROADCAST = frozenset((
    ActKind.run_start, ActKind.run_pause, ActKind.run_resume, ActKind.run_cancel,
    ActKind.sync_pause, ActKind.sync_resume, ActKind.activate, ActKind.account_open,
))  # fmt: skip
"""Acts that every partition of persons must know; the others are about single persons."""

RELEASED = 1
ACTS_KEPT = 16
RUNS_KEPT = 64


def act_on_all(work: Work, act: Act) -> None:
    """An act that concerns the whole partition; confirmed in the journal."""
    index = work.index
    if act.act_id not in index.acts:
        index.acts = [*index.acts[1 - 4 * ACTS_KEPT :], act.act_id]
        _mark(work, act)
    work.out.send(
        JOURNAL,
        act.run or act.sync or act.act_id,
        JournalEntry(
            kind=JournalKind.confirmed, at_ms=index.now_ms, sync=act.sync, run=act.run,
            act_id=act.act_id, partition=work.partition,
        ),
    )  # fmt: skip


def _mark(work: Work, act: Act) -> None:
    index = work.index
    match act.kind:
        case ActKind.run_start:
            options: dict[str, Any] = msgspec.json.decode(act.values or b"{}")
            if len(index.runs) >= RUNS_KEPT:
                busy = {lane.rpartition("|")[2] for lane in index.lanes}
                idle = next((r for r in index.runs if r not in busy), None)
                if idle is not None:
                    del index.runs[idle]
            index.runs[act.run] = RunMark("running", options.get("pins") or {})
            work.forget_plans()
        case ActKind.run_pause | ActKind.run_resume | ActKind.run_cancel:
            state = {"run_pause": "paused", "run_resume": "running", "run_cancel": "cancelled"}
            mark = index.runs.setdefault(act.run, RunMark("running", {}))
            mark.state, mark.who, mark.why = state[act.kind.value], act.who, act.why
        case ActKind.sync_pause:
            index.paused[act.sync] = act.who
        case ActKind.sync_resume:
            index.paused.pop(act.sync, None)
        case ActKind.account_open:
            for gate in index.accounts:
                if act.account in (gate, gate.partition("/")[2]):
                    index.accounts[gate] = Account()
        case ActKind.activate:
            name, _, version = act.definition.rpartition("@")
            index.pins[name] = int(version)
            work.forget_plans()
        case _:
            raise AssertionError(f"{act.kind} is about persons")


def act_on_person(work: Work, act: Act) -> None:
    """fix, unfix, release, discard: for the targets of this person; confirmed in the journal."""
    person = work.person
    if act.act_id in person.acts:
        return
    person.acts = [*person.acts[1 - ACTS_KEPT :], act.act_id]
    done = sum(_act_on(work, act, t) for t in act.targets if t.person == work.key)
    entry = JournalEntry(
        kind=JournalKind.confirmed, at_ms=work.index.now_ms, sync=act.sync, act_id=act.act_id,
        who=act.who, partition=work.partition, records=done,
        why="" if done == len(act.targets) else "not parked any more, or another row by now",
    )  # fmt: skip
    work.out.send(JOURNAL, act.sync or act.act_id, entry)


def _act_on(work: Work, act: Act, target: Target) -> bool:
    """Do it to one parked record -> whether there was anything to do."""
    found = _owed(work, target)
    if found is None:
        return False  # settled meanwhile: nothing is owed under this name any more
    there, state, owed = found
    row = owed.row
    match act.kind:
        case ActKind.fix | ActKind.unfix:
            names = _fix(work, row, act)
            words = f"{act.kind.value}: {', '.join(names)}"
            work.note(row, Standing.parked, owed.code, field=owed.field, reason=words, by=act.who)
        case ActKind.release:
            return _release(work, there, state, owed, act)
        case ActKind.discard:
            _forget(work, there, state, owed)
            work.note(row, Standing.discarded, "discarded", reason=act.why, by=act.who)
            advance(work, there)
        case _:
            raise AssertionError(f"{act.kind} is about all persons")
    return True


def _owed(work: Work, target: Target) -> tuple[Destination, SyncState | None, Owed] | None:
    """What is parked under this id, if it still is (and is still that row); facts have no state."""
    for there in work.person.destinations.values():
        fact = there.facts.get(target.parked_id)
        if fact is not None and fact.owed is not None:
            return there, None, fact.owed
        for state in there.syncs.values():
            for owed in (*state.invalid.values(), *((state.owed,) if state.owed else ())):
                same = not target.row_id or target.row_id == owed.row.row_id
                if same and parked_id(owed, work.key) == target.parked_id:
                    return there, state, owed
    return None


def _fix(work: Work, row: Row, act: Act) -> list[str]:
    """Remember a value per source field, with the one at the source that it replaces; or no more.

    -> the fields.
    """
    source = work.person.sources.setdefault(row.source, Source())
    values: dict[str, Any] = msgspec.json.decode(act.values or b"{}")
    for name, value in values.items():
        if act.kind is ActKind.fix:
            source.fixes[name] = (source.known.values.get(name), value)
        else:
            source.fixes.pop(name, None)
    return sorted(values)


def _release(work: Work, there: Destination, state: SyncState | None, owed: Owed, act: Act) -> bool:
    """Decided anew from what is known now, and sent before bulk work."""
    row = owed.row
    plan = work.plan(row.sync, row.run)
    if plan is None:
        return False  # stays parked: its sync is not defined here
    _forget(work, there, state, owed)
    row.rank, row.fields, row.lane, row.not_before_ms = RELEASED, Values(), "", 0
    work.note(row, Standing.waiting, "released", reason=act.why, by=act.who)
    map_again(work, plan, there, row, invalid=owed.stage != Stage.upload)
    return True


def _forget(work: Work, there: Destination, state: SyncState | None, owed: Owed) -> None:
    """Take it out of what is owed, with its tombstone."""
    if state is not None:
        settle_parked(work, state, owed)
    else:
        del there.facts[owed.row.row_id]
        work.out.parked(owed.row.row_id, None)

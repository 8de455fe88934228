"""What people asked for, done in the rows of the persons it is about. A repeat changes nothing."""

from typing import Any

import msgspec

from schemas.control import Act, ActKind, Target
from schemas.events import EventKind
from schemas.ids import derive
from schemas.journal import JournalEntry, JournalKind, Standing
from schemas.parked import Stage
from schemas.topics import JOURNAL
from streams.steps.fixes import fix, unfix
from streams.steps.forgetting import forget
from streams.steps.joins import answer_proposal, unjoin
from streams.steps.privacy import forget_all, wipe
from streams.steps.rows import Account, Destination, Owed, Row, RunMark, SyncState, Values
from streams.steps.sending import advance, offer, parked_id, settle_parked
from streams.steps.shape import end_there, map_again, say_again
from streams.steps.undoing import undo
from streams.steps.values import stamp_at
from streams.steps.work import Work

__all__ = ["BROADCAST", "act_on_all", "act_on_person"]

BROADCAST = frozenset((
    ActKind.run_start, ActKind.run_pause, ActKind.run_resume, ActKind.run_cancel,
    ActKind.sync_pause, ActKind.sync_resume, ActKind.activate, ActKind.account_open,
    ActKind.account_close, ActKind.forget,
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
            index.runs[act.run] = RunMark(
                "running",
                options.get("pins") or {},
                force=bool(options.get("force")),
                preview=bool(options.get("preview")),
            )
            work.forget_plans()
        case ActKind.run_pause | ActKind.run_resume | ActKind.run_cancel:
            state = {"run_pause": "paused", "run_resume": "running", "run_cancel": "cancelled"}
            mark = index.runs.setdefault(act.run, RunMark("running", {}))
            mark.state, mark.who, mark.why = state[act.kind.value], act.who, act.why
        case ActKind.sync_pause:
            index.paused[act.sync] = act.who
        case ActKind.sync_resume:
            index.paused.pop(act.sync, None)
        case ActKind.account_close:
            words = f"closed by {act.who}" + (f": {act.why}" if act.why else "")
            known = {work.catalog.gate(name) for name in work.catalog.connections}
            gates = {gate for gate in known if _names(act.account, gate)}
            index.closed |= dict.fromkeys(sorted(gates or {act.account}), words)
        case ActKind.account_open:
            for gate in {*index.accounts, *index.closed}:
                if _names(act.account, gate):
                    index.closed.pop(gate, None)
                    index.accounts[gate] = Account()
        case ActKind.forget:
            forget(work, str(msgspec.json.decode(act.values or b"{}")["target"]))
        case ActKind.activate:
            name, _, version = act.definition.rpartition("@")
            index.pins[name] = int(version)
            work.forget_plans()
        case _:
            raise AssertionError(f"{act.kind} is about persons")


def _names(account: str, gate: str) -> bool:
    """An act names an account by its platform's id, or as `platform/account`."""
    return account in (gate, gate.partition("/")[2])


def act_on_person(work: Work, act: Act, home: str = "") -> None:
    """fix, unfix, release, discard, resend, erase, undo, unjoin: for the targets of this person;
    confirmed in the journal. `home`: who was joined to this person, and whom the act names."""
    person, home = work.person, home or work.key
    name = act.act_id if home == work.key else f"{act.act_id}|{home}"
    if name in person.acts:
        return
    person.acts = [*person.acts[1 - ACTS_KEPT :], name]
    done = sum(_act_on(work, act, t) for t in act.targets if t.person == home)
    entry = JournalEntry(
        kind=JournalKind.confirmed, at_ms=work.index.now_ms, sync=act.sync, act_id=act.act_id,
        who=act.who, partition=work.partition, records=done,
        why="" if done == len(act.targets) else "not parked any more, or another row by now",
    )  # fmt: skip
    work.out.send(JOURNAL, act.sync or act.act_id, entry)


def _act_on(work: Work, act: Act, target: Target) -> bool:
    """Do it to one parked record -> whether there was anything to do."""
    if act.kind is ActKind.resend:
        return _resend(work, act)
    if act.kind is ActKind.erase:
        return _erase(work, act)
    if act.kind is ActKind.undo:
        return _undo(work, act, target)
    if act.kind is ActKind.unfix and target.parked_id in work.person.sources:
        return bool(unfix(work, target.parked_id, act))
    if act.kind is ActKind.unjoin:
        return unjoin(work, act, target.person)
    joins = work.person.joins
    if joins is not None and target.parked_id in joins.proposed:
        return answer_proposal(work, act, target.parked_id)
    found = _owed(work, target)
    if found is None:
        return False  # settled meanwhile: nothing is owed under this name any more
    there, state, owed = found
    row = owed.row
    match act.kind:
        case ActKind.fix | ActKind.unfix:
            mend = fix if act.kind is ActKind.fix else unfix
            names = mend(work, row.source, act)
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


def _resend(work: Work, act: Act) -> bool:
    """All that the person's objects say now goes out again, whether it is equal or not: one record
    for each sync that they have come through, or for the one that the act names. Facts do not."""
    done = False
    for name in work.catalog.names():
        plan = work.plan(name, "") if act.sync in ("", name) else None
        if plan is None or plan.fact:
            continue
        of = f"{plan.source}:{plan.source_object}:"
        keys = [
            key
            for key, source in work.person.sources.items()
            if key.startswith(of) and (act.sync or name in source.decided)
        ]
        row_id = derive("resent", act.act_id, name, work.key)
        if say_again(work, plan, keys, row_id, act.act_id, why=act.why, by=act.who, force=True):
            done = True
            if work.person.destinations[plan.target].blank():
                del work.person.destinations[plan.target]
    return done


def _erase(work: Work, act: Act) -> bool:
    """Somebody asks to be forgotten: as if a source had told so, for all syncs that say what then
    becomes of who stands at their destination."""
    told = EventKind.forgotten.value
    plans = [plan for n in work.catalog.names() if (plan := work.plan(n, "")) and not plan.fact]
    there = [plan for plan in plans if plan.target in work.person.destinations]
    forget_all(work, act.when_ms)
    for plan in (p for p in there if told in p.removals or told in p.kinds):
        row = Row(
            row_id=derive("erased", act.act_id, plan.sync, work.key), event_id=act.act_id,
            sync=plan.sync, source="", fields=Values(), rank=RELEASED,
        )  # fmt: skip
        work.note(row, Standing.waiting, "resent", reason=act.why, by=act.who)
        end_there(work, plan, row, told, stamp_at(act.when_ms, work.key), "")
    wipe(work)
    return True


def _undo(work: Work, act: Act, target: Target) -> bool:
    """Put back what stood there before a release, field by field, where nobody has changed it."""
    found = undo(work, act, target)
    if found is None:
        return False
    plan, there, row = found
    offer(work, plan, there, row)
    advance(work, there)
    return True


def _release(work: Work, there: Destination, state: SyncState | None, owed: Owed, act: Act) -> bool:
    """Decided anew from what is known now, with the mapping of today also where its run began with
    another one, and sent before bulk work."""
    row = owed.row
    plan, today = work.plan(row.sync, row.run), work.plan(row.sync, "")
    if plan is None:
        return False  # stays parked: its sync is not defined here
    if today is not None and today.target == plan.target:
        plan = today
    _forget(work, there, state, owed)
    if row.removal:  # there is nothing to decide: it is to be gone
        row.rank, row.lane, row.not_before_ms = RELEASED, "", 0
        work.note(row, Standing.waiting, "released", reason=act.why, by=act.who)
        offer(work, plan, there, row)
        advance(work, there)
        return True
    if state is not None or owed.stage != Stage.upload:  # a fact says what it said
        row.fields = Values()
    row.rank, row.lane, row.not_before_ms = RELEASED, "", 0
    row.look = bool(there.object_id) and not plan.fact
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

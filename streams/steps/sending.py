"""One row out: what is decided for a destination goes out at once, or folds into what comes next.

For a person and a destination at most one row of state is out. `offer` brings a decided row in,
`advance` lets go what may go. Of two rows for one sync the later carries both, and the earlier is
*superseded by* it; but a bulk row never carries a live one, so that pausing or cancelling a run
holds up nobody else.
"""

from schemas.commands import UploadRow
from schemas.definitions import ERASE, Policy
from schemas.identity import AddressAsked
from schemas.journal import Standing
from schemas.parked import ParkedRecord, Stage
from schemas.topics import ASKED
from streams.steps.catalog import Plan
from streams.steps.consent import SUPPRESSING, alone, heard_last, overlay
from streams.steps.echo import echoed, remember
from streams.steps.removal import found_by
from streams.steps.rows import Destination, Owed, Row, SyncState, Values
from streams.steps.undoing import ask, carried
from streams.steps.values import along, drop, fold, newest_ms, renew, same, timed
from streams.steps.work import Work, json, without_values

__all__ = [
    "advance",
    "blocked",
    "cancelled",
    "held_by_a_join",
    "mended",
    "merge",
    "offer",
    "only_what_differs",
    "owe",
    "park_again",
    "parked_id",
    "settle_parked",
    "wait",
]

BULK = 2
WORDS_MAX = 2_000


def parked_id(owed: Owed, person: str) -> str:
    """What the destination refused is the person's; what our own checks refused, the object's."""
    row = owed.row
    return f"{row.sync}:{person if owed.stage == Stage.upload else row.source}"


def offer(work: Work, plan: Plan, there: Destination, row: Row) -> None:
    """A valid row of state has been decided: it is next, unless something owed holds it back."""
    if row.removal:
        _overtake(work, there, row)
    state = there.syncs.setdefault(plan.sync, SyncState())
    owed = state.owed
    if owed is not None and row.urgent:
        alone(plan, row)
    elif owed is not None:
        if owed.row.source == row.source and owed.field not in row.fields.values:
            drop(owed.row.fields, owed.field)  # the object asks for it no longer
        both = fold(owed.row.fields, row.fields)
        if _try_again(plan.policy, owed, both, there):
            settle_parked(work, state, owed)
            row = merge(work, owed.row, row)
        elif plan.policy is Policy.pass_ and _passes(owed, row):
            drop(row.fields, owed.field)
        else:
            owed.row = merge(work, owed.row, row)
            park_again(work, owed)
            return
    if there.out is not None and (row.urgent or (row.rank < BULK and there.out.rank >= BULK)):
        work.out.recall(plan, there.out.row_id)
    state.next = row if state.next is None else merge(work, state.next, row)


def _overtake(work: Work, there: Destination, row: Row) -> None:
    """The object is to be taken away: whatever waits for it, or was refused, ends here. What is
    for good stays so."""
    for state in there.syncs.values():
        for owed in (*state.invalid.values(), *((state.owed,) if state.owed else ())):
            settle_parked(work, state, owed)
            _supersede(work, owed.row, row)
            row.removal = ERASE if owed.row.removal == ERASE else row.removal
        if state.next is not None:
            _supersede(work, state.next, row)
            row.removal = ERASE if state.next.removal == ERASE else row.removal
            state.next = None


def mended(work: Work, there: Destination, row: Row) -> None:
    """The row's object has passed our own checks: what they refused of it before is superseded."""
    state = there.syncs.get(row.sync)
    invalid = state.invalid.get(row.source) if state else None
    if state is not None and invalid is not None:
        settle_parked(work, state, invalid)
        _supersede(work, invalid.row, row)


def merge(work: Work, earlier: Row, later: Row) -> Row:
    """Two rows of one sync become one -> the one that carries both. Of one that takes the object
    away and one that writes it, the later counts; but nothing counts against an erasure."""
    if earlier.removal or later.removal:
        carrier, other = (later, earlier) if earlier.removal != ERASE else (earlier, later)
        carrier.rank, carrier.seq = min(earlier.rank, later.rank), later.seq
        _supersede(work, other, carrier)
        return carrier
    carrier, other = (earlier, later) if later.run and not earlier.run else (later, earlier)
    both = fold(earlier.fields, later.fields)
    if earlier.look or later.look:
        carried(carrier, earlier, later, both)
    carrier.fields = both
    carrier.rank = min(earlier.rank, later.rank)
    carrier.seq = later.seq
    carrier.urgent |= earlier.urgent or later.urgent
    if earlier.paths or later.paths:
        carrier.paths = {**earlier.paths, **later.paths}
    carrier.tries = max(earlier.tries, later.tries)
    carrier.first_ms = earlier.first_ms or later.first_ms
    carrier.force = earlier.force or later.force
    _supersede(work, other, carrier)
    return carrier


def _supersede(work: Work, other: Row, carrier: Row) -> None:
    """The other's fate is that of the carrier, which a cancelled run of its own does not drop."""
    carrier.carries_others |= other.carries_others or other.run != carrier.run
    work.note(other, Standing.superseded, "newer", by=carrier.row_id)


def owe(
    work: Work, there: Destination, row: Row, stage: Stage, code: str, field: str, words: str,
    *, request_id: str = "", position: int = -1,
) -> None:  # fmt: skip
    """A row was refused. Where a later one is owed already, that one carries it."""
    state = there.syncs.setdefault(row.sync, SyncState())
    ours = stage is not Stage.upload
    before = state.invalid.get(row.source) if ours else state.owed
    row.tries += 1
    row.first_ms = row.first_ms or work.index.now_ms
    if before is not None and before.row.seq > row.seq:
        before.row = merge(work, row, before.row)
        park_again(work, before)
        return
    if before is not None:
        row.tries = max(row.tries, before.row.tries + 1)
        if ours:
            _supersede(work, before.row, row)
        else:
            row = merge(work, before.row, row)
    owed = Owed(row, stage.value, code, field, words[:WORDS_MAX])
    if ours:
        state.invalid[row.source] = owed
    else:
        state.owed = owed
    park_again(work, owed, request_id=request_id, position=position)
    plan = work.plan(row.sync, row.run)
    if not ours and plan is not None and state.next is not None and state.next.seq > row.seq:
        later, state.next = state.next, None
        offer(work, plan, there, later)


def settle_parked(work: Work, state: SyncState, owed: Owed) -> None:
    """It is owed no longer: out of the row, and its tombstone."""
    if state.owed is owed:
        state.owed = None
    else:
        del state.invalid[owed.row.source]
    work.out.parked(parked_id(owed, work.key), None)


def advance(work: Work, there: Destination) -> None:
    """Let the first row that may go out do so, if none is; say what the others wait for."""
    behind: list[Row] = []
    held = held_by_a_join(work)
    for state in sorted(there.syncs.values(), key=_urgency):
        row = state.next
        if row is None:
            continue
        plan = work.plan(row.sync, row.run)
        if cancelled(work, row):
            state.next = None
        elif (code := blocked(work, plan, row)) or plan is None:
            wait(work, plan, row, code)
        elif there.out is not None or held or (plan.claims and _unread(work, plan, there, row)):
            behind.append(row)
        elif row.look and there.object_id:
            state.next = None
            ask(work, plan, there, row)
        else:
            state.next, row.look = None, False  # no object is known there: nothing to look up
            _depart(work, plan, there, row)
    for row in behind:
        if row.standing != Standing.waiting or row.asked:
            code, by = ("joining", held) if held else ("in_doubt", "")
            if there.out is not None:
                code, by = "behind", there.out.row_id
            work.note(row, Standing.waiting, code, by=by)
    for name in [n for n, s in there.syncs.items() if s.idle()]:
        del there.syncs[name]


def _unread(work: Work, plan: Plan, there: Destination, row: Row) -> bool:
    """Whether it is to be read first what the object holds, as a change met a row of ours there."""
    source = work.person.sources.get(f"{plan.target}:{there.object_id}")
    return source is not None and source.met and not row.urgent


def held_by_a_join(work: Work) -> str:
    """Person with whom this one is joined, or from whom it parts, as soon as nothing is out; empty:
    it is neither. Until then nothing more goes out, else a busy person would never be free."""
    joins = work.person.joins
    if joins is None:
        return ""
    ahead = joins.leaving or (joins.parting[0] if joins.parting else None)
    return ahead.other if ahead else ""


def cancelled(work: Work, row: Row) -> bool:
    """Whether the row ends here because its run was cancelled; if so, that is its fate."""
    mark = work.index.runs.get(row.run) if row.run else None
    if mark is None or mark.state != "cancelled" or row.rank < BULK or row.carries_others:
        return False
    work.note(row, Standing.cancelled, "run_cancelled", reason=mark.why, by=mark.who)
    return True


def blocked(work: Work, plan: Plan | None, row: Row) -> str:
    """Why the row may not go out now; empty: it may. A released row does not wait for its run."""
    if plan is None:
        return "no_definition"
    index = work.index
    if row.sync in index.paused:
        return "sync_paused"
    if plan.gate in index.closed:
        return "closed_by_hand"
    mark = index.runs.get(row.run) if row.rank >= BULK else None
    if mark is not None and mark.state == "paused":
        return "run_paused"
    account = index.accounts.get(plan.gate)
    if account is not None and not account.open:
        return "account_closed"
    return "returned" if index.now_ms < row.not_before_ms else ""


def wait(work: Work, plan: Plan | None, row: Row, code: str) -> None:
    """The row waits in the lane of what blocks it, until that is drained."""
    lane = f"{plan.gate if plan else ''}|{row.sync}|{row.run if row.rank >= BULK else ''}"
    if row.lane != lane:
        row.lane = lane
        work.lanes.join(lane, work.key)
    if row.standing != Standing.waiting or row.asked:
        work.note(row, Standing.waiting, code, reason=_reason(work, plan, row, code))


def _reason(work: Work, plan: Plan | None, row: Row, code: str) -> str:
    index, gate = work.index, plan.gate if plan else ""
    match code:
        case "sync_paused":
            return f"paused by {index.paused[row.sync]}"
        case "closed_by_hand":
            return index.closed[gate]
        case _:
            account = index.accounts.get(gate)
            return account.reason if account else ""


def _urgency(state: SyncState) -> tuple[int, int]:
    return (state.next.rank, state.next.seq) if state.next else (9, 0)


def _depart(work: Work, plan: Plan, there: Destination, row: Row) -> None:
    """Send what differs from what stands there; a row of which nothing is left has its fate."""
    row.lane = ""
    if row.removal:
        _take_away(work, plan, there, row)
        return
    if plan.kinds and work.person.consent[1] in SUPPRESSING:
        overlay(work, plan, there, row, "")  # they may have said no while it waited
    elif plan.kinds and heard_last(work, plan, row):
        overlay(work, plan, there, row, work.person.consent[1])
    lost: list[str] = []
    if there.written.values or there.written.times:
        fate = only_what_differs(plan, there.written, row, lost)
        if fate is Standing.stale:
            reason = "the destination has newer values from another object of the person"
            work.note(row, fate, "older", field=",".join(lost), reason=reason)
            return
        if fate is Standing.unchanged and row.echo:
            echoed(work, row)
            return
        if fate is Standing.unchanged:
            work.note(row, fate, "equal")
            return
    if plan.claims:
        remember(work, plan, there, row)
        _claim_address(work, plan, row)
    _send(work, plan, there, row)
    code = "older_left_out" if lost else ""
    work.note(row, Standing.out, code, field=",".join(lost))


def _take_away(work: Work, plan: Plan, there: Destination, row: Row) -> None:
    if found_by(plan, there, row):
        _send(work, plan, there, row)
        work.note(row, Standing.out, row.removal)
    else:
        work.note(row, Standing.filtered, "nothing_there")


def _send(work: Work, plan: Plan, there: Destination, row: Row) -> None:
    there.out = row
    work.out.row(
        plan, row.run, row.rank,
        UploadRow(
            row_id=row.row_id, event_id=row.event_id, person=work.key, record_no=row.record_no,
            object_id=there.object_id, occurred_ms=newest_ms(row.fields),
            fields=json(row.fields.values), removal=row.removal,
        ),
    )  # fmt: skip


def _claim_address(work: Work, plan: Plan, row: Row) -> None:
    """An address that the row's source does not show, as one that was mended, is the person's
    before anybody can meet it at the destination: whoever tells of it first would be a stranger."""
    source = work.person.sources.get(row.source)
    address = work.catalog.shown(f"{plan.target}:", row.fields.values)
    if address and source and address != work.catalog.shown(row.source, source.known.values):
        asked = AddressAsked(identity=address, object_key=row.source, proposed=work.key)
        work.out.send(ASKED, address, asked)


def only_what_differs(plan: Plan, written: Values, row: Row, lost: list[str]) -> Standing:
    """Leave out of a row what is older than, or equal to, what stands there -> stale, unchanged, or
    out, if something is left to send. What is equal and newer makes what stands there newer.
    `lost` gets the fields whose older value loses against another one."""
    sent, times = dict[str, object](), dict[str, int]()
    older, equal = False, dict[str, int]()
    for name, value in row.fields.values.items():
        at_ms = row.fields.time(name)
        known = name in written.values
        if (known or name in written.times) and at_ms < written.time(name):
            older = True
            if known and not same(written.values[name], value):
                lost.append(name)
        elif known and same(written.values[name], value) and not row.force:
            equal[name] = at_ms
        else:
            sent[name], times[name] = value, at_ms
    renew(written, row.fields, equal)
    if not sent:
        return Standing.stale if lost or (older and not equal) else Standing.unchanged
    for name, at_ms in equal.items():
        if name in plan.always:
            sent[name], times[name] = row.fields.values[name], at_ms
    row.fields = timed(sent, times)
    if plan.identity and plan.identity not in sent:  # older than what stands there, or an echo
        along(row.fields, written, (plan.identity,))
    return Standing.out


def _try_again(policy: Policy, owed: Owed, both: Values, there: Destination) -> bool:
    """Is what was refused changed by what has been decided since?"""
    if policy is Policy.hold:
        return False
    before, now = owed.row.fields.values, both.values
    if owed.field and owed.field in before:
        return now[owed.field] != before[owed.field]
    return any(v != before.get(f, there.written.values.get(f)) for f, v in now.items())


def _passes(owed: Owed, row: Row) -> bool:
    """Whether something is left to go out without the refused field."""
    named = owed.field in owed.row.fields.values
    return named and any(f != owed.field for f in row.fields.values)


def park_again(work: Work, owed: Owed, *, request_id: str = "", position: int = -1) -> None:
    """Its record on `parked`, as it stands now, and where it stands."""
    row = owed.row
    source = work.person.sources.get(row.source)
    plan = work.plan(row.sync, row.run)
    shown = without_values(
        owed.words, {**(source.known.values if source else {}), **row.fields.values}
    )
    work.note(
        row, Standing.parked, owed.code, field=owed.field, reason=shown, request_id=request_id,
        position=position,
    )  # fmt: skip
    key = parked_id(owed, work.key)
    record = ParkedRecord(
        parked_id=key, stage=Stage(owed.stage), sync=row.sync, run=row.run, person=work.key,
        row_id=row.row_id, event_id=row.event_id, record_no=row.record_no,
        connection=plan.destination if plan else "",
        object_type=plan.destination_object if plan else "",
        code=owed.code, field=owed.field, words=owed.words,
        attempts=row.tries, first_ms=row.first_ms, last_ms=work.index.now_ms,
        request_id=request_id, position=position,
        source=json(source.known.values if source else {}), fields=json(row.fields.values),
    )  # fmt: skip
    work.out.parked(key, record)

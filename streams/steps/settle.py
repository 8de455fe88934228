"""What became of a row: outcomes, in the same row of the same person.

An outcome whose row is not out changes nothing. Afterwards what comes next is decided anew.
"""

from typing import assert_never

from schemas.identity import LinkClaim
from schemas.ids import object_key
from schemas.journal import Standing
from schemas.outcomes import OutcomeKind, RecordOutcome
from schemas.parked import Stage
from schemas.topics import ANSWERED
from streams.steps import facts
from streams.steps.echo import settled, withdraw
from streams.steps.preview import answered
from streams.steps.privacy import ended, wipe
from streams.steps.reading import read_what_met
from streams.steps.removal import given_back, removed
from streams.steps.rows import Destination, Row, SyncState
from streams.steps.sending import advance, merge, owe
from streams.steps.undoing import kept, looked
from streams.steps.values import fold, forget
from streams.steps.work import Work

__all__ = ["settle"]

PAUSE_MS = 5_000


def settle(work: Work, outcome: RecordOutcome) -> None:
    """Every outcome of a row that is out lands in exactly one branch."""
    if work.person.previews and answered(work, outcome):
        return
    there = work.person.destinations.get(f"{outcome.connection}:{outcome.object_type}")
    if there is None:
        return
    fact = there.facts.get(outcome.row_id)
    if fact is not None and fact.state == "out":
        _settle_fact(work, there, fact.row, outcome)
    elif there.out is not None and _answers(there.out, outcome):
        row, there.out = there.out, None
        if there.sent:
            settled(there, row, outcome.at_ms)
            read_what_met(work, f"{outcome.connection}:{outcome.object_type}")
        _settle_state(work, there, row, outcome)
    advance(work, there)
    if work.person.erased_ms:
        wipe(work)


def _answers(row: Row, outcome: RecordOutcome) -> bool:
    """Of a row that is only looked up yet, nothing was sent: a fate is that of an earlier try."""
    asked = row.look == (outcome.kind is OutcomeKind.seen) or outcome.kind is OutcomeKind.returned
    return row.row_id == outcome.row_id and asked


def _settle_state(work: Work, there: Destination, row: Row, outcome: RecordOutcome) -> None:
    match outcome.kind:
        case OutcomeKind.written | OutcomeKind.unchanged | OutcomeKind.accepted if row.removal:
            if removed(work, there, row, outcome):
                _next(work, there, row)
            else:
                _noted(work, row, Standing(outcome.kind.value), outcome)
        case OutcomeKind.written | OutcomeKind.unchanged | OutcomeKind.accepted:
            there.written, there.maybe = fold(there.written, row.fields), {}
            if outcome.kind is OutcomeKind.unchanged:
                withdraw(there, row.row_id)  # equal already: there is nothing to tell
            _noted(work, row, Standing(outcome.kind.value), outcome)
            kept(there, row)
            if outcome.object_id and outcome.object_id != there.object_id:
                there.object_id = outcome.object_id
                _claim(work, row, outcome)
        case OutcomeKind.parked | OutcomeKind.unknown | OutcomeKind.returned if ended(work, row):
            if outcome.kind is not OutcomeKind.parked:
                _may_stand_there(work, there, row)
        case OutcomeKind.parked:
            withdraw(there, row.row_id)
            owe(
                work, there, row, Stage.upload, outcome.code, outcome.field, outcome.words,
                request_id=outcome.request_id, position=outcome.position,
            )  # fmt: skip
        case OutcomeKind.unknown:
            _may_stand_there(work, there, row)
            owe(
                work, there, row, Stage.upload, outcome.code or "unknown", "",
                outcome.words or "sent, no answer, and it could not be read back",
                request_id=outcome.request_id, position=outcome.position,
            )  # fmt: skip
        case OutcomeKind.returned:
            # "Not tried" is what the worker knows; one that died before it may have tried.
            if not row.look:
                _may_stand_there(work, there, row)
            if _recalled(outcome):
                withdraw(there, row.row_id)
            _given_back(work, row, outcome)
            _next(work, there, row)
        case OutcomeKind.seen:
            if looked(work, there, row, outcome):
                _next(work, there, row)
        case _:
            assert_never(outcome.kind)


def _next(work: Work, there: Destination, row: Row) -> None:
    state = there.syncs.setdefault(row.sync, SyncState())
    state.next = row if state.next is None else merge(work, row, state.next)


def _may_stand_there(work: Work, there: Destination, row: Row) -> None:
    """Nobody knows whether the row was written: its values are sent again, and by those that name
    its object it is found, whatever the source says by then."""
    if row.removal:
        given_back(there, row)
        return
    forget(there.written, row.fields.values)
    plan = work.plan(row.sync, row.run)
    if plan is not None:
        values = row.fields.values
        there.maybe |= {name: values[name] for name in plan.always if name in values}


def _settle_fact(work: Work, there: Destination, row: Row, outcome: RecordOutcome) -> None:
    match outcome.kind:
        case OutcomeKind.written | OutcomeKind.unchanged | OutcomeKind.accepted:
            del there.facts[row.row_id]
            _noted(work, row, Standing(outcome.kind.value), outcome)
        case OutcomeKind.parked | OutcomeKind.unknown | OutcomeKind.returned if ended(work, row):
            del there.facts[row.row_id]
        case OutcomeKind.parked | OutcomeKind.unknown:
            facts.owe(
                work, there, row, Stage.upload, outcome.code or outcome.kind.value, outcome.field,
                outcome.words, request_id=outcome.request_id, position=outcome.position,
            )  # fmt: skip
        case OutcomeKind.returned:
            _given_back(work, row, outcome)
            there.facts[row.row_id].state = "waiting"
            facts.advance(work, there)
        case OutcomeKind.seen:
            pass  # nobody looks where facts are sent
        case _:
            assert_never(outcome.kind)


def _given_back(work: Work, row: Row, outcome: RecordOutcome) -> None:
    """Not tried: waits until the time that the worker named.

    Where it named none, the account is closed, and it has said so, or is about to: the pause is for
    the case that somebody here believes otherwise. A recalled row makes room for a newer one.
    """
    row.not_before_ms = 0 if _recalled(outcome) else outcome.until_ms or outcome.at_ms + PAUSE_MS
    _noted(work, row, Standing.waiting, outcome)


def _recalled(outcome: RecordOutcome) -> bool:
    return "recalled" in (outcome.code, outcome.words)


def _noted(work: Work, row: Row, standing: Standing, outcome: RecordOutcome) -> None:
    work.note(
        row, standing, outcome.code, reason=outcome.words if standing is Standing.waiting else "",
        request_id=outcome.request_id, position=outcome.position,
    )  # fmt: skip


def _claim(work: Work, row: Row, outcome: RecordOutcome) -> None:
    """Tell admit whose the object is that we made or found, if anybody reads from there."""
    plan = work.plan(row.sync, row.run)
    if plan is not None and plan.claims:
        made = object_key(outcome.connection, outcome.object_type, outcome.object_id)
        work.out.send(ANSWERED, made, LinkClaim(object_key=made, person=work.key))

"""Facts: rows that are appended once. Not serialised, not merged, never superseded or unchanged.

Their outcomes are found by row id; a person keeps a fact only until it has its fate.
"""

from schemas.commands import UploadRow
from schemas.journal import Standing
from schemas.parked import ParkedRecord, Stage
from streams.steps.catalog import Plan
from streams.steps.rows import Destination, Fact, Owed, Row
from streams.steps.sending import blocked, cancelled, held_by_a_join, wait
from streams.steps.values import newest_ms
from streams.steps.work import Work, json, without_values

__all__ = ["advance", "owe", "park_again", "send"]

FACTS_MAX = 1_000
"""Facts of one person at one destination that have no fate: beyond it they are parked at once."""


def send(work: Work, plan: Plan, there: Destination, row: Row) -> None:
    """A fact has been decided: it goes out, or waits until its destination takes rows."""
    if len(there.facts) >= FACTS_MAX and row.row_id not in there.facts:
        words = f"{FACTS_MAX} facts of this person wait for the destination already"
        owe(work, there, row, Stage.shape, "too_many_waiting", "", words)
        return
    there.facts[row.row_id] = Fact(row, "waiting")
    advance(work, there)


def advance(work: Work, there: Destination) -> None:
    """Send every fact that waits and may go."""
    for row_id, fact in list(there.facts.items()):
        if fact.state != "waiting":
            continue
        row = fact.row
        plan = work.plan(row.sync, row.run)
        if cancelled(work, row):
            del there.facts[row_id]
        elif (code := blocked(work, plan, row)) or plan is None:
            wait(work, plan, row, code)
        elif held := held_by_a_join(work):
            if row.standing != Standing.waiting or row.asked:
                work.note(row, Standing.waiting, "joining", by=held)
        else:
            fact.state, row.lane = "out", ""
            upload = UploadRow(
                row_id=row.row_id, event_id=row.event_id, person=work.key,
                record_no=row.record_no, occurred_ms=newest_ms(row.fields),
                fields=json(row.fields.values),
            )  # fmt: skip
            work.out.row(plan, row.run, row.rank, upload)
            work.note(row, Standing.out)


def owe(
    work: Work, there: Destination, row: Row, stage: Stage, code: str, field: str, words: str,
    *, request_id: str = "", position: int = -1,
) -> None:  # fmt: skip
    """A fact was refused: it is parked under its own row id."""
    row.tries += 1
    row.first_ms = row.first_ms or work.index.now_ms
    fact = Fact(row, "owed", Owed(row, stage.value, code, field, words[:2_000]))
    there.facts[row.row_id] = fact
    park_again(work, fact, request_id=request_id, position=position)


def park_again(work: Work, fact: Fact, *, request_id: str = "", position: int = -1) -> None:
    """A fact that is owed: its record on `parked`, as it stands now, and where it stands."""
    row, owed = fact.row, fact.owed
    if owed is None:
        return
    stage, code, field, words = Stage(owed.stage), owed.code, owed.field, owed.words
    source = work.person.sources.get(row.source)
    values = source.known.values if source else {}
    work.note(
        row, Standing.parked, code, field=field, request_id=request_id, position=position,
        reason=without_values(words, {**values, **row.fields.values}),
    )  # fmt: skip
    plan = work.plan(row.sync, row.run)
    record = ParkedRecord(
        parked_id=row.row_id, stage=stage, sync=row.sync, run=row.run, person=work.key,
        row_id=row.row_id, event_id=row.event_id, record_no=row.record_no,
        connection=plan.destination if plan else "",
        object_type=plan.destination_object if plan else "", code=code, field=field, words=words,
        attempts=row.tries, first_ms=row.first_ms, last_ms=work.index.now_ms,
        request_id=request_id, position=position, source=json(values),
        fields=json(row.fields.values),
    )  # fmt: skip
    work.out.parked(row.row_id, record)

"""A run that only shows what it would do: everything is decided as ever, and nothing is sent.

Each record ends as `filtered`, `unchanged` or `stale`, with a code that says what would have become
of it: would_create, would_update, would_append, would_refuse. Whether an object is there already,
the platform is asked (`LookUp`), as before a first write. No row is out, owed or next because of
it.
"""

from typing import Any

import msgspec

from schemas.commands import LookRow
from schemas.journal import Standing
from schemas.outcomes import OutcomeKind, RecordOutcome
from streams.steps.catalog import Plan, Shaped
from streams.steps.rows import Destination, Row, Values
from streams.steps.sending import only_what_differs
from streams.steps.values import same
from streams.steps.work import Work

__all__ = ["answered", "only_shown", "show"]

REFUSED = frozenset(("ambiguous_match", "matched_another"))


def only_shown(work: Work, row: Row) -> bool:
    """Whether the row's run is one that sends nothing."""
    mark = work.index.runs.get(row.run) if row.run else None
    return mark is not None and mark.preview


def show(work: Work, plan: Plan, there: Destination, row: Row, shaped: Shaped) -> None:
    """What would become of a row that has been decided; where nobody knows, the platform is
    asked."""
    values = row.fields.values
    if shaped.errors:
        first = shaped.errors[0]
        work.note(row, Standing.filtered, "would_refuse", field=first.field, reason=first.code)
    elif shaped.fields is None:
        work.note(row, Standing.filtered, "filter", reason=shaped.why)
    elif not values:
        work.note(row, Standing.unchanged, "nothing_known")
    elif plan.fact:
        work.note(row, Standing.filtered, "would_append")
    elif there.object_id and there.written.values:
        _against(work, plan, there, row)
    else:
        field = plan.match or plan.mapping.key
        value = str(values.get(field) or "").strip()
        if not (there.object_id or value):
            work.note(row, Standing.filtered, "would_create", reason="nothing to find it by")
            return
        work.person.previews[row.row_id] = row
        look = LookRow(
            row_id=row.row_id, person=work.key, object_id=there.object_id, value=value
        )  # fmt: skip
        work.out.look(plan, row.run, field, tuple(sorted(plan.mapping.reads)), look)
        work.note(row, Standing.held, "looking")


def answered(work: Work, outcome: RecordOutcome) -> bool:
    """Whether the outcome is the answer to a look of a preview; if so, the row has its fate."""
    row = work.person.previews.pop(outcome.row_id, None)
    if row is None:
        return False
    plan = work.plan(row.sync, row.run)
    if outcome.kind is not OutcomeKind.seen or plan is None:
        work.note(row, Standing.filtered, "cannot_tell", reason=outcome.words)
    elif outcome.seen is not None:
        seen: dict[str, Any] = msgspec.json.decode(outcome.seen)
        differs = [n for n, v in row.fields.values.items() if not same(seen.get(n), v)]
        _told(work, plan, row, differs)
    elif outcome.code in REFUSED:
        work.note(row, Standing.filtered, "would_refuse", field=plan.match, reason=outcome.code)
    elif outcome.code == "absent":
        work.note(row, Standing.filtered, "would_create")
    else:
        work.note(row, Standing.filtered, "cannot_tell", reason=outcome.code)
    return True


def _against(work: Work, plan: Plan, there: Destination, row: Row) -> None:
    """Held against what we wrote, as a row that goes out is; but what stands there stays so."""
    stands, lost = there.written, list[str]()
    copy = Values(stands.at_ms, stands.values, dict(stands.times))
    fate = only_what_differs(plan, copy, row, lost)
    if fate is Standing.stale:
        reason = "the destination has newer values from another object of the person"
        work.note(row, Standing.stale, "older", field=",".join(sorted(lost)), reason=reason)
        return
    differs = [
        name
        for name, value in row.fields.values.items()
        if row.force or name not in stands.values or not same(stands.values[name], value)
    ]
    _told(work, plan, row, differs if fate is Standing.out else [])


def _told(work: Work, plan: Plan, row: Row, differs: list[str]) -> None:
    if differs:
        work.note(row, Standing.filtered, "would_update", field=",".join(sorted(differs)))
    else:
        work.note(row, Standing.unchanged, "equal")

"""A release can be taken back: what stood there just before is read, kept, and put there again.

Before a released row goes out its fields are read at the destination (`LookUp`); what they held is
kept with what the row wrote. Undoing reads once more, and leaves out each field that holds
something else by then: whoever changed it since meant it. A value that was put back stays until
the source says something new.
"""

from typing import Any

import msgspec

from schemas.commands import LookRow
from schemas.control import Act, Target
from schemas.ids import derive
from schemas.journal import Standing
from schemas.outcomes import RecordOutcome
from streams.steps.catalog import Plan
from streams.steps.rows import Destination, Release, Row, Values
from streams.steps.values import along, drop, same, timed
from streams.steps.work import Work

__all__ = ["ask", "carried", "kept", "looked", "undo"]

KEPT_MAX = 8
"""Releases of one person at one destination that can be undone."""
RELEASED = 1


def ask(work: Work, plan: Plan, there: Destination, row: Row) -> None:
    """Read what stands there, before the row goes out. It counts as out until that is known."""
    there.out = row
    row.lane = ""
    look = LookRow(row_id=row.row_id, person=work.key, object_id=there.object_id)
    work.out.look(plan, row.run, "", tuple(sorted(row.fields.values)), look)
    work.note(row, Standing.out, "looking")


def looked(work: Work, there: Destination, row: Row, outcome: RecordOutcome) -> bool:
    """What stands there is known, or cannot be -> whether the row still is to go out."""
    row.look = False
    seen: dict[str, Any] | None = None
    if outcome.seen is not None:
        seen = msgspec.json.decode(outcome.seen)
    if not row.expect:
        if seen is not None:
            before = {name: seen.get(name) for name in row.fields.values}
            there.released[row.row_id] = Release(before, {}, row.sync)
            while len(there.released) > KEPT_MAX:
                del there.released[next(iter(there.released))]
        return True
    changed = [
        name
        for name, ours in row.expect.items()
        if name in row.fields.values and (seen is None or not same(seen.get(name), ours))
    ]
    for name in changed:
        drop(row.fields, name)
    row.expect = {}
    plan = work.plan(row.sync, row.run)
    if row.fields.values.keys() - (plan.always if plan is not None else ()):
        if changed:
            words = "changed since, left as they are"
            work.note(
                row, Standing.waiting, "resent", field=",".join(sorted(changed)), reason=words
            )
        return True
    code = "changed_since" if seen is not None else outcome.code or "cannot_be_read"
    reason = "what the release wrote does not stand there any more"
    work.note(row, Standing.stale, code, field=",".join(sorted(changed)), reason=reason)
    return False


def carried(carrier: Row, earlier: Row, later: Row, both: Values) -> None:
    """Two rows become one: what either asks for is looked up, and what an undoing expects is
    expected of the fields that still are its own."""
    carrier.look = True
    carrier.expect = {
        name: ours
        for row in (earlier, later)
        for name, ours in row.expect.items()
        if both.values.get(name) is row.fields.values.get(name)
    }


def kept(there: Destination, row: Row) -> None:
    """A released row was written: remember what, beside what stood there before."""
    if release := there.released.get(row.row_id):
        release.wrote = dict(row.fields.values)


def undo(work: Work, act: Act, target: Target) -> tuple[Plan, Destination, Row] | None:
    """-> the row that puts back what stood there, to be offered. None: that is not kept."""
    for there in work.person.destinations.values():
        release = there.released.get(target.row_id)
        if release is None or not (release.wrote and there.object_id):
            continue
        plan = work.plan(release.sync, "")
        if plan is None:
            return None
        del there.released[target.row_id]
        # What joined the row after it was read is left out: nobody knows what stood there.
        back = {
            name: stood
            for name, stood in release.before.items()
            if name in release.wrote
            and name not in plan.always
            and not same(stood, release.wrote[name])
        }
        # Above what the source says now, below what it will say.
        fields = timed(back, {n: there.written.time(n) + 1 for n in back})
        work.person.seq += 1
        row = Row(
            row_id=derive("undone", act.act_id, target.row_id), event_id=act.act_id,
            sync=release.sync, source="", fields=fields, rank=RELEASED, seq=work.person.seq,
            force=True, look=True,
            expect={n: release.wrote[n] for n in back},
        )  # fmt: skip
        work.note(row, Standing.waiting, "resent", reason=act.why or "undo", by=act.who)
        if not back:
            work.note(row, Standing.unchanged, "equal", reason="it stood there before")
            return None
        along(row.fields, there.written, plan.always)
        return plan, there, row
    return None

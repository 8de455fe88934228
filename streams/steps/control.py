"""The control machine of a bulk run: which state may follow which."""

from schemas.journal import JournalEntry, JournalKind
from schemas.topics import JOURNAL
from streams.steps.outputs import Outputs
from streams.steps.rows import Run

__all__ = ["FINAL", "TRANSITIONS", "move"]

TRANSITIONS: dict[str, frozenset[str]] = {
    "requested": frozenset(("running", "cancelling")),
    "running": frozenset(("pausing", "stuck", "completed", "cancelling")),
    "pausing": frozenset(("running", "paused", "cancelling")),
    "paused": frozenset(("running", "cancelling")),
    "stuck": frozenset(("running", "cancelling")),
    "cancelling": frozenset(("cancelled",)),
    "cancelled": frozenset[str](),
    "completed": frozenset[str](),
}
"""Whoever pauses a stuck run takes it through running."""

FINAL = frozenset(state for state, after in TRANSITIONS.items() if not after)


def move(run: Run, after: str, why: str, who: str, out: Outputs, *, where: str = "") -> None:
    """Into the next state, with its entry in the journal. A step that is not drawn is a bug."""
    before = run.state
    assert after in TRANSITIONS[before], f"run {run.run}: {before} -> {after}"
    run.state, run.why, run.where, run.who = after, why, where, who
    run.since_ms, run.changed = run.now_ms, True
    out.send(
        JOURNAL,
        run.run,
        JournalEntry(
            kind=JournalKind.run_state, at_ms=run.now_ms, sync=run.sync, run=run.run,
            before=before, after=after, why=f"{where}: {why}" if where else why, who=who,
        ),
    )  # fmt: skip

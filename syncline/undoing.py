"""Which releases can be undone, as the journal tells them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas import ids
from schemas.control import Act, ActKind, Target
from schemas.journal import JournalEntry, JournalKind, Standing
from syncline import acts
from syncline.mending import parts

__all__ = ["Released", "asked", "released"]


@dataclass
class Released:
    """A record that somebody has released."""

    row_id: str
    person: str
    sync: str
    run: str
    record_no: int
    at_ms: int
    who: str
    why: str
    standing: str = ""
    """Where it stands now."""

    @property
    def can_be_undone(self) -> bool:
        """As far as the journal tells: the person's row keeps what stood there, of the last 8."""
        return self.standing == Standing.written


def released(entries: Iterable[JournalEntry]) -> list[Released]:
    """The oldest first. `entries`: the journal, in the order of each partition."""
    found: dict[str, Released] = {}
    for entry in entries:
        if entry.kind is not JournalKind.decided:
            continue
        for note in entry.rows:
            if note.standing is Standing.waiting and note.code == "released":
                found[note.row_id] = Released(
                    note.row_id, note.person, entry.sync, entry.run, note.record_no, entry.at_ms,
                    note.by, note.reason,
                )  # fmt: skip
            elif note.row_id in found:
                found[note.row_id].standing = note.standing.value
    return sorted(found.values(), key=lambda r: (r.at_ms, r.row_id))


def asked(chosen: Sequence[Released], why: str) -> tuple[list[Act], list[str]]:
    """-> (acts, row ids of the records that they make)."""
    made: list[Act] = []
    rows: list[str] = []
    for sync in sorted({r.sync for r in chosen}):
        targets = [
            Target(parked_id="", person=r.person, row_id=r.row_id) for r in chosen if r.sync == sync
        ]
        for part in parts(targets):
            act = acts.act(ActKind.undo, sync=sync, targets=part, why=why)
            made.append(act)
            rows += (ids.derive("undone", act.act_id, t.row_id) for t in part)
    return made, rows

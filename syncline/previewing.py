"""What a run would do, as its journal tells it. Pure."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from schemas.journal import FATES, JournalEntry, JournalKind, RowNote

__all__ = ["TITLES", "Shown"]

TITLES = {
    "would_create": "would be created",
    "would_update": "would be updated",
    "would_append": "would be appended",
    "unchanged": "unchanged",
    "would_refuse": "would be refused",
    "filtered": "would be left out",
    "cannot_tell": "cannot be told",
}
SAMPLES = 3


@dataclass
class Shown:
    """Feed it with the journal of the run."""

    run: str
    ended: str = ""
    """completed or cancelled, when it is over."""
    stuck: str = ""
    rows: dict[str, RowNote] = field(default_factory=dict[str, RowNote])

    def take(self, entry: JournalEntry) -> None:
        if entry.run != self.run:
            return
        match entry.kind:
            case JournalKind.run_state if entry.after in ("completed", "cancelled"):
                self.ended = entry.after
            case JournalKind.run_state:
                self.stuck = entry.why if entry.after == "stuck" else ""
            case JournalKind.decided | JournalKind.admitted:
                self.rows |= {note.row_id: note for note in entry.rows}
            case _:
                pass

    @property
    def counts(self) -> dict[str, int]:
        """Title to how many records."""
        found = Counter(_group(note) for note in self._fated())
        return {title: found[key] for key, title in TITLES.items() if found[key]}

    @property
    def details(self) -> dict[str, dict[str, int]]:
        """Title to why, or which fields, with how many each; the most first."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for note in self._fated():
            title = TITLES[_group(note)]
            match _group(note):
                case "would_update":
                    found[title].update(note.field.split(","))
                case "would_refuse":
                    found[title][f"{note.field}: {note.reason}".strip(": ")] += 1
                case "filtered" | "cannot_tell":
                    found[title][note.reason or note.code] += 1
                case _:
                    pass
        return {title: dict(of.most_common()) for title, of in found.items()}

    @property
    def samples(self) -> dict[str, list[int]]:
        """Title to the numbers of a few records, for `syncline explain RUN:NUMBER`."""
        found: dict[str, list[int]] = defaultdict(list)
        for note in self._fated():
            of = found[TITLES[_group(note)]]
            if len(of) < SAMPLES and note.record_no >= 0:
                of.append(note.record_no)
        return dict(found)

    def _fated(self) -> list[RowNote]:
        fated = [note for note in self.rows.values() if note.standing in FATES]
        return sorted(fated, key=lambda note: note.record_no)


def _group(note: RowNote) -> str:
    if note.code in TITLES:
        return note.code
    return "unchanged" if note.standing == "unchanged" else "filtered"

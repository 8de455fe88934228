"""What becomes of an act, as the journal tells it: was it taken, by whom confirmed, and where do
the records stand that it was about. Pure; fed with every entry since before the act was asked for.
"""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from schemas.journal import FATES, JournalEntry, JournalKind, RowNote, Standing

__all__ = ["Answers", "Place"]

UNDER_WAY = frozenset(("released", "resent", "behind", "recalled"))
"""Codes of rows that wait for nobody but ourselves."""
TURN = "its turn"
GONE = "not parked any more, or another record by now"


@dataclass(frozen=True, order=True)
class Place:
    """Where some of the records stand now."""

    standing: str
    """A standing of the journal; `asked`: nothing is heard of them yet; `gone`."""
    why: str = ""

    def __str__(self) -> str:
        match self.standing:
            case "waiting":
                return f"waiting for {self.why}"
            case "parked":
                return f"refused again: {self.why}"
            case "asked":
                return "not heard of yet"
            case "gone":
                return GONE
            case _:
                return self.standing + (f" ({self.why})" if self.why else "")


@dataclass
class Answers:
    """Of some acts and the rows that they are about."""

    acts: frozenset[str]
    refused: str = ""
    """Why an act was not done at all."""
    partitions: set[int] = field(default_factory=set[int])
    """Partitions of persons that have confirmed an act for all."""
    confirmed: int = 0
    """Confirmations of acts about single persons or objects."""
    done: int = 0
    """Records for which there was something to do."""
    whys: set[str] = field(default_factory=set[str])
    workers: dict[str, int] = field(default_factory=dict[str, int])
    """Connectors workers that have confirmed, by act: requests that were under way."""
    notes: dict[str, RowNote] = field(default_factory=dict[str, RowNote])
    """Row id to the last that was said of it since."""

    def take(self, entry: JournalEntry) -> None:
        if entry.act_id in self.acts:
            self._act(entry)
        if entry.kind in (JournalKind.decided, JournalKind.admitted):
            for note in entry.rows:
                if note.standing is not Standing.duplicate:
                    self.notes[note.row_id] = note

    def _act(self, entry: JournalEntry) -> None:
        if entry.kind is JournalKind.act and entry.why.startswith("refused: "):
            self.refused = entry.why.removeprefix("refused: ")
        elif entry.kind is not JournalKind.confirmed:
            return
        elif entry.account and entry.why == "connectors":
            self.workers[entry.act_id] = entry.records
        elif entry.who:
            self.confirmed += 1
            self.done += entry.records
            if entry.why:
                self.whys.add(entry.why)
        else:
            self.partitions.add(entry.partition)

    def rows_of(self, event_ids: Container[str]) -> list[str]:
        """Rows of these events; those that an act has made have its id for that of an event."""
        return [row for row, note in self.notes.items() if note.event_id in event_ids]

    def place(self, row_id: str) -> Place:
        """Where a record stands; a superseded one where its carrier stands."""
        note = self.notes.get(row_id)
        while note is not None and note.standing is Standing.superseded and note.by in self.notes:
            note = self.notes[note.by]
        if note is None:
            return Place("asked")
        match note.standing:
            case Standing.waiting | Standing.held:
                if note.code in UNDER_WAY:
                    return Place("waiting", TURN)
                words = f"{note.code} ({note.reason})" if note.code and note.reason else ""
                return Place("waiting", words or note.code or note.reason)
            case Standing.parked:
                return Place("parked", f"{note.code} {note.field}".strip())
            case _:
                return Place(note.standing.value)

    def places(self, row_ids: Iterable[str]) -> Counter[Place]:
        return Counter(map(self.place, row_ids))

    def settled(self, row_ids: Sequence[str]) -> bool:
        """Whether nothing will change of itself within seconds: each record has its fate, or waits
        for somebody or something that has a name."""
        return all(self._rests(self.place(row_id)) for row_id in row_ids)

    def _rests(self, place: Place) -> bool:
        if place.standing == "waiting":
            return place.why != TURN
        return place.standing in FATES

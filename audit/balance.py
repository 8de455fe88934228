"""Does it close? Every record received for a sync has exactly one fate, or one named place.

Counts from the topics alone: what was received from `events.*`, what became of it from `journal`.
It shares no counter with the engine. The unit is one source record for one sync; a repeat of an
event is a record of its own, and its fate is `duplicate`.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from schemas import ids
from schemas.definitions import Sync
from schemas.events import Origin, PlatformEvent
from schemas.journal import FATES, JournalEntry, JournalKind, Standing

__all__ = ["Balance", "Cohort", "Line", "Wait"]

HOUR_MS = 3_600_000
STANDINGS = tuple(Standing)
ASKED = ("released", "resent")
"""Codes of rows that wait for nobody but ourselves: where they stay so, something is wrong."""
_NUMBER = {standing: n for n, standing in enumerate(STANDINGS)}


@dataclass(frozen=True, slots=True, order=True)
class Cohort:
    """What a record is counted under, for ever: its run, or the hour in which it was received."""

    sync: str
    run: str
    hour_ms: int = 0


@dataclass(frozen=True)
class Line:
    """One cohort: received, and how many stand where."""

    cohort: Cohort
    received: int
    standings: Mapping[Standing, int]

    @property
    def difference(self) -> int:
        """Received minus accounted for. Anything but 0 is an alarm."""
        return self.received - sum(self.standings.values())

    @property
    def open(self) -> int:
        """Records that have a named place and no fate yet."""
        return sum(n for s, n in self.standings.items() if s not in FATES)


@dataclass(frozen=True, slots=True, order=True)
class Wait:
    """Records of a cohort that wait for the same thing, which has a name."""

    cohort: Cohort
    place: Standing
    why: str


@dataclass(slots=True)
class _Row:
    cohort: Cohort
    received: int = 0
    duplicates: int = 0
    standing: int = -1
    since_ms: int = 0
    code: str = ""
    why: str = ""


@dataclass
class Balance:
    """Feed it every record of `events.*` and `journal`, in any interleaving; ask it at any time.

    About 300 bytes a record.
    """

    syncs: Mapping[str, Sync]
    _rows: dict[str, _Row] = field(default_factory=dict)
    _early: dict[str, _Row] = field(default_factory=dict)
    """Noted in the journal before its event was read from the other topic."""

    def received(self, event: PlatformEvent) -> None:
        """One record of `events.*`. A fetched one is its run's sync's; a live one every sync's
        that follows that kind of object."""
        for sync in self.syncs.values():
            if not _wants(sync, event):
                continue
            row_id = ids.row_id(event.event_id, sync.sync)
            row = self._rows.get(row_id)
            if row is None:
                row = self._early.pop(row_id, None) or _Row(_cohort(sync.sync, event))
                row.cohort = _cohort(sync.sync, event)
                row.since_ms = row.since_ms or event.received_ms
                self._rows[row_id] = row
            row.received += 1

    def noted(self, entry: JournalEntry) -> None:
        """One entry of `journal`."""
        if entry.kind is JournalKind.page_fetched:
            return  # the records of the page are on events.*
        for note in entry.rows:
            row = self._rows.get(note.row_id)
            if row is None and note.code == "resent":
                # A record that a person's act has made: it stands on no topic of events.
                hour_ms = entry.at_ms - entry.at_ms % HOUR_MS
                row = _Row(Cohort(entry.sync, "", hour_ms), received=1)
                self._rows[note.row_id] = row
            elif row is None:
                early = _Row(Cohort(entry.sync, entry.run))
                row = self._early.setdefault(note.row_id, early)
            if note.standing is Standing.duplicate:
                row.duplicates += 1
            else:
                row.standing, row.since_ms = _NUMBER[note.standing], entry.at_ms
                row.code, row.why = sys.intern(note.code), sys.intern(note.reason)

    def lines(self) -> list[Line]:
        """Cohorts in order, each with its counts."""
        received: Counter[Cohort] = Counter()
        standings: dict[Cohort, Counter[Standing]] = {}
        for row in self._rows.values():
            received[row.cohort] += row.received
            counts = standings.setdefault(row.cohort, Counter())
            counts[Standing.duplicate] += row.duplicates
            counts[_standing(row)] += 1
        return [
            Line(cohort, received[cohort], {s: n for s, n in standings[cohort].items() if n})
            for cohort in sorted(received)
        ]

    @property
    def strangers(self) -> list[str]:
        """Row ids that the journal speaks of and that no topic of events holds."""
        return list(self._early)

    @property
    def difference(self) -> int:
        """Over all cohorts, without sign: 0 where every record is accounted for."""
        return sum(abs(line.difference) for line in self.lines()) + len(self._early)

    def overdue(self, before_ms: int) -> list[tuple[str, Cohort, Standing, int]]:
        """Records with neither a fate nor a wait that has a name, since before a time: row id,
        cohort, place, since when. What waits for a closed account, or behind another row of its
        person, is not among them."""
        return [
            (row_id, row.cohort, _standing(row), row.since_ms)
            for row_id, row in self._rows.items()
            if row.since_ms < before_ms and _standing(row) not in FATES and not _named(row)
        ]

    def waits(self) -> dict[Wait, tuple[int, int]]:
        """What waits for something that has a name -> how many records, the first since when."""
        found: dict[Wait, tuple[int, int]] = {}
        for row in self._rows.values():
            if _named(row):
                why = f"{row.code} ({row.why})" if row.code and row.why else row.code or row.why
                wait = Wait(row.cohort, _standing(row), why)
                count, since_ms = found.get(wait, (0, row.since_ms))
                found[wait] = count + 1, min(since_ms, row.since_ms)
        return dict(sorted(found.items()))


def _standing(row: _Row) -> Standing:
    return STANDINGS[row.standing] if row.standing >= 0 else Standing.in_transit


def _named(row: _Row) -> bool:
    """Whether it waits for something that has a name. On a topic, or out, is a place and no wait:
    it takes seconds."""
    if _standing(row) not in (Standing.waiting, Standing.held):
        return False
    return bool(row.code or row.why) and row.code not in ASKED


def _wants(sync: Sync, event: PlatformEvent) -> bool:
    if event.connection != sync.source or event.object_type != sync.source_object:
        return False
    if event.run:
        return ids.sync_of(event.run) == sync.sync
    return sync.live and event.origin is not Origin.read


def _cohort(sync: str, event: PlatformEvent) -> Cohort:
    hour_ms = 0 if event.run else event.received_ms - event.received_ms % HOUR_MS
    return Cohort(sync, event.run, hour_ms)


def total(lines: Iterable[Line]) -> Line:
    """All cohorts as one line."""
    counts: Counter[Standing] = Counter()
    received = 0
    for line in lines:
        received += line.received
        counts.update(line.standings)
    return Line(Cohort("", ""), received, counts)

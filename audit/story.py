"""The story of one record, or of one person, read from the topics (promise P5).

Start with anything a person has at hand: a row id, an event id, a parked id, an object key, a
person key, `RUN:RECORD_NO`, or an address. Two passes over the log: the first finds which persons,
events and rows are meant, the second collects what was said of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from audit.read import Log, MessageAt
from schemas.commands import UploadBatch
from schemas.control import Act
from schemas.events import PlatformEvent, ResolvedRecord
from schemas.journal import JournalEntry, JournalKind
from schemas.outcomes import RecordOutcome
from schemas.parked import ParkedRecord

__all__ = ["Line", "Meant", "find", "story"]


@dataclass
class Meant:
    """What a question is about."""

    asked: str
    persons: set[str] = field(default_factory=set)
    events: set[str] = field(default_factory=set)
    rows: set[str] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.persons or self.events or self.rows)


@dataclass(frozen=True, order=True)
class Line:
    """One thing that happened. Sorted by time, then by where it stands in the log."""

    at_ms: int
    place: str
    """topic-partition-offset."""
    what: str


def find(log: Iterable[MessageAt], asked: str, *, whole_person: bool = False) -> Meant:
    """Who and what is meant by an id or an address.

    A record's id means that record alone; with `whole_person` everything of its person.
    """
    meant = Meant(asked)
    run, _, number = asked.rpartition(":")
    record_no = int(number) if run and number.isdigit() else None
    address = asked.lower().encode() if "@" in asked else None
    owners: dict[str, str] = {}
    for _, _, _, key, message in log:
        match message:
            case PlatformEvent() as event:
                hit = (
                    asked in (event.event_id, event.object_key)
                    or (record_no == event.record_no and event.run == run and record_no is not None)
                    or (address is not None and address in event.values.lower())
                )
                if hit:
                    meant.events.add(event.event_id)
                    meant.objects.add(event.object_key)
            case ResolvedRecord(person=person, event=event):
                owners[event.object_key] = person
                if asked == person:
                    meant.persons.add(person)
            case JournalEntry(rows=rows):
                for note in rows:
                    if asked == note.row_id:
                        meant.rows.add(note.row_id)
                        meant.events.add(note.event_id)
            case ParkedRecord() as parked:
                if asked in (parked.parked_id, key.decode()):
                    meant.rows.add(parked.row_id)
                    meant.events.add(parked.event_id)
            case _:
                pass
    if whole_person or meant.persons:
        meant.persons |= {owners[o] for o in meant.objects if o in owners}
        meant.objects |= {o for o, p in owners.items() if p in meant.persons}
    return meant


def story(log: Iterable[MessageAt], meant: Meant) -> list[Line]:
    """Everything that was said of what is meant, in order of time."""
    lines: list[Line] = []
    for topic, partition, offset, _, message in log:
        place = f"{topic}-{partition}-{offset}"
        lines += [Line(at_ms, place, what) for at_ms, what in _told(message, meant)]
    return sorted(lines)


def _told(message: object, meant: Meant) -> Iterable[tuple[int, str]]:
    match message:
        case PlatformEvent() as e if e.event_id in meant.events or e.object_key in (
            meant.objects if meant.persons else ()
        ):
            how = f"record {e.record_no} of run {e.run}" if e.run else f"by {e.origin}"
            yield (
                e.received_ms,
                f"received {e.object_key} {e.platform_kind or e.kind} {how}, event {e.event_id}: "
                f"{_short(e.values)}",
            )
        case ResolvedRecord(person=person, event=e) if (
            e.event_id in meant.events or person in meant.persons
        ):
            yield e.received_ms, f"admitted as person {person}"
        case UploadBatch(rows=rows) as batch:
            for row in rows:
                if (
                    row.row_id in meant.rows
                    or row.event_id in meant.events
                    or (row.person in meant.persons)
                ):
                    yield (
                        batch.decided_ms,
                        f"commanded to {batch.connection} {batch.object_type} ({batch.priority}), "
                        f"row {row.row_id}: {_short(row.fields)}",
                    )
        case RecordOutcome() as o if o.row_id in meant.rows or o.person in meant.persons:
            said = f" {o.code} {o.field}: {o.words}" if o.code or o.words else ""
            where = f" as {o.object_id}" if o.object_id else ""
            request = f", request {o.request_id} position {o.position}" if o.request_id else ""
            yield o.at_ms, f"{o.connection} answered {o.kind}{where}{said}{request}"
        case JournalEntry() as entry if entry.kind is not JournalKind.page_fetched:
            for note in entry.rows:
                if (
                    note.row_id in meant.rows
                    or note.event_id in meant.events
                    or (note.person and note.person in meant.persons)
                ):
                    meant.rows.add(note.row_id)
                    why = f": {note.code} {note.field} {note.reason}".rstrip() if note.code else ""
                    by = f" by {note.by}" if note.by else ""
                    mapping = f", mapping {entry.mapping}" if entry.mapping else ""
                    yield entry.at_ms, f"{entry.sync}: {note.standing}{by}{why}{mapping}"
        case ParkedRecord() as p if p.row_id in meant.rows or p.person in meant.persons:
            yield (
                p.last_ms,
                f"parked as {p.parked_id} at {p.stage}, tried {p.attempts} times: "
                f"{p.code} {p.field}: {p.words}",
            )
        case Act(targets=targets) as act:
            if any(t.row_id in meant.rows or t.person in meant.persons for t in targets):
                why = f", because {act.why}" if act.why else ""
                yield act.when_ms, f"{act.who} asked for {act.kind} {_short(act.values)}{why}"
        case _:
            return


def _short(document: bytes, limit: int = 400) -> str:
    """JSON for a line of text."""
    try:
        text = msgspec.json.format(document, indent=0).decode()
    except msgspec.DecodeError:
        text = document.decode(errors="replace")
    return text if len(text) <= limit else text[:limit] + " …"


def everything(log: Log) -> list[MessageAt]:
    """The log in memory, for questions that need two passes."""
    return list(log.read_to_end())

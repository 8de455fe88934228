"""What arrives for one connection, and what becomes of it: records of several topics to lines.

Pure. A standing may be read before the event that it is about, as they stand on different topics:
it waits for it, among at most `KNOWN_MAX` others. No personal value is told unless asked for.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from schemas import topics
from schemas.base import Message
from schemas.events import PlatformEvent
from schemas.journal import JournalEntry, RowNote
from schemas.parked import ParkedRecord, Stage

__all__ = ["Arrived", "Line", "Tail", "topics_of"]

KNOWN_MAX = 10_000
Held = TypeVar("Held")


def topics_of(platform: str) -> list[str]:
    """All that is read."""
    own = [topics.intake_of(platform), topics.events_of(platform)]
    return [*own, topics.QUARANTINE, topics.PARKED, topics.JOURNAL]


class Arrived(NamedTuple):
    """A record of a topic, with its message where it is one of ours."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    key: str
    headers: Mapping[str, str]
    size: int
    """Bytes of the value."""
    message: Message | None

    @property
    def place(self) -> str:
        return f"{self.topic}-{self.partition}-{self.offset}"


@dataclass(frozen=True)
class Line:
    """One thing that happened: request, event, refused, parked, settled, or a row's standing."""

    at_ms: int
    what: str
    about: str
    place: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
        return f"{at} {self.what:10} {self.about}  [{self.place}]"

    def plain(self) -> dict[str, Any]:
        """For --json."""
        own = {"at_ms": self.at_ms, "what": self.what, "about": self.about, "place": self.place}
        return own | dict(self.details)


class Tail:
    """Of one connection. `values`: also tell what the fields hold, and a platform's words."""

    def __init__(self, connection: str, *, values: bool = False) -> None:
        self.connection, self.values = connection, values
        self._objects: OrderedDict[str, str] = OrderedDict()
        """Event id to what it is about, of those seen last."""
        self._early: OrderedDict[str, list[Line]] = OrderedDict()
        """Event id to what was said of it before the event itself was read."""
        self._parked: OrderedDict[str, str] = OrderedDict()

    def take(self, arrived: Arrived) -> list[Line]:
        """-> what to tell of it, nothing where it is another connection's."""
        match arrived.message:
            case PlatformEvent() as event if event.connection == self.connection:
                return self._event(arrived, event)
            case JournalEntry() as entry:
                return list(self._known(self._standings(arrived, entry)))
            case ParkedRecord() as record:
                return self._record(arrived, record)
            case None if arrived.topic == topics.PARKED:
                return self._settled(arrived)
            case None if arrived.key == self.connection:
                return [_request(arrived)]
            case _:
                return []

    def _event(self, arrived: Arrived, event: PlatformEvent) -> list[Line]:
        object_ = f"{event.object_type}:{event.object_id}"
        _remember(self._objects, event.event_id, object_)
        changed = f" ({', '.join(event.changed)})" if event.changed else ""
        told = f" {_json(event.values)}" if self.values else ""
        how = "" if event.origin == "webhook" else f", by {event.origin}"
        line = Line(
            arrived.at_ms,
            "event",
            f"{object_} {event.platform_kind or event.kind}{changed}{how}{told}",
            arrived.place,
            {
                "event_id": event.event_id,
                "kind": str(event.kind),
                "object": object_,
                "changed": event.changed,
                "origin": str(event.origin),
                "trace": _trace(event.trace),
            },
        )
        waited = self._early.pop(event.event_id, [])
        return [line, *(self._named(event.event_id, said) for said in waited)]

    def _standings(self, arrived: Arrived, entry: JournalEntry) -> Iterator[tuple[str, Line]]:
        for note in entry.rows:
            if note.event_id:
                yield (
                    note.event_id,
                    Line(
                        arrived.at_ms,
                        str(note.standing),
                        f"{entry.sync or entry.connection}{_why(note)}",
                        arrived.place,
                        {
                            "event_id": note.event_id,
                            "sync": entry.sync,
                            "row_id": note.row_id,
                            "code": note.code,
                            "field": note.field,
                            "by": note.by,
                        },
                    ),
                )

    def _record(self, arrived: Arrived, record: ParkedRecord) -> list[Line]:
        at_intake = record.stage is Stage.intake
        if at_intake and record.connection != self.connection:
            return []
        where = "" if record.position < 0 or not at_intake else f"part {record.position}: "
        words = record.words if at_intake or self.values else ""
        why = " ".join(w for w in (record.code * (not at_intake), record.field, words) if w)
        line = Line(
            arrived.at_ms,
            "parked",
            f"{where}{why}" if at_intake else f"{record.sync} at {record.stage}: {why}",
            arrived.place,
            {"parked_id": record.parked_id, "event_id": record.event_id, "code": record.code},
        )
        if at_intake:
            _remember(self._parked, record.parked_id, "intake")
            return [line]
        if record.event_id in self._objects:
            _remember(self._parked, record.parked_id, record.sync)
        return list(self._known([(record.event_id, line)]))

    def _settled(self, arrived: Arrived) -> list[Line]:
        if arrived.key not in self._parked:
            return []
        stage = self._parked.pop(arrived.key)
        details = {"parked_id": arrived.key}
        return [Line(arrived.at_ms, "settled", f"{arrived.key} ({stage})", arrived.place, details)]

    def _known(self, said: Iterable[tuple[str, Line]]) -> Iterator[Line]:
        for event_id, line in said:
            if event_id in self._objects:
                yield self._named(event_id, line)
            else:
                _remember(self._early, event_id, [*self._early.get(event_id, [])[-9:], line])

    def _named(self, event_id: str, line: Line) -> Line:
        about = f"{self._objects[event_id]} {line.about}"
        return Line(line.at_ms, line.what, about, line.place, line.details)


def _request(arrived: Arrived) -> Line:
    verdict = arrived.headers.get("verdict", "")
    part = f", piece {arrived.headers['part']}" if "part" in arrived.headers else ""
    details = {"bytes": arrived.size, "verdict": verdict}
    if trace := arrived.headers.get("traceparent", ""):
        details["trace"] = _trace(trace)
    if arrived.topic == topics.QUARANTINE:
        about = f"{arrived.size} bytes: {verdict}"
        return Line(arrived.at_ms, "refused", f"{about}{part}", arrived.place, details)
    return Line(arrived.at_ms, "request", f"{arrived.size} bytes{part}", arrived.place, details)


def _why(note: RowNote) -> str:
    words = [note.code, note.field, note.reason, f"by {note.by}" if note.by else ""]
    told = " ".join(w for w in words if w)
    return f": {told}" if told else ""


def _trace(traceparent: str) -> str:
    """The trace's id: the same for a request and all that came of it."""
    return traceparent[3:35]


def _json(document: bytes) -> str:
    try:
        return msgspec.json.format(document, indent=0).decode()
    except msgspec.DecodeError:
        return document.decode(errors="replace")


def _remember(known: OrderedDict[str, Held], name: str, value: Held) -> None:
    known[name] = value
    known.move_to_end(name)
    if len(known) > KNOWN_MAX:
        known.popitem(last=False)

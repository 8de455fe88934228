"""The journal as traces: what became of an event, on the trace that its sender or we began.

No process on an event's way does anything for it. Each span follows from records that are kept, its
id from what it tells of: told twice, it is the same span.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas import ids
from schemas.base import Message
from schemas.events import PlatformEvent
from schemas.journal import FATES, JournalEntry, JournalKind, RowNote, Standing

__all__ = ["Span", "Spans"]

KEPT_MAX = 50_000
"""Events whose rows are under way; of which a row was read first; and that leave no trace. Of each
the oldest go."""
TOLD = frozenset({JournalKind.admitted, JournalKind.decided, JournalKind.settled})
RATIO_BITS = 64


class Span(NamedTuple):
    """One step of one event. Times are Unix milliseconds; ids as in W3C Trace Context."""

    trace_id: int
    span_id: int
    parent_id: int
    name: str
    begin_ms: int
    end_ms: int
    about: dict[str, str]
    failed: bool = False


class _Note(NamedTuple):
    entry: JournalEntry
    note: RowNote


@dataclass(slots=True)
class _Seen:
    """An event on its way."""

    trace_id: int
    parent_id: int
    about: dict[str, str]
    received_ms: int
    since_ms: dict[str, int] = field(default_factory=dict)
    """Row id to when it went out."""


class Spans:
    """Takes messages of `events.*` and `journal` in the order in which they are read; topics and
    partitions may come mixed. Spans come out when their end is known."""

    def __init__(self, ratio: float = 1.0) -> None:
        """`ratio`: of all traces; which ones depends on the trace id alone."""
        self._below = int(ratio * (1 << RATIO_BITS))
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._early: OrderedDict[str, list[_Note]] = OrderedDict()
        self._left: OrderedDict[str, None] = OrderedDict()

    def take(self, message: Message | None, written_ms: int) -> list[Span]:
        """`written_ms`: the record's own time."""
        match message:
            case PlatformEvent() if message.trace or not message.run:
                return self._event(message, written_ms)
            case JournalEntry(kind=kind, run="") if kind in TOLD:  # of runs nothing is traced
                return [span for note in message.rows for span in self._note(_Note(message, note))]
            case _:
                return []

    def _event(self, event: PlatformEvent, written_ms: int) -> list[Span]:
        early = self._early.pop(event.event_id, [])
        trace = _parse(event.trace)
        if trace is None or trace[0] & ((1 << RATIO_BITS) - 1) >= self._below:
            self._left[event.event_id] = None  # what is told of it later is nothing read early
            _bound(self._left)
            return []
        if event.event_id in self._seen:
            return []
        about = {
            "syncline.event_id": event.event_id, "syncline.connection": event.connection,
            "syncline.kind": f"{event.object_type}.{event.kind}",
        }  # fmt: skip
        seen = self._seen[event.event_id] = _Seen(*trace, about, event.received_ms)
        _bound(self._seen)
        name = f"receive {event.connection}"
        received = Span(
            seen.trace_id, _id("receive", event.event_id), seen.parent_id, name,
            event.received_ms, max(event.received_ms, written_ms), about,
        )  # fmt: skip
        return [received, *(span for note in early for span in self._note(note))]

    def _note(self, told: _Note) -> list[Span]:
        entry, note = told
        seen = self._seen.get(note.event_id)
        if seen is None:
            if note.event_id not in self._left:
                self._early.setdefault(note.event_id, []).append(told)
                _bound(self._early)
            return []
        about = {
            **seen.about, "syncline.sync": entry.sync, "syncline.row_id": note.row_id,
            "syncline.standing": note.standing.value, "syncline.code": note.code,
        }  # fmt: skip
        failed = note.standing is Standing.parked
        if entry.kind is JournalKind.settled:
            begin_ms = seen.since_ms.get(note.row_id, seen.received_ms)
            about |= {
                "syncline.connection": entry.connection,
                "syncline.request_id": note.request_id,
            }
            return [_span(seen, "upload", note, entry, begin_ms, about, failed=failed)]
        if note.standing is Standing.out:
            seen.since_ms[note.row_id] = entry.at_ms
        elif note.was or note.standing not in FATES:
            return []  # it waits; or what the upload's own span tells
        return [_span(seen, "decide", note, entry, seen.received_ms, about, failed=failed)]


def _span(
    seen: _Seen, step: str, note: RowNote, entry: JournalEntry, begin_ms: int,
    about: dict[str, str], *, failed: bool,
) -> Span:  # fmt: skip
    span_id = _id(step, f"{note.row_id}:{note.request_id}")
    end_ms = max(begin_ms, entry.at_ms)
    name = f"{step} {entry.sync}"
    return Span(seen.trace_id, span_id, seen.parent_id, name, begin_ms, end_ms, about, failed)


def _id(step: str, what: str) -> int:
    return int(ids.derive("span", step, what)[:16], 16) or 1


def _parse(traceparent: str) -> tuple[int, int] | None:
    """(trace id, span id) of a sampled W3C traceparent."""
    try:
        _, trace, span, flags = traceparent.split("-")[:4]
        return (int(trace, 16), int(span, 16)) if int(flags, 16) & 1 else None
    except ValueError:
        return None


def _bound(kept: OrderedDict[str, Any]) -> None:
    while len(kept) > KEPT_MAX:
        kept.popitem(last=False)

"""Finished commands to what one transaction writes: outcomes, journal, offsets. No I/O."""

import json
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from connectors.lanes import Item, Taken
from connectors.outcome import (
    Accepted,
    Outcome,
    Parked,
    Returned,
    Unchanged,
    Unknown,
    Written,
)
from connectors.wire import Wire
from schemas.journal import JournalKind, Standing
from schemas.topics import JOURNAL, commands_of, outcomes_of

__all__ = ["AGAIN", "Request", "Send", "Settled", "again", "redacted", "sends_of"]

AGAIN = "again"
"""Header of a command that was written again: when it was first read, and attempts by row id."""
REASON_MAX = 300
NOTES_MAX = 2_000
"""Of one entry: with reasons about 1 MB, where a message may have 4. A job has more rows."""


class Send(NamedTuple):
    """One message to write."""

    topic: str
    value: bytes | None
    key: str
    partition: int = -1
    """-1: derived from the key."""
    headers: list[tuple[str, str | bytes | None]] | None = None


@dataclass(slots=True, eq=False)
class Request:
    """One request that carried rows; filled in when it is over."""

    request_id: str
    rows: int
    name: str = ""
    status: int = 0
    took_ms: int = 0


class Settled(NamedTuple):
    """A row and its fate."""

    item: Item
    outcome: Outcome
    request: Request | None
    position: int
    at_ms: int


class _Entry(NamedTuple):
    """What the journal is told of one request."""

    request: Request
    notes: list[tuple[dict[str, Any], dict[str, Any]]]
    """What a row has for itself, and what most have in common."""
    at_ms: int
    """When the first of its rows was settled."""


def sends_of(platform: str, commands: Iterable[Taken], wire: Wire) -> list[Send]:
    """All messages that these finished commands owe. In the journal one entry a request, sync and
    run; rows that were given back have none: the person's state says where they wait."""
    sends: list[Send] = []
    entries: dict[tuple[str, str, str], _Entry] = {}
    topic = outcomes_of(platform)
    for taken in commands:
        sends += taken.sends
        sends += again(platform, taken, wire)
        ways: dict[Hashable, tuple[Callable[..., bytes], dict[str, Any]]] = {}
        for settled in taken.settled:
            item, outcome, request, position, at_ms = settled
            said, row = _said(outcome), item.row
            request_id = request.request_id if request else ""
            alike = (request_id, item.attempts, at_ms, *said.values())
            way = ways.get(alike)
            if way is None:
                common = {
                    "connection": taken.connection,
                    "object_type": taken.object_type,
                    "sync": taken.sync,
                    "run": taken.run,
                    "request_id": request_id,
                    "attempts": max(1, item.attempts),
                    "at_ms": at_ms,
                    **said,
                }
                # A row that was given back has no standing, and no note.
                noted = {"standing": STANDING.get(said["kind"]), "request_id": request_id}
                way = ways[alike] = wire.outcomes(common), noted
            write, noted = way
            object_id = getattr(outcome, "object_id", "")
            value = write(row.row_id, row.person, object_id, position)
            sends.append(Send(topic, value, row.person))
            if request is not None and not isinstance(outcome, Returned):
                key = (request_id, taken.sync, taken.run)
                entry = entries.get(key)
                if entry is None:
                    entry = entries[key] = _Entry(request, [], at_ms)
                if "code" in said:
                    noted = noted | _why(said, row.fields)
                entry.notes.append((_note(settled), noted))
    for (request_id, sync, run), (request, notes, at_ms) in entries.items():
        for begin in range(0, len(notes), NOTES_MAX):
            part = notes[begin : begin + NOTES_MAX]
            common = part[0][1]
            if all(noted == common for _, noted in part):
                told = [note for note, _ in part]
            else:
                common, told = None, [note | noted for note, noted in part]
            value = wire.entry(
                JournalKind.settled, told, common, at_ms=at_ms, sync=sync, run=run,
                request_id=request_id, request=request.name, status=request.status,
                took_ms=request.took_ms, records=request.rows,
            )  # fmt: skip
            sends.append(Send(JOURNAL, value, run or sync))
    return sends


def again(platform: str, taken: Taken, wire: Wire) -> Iterator[Send]:
    """The rows of a command that still wait, for the end of its partition; those that are out in
    a job as questions about it."""
    topic = commands_of(platform)
    record = {
        "account": taken.account,
        "connection": taken.connection,
        "object_type": taken.object_type,
        "sync": taken.sync,
        "run": taken.run,
        "priority": taken.priority.value,
        "decided_ms": taken.decided_ms,
    }
    by_job: dict[Any, list[Item]] = {}
    for item in taken.again:
        by_job.setdefault(item.job, []).append(item)
    for job, items in by_job.items():
        rows = [item.raw for item in items]
        attempts = {item.row.row_id: item.attempts for item in items if item.attempts}
        header = json.dumps({"taken_ms": taken.taken_ms, "attempts": attempts})
        if job is None:
            value = wire.batch({**record, "rows": rows})
        else:
            value = wire.check({**record, "rows": rows, "receipt": job.receipt,
                                "since_ms": job.since_ms, "due_ms": 0})  # fmt: skip
        yield Send(topic, value, taken.account, taken.partition, [(AGAIN, header)])


def _said(outcome: Outcome) -> dict[str, Any]:
    """What differs from the defaults of RecordOutcome, but for the object."""
    match outcome:
        case Written():
            return {"kind": "written"}
        case Unchanged():
            return {"kind": "unchanged"}
        case Accepted(receipt):
            return {"kind": "accepted", "receipt": receipt}
        case Parked(code, words, field):
            return {"kind": "parked", "code": code, "words": words, "field": field}
        case Unknown(why):
            return {"kind": "unknown", "code": "unknown", "words": why}
        case Returned(reason, until_ms):
            return {"kind": "returned", "code": "returned", "words": reason, "until_ms": until_ms}
        case _:
            raise AssertionError(f"{type(outcome).__name__} never leaves the worker")


STANDING = {
    "written": Standing.written.value,
    "unchanged": Standing.unchanged.value,
    "accepted": Standing.accepted.value,
    "parked": Standing.parked.value,
    "unknown": Standing.parked.value,  # the person's state parks it
}


def _note(settled: Settled) -> dict[str, Any]:
    """Of RowNote what each row has for itself."""
    item = settled.item
    return {
        "row_id": item.row.row_id,
        "event_id": item.raw["event_id"],
        "person": item.row.person,
        "record_no": item.raw["record_no"],
        "position": settled.position,
        "attempts": item.attempts,
    }


def _why(said: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Of RowNote, where something is wrong with the row."""
    reason = redacted(said.get("words", ""), fields)
    return {"code": said["code"], "field": said.get("field", ""), "reason": reason}


def redacted(words: str, fields: Mapping[str, Any]) -> str:
    """A platform's words, with our own values in them replaced by the names of their fields.

    Longest values first; fewer than 3 characters say nothing about anybody. At most 300 characters.
    """
    named = sorted(
        ((str(v), f) for f, v in fields.items() if isinstance(v, str | int | float)),
        key=lambda pair: -len(pair[0]),
    )
    for value, name in named:
        if len(value) >= 3:
            words = words.replace(value, f"<{name}>")
    return words[:REASON_MAX]


def wall_ms() -> int:
    return time.time_ns() // 1_000_000

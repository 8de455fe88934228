"""What a step for one person has in hand: the rows, the definitions, and where to put outputs."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from schemas.journal import JournalKind, RowNote, Standing
from streams.steps.catalog import Catalog, Plan
from streams.steps.outputs import Outputs
from streams.steps.rows import Index, Lane, Person, Row, pack, unpack_names

__all__ = ["Lanes", "Rows", "Work", "without_values"]

ASKED = ("released", "resent")
BUCKET = 200
"""Persons in one row of a lane: about 7 kB, written anew when one joins."""


class Rows(Protocol):
    """The rows of one partition of one table, as this chunk has left them."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, row: bytes | None) -> None:
        """None deletes."""
        ...


class Lanes:
    """Queues of waiting persons, one for each (gate, sync, run); first in, first out.

    An entry is a hint: its person may have nothing left that waits. Rows of buckets are read and
    written once a chunk.
    """

    def __init__(self, rows: Rows, index: Index) -> None:
        self._rows, self._index = rows, index
        self._buckets: dict[str, list[str]] = {}

    def join(self, lane: str, person: str) -> None:
        queue = self._index.lanes.setdefault(lane, Lane())
        bucket = self._bucket(lane, queue.tail)
        if len(bucket) >= BUCKET:
            queue.tail += 1
            bucket = self._bucket(lane, queue.tail)
        bucket.append(person)
        queue.waiting += 1

    def take(self, lane: str) -> str:
        """The first person of a lane, taken out of it; an empty lane is forgotten."""
        queue = self._index.lanes[lane]
        bucket = self._bucket(lane, queue.head)
        while not bucket and queue.head < queue.tail:
            queue.head += 1
            bucket = self._bucket(lane, queue.head)
        queue.waiting -= 1
        if not queue.waiting:
            del self._index.lanes[lane]
        return bucket.pop(0)

    def save(self) -> None:
        for key, bucket in self._buckets.items():
            self._rows.put(key, pack(bucket) if bucket else None)

    def _bucket(self, lane: str, number: int) -> list[str]:
        key = f"!lane|{lane}|{number}"
        if key not in self._buckets:
            data = self._rows.get(key)
            self._buckets[key] = unpack_names(data) if data else []
        return self._buckets[key]


@dataclass(slots=True)
class Work:
    """One chunk of one partition of `people`; `key` and `person` change with each record."""

    catalog: Catalog
    index: Index
    lanes: Lanes
    out: Outputs
    partition: int
    key: str = ""
    person: Person = field(default_factory=Person)
    _plans: dict[tuple[str, str], Plan | None] = field(
        default_factory=dict[tuple[str, str], "Plan | None"]
    )
    _live: dict[tuple[str, str], tuple[Plan, ...]] = field(
        default_factory=dict[tuple[str, str], tuple[Plan, ...]]
    )

    def plan(self, sync: str, run: str) -> Plan | None:
        """The sync at the versions that its run holds, or that are active here."""
        key = (sync, run)
        if key not in self._plans:
            mark = self.index.runs.get(run) if run else None
            pins = mark.pins if mark and mark.pins else self.index.pins
            self._plans[key] = self.catalog.plan(sync, pins)
        return self._plans[key]

    def live(self, connection: str, object_type: str) -> tuple[Plan, ...]:
        key = (connection, object_type)
        if key not in self._live:
            self._live[key] = self.catalog.live(connection, object_type, self.index.pins)
        return self._live[key]

    def forget_plans(self) -> None:
        """The active versions have changed, or a run is known that was not."""
        self._live.clear()
        self._plans.clear()

    def count(self, sync: str, code: str) -> None:
        """One more own write that came back."""
        key = f"{sync}|{code}"
        self.index.echoes[key] = self.index.echoes.get(key, 0) + 1

    def note(
        self, row: Row, standing: Standing, code: str = "", *, field: str = "", reason: str = "",
        by: str = "", request_id: str = "", position: int = -1,
    ) -> None:  # fmt: skip
        """The record stands there from now on: into the journal, and remembered in its row."""
        plan = self.plan(row.sync, row.run)
        self.out.note(
            JournalKind.decided, row.sync, row.run, plan.mapping.title if plan else "",
            RowNote(
                row_id=row.row_id, event_id=row.event_id, person=self.key, record_no=row.record_no,
                standing=standing, was=row.standing, code=code, field=field, reason=reason, by=by,
                request_id=request_id, position=position, attempts=row.tries,
            ),
        )  # fmt: skip
        row.standing = standing.value
        row.asked = code in ASKED


def without_values(words: str, values: dict[str, Any]) -> str:
    """A platform's words, with our own values in them replaced by the names of their fields.

    Longest values first; values of fewer than 3 characters say nothing about anybody. At most 300
    characters.
    """
    named = sorted(
        ((str(v), f) for f, v in values.items() if isinstance(v, str | int | float)),
        key=lambda pair: -len(pair[0]),
    )
    for value, name in named:
        if len(value) >= 3:
            words = words.replace(value, f"<{name}>")
    return words[:300]


def json(document: Any) -> bytes:
    return msgspec.json.encode(document)

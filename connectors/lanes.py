"""Rows that wait for a request, and which of them may go together. Pure.

A lane holds rows that may share a request: one stage, connection, object type, priority, and one
answer to the spec's `together`. Rows of one identity are never out twice at a time, nor twice in
one request: whoever comes second waits until the first has its fate.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, NamedTuple

import msgspec

from connectors.base import ObjectSpec, Row
from schemas.commands import Priority

__all__ = ["Item", "Lane", "Lanes", "Place", "Stage", "Taken"]

ROW_OVERHEAD_BYTES = 200
"""What the platform's own shape adds to the fields of a row: key, quotes, braces. Own estimate; a
batch that is still too large is split."""


MATCH_OVERHEAD_BYTES = 8
"""Quotes, comma and escapes around a value that is asked for."""


class Stage(StrEnum):
    """Text, as lanes are: a plain Enum's hash is a call into Python, once a row."""

    refer = "refer"
    match = "match"
    write = "write"


class Place(Enum):
    waiting = "waiting"
    out = "out"
    gone = "gone"  # has its fate, or was handed on


class Lane(NamedTuple):
    """Rows that may share a request."""

    group: str
    """Of the quota that a request of this lane is paid from."""
    priority: Priority
    stage: Stage
    connection: str
    object_type: str
    field: str
    """What it, or what it refers to, is looked for by; empty in the write stage."""
    together: Hashable
    removal: str = ""
    """Of rows that are taken away; empty: they are written."""


@dataclass(slots=True, eq=False)
class Taken:
    """One command in hand: done when every row of it has a fate."""

    partition: int
    epoch: int
    """Which assignment of the partition it was read under; what an older one finished is void."""
    offset: int
    since_s: float
    account: str = ""
    connection: str = ""
    object_type: str = ""
    sync: str = ""
    run: str = ""
    priority: Priority = Priority.live
    decided_ms: int = 0
    taken_ms: int = 0
    """Wall clock of when it was first read; a row that is written again keeps it."""
    left: int = 0
    weight: int = 0
    """What it counts for among the rows in hand."""
    items: list["Item"] = field(default_factory=list)
    settled: list[Any] = field(default_factory=list)
    again: list["Item"] = field(default_factory=list)
    """Rows that are written to the end of the partition instead of waiting here."""
    sends: list[Any] = field(default_factory=list)
    first_s: float = 0.0
    """When the first of its rows got a fate; 0: none has."""
    intents: list[str] = field(default_factory=list)
    """Keys of intents that stand for settled rows of it."""
    job: bool = False
    """It is a CheckJob."""
    task: Any = None
    """What works on a command without rows."""
    value: bytes = b""
    """A command without rows, as read: to be written again."""


class Item(msgspec.Struct, eq=False):
    """One row on its way. A struct: it is made once a row, in a third of a dataclass's time."""

    row: Row
    taken: Taken
    spec: ObjectSpec
    raw: dict[str, Any]
    """UploadRow as it was read."""
    match: str = ""
    """Value by which it is looked for before its first write; empty: it need not be."""
    references: tuple[Any, ...] = ()
    """`references.Reference` of other objects that are to be looked up before anything else."""
    keys: tuple[Hashable, ...] = ()
    """Identities that must not be out twice."""
    priority: Priority = Priority.live
    attempts: int = 0
    """Requests that this row itself made fail."""
    faults: int = 0
    """Requests with this row that failed as a whole, since `fault_s`."""
    fault_s: float = 0.0
    since_s: float = 0.0
    place: Place = Place.waiting
    broken: bool = False
    """Its fields cannot be decoded."""
    holds: bool = False
    """Its keys are marked as busy."""
    job: Any = None
    """The `jobs.Job` that it is out in."""
    doubt: str = ""
    """Why nobody knows whether it was applied; until that is known it is not sent again."""
    field: str = ""
    """What it is looked for by, where that is not its sync's match."""
    looks: int = 0
    """How often it was looked for and not found."""
    lane: Lane | None = None

    def byte_count(self, stage: Stage) -> int:
        if stage is Stage.refer:
            return len(self.references[0].value) + MATCH_OVERHEAD_BYTES
        if stage is Stage.match:
            return len(self.match) + MATCH_OVERHEAD_BYTES
        return len(self.raw["fields"]) + ROW_OVERHEAD_BYTES


class Lanes:
    """All lanes of one account."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, deque[Item]] = {}
        self._turns: dict[tuple[str, Priority], dict[Lane, None]] = {}
        """Lanes of one quota and priority, the one whose turn it is first."""
        self._busy: dict[Hashable, list[Item]] = {}
        """Identity that is out to the rows that wait for it."""

    def put(self, item: Item, lane: Lane, *, front: bool = False) -> None:
        """Let a row wait; `front`: it was at the head before."""
        item.lane, item.place = lane, Place.waiting
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = deque()
            self._turns.setdefault((lane.group, lane.priority), {})[lane] = None
        if front:
            queue.appendleft(item)
        else:
            queue.append(item)

    def move(self, item: Item, lane: Lane) -> None:
        """A row that waits, to another lane: at once where it is in one, else when it comes back
        (from a pause, or from behind another row of its identity)."""
        queue = self._lanes.get(item.lane) if item.lane else None
        if queue is not None and item in queue:
            queue.remove(item)
            if not queue and item.lane is not None:
                self._forget(item.lane)
            self.put(item, lane)
        else:
            item.lane = lane

    def _forget(self, lane: Lane) -> None:
        """An empty lane."""
        del self._lanes[lane]
        turns = self._turns[lane.group, lane.priority]
        turns.pop(lane, None)
        if not turns:
            del self._turns[lane.group, lane.priority]

    def waits(self, group: str, priority: Priority) -> bool:
        return bool(self._turns.get((group, priority)))

    def turns(self) -> list[tuple[str, Priority]]:
        """(quota, priority) of all lanes with rows."""
        return list(self._turns)

    def of(self, group: str, priority: Priority) -> Iterator[Lane]:
        """Lanes with rows, the one whose turn it is first."""
        return iter(self._turns.get((group, priority), ()))

    def cut(
        self, group: str, priority: Priority, limits: Callable[[Lane], tuple[int, int]]
    ) -> tuple[Lane, list[Item]] | None:
        """The next request's rows, oldest first; now out, their identities busy. None: no row can
        go now. `limits`: rows and bytes that a request of a lane may have, no rows where it waits
        for more of them; of bytes, one row always fits."""
        for lane in list(self._turns.get((group, priority), ())):
            rows_max, bytes_max = limits(lane)
            batch = list(self._take(lane, rows_max, bytes_max))
            if self._lanes[lane]:
                turns = self._turns[group, priority]
                turns[lane] = turns.pop(lane)  # to the end: the others first
            else:
                self._forget(lane)
            if batch:
                return lane, batch
        return None

    def _take(self, lane: Lane, rows_max: int, bytes_max: int) -> Iterator[Item]:
        queue, rows, size = self._lanes[lane], 0, 0
        while queue and rows < rows_max:
            item = queue[0]
            if item.place is Place.gone:
                queue.popleft()
                continue
            if not item.holds:
                taken_by = next((key for key in item.keys if key in self._busy), None)
                if taken_by is not None:
                    self._busy[taken_by].append(queue.popleft())
                    continue
            item_bytes = item.byte_count(lane.stage)
            if rows and size + item_bytes > bytes_max:
                return
            queue.popleft()
            if not item.holds:
                self._busy.update((key, []) for key in item.keys)
                item.holds = True
            item.place = Place.out
            rows += 1
            size += item_bytes
            yield item

    def hold(self, item: Item) -> None:
        """Its identities are out with it, as far as they are free."""
        if not item.holds and not any(key in self._busy for key in item.keys):
            self._busy.update((key, []) for key in item.keys)
            item.holds = True

    def waiting(self, lane: Lane) -> int:
        """Rows in a lane."""
        return len(self._lanes.get(lane, ()))

    def first(self, lane: Lane) -> Item:
        """The head of a lane that has rows."""
        return self._lanes[lane][0]

    def claim(self, item: Item, key: Hashable) -> bool:
        """An identity that became known while the row is out. False: another row has it out; then
        this one is not out any more, and comes again in its lane when that one has its fate."""
        if key in item.keys:
            return True
        if key in self._busy:
            self.release(item)
            item.place = Place.waiting
            self._busy[key].append(item)
            return False
        self._busy[key] = []
        item.keys = (*item.keys, key)
        return True

    def full(
        self, group: str, priority: Priority, limits: Callable[[Lane], tuple[int, int]]
    ) -> bool:
        """Whether the next request of this quota and priority could be full."""
        return any(
            0 < limits(lane)[0] <= len(self._lanes[lane]) for lane in self.of(group, priority)
        )

    def prune(self) -> None:
        """Let go of rows at the ends that are gone: where a quota is used up for long, nobody else
        passes there, and rows that were given back would be kept. The oldest are at the head; of
        too many the newest go back, from the tail."""
        for lane, queue in list(self._lanes.items()):
            while queue and queue[0].place is Place.gone:
                queue.popleft()
            while queue and queue[-1].place is Place.gone:
                queue.pop()
            if not queue:
                self._forget(lane)

    def release(self, item: Item) -> None:
        """The row is not out any more: those that waited for its identity may go."""
        if not item.holds:
            return
        item.holds = False
        for key in item.keys:
            for waiting in reversed(self._busy.pop(key, ())):
                if waiting.place is not Place.gone and waiting.lane is not None:
                    self.put(waiting, waiting.lane, front=True)

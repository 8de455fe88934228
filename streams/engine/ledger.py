"""What is decided and not yet committed: cursors, changed rows, outputs. Pure memory, no Kafka.

Only the application's event loop touches it, apart from `revocations`, which the consumer thread
counts up. A change of a row is looked for in three places: `live` (decided since the last
checkpoint began), `flight` (in the checkpoint that runs), the local store (committed).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from streams.engine.chunk import Chunk, Headers, Record
from streams.engine.exits import leave

__all__ = ["Batch", "Ledger", "Member", "Part", "Reader"]

Output = tuple[str, bytes | None, bytes | None, int, Headers]
Source = tuple[str, int]
"""Topic and partition."""


class Member(NamedTuple):
    """Who we are in the group, as it was when partitions were assigned."""

    generation: int
    member_id: str


class Reader(Protocol):
    def get(self, table: str, key: bytes, /) -> bytes | None: ...


class _Nothing:
    def get(self, table: str, key: bytes) -> bytes | None:
        return None


class Part:
    """Rows of one partition, of all tables."""

    __slots__ = ("flight", "live", "number", "store")

    def __init__(self, number: int, store: Reader) -> None:
        self.number, self.store = number, store
        self.live: dict[str, dict[bytes, bytes | None]] = {}
        self.flight: dict[str, dict[bytes, bytes | None]] = {}

    def read(self, table: str, key: bytes) -> bytes | None:
        for rows in (self.live.get(table), self.flight.get(table)):
            if rows and key in rows:
                return rows[key]
        return self.store.get(table, key)


@dataclass
class Batch:
    """One checkpoint: everything decided since the last, of the whole worker."""

    turn: int
    member: Member
    offsets: dict[Source, tuple[int, str]]
    """Where each source is to be read on, and which agents are further (see `ahead`)."""
    outputs: list[Output]
    rows: dict[int, dict[str, dict[bytes, bytes | None]]]
    """By partition and table; None: deleted."""
    vectors: dict[int, dict[str, dict[str, int]]]
    """By partition: agent -> topic -> cursor, as of this checkpoint."""
    records: int = 0
    reached: dict[tuple[int, str], int] = field(default_factory=dict)
    """By partition and table: changelog offset after the last row, known once delivered."""

    @property
    def changed(self) -> int:
        return sum(len(rows) for tables in self.rows.values() for rows in tables.values())


def encode_ahead(ahead: Mapping[str, int]) -> str:
    """Agents that are further than the committed offset of a topic they share, and by how much."""
    return ",".join(f"{agent}+{n}" for agent, n in sorted(ahead.items()))


def decode_ahead(text: str) -> dict[str, int]:
    return {name: int(n) for name, n in (pair.rsplit("+", 1) for pair in text.split(",") if pair)}


class Ledger:
    def __init__(
        self, agents: Mapping[str, Sequence[str]], outputs: Iterable[str], record_bytes_max: int
    ) -> None:
        """`agents`: name -> topics that it reads."""
        self.agents = agents
        self.outputs_known = frozenset(outputs)
        self.record_bytes_max = record_bytes_max
        self.no_part = Part(-1, _Nothing())
        self.revocations = 0
        """Counted by the consumer thread, as the first thing of a rebalance."""
        self.opened_at = -1
        """`revocations` at the last opening; chunks begin only while the two are equal."""
        self.turn = 0
        """Number of this stretch of ownership. A chunk of another one is dropped."""
        self.member: Member | None = None
        self.cursors: dict[tuple[str, str, int], int] = {}
        self.committed: dict[Source, tuple[int, str]] = {}
        self.parts: dict[int, Part] = {}
        self.outputs: list[Output] = []
        self.dirty = 0
        """Rows and outputs since the last checkpoint began; a row changed twice counts twice."""
        self.records = 0
        self.in_hand = 0
        """Decisions that are open; more than one only where agents wait inside of them."""
        self.moved = False

    def open(
        self, member: Member, parts: Iterable[Part],
        committed: Mapping[Source, tuple[int, str]], revocations: int,
    ) -> None:  # fmt: skip
        """Begin to own partitions: `committed` says where each source stands."""
        if member.generation < 0 or not member.member_id:
            leave("no generation", member=member)  # the broker would take (-1, '') unchecked
        self.drop()
        self.member = member
        self.parts = {part.number: part for part in parts}
        self.committed = dict(committed)
        for (topic, partition), (offset, text) in committed.items():
            ahead = decode_ahead(text)
            for agent, topics in self.agents.items():
                if topic in topics:
                    self.cursors[agent, topic, partition] = offset + ahead.get(agent, 0)
        self.opened_at = revocations

    @property
    def is_open(self) -> bool:
        return self.opened_at == self.revocations

    def drop(self) -> None:
        """Forget everything that is not committed, and all ownership."""
        self.turn += 1
        self.opened_at, self.member, self.moved = -1, None, False
        self.cursors, self.committed, self.parts, self.outputs = {}, {}, {}, []
        self.dirty = self.records = 0

    def begin(
        self, agent: str, source: Source, start: int, end: int, records: Sequence[Record], turn: int
    ) -> Chunk | None:
        """The chunk for one agent, or None where it has nothing to do with it (any more)."""
        if turn != self.turn or not self.is_open:
            return None
        topic, partition = source
        cursor = self.cursors[agent, topic, partition]
        if end <= cursor:
            return None
        if start > cursor:
            leave("records missing before a chunk", agent=agent, topic=topic, partition=partition,
                  cursor=cursor, start=start)  # fmt: skip
        if start < cursor:  # the other agents of this topic are behind this one
            records = [record for record in records if record.offset >= cursor]
        return Chunk(self, agent, topic, partition, cursor, end, records, turn)

    def done(
        self, chunk: Chunk, changed: Mapping[str, dict[bytes, bytes | None]],
        outputs: Sequence[Output],
    ) -> bool:  # fmt: skip
        """Take over what a chunk decided. No await in here: a checkpoint never sees half of it."""
        if chunk.turn != self.turn:
            return False
        at = chunk.agent, chunk.topic, chunk.partition
        if self.cursors[at] != chunk.start:
            leave("chunk decided twice", at=at, cursor=self.cursors[at], start=chunk.start)
        self.cursors[at] = chunk.end
        self.records += len(chunk.records)
        self.moved = True
        live = self.parts[chunk.partition].live
        for table, rows in changed.items():
            if rows:
                self.dirty += len(rows)
                live.setdefault(table, {}).update(rows)
        if outputs:
            self.dirty += len(outputs)
            self.outputs.extend(outputs)
        return True

    def take(self) -> Batch | None:
        """Begin a checkpoint; agents go on with a fresh `live`. None: nothing to commit."""
        self.moved = False
        if self.member is None:
            return None
        lowest: dict[Source, int] = {}
        for (_, topic, partition), cursor in self.cursors.items():
            source = topic, partition
            lowest[source] = min(cursor, lowest.get(source, cursor))
        ahead: dict[Source, dict[str, int]] = {}
        vectors: dict[int, dict[str, dict[str, int]]] = {}
        for (agent, topic, partition), cursor in self.cursors.items():
            if cursor > lowest[topic, partition]:
                ahead.setdefault((topic, partition), {})[agent] = cursor - lowest[topic, partition]
            vectors.setdefault(partition, {}).setdefault(agent, {})[topic] = cursor
        offsets = {
            source: now
            for source, offset in lowest.items()
            if (now := (offset, encode_ahead(ahead.get(source, {})))) != self.committed[source]
        }
        if not offsets:
            return None
        for part in self.parts.values():
            part.flight, part.live = part.live, {}
        batch = Batch(
            self.turn, self.member, offsets, self.outputs,
            {number: part.flight for number, part in self.parts.items() if part.flight},
            vectors, self.records,
        )  # fmt: skip
        self.outputs, self.dirty, self.records = [], 0, 0
        return batch

    def landed(self, batch: Batch) -> None:
        """The checkpoint is committed and in the local stores."""
        if batch.turn == self.turn:
            self.committed.update(batch.offsets)
            for part in self.parts.values():
                part.flight = {}

    def lag(self, ends: Mapping[Source, int]) -> dict[Source, int]:
        """Offsets between what is decided by all agents and the end of each source."""
        lowest: dict[Source, int] = {}
        for (_, topic, partition), cursor in self.cursors.items():
            source = topic, partition
            lowest[source] = min(cursor, lowest.get(source, cursor))
        return {s: max(0, ends[s] - cursor) for s, cursor in lowest.items() if s in ends}


def check_vector(
    vector: Mapping[str, Mapping[str, int]], partition: int, ledger_cursors: Mapping[Any, int]
) -> str:
    """Why this state cannot belong to these offsets; empty where it can."""
    for agent, topics in vector.items():
        for topic, offset in topics.items():
            cursor = ledger_cursors.get((agent, topic, partition))
            if cursor is not None and offset > cursor:
                return f"agent {agent}: rows at {topic}[{partition}]@{offset}, group at {cursor}"
    return ""

"""What an agent sees: chunks of records, tables, and the decision that it writes into.

A chunk's rows and outputs live in its decision until the `with` block has ended well. An exception
leaves no trace of them, so the same records can be decided again.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import msgspec

from streams.engine.exits import hit, leave

if TYPE_CHECKING:
    from streams.engine.ledger import Ledger, Part

__all__ = ["Chunk", "Codec", "Decision", "Failure", "Record", "Table", "TooLarge"]

Row = TypeVar("Row")
Headers = Sequence[tuple[str, bytes]]
OVERHEAD_BYTES = 100
"""What Kafka's record and batch headers may add to key, value and headers; rounded up."""


class TooLarge(ValueError):
    """An output or a row that no topic would take. Parks the record that made it."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as it lies on Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Failure(msgspec.Struct, frozen=True):
    """A record that an agent could not decide, and what it raised."""

    agent: str
    record: Record
    error: Exception


class Codec(Protocol):
    """Rows to bytes and back. Rows are values: never change one, make a new one."""

    def encode(self, row: Any, /) -> bytes: ...
    def decode(self, data: bytes, /) -> Any: ...


class Table(Generic[Row]):
    """Rows by key, of the partition of the chunk in hand. Only inside `with chunk.decide(table)`.

    Keys are bytes and do not begin with a zero byte. A table belongs to one agent.
    """

    def __init__(self, name: str, codec: Codec | None, empty: Callable[[], Row] | None) -> None:
        self.name, self._empty = name, empty
        self._encode = codec.encode if codec else None
        self._decode = codec.decode if codec else None
        self.agent = ""
        self._decision: Decision | None = None
        self._part: Part | None = None
        self._rows: dict[bytes, Row | None] = {}
        self._changed: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> Row | None:
        """The row, or None. The same key costs a decoding only once a chunk."""
        rows = self._rows
        if key in rows:
            return rows[key]
        if self._part is None:
            raise RuntimeError(f"table {self.name}: only inside `with chunk.decide({self.name})`")
        data: Any = self._part.read(self.name, key)
        row = rows[key] = data if data is None or self._decode is None else self._decode(data)
        return row

    def __getitem__(self, key: bytes) -> Row:
        """The row; where there is none, a new empty one, or KeyError without `empty`."""
        row = self.get(key)
        if row is not None:
            return row
        if self._empty is None:
            raise KeyError(key)
        return self._empty()

    def __setitem__(self, key: bytes, row: Row) -> None:
        """Raises TooLarge. Setting an equal row still writes it: compare first where it matters."""
        if self._decision is None:
            raise RuntimeError(f"table {self.name}: only inside `with chunk.decide({self.name})`")
        data: Any = row if self._encode is None else self._encode(row)
        size = len(key) + len(data) + OVERHEAD_BYTES
        if size > self._decision.bytes_max:
            raise TooLarge(f"row of {size} bytes in table {self.name}")
        if not key or not key[0]:
            raise ValueError(f"table {self.name}: key empty or with a leading zero byte")
        self._rows[key] = row
        self._changed[key] = data

    def __delitem__(self, key: bytes) -> None:
        """Deletes; no error where there is nothing."""
        if self._decision is None:
            raise RuntimeError(f"table {self.name}: only inside `with chunk.decide({self.name})`")
        self._rows[key] = self._changed[key] = None

    def __contains__(self, key: bytes) -> bool:
        return self.get(key) is not None

    def bind(self, decision: "Decision", part: "Part") -> None:
        if self._decision is not None:
            leave("table used in two places at once", table=self.name)
        if self.agent not in ("", decision.agent):
            leave("table used by two agents", table=self.name, agents=[self.agent, decision.agent])
        self.agent = decision.agent
        self._decision, self._part, self._rows, self._changed = decision, part, {}, {}

    def unbind(self) -> dict[bytes, bytes | None]:
        """What has changed; None: deleted."""
        changed = self._changed
        self._decision, self._part, self._rows, self._changed = None, None, {}, {}
        return changed


class State(Enum):
    OPEN = "open"
    DONE = "done"
    FAILED = "failed"  # a record raised; nothing of the chunk is kept
    DROPPED = "dropped"  # the partition was taken away meanwhile


class Chunk:
    """Some records of one partition, in order. Iterate it inside `with chunk.decide(...)`.

    It spans the offsets from `start` up to before `end`, also where the log has gaps (transaction
    markers, aborted and compacted records); `records` may be empty.
    """

    __slots__ = ("agent", "at", "end", "error", "ledger", "partition", "records", "start",
                 "state", "topic", "turn")  # fmt: skip

    def __init__(
        self, ledger: "Ledger", agent: str, topic: str, partition: int, start: int, end: int,
        records: Sequence[Record], turn: int,
    ) -> None:  # fmt: skip
        self.ledger, self.agent, self.topic, self.partition = ledger, agent, topic, partition
        self.start, self.end, self.records, self.turn = start, end, records, turn
        self.state, self.error, self.at = State.OPEN, None, None
        self.at: Record | None
        self.error: Exception | None

    def __iter__(self) -> Iterator[Record]:
        for record in self.records:
            self.at = record
            yield record
        self.at = None

    def __len__(self) -> int:
        return len(self.records)

    def decide(self, *tables: Table[Any]) -> "Decision":
        """`with chunk.decide(links, people) as out:` Once for each chunk."""
        return Decision(self, tables)

    def one_by_one(self) -> Iterator["Chunk"]:
        """The same span in pieces of one record each, so that a bad one harms no other."""
        start = self.start
        for n, record in enumerate(self.records):
            last = n + 1 == len(self.records)
            end = self.end if last else record.offset + 1
            yield Chunk(self.ledger, self.agent, self.topic, self.partition, start, end,
                        [record], self.turn)  # fmt: skip
            start = end


class Decision:
    """`out`: what a chunk wants written. Nothing of it is seen before its block has ended well."""

    __slots__ = ("_ledger", "_part", "_tables", "agent", "bytes_max", "chunk", "outputs")

    def __init__(self, chunk: Chunk, tables: tuple[Table[Any], ...]) -> None:
        self.chunk, self.agent, self._tables = chunk, chunk.agent, tables
        self._ledger = chunk.ledger
        self.bytes_max = self._ledger.record_bytes_max
        self.outputs: list[tuple[str, bytes | None, bytes | None, int, Headers]] = []

    def emit(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (),
        partition: int = -1,
    ) -> None:  # fmt: skip
        """Write a record to a topic named in `app.emits`. Raises TooLarge.

        Without `partition` the key decides, by murmur2. Readers see it after the next checkpoint.
        """
        size = OVERHEAD_BYTES + len(key or b"") + len(value or b"")
        for name, data in headers:
            size += len(name) + len(data) + 8
        if size > self.bytes_max:
            raise TooLarge(f"output of {size} bytes to {topic}")
        if topic not in self._ledger.outputs_known:
            leave("output to a topic that was not named in app.emits", topic=topic)
        self.outputs.append((topic, value, key, partition, list(headers)))  # a tuple is refused

    def __enter__(self) -> Self:
        chunk = self.chunk
        if chunk.state is not State.OPEN:
            raise RuntimeError("chunk.decide: once for each chunk")
        hit("chunk")
        self._ledger.in_hand += 1
        part = self._ledger.parts.get(chunk.partition)
        if part is None:  # taken away between begin and here; what follows is dropped
            part = self._ledger.no_part
        for table in self._tables:
            table.bind(self, part)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:  # fmt: skip
        chunk, ledger = self.chunk, self._ledger
        ledger.in_hand -= 1
        changed = {table.name: table.unbind() for table in self._tables}
        if error is None:
            chunk.state = State.DONE if ledger.done(chunk, changed, self.outputs) else State.DROPPED
            return False
        chunk.state = State.FAILED
        if not isinstance(error, Exception) or isinstance(error, MemoryError):
            return False
        if chunk.at is None:  # not the fault of a record: a bug of the agent, or of ours
            return False
        chunk.error = error
        return True

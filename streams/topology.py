"""The way of an event, top to bottom. Agents move; steps decide.

events.* ──▶ admit ──▶ records.resolved ──▶ shape ──▶ commands.* ──▶ connectors
             │    ▲                          ▲  ▲                        │
identities.asked  identities.answered      acts outcomes.* ◀─────────────┘
             ▼    │                          │                           │
            addresses            control ──▶ runs ◀── journal ◀──────────┘
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from schemas import topics as t
from schemas.base import Message
from schemas.codec import Codec, Undecodable
from schemas.control import Tick
from schemas.events import PlatformEvent, ResolvedRecord
from schemas.parked import ParkedRecord, Stage
from streams.definitions import Catalogs
from streams.engine import Chunk, Decision, EngineApp, EngineSettings, Failure, Record, Table
from streams.steps.addresses import Addresses
from streams.steps.links import Links
from streams.steps.outputs import Send
from streams.steps.people import People
from streams.steps.runs import Runs

__all__ = ["build"]

SOURCE_BYTES_MAX = 64 * 1024
"""Of a record that cannot be decided; the whole stays on its own topic for that topic's time."""


class Step(Protocol):
    """One chunk of one partition, as `streams.steps` has them."""

    def take(self, key: str, message: Message) -> None: ...
    def close(self) -> list[Send]: ...


class Parking(Step, Protocol):
    """A step that can give an event its fate though it could not decide it."""

    def park(self, key: str, message: Message, error: Exception) -> None: ...


def build(
    settings: EngineSettings, codec: Codec, catalogs: Catalogs, partitions: int,
    platforms: Sequence[str] = t.PLATFORMS,
) -> EngineApp:  # fmt: skip
    """All agents and tables of a streams worker. All workers of a group need the same `platforms`,
    and topics of each."""
    app = EngineApp(settings)
    events = app.topic(*map(t.events_of, platforms), t.ANSWERED)
    asked = app.topic(t.ASKED)
    people_topics = app.topic(t.RESOLVED, *map(t.outcomes_of, platforms), t.ACTS, t.TICKS)
    runs_topics = app.topic(t.CONTROL, t.JOURNAL, t.TICKS)

    links = app.table("links")
    owners = app.table("addresses")
    people = app.table("people")
    runs = app.table("runs")

    app.emits(t.RESOLVED, t.ASKED, t.ANSWERED, t.JOURNAL, t.PARKED, t.FIXES, t.ACTS, t.RUNS)
    app.emits(*map(t.commands_of, platforms))
    app.emits(*map(t.events_of, platforms))  # of lists that people gave
    app.ticks(t.TICKS, encode=lambda now_ms: codec.encode(Tick(now_ms=now_ms)))

    @app.agent(events)
    async def admit(chunks: Any) -> None:
        """Is it new, and whose is it?"""
        async for chunk in chunks:
            with chunk.decide(links) as out:
                catalog = _known(catalogs, codec, chunk)
                _decide(chunk, out, codec, Links(_Rows(links), catalog))

    @app.agent(asked)
    async def addresses(chunks: Any) -> None:
        """Who owns this identity? The first who asked."""
        async for chunk in chunks:
            with chunk.decide(owners) as out:
                _decide(chunk, out, codec, Addresses(_Rows(owners)))

    @app.agent(people_topics)
    async def shape(chunks: Any) -> None:
        """What is each destination owed?"""
        async for chunk in chunks:
            with chunk.decide(people) as out:
                catalog = catalogs.refresh() if chunk.topic == t.ACTS else catalogs.now
                _decide(chunk, out, codec, People(_Rows(people), catalog, chunk.partition))

    @app.agent(runs_topics)
    async def control(chunks: Any) -> None:
        """Where is each bulk run, and what comes next?"""
        async for chunk in chunks:
            with chunk.decide(runs) as out:
                catalog = catalogs.refresh() if chunk.topic == t.CONTROL else catalogs.now
                _decide(chunk, out, codec, Runs(_Rows(runs), catalog, partitions))

    parking: dict[str, Callable[[int], Parking]] = {
        "admit": lambda _: Links(_Rows(links), catalogs.now),
        "shape": lambda partition: People(_Rows(people), catalogs.now, partition),
    }

    @app.parks
    def park(failure: Failure, out: Decision) -> None:
        """A record that no step could decide, or whose output no topic would take.

        An event gets its fate in the journal. Anything else has none of its own (what it speaks of
        stays where it stood, by name): it is kept with its place, to be taken in again. The next
        second brings the next tick.
        """
        record, error = failure.record, failure.error
        if record.topic == t.TICKS:
            return
        begin = parking.get(failure.agent)
        if begin is None or not _parked(begin(record.partition), record, error, out, codec):
            _park(record, out, codec, "bug", f"{type(error).__name__} in a step")

    return app


class _Rows:
    """A table of the engine as steps see rows."""

    __slots__ = ("_table",)

    def __init__(self, table: Table[bytes]) -> None:
        self._table = table

    def get(self, key: str) -> bytes | None:
        return self._table.get(key.encode())

    def put(self, key: str, row: bytes | None) -> None:
        if row is None:
            del self._table[key.encode()]
        else:
            self._table[key.encode()] = row


def _decide(chunk: Chunk, out: Decision, codec: Codec, step: Step) -> None:
    """Every record through the step, then everything that it wants sent."""
    take: Callable[[str, Message], None] = step.take
    for record in chunk:
        try:
            message = codec.decode(record.value)
        except Undecodable as error:
            _park(record, out, codec, "undecodable", str(error))
            continue
        take((record.key or b"").decode(), message)
    # Outputs are the chunk's: what is too large for a topic is found by deciding one by one.
    chunk.at = chunk.records[-1] if chunk.records else None
    _emit(step.close(), out, codec)
    chunk.at = None


def _emit(sends: Iterable[Send], out: Decision, codec: Codec) -> None:
    for send in sends:
        value = None if send.message is None else codec.encode(send.message)
        out.emit(
            send.topic,
            send.key.encode(),
            value,
            _headers(send.message),
            -1 if send.partition is None else send.partition,
        )


def _headers(message: Message | None) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0, binary mode, on what other teams subscribe to."""
    if not isinstance(message, ResolvedRecord):
        return []
    event = message.event
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", event.event_id.encode()),
        ("ce_source", f"/{event.platform}/{event.connection}".encode()),
        ("ce_type", f"{event.object_type}.{event.kind}".encode()),
        *([("traceparent", event.trace.encode())] if event.trace else []),
    ]


def _parked(step: Parking, record: Record, error: Exception, out: Decision, codec: Codec) -> bool:
    """By the step itself -> False: it concerns no event, or not even that can be done."""
    try:
        message = codec.decode(record.value)
        if not isinstance(message, PlatformEvent | ResolvedRecord):
            return False
        step.park((record.key or b"").decode(), message, error)
        _emit(step.close(), out, codec)
    except Exception:  # noqa: BLE001 - a second fault must not stop the partition
        out.outputs.clear()
        return False
    return True


def _park(record: Record, out: Decision, codec: Codec, code: str, why: str) -> None:
    """With the original bytes, and where the whole of them stands."""
    place = f"{record.topic}-{record.partition}-{record.offset}"
    parked = ParkedRecord(
        parked_id=place,
        stage=Stage.decode,
        code=code,
        words=f"{place}: {why}",
        first_ms=record.timestamp_ms,
        last_ms=record.timestamp_ms,
        source=(record.value or b"")[:SOURCE_BYTES_MAX],
        fields=b"{}",
    )
    out.emit(t.PARKED, place.encode(), codec.encode(parked))


def _known(catalogs: Catalogs, codec: Codec, chunk: Chunk) -> Any:
    """The catalog; read anew where an event's connection is not in it: whose an object is, is
    settled once, and must not depend on who read the definitions first."""
    if chunk.topic == t.ANSWERED:
        return catalogs.now
    for record in chunk.records[:1]:
        try:
            event = codec.decode_as(PlatformEvent, record.value)
        except Undecodable:
            break
        if event.connection not in catalogs.now.connections:
            return catalogs.refresh()
    return catalogs.now

"""A Faust transport of our own on the aiokafka driver: chunks instead of records, no acks.

Faust keeps agents, channels, the assignor, rebalance callbacks and the worker. What it does
between fetch and commit, and its recovery, is replaced here, method by method; each override says
which of Faust's doings it takes the place of. The private names are checked in `pins.py`.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, cast

import aiokafka
import faust
import structlog
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.errors import ConsumerStoppedError, KafkaError, OffsetOutOfRangeError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from aiokafka.structs import TopicPartition
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport import base
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode import Service

from streams.engine.chunk import Record
from streams.engine.exits import boot_s, leave
from streams.engine.ledger import Member, Source
from streams.engine.worker import Engine, Joined

__all__ = ["ChunkSchema", "EngineTableManager", "EngineTransport", "FaustApp", "Fetched"]

log = structlog.get_logger("streams.engine")

CREDIT = 2
"""Chunks of one partition between fetch and the end of their decision."""
HELD_CHUNKS = 10
"""Full chunks' worth of records, of all partitions, in the same place: bounds memory."""
_REBALANCING = 27
_HEARTBEAT_FINE = frozenset({0, _REBALANCING})  # still a member
_JOINING = (JoinGroupRequest, SyncGroupRequest)
_FENCED = 82  # someone has our slot; aiokafka does not know this code
_MEMBER_LOST = frozenset({25, _FENCED})  # in a heartbeat also: unknown member


class Fetched:
    """Records of one partition and one fetch, before an agent's own view of them is made."""

    __slots__ = ("end", "readers", "records", "source", "start", "turn")

    def __init__(
        self, source: Source, start: int, end: int, records: list[Record], turn: int
    ) -> None:
        self.source, self.start, self.end = source, start, end
        self.records, self.turn = records, turn
        self.readers = 0


class ChunkSchema(faust.Schema[Any, Any]):
    """Hands a `Fetched` through, in place of decoding bytes."""

    def compile(self, app: Any, **_: Any) -> Any:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, None, message)

        return decode


class _PartitionRecords(aiokafka_fetcher.PartitionRecords):
    """Makes our records in the first place, not aiokafka's with their 11 fields."""

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        return Record(
            tp.topic, tp.partition, record.offset, record.timestamp, record.key, record.value,
            tuple(record.headers),
        )  # fmt: skip


class EngineThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread and event loop."""

    joined: Joined | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.engine: Engine = cast("FaustApp", self.app).engine
        self._handed: dict[Source, int] = {}
        """Where the next chunk of each partition begins."""
        self._called_s: float | None = None
        """When the group first asked for a rebalance that is not answered yet."""
        settings = self.engine.settings
        self._patience_s = settings.revoke_wait_s + settings.transaction_timeout_s + 5

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        """Faust reads committed only with its own exactly_once, waits 1.5 s for records, and takes
        another assignor where it has no table of its own."""
        consumer = super()._create_worker_consumer(transport)
        settings = self.engine.settings
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = int(settings.fetch_wait_s * 1000)
        consumer._auto_offset_reset = "none"  # an offset that is gone must not be passed over
        consumer._partition_assignment_strategy = (self.app.assignor,)
        self._assignor = self.app.assignor
        return consumer

    async def on_start(self) -> None:
        aiokafka_fetcher.PartitionRecords = _PartitionRecords
        await super().on_start()
        self._watch_membership()

    def _watch_membership(self) -> None:
        """A worker whose place was taken, or that slept through its session, leaves.

        aiokafka would join again under the same instance id, and so throw its successor out; or it
        pauses until someone asks it for its error, which Faust never does: a worker would then
        hold no partitions, and go on without a word.
        """
        coordinator: Any = self._ensure_consumer()._coordinator
        send = coordinator._send_req
        session_s = self.engine.settings.session_timeout_s

        async def watched(request: Any) -> Any:
            sent_s, heard_s = boot_s(), self.engine.heard_s
            slept = heard_s is not None and sent_s - heard_s > session_s
            if slept and isinstance(request, JoinGroupRequest):
                leave("not heard by the group for longer than a session", session_s=session_s)
            response = await send(request)
            if isinstance(request, HeartbeatRequest):
                if response.error_code in _HEARTBEAT_FINE:
                    if self.engine.is_silent:
                        self._called_s = None  # the time without Kafka does not count
                    self.engine.heard_s = sent_s
                    self._check_rebalance(response.error_code == _REBALANCING, sent_s)
                elif response.error_code in _MEMBER_LOST:
                    leave("the group has given this worker's place away")
            elif isinstance(request, _JOINING) and response.error_code == _FENCED:
                leave("the group has given this worker's place away while it joined")
            return response

        def pushed(error: Exception) -> NoReturn:
            leave("no way back into the group", error=repr(error))

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                pushed(cast(Exception, error))

        coordinator._send_req = watched
        coordinator._push_error_to_user = pushed
        coordinator._coordination_task.add_done_callback(ended)

    def _check_rebalance(self, is_rebalancing: bool, now_s: float) -> None:
        """The whole group waits for a member that does not hand back its partitions."""
        if not is_rebalancing:
            self._called_s = None
        elif self._called_s is None:
            self._called_s = now_s
        elif now_s - self._called_s > self._patience_s:
            leave("partitions not handed back in time", waited_s=self._patience_s)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """First of all, and in this thread: no chunk begins any more."""
        self.engine.ledger.revocations += 1
        self.joined = None
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Note who we are before any heartbeat can change it, and fetch nothing before the seek."""
        consumer = self._ensure_consumer()
        coordinator: Any = consumer._coordinator
        self.engine.heard_s, self._called_s = boot_s(), None
        self._handed = {}
        consumer.pause(*(TopicPartition(*tp) for tp in assigned))
        self.joined = Joined(
            self.engine.ledger.revocations,
            Member(coordinator.generation, coordinator.member_id),
            frozenset((tp.topic, tp.partition) for tp in assigned),
        )
        await super().on_partitions_assigned(assigned, generation_id)

    async def seek_all(self, joined: Joined, offsets: Mapping[Source, int]) -> bool:
        """Begin to fetch there. False: the assignment is another one by now."""
        if self.joined is not joined:
            return False
        consumer = self._ensure_consumer()
        tps = {TopicPartition(*source): offset for source, offset in offsets.items()}
        for tp, offset in tps.items():
            consumer.seek(tp, offset)
        self._handed = dict(offsets)
        if tps:
            consumer.resume(*tps)
        return True

    async def fetch_chunks(self, want: Iterable[Source], timeout_s: float) -> list[Fetched]:
        """What is there of these partitions, with exact borders.

        `position` also moves over markers, aborted and compacted records: an empty chunk carries
        that into the commit. aiokafka waits out a rebalance in here and then returns records of
        the *new* assignment, maybe after its seek: they are dropped, and the position set back.
        """
        joined = self.joined
        if joined is None:
            return []
        turn = self.engine.ledger.turn
        consumer = self._ensure_consumer()
        wanted = [TopicPartition(*source) for source in want if source in self._handed]
        if not wanted:  # aiokafka takes none for all
            return []
        assignment: Any = consumer._subscription.subscription.assignment
        for tp in wanted:  # a record that was taken out here and handed to no one would be lost
            handed, position = (
                self._handed[tp.topic, tp.partition],
                assignment.state_value(tp).position,
            )
            if handed != position:
                leave("fetch position moved", source=tp, handed=handed, position=position)
        found: Mapping[TP, Any] = {}
        try:
            found = await self._fetch_records(
                consumer, cast("set[TP]", set(wanted)), timeout=timeout_s,
                max_records=self.engine.settings.chunk_records_max,
            )  # fmt: skip
        except KafkaError:
            if self.joined is joined:
                raise
        if self.joined is not joined:
            self._set_back(wanted)
            return []
        chunks = []
        for tp in wanted:
            state, source = assignment.state_value(tp), (tp.topic, tp.partition)
            records = cast("list[Record]", found.get(cast(TP, tp)) or [])
            start, end = self._handed[source], state.position
            if records or end != start:
                chunks.append(Fetched(source, start, end, records, turn))
                self._handed[source] = end
        return chunks

    def _set_back(self, tps: Iterable[TopicPartition]) -> None:
        """Whatever was taken out of these and is not handed over is to be fetched again."""
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        for tp in tps:
            start = self._handed.get((tp.topic, tp.partition))
            if start is not None and tp in assigned:
                consumer.seek(tp, start)

    def ends(self) -> dict[Source, int]:
        """Last stable offset of each source, as of its last fetch."""
        joined = self.joined
        if joined is None:
            return {}
        assignment: Any = self._ensure_consumer()._subscription.subscription.assignment
        states = {
            source: assignment.state_value(TopicPartition(*source)) for source in joined.sources
        }
        return {s: state.lso for s, state in states.items() if state and state.lso is not None}


class EngineConsumer(driver.Consumer):
    """Faust's consumer without acks and commits. Lives in the application's event loop."""

    _thread: EngineThread  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.engine: Engine = cast("FaustApp", self.app).engine
        self._used: dict[Source, int] = {}
        self._held = 0
        self._held_max = HELD_CHUNKS * self.engine.settings.chunk_records_max
        self._credit = asyncio.Event()

    def _new_consumer_thread(self) -> EngineThread:
        return EngineThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        """The fetch loop, for as long as the worker lives."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
                    continue
                self._credit.clear()
                sources = self.engine.ledger.committed
                want = [s for s in sources if self._used.get(s, 0) < CREDIT]
                if self._held >= self._held_max:
                    want = []
                # Never wait for some partitions while others may get their credit back.
                timeout_s = 0.2 if len(want) == len(sources) else 0.0
                found: list[Fetched] = []
                if want and self.engine.ledger.is_open:
                    found = await self._thread.call_thread(
                        self._thread.fetch_chunks, want, timeout_s=timeout_s
                    )
                    for fetched in found:
                        await self._hand_over(fetched)
                if not found:
                    await self.wait(self._credit, timeout=0.01)  # type: ignore[arg-type]
        except ConsumerStoppedError:
            if not self.app.should_stop:
                leave("consumer stopped")
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise
        except OffsetOutOfRangeError as error:
            leave("records were deleted before they were read", where=str(error))
        except KafkaError as error:
            leave("fetch failed", error=repr(error))

    async def _hand_over(self, fetched: Fetched) -> None:
        topic, partition = fetched.source
        if fetched.turn != self.engine.ledger.turn:
            return
        self._used[fetched.source] = self._used.get(fetched.source, 0) + 1
        self._held += len(fetched.records)
        fetched.readers = sum(topic in topics for topics in self.engine.agents.values())
        message = ConsumerMessage(
            topic, partition, fetched.start, 0.0, 0, None, None, cast(Any, fetched), None,
            tp=TP(topic, partition), generation_id=self.app.consumer_generation_id,
        )  # fmt: skip
        await self.wait_first(self.callback(message), self.suspend_flow.wait())

    def settle(self, fetched: Fetched) -> None:
        """An agent is through with a chunk; after the last one of its topic: credit for another."""
        fetched.readers -= 1
        if fetched.readers == 0 and fetched.turn == self.engine.ledger.turn:
            self._used[fetched.source] -= 1
            self._held -= len(fetched.records)
            self._credit.set()

    def new_turn(self) -> None:
        self._used, self._held = {}, 0
        self._credit.set()

    async def commit(self, *_: Any, **__: Any) -> bool:
        """Faust commits on a timer; the engine's checkpoint does it."""
        return False

    async def wait_empty(self) -> None:
        """Faust waits for acks, without a bound."""
        await self.engine.hand_back()

    async def on_stop(self) -> None:
        await self.engine.stop()
        cast(Any, self.transport)._topic_waiters.clear()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)
        self.engine.drop()  # Faust calls wait_empty only where something was assigned

    async def perform_seek(self) -> None:
        """Faust seeks to what aiokafka says is committed, which may be older than it is."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust warns of a livelock wherever a partition is idle."""

    async def seek_all(self, joined: Joined, offsets: Mapping[Source, int]) -> bool:
        return await self._thread.call_thread(self._thread.seek_all, joined, offsets)

    @property
    def joined(self) -> Joined | None:
        return self._thread.joined

    def ends(self) -> dict[Source, int]:
        return self._thread.ends()


class EngineProducer(base.Producer):
    """Faust's own producer would write outside of the checkpoint, so there is none."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("write through out.emit(...): topic.send is outside of the checkpoint")

    send = send_and_wait = send_soon = key_partition = create_topic = cast(Any, _refuse)

    async def flush(self) -> None:
        """Nothing is ever pending."""

    def supports_headers(self) -> bool:
        return True


class EngineTransport(driver.Transport):
    Consumer = EngineConsumer
    Producer = EngineProducer


class EngineRecovery(Recovery):
    """The engine's restore in place of Faust's, which waits for ever for an offset that is a
    transaction marker."""

    async def on_rebalance(self, *_: Any, generation_id: int = 0, **__: Any) -> None:
        self.signal_recovery_start.set()

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):  # type: ignore[arg-type]
                return
            self.signal_recovery_start.clear()
            try:
                await self._recover()
            except Exception as error:  # noqa: BLE001 - Faust would log it and go on
                leave("restore failed", error=repr(error))

    async def _recover(self) -> None:
        app: Any = self.app
        consumer: EngineConsumer = app.consumer
        engine: Engine = app.engine
        joined = consumer.joined
        if joined is None:  # taken away again; the next assignment wakes us
            return
        restored = await engine.recover(joined, self._stopped)  # type: ignore[arg-type]
        if restored is None or not await engine.open(joined, restored):
            return
        consumer.new_turn()
        starts = {source: offset for source, (offset, _) in restored.committed.items()}
        if not await consumer.seek_all(joined, starts):
            return
        await app.on_rebalance_complete.send()
        consumer.resume_partitions(consumer.assignment())
        self.completed.set()
        app.flow_control.resume()
        consumer.resume_flow()
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Faust reads changelogs as topics."""

    @Service.task
    async def _publish_stats(self) -> None:
        """Faust prints what is left to recover."""


class EngineTableManager(TableManager):
    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = EngineRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Faust sleeps a second first."""
        await self._update_channels()
        await self.recovery.start()


class FaustApp(faust.App):
    """Faust's application with an engine beneath it."""

    engine: Engine

    async def on_start(self) -> None:
        await super().on_start()
        await self.engine.start()
        self.add_future(self._checkpoints())

    async def _checkpoints(self) -> None:
        try:
            await self.engine.run()
        except Exception as error:  # noqa: BLE001 - nothing may go on without checkpoints
            leave("checkpoints ended", error=repr(error))

"""The thread that polls: commands in, partitions gained and lost. It never stops polling.

The consumer is a static member of its group, so a restart within the session keeps its partitions.
What arrives is handed to the event loop chunk by chunk; the loop says which partitions to pause.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from connectors.exits import leave
from schemas.kafka_log import KAFKA_LOG

__all__ = ["Intake", "Owner", "Record"]

log = structlog.get_logger("connectors")

SESSION_S = 10.0
POLL_S = 0.1
CHUNK = 500
CHUNK_S = 30.0
"""Longest time that the event loop may take for a chunk, or for its part of a rebalance."""


class Record(NamedTuple):
    """One command as read."""

    partition: int
    offset: int
    value: bytes | None
    headers: list[tuple[str, bytes]] | None


class Owner(Protocol):
    """Whose commands they are. Called in the event loop."""

    def inherit(self, partition: int) -> Any:
        """What predecessors left. Blocking: called in the polling thread."""
        ...

    async def assigned(
        self, committed: Sequence[TopicPartition], inherited: Mapping[int, Any]
    ) -> None: ...

    async def hand_back(self, partitions: Sequence[int]) -> None:
        """Finish or give up what is in hand, and commit."""
        ...

    def lost(self, partitions: Sequence[int]) -> None: ...

    def take(self, records: Sequence[Record]) -> None: ...


class Intake:
    """One consumer of one topic."""

    def __init__(
        self, kafka: Mapping[str, Any], topic: str, group: str, instance: str, owner: Owner,
    ) -> None:  # fmt: skip
        self._topic, self._owner = topic, owner
        self.consumer = Consumer(
            {
                "logger": KAFKA_LOG,
                **kafka,
                "group.id": group,
                "group.instance.id": instance,
                "session.timeout.ms": int(SESSION_S * 1000),
                "heartbeat.interval.ms": 1000,
                "partition.assignment.strategy": "cooperative-sticky",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 8192,
                "fetch.queue.backoff.ms": 10,  # when that is full; else a second
            }
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=topic, daemon=True)
        self._stopping = threading.Event()
        self._wanted: frozenset[int] = frozenset()
        self._paused: frozenset[int] = frozenset()
        self._assigned: set[int] = set()
        self._polled_s = time.monotonic()
        self._joined = False
        self.generation = b""
        """Generation and member as of the last poll or revocation, for the fence of a transaction.
        The client cannot be asked from another thread: it would wait for polls to end."""

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._polled_s = time.monotonic()
        self._thread.start()

    def pause(self, partitions: frozenset[int]) -> None:
        """Read nothing of these for now, and everything of all others."""
        self._wanted = partitions

    @property
    def fresh(self) -> bool:
        """False: this process slept so long that its partitions may have another owner."""
        return time.monotonic() - self._polled_s < SESSION_S * 0.8

    @property
    def joined(self) -> bool:
        """A member of the group, with or without partitions."""
        return self._joined

    async def stop(self) -> None:
        """Stop polling and leave. A static member keeps its partitions until the session ends."""
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, CHUNK_S)

    # ---- the polling thread

    def _run(self) -> None:
        try:
            self.consumer.subscribe(
                [self._topic],
                on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost,
            )  # fmt: skip
            while not self._stopping.is_set():
                self._poll()
            self.consumer.close()
        except Exception as error:  # noqa: BLE001 - nobody would poll any more
            leave("polling failed", topic=self._topic, error=f"{type(error).__name__}: {error}")

    def _poll(self) -> None:
        first = self.consumer.poll(POLL_S)  # `consume` would wait until the chunk is full
        messages = [first, *self.consumer.consume(CHUNK - 1, 0)] if first is not None else []
        if not self.fresh:
            leave("slept longer than the session", topic=self._topic)
        self._polled_s = time.monotonic()
        self._look()
        records: list[Record] = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(_record(message))
            else:
                self._trouble(error)
        if records:
            self._call(self._take(records))
        self._apply_pauses()

    def _look(self) -> None:
        self.generation = bytes(self.consumer.consumer_group_metadata())

    async def _take(self, records: list[Record]) -> None:
        self._owner.take(records)

    def _apply_pauses(self) -> None:
        wanted = self._wanted & self._assigned
        if wanted == self._paused:
            return
        if more := wanted - self._paused:
            self.consumer.pause(self._parts(more))
        if less := (self._paused - wanted) & self._assigned:
            self.consumer.resume(self._parts(less))
        self._paused = wanted

    def _trouble(self, error: KafkaError) -> None:
        gone = error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
        if gone:
            leave("the committed offset is gone from the topic: commands were deleted unread; "
                  "see docs/connectors.md", topic=self._topic, error=str(error))  # fmt: skip
        if error.fatal() or error.code() == KafkaError._MAX_POLL_EXCEEDED:
            leave("thrown out of the group", topic=self._topic, error=str(error))
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            leave("the topic is missing: `syncline topics` makes it", topic=self._topic)
        log.warning("Kafka says", topic=self._topic, error=str(error))

    def _call(self, work: Awaitable[None]) -> None:
        """Let the loop do it, and wait."""
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(work, self._loop)  # type: ignore[arg-type]
        future.result(CHUNK_S)
        self._polled_s = time.monotonic()

    def _on_assign(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        committed = self._committed(parts) if parts else []
        inherited = {part.partition: self._owner.inherit(part.partition) for part in parts}
        self._call(self._owner.assigned(committed, inherited))
        self._joined = True
        self._assigned |= inherited.keys()
        consumer.incremental_assign(
            [TopicPartition(self._topic, part.partition, part.offset) for part in committed]
        )
        self._polled_s = time.monotonic()

    def _committed(self, parts: list[TopicPartition]) -> list[TopicPartition]:
        """Stable offsets, with their metadata: waits while a predecessor's transaction is open, and
        while a topic that was made just now has no leader."""
        deadline = time.monotonic() + CHUNK_S
        while True:
            try:
                committed = self.consumer.committed(parts, timeout=2.0)
                why = next((part.error for part in committed if part.error is not None), None)
                if why is None:
                    return [self._begun(part) for part in committed]
            except KafkaException as error:
                why = error.args[0]
            self._polled_s = time.monotonic()
            if self._polled_s > deadline:
                raise KafkaException(why)
            log.info("waits for offsets", topic=self._topic, why=str(why))
            self._stopping.wait(0.1)

    def _begun(self, part: TopicPartition) -> TopicPartition:
        """Where nothing was ever committed, the first message that is kept."""
        if part.offset < 0:
            part.offset, _ = self.consumer.get_watermark_offsets(part, timeout=2.0)
        return part

    def _on_revoke(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        numbers = [part.partition for part in parts]
        self._forget(numbers)
        self._look()  # the group is a generation further: what is handed back is committed in that
        self._call(self._owner.hand_back(numbers))

    def _on_lost(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        numbers = [part.partition for part in parts]
        self._forget(numbers)

        async def lost() -> None:
            self._owner.lost(numbers)

        self._call(lost())
        if not self._stopping.is_set():
            # Begun anew it is right by construction; going on, librdkafka has been seen to fetch
            # nothing more from partitions that came back after a broker's restart.
            leave("lost the partitions: start again", topic=self._topic)

    def _forget(self, numbers: Sequence[int]) -> None:
        self._assigned -= set(numbers)
        self._paused -= set(numbers)

    def _parts(self, numbers: frozenset[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]


def _record(message: Message) -> Record:
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return Record(partition, offset, message.value(), message.headers())  # type: ignore[arg-type]

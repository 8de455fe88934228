"""Read a compacted topic whole, then follow it: definitions, handover, parked.

One small reader for everybody, so that "read to the end" is right in one place: the end is the high
watermark asked before reading, reached by position, because markers and aborted records leave gaps.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Message as Record

from schemas import topics
from schemas.codec import Codec, Undecodable
from schemas.definitions import Connection, Definition, Sync
from schemas.kafka_log import KAFKA_LOG

__all__ = ["Definitions", "Follower"]


ELECTION = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
NO_LEADER = (
    *ELECTION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,  # the client's own word for it, before it has heard of the topic
)


class Follower:
    """Records of topics from their beginning, committed ones only. Not thread-safe.

    `config` is a librdkafka client configuration (`bootstrap.servers`, TLS, SASL). Never joins a
    group. Records of one partition come in order; of several, as they arrive. Raises
    KafkaException where Kafka is away for longer than `timeout_s`.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        names: str | Sequence[str],
        partitions: Sequence[int] | None = None,
        *,
        timeout_s: float = 15.0,
    ) -> None:
        """`partitions`: only these, of each topic."""
        self._timeout_s = timeout_s
        self._consumer = Consumer(
            {
                "logger": KAFKA_LOG,
                **config,
                "group.id": "syncline-follow",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "queued.max.messages.kbytes": 16384,
                "fetch.queue.backoff.ms": 10,  # when that is full; else a second
            }
        )
        self._reached: dict[tuple[str, int], int] = {}
        try:
            self._parts = [
                TopicPartition(name, number, OFFSET_BEGINNING)
                for name in ([names] if isinstance(names, str) else names)
                for number in (self._numbers(name) if partitions is None else partitions)
            ]
            self._consumer.assign(self._parts)
        except BaseException:
            self._consumer.close()
            raise

    def _numbers(self, name: str) -> list[int]:
        listed = self._consumer.list_topics(name, timeout=self._timeout_s).topics[name]
        if listed.error is not None:
            raise KafkaException(listed.error)
        return sorted(listed.partitions)

    def read_to_end(self) -> Iterator[Record]:
        """All records up to the end as it is when this is called.

        Raises TimeoutError after `timeout_s` of silence.
        """
        left = {
            (part.topic, part.partition): end
            for part in self._parts
            if (end := self._end(part)) > self._reached.get((part.topic, part.partition), 0)
        }
        deadline = time.monotonic() + self._timeout_s
        while left:
            for record in self._consumer.consume(1000, 0.05):
                deadline = time.monotonic() + self._timeout_s
                if self._is_record(record):
                    yield record
            left = {p: end for p, end in left.items() if self._reached.get(p, 0) < end}
            if left and time.monotonic() > deadline:
                raise TimeoutError(f"{next(iter(left))[0]}: no progress for {self._timeout_s:g} s")

    def poll(self, timeout_s: float = 0.0) -> list[Record]:
        """What is new, at most 1,000 records."""
        return [r for r in self._consumer.consume(1000, timeout_s) if self._is_record(r)]

    def _end(self, part: TopicPartition) -> int:
        """Last stable offset; 0 where nothing is kept. A topic that was made just now may have no
        leader for a moment."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                low, high = self._consumer.get_watermark_offsets(part, timeout=self._timeout_s)
            except KafkaException as error:
                if error.args[0].code() not in NO_LEADER or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return high if high > low else 0

    def _is_record(self, record: Record) -> bool:
        """Notes how far its partition is read. An end-of-partition event also stands past markers
        and aborted records, which are never handed out."""
        error, offset = record.error(), record.offset() or 0
        part = (record.topic() or "", record.partition() or 0)
        if error is None:
            self._reached[part] = offset + 1
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            self._reached[part] = max(self._reached.get(part, 0), offset)
        elif error.code() not in ELECTION and not error.retriable():
            raise KafkaException(error)
        return False

    def close(self) -> None:
        self._consumer.close()


class Definitions:
    """The `definitions` topic as it stands: active documents, and every version ever applied.

    `refresh` takes in what is new and says whether anything changed.
    """

    def __init__(self, config: Mapping[str, Any], codec: Codec) -> None:
        """Reads the topic whole. Raises KafkaException or TimeoutError where Kafka is away."""
        self._codec = codec
        self._follower = Follower(config, topics.DEFINITIONS)
        self._versions: dict[tuple[str, str, int], Definition] = {}
        self._active: dict[tuple[str, str], int] = {}
        for record in self._follower.read_to_end():
            self._take(record)

    def refresh(self, timeout_s: float = 0.0) -> bool:
        changed = False
        for record in self._follower.poll(timeout_s):
            changed |= self._take(record)
        return changed

    def catch_up(self) -> bool:
        """As `refresh`, up to the end as it is when this is called."""
        changed = False
        for record in self._follower.read_to_end():
            changed |= self._take(record)
        return changed

    def _take(self, record: Record) -> bool:
        """A definition that cannot be decoded is passed over: `apply` writes no such thing."""
        try:
            definition = self._codec.decode_as(Definition, record.value())
        except Undecodable:
            return False
        if definition.document:
            self._versions[definition.kind, definition.name, definition.version] = definition
        else:
            self._active[definition.kind, definition.name] = definition.version
        return True

    def active(self, kind: str) -> dict[str, Definition]:
        """Name to the active version of every definition of a kind."""
        return {
            name: self._versions[kind, name, version]
            for (k, name), version in self._active.items()
            if k == kind and version and (kind, name, version) in self._versions
        }

    def version(self, kind: str, name: str, version: int) -> Definition | None:
        return self._versions.get((kind, name, version))

    def all(self) -> list[Definition]:
        return list(self._versions.values())

    def connections(self) -> dict[str, Connection]:
        return {
            name: Connection.model_validate(msgspec.json.decode(d.document))
            for name, d in self.active("connection").items()
        }

    def platforms(self) -> tuple[str, ...]:
        """Those that are read or written: topics of each are there, streams and workers serve it.

        A platform whose connections only receive webhooks is none. It never gets fewer: `apply`
        takes nothing away.
        """
        flows = [msgspec.json.decode(d.document) for d in self.active("flow").values()]
        named = {str(flow["platform"]) for flow in flows if flow["flows"]}
        return (*topics.PLATFORMS, *sorted(named - set(topics.PLATFORMS)))

    def syncs(self) -> dict[str, Sync]:
        return {
            name: Sync.model_validate(msgspec.json.decode(d.document))
            for name, d in self.active("sync").items()
        }

    def close(self) -> None:
        self._follower.close()

"""A checkpoint as one Kafka transaction, on one librdkafka producer per worker.

Runs in a thread of its own. In one transaction: source offsets (the fence: a worker that lost its
generation sends no byte of data), outputs, changed rows. Only then the local stores.
"""

import json
import struct
import time
from enum import Enum
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas.transactions import insist
from streams.engine.exits import AWAY_S_MAX, hit, leave
from streams.engine.ledger import Batch, Member
from streams.engine.settings import EngineSettings

__all__ = ["VECTOR", "End", "Transactions", "group_metadata"]

VECTOR = "v"
"""Header of the last row of a checkpoint in a changelog: agent -> topic -> offset."""
_GONE = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
    }
)
TRIES = 3


class End(Enum):
    COMMITTED = "committed"
    GONE = "gone"  # another generation: nothing was written, drop it all and wait to be assigned


def group_metadata(group: str, member: Member) -> bytes:
    """What `send_offsets_to_transaction` takes, for a member that is not a librdkafka consumer.

    librdkafka, rd_kafka_consumer_group_metadata_write, version 2: generation, group, member, and
    that there is no instance id. `check_group_metadata` compares it with the library's own.
    """
    assert member.generation >= 0
    assert member.member_id  # (-1, "") would be taken without any check
    return _metadata(group, member)


def _metadata(group: str, member: Member) -> bytes:
    return (
        b"CGMDv2:" + struct.pack("=i", member.generation) + group.encode() + b"\0"
        + member.member_id.encode() + b"\0\x01"
    )  # fmt: skip


def check_group_metadata() -> str:
    """Why our bytes are not librdkafka's; empty where they are."""
    consumer = Consumer({"group.id": "a-group", "bootstrap.servers": "", "log_level": 0})
    theirs, ours = consumer.consumer_group_metadata(), _metadata("a-group", Member(-1, ""))
    consumer.close()
    return "" if theirs == ours else f"consumer group metadata is {theirs!r}, not {ours!r}"


class Transactions:
    """Use from one thread at a time."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._changelogs: dict[str, str] = {}
        limit = settings.record_bytes_max
        self._producer = Producer(
            settings.client(
                **{
                    "transactional.id": settings.transactional_id,
                    "transaction.timeout.ms": int(settings.transaction_timeout_s * 1000),
                    "partitioner": "murmur2_random",  # the same as every other producer
                    "message.max.bytes": limit,
                    "batch.size": limit,  # a topic's limit is one for batches
                    "compression.type": "lz4",
                    "linger.ms": 5,
                    "retry.backoff.ms": 10,  # else 100 ms a transaction
                    "retry.backoff.max.ms": 50,
                    "queue.buffering.max.messages": 1_000_000,
                    "queue.buffering.max.kbytes": 512 * 1024,
                }
            )
        )

    def start(self) -> None:
        """Throw out whoever had this slot before, and end what he left open."""
        insist(self._producer.init_transactions, 10.0, wait_s=60.0)

    def commit(self, batch: Batch) -> End:
        """All or nothing. Leaves the process on anything but success or a lost generation."""
        for attempt in range(1, TRIES + 1):
            try:
                self._once(batch)
                return End.COMMITTED
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                if error.fatal() or not error.txn_requires_abort():
                    leave("checkpoint failed", error=str(error), fatal=error.fatal())
                try:
                    insist(self._producer.abort_transaction, 10.0, wait_s=AWAY_S_MAX)
                except KafkaException as second:
                    leave("checkpoint not aborted", error=str(error), second=str(second))
                if error.code() in _GONE:
                    return End.GONE
                # Idle for longer than the broker keeps producer ids, or it was away for too long:
                # the same checkpoint again, still behind the same fence.
                if attempt == TRIES:
                    leave("checkpoint failed", error=str(error), attempts=attempt)
        raise AssertionError

    def _once(self, batch: Batch) -> None:
        producer = self._producer
        settings = self._settings
        producer.begin_transaction()
        insist(
            producer.send_offsets_to_transaction,
            [
                TopicPartition(topic, partition, offset, ahead)
                for (topic, partition), (offset, ahead) in batch.offsets.items()
            ],
            group_metadata(settings.group, batch.member),
            10.0,
            wait_s=AWAY_S_MAX,  # the worker's alarm ends it sooner where Kafka answers others
        )
        hit("offsets_sent")
        produce = self._produce
        for topic, value, key, partition, headers in batch.outputs:
            produce(topic, value, key, partition, headers, None)
        hit("outputs_produced")
        for number, tables in batch.rows.items():
            for table, rows in tables.items():
                self._changelog(batch, number, table, rows)
        insist(self._flush, wait_s=AWAY_S_MAX)
        hit("delivered")
        insist(producer.commit_transaction, 10.0, wait_s=AWAY_S_MAX)
        hit("committed")

    def _changelog(
        self, batch: Batch, number: int, table: str, rows: dict[bytes, bytes | None]
    ) -> None:
        """One record a changed key; the last carries the vector and tells its offset."""
        topic = self._settings.changelog(table)

        def delivered(error: KafkaError | None, message: Any) -> None:
            if error is None:
                batch.reached[number, table] = message.offset() + 1

        left = len(rows)
        produce = self._produce
        for key, data in rows.items():
            left -= 1
            if left:
                produce(topic, data, key, number, None, None)
            else:
                vector = json.dumps(batch.vectors[number]).encode()
                produce(topic, data, key, number, [(VECTOR, vector)], delivered)

    def _produce(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Any,
        callback: Any,
    ) -> None:  # fmt: skip
        while True:
            try:
                self._producer.produce(topic, value, key, partition, callback, None, 0, headers)
                return
            except BufferError:
                self._producer.poll(0.05)

    def _flush(self) -> None:
        """A failed delivery shows in commit_transaction; here only: all have an answer."""
        deadline = time.monotonic() + AWAY_S_MAX
        while self._producer.flush(5.0):
            if time.monotonic() > deadline:
                leave("checkpoint not delivered", waited_s=AWAY_S_MAX)

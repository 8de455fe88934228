"""What the worker commits, as Kafka transactions: offsets, outcomes, journal, events.

Runs in a thread of its own. The offsets go first: they carry generation and member of the group,
so a worker that lost its partitions writes nothing that anybody sees.
"""

import struct
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from connectors.exits import leave
from connectors.settling import Send
from schemas.kafka_log import KAFKA_LOG
from schemas.transactions import insist

__all__ = ["Transactions"]

TIMEOUT_S = 10.0
"""After a crash readers of the same partitions stand still for at most this long."""
MESSAGE_BYTES_MAX = 4_000_000
"""Under the brokers' limit (4 MiB, syncline/stack.py)."""
TRIES = 10
WAIT_S = 30.0
"""Of each call, while the client says that it may be repeated."""
GONE = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)
"""Another generation has begun: what partitions we keep may be committed under the new one."""


class Transactions:
    """One transactional producer. `commit` from one thread at a time."""

    def __init__(
        self, kafka: Mapping[str, Any], transactional_id: str, generation: Callable[[], bytes]
    ) -> None:
        """`generation`: the group's metadata, as the consumer knew it last."""
        self._generation = generation
        self._producer = Producer(
            {
                "logger": KAFKA_LOG,
                **kafka,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": int(TIMEOUT_S * 1000),
                "partitioner": "murmur2_random",
                "message.max.bytes": MESSAGE_BYTES_MAX,
                "compression.type": "lz4",
                "linger.ms": 5,
                "retry.backoff.ms": 10,  # else 100 ms a transaction
                "retry.backoff.max.ms": 50,
                "queue.buffering.max.messages": 200_000,
                "queue.buffering.max.kbytes": 128 * 1024,
            }
        )

    def start(self) -> None:
        """Throw out whoever had this slot before, and end what he left open. Raises
        KafkaException where Kafka is away for a minute."""
        insist(self._producer.init_transactions, 10.0, wait_s=60.0)

    def commit(self, due: Callable[[], tuple[list[Send], list[TopicPartition]]]) -> None:
        """Blocks. `due` is asked after the group's generation was taken, and again at each try: it
        leaves out what belongs to partitions that are not ours any more. Leaves the process where
        going on is not safe."""
        for attempt in range(1, TRIES + 1):
            generation = self._generation()
            _check(generation)
            sends, offsets = due()
            if not sends and not offsets:
                return
            try:
                self._once(sends, offsets, generation)
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                if error.fatal() or not error.txn_requires_abort():
                    leave("commit failed", error=str(error), fatal=error.fatal())
                self._abort(error)
                # An aborted transaction is written again, with the outcomes in hand. Another
                # generation has begun, the broker was away for too long, or it forgot our id.
                if attempt == TRIES:
                    leave("commit failed", error=str(error), attempts=attempt)
                time.sleep(0.1 * attempt if error.code() in GONE else 0.02)
            else:
                return

    def _once(self, sends: list[Send], offsets: list[TopicPartition], generation: Any) -> None:
        producer = self._producer
        producer.begin_transaction()
        if offsets:
            insist(producer.send_offsets_to_transaction, offsets, generation, 10.0, wait_s=WAIT_S)
        for topic, value, key, partition, headers in sends:
            self._produce(topic, value, key, partition, headers)
        insist(producer.commit_transaction, 30.0, wait_s=WAIT_S)

    def _abort(self, cause: KafkaError) -> None:
        try:
            insist(self._producer.abort_transaction, 10.0, wait_s=WAIT_S)
        except KafkaException as second:
            leave("commit not aborted", error=str(cause), second=str(second))

    def _produce(
        self, topic: str, value: bytes | None, key: str, partition: int, headers: Any
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition, None, None, 0, headers)
            except BufferError:
                self._producer.poll(0.05)
            else:
                return

    def close(self) -> None:
        self._producer.flush(1.0)


def _check(generation: bytes) -> None:
    """`(-1, "")` would be no fence for a dynamic member; ours is static, and the broker refuses it,
    but nothing is written in vain. Layout: rd_kafka_consumer_group_metadata_write, version 2."""
    assert generation.startswith(b"CGMDv2:"), "librdkafka writes group metadata in another way"
    if struct.unpack_from("=i", generation, 7)[0] < 0:
        time.sleep(0.05)  # between two generations: the refusal is retried

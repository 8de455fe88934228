"""What the next owner of an account must know, on `handover`: leases, intents, what was learned.

A record stands in the same partition as the account's commands, so whoever is assigned that
partition reads one partition of `handover` and knows all. Keys: `platform:account:what`.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, Producer

from schemas.base import Message
from schemas.codec import Codec, Undecodable
from schemas.follow import Follower
from schemas.handover import Intent, Learned, Lease
from schemas.kafka_log import KAFKA_LOG
from schemas.topics import HANDOVER

__all__ = ["Handover", "Inherited", "Intended", "intent_key", "learned_key", "lease_key"]

OLD_MS = 31 * 86_400_000
"""Commands are kept for 30 days."""
DELIVERY_S = 10.0
"""A lease that takes longer to write is not written: nothing starts under it."""


def lease_key(platform: str, account: str) -> str:
    return f"{platform}:{account}:lease"


def intent_key(platform: str, account: str, request_id: str) -> str:
    return f"{platform}:{account}:intent:{request_id}"


def learned_key(platform: str, account: str) -> str:
    return f"{platform}:{account}:learned"


class Intended(NamedTuple):
    """An intent that covers a row."""

    key: str
    receipt: str = ""
    """Of the job that it was sent in; empty: in a plain request."""


class Inherited:
    """What predecessors left for the accounts of one partition."""

    def __init__(self) -> None:
        self.leases: dict[str, bytes] = {}
        """Account to document."""
        self.intents: dict[str, dict[str, Intended]] = {}
        """Account to row id to the intent under which it was sent."""
        self.learned: dict[str, bytes] = {}

    def take(self, key: str, message: Message) -> None:
        match message:
            case Lease(account=account, document=document):
                self.leases[account] = document
            case Intent(at_ms=at_ms) if time.time() * 1000 - at_ms > OLD_MS:
                pass  # the commands that it stands for are deleted by now
            case Intent(account=account, row_ids=row_ids, receipt=receipt):
                held = Intended(key, receipt)
                self.intents.setdefault(account, {}).update(dict.fromkeys(row_ids, held))
            case Learned(account=account, document=document):
                self.learned[account] = document
            case _:
                pass


class Handover:
    """Reads and writes `handover`. Writes are idempotent and awaited one by one."""

    def __init__(self, kafka: Mapping[str, Any], codec: Codec) -> None:
        self._kafka, self._codec = dict(kafka), codec
        self._producer = Producer(
            {
                "logger": KAFKA_LOG,
                **kafka,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 0,
                "delivery.timeout.ms": int(DELIVERY_S * 1000),
                "queue.buffering.max.kbytes": 16 * 1024,
            }
        )
        self._stopping = False
        self._server = threading.Thread(target=self._serve, name="handover", daemon=True)
        self._server.start()

    def _serve(self) -> None:
        """Hands delivery reports to whoever waits."""
        while not self._stopping:
            self._producer.poll(0.1)

    async def write(self, partition: int, key: str, message: Message | None) -> None:
        """Returns when all replicas have it. None: a tombstone. Raises KafkaException."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: Any) -> None:
            if done.cancelled():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(KafkaException(error))

        def delivered(error: Any, _: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(settle, error)

        value = None if message is None else self._codec.encode(message)
        self._producer.produce(HANDOVER, value, key, partition, on_delivery=delivered)
        await done

    def read(self, platform: str, partition: int) -> Inherited:
        """All that stands in a partition for a platform's accounts. Blocks; raises KafkaException
        or TimeoutError where Kafka is away."""
        newest: dict[str, bytes | None] = {}
        follower = Follower(self._kafka, HANDOVER, [partition])
        try:
            for record in follower.read_to_end():
                key = (record.key() or b"").decode()
                if key.startswith(f"{platform}:"):
                    newest[key] = record.value()
        finally:
            follower.close()
        inherited = Inherited()
        for key, value in newest.items():
            if value is not None:
                try:
                    inherited.take(key, self._codec.decode(value))
                except Undecodable:
                    continue  # a newer make's; we lose a lease of a second at most
        return inherited

    def close(self) -> None:
        self._producer.flush(2.0)
        self._stopping = True
        self._server.join(1.0)

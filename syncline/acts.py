"""Ask for something: write acts to `control`, confirmed by Kafka before we say so."""

import getpass
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Message as Record
from confluent_kafka import Producer

from schemas import ids, topics
from schemas.base import Message
from schemas.codec import Codec
from schemas.control import Act, ActKind, Target
from schemas.kafka_log import KAFKA_LOG
from syncline.errors import Failed
from syncline.settings import Settings

__all__ = ["act", "ask", "publish", "write_again"]


def act(
    kind: ActKind,
    *,
    sync: str = "",
    run: str = "",
    account: str = "",
    definition: str = "",
    targets: Sequence[Target] = (),
    values: dict[str, Any] | None = None,
    why: str = "",
    act_id: str = "",
    who: str = "",
) -> Act:
    """An act of the person at this terminal. Who it is, is taken from the system, not verified;
    `who`: a process of ours."""
    now_ms = time.time_ns() // 1_000_000
    who = who or getpass.getuser()
    parts = (
        kind,
        sync,
        run,
        account,
        definition,
        who,
        str(now_ms),
        json.dumps(values or {}, sort_keys=True),
        *(f"{t.parked_id}|{t.person}" for t in targets),
    )
    return Act(
        act_id=act_id or ids.derive("act", *parts),
        kind=kind,
        sync=sync,
        run=run,
        account=account,
        definition=definition,
        targets=list(targets),
        who=who,
        when_ms=now_ms,
        why=why,
        values=json.dumps(values or {}).encode(),
    )


def ask(settings: Settings, codec: Codec, acts: Sequence[Act]) -> None:
    """Write acts to `control`, each keyed by its run, else its sync. Raises Failed."""
    keyed = [(topics.CONTROL, a.run or a.sync or a.account or "parked", a) for a in acts]
    publish(settings, keyed, codec)


def publish(
    settings: Settings, records: Sequence[tuple[str, str, Message | None]], codec: Codec
) -> None:
    """(topic, key, message) in order; returns when all are written to all replicas."""
    with _producing(settings) as produce:
        for topic, key, message in records:
            value = None if message is None else codec.encode(message)
            produce(topic, value, key.encode())


def write_again(settings: Settings, records: Sequence[Record]) -> None:
    """Each once more as it is, to the end of its partition. Raises Failed."""
    with _producing(settings) as produce:
        for record in records:
            produce(
                record.topic() or "", record.value(), record.key(), record.partition() or 0,
                headers=record.headers() or [],
            )  # fmt: skip


@contextmanager
def _producing(settings: Settings) -> Iterator[Callable[..., None]]:
    """What is produced in here is on all replicas when it is left; else Failed is raised."""
    producer = Producer(
        {
            "logger": KAFKA_LOG,
            **settings.kafka_config(),
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "message.timeout.ms": 20_000,
        }
    )
    failed: list[str] = []

    def delivered(error: Any, _: Any) -> None:
        if error is not None:
            failed.append(str(error))

    def produce(topic: str, value: bytes | None, key: bytes | None, *at: int, **more: Any) -> None:
        producer.produce(topic, value, key, *at, on_delivery=delivered, **more)
        producer.poll(0)

    yield produce
    left = producer.flush(25)
    if failed or left:
        raise Failed(f"Kafka did not confirm: {failed[0] if failed else f'{left} not answered'}")

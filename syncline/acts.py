"""Ask for something: write acts to `control`, confirmed by Kafka before we say so."""

import getpass
import json
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Producer

from schemas import ids, topics
from schemas.base import Message
from schemas.codec import Codec
from schemas.control import Act, ActKind, Target
from schemas.kafka_log import KAFKA_LOG
from syncline.errors import Failed
from syncline.settings import Settings

__all__ = ["act", "ask", "publish"]


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
) -> Act:
    """An act of the person at this terminal. Who it is, is taken from the system, not verified."""
    now_ms = time.time_ns() // 1_000_000
    who = getpass.getuser()
    parts = (
        kind,
        sync,
        run,
        account,
        definition,
        who,
        str(now_ms),
        *(t.parked_id for t in targets),
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
    publish(settings, [(topics.CONTROL, a.run or a.sync or a.account, a) for a in acts], codec)


def publish(
    settings: Settings, records: Sequence[tuple[str, str, Message | None]], codec: Codec
) -> None:
    """(topic, key, message) in order; returns when all are written to all replicas."""
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

    for topic, key, message in records:
        value = None if message is None else codec.encode(message)
        producer.produce(topic, value, key.encode(), on_delivery=delivered)
    left = producer.flush(25)
    if failed or left:
        raise Failed(f"Kafka did not confirm: {failed[0] if failed else f'{left} not answered'}")

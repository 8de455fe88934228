"""Kafka's transactional calls, as librdkafka wants them made."""

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaException

__all__ = ["insist"]

AGAIN_S = 0.05


def insist(call: Callable[..., Any], *args: Any, wait_s: float) -> None:
    """Repeat the same call while the client says so: a broker may be away for a moment, and a
    commit whose time ran out is still under way, so that no other call is allowed. Raises
    KafkaException where the client says no, or after `wait_s` still that it may be repeated."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            call(*args)
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise
            time.sleep(AGAIN_S)
        else:
            return

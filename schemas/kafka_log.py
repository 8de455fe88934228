"""What librdkafka says, as structured logs instead of raw lines on the terminal.

    Consumer({**config, "logger": KAFKA_LOG})

librdkafka hands its lines on when the client is polled, consumed from or flushed; an admin client
only when it is polled. They name brokers, topics and groups, never what is in a message.
"""

from typing import Any

import structlog

__all__ = ["KAFKA_LOG", "KafkaLog"]

log = structlog.get_logger("kafka")


class KafkaLog:
    """A logger as far as confluent-kafka needs one."""

    def log(self, level: int, form: str, *parts: Any) -> None:
        """`level` as in `logging`. confluent-kafka gives facility, client and text apart."""
        match parts:
            case (facility, client, text):
                log.log(level, text, facility=facility, client=client)
            case _:
                log.log(level, form % parts if parts else form)


KAFKA_LOG = KafkaLog()

"""Read topics from their beginning, several at once, and follow them: the slow and simple way.

An index over pointers comes with the audit work; until then every question reads the log.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from schemas import topics
from schemas.base import Message
from schemas.codec import Codec, Undecodable
from schemas.control import Act
from schemas.follow import Follower
from schemas.parked import ParkedRecord

__all__ = ["Log", "control_acts", "latest", "parked_records"]

M = TypeVar("M", bound=Message)

MessageAt = tuple[str, int, int, bytes, Message | None]
"""Topic, partition, offset, key, message (None: a tombstone)."""


class Log:
    """Some topics as one stream. What cannot be decoded is counted and passed over."""

    def __init__(self, config: Mapping[str, Any], codec: Codec, names: list[str]) -> None:
        self._codec = codec
        self._follower = Follower(config, names)
        self.undecodable = 0

    def read_to_end(self) -> Iterator[MessageAt]:
        """Up to the end as it is now; a repeat gives only what is new since."""
        for record in self._follower.read_to_end():
            value = record.value()
            try:
                message = None if value is None else self._codec.decode(value)
            except Undecodable:
                self.undecodable += 1
                continue
            place = record.topic() or "", record.partition() or 0, record.offset() or 0
            yield *place, record.key() or b"", message

    def close(self) -> None:
        self._follower.close()


def latest(config: Mapping[str, Any], codec: Codec, topic: str, model: type[M]) -> dict[str, M]:
    """What a compacted topic holds now, by key."""
    log = Log(config, codec, [topic])
    found: dict[str, M] = {}
    try:
        for _, _, _, key, message in log.read_to_end():
            name = key.decode()
            found.pop(name, None)
            if isinstance(message, model):
                found[name] = message
    finally:
        log.close()
    return found


def control_acts(config: Mapping[str, Any], codec: Codec) -> list[Act]:
    """All acts that are kept, in the order of their time."""
    log = Log(config, codec, [topics.CONTROL])
    try:
        acts = [m for *_, m in log.read_to_end() if isinstance(m, Act)]
    finally:
        log.close()
    return sorted(acts, key=lambda act: act.when_ms)


def parked_records(config: Mapping[str, Any], codec: Codec) -> dict[str, ParkedRecord]:
    """What is parked now, by its id."""
    return latest(config, codec, topics.PARKED, ParkedRecord)

"""Read topics from a moment on, then follow them. Like everybody: committed records only."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Message as Record
from confluent_kafka import TopicPartition

from schemas.base import Message
from schemas.codec import Codec, Undecodable
from schemas.follow import Follower
from syncline.errors import Misused

__all__ = ["At", "Since", "decoded", "parse_place", "parse_span"]

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Since(Follower):
    """A Follower that begins where the first record of `since_ms` or later stands, in every
    partition; None: at the end as it is now. Unix milliseconds, by the time of the record."""

    def __init__(
        self, config: Mapping[str, Any], names: str | Sequence[str], since_ms: int | None
    ) -> None:
        super().__init__(config, names)
        try:
            self._start(self._found(since_ms))
        except BaseException:
            self.close()
            raise

    def _start(self, offsets: Mapping[tuple[str, int], int]) -> None:
        self._consumer.assign([TopicPartition(*where, at) for where, at in offsets.items()])
        self._reached = dict(offsets)

    def _found(self, since_ms: int | None) -> dict[tuple[str, int], int]:
        found: dict[tuple[str, int], int] = {}
        if since_ms is not None:
            asked = [TopicPartition(p.topic, p.partition, since_ms) for p in self._parts]
            answered = self._consumer.offsets_for_times(asked, timeout=self._timeout_s)
            found = {(p.topic, p.partition): p.offset for p in answered if p.offset >= 0}
        ends = {w: self._end(p) for p in self._parts if (w := (p.topic, p.partition)) not in found}
        return {**found, **ends}


class At(Follower):
    """A Follower of one partition, from an offset on."""

    def __init__(self, config: Mapping[str, Any], name: str, partition: int, offset: int) -> None:
        super().__init__(config, name, [partition])
        self._consumer.assign([TopicPartition(name, partition, offset)])
        self._reached = {(name, partition): offset}


def decoded(records: Iterable[Record], codec: Codec) -> Iterator[Message]:
    """Messages of ours among them; what cannot be decoded is passed over."""
    for record in records:
        try:
            message = codec.decode(record.value())
        except Undecodable:
            continue
        yield message


def parse_span(text: str) -> int:
    """`90s`, `10m`, `6h`, `2d` -> milliseconds. Raises Misused."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in UNITS_S and len(number) < 7):
        raise Misused(f"{text!r} is no span of time; write 90s, 10m, 6h or 2d")
    return int(number) * UNITS_S[unit] * 1000


def parse_place(text: str) -> tuple[str, int, int]:
    """`intake.hubspot-0-12` -> topic, partition, offset. Raises Misused."""
    topic, _, rest = text.partition("-")
    partition, _, offset = rest.partition("-")
    if not (topic and all(n.isascii() and n.isdigit() for n in (partition, offset))):
        raise Misused(f"{text!r} is no place; write TOPIC-PARTITION-OFFSET, as `tail` shows it")
    return topic, int(partition), int(offset)

"""Read topics from a moment on, then follow them. Like everybody: committed records only."""

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import TopicPartition

from schemas.follow import Follower
from syncline.errors import Misused

__all__ = ["Since", "parse_span"]

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Since(Follower):
    """A Follower that begins where the first record of `since_ms` or later stands, in every
    partition; None: at the end as it is now. Unix milliseconds, by the time of the record."""

    def __init__(
        self, config: Mapping[str, Any], names: str | Sequence[str], since_ms: int | None
    ) -> None:
        super().__init__(config, names)
        try:
            starts = self._starts(since_ms)
            self._consumer.assign(starts)
        except BaseException:
            self.close()
            raise
        self._reached = {(p.topic, p.partition): p.offset for p in starts}

    def _starts(self, since_ms: int | None) -> list[TopicPartition]:
        found: dict[tuple[str, int], int] = {}
        if since_ms is not None:
            asked = [TopicPartition(p.topic, p.partition, since_ms) for p in self._parts]
            answered = self._consumer.offsets_for_times(asked, timeout=self._timeout_s)
            found = {(p.topic, p.partition): p.offset for p in answered if p.offset >= 0}
        ends = {w: self._end(p) for p in self._parts if (w := (p.topic, p.partition)) not in found}
        return [TopicPartition(*where, offset) for where, offset in {**found, **ends}.items()]


def parse_span(text: str) -> int:
    """`90s`, `10m`, `6h`, `2d` -> milliseconds. Raises Misused."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in UNITS_S and len(number) < 7):
        raise Misused(f"{text!r} is no span of time; write 90s, 10m, 6h or 2d")
    return int(number) * UNITS_S[unit] * 1000

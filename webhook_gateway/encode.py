"""An event to the bytes of its message: the same as `Codec.encode`, six times as fast.

Avro is field after field, a string or bytes being its length and itself, so a message is joined
from pieces: what all events of a kind share is encoded once, the payload is passed on untouched.
A property test holds this file to the codec, byte for byte.
"""

import hashlib
from datetime import UTC, datetime
from functools import lru_cache

from schemas.codec import Codec
from schemas.events import EventKind, Origin, PlatformEvent
from webhook_gateway.senders.base import Event

__all__ = ["EventEncoder", "Headers"]

Headers = list[tuple[str, str | bytes | None]]

KIND = {kind: n for n, kind in enumerate(EventKind)}
ORIGIN = {origin: n for n, origin in enumerate(Origin)}


def _long(number: int) -> bytes:
    """Zigzag, then seven bits a byte, the lowest first."""
    n = (number << 1) ^ (number >> 63)
    if 1 << 35 <= n < 1 << 42:  # six bytes: any time in ms between 1970-07 and 2039
        low = (n & 127 | 128, n >> 7 & 127 | 128, n >> 14 & 127 | 128)
        return bytes((*low, n >> 21 & 127 | 128, n >> 28 & 127 | 128, n >> 35))
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


LENGTHS = [_long(n) for n in range(2048)]


def _bytes(data: bytes) -> bytes:
    length = len(data)
    return (LENGTHS[length] if length < 2048 else _long(length)) + data


# Names of types, kinds and fields are few and come again, but the sender chooses them: bounded.
@lru_cache(maxsize=4096)
def _text(text: str) -> bytes:
    return _bytes(text.encode())


@lru_cache(maxsize=256)
def _kind(kind: EventKind, origin: Origin) -> bytes:
    return _long(KIND[kind]) + _long(ORIGIN[origin])


@lru_cache(maxsize=4096)
def _array(texts: tuple[str, ...]) -> bytes:
    """One block of all, then an empty one."""
    if not texts:
        return b"\0"
    return _long(len(texts)) + b"".join(_bytes(t.encode()) for t in texts) + b"\0"


_once = lru_cache(maxsize=16)(_long)  # the time of receipt: the same for all events of a request


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _rfc3339(ms: int) -> str:
    return f"{_second(ms // 1000)}.{ms % 1000:03}Z"


class EventEncoder:
    """Of one connection. Gives ids, keys, values and headers; keeps nothing of an event."""

    def __init__(
        self, codec: Codec, connection: str, platform: str, origin: Origin = Origin.webhook
    ) -> None:
        self.connection, self.platform = connection, platform
        self._origin = origin
        blank = PlatformEvent(
            event_id="", connection="", platform="", object_type="", object_id="",
            occurred_ms=0, received_ms=0, values=b"", payload=b"",
        )  # fmt: skip
        self._wire_head = codec.encode(blank)[:5] + _long(32)  # an event id has 32 characters
        self._whose = _text(connection) + _text(platform)
        self._id_head = hashlib.blake2b(
            _prefixed(b"event") + _prefixed(connection.encode()), digest_size=16
        )
        self._key_head = connection + ":"
        self._type_head = f"syncline.{platform}."
        self._source = f"/connections/{connection}"

    def event_id(self, event: Event) -> str:
        """Equal to `schemas.ids.event_id(connection, event.identity, event.content)`."""
        digest = self._id_head.copy()
        for part in event.identity:
            digest.update(_prefixed(part.encode()))
        digest.update(_prefixed(event.content))
        return digest.hexdigest()

    def object_key(self, object_type: str, object_id: str) -> str:
        return f"{self._key_head}{object_type}:{object_id}"

    def value(self, event: Event, event_id: str, received_ms: int, trace: str) -> bytes:
        """The message of `events.<platform>`."""
        return b"".join(
            (
                self._wire_head,
                event_id.encode(),
                self._whose,
                _text(event.object_type),
                _bytes(event.object_id.encode()),
                _kind(event.kind, self._origin),
                b"\0\1",  # no run, record_no -1
                _long(event.occurred_ms),
                b"\1" if event.time_certain else b"\0",
                _once(received_ms),
                _text(event.platform_kind),
                _array(event.changed),
                b"\1" if event.thin else b"\0",
                _array(
                    tuple([self.object_key(*o) for o in event.related]) if event.related else ()
                ),
                _bytes(trace.encode()),
                _bytes(event.values),
                _bytes(event.payload),
            )
        )

    def headers(self, event: Event, event_id: str, trace: str) -> Headers:
        """CloudEvents 1.0, binary mode of the Kafka binding, and the trace."""
        return [
            ("ce_specversion", "1.0"),
            ("ce_id", event_id),
            ("ce_type", self._type_head + event.platform_kind),
            ("ce_source", self._source),
            ("ce_time", _rfc3339(event.occurred_ms)),
            ("traceparent", trace),
        ]


def _prefixed(part: bytes) -> bytes:
    """As schemas.ids hashes it."""
    return b"%d:%b" % (len(part), part)

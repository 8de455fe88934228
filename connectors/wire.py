"""Messages of the hot path from plain dicts to bytes: `Codec.encode` without building models.

A test holds it to the codec, byte for byte.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from connectors.avro import Writer
from schemas.base import Message
from schemas.codec import Codec, avro_schema
from schemas.commands import CheckJob, UploadBatch
from schemas.events import PlatformEvent
from schemas.journal import JournalEntry, JournalKind
from schemas.outcomes import RecordOutcome

__all__ = ["Wire", "event_headers"]


class Wire:
    """Writers of the messages of which a worker makes many, and all others by model."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

        def writer(sample: Message) -> Writer:
            return Writer(avro_schema(type(sample)), head=codec.encode(sample)[:5])

        self._outcome = writer(
            RecordOutcome(row_id="", person="", connection="", object_type="", sync="", at_ms=0)
        )
        self._entry = writer(JournalEntry(at_ms=0))
        self._event = writer(
            PlatformEvent(
                event_id="", connection="", platform="", object_type="", object_id="",
                occurred_ms=0, received_ms=0, values=b"", payload=b"",
            )
        )  # fmt: skip
        self._batch = writer(
            UploadBatch(account="", connection="", object_type="", sync="", decided_ms=0, rows=[])
        )
        self._check = writer(CheckJob(account="", connection="", receipt="", rows=[]))

    def encode(self, message: Message) -> bytes:
        return self.codec.encode(message)

    def outcome(self, record: Mapping[str, Any]) -> bytes:
        """`record`: what differs from the defaults of RecordOutcome."""
        return self._outcome.write(record)

    def outcomes(self, common: Mapping[str, Any]) -> Writer:
        """Of many outcomes that have these values in common."""
        return self._outcome.given(common)

    def entry(self, kind: JournalKind, notes: Iterable[Mapping[str, Any]], **others: Any) -> bytes:
        """`notes`: each what differs from the defaults of RowNote."""
        return self._entry.write({"kind": kind, "rows": notes, **others})

    def event(self, record: Mapping[str, Any]) -> bytes:
        """`record`: what differs from the defaults of PlatformEvent."""
        return self._event.write(record)

    def batch(self, record: Mapping[str, Any]) -> bytes:
        """A whole UploadBatch, as decoded."""
        return self._batch.write(record)

    def check(self, record: Mapping[str, Any]) -> bytes:
        """A whole CheckJob, as decoded."""
        return self._check.write(record)


def event_headers(
    platform: str, connection: str, event_id: str, kind: str, occurred_ms: int
) -> list[tuple[str, str | bytes | None]]:
    """CloudEvents 1.0, binary mode of the Kafka binding. `occurred_ms` 0: no time is known."""
    headers: list[tuple[str, str | bytes | None]] = [
        ("ce_specversion", "1.0"),
        ("ce_id", event_id),
        ("ce_type", f"syncline.{platform}.{kind}"),
        ("ce_source", f"/connections/{connection}"),
        ("content-type", "application/avro"),
    ]
    if occurred_ms:
        moment = datetime.fromtimestamp(occurred_ms / 1000, UTC)
        headers.append(
            ("ce_time", moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
        )
    return headers

"""Messages of the hot path from plain dicts to bytes: `Codec.encode` without building models.

A test holds it to the codec, byte for byte.
"""

import io
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from fastavro import parse_schema, schemaless_writer

from schemas.base import Message
from schemas.codec import Codec, avro_schema
from schemas.commands import CheckJob, UploadBatch
from schemas.events import PlatformEvent
from schemas.journal import JournalEntry, JournalKind, RowNote
from schemas.outcomes import RecordOutcome

__all__ = ["Wire", "event_headers"]


def _defaults(model: type[Message]) -> dict[str, Any]:
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
        if not field.is_required()
    }


OUTCOME = _defaults(RecordOutcome)
NOTE = _defaults(RowNote)
ENTRY = _defaults(JournalEntry)
EVENT = _defaults(PlatformEvent)


class Wire:
    """Writers of the messages of which a worker makes many, and all others by model."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        entry = JournalEntry(at_ms=0)
        outcome = RecordOutcome(
            row_id="", person="", connection="", object_type="", sync="", at_ms=0
        )
        event = PlatformEvent(
            event_id="", connection="", platform="", object_type="", object_id="", occurred_ms=0,
            received_ms=0, values=b"", payload=b"",
        )  # fmt: skip
        batch = UploadBatch(
            account="", connection="", object_type="", sync="", decided_ms=0, rows=[]
        )
        check = CheckJob(account="", connection="", receipt="", rows=[])
        self._writers: dict[type[Message], tuple[bytes, Any]] = {
            type(sample): (codec.encode(sample)[:5], parse_schema(avro_schema(type(sample))))
            for sample in (entry, outcome, event, batch, check)
        }

    def encode(self, message: Message) -> bytes:
        return self.codec.encode(message)

    def outcome(self, record: Mapping[str, Any]) -> bytes:
        """`record`: what differs from the defaults of RecordOutcome."""
        return self._write(RecordOutcome, {**OUTCOME, **record})

    def entry(self, kind: JournalKind, notes: Iterable[Mapping[str, Any]], **others: Any) -> bytes:
        """`notes`: each what differs from the defaults of RowNote."""
        rows = [{**NOTE, **note} for note in notes]
        return self._write(JournalEntry, {**ENTRY, "kind": kind.value, "rows": rows, **others})

    def event(self, record: Mapping[str, Any]) -> bytes:
        """`record`: what differs from the defaults of PlatformEvent."""
        return self._write(PlatformEvent, {**EVENT, **record})

    def batch(self, record: Mapping[str, Any]) -> bytes:
        """A whole UploadBatch, as decoded."""
        return self._write(UploadBatch, record)

    def check(self, record: Mapping[str, Any]) -> bytes:
        """A whole CheckJob, as decoded."""
        return self._write(CheckJob, record)

    def _write(self, model: type[Message], record: Mapping[str, Any]) -> bytes:
        head, schema = self._writers[model]
        out = io.BytesIO()
        out.write(head)
        schemaless_writer(out, schema, record)
        return out.getvalue()


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

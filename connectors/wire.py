"""Messages of the hot path from plain dicts to bytes: `Codec.encode` without building models.

A test holds it to the codec, byte for byte.
"""

import io
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
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


class Alike:
    """Records of one schema that have most values in common: those are encoded once.

    In Avro a record is its fields one after another, and a `fixed` is its bytes. So fields in a row
    that are the same in all can stand in each as one `fixed`, and fastavro has few to go through.
    """

    def __init__(self, record: Mapping[str, Any], own: frozenset[str]) -> None:
        """`record`: the schema; `own`: fields that differ, and that each record has."""
        self._record = record
        self._runs: list[tuple[str, list[Any]]] = []
        """Names of what is the same, and its fields; or an empty one, and fields that differ."""
        for differ, fields in groupby(record["fields"], lambda field: field["name"] in own):
            self._runs.append(("" if differ else f"same_{len(self._runs)}", list(fields)))
        self._same = {
            name: parse_schema({"type": "record", "name": name, "fields": fields})
            for name, fields in self._runs
            if name
        }

    def same(self, values: Mapping[str, Any]) -> dict[str, bytes]:
        """What each record has beside its own fields."""
        return {name: _written(schema, values) for name, schema in self._same.items()}

    def schema(self, sizes: Iterable[int]) -> dict[str, Any]:
        """Of a record with what `same` gave, which has these sizes."""
        left, fields = iter(sizes), list[Any]()
        for name, differing in self._runs:
            if name:
                fixed = {"type": "fixed", "name": f"{name}_bytes", "size": next(left)}
                fields.append({"name": name, "type": fixed})
            else:
                fields += differing
        return {**self._record, "fields": fields}


ENTRY_FIELDS = {field["name"]: field for field in avro_schema(JournalEntry)["fields"]}
OUTCOMES = Alike(
    avro_schema(RecordOutcome), frozenset({"row_id", "person", "object_id", "position"})
)
NOTES = Alike(
    ENTRY_FIELDS["rows"]["type"]["items"],
    frozenset({"row_id", "event_id", "person", "record_no", "position", "attempts"}),
)


@lru_cache(256)
def _outcome_schema(*sizes: int) -> Any:
    return parse_schema(OUTCOMES.schema(sizes))


@lru_cache(256)
def _entry_schema(*sizes: int) -> Any:
    notes = {"name": "rows", "type": {"type": "array", "items": NOTES.schema(sizes)}}
    fields = list({**ENTRY_FIELDS, "rows": notes}.values())
    return parse_schema({**avro_schema(JournalEntry), "fields": fields})


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

    def outcomes(self, common: Mapping[str, Any]) -> Callable[[str, str, str, int], bytes]:
        """Of many outcomes that differ in `row_id`, `person`, `object_id` and `position` only: what
        writes one from these four. `common`: what else differs from the defaults."""
        same = OUTCOMES.same({**OUTCOME, **common})
        head, schema = self._writers[RecordOutcome][0], _outcome_schema(*map(len, same.values()))

        def write(row_id: str, person: str, object_id: str, position: int) -> bytes:
            own = {"row_id": row_id, "person": person, "object_id": object_id, "position": position}
            return _written(schema, own | same, head)

        return write

    def entry(
        self, kind: JournalKind, notes: Iterable[Mapping[str, Any]],
        common: Mapping[str, Any] | None = None, **others: Any,
    ) -> bytes:  # fmt: skip
        """`notes`: each what differs from the defaults of RowNote; where they have `common`, all
        their ids, numbers and `attempts`, and no more."""
        record = {**ENTRY, "kind": kind.value, **others}
        if common is None:
            rows = [{**NOTE, **note} for note in notes]
            return self._write(JournalEntry, {**record, "rows": rows})
        same = NOTES.same({**NOTE, **common})
        head, schema = self._writers[JournalEntry][0], _entry_schema(*map(len, same.values()))
        return _written(schema, {**record, "rows": [{**same, **note} for note in notes]}, head)

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
        return _written(schema, record, head)


def _written(schema: Any, record: Mapping[str, Any], head: bytes = b"") -> bytes:
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

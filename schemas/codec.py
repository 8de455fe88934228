"""Messages to bytes and back: Avro in the Confluent wire format.

A message is a zero byte, the schema id in four bytes, the Avro body. Any registered version of any
of our messages can be read: the id tells the record's name, the name tells the model.
"""

import contextlib
import io
import json
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from pydantic import ValidationError

from schemas import (
    audiences,
    commands,
    control,
    definitions,
    events,
    handover,
    identity,
    journal,
    outcomes,
    parked,
    runs,
)
from schemas.base import Message

if TYPE_CHECKING:  # 16 MB, for whoever asks the registry and nobody else
    from confluent_kafka.schema_registry import SchemaRegistryClient

__all__ = ["MESSAGES", "Codec", "Undecodable", "avro_schema", "register", "subject"]

M = TypeVar("M", bound=Message)

NAMESPACE = "syncline"
AVSC = Path(__file__).resolve().parent / "avsc"
NOT_FOUND = 404
MESSAGES: tuple[type[Message], ...] = (
    events.PlatformEvent, events.ResolvedRecord,
    identity.AddressAsked, identity.AddressAnswered, identity.LinkClaim,
    identity.ObjectMerged, identity.Join, identity.Moved,
    commands.UploadBatch, commands.FetchPages, commands.ReadObjects, commands.Recall,
    commands.CheckJob, commands.LookUp,
    outcomes.RecordOutcome, outcomes.AccountState,
    journal.JournalEntry, parked.ParkedRecord, parked.Fix,
    control.Act, control.Again, control.Tick,
    handover.Lease, handover.Intent, handover.Learned,
    definitions.Definition,
    runs.RunView,
    audiences.AudiencePart, audiences.AudienceMember,
)  # fmt: skip


class Undecodable(Exception):
    """Bytes that are no message of ours; the text says why, never what they held."""


@cache
def avro_schema(model: type[Message]) -> dict[str, Any]:
    """The Avro record of a message, as `schemas.generate` made it of the model."""
    return json.loads((AVSC / f"{model.__name__}.avsc").read_text(encoding="utf-8"))


def subject(model: type[Message]) -> str:
    """Name in the registry: the record's own, as several kinds may share a topic."""
    return f"{NAMESPACE}.{model.__name__}"


def register(client: "SchemaRegistryClient") -> dict[str, int]:
    """Register all messages with BACKWARD_TRANSITIVE compatibility: subject to schema id.

    A repeat changes nothing, and asks once for each. Raises SchemaRegistryError (409) where a
    change would break readers.
    """
    from confluent_kafka.schema_registry import Schema, SchemaRegistryError

    def one(model: type[Message]) -> tuple[str, int]:
        name = subject(model)
        schema = Schema(json.dumps(avro_schema(model)), "AVRO")
        try:
            found = client.lookup_schema(name, schema, normalize_schemas=True)
        except SchemaRegistryError as error:
            if error.http_status_code != NOT_FOUND:
                raise
        else:
            if found.schema_id is not None:
                return name, found.schema_id
        client.set_compatibility(name, "BACKWARD_TRANSITIVE")
        return name, client.register_schema(name, schema, normalize_schemas=True)

    with ThreadPoolExecutor(8) as pool:  # one after another they take seconds
        return dict(pool.map(one, MESSAGES))


class Codec:
    """Encodes and decodes every message. Asks the registry once per schema.

    >>> codec = Codec.from_registry("http://127.0.0.1:8081")   # doctest: +SKIP
    >>> codec.decode(codec.encode(event)) == event             # doctest: +SKIP
    """

    def __init__(self, ids: Mapping[str, int], lookup: Callable[[int], str] | None = None) -> None:
        """`ids`: subject to id of our own schemas; `lookup`: id to the text of any schema."""
        self._lookup = lookup
        self._own: dict[type[Message], tuple[bytes, Any]] = {}
        self._by_head: dict[bytes, tuple[type[Message], Any, Any]] = {}
        for model in MESSAGES:
            head = struct.pack(">bI", 0, ids[subject(model)])
            parsed = parse_schema(avro_schema(model))
            self._own[model] = head, parsed
            self._by_head[head] = model, parsed, None

    @classmethod
    def from_registry(cls, url: str, *, client: "SchemaRegistryClient | None" = None) -> "Codec":
        """Registers our schemas if they are not there yet. A `client` stays the caller's to close;
        without one no connection is kept: schemas are looked up once in a process's life."""
        from confluent_kafka.schema_registry import SchemaRegistryClient

        def asking() -> "contextlib.AbstractContextManager[SchemaRegistryClient]":
            return contextlib.nullcontext(client) if client else SchemaRegistryClient({"url": url})

        def lookup(schema_id: int) -> str:
            with asking() as registry:
                return registry.get_schema(schema_id).schema_str or ""

        with asking() as registry:
            return cls(register(registry), lookup)

    @classmethod
    def offline(cls) -> "Codec":
        """With made-up ids: for simulations and unit tests, where nobody else reads."""
        return cls({subject(model): n for n, model in enumerate(MESSAGES, 1)})

    def encode(self, message: Message) -> bytes:
        head, schema = self._own[type(message)]
        out = io.BytesIO()
        out.write(head)
        schemaless_writer(out, schema, message.model_dump())
        return out.getvalue()

    def decode(self, data: bytes | None) -> Message:
        """Any of our messages. Raises Undecodable."""
        model, record = self.decode_dict(data)
        try:
            return model.model_validate(record)
        except ValidationError as error:
            raise Undecodable(
                f"not a valid {model.__name__}: {error.error_count()} errors"
            ) from None

    def decode_as(self, model: type[M], data: bytes | None) -> M:
        """A message of one kind. Raises Undecodable, also for another kind."""
        message = self.decode(data)
        if not isinstance(message, model):
            raise Undecodable(f"expected {model.__name__}, found {type(message).__name__}")
        return message

    def decode_dict(self, data: bytes | None) -> tuple[type[Message], dict[str, Any]]:
        """Model and plain values, unvalidated: for hot loops that need a few fields."""
        if data is None or len(data) < 5 or data[0] != 0:
            raise Undecodable("not in the Confluent wire format")
        model, writer, reader = self._by_head.get(data[:5]) or self._learn(data[:5])
        body = io.BytesIO(data)
        body.seek(5)
        try:
            record = schemaless_reader(body, writer, reader)
        except Exception as error:  # noqa: BLE001 - fastavro raises many kinds on malformed input
            raise Undecodable(f"not a {model.__name__}: {type(error).__name__}") from None
        return model, record  # type: ignore[return-value]  # a record schema gives a dict

    def _learn(self, head: bytes) -> tuple[type[Message], Any, Any]:
        schema_id = struct.unpack(">I", head[1:])[0]
        if self._lookup is None:
            raise Undecodable(f"unknown schema id {schema_id}")
        try:
            text = self._lookup(schema_id)
            writer = parse_schema(json.loads(text))
            name = json.loads(text)["name"]
        except Exception as error:  # noqa: BLE001 - the registry said no, or it is not our schema
            raise Undecodable(f"schema id {schema_id}: {type(error).__name__}") from None
        model = next((m for m in MESSAGES if name in (m.__name__, subject(m))), None)
        if model is None:
            raise Undecodable(f"schema id {schema_id} is {name}, which is none of ours")
        self._by_head[head] = model, writer, self._own[model][1]
        return self._by_head[head]

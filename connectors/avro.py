"""A writer of Avro records most of whose fields are the same each time: those are encoded once.

https://avro.apache.org/docs/1.12.0/specification/#binary-encoding. For the messages of which a
worker makes one a row: fastavro goes through all fields of every record, and compares the names of
all of them each time. A property test holds this file to it, byte for byte.
"""

import io
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from fastavro import parse_schema, schemaless_writer

__all__ = ["Writer"]

Encode = Callable[[Any], bytes]


class Writer:
    """Records of one schema, from what differs from its defaults."""

    def __init__(self, schema: Mapping[str, Any], head: bytes = b"") -> None:
        """`schema`: of a record, as JSON. `head`: bytes before each record."""
        self._fields: dict[str, tuple[int, Encode]] = {}
        self._usual: list[Any] = [head]
        for place, field in enumerate(schema["fields"], 1):
            encode = _encoder(field["type"])
            self._fields[field["name"]] = place, encode
            self._usual.append(encode(field["default"]) if "default" in field else None)

    def given(self, record: Mapping[str, Any]) -> "Writer":
        """The same, with these values as further defaults."""
        made = object.__new__(Writer)
        made._fields, made._usual = self._fields, self._parts(record)
        return made

    def write(self, record: Mapping[str, Any]) -> bytes:
        """Raises KeyError for a field that is none, TypeError where one without default is
        missing."""
        return b"".join(self._parts(record))

    def _parts(self, record: Mapping[str, Any]) -> list[Any]:
        parts, fields = self._usual.copy(), self._fields
        for name, value in record.items():
            place, encode = fields[name]
            parts[place] = encode(value)
        return parts


@lru_cache(1024)
def _long(number: int) -> bytes:
    """Zigzag; seven bits a byte, the lowest first, and the last has no eighth."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _bytes(data: bytes) -> bytes:
    return _long(len(data)) + data


def _text(text: str) -> bytes:
    return _bytes(text.encode())


def _encoder(kind: Any) -> Encode:
    match kind:
        case "string":
            return _text
        case "long":
            return _long
        case "bytes":
            return _bytes
        case "boolean":
            return lambda value: b"\1" if value else b"\0"
        case {"type": "enum", "symbols": symbols}:
            return {symbol: _long(place) for place, symbol in enumerate(symbols)}.__getitem__
        case {"type": "array", "items": {"type": "record"} as record}:
            write = Writer(record).write
            return lambda records: _block([write(record) for record in records])
        case _:
            return _rare(kind)


def _block(items: list[bytes]) -> bytes:
    """One block of all, then the empty one that ends an array."""
    return b"".join((_long(len(items)), *items, b"\0")) if items else b"\0"


def _rare(kind: Any) -> Encode:
    schema = parse_schema(kind)

    def encode(value: Any) -> bytes:
        out = io.BytesIO()
        schemaless_writer(out, schema, value)
        return out.getvalue()

    return encode

"""A writer of flat Avro records that are mostly alike: what is the same for many is encoded once.

https://avro.apache.org/docs/1.12.0/specification/#binary-encoding. For the two messages of which a
worker writes one a row. A test holds it to the general codec, byte for byte; types that it does not
know are written by that one (fastavro).
"""

import io
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from fastavro import parse_schema, schemaless_writer

__all__ = ["Writer"]

Encode = Callable[[Any], bytes]
REMEMBERED = 4096


class Writer:
    """Records of one schema, from what differs from their defaults."""

    def __init__(
        self, schema: Mapping[str, Any], defaults: Mapping[str, Any], head: bytes = b""
    ) -> None:
        """`schema`: of a record, as JSON. A field without default must always be given. `head`:
        bytes before each record."""
        self._fields: dict[str, tuple[int, Encode]] = {
            field["name"]: (place, _encoder(field["type"]))
            for place, field in enumerate(schema["fields"], 1)
        }
        self._usual: list[Any] = [head]
        self._usual += (
            encode(defaults[name]) if name in defaults else None
            for name, (_, encode) in self._fields.items()
        )

    def given(self, values: Mapping[str, Any]) -> "Writer":
        """The same, with other defaults."""
        made = object.__new__(Writer)
        made._fields, made._usual = self._fields, self._usual.copy()
        for name, value in values.items():
            place, encode = self._fields[name]
            made._usual[place] = encode(value)
        return made

    def write(self, values: Mapping[str, Any]) -> bytes:
        """Raises KeyError for a field that is none, TypeError where one is missing."""
        parts, fields = self._usual.copy(), self._fields
        for name, value in values.items():
            place, encode = fields[name]
            parts[place] = encode(value)
        return b"".join(parts)


@lru_cache(REMEMBERED)
def _long(value: int) -> bytes:
    left = (value << 1) ^ (value >> 63)
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def _text(value: str) -> bytes:
    data = value.encode()
    return _long(len(data)) + data


def _bytes(value: bytes) -> bytes:
    return _long(len(value)) + value


def _encoder(kind: Any) -> Encode:
    match kind:
        case "string":
            return _text
        case "long" | "int":
            return _long
        case "boolean":
            return lambda value: b"\x01" if value else b"\x00"
        case "bytes":
            return _bytes
        case {"type": "enum", "symbols": symbols}:
            return {symbol: _long(place) for place, symbol in enumerate(symbols)}.__getitem__
        case {"type": "array", "items": {"type": "record"}}:
            return _array
        case _:
            return _general(kind)


def _array(items: list[bytes]) -> bytes:
    """Of records that are encoded already, by a `Writer` of their own."""
    return b"".join((_long(len(items)), *items, b"\x00")) if items else b"\x00"


def _general(kind: Any) -> Encode:
    schema = parse_schema(kind)

    def encode(value: Any) -> bytes:
        out = io.BytesIO()
        schemaless_writer(out, schema, value)
        return out.getvalue()

    return encode

"""The elements of a JSON array as they came, byte for byte: also when one of them is broken.

A decoder gives up on the whole array for half an emoji in one text (an escaped surrogate without
its other half), which cut-off texts do hold. Then a scan of brackets and quotes finds the borders,
so that the broken element can be parked alone.
"""

import re
from contextlib import suppress
from typing import Annotated

import msgspec

__all__ = ["UNDECODABLE", "Elements", "member"]

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON, or too deep."""

# Possessive quantifiers: no input makes the scan go back and try again.
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_name = msgspec.json.Decoder(str).decode


def member(text: bytes, name: str) -> bytes | None:
    """The value of one key of a JSON object as it came, also where another value is broken; None:
    no object, or no such key. Of a key that comes twice the last counts."""
    try:
        found = _members(text).get(name)
        return None if found is None else bytes(found)
    except msgspec.ValidationError:
        return None
    except UNDECODABLE:
        return _scanned(text.strip(), name)


def _scanned(text: bytes, name: str) -> bytes | None:
    if not (text.startswith(b"{") and text.endswith(b"}")):
        return None
    value: bytes | None = None
    key: str | None = None
    depth, start = 0, 1
    for token in TOKEN.finditer(text):
        mark = token[0]
        if depth == 1 and mark in (b",", b"}"):
            if key == name:
                value = text[start : token.start()].strip()
            key = None
        elif depth == 1 and key is None and len(mark) > 1:
            with suppress(*UNDECODABLE):
                key = _name(mark)
            start = text.find(b":", token.end()) + 1
        if mark in (b"[", b"{"):
            depth += 1
        elif mark in (b"]", b"}"):
            depth -= 1
            if depth == 0 and token.end() != len(text):
                return None
        elif mark == b'"':
            return None  # a text without end
    return value if depth == 0 else None


class Elements:
    """Splits arrays of at most `count_max` elements."""

    def __init__(self, count_max: int) -> None:
        bounded = Annotated[list[msgspec.Raw], msgspec.Meta(max_length=count_max)]
        self._decode = msgspec.json.Decoder(bounded).decode
        self._count_max = count_max

    def split(self, body: bytes) -> list[bytes] | None:
        """Each element without the space around it; None: no array, or too many elements."""
        try:
            return [bytes(raw) for raw in self._decode(body)]
        except msgspec.ValidationError:
            return None
        except UNDECODABLE:
            return self._scan(body.strip())

    def _scan(self, body: bytes) -> list[bytes] | None:
        if not (body.startswith(b"[") and body.endswith(b"]")):
            return None
        elements: list[bytes] = []
        depth, start = 0, 1
        for token in TOKEN.finditer(body):
            match token[0]:
                case b"[" | b"{":
                    depth += 1
                case b"]" | b"}":
                    depth -= 1
                    if depth == 0:
                        if token.end() != len(body):
                            return None
                        elements.append(body[start : token.start()].strip())
                case b"," if depth == 1:
                    elements.append(body[start : token.start()].strip())
                    start = token.end()
                case b'"':
                    return None  # a text without end
                case _:
                    pass
            if len(elements) > self._count_max:
                return None
        return elements if depth == 0 else None

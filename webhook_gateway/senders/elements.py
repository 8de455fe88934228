"""The elements of a JSON array as they came, byte for byte: also when one of them is broken.

A decoder gives up on the whole array for half an emoji in one text (an escaped surrogate without
its other half), which cut-off texts do hold. Then a scan of brackets and quotes finds the borders,
so that the broken element can be parked alone.
"""

import re
from typing import Annotated

import msgspec

__all__ = ["UNDECODABLE", "Elements"]

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON, or too deep."""

# Possessive quantifiers: no input makes the scan go back and try again.
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)


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

"""Bodies of `application/x-www-form-urlencoded`, with brackets for what lies inside of what."""

import binascii
import re
from urllib.parse import unquote_to_bytes

__all__ = ["FIELDS_MAX", "ODD_ESCAPES_MAX", "fields", "named"]

FIELDS_MAX = 5_000
"""A body with more is refused as a whole; an audience's member has some hundreds at most."""

ODD_ESCAPES_MAX = 10_000
"""Percent signs of a value, some of which mean nothing: no platform writes such."""

# `data[merges][FNAME]`; brackets inside a name are not opened again.
INSIDE = re.compile(r"\[([^\[\]]*)\]")


def fields(body: bytes) -> list[tuple[str, bytes]] | None:
    """Names and values in their order, decoded once, blank values kept; None: it is no form.

    A value is the bytes that were meant: what a signature was made over, whether text or not.
    """
    if body.count(b"&") >= FIELDS_MAX:
        return None
    pairs: list[tuple[str, bytes]] = []
    for field in filter(None, body.split(b"&")):
        name, _, value = field.partition(b"=")
        decoded = _decoded(name), _decoded(value)
        if decoded[0] is None or decoded[1] is None:
            return None
        pairs.append((_text(decoded[0]), decoded[1]))
    return pairs or None


def _decoded(data: bytes) -> bytes | None:
    """Percent signs and pluses decoded once; what is no hexadecimal number stays as it is, in a
    small value, and makes a large one None.

    A mail in a form is megabytes of percent signs, and is decoded before anybody has proven
    anything: quoted-printable is the same code with another sign, and decoded in C, twenty times as
    fast. Every good escape makes three bytes one, so the length tells whether all were good.
    """
    data = data.replace(b"+", b" ")
    count = data.count(b"%")
    if count == 0:
        return data
    if b"\n" not in data and b"\r" not in data:  # a line break means something there
        quick = binascii.a2b_qp(data.replace(b"=", b"=3D").replace(b"%", b"="))
        if len(quick) == len(data) - 2 * count:
            return quick
    return unquote_to_bytes(data) if count <= ODD_ESCAPES_MAX else None


def named(pairs: list[tuple[str, bytes]]) -> dict[str, str]:
    """`data[merges][FNAME]` becomes `data.merges.FNAME`; of two equal names the last one counts,
    but `tags[]` is counted on: `tags.0`, `tags.1`."""
    found: dict[str, str] = {}
    counted: dict[str, int] = {}
    for name, value in pairs:
        flat = INSIDE.sub(r".\1", name)
        if flat.endswith("."):
            number = counted[flat] = counted.get(flat, -1) + 1
            flat += str(number)
        found[flat] = _text(value)
    return found


def _text(data: bytes) -> str:
    """Bytes that are no UTF-8 are shown as such: the body beside it has them as they came."""
    return data.decode("utf-8", "replace")

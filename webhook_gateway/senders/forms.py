"""Bodies of `application/x-www-form-urlencoded`, with brackets for what lies inside of what."""

import re
from urllib.parse import parse_qsl

__all__ = ["FIELDS_MAX", "fields", "named"]

FIELDS_MAX = 5_000
"""A body with more is refused as a whole; an audience's member has some hundreds at most."""

# `data[merges][FNAME]`; brackets inside a name are not opened again.
INSIDE = re.compile(r"\[([^\[\]]*)\]")


def fields(body: bytes) -> list[tuple[str, bytes]] | None:
    """Names and values in their order, decoded once, blank values kept; None: it is no form.

    A value is the bytes that were meant: what a signature was made over, whether text or not.
    """
    try:
        pairs = parse_qsl(
            body.decode("latin-1"),  # byte for byte, there and back again
            keep_blank_values=True,
            encoding="latin-1",
            max_num_fields=FIELDS_MAX,
        )
    except ValueError:
        return None
    return [(_text(n.encode("latin-1")), v.encode("latin-1")) for n, v in pairs] or None


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

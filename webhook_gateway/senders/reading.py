"""Reading what senders write: numbers that may be texts, times in many forms, paths into a body."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import msgspec

from webhook_gateway.senders.base import source_time

__all__ = ["canonical", "find", "json_bytes", "milliseconds", "moment", "text", "when"]

canonical = msgspec.json.Encoder(order="sorted").encode
"""The same bytes for the same content, whatever the order of its keys."""
json_bytes = msgspec.json.Encoder().encode

TIME_CHARACTERS_MAX = 64
NUMBER = re.compile(r"\d{1,17}(\.\d{1,12})?", re.ASCII)
BLANK_BEFORE_ZONE = re.compile(r" +(?=(?:[+-]\d\d:?\d\d|Z|UTC)$)", re.ASCII)

# Where a number stands tells its unit: as seconds the first is in the year 5138, as milliseconds in
# 1973; the next ones likewise for microseconds.
MS_MIN, US_MIN, US_MAX = 10**11, 10**14, 10**17


def text(value: Any) -> str:
    """A number and the same number in quotes are one id; what is neither is as if not there."""
    if type(value) is int:  # not bool
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else ""


def find(fields: Any, path: str) -> Any:
    """`a.b.0.c`: through objects by key, lists by position; None where there is nothing.

    A key that is the whole path, dots included, comes first: the fields of a form have such names.
    """
    if not path:
        return fields
    if isinstance(fields, Mapping) and path in fields:
        return fields[path]
    at = fields
    for word in path.split("."):
        if isinstance(at, Mapping):
            at = at.get(word)
        elif isinstance(at, list) and word.isascii() and word.isdigit() and int(word) < len(at):
            at = at[int(word)]
        else:
            return None
    return at


def moment(value: Any) -> tuple[int, bool] | None:
    """A time in any form -> (Unix ms, is it exact); None: it is no time.

    Numbers are Unix seconds, milliseconds or microseconds, by their size, also as text. Texts are
    ISO 8601, loosely, or as in HTTP headers. Without a zone: UTC, and not certain; a day alone is
    not certain either.
    """
    if isinstance(value, str):
        value = value.strip()
        if len(value) > TIME_CHARACTERS_MAX:
            return None
        if not NUMBER.fullmatch(value):
            return _written(value)
        value = float(value) if "." in value else int(value)
    if type(value) not in (int, float) or not 0 < value < US_MAX:
        return None
    if value < MS_MIN:
        return round(value * 1000), True
    return int(value if value < US_MIN else value // 1000), True


def milliseconds(value: Any) -> int | None:
    """Unix milliseconds of `moment`."""
    found = moment(value)
    return found[0] if found else None


def when(value: Any, received_ms: int) -> tuple[int, bool]:
    """The source's time -> (Unix ms, is it certain); no time, or an impossible one: the receipt."""
    found = moment(value)
    occurred_ms, certain = source_time(found[0] if found else None, received_ms)
    return occurred_ms, certain and found is not None and found[1]


@lru_cache(maxsize=1024)  # the events of one request often have one time, and are read one by one
def _written(value: str) -> tuple[int, bool] | None:
    try:
        plain = BLANK_BEFORE_ZONE.sub("", value) if " " in value else value
        parsed = datetime.fromisoformat(plain.removesuffix("UTC"))
        exact = len(value) > len("2026-01-31")
        zoned = parsed.tzinfo is not None or value.endswith("UTC")
    except ValueError:
        try:
            parsed = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        exact, zoned = True, parsed.tzinfo is not None
    try:
        seconds = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return round(seconds * 1000), exact and zoned

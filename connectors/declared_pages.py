"""Answers to reads of a described platform: their records, and where the next page begins. Pure."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from connectors.base import PlatformError
from connectors.declared_forms import MISSING, as_text, look
from connectors.declared_model import Cursor, Read

__all__ = ["entries", "following"]


def entries(answer: Any, read: Read) -> list[Any]:
    """The records of an answer. Raises PlatformError where a 2xx has no such list."""
    found = look(answer, read.records)
    if answer is not None and found is MISSING and not read.optional:
        raise PlatformError(200, answer)
    if found is MISSING or found is None:
        return []
    if read.map and isinstance(found, dict):
        return [{"name": name, "value": value} for name, value in found.items()]
    several = found if isinstance(found, list) else [found]
    return [look(one, read.item) for one in several] if read.item != "." else several


def following(
    cursor: Cursor | None, answer: Any, records: list[Any], limit: int, before: str
) -> tuple[str, bool]:
    """(where the next page begins, whether this one is the last)."""
    if cursor is None:
        return "", True
    if cursor.last:
        newest = as_text(look(records[-1], cursor.last)) if records else before
        return newest, len(records) < limit
    after = as_text(look(answer, cursor.next))
    if cursor.parameter and after:
        after = parse_qs(urlsplit(after).query).get(cursor.parameter, [""])[0]
    return after, not after

"""Functions on times, which are text: RFC 3339, or a bare date `2026-01-31` that has no zone.

Unix milliseconds are taken too, as a number or as text of 11 to 14 digits: HubSpot's webhooks send
them. Time zones come from the package `tzdata`, not from the machine.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from typing import Any
from zoneinfo import ZoneInfo

from mappings.cel.operations import kind
from mappings.errors import EvaluationError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOKENS = {  # token -> part of a time, digits
    "YYYY": ("year", 4), "MM": ("month", 2), "DD": ("day", 2), "HH": ("hour", 2),
    "mm": ("minute", 2), "ss": ("second", 2),
}  # fmt: skip
_PATTERN = re.compile("YYYY|MM|DD|HH|mm|ss|[A-Za-z]+|[^A-Za-z]+")
PATTERN_MAX = 40


@cache
def _zones() -> frozenset[str]:
    return frozenset(resources.files("tzdata").joinpath("zones").read_text().split())


@cache
def _zone(name: str) -> ZoneInfo:
    """Raises ValueError."""
    if name not in _zones():
        raise ValueError("there is no such time zone; take a name like Europe/Berlin")
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def _parts(pattern: str) -> list[str]:
    """Tokens and what stands between them. Raises ValueError."""
    parts = _PATTERN.findall(pattern)
    unknown = [p for p in parts if p[0].isalpha() and p not in _TOKENS]
    if unknown or len(pattern) > PATTERN_MAX or not any(p in _TOKENS for p in parts):
        raise ValueError("the pattern is made of YYYY MM DD HH mm ss and marks between them")
    return parts


def _moment(name: str, value: Any) -> tuple[datetime, bool] | None:
    """-> (time, whether it is a bare date); null and blank are null."""
    try:
        if value.__class__ is str:
            text = value.strip()
            if not text:
                return None
            if text.isascii() and text.isdigit() and 11 <= len(text) <= 14:
                return _EPOCH + timedelta(milliseconds=int(text)), False
            at = datetime.fromisoformat(text)
            return (at if at.tzinfo else at.replace(tzinfo=UTC)), len(text) == 10
        if value.__class__ is int:
            return _EPOCH + timedelta(milliseconds=value), False
    except (ValueError, OverflowError):
        raise EvaluationError("is no time") from None
    if value is None:
        return None
    raise EvaluationError(f"{name} needs a time as text, not {kind(value)}")


def _braces_twice(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def bind_date_format(pattern: str, zone: str = "UTC") -> Callable[[Any], str | None]:
    """A time in a pattern such as `MM/DD/YYYY` and a zone; a bare date is the same everywhere."""
    there = _zone(zone)
    template = "".join(
        f"{{{_TOKENS[p][0]}:0{_TOKENS[p][1]}d}}" if p in _TOKENS else _braces_twice(p)
        for p in _parts(pattern)
    )

    def date_format(time: Any) -> str | None:
        found = _moment("date_format", time)
        if found is None:
            return None
        at, bare = found
        try:
            at = at if bare else at.astimezone(there)
        except OverflowError:
            raise EvaluationError("is no time") from None
        return template.format(
            year=at.year, month=at.month, day=at.day,
            hour=at.hour, minute=at.minute, second=at.second,
        )  # fmt: skip

    return date_format


def bind_date_parse(pattern: str, zone: str = "UTC") -> Callable[[Any], str | None]:
    """Text in a pattern to RFC 3339 in UTC; to a bare date where the pattern has no HH."""
    there, parts = _zone(zone), _parts(pattern)
    named = [p for p in parts if p in _TOKENS]
    if len(set(named)) < len(named) or not {"YYYY", "MM", "DD"} <= set(named):
        raise ValueError("the pattern needs YYYY, MM and DD, each once")
    read = re.compile(
        "".join(
            rf"(?P<{_TOKENS[p][0]}>[0-9]{{{_TOKENS[p][1]}}})" if p in _TOKENS else re.escape(p)
            for p in parts
        )
    )
    dates_only = "HH" not in named

    def date_parse(text: Any) -> str | None:
        if text is None:
            return None
        if text.__class__ is not str:
            raise EvaluationError(f"date_parse needs text, not {kind(text)}")
        text = text.strip()
        if not text:
            return None
        found = read.fullmatch(text)
        if found is None:
            raise EvaluationError(f"is not written as {pattern}")
        numbers = {name: int(digits) for name, digits in found.groupdict().items()}
        try:
            at = datetime(**numbers, tzinfo=there)
            at = at if dates_only else at.astimezone(UTC)
        except (ValueError, OverflowError):
            raise EvaluationError("is no time") from None
        if dates_only:
            return at.date().isoformat()
        return at.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"

    return date_parse


def _since_1970(name: str, value: Any, unit: timedelta) -> int | None:
    found = _moment(name, value)
    return None if found is None else (found[0] - _EPOCH) // unit


def to_seconds(time: Any) -> int | None:
    """Since 1970, UTC."""
    return _since_1970("to_seconds", time, timedelta(seconds=1))


def to_millis(time: Any) -> int | None:
    """Since 1970, UTC."""
    return _since_1970("to_millis", time, timedelta(milliseconds=1))


def to_micros(time: Any) -> int | None:
    """Since 1970, UTC."""
    return _since_1970("to_micros", time, timedelta(microseconds=1))

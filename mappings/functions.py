"""The functions that expressions may call: pure, null in gives null out, bounded.

`VERSION` goes into the lineage: `phonenumbers`, `pycountry` and the time zone tables change results
between their releases.
"""

# pyright: basic, reportMissingTypeStubs=false
# The libraries used here have no types.

import ast
import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
import pycountry
import re2

from mappings.cel import LIST_ITEMS_MAX, TEXT_MAX, FunctionLike
from mappings.errors import EvaluationError

__all__ = ["FUNCTIONS", "VERSION", "empty"]

VERSION = "1+" + "+".join(
    importlib.metadata.version(name) for name in ("phonenumbers", "pycountry", "tzdata")
)
PATTERN_MAX = 200


def empty(value: Any) -> bool:
    """True for null, "", blanks and []."""
    return value is None or (isinstance(value, str) and not value.strip()) or value == []


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise EvaluationError(f"{name} needs text")


def _on_text(function: Callable[..., Any]) -> Callable[..., Any]:
    """Null in, null out; anything but text as first argument is an error."""
    name = function.__name__.strip("_")

    def guarded(value: Any, *more: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, str):
            raise EvaluationError(f"{name} needs text")
        return function(value, *more)

    return guarded


def coalesce(*values: Any) -> Any:
    """The first that is not empty."""
    return next((v for v in values if not empty(v)), None)


@_on_text
def lower(value: str) -> str:
    return value.lower()


@_on_text
def upper(value: str) -> str:
    return value.upper()


@_on_text
def trim(value: str) -> str:
    return value.strip()


@_on_text
def title(value: str) -> str:
    """Capitals at the beginning of words that have none: McDonald and van der Berg stay as typed.

    A text that is all capitals or all small is taken as careless typing. A letter after one
    letter and an apostrophe begins a word too: O'Neil.
    """
    if not (value.islower() or value.isupper()):
        return value
    out: list[str] = []
    word = 0  # letters since the word began
    for letter in value.lower():
        if letter.isalnum():
            out.append(letter if word else letter.upper())
            word += 1
        else:
            out.append(letter)
            if letter not in "'\u2019" or word == 1:
                word = 0
    return "".join(out)


@_on_text
def truncate(value: str, length: Any) -> str:
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise EvaluationError("truncate needs a length")
    return value[:length]


@_on_text
def replace(value: str, old: Any, new: Any) -> str:
    result = value.replace(_text("replace", old), _text("replace", new))
    if len(result) > TEXT_MAX:
        raise EvaluationError(f"text longer than {TEXT_MAX}")
    return result


@_on_text
def split(value: str, separator: Any) -> list[str]:
    parts = value.split(_text("split", separator) or None)
    if len(parts) > LIST_ITEMS_MAX:
        raise EvaluationError(f"list longer than {LIST_ITEMS_MAX}")
    return parts


def join(items: Any, separator: Any) -> Any:
    if items is None:
        return None
    if not isinstance(items, list):
        raise EvaluationError("join needs a list")
    listed: list[Any] = items
    result = _text("join", separator).join(_text("join", item) for item in listed)
    if len(result) > TEXT_MAX:
        raise EvaluationError(f"text longer than {TEXT_MAX}")
    return result


def contains(value: Any, part: Any) -> Any:
    if value is None:
        return None
    return _text("contains", part) in _text("contains", value)


@_on_text
def starts_with(value: str, start: Any) -> bool:
    return value.startswith(_text("starts_with", start))


@_on_text
def ends_with(value: str, end: Any) -> bool:
    return value.endswith(_text("ends_with", end))


@lru_cache(1024)
def _pattern(pattern: str) -> Any:
    return re2.compile(pattern)


@_on_text
def matches(value: str, pattern: str) -> bool:
    return _pattern(pattern).search(value) is not None


@_on_text
def regex_extract(value: str, pattern: str) -> str | None:
    """The first group, or the whole match where the pattern has none."""
    found = _pattern(pattern).search(value)
    return None if found is None else found.group(1 if found.re.groups else 0)


@_on_text
def regex_replace(value: str, pattern: str, new: Any) -> str:
    result = _pattern(pattern).sub(_text("regex_replace", new), value)
    if len(result) > TEXT_MAX:
        raise EvaluationError(f"text longer than {TEXT_MAX}")
    return result


def split_name(value: Any, part: Any) -> Any:
    """`first`: all but the last word; `last`: the last word."""
    if empty(value):
        return None
    words = _text("split_name", value).split()
    if part == "first":
        return " ".join(words[:-1]) or None
    if part == "last":
        return words[-1]
    raise EvaluationError('split_name needs "first" or "last"')


@_on_text
def email_normalise(value: str) -> str | None:
    return value.strip().lower() or None


@_on_text
def email_domain(value: str) -> str | None:
    return value.strip().lower().rpartition("@")[2] or None if "@" in value else None


@lru_cache(65_536)
def _phone(text: str, region: str) -> str:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        raise EvaluationError("is no telephone number") from None
    if not phonenumbers.is_valid_number(number):
        raise EvaluationError("is no valid telephone number of that country")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def phone_e164(value: Any, country: Any) -> Any:
    """`+49301234567`. A number without `+` needs the country, by code or name."""
    if empty(value):
        return None
    text = _text("phone_e164", value).strip()
    region = None if empty(country) else _country(_text("phone_e164", country).strip())
    if region is None and not text.startswith("+"):
        raise EvaluationError("needs a country, as the number has no +")
    return _phone(text, region or "ZZ")


@lru_cache(4_096)
def _country(text: str) -> str | None:
    try:
        return str(pycountry.countries.lookup(text).alpha_2)
    except LookupError:
        return None


def country_code(value: Any) -> Any:
    """ISO 3166 alpha-2 of a code or an English name; an unknown one is an error."""
    if empty(value):
        return None
    code = _country(_text("country_code", value).strip())
    if code is None:
        raise EvaluationError("is no country")
    return code


def country_name(value: Any) -> Any:
    code = country_code(value)
    return None if code is None else str(pycountry.countries.lookup(code).name)


def to_int(value: Any) -> Any:
    """Of text or a number; a fraction is an error, not cut off."""
    number = _decimal("to_int", value)
    if number is None:
        return None
    if number != number.to_integral_value() or abs(number) >= 2**63:
        raise EvaluationError("is no whole number")
    return int(number)


def to_number(value: Any) -> Any:
    number = _decimal("to_number", value)
    return None if number is None else float(number)


def _decimal(name: str, value: Any) -> Decimal | None:
    if empty(value):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise EvaluationError(f"{name} needs text or a number")
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise EvaluationError("is no number") from None
    if not number.is_finite():
        raise EvaluationError("is no number")
    return number


def to_bool(value: Any) -> Any:
    if empty(value) or isinstance(value, bool):
        return None if empty(value) else value
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    found = known.get(str(value).strip().lower())
    if found is None:
        raise EvaluationError("is neither true nor false")
    return found


_DATE_PARTS = (
    ("YYYY", "%Y"), ("MM", "%m"), ("DD", "%d"), ("HH", "%H"), ("mm", "%M"), ("ss", "%S"),
)  # fmt: skip


@lru_cache(1024)
def _format(pattern: str) -> str:
    out = pattern.replace("%", "%%")
    for ours, theirs in _DATE_PARTS:
        out = out.replace(ours, theirs)
    return out


@lru_cache(256)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise EvaluationError("there is no such time zone") from None


def _time(name: str, value: Any) -> datetime | None:
    """RFC 3339 text, a bare date, or Unix milliseconds."""
    if empty(value):
        return None
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value.strip())
            return at if at.tzinfo else at.replace(tzinfo=UTC)
        if isinstance(value, int) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise EvaluationError("is no time") from None
    raise EvaluationError(f"{name} needs a time")


def date_format(value: Any, pattern: Any, zone: Any = "UTC") -> Any:
    """`MM/DD/YYYY` and the like, in a time zone."""
    at = _time("date_format", value)
    if at is None:
        return None
    return at.astimezone(_zone(_text("date_format", zone))).strftime(_format(_text("", pattern)))


def date_parse(value: Any, pattern: Any, zone: Any = "UTC") -> Any:
    """Text in a pattern to RFC 3339, UTC."""
    if empty(value):
        return None
    try:
        at = datetime.strptime(_text("date_parse", value).strip(), _format(_text("", pattern)))
    except ValueError:
        raise EvaluationError("is not in that pattern") from None
    at = at.replace(tzinfo=_zone(_text("date_parse", zone))).astimezone(UTC)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _since_epoch(name: str, value: Any, per_s: int) -> Any:
    at = _time(name, value)
    if at is None:
        return None
    whole = at - datetime.fromtimestamp(0, UTC)
    return (whole.days * 86_400 + whole.seconds) * per_s + whole.microseconds * per_s // 1_000_000


def to_seconds(value: Any) -> Any:
    return _since_epoch("to_seconds", value, 1)


def to_millis(value: Any) -> Any:
    return _since_epoch("to_millis", value, 1_000)


def to_micros(value: Any) -> Any:
    return _since_epoch("to_micros", value, 1_000_000)


@_on_text
def sha256(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def lookup(table: Mapping[str, Any], key: Any) -> Any:
    """What a table says; `*` is otherwise. Null in, null out."""
    if empty(key):
        return None
    return table.get(key if isinstance(key, str) else str(key), table.get("*"))


def round_(value: Any, digits: Any = 0) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EvaluationError("round needs a number")
    return round(value, digits)


def abs_(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EvaluationError("abs needs a number")
    return abs(value)


def size(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str | list):
        raise EvaluationError("size needs text or a list")
    return len(value)  # pyright: ignore[reportUnknownArgumentType]


def string(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise EvaluationError("string needs a plain value")


def _literal_pattern(arguments: list[ast.expr]) -> str | None:
    """Only patterns written in the document: compiled when it is loaded, and in linear time."""
    pattern = arguments[1]
    if not isinstance(pattern, ast.Constant) or not isinstance(pattern.value, str):
        return "the pattern must be written out"
    if len(pattern.value) > PATTERN_MAX:
        return f"the pattern is longer than {PATTERN_MAX} characters"
    try:
        _pattern(pattern.value)
    except re2.error:
        return "the pattern is no regular expression (RE2)"
    return None


def _literal_table(arguments: list[ast.expr]) -> str | None:
    table = arguments[0]
    written = isinstance(table, ast.Constant) and isinstance(table.value, str)
    return None if written else "the table's name must be written out"


def _of(call: Callable[..., Any], low: int, high: int | None = None) -> FunctionLike:
    return FunctionLike(call, (low, low if high is None else high))


FUNCTIONS: dict[str, FunctionLike] = {
    "empty": _of(empty, 1),
    "coalesce": _of(coalesce, 1, 20),
    "lower": _of(lower, 1),
    "upper": _of(upper, 1),
    "trim": _of(trim, 1),
    "title": _of(title, 1),
    "truncate": _of(truncate, 2),
    "replace": _of(replace, 3),
    "split": _of(split, 2),
    "join": _of(join, 2),
    "contains": _of(contains, 2),
    "starts_with": _of(starts_with, 2),
    "startsWith": _of(starts_with, 2),
    "ends_with": _of(ends_with, 2),
    "endsWith": _of(ends_with, 2),
    "matches": FunctionLike(matches, (2, 2), _literal_pattern),
    "regex_extract": FunctionLike(regex_extract, (2, 2), _literal_pattern),
    "regex_replace": FunctionLike(regex_replace, (3, 3), _literal_pattern),
    "split_name": _of(split_name, 2),
    "email_normalise": _of(email_normalise, 1),
    "email_domain": _of(email_domain, 1),
    "phone_e164": _of(phone_e164, 2),
    "country_code": _of(country_code, 1),
    "country_name": _of(country_name, 1),
    "to_int": _of(to_int, 1),
    "to_number": _of(to_number, 1),
    "to_bool": _of(to_bool, 1),
    "date_format": _of(date_format, 2, 3),
    "date_parse": _of(date_parse, 2, 3),
    "to_seconds": _of(to_seconds, 1),
    "to_millis": _of(to_millis, 1),
    "to_micros": _of(to_micros, 1),
    "sha256": _of(sha256, 1),
    "lookup": FunctionLike(lookup, (2, 2), _literal_table),
    "round": _of(round_, 1, 2),
    "abs": _of(abs_, 1),
    "size": _of(size, 1),
    "string": _of(string, 1),
}

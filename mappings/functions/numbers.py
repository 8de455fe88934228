"""Functions on numbers, and from text to them."""

import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from mappings.cel.operations import kind, whole
from mappings.errors import EvaluationError
from mappings.functions.text import null_or_refused

_TRUE = frozenset({"true", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "no", "n", "off", "0"})
DIGITS_MAX = 40


def _plain(text: str) -> str:
    """Raises EvaluationError for what Python would read as a number and nobody else."""
    if not text.isascii() or "_" in text or len(text) > DIGITS_MAX:
        raise EvaluationError("is no number")
    return text


def to_int(value: Any) -> int | None:
    """Of text or a number; a fraction is an error, blank is null."""
    if value.__class__ is int:
        return whole(value)
    if value.__class__ is str:
        text = value.strip()
        if not text:
            return None
        try:
            return whole(int(_plain(text)))
        except ValueError:
            value = _fraction(text)
    if value.__class__ is not float:
        return null_or_refused("to_int", value, "text or a number")
    if not value.is_integer():
        raise EvaluationError("is no whole number")
    return whole(int(value))


def to_number(value: Any) -> float | None:
    """Of text or a number; blank is null. For comparing: money stays text."""
    if value.__class__ is str:
        text = value.strip()
        return _fraction(text) if text else None
    if value.__class__ in (int, float):
        return _finite(float(value))
    return null_or_refused("to_number", value, "text or a number")


def _fraction(text: str) -> float:
    try:
        return _finite(float(_plain(text)))
    except ValueError:
        raise EvaluationError("is no number") from None


def _finite(value: float) -> float:
    if math.isfinite(value):
        return value
    raise EvaluationError("is no number")


def to_bool(value: Any) -> bool | None:
    """Of true, yes, y, on, 1 and false, no, n, off, 0 in any case; blank is null."""
    if value is None or value is True or value is False:
        return value
    if value.__class__ not in (str, int):
        return null_or_refused("to_bool", value)
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if not text:
        return None
    raise EvaluationError("is neither true nor false")


def bind_round(digits: int | None = None) -> Callable[[Any], float | None]:
    """Halves away from zero: a whole number, or one with at most `digits` after the point."""
    if digits is not None and not 0 <= digits <= 15:
        raise ValueError("digits must be from 0 to 15")
    step = Decimal(1).scaleb(-(digits or 0))

    def round_(value: Any) -> float | None:
        if value.__class__ is int:
            return value
        if value.__class__ is not float:
            return null_or_refused("round", value, "a number")
        _finite(value)
        if abs(value) < 2**53:  # above, a float has no fraction
            value = float(Decimal(repr(value)).quantize(step, ROUND_HALF_UP))
        return whole(int(value)) if digits is None else value

    return round_


def abs_(value: Any) -> float | None:
    """Without its sign."""
    if value.__class__ is int:
        return whole(abs(value))
    if value.__class__ is float:
        return abs(value)
    return null_or_refused("abs", value, "a number")


def int_(value: Any) -> int | None:
    """CEL's own: a fraction is cut off, text must be a whole number, blank is an error."""
    if value.__class__ is str:
        try:
            return whole(int(_plain(value)))
        except ValueError:
            raise EvaluationError("is no whole number") from None
    if value.__class__ is float:
        return whole(int(_finite(value)))
    return value if value.__class__ is int else null_or_refused("int", value, "text or a number")


def double(value: Any) -> float | None:
    """CEL's own: a whole number, or text, as one with a fraction."""
    if value.__class__ is str:
        return _fraction(value)
    if value.__class__ in (int, float):
        return float(value)
    if value is True or value is False:
        raise EvaluationError(f"double cannot be used on {kind(value)}")
    return null_or_refused("double", value, "text or a number")

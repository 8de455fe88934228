"""What CEL's operators and list macros do with JSON values. Errors name kinds, never values.

Whole numbers are 64 bits and never mix with fractions in arithmetic, only in comparisons. `&&`,
`||`, `all` and `exists` swallow an error where another term decides, as CEL has it.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

from mappings.errors import EvaluationError

__all__ = ["LIST_ITEMS_MAX", "OPERATIONS", "TEXT_MAX", "bounded_text", "kind", "whole"]

LIST_ITEMS_MAX = 1_000
TEXT_MAX = 64 * 1024
INT_MAX, INT_MIN = 2**63 - 1, -(2**63)

_KINDS = {
    type(None): "null", bool: "true or false", str: "text", int: "a whole number",
    float: "a number", list: "a list", dict: "an object",
}  # fmt: skip
_ORDERED = frozenset({str, int, float, bool})
_NUMBERS = frozenset({int, float})


def kind(value: Any) -> str:
    """In words, for errors."""
    return _KINDS.get(value.__class__, "an object")


def _refuse(sign: str, *values: Any) -> EvaluationError:
    return EvaluationError(f"{sign} cannot be used on {' and '.join(map(kind, values))}")


def bounded_text(text: str) -> str:
    """Raises EvaluationError for a text over `TEXT_MAX` characters."""
    if len(text) > TEXT_MAX:
        raise EvaluationError(f"makes a text longer than {TEXT_MAX} characters")
    return text


def whole(value: int) -> int:
    """Raises EvaluationError for what 64 bits cannot hold."""
    if INT_MIN <= value <= INT_MAX:
        return value
    raise EvaluationError("the number does not fit into 64 bits")


def truth(value: Any) -> bool:
    if value is True or value is False:
        return value
    raise EvaluationError(f"a condition must be true or false, not {kind(value)}")


def negate(value: Any) -> bool:
    if value is True or value is False:
        return not value
    raise _refuse("!", value)


def eq(a: Any, b: Any) -> bool:
    """Deep. Values of other kinds are unequal, whole and other numbers of one value are equal."""
    left, right = a.__class__, b.__class__
    if left is not right:
        return left in _NUMBERS and right in _NUMBERS and a == b
    if left is list:
        return len(a) == len(b) and all(map(eq, a, b))
    if left is dict:
        return a.keys() == b.keys() and all(eq(value, b[key]) for key, value in a.items())
    return a == b


def ne(a: Any, b: Any) -> bool:
    return not eq(a, b)


def _comparable(sign: str, a: Any, b: Any) -> None:
    left, right = a.__class__, b.__class__
    if not (left is right and left in _ORDERED) and not (left in _NUMBERS and right in _NUMBERS):
        raise _refuse(sign, a, b)


def lt(a: Any, b: Any) -> bool:
    _comparable("<", a, b)
    return a < b


def le(a: Any, b: Any) -> bool:
    _comparable("<=", a, b)
    return a <= b


def gt(a: Any, b: Any) -> bool:
    _comparable(">", a, b)
    return a > b


def ge(a: Any, b: Any) -> bool:
    _comparable(">=", a, b)
    return a >= b


def contained(item: Any, items: Any) -> bool:
    if items.__class__ is list:
        return any(eq(item, other) for other in items)
    if items.__class__ is dict and item.__class__ is str:
        return item in items
    raise _refuse("in", item, items)


def add(a: Any, b: Any) -> Any:
    left = a.__class__
    if left is b.__class__:
        if left is str:
            return bounded_text(a + b)
        if left is list:
            return _bounded(a + b)
        if left is int:
            return whole(a + b)
        if left is float:
            return a + b
    raise _refuse("+", a, b)


def _numbers(sign: str, a: Any, b: Any) -> bool:
    """Whether both are whole. CEL mixes no kinds of number in arithmetic."""
    if a.__class__ is b.__class__ and a.__class__ in _NUMBERS:
        return a.__class__ is int
    raise _refuse(sign, a, b)


def sub(a: Any, b: Any) -> Any:
    return whole(a - b) if _numbers("-", a, b) else a - b


def mul(a: Any, b: Any) -> Any:
    return whole(a * b) if _numbers("*", a, b) else a * b


def div(a: Any, b: Any) -> Any:
    if not _numbers("/", a, b):
        return a / b if b else _over_zero(a, b)
    if b == 0:
        raise EvaluationError("division by zero")
    quotient = abs(a) // abs(b)  # cut off toward zero, unlike Python's
    return whole(quotient if (a < 0) == (b < 0) else -quotient)


def _over_zero(a: float, b: float) -> float:
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def mod(a: Any, b: Any) -> Any:
    if not _numbers("%", a, b):
        raise _refuse("%", a, b)
    if b == 0:
        raise EvaluationError("division by zero")
    if b == -1:
        whole(-a)  # the quotient must fit as well, says CEL
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


def minus(value: Any) -> Any:
    if value.__class__ is int:
        return whole(-value)
    if value.__class__ is float:
        return -value
    raise _refuse("-", value)


def select(value: Any, name: str) -> Any:
    """A member of an object that is not the record itself."""
    if value.__class__ is dict:
        if name in value:
            return value[name]
        raise EvaluationError(f"there is no {name}")
    raise _refuse(f".{name}", value)


def index(value: Any, key: Any) -> Any:
    if value.__class__ is list and key.__class__ is int:
        if 0 <= key < len(value):
            return value[key]
        raise EvaluationError("the list has no such item")
    if value.__class__ is dict and key.__class__ is str:
        if key in value:
            return value[key]
        raise EvaluationError("there is no such name")
    raise _refuse("[ ]", value, key)


def path(record: Any, flat: str, names: tuple[str, ...]) -> Any:
    """By the flat name where the record has it, else name by name; null on the way is null."""
    found = record.get(flat)
    if found is not None:
        return found
    value = record
    for name in names:
        if not isinstance(value, dict):
            return None
        value = cast("dict[str, Any]", value).get(name)
    return value


def listed(value: Any) -> Any:
    """A missing list is []."""
    return [] if value is None else value


Term = Callable[[], Any]
Each = Callable[[Any], Any]


def _decided(terms: Iterable[Term], by: bool) -> bool:
    """`||` for True, `&&` for False: any term that has this value decides, whatever others do."""
    failed: Exception | None = None
    for term in terms:
        try:
            if truth(term()) is by:
                return by
        except Exception as error:  # noqa: BLE001 - raised again below, unless another term decides
            failed = failed or error
    if failed is not None:
        raise failed
    return not by


def any_of(*terms: Term) -> bool:
    return _decided(terms, True)


def all_of(*terms: Term) -> bool:
    return _decided(terms, False)


def _bounded(items: list[Any]) -> list[Any]:
    if len(items) > LIST_ITEMS_MAX:
        raise EvaluationError(f"a list of more than {LIST_ITEMS_MAX} items")
    return items


def _items(value: Any) -> list[Any]:
    if value.__class__ is list:
        return _bounded(value)
    raise EvaluationError(f"a list is needed, not {kind(value)}")


def exists(items: Any, test: Each) -> bool:
    return _decided((lambda item=item: test(item) for item in _items(items)), True)


def every(items: Any, test: Each) -> bool:
    return _decided((lambda item=item: test(item) for item in _items(items)), False)


def exists_one(items: Any, test: Each) -> bool:
    return sum(truth(test(item)) for item in _items(items)) == 1


def keep(items: Any, test: Each) -> list[Any]:
    return [item for item in _items(items) if truth(test(item))]


def change(items: Any, to: Each) -> list[Any]:
    return [to(item) for item in _items(items)]


def keep_and_change(items: Any, test: Each, to: Each) -> list[Any]:
    return [to(item) for item in _items(items) if truth(test(item))]


OPERATIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        truth, negate, eq, ne, lt, le, gt, ge, contained, add, sub, mul, div, mod, minus, select,
        index, path, listed, any_of, all_of, exists, every, exists_one, keep, change,
        keep_and_change,
    )
}  # fmt: skip

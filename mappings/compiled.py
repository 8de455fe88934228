"""A compiled mapping: one record in, one row out. Pure, a few microseconds a record."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

from mappings.cel import Expression
from mappings.cel.operations import LIST_ITEMS_MAX, TEXT_MAX, kind
from mappings.errors import EvaluationError
from mappings.model import FieldRule, MappingDocument

__all__ = [
    "CLEAR", "Compiled", "FieldError", "FieldErrors", "Filtered", "Mapped", "Ref", "Rule", "nested",
    "plain",
]  # fmt: skip


class _Clear(Enum):
    clear = "clear"


CLEAR = _Clear.clear
"""The field is to be emptied at the destination."""


@dataclass(frozen=True, slots=True)
class Ref:
    """An object to be looked up at the destination; its id is the field's value."""

    object: str
    by: str
    value: Any
    if_none: str
    if_many: str


@dataclass(frozen=True, slots=True)
class FieldError:
    """Why a field has no value. The message never holds one. `column` 0: the field as a whole."""

    field: str
    column: int
    message: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """Destination field (dots not nested yet) to value, `Ref` or `CLEAR`. Absent: leave alone."""

    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filtered:
    """`where` was not true."""


@dataclass(frozen=True, slots=True)
class FieldErrors:
    """Every field that failed; the record is parked as a whole."""

    errors: tuple[FieldError, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One destination field. `if_null` is decided: the destination's wishes are in it."""

    field: str
    expression: Expression
    rule: FieldRule
    if_null: str


class Compiled:
    """A document ready to map records. Safe to share; keeps nothing of a record."""

    def __init__(
        self, document: MappingDocument, where: Expression | None, rules: Sequence[Rule]
    ) -> None:
        self.document = document
        self.name, self.version, self.hash = document.mapping, document.version, document.hash
        self.title = f"{document.title}#{self.hash[:12]}"
        """`name@version#hash`, for the lineage."""
        self.sources: dict[str, frozenset[str]] = {r.field: r.expression.reads for r in rules}
        """Destination field to the source fields that it is made of."""
        parts = [*self.sources.values(), where.reads if where else frozenset[str]()]
        self.reads: frozenset[str] = frozenset[str]().union(*parts)
        """All source fields that it looks at, the filter's included."""
        self.where, self.rules = where, tuple(rules)
        self._steps: list[tuple[str, Callable[..., Any], Rule]] = [
            (rule.field, rule.expression.call, rule) for rule in rules
        ]

    def apply(
        self, record: Mapping[str, Any], event: Mapping[str, Any], person: Mapping[str, Any]
    ) -> Mapped | Filtered | FieldErrors:
        """One record. `record`: the source's fields, flat; what it lacks is null.

        `event`: type, platform, object, time (RFC 3339, UTC), changed (list). `person`: key, email.
        """
        if self.where is not None:
            try:
                wanted = self.where.call(record, event, person)
                if wanted is not True:
                    if wanted is False:
                        return Filtered()
                    return FieldErrors((FieldError("where", 0, f"gives {kind(wanted)}"),))
            except Exception as error:  # noqa: BLE001 - a bug in a function parks this record only
                return FieldErrors((_error("where", self.where, error),))
        fields: dict[str, Any] = {}
        errors: list[FieldError] = []
        for name, call, rule in self._steps:
            try:
                value = call(record, event, person)
                if value.__class__ is str:
                    if not value or value.isspace():
                        value = None
                    elif len(value) > TEXT_MAX:
                        value = _checked(value)
                elif value is not None:
                    value = _checked(value)
            except Exception as error:  # noqa: BLE001 - the same
                if rule.rule.if_error == "park":
                    errors.append(_error(name, rule.expression, error))
                elif rule.rule.if_error == "clear":
                    fields[name] = CLEAR
                continue
            if value is None:
                value = rule.rule.default
                if value is None:
                    if rule.if_null == "clear":
                        fields[name] = CLEAR
                    elif rule.if_null == "park":
                        errors.append(FieldError(name, 0, "has no value"))
                    continue
            ref = rule.rule.ref
            fields[name] = (
                value if ref is None else Ref(ref.object, ref.by, value, ref.if_none, ref.if_many)
            )
        return FieldErrors(tuple(errors)) if errors else Mapped(fields)


def _checked(value: Any) -> Any:
    """A result that is neither null nor a text of usual length; [] is no value.

    Raises EvaluationError.
    """
    match value:
        case str():
            raise EvaluationError(f"gives a text longer than {TEXT_MAX} characters")
        case bool() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case list():
            items = cast("list[Any]", value)
            if len(items) > LIST_ITEMS_MAX:
                raise EvaluationError(f"gives a list of more than {LIST_ITEMS_MAX} items")
            if any(isinstance(item, list | dict) or _long(item) for item in items):
                raise EvaluationError("gives a list of something else than text and numbers")
            return items or None
        case _:
            words = "no finite number" if isinstance(value, float) else kind(value)
            raise EvaluationError(f"gives {words}, which no field can hold")


def _long(item: Any) -> bool:
    return isinstance(item, str) and len(item) > TEXT_MAX


def _error(field: str, expression: Expression, error: Exception) -> FieldError:
    """Python's own words may hold the value: only ours are passed on."""
    words = str(error) if isinstance(error, EvaluationError) else f"fails ({type(error).__name__})"
    return FieldError(field, expression.column(error), words)


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`CLEAR` as null and `Ref` as a JSON object, as rows travel."""
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if value is CLEAR:
        return None
    if isinstance(value, Ref):
        rest = {"if_none": value.if_none, "if_many": value.if_many}
        return {"ref": value.object, "by": value.by, "value": value.value, **rest}
    return value


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`merge_fields.FNAME` as an object in an object."""
    out: dict[str, Any] = {}
    for name, value in fields.items():
        at = out
        *parents, leaf = name.split(".")
        for parent in parents:
            at = at.setdefault(parent, {})
        at[leaf] = value
    return out

"""What an object type accepts or gives: its field list, and rows checked against it.

On the topic `definitions` a list stands as kind `fields` under `connection:object_type`; there a
`FieldList.model_validate_json(definition.document)` reads it.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from mappings.cel import Kind

__all__ = ["DestinationField", "FieldList", "FieldProblem", "check_row", "check_value"]

Type = Literal[
    "text", "email", "integer", "number", "boolean", "date", "datetime", "list", "reference", "any"
]  # fmt: skip
_Kinds = frozenset[type[Any]]
_TYPES: dict[str, tuple[_Kinds, Kind, str]] = {
    # JSON kinds, what expressions take it for, in words
    "text": (frozenset({str}), "text", "text"),
    "email": (frozenset({str}), "text", "text"),
    "date": (frozenset({str}), "text", "a date as text"),
    "datetime": (frozenset({str}), "text", "a time as text"),
    "reference": (frozenset({str, dict}), "text", "an id or a reference"),
    "integer": (frozenset({int}), "whole", "a whole number"),
    "number": (frozenset({int, float}), "number", "a number"),
    "boolean": (frozenset({bool}), "bool", "true or false"),
    "list": (frozenset({list}), "list", "a list"),
    "any": (frozenset({str, int, float, bool, list, dict}), "any", "a value"),
}


class _Closed(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)


class DestinationField(_Closed):
    """One field of an object type, by the platform's own name, flat: `merge_fields.FNAME`."""

    name: str
    label: str = ""
    type: Type = "any"
    length: int | None = Field(default=None, ge=1, description="Longest text, in characters.")
    required: bool = Field(default=False, description="Needed to make a new object.")
    picklist: list[str] = Field(
        default=[], description="Allowed values; empty: any, as in an unrestricted picklist."
    )
    writable: bool = True
    nullable: bool = Field(default=True, description="May be cleared.")

    @property
    def kind(self) -> Kind:
        """What expressions take its values for."""
        return _TYPES[self.type][1]

    @cached_property
    def quick(self) -> tuple[_Kinds, int]:
        """Most values fit: -> (kinds of which any value does, longest text of them)."""
        easy = self.writable and not self.picklist
        return _TYPES[self.type][0] if easy else frozenset(), self.length or sys.maxsize


class FieldList(_Closed):
    """All fields of an object type that a mapping may name."""

    platform: str
    object: str
    fields: list[DestinationField]

    def by_name(self) -> dict[str, DestinationField]:
        return {f.name: f for f in self.fields}


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """Why a value does not fit. The message never holds the value.

    `code`: unknown_field, read_only, required, not_nullable, wrong_type, too_long or
    not_in_picklist.
    """

    field: str
    code: str
    message: str


def check_row(
    fields: Mapping[str, Any], known: Mapping[str, DestinationField], *, creating: bool = True
) -> list[FieldProblem]:
    """A mapped row, null where it clears, against a field list -> everything wrong with it.

    `creating`: False where the object is there already, so that fields may be left out.
    """
    problems: list[FieldProblem] = []
    for name, value in fields.items():
        field = known.get(name)
        if field is None:
            problems.append(FieldProblem(name, "unknown_field", "does not exist there"))
            continue
        kinds, longest = field.quick
        kind = value.__class__
        if kind in kinds and (kind is not str or 0 < len(value) <= longest):
            continue
        if problem := _problem(field, value):
            problems.append(problem)
    if creating:
        problems += [
            FieldProblem(name, "required", "is required and has no value")
            for name, field in known.items()
            if field.required and name not in fields
        ]
    return problems


def _problem(field: DestinationField, value: Any) -> FieldProblem | None:
    if not field.writable:
        return FieldProblem(field.name, "read_only", "cannot be written")
    if value is None or value == "":
        if field.required:
            return FieldProblem(field.name, "required", "cannot be empty")
        if not field.nullable:
            return FieldProblem(field.name, "not_nullable", "cannot be emptied")
    return None if value is None else check_value(field, value)


def check_value(field: DestinationField, value: Any) -> FieldProblem | None:
    """One value that is not null."""
    kinds, _, words = _TYPES[field.type]
    if value.__class__ not in kinds:
        return FieldProblem(field.name, "wrong_type", f"must be {words}")
    if field.length is not None and value.__class__ is str and len(value) > field.length:
        message = f"is longer than {field.length} characters ({len(value)})"
        return FieldProblem(field.name, "too_long", message)
    if field.picklist:
        chosen = value if value.__class__ is list else [value]
        if any(item not in field.picklist for item in chosen):
            return FieldProblem(field.name, "not_in_picklist", "is none of the allowed values")
    return None

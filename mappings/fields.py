"""What a destination (or source) accepts: its field list, and rows checked against it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DestinationField", "FieldList", "FieldProblem", "check_row"]

Type = Literal["text", "email", "integer", "number", "boolean", "date", "datetime", "list", "any"]
_KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "email": (str,),
    "date": (str,),
    "datetime": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
}


class DestinationField(BaseModel):
    """One field of an object type, by the platform's own name."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    name: str
    label: str = ""
    type: Type = "any"
    length: int | None = Field(default=None, description="Longest text, in characters.")
    required: bool = Field(default=False, description="Needed to make a new object.")
    picklist: list[str] = Field(default=[], description="Allowed values; empty: any.")
    writable: bool = True
    nullable: bool = Field(default=True, description="May be cleared.")


class FieldList(BaseModel):
    """All fields of an object type that a mapping may name."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    platform: str
    object: str
    fields: list[DestinationField]

    def by_name(self) -> dict[str, DestinationField]:
        return {f.name: f for f in self.fields}


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """Why a value does not fit. The message never holds the value."""

    field: str
    code: str
    message: str


def check_row(
    fields: Mapping[str, Any], known: Mapping[str, DestinationField]
) -> list[FieldProblem]:
    """A mapped row against a field list -> everything that is wrong with it."""
    problems = [p for name, value in fields.items() if (p := _check(name, value, known.get(name)))]
    for name, field in known.items():
        if field.required and fields.get(name) in (None, ""):
            problems.append(FieldProblem(name, "required", "is required and has no value"))
    return problems


def _check(name: str, value: Any, field: DestinationField | None) -> FieldProblem | None:
    if field is None:
        return FieldProblem(name, "unknown_field", "does not exist there")
    if not field.writable:
        return FieldProblem(name, "read_only", "cannot be written")
    if value is None:
        if field.nullable:
            return None
        return FieldProblem(name, "not_nullable", "cannot be cleared")
    kinds = _KINDS.get(field.type)
    if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
        return FieldProblem(name, "wrong_type", f"must be {field.type}")
    if field.length is not None and isinstance(value, str) and len(value) > field.length:
        words = f"is longer than {field.length} characters ({len(value)})"
        return FieldProblem(name, "too_long", words)
    if field.picklist and value not in field.picklist:
        return FieldProblem(name, "not_in_picklist", "is none of the allowed values")
    return None

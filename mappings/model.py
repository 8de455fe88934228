"""The mapping document as people write it: closed, so that a misspelt key is an error."""

import hashlib
import json
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["End", "Example", "FieldRule", "MappingDocument", "RefRule"]

FIELDS_MAX = 200
TABLES_MAX = 50
TABLE_ROWS_MAX = 200
EXAMPLES_MAX = 200
Scalar = str | int | float | bool


class _Closed(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False
    )


class End(_Closed):
    """One side of a mapping."""

    platform: str = Field(description="Platform, or `any`.")
    object: str
    key: str = Field(default="", description="Destination field that identifies the row there.")


class RefRule(_Closed):
    """A reference to another object there. The mapping stays pure: the worker looks it up, many
    in one read."""

    object: str = Field(description="Object type to look in, e.g. Account.")
    by: str = Field(description="Its field that is compared.")
    value: str = Field(description="Expression: the value to look for.")
    if_none: Literal["wait", "skip", "park"] = Field(
        default="wait", description="The row waits until there is one, goes without, or is parked."
    )
    if_many: Literal["park", "first"] = "park"


class FieldRule(_Closed):
    """How one destination field is filled. A text alone stands for `{value: text}`."""

    value: str | None = Field(default=None, description="Expression.")
    ref: RefRule | None = None
    default: Scalar | list[Scalar] | None = Field(
        default=None, description="Literal, where the value is null, blank or []."
    )
    if_null: Literal["skip", "clear", "park"] | None = Field(
        default=None,
        description="No value and no default: keep what the destination has (skip), clear it, or "
        "park the record. Left out: park where the destination requires the field, else skip.",
    )
    if_error: Literal["park", "skip", "clear"] = "park"

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"value": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one(self) -> "FieldRule":
        if (self.value is None) == (self.ref is None):
            raise ValueError("needs either value or ref")
        return self

    @property
    def expression(self) -> str:
        if self.ref is not None:
            return self.ref.value
        assert self.value is not None
        return self.value


class Example(_Closed):
    """A record and what must become of it: one of `out`, `filtered`, `parked`."""

    name: str
    in_: dict[str, Any] = Field(alias="in", description="The record's fields.")
    event: dict[str, Any] = {}
    person: dict[str, Any] = {}
    out: dict[str, Any] | None = Field(
        default=None, description="The row: dots nested, null where a field is cleared."
    )
    filtered: bool = False
    parked: list[str] = Field(default=[], description="Fields for which it must be refused.")

    @model_validator(mode="after")
    def _one(self) -> "Example":
        if (self.out is not None) + self.filtered + bool(self.parked) != 1:
            raise ValueError("needs one of out, filtered: true, or parked: [fields]")
        return self


class MappingDocument(_Closed):
    """For each destination field an expression. Immutable once published."""

    mapping: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,100}$")
    version: int = Field(ge=1)
    sentence: str = Field(default="", description="The plain sentence that it was made from.")
    from_: End = Field(alias="from")
    to: End
    where: str = Field(default="", description="Expression; only records for which it is true.")
    fields: dict[str, FieldRule] = Field(min_length=1, max_length=FIELDS_MAX)
    tables: dict[str, dict[str, Scalar]] = Field(default={}, max_length=TABLES_MAX)
    examples: list[Example] = Field(default=[], max_length=EXAMPLES_MAX)

    @model_validator(mode="after")
    def _consistent(self) -> "MappingDocument":
        for name, table in self.tables.items():
            if len(table) > TABLE_ROWS_MAX:
                raise ValueError(f"table {name} has more than {TABLE_ROWS_MAX} rows")
        for name in self.fields:
            parts = name.split(".")
            if not all(parts):
                raise ValueError(f"{name!r} is no name of a field")
            for end in range(1, len(parts)):
                if ".".join(parts[:end]) in self.fields:
                    raise ValueError(f"{name} lies in {'.'.join(parts[:end])}, which has a value")
        return self

    @property
    def title(self) -> str:
        """`name@version`"""
        return f"{self.mapping}@{self.version}"

    @property
    def hash(self) -> str:
        """sha256 of the canonical JSON: what equals a default, and the short way to write a field,
        make no difference."""
        plain = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

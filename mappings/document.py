"""A mapping: a small versioned document, not code. For each destination field an expression.

It cannot loop, call out, or see another record. Immutable once published: lineage says
`name@version#hash`. `load` compiles it, checks it and runs its examples; `Compiled.apply` maps one
record, catching errors per field, so that one bad field names itself.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mappings.cel import TEXT_MAX, Expression, compile_expression
from mappings.errors import EvaluationError, ExpressionError, MappingInvalid, Problem
from mappings.fields import FieldList, check_row
from mappings.functions import FUNCTIONS, empty

__all__ = [
    "CLEAR", "Compiled", "Example", "FieldError", "FieldErrors", "FieldRule", "Filtered", "Mapped",
    "MappingDocument", "Ref", "RefRule", "load",
]  # fmt: skip

FIELDS_MAX = 200
TABLE_ROWS_MAX = 200


class _Closed(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True
    )


class End(_Closed):
    """One side of a mapping."""

    platform: str = Field(description="Platform, or `any`.")
    object: str
    key: str = Field(default="", description="Destination field that identifies the row there.")


class RefRule(_Closed):
    """A reference to another object there: the worker looks it up, many in one read."""

    object: str
    by: str
    value: str = Field(description="Expression: the value to look up.")
    if_none: Literal["skip", "park"] = "park"
    if_many: Literal["park", "first"] = "park"


class FieldRule(_Closed):
    """How one destination field is filled."""

    value: str | None = Field(default=None, description="Expression.")
    ref: RefRule | None = None
    default: str | int | float | bool | None = Field(
        default=None, description="Literal, where the value is null, empty or blank."
    )
    if_null: Literal["skip", "clear", "park"] = Field(
        default="skip", description="No value: keep what the destination has, clear it, or park."
    )
    if_error: Literal["park", "skip", "clear"] = "park"

    @model_validator(mode="after")
    def _one(self) -> "FieldRule":
        if (self.value is None) == (self.ref is None):
            raise ValueError("needs either value or ref")
        return self


class Example(_Closed):
    """A record and what must become of it; run when the document is loaded."""

    name: str
    in_: dict[str, Any] = Field(alias="in")
    event: dict[str, Any] = {}
    person: dict[str, Any] = {}
    out: dict[str, Any] | None = None
    filtered: bool = False
    parked: list[str] = Field(default=[], description="Fields that must be refused.")


class MappingDocument(_Closed):
    """The document as people write it."""

    mapping: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,100}$")
    version: int = Field(ge=1)
    sentence: str = Field(default="", description="The plain sentence that it was made from.")
    from_: End = Field(alias="from")
    to: End
    where: str = Field(default="", description="Expression; only records for which it is true.")
    fields: dict[str, str | FieldRule] = Field(min_length=1, max_length=FIELDS_MAX)
    tables: dict[str, dict[str, Any]] = {}
    examples: list[Example] = []

    @property
    def hash(self) -> str:
        """sha256 of the canonical JSON, 16 characters of it."""
        text = json.dumps(
            self.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Clear(Enum):
    clear = "clear"


CLEAR = _Clear.clear
"""The field is to be emptied at the destination."""


@dataclass(frozen=True, slots=True)
class Ref:
    """An object to be looked up at the destination."""

    object: str
    by: str
    value: Any
    if_none: str
    if_many: str


@dataclass(frozen=True, slots=True)
class FieldError:
    """Why a field has no value. The message never holds one."""

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
    errors: tuple[FieldError, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    field: str
    expression: Expression
    rule: FieldRule


class Compiled:
    """A document ready to map records. Safe to share; keeps nothing of a record."""

    def __init__(
        self, document: MappingDocument, where: Expression | None, rules: list[_Rule]
    ) -> None:
        self.document = document
        self.name, self.version, self.hash = document.mapping, document.version, document.hash
        self.title = f"{self.name}@{self.version}#{self.hash}"
        self._where, self._rules = where, rules
        self.sources: dict[str, frozenset[str]] = {r.field: r.expression.reads for r in rules}
        """Destination field to the source fields that it is made of."""
        parts = [*self.sources.values(), where.reads if where else frozenset[str]()]
        self.reads: frozenset[str] = frozenset[str]().union(*parts)
        """All source fields that it looks at."""

    def apply(
        self, record: Mapping[str, Any], event: Mapping[str, Any], person: Mapping[str, Any]
    ) -> Mapped | Filtered | FieldErrors:
        """One record. `record` holds the source's fields; what it lacks is null."""
        if self._where is not None:
            try:
                if self._where.call(record, event, person) is not True:
                    return Filtered()
            except Exception as error:  # noqa: BLE001 - whatever an expression does is the record's
                return FieldErrors((_error("where", self._where, error),))
        fields: dict[str, Any] = {}
        errors: list[FieldError] = []
        for rule in self._rules:
            try:
                value = rule.expression.call(record, event, person)
            except Exception as error:  # noqa: BLE001 - the same
                if rule.rule.if_error == "park":
                    errors.append(_error(rule.field, rule.expression, error))
                elif rule.rule.if_error == "clear":
                    fields[rule.field] = CLEAR
                continue
            if empty(value):
                value = rule.rule.default
                if value is None:
                    if rule.rule.if_null == "clear":
                        fields[rule.field] = CLEAR
                    elif rule.rule.if_null == "park":
                        errors.append(FieldError(rule.field, 0, "has no value"))
                    continue
            if isinstance(value, str) and len(value) > TEXT_MAX:
                errors.append(FieldError(rule.field, 0, f"text longer than {TEXT_MAX}"))
                continue
            ref = rule.rule.ref
            fields[rule.field] = (
                value if ref is None else Ref(ref.object, ref.by, value, ref.if_none, ref.if_many)
            )
        return FieldErrors(tuple(errors)) if errors else Mapped(fields)


def _error(field: str, expression: Expression, error: Exception) -> FieldError:
    """Python's own words may hold the value: only ours are passed on."""
    words = str(error) if isinstance(error, EvaluationError) else f"fails ({type(error).__name__})"
    return FieldError(field, expression.column(error), words)


def load(
    document: MappingDocument | Mapping[str, Any],
    source: frozenset[str] | None = None,
    destination: FieldList | None = None,
) -> Compiled:
    """Compile and check. `source`: the fields that exist there; None: any name is taken.

    Raises MappingInvalid with every problem: expressions, unknown fields, functions and tables,
    what the destination refuses, examples that come out otherwise.
    """
    if not isinstance(document, MappingDocument):
        document = MappingDocument.model_validate(document)
    title = f"{document.mapping}@{document.version}"
    problems: list[Problem] = []

    def compiled(field: str, text: str) -> Expression | None:
        try:
            return compile_expression(text, FUNCTIONS, fields=source, tables=document.tables)
        except ExpressionError as error:
            problems.append(Problem(title, field, error.message, error.column))
        except (RecursionError, MemoryError):
            problems.append(Problem(title, field, "is nested too deeply"))
        return None

    for name, table in document.tables.items():
        if len(table) > TABLE_ROWS_MAX:
            problems.append(Problem(title, f"tables.{name}", f"more than {TABLE_ROWS_MAX} rows"))
    where = compiled("where", document.where) if document.where else None
    rules: list[_Rule] = []
    for field, given in document.fields.items():
        rule = given if isinstance(given, FieldRule) else FieldRule(value=given)
        text = rule.value if rule.ref is None else rule.ref.value
        expression = compiled(field, text or "")
        if expression is not None:
            rules.append(_Rule(field, expression, rule))
    if destination is not None:
        problems += _fits(title, document, destination)
    result = Compiled(document, where, rules)
    if not problems:
        problems += [p for example in document.examples for p in _run(result, example, destination)]
    if problems:
        raise MappingInvalid(problems)
    return result


def _fits(title: str, document: MappingDocument, destination: FieldList) -> list[Problem]:
    """What can be said of a document without a record."""
    known = destination.by_name()
    problems: list[Problem] = []
    for name in document.fields:
        if name not in known:
            problems.append(Problem(title, name, f"{destination.object} has no such field"))
        elif not known[name].writable:
            problems.append(Problem(title, name, "cannot be written"))
    for name, field in known.items():
        if field.required and field.writable and name not in document.fields:
            problems.append(Problem(title, name, "is required there and not mapped"))
    return problems


def _run(compiled: Compiled, example: Example, destination: FieldList | None) -> list[Problem]:
    """One example, twice: the same record must give the same row."""
    title, where = f"{compiled.name}@{compiled.version}", f"example {example.name!r}"
    event: dict[str, Any] = {"changed": [], **example.event}
    first = compiled.apply(example.in_, event, example.person)
    if first != compiled.apply(example.in_, event, example.person):
        return [Problem(title, where, "gives another result each time")]
    match first:
        case Filtered():
            wrong = "" if example.filtered else "is filtered out"
        case FieldErrors(errors):
            named = {e.field for e in errors}
            words = "; ".join(f"{e.field}: {e.message}" for e in errors)
            wrong = "" if named == set(example.parked) else f"is parked ({words})"
        case Mapped(fields):
            wrong = _compare(fields, example)
            if not wrong and destination is not None:
                found = check_row(plain(fields), destination.by_name())
                wrong = "; ".join(f"{p.field} {p.message}" for p in found)
    return [Problem(title, where, wrong)] if wrong else []


def _compare(fields: Mapping[str, Any], example: Example) -> str:
    if example.filtered or example.parked:
        return "is mapped; it should be " + ("filtered" if example.filtered else "parked")
    got, wanted = nested(plain(fields)), example.out or {}
    if got == wanted:
        return ""
    names = sorted(k for k in {*got, *wanted} if got.get(k) != wanted.get(k))
    return f"comes out otherwise in {', '.join(names)}"


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`CLEAR` as null and `Ref` as a JSON object, as rows travel."""
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if value is CLEAR:
        return None
    if isinstance(value, Ref):
        return {"ref": value.object, "by": value.by, "value": value.value}
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

"""A mapping: a small versioned document, not code. For each destination field an expression.

It cannot loop, call out, or see another record. `load` compiles a document, checks it and runs its
examples; `Compiled.apply` maps one record and catches errors per field, so that one bad field names
itself. The document: model.py; the language: cel/; what goes wrong: errors.py.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mappings.cel import Expression, Kind, compile_expression
from mappings.checks import destination_problems, example_problems, warnings
from mappings.compiled import (
    CLEAR,
    Compiled,
    FieldError,
    FieldErrors,
    Filtered,
    Mapped,
    Ref,
    Rule,
    nested,
    plain,
)
from mappings.errors import MappingInvalid, Problem
from mappings.fields import FieldList
from mappings.functions import FUNCTIONS
from mappings.model import End, Example, FieldRule, MappingDocument, RefRule

__all__ = [
    "CLEAR", "Compiled", "End", "Example", "FieldError", "FieldErrors", "FieldRule", "Filtered",
    "Mapped", "MappingDocument", "Ref", "RefRule", "load", "nested", "plain", "warnings",
]  # fmt: skip


def load(
    document: MappingDocument | Mapping[str, Any],
    source: FieldList | None = None,
    destination: FieldList | None = None,
) -> Compiled:
    """Compile and check. `source`: what fields exist there; None: any name is taken.

    Raises MappingInvalid with every problem: shape, expressions, unknown fields, functions and
    tables, what the destination cannot hold, examples that come out otherwise.
    """
    if not isinstance(document, MappingDocument):
        document = _validated(document)
    fields: dict[str, Kind] | None = None
    if source is not None:
        fields = {f.name: f.kind for f in source.fields}
    problems: list[Problem] = []

    def compiled(field: str, text: str, *place: str) -> Expression | None:
        expression, wrong = compile_expression(
            text, FUNCTIONS, fields=fields, tables=document.tables
        )
        problems.extend(
            Problem(document.title, field, e.message, e.column, place=place) for e in wrong
        )
        return expression

    where = compiled("where", document.where, "where") if document.where else None
    if where is not None and where.kind not in ("bool", "any"):
        words = "must give true or false"
        problems.append(Problem(document.title, "where", words, place=("where",)))
    needed = {f.name for f in destination.fields if f.required} if destination else set[str]()
    rules: list[Rule] = []
    for name, rule in document.fields.items():
        expression = compiled(name, rule.expression, "fields", name)
        if expression is not None:
            if_null = rule.if_null or ("park" if name in needed else "skip")
            rules.append(Rule(name, expression, rule, if_null))
    if destination is not None:
        problems += destination_problems(document, rules, destination)
    result = Compiled(document, where, rules)
    if not problems:  # an example of a document that does not compile says nothing new
        problems += example_problems(result, destination)
    if problems:
        raise MappingInvalid(problems)
    return result


def _validated(document: Mapping[str, Any]) -> MappingDocument:
    try:
        return MappingDocument.model_validate(document)
    except ValidationError as error:
        title = f"{document.get('mapping', 'mapping')}@{document.get('version', '?')}"
        raise MappingInvalid(
            [
                Problem(
                    title,
                    ".".join(map(str, wrong["loc"])) or "document",
                    wrong["msg"].removeprefix("Value error, "),
                    place=wrong["loc"],
                )
                for wrong in error.errors(include_input=False, include_url=False)
            ]
        ) from None

"""What can be said of a document before it goes live: does it fit the destination, do its examples
come out as written, and what is worth a warning."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mappings.cel import syntax
from mappings.cel.compiler import near
from mappings.cel.function import WORDS, fits
from mappings.compiled import Compiled, FieldErrors, Filtered, Mapped, Rule, nested, plain
from mappings.errors import Problem
from mappings.fields import DestinationField, FieldList, check_row, check_value
from mappings.model import Example, MappingDocument

__all__ = ["destination_problems", "example_problems", "warnings"]

SOME_EVENT: dict[str, Any] = {
    "type": "contact.updated", "platform": "hubspot", "object": "contact",
    "time": "2026-01-31T12:00:00Z", "changed": [],
}  # fmt: skip
SOME_PERSON: dict[str, Any] = {"key": "p", "email": None}


def destination_problems(
    document: MappingDocument, rules: list[Rule], destination: FieldList
) -> Iterator[Problem]:
    """Fields there: exist, can be written, take this kind of value and each value written out."""
    known = destination.by_name()

    def problem(name: str, message: str, column: int = 0) -> Problem:
        return Problem(document.title, name, message, column, place=("fields", name))

    for rule in rules:
        field = known.get(rule.field)
        if field is None:
            words = f"{destination.object} has no such field{near(rule.field, known)}"
            yield problem(rule.field, words)
        elif not field.writable:
            yield problem(rule.field, "cannot be written")
        else:
            for message, column in _value_problems(document, rule, field):
                yield problem(rule.field, message, column)
    for name, field in known.items():
        if field.required and field.writable and name not in document.fields:
            yield problem(name, "is required there and not mapped")
    if document.to.key and document.to.key not in document.fields:
        yield Problem(document.title, "to.key", f"{document.to.key} is not mapped", place=("to",))


def _value_problems(
    document: MappingDocument, rule: Rule, field: DestinationField
) -> Iterator[tuple[str, int]]:
    """-> (what is wrong, column)"""
    default = rule.rule.default
    if default is not None and (wrong := check_value(field, default)):
        yield f"default {wrong.message}", 0
    if rule.rule.ref is not None:
        return
    got, wanted = rule.expression.kind, field.kind
    if not fits(got, (wanted,)):
        yield f"gives {WORDS[got]}, and {WORDS[wanted]} is wanted there", 0
        return
    for at, value in _written(rule.expression.tree, document.tables):
        if value not in (None, "") and (wrong := check_value(field, value)):
            yield f"a value written here {wrong.message}", at + 1


def _written(
    node: syntax.Node, tables: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[int, Any]]:
    """Values that the document itself holds and the expression may give, each with its place."""
    match node:
        case syntax.Literal(at=at, value=value):
            yield at, value
        case syntax.Ternary(yes=yes, no=no):
            yield from _written(yes, tables)
            yield from _written(no, tables)
        case syntax.Call(name="coalesce", arguments=arguments):
            for argument in arguments:
                yield from _written(argument, tables)
        case syntax.Call(at=at, name="lookup", arguments=(syntax.Literal(value=str(name)), _)):
            for value in tables.get(name, {}).values():
                yield at, value
        case _:
            return


def example_problems(compiled: Compiled, destination: FieldList | None) -> Iterator[Problem]:
    known = destination.by_name() if destination is not None else None
    for number, example in enumerate(compiled.document.examples):
        message, detail = _run(compiled, example, known)
        if message:
            yield _about(compiled, number, message, detail)


def _about(compiled: Compiled, number: int, message: str, detail: str = "") -> Problem:
    document, place = compiled.document, ("examples", number)
    name = f"example {document.examples[number].name!r}"
    return Problem(document.title, name, message, detail=detail, place=place)


def _unread(compiled: Compiled, example: Example) -> str:
    """A field of the example that nothing reads: most often a slip of the pen."""
    heads = {path.partition(".")[0] for path in compiled.reads} | compiled.reads
    return ", ".join(sorted(example.in_.keys() - heads))


def _run(
    compiled: Compiled, example: Example, known: Mapping[str, DestinationField] | None
) -> tuple[str, str]:
    """-> (what is wrong, the same with values); both empty where it comes out as written."""
    given = (example.in_, {**SOME_EVENT, **example.event}, {**SOME_PERSON, **example.person})
    result = compiled.apply(*given)
    if result != compiled.apply(*given):
        return "comes out otherwise each time", ""
    match result:
        case Filtered():
            return ("" if example.filtered else "is filtered out"), ""
        case FieldErrors(errors):
            words = "; ".join(f"{e.field}: {e.message}" for e in errors)
            expected = {e.field for e in errors} == set(example.parked)
            return ("" if expected else f"is parked ({words})"), ""
        case Mapped(fields):
            if example.out is None:
                wanted = "filtered out" if example.filtered else "parked"
                return f"is mapped, and should be {wanted}", ""
            got = nested(_as_written(fields))
            if _canonical(got) != _canonical(example.out):
                return _difference(got, example.out)
            wrong = check_row(plain(fields), known) if known is not None else []
            return "; ".join(f"{p.field} {p.message}" for p in wrong), ""


def _as_written(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A reference as examples have it: what is looked for, not what to do if there is none."""
    found = plain(fields)
    for name, value in found.items():
        if isinstance(value, dict):
            found[name] = {part: value[part] for part in ("ref", "by", "value")}
    return found


def _canonical(value: Any) -> str:
    """Tells 1 from true and from 1.0, which Python holds for equal."""
    return json.dumps(value, sort_keys=True)


def _difference(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, str]:
    names = [
        name
        for name in sorted({*got, *wanted})
        if (name in got) != (name in wanted) or _canonical(got[name]) != _canonical(wanted[name])
    ]
    shown = [f"{n}: expected {_shown(wanted, n)}, got {_shown(got, n)}" for n in names]
    return f"comes out otherwise in {', '.join(names)}", "\n".join(shown)


def _shown(row: Mapping[str, Any], name: str) -> str:
    return json.dumps(row[name], ensure_ascii=False) if name in row else "nothing"


def warnings(compiled: Compiled) -> list[Problem]:
    """What does not forbid a document to go live."""
    title = compiled.document.title
    found: list[Problem] = []
    if not compiled.document.examples:
        found.append(Problem(title, "examples", "there are none: nothing shows what it does"))
    for number, example in enumerate(compiled.document.examples):
        if unread := _unread(compiled, example):
            found.append(_about(compiled, number, f"nothing reads {unread}"))
    result = compiled.apply({}, SOME_EVENT, SOME_PERSON)
    if isinstance(result, FieldErrors):
        found += [
            Problem(
                title, e.field, f"fails for a record without any field: {e.message}", e.column,
                place=(e.field,) if e.field == "where" else ("fields", e.field),
            )
            for e in result.errors
            if e.column
        ]  # fmt: skip
    return found

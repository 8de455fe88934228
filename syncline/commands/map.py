"""`syncline map`: check and try mapping documents. Works on files alone: no cluster is needed."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mappings.document import (
    Compiled,
    FieldErrors,
    Filtered,
    MappingDocument,
    load,
    nested,
    plain,
    warnings,
)
from mappings.errors import MappingInvalid, Problem
from mappings.fields import FieldList, check_row
from mappings.functions import FUNCTIONS
from schemas.yamlfile import ConfigInvalid, Lines, load_yaml, read_yaml, validated
from syncline.errors import Misused
from syncline.options import Json

app = typer.Typer(help="Check and try mapping documents.", no_args_is_help=True)

Source = Annotated[Path | None, typer.Option(help="Field list (YAML) of the source's objects.")]
Destination = Annotated[Path | None, typer.Option(help="Field list (YAML) of the destination's.")]
RECORD_BYTES_MAX = 1024 * 1024


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Mapping documents (YAML).")],
    source: Source = None,
    destination: Destination = None,
    json_: Json = False,
) -> None:
    """Parse, compile, check against field lists, run the examples. Exit code 2 for any mistake."""
    lists = _lists(source, destination)
    reports = [_checked(path, *lists) for path in files]
    if json_:
        print(json.dumps(reports, ensure_ascii=False, indent=2))
    else:
        for report in reports:
            _print(report)
    if any(report["problems"] for report in reports):
        raise typer.Exit(2)


@app.command("try")
def try_(
    file: Annotated[Path, typer.Argument(help="Mapping document (YAML).")],
    record: Annotated[str, typer.Option(help="The record as JSON, @FILE, or - for stdin.")],
    event: Annotated[str, typer.Option(help="JSON: type, platform, object, time, changed.")] = "{}",
    person: Annotated[str, typer.Option(help="JSON: key, email.")] = "{}",
    destination: Destination = None,
    json_: Json = False,
) -> None:
    """Map one record and show the row. Exit code 1 where it would be parked."""
    known = _lists(None, destination)[1]
    compiled = _loaded(file, known)
    given = {"changed": [], **_object("--event", event)}
    result = compiled.apply(_object("--record", record), given, _object("--person", person))
    match result:
        case Filtered():
            out: dict[str, Any] = {"filtered": True}
        case FieldErrors(errors):
            out = {"parked": [{"field": e.field, "column": e.column, "message": e.message}
                              for e in errors]}  # fmt: skip
        case mapped:
            row = plain(mapped.fields)
            wrong = check_row(row, known.by_name()) if known else []
            out = {"row": nested(row)} if not wrong else {
                "row": nested(row),
                "parked": [{"field": p.field, "column": 0, "message": p.message} for p in wrong],
            }  # fmt: skip
    if json_:
        print(json.dumps({"mapping": compiled.title, **out}, ensure_ascii=False))
    else:
        _show(compiled, out)
    if "parked" in out:
        raise typer.Exit(1)


@app.command()
def functions(json_: Json = False) -> None:
    """What expressions may call."""
    if json_:
        print(json.dumps([{"usage": f.usage, "about": f.about} for f in FUNCTIONS.values()]))
        return
    for function in FUNCTIONS.values():
        print(f"{function.usage:42} {function.about}")


def _lists(
    source: Path | None, destination: Path | None
) -> tuple[FieldList | None, FieldList | None]:
    try:
        return (
            load_yaml(source, FieldList) if source else None,
            load_yaml(destination, FieldList) if destination else None,
        )
    except ConfigInvalid as error:
        raise Misused(str(error)) from None


def _checked(path: Path, source: FieldList | None, destination: FieldList | None) -> dict[str, Any]:
    """One document -> what was found, as plain data."""
    report: dict[str, Any] = {"file": str(path), "problems": [], "warnings": []}
    try:
        data, lines = read_yaml(path)
        document = validated(data, lines, MappingDocument)
    except ConfigInvalid as error:
        return {**report, "problems": [{"text": text} for text in error.problems]}
    try:
        compiled = load(document, source, destination)
    except MappingInvalid as error:
        return {**report, "problems": [_told(p, lines, document) for p in error.problems]}
    report["mapping"], report["examples"] = compiled.title, len(document.examples)
    report["warnings"] = [_told(p, lines, document) for p in warnings(compiled)]
    return report


def _told(problem: Problem, lines: Lines, document: MappingDocument) -> dict[str, Any]:
    """With file and line, and the expression with a mark under the place."""
    line = lines.of(problem.place)
    at = f", column {problem.column}" if problem.column else ""
    text = f"{lines.path}:{line}: {problem.field}{at}: {problem.message}"
    told = {"text": text, "line": line, "field": problem.field, "column": problem.column}
    if problem.detail:
        told["detail"] = problem.detail
    elif problem.column:
        told["detail"] = _pointed(_expression(document, problem.field), problem.column)
    return told


def _expression(document: MappingDocument, field: str) -> str:
    return document.where if field == "where" else document.fields[field].expression


def _pointed(expression: str, column: int) -> str:
    """The line of an expression that holds a column, and a mark under it."""
    before, after = expression[: column - 1], expression[column - 1 :]
    start = before.rpartition("\n")[2]
    return f"{start}{after.partition(chr(10))[0]}\n{' ' * len(start)}^"


def _print(report: Mapping[str, Any]) -> None:
    for found in (*report["problems"], *report["warnings"]):
        warning = "" if report["problems"] else "warning: "
        print(f"{warning}{found['text']}")
        for line in str(found.get("detail", "")).splitlines():
            print(f"    {line}")
    if not report["problems"]:
        print(f"{report['file']}: {report['mapping']} is right, {report['examples']} examples pass")


def _loaded(path: Path, destination: FieldList | None) -> Compiled:
    report = _checked(path, None, destination)
    if report["problems"]:
        told = "\n".join(problem["text"] for problem in report["problems"])
        raise Misused(f"{told}\n`syncline map check {path}` tells more.")
    return load(load_yaml(path, MappingDocument), destination=destination)


def _object(option: str, text: str) -> dict[str, Any]:
    """JSON of an option, of the file after @, or of stdin for -."""
    try:
        if text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        elif text == "-":
            text = sys.stdin.read(RECORD_BYTES_MAX)
        found = json.loads(text)
    except OSError as error:
        raise Misused(f"{option}: {text[1:]} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Misused(f"{option}: is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Misused(f"{option}: a JSON object is needed")
    return found


def _show(compiled: Compiled, out: Mapping[str, Any]) -> None:
    print(compiled.title)
    if "filtered" in out:
        print("filtered: `where` is not true")
    for name, value in out.get("row", {}).items():
        print(f"  {name:24} {json.dumps(value, ensure_ascii=False)}")
    for problem in out.get("parked", []):
        at = f", column {problem['column']}" if problem["column"] else ""
        print(f"parked: {problem['field']}{at}: {problem['message']}")

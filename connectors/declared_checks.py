"""What is wrong in a description beyond its form: names that lead nowhere, rows that fit no way.

Pure. Each problem has its place in the file.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic_core import SchemaError

from connectors.declared_forms import names_of
from connectors.declared_model import Answers, Description, JobForm, ObjectForm, Read, Write

__all__ = ["Problem", "problems"]

Problem = tuple[tuple[str | int, ...], str]

ROW = {"person", "row_id", "object_id", "occurred_ms", "occurred_s", "occurred_at", "fields",
       "field", "option"}  # fmt: skip
JOB = {"job", "cursor", "limit", "option"}
READS = {
    "changes": {"cursor", "limit", "names", "option"},
    "ids": {"id", "ids", "names", "option"},
    "keys": {"field", "value", "values", "names", "option"},
    "field_list": {"option"},
}


def problems(description: Description) -> Iterator[Problem]:
    """Every mistake, in the order of the file."""
    known = {"option", *description.secrets}
    options = set(description.options)
    for name in re.findall(r"\{(\w+)\}", description.base_url):
        if name not in options:
            yield ("base_url",), f"{{{name}}} is no option of this description"
        elif not description.options[name].pattern:  # else it could lead our key anywhere
            yield ("options", name), "stands in base_url: it needs a pattern"
    for name, option in description.options.items():
        if wrong := _option_pattern(option.pattern):
            yield ("options", name, "pattern"), wrong
    auth = description.auth
    if not (auth.headers or auth.basic):
        yield ("auth",), "says nothing of how a request proves whose it is: headers or basic"
    token = {"token"} if auth.login else set()
    yield from _names(("auth", "headers"), auth.headers, known | token, options)
    yield from _names(("auth", "basic"), auth.basic, known, options)
    if auth.login:
        for part in ("path", "form", "query"):
            yield from _names(("auth", "login", part), getattr(auth.login, part), known, options)
    yield from _names(("headers",), description.headers, {"option"}, options)
    yield from _request(("probe",), description.probe, {"option"}, options)
    for n, rule in enumerate(description.errors.rules):
        place = ("errors", "rules", n)
        if rule.is_ == "exists" and not rule.id:
            yield place, "exists needs the path `id` of the object that is there"
        if rule.is_ == "renew" and auth.login is None:
            yield place, "renew needs `auth.login`"
        if rule.code is not None and not description.errors.code:
            yield (*place, "code"), "needs `errors.code`, the path where the code stands"
        if wrong := _pattern(rule.pattern, groups=1):
            yield (*place, "pattern"), wrong
    for name, form in description.objects.items():
        yield from _object(("objects", name), form, options)


def _object(at: tuple[str, ...], form: ObjectForm, options: set[str]) -> Iterator[Problem]:
    for named in ("key_field", "identity_field"):
        if (field := getattr(form, named)) and field not in form.fields:
            yield (*at, named), f"{field} is not among the fields of this object type"
    if form.key_option and form.key_option not in options:
        yield (*at, "key_option"), f"{form.key_option} is no option of this description"
    if form.kind == "state" and not form.identity_field and form.keys is None:
        yield at, "rows need `identity_field`, or `keys` to look people up before the first write"
    for name, field in form.fields.items():
        yield from _names((*at, "fields", name, "form"), field.form, {"value"}, options)
    for n, entry in enumerate(form.lists):
        yield from _names((*at, "lists", n, "form"), entry.form, {"name", "value"}, options)
    for n, write in enumerate(form.write):
        yield from _write((*at, "write", n), write, form, options)
    if any(write.answer is None for write in form.write):
        yield from _answer((*at, "answer"), form.answer, options)
    if form.job is not None:
        yield from _job((*at, "job"), form, form.job, options)
    ways = {write.for_ for write in form.write}
    if "any" not in ways and ways != {"known", "new"}:
        missing = "new" if "known" in ways else "known"
        yield (*at, "write"), f"no way for {missing} rows: add one, or leave `for` out of one"
    for name, allowed in READS.items():
        if (read := getattr(form, name)) is not None:
            yield from _request((*at, name), read, allowed, options)
            if name == "changes" and read.cursor is None:
                yield (*at, name), "says nothing of the next page: `cursor`"


def _job(
    at: tuple[str | int, ...], form: ObjectForm, job: JobForm, options: set[str]
) -> Iterator[Problem]:
    write, answer = job.write, job.write.answer
    if form.repeat != "safe":
        yield at, "begins before its name is known: only where `repeat` is safe"
    if job.rows_max <= form.rows_max:
        yield (*at, "rows_max"), f"carries no more than a request: {form.rows_max}"
    yield from _names((*at, "write", "row"), write.row, ROW, options)
    yield from _request((*at, "write"), write, ROW | {"row", "rows"}, options)
    if "rows" not in names_of(write.body):
        yield (*at, "write", "body"), "does not hold `$rows`"
    if answer is None or not answer.verdicts:
        yield (*at, "write"), "says nothing of what became of each row: `answer.verdicts`"
    else:
        yield from _answer((*at, "write", "answer"), answer, options)
        for n, verdict in enumerate(answer.verdicts):
            place = (*at, "write", "answer", "verdicts", n)
            if verdict.value is None:
                yield place, "needs `value`: a job is asked about some of its rows too"
            if verdict.each.partition(".")[0] not in job.results:
                yield (*place, "each"), f"none of the results: {', '.join(job.results)}"
    for name, read in {"state": job.state, **job.results}.items():
        part = ("state",) if read is job.state else ("results", name)
        yield from _request((*at, *part), read, JOB, options)


def _write(
    at: tuple[str | int, ...], write: Write, form: ObjectForm, options: set[str]
) -> Iterator[Problem]:
    yield from _names((*at, "row"), write.row, ROW, options)
    yield from _request(at, write, ROW | {"row", "rows"}, options)
    if write.rows_max not in (0, 1, form.rows_max):
        yield (*at, "rows_max"), "is 1, or left out: the object type says how many"
    if form.repeat == "by_key" and "row_id" not in names_of([write.row, write.body]):
        yield (*at, "row"), "repeat: by_key needs the idempotency key `$row_id` in the row"
    alone = form.rows_max == 1 or write.rows_max == 1
    if not alone and "rows" not in names_of(write.body):
        yield (*at, "body"), "does not hold `$rows`, and the request has many"
    if write.answer is not None:
        yield from _answer((*at, "answer"), write.answer, options)


def _answer(at: tuple[str | int, ...], answer: Answers, options: set[str]) -> Iterator[Problem]:
    yield from _names((*at, "id"), answer.id, ROW, options)
    if answer.otherwise == "retry" and not answer.verdicts:
        yield at, "no row could ever be written: say `verdicts`, or `otherwise`"
    for n, verdict in enumerate(answer.verdicts):
        place = (*at, "verdicts", n)
        if verdict.index is not None and verdict.value is not None:
            yield place, "a row is named by `index` or by `value`, not by both"
        yield from _names((*place, "of"), verdict.of, ROW, options)


def _request(
    at: tuple[str | int, ...], request: Read | Write, known: set[str], options: set[str]
) -> Iterator[Problem]:
    for part in ("path", "query", "body"):
        yield from _names((*at, part), getattr(request, part), known, options)


def _names(
    at: tuple[str | int, ...], template: Any, known: Iterable[str], options: set[str]
) -> Iterator[Problem]:
    """Names in a template that nothing stands for."""
    if isinstance(template, Mapping | list):
        inner = template.items() if isinstance(template, Mapping) else enumerate(template)
        for key, value in inner:
            yield from _names((*at, key), value, known, options)
        return
    for name in names_of(template):
        first, _, rest = name.partition(".")
        if first not in set(known):
            yield at, f"{name} is not known here; known are {', '.join(sorted(known))}"
        elif first == "option" and rest not in options:
            yield at, f"{name}: there is no such option"


def _option_pattern(pattern: str) -> str:
    """The same, of a pattern that pydantic applies, which knows no look-around."""
    try:
        TypeAdapter(Annotated[str, Field(pattern=pattern or None)])
    except SchemaError as error:
        return f"is no regular expression: {error}".splitlines()[0]
    return ""


def _pattern(pattern: str, groups: int = 0) -> str:
    """What is wrong with a regular expression; empty: nothing."""
    try:
        found = re.compile(pattern)
    except re.error as error:
        return f"is no regular expression: {error}"
    return "needs a group (…) around the id" if pattern and found.groups < groups else ""

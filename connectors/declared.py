"""A platform without code: one class that does what a description says.

A description is `connectors/platforms/<name>.yaml`, in the words of `declared_model.py`; how one is
written: docs/add-a-platform.md. `load` reads it and names every mistake with its line; `declared`
makes the connector class of it, which keeps the contract of `base.py` like any other.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field, SecretStr, create_model

from connectors.base import (
    Answer,
    ByIds,
    ByKeys,
    Changes,
    Count,
    Fetch,
    FieldsOf,
    Http,
    JobSpec,
    ObjectSpec,
    Page,
    PlatformError,
    Row,
    Spec,
    field_found,
)
from connectors.declared_checks import problems
from connectors.declared_errors import outcome_of, rule_of, there_already
from connectors.declared_forms import as_text, compiled, holds, look
from connectors.declared_model import Description, Read
from connectors.declared_pages import entries, following
from connectors.declared_rows import Known, Shape, Way
from connectors.oauth import Granted, Tokens, granted, newest
from connectors.outcome import Outcome
from schemas.yamlfile import ConfigInvalid, read_yaml, validated

__all__ = ["Declared", "declared", "load"]

JOB_PAGES_MAX = 1_000
"""Of one kind of a job's results: 100,000 rows, where a page has 100."""

T = TypeVar("T")


def load(path: Path) -> Description:
    """A description from its file. Raises ConfigInvalid: every mistake with file and line."""
    data, lines = read_yaml(path)
    description = validated(data, lines, Description)
    if wrong := [lines.problem(where, what) for where, what in problems(description)]:
        raise ConfigInvalid(wrong)
    return description


def declared(description: Description) -> type["Declared"]:
    """The connector class of a platform."""
    shapes = {name: Shape(form) for name, form in description.objects.items()}
    members = {
        "__doc__": description.about,
        "description": description,
        "shapes": shapes,
        "spec": Spec(
            platform=description.platform,
            base_url=description.base_url,
            config=_config(description),
            secrets=tuple(description.secrets),
            objects={name: _spec(shape) for name, shape in shapes.items()},
            fetchable=frozenset(n for n, form in description.objects.items() if form.changes),
        ),
    }
    return type(description.platform.title().replace("_", ""), (Declared,), members)


def _config(description: Description) -> type[BaseModel]:
    fields: dict[str, Any] = {
        name: (
            str,
            Field(
                default=... if option.default is None else option.default,
                description=option.about,
                pattern=option.pattern or None,
            ),
        )
        for name, option in description.options.items()
    }
    closed = ConfigDict(frozen=True, extra="forbid")
    return create_model(f"{description.platform}_options", __config__=closed, **fields)


def _spec(shape: Shape) -> ObjectSpec:
    form = shape.form
    keys = form.keys
    return ObjectSpec(
        kind=form.kind,
        repeat=form.repeat,
        batch_rows_max=form.rows_max,
        batch_bytes_max=form.bytes_max,
        write_quota=form.write_quota,
        read_quota=form.read_quota,
        match_quota=form.match_quota,
        key_field=form.key_field,
        key_option=form.key_option,
        identity_field=form.identity_field,
        together=shape.together,
        evidence=form.evidence,
        job=_job_spec(shape),
        match_rows_max=keys.rows_max if keys else 1,
        match_bytes_max=keys.bytes_max if keys else 2_500,
        read_rows_max=form.ids.rows_max if form.ids else 1,
    )


def _job_spec(shape: Shape) -> JobSpec | None:
    job = shape.form.job
    if job is None:
        return None
    return JobSpec(job.rows_min, job.rows_max, job.bytes_max, job.calls, shape.carries, job.quota)


class Declared:
    """One connection to a described platform."""

    spec: ClassVar[Spec]
    description: ClassVar[Description]
    shapes: ClassVar[Mapping[str, Shape]]

    def __init__(self, config: BaseModel, secrets: Mapping[str, SecretStr], http: Http) -> None:
        auth = self.description.auth
        self.config, self.http, self._secrets = config, http, secrets
        self._option = config.model_dump()
        self._tokens = None if auth.login is None else Tokens(self._login, expired=self._expired)
        self._proof = compiled({**self.description.headers, **auth.headers})
        self._basic = compiled(auth.basic)

    def map_fields(self, object_type: str, row: Row) -> Any:
        """The row as its template says. Pure."""
        shape = self.shapes[object_type]
        return shape.way(row).row(shape.known(row, self._option))

    async def upload_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """One request; a second one where the object turns out to be there already."""
        shape, row = self.shapes[object_type], rows[0]
        way, known = shape.way(row), [shape.known(one, self._option) for one in rows]
        try:
            answer = await self._write(way, known)
        except PlatformError as error:
            there = there_already(self.description.errors, error)
            if there and len(rows) == 1 and not row.object_id:
                again = replace(row, object_id=there)
                return await self.upload_batch(object_type, [again])
            return [self.handle_error(error)] * len(rows)
        return way.verdicts(answer, known)

    async def _write(self, way: Way, known: Sequence[Known]) -> Any:
        shaped = [way.row(one) for one in known]
        scope = {**known[0], "rows": shaped, "row": shaped[0]}
        method, path, body = way.form.method, way.path(scope), way.body(scope)
        answer = await self._call(method, path, way.query(scope), body, way.answer.success)
        only = way.answer.only
        if only is not None and not (answer is None or set(answer) <= set(only)):
            raise PlatformError(200, answer)
        return answer

    # ---- many rows in a job (`JobConnector`)

    async def open_job(self, object_type: str, rows: Sequence[Row]) -> str:
        """Hands them over, and the platform begins."""
        shape = self.shapes[object_type]
        form, way, option = _given(shape.form.job), _given(shape.job), self._option
        known = [shape.known(row, option) for row in rows]
        shaped = [shape.in_job(row, of) for row, of in zip(rows, known, strict=True)]
        scope = {**known[0], "rows": shaped, "row": shaped[0]}
        path, query, body = way.path(scope), way.query(scope), way.body(scope)
        answer = await self._call(way.form.method, path, query, body, {})
        if not (name := as_text(look(answer, form.name))):
            raise PlatformError(200, answer)
        return name

    async def start_job(self, receipt: str) -> None:
        """It was begun when it was handed over."""

    async def check_job(
        self, object_type: str, receipt: str, rows: Sequence[Row]
    ) -> list[Outcome] | None:
        """By its results; a row that none of them names was left alone."""
        shape = self.shapes[object_type]
        form, way = _given(shape.form.job), _given(shape.job)
        known: Known = {"option": self._option, "job": receipt}
        state = entries(await self._read(form.state, known), form.state)
        if not state or as_text(state[0]) not in form.ended:
            return None
        results = {name: await self._whole(read, known) for name, read in form.results.items()}
        return way.verdicts(results, [shape.known(row, self._option) for row in rows])

    async def _whole(self, read: Read, known: Known) -> list[Any]:
        """All pages of it."""
        records: list[Any] = []
        cursor, last = "", False
        for _ in range(JOB_PAGES_MAX):
            more = {"limit": read.rows_max, **({"cursor": cursor} if cursor else {})}
            answer = await self._read(read, {**known, **more})
            page = entries(answer, read)
            records += page
            cursor, last = following(read.cursor, answer, page, read.rows_max, cursor)
            if last:
                return records
        raise PlatformError(200, f"more than {JOB_PAGES_MAX} pages of results")

    def handle_error(self, error: PlatformError) -> Outcome:
        """By the error table. Pure."""
        return outcome_of(self.description.errors, error)

    async def fetch_records(self, request: Fetch) -> Page:
        """One request. Raises PlatformError; LookupError where the description has no such read."""
        shape, known = self.shapes[request.object_type], {"option": self._option}
        form = shape.form
        match request:
            case Changes(cursor=cursor, fields=fields, rows_max=rows_max):
                read = _given(form.changes)
                limit = min(rows_max or read.rows_max, read.rows_max)
                known |= {"limit": limit, "names": list(fields)}
                answer = await self._read(read, known | ({"cursor": cursor} if cursor else {}))
                records = entries(answer, read)
                after, last = following(read.cursor, answer, records, limit, cursor)
                return Page([shape.found(record) for record in records], after, last)
            case ByIds(ids=ids, fields=fields):
                read = _given(form.ids)
                known |= {"id": ids[0], "ids": list(ids), "names": list(fields)}
                answer = await self._read(read, known, none=read.none)
                return Page([shape.found(record) for record in entries(answer, read)])
            case ByKeys(field=field, values=values, fields=fields):
                read = _given(form.keys)
                known |= {"field": field, "value": values[0], "values": list(values)}
                known |= {"names": [field, *fields]}
                answer = await self._read(read, known, none=read.none)
                asked = {value.lower(): value for value in values}
                found = [shape.found(r).keyed(field, asked) for r in entries(answer, read)]
                last = following(read.cursor, answer, [], 0, "")[1]
                return Page([one for one in found if one.key.lower() in asked], "", last)
            case FieldsOf():
                return await self._fields(shape)
            case Count():  # no description names a count_quota
                return Page([])

    async def _fields(self, shape: Shape) -> Page:
        """The platform's list; where it has none, what the description names, after a probe."""
        form, known = shape.form, {"option": self._option}
        if form.field_list is None:
            await self._read(self.description.probe, known)
            return Page(
                [field_found(n, {"name": n, "type": f.type}) for n, f in form.fields.items()]
            )
        answer = await self._read(form.field_list, known)
        found = entries(answer, form.field_list)
        return Page([field_found(as_text(look(one, form.field_name)), one) for one in found])

    async def _read(self, read: Read, known: Known, *, none: Sequence[int] = ()) -> Any:
        """The answer; None where its status is in `none`."""
        path, query = compiled(read.path, path=True)(known), compiled(read.query)(known)
        body = None if read.body is None else compiled(read.body)(known)
        try:
            return await self._call(read.method, path, query, body, read.success)
        except PlatformError as error:
            if error.status not in none:
                raise
            return None

    async def _call(
        self, method: str, path: str, query: Mapping[str, Any], body: Any, marks: Mapping[str, Any]
    ) -> Any:
        """The decoded answer. With a fresh token where ours has expired: once, then it stands."""
        params = {name: text for name, value in query.items() if (text := as_text(value))}

        async def send(token: SecretStr | None) -> Any:
            answer = await self.http.request(
                method, path, params=params or None, json=body, headers=self._headers(token)
            )
            return _good(answer, {**self.description.success, **marks})

        return await (send(None) if self._tokens is None else self._tokens.use(send))

    def _expired(self, error: PlatformError) -> bool:
        rule = rule_of(self.description.errors, error)
        return rule is not None and rule.is_ == "renew"

    def _headers(self, token: SecretStr | None) -> dict[str, str]:
        known: Known = {n: secret.get_secret_value() for n, secret in self._secrets.items()}
        known["option"] = self._option
        if token is not None:
            known["token"] = token.get_secret_value()
        filled: dict[str, str] = self._proof(known)
        if pair := str(self._basic(known)):
            filled["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return filled

    async def _login(self) -> Granted:
        """Raises PlatformError, which the error table judges as any other."""
        login = self.description.auth.login
        assert login is not None
        secrets = {n: newest(self._secrets, n).get_secret_value() for n in self._secrets}
        known: Known = {**secrets, "option": self._option}
        path = compiled(login.path, path=True)(known)
        query, form = compiled(login.query)(known), compiled(login.form)(known)
        answer = await self.http.request(
            login.method, path, params=query or None, form=form or None
        )
        return granted(answer)


def _given(read: T | None) -> T:
    if read is None:
        raise LookupError("the description says nothing of such a read")
    return read


def _good(answer: Answer, marks: Mapping[str, Any]) -> Any:
    """The decoded body; None for an empty one. Raises PlatformError for a 2xx without its marks."""
    body = answer.json() if answer.body else None
    if not holds(body, marks):
        raise PlatformError(answer.status, body, answer.headers)
    return body

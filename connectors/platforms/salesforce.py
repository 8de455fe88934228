"""Salesforce: leads, contacts, accounts and opportunities out (source) and in (sink), by upsert on
an external id.

API      REST v59, sObject Collections, https://developer.salesforce.com/docs/atlas.en-us.244.0.api_rest.meta/api_rest/resources_composite_sobjects_collections_upsert.htm
Quotas   ratelimits/registry/salesforce.json: api (rolling 24 h), long (25 slow requests at once)
Repeats  upsert by external id changes nothing the second time
Jobs     many rows of a bulk run go through Bulk API 2.0: salesforce_bulk.py
Traps    200 even when rows fail (read each); the same new external id in two requests at once gives
         DUPLICATE_VALUE to one; limits come as 403; login errors have another shape
"""

import contextlib
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from pydantic import BaseModel, Field, SecretStr

from connectors.base import (
    Answer,
    ByIds,
    ByKeys,
    Changes,
    Count,
    Fetch,
    FieldsOf,
    Found,
    Http,
    ObjectSpec,
    Page,
    PlatformError,
    Row,
    Spec,
    field_found,
    iso,
)
from connectors.oauth import LoginRefused, Tokens, login
from connectors.outcome import Halted, Outcome, Parked, Retry, Throttled, TooLarge, Written
from connectors.platforms import salesforce_bulk as bulk
from connectors.platforms.salesforce_soql import (
    ORDER,
    Place,
    count,
    fitting,
    found,
    given_at,
    listed,
    soql,
)

JOBS = "/jobs/ingest"
PASSING_ROWS = frozenset({"UNABLE_TO_LOCK_ROW", "SERVER_UNAVAILABLE", "TOO_MANY_APEX_REQUESTS"})
PAGE_RECORDS = 2000  # REST resource "Query": records of one answer
OBJECTS = ("Lead", "Contact", "Account", "Opportunity")
GONE = frozenset({"ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY"})
ROWS_MAX = 200  # sObject Collections: up to 200 records a call
MATCH_ROWS_MAX, MATCH_BYTES_MAX = 200, 8_000
"""Addresses as people have them, which one question can list; of longer ones it takes several."""


class SalesforceConfig(BaseModel, frozen=True, extra="forbid"):
    """What an operator fills in. Secrets `client_id`, `client_secret`: a connected app's; with
    `refresh_token` the app acts for the person who authorised it, else for its own user."""

    api_version: str = Field(default="v59.0", pattern=r"^v\d+\.0$")
    external_id_field: str = Field(
        default="Syncline_Id__c",
        description="Custom text field, external id and unique, on each object that is written.",
    )


class _Result(msgspec.Struct):
    success: bool
    id: str | None = None
    created: bool = False
    errors: list[dict[str, Any]] = []


class Salesforce:
    """One organisation, through one connected app."""

    spec: ClassVar[Spec] = Spec(
        platform="salesforce",
        config=SalesforceConfig,
        secrets=("client_id", "client_secret"),
        secrets_instead=(("client_id", "client_secret", "refresh_token"),),
        base_url="",  # each organisation has its own
        objects={
            name: ObjectSpec(
                kind="state",
                repeat="safe",
                batch_rows_max=ROWS_MAX,
                write_quota="api",
                read_quota="api",
                count_quota="api",
                key_field="Syncline_Id__c",
                key_option="external_id_field",
                match_rows_max=MATCH_ROWS_MAX,
                match_bytes_max=MATCH_BYTES_MAX,
                together=lambda row: (bool(row.object_id), bulk.carries(row)),
                job=bulk.BULK,
                removals={"delete": ROWS_MAX},
            )
            for name in OBJECTS
        },
        fetchable=frozenset(OBJECTS),
    )

    def __init__(
        self, config: SalesforceConfig, secrets: Mapping[str, SecretStr], http: Http
    ) -> None:
        self.config, self.http = config, http

        async def ask(form: Mapping[str, str]) -> Answer:
            return await http.request("POST", "/services/oauth2/token", form=form)

        self._tokens = Tokens(login(secrets, ask))  # nobody says how long a session lasts

    async def fetch_records(self, request: Fetch) -> Page:
        """SOQL. Changes come in the order of SystemModstamp and id, which is the cursor."""
        match request:
            case Changes(object_type=kind, cursor=cursor, fields=fields, rows_max=rows_max):
                limit = min(rows_max or PAGE_RECORDS, PAGE_RECORDS)
                if request.since_ms and not cursor:
                    whole_s = request.since_ms // 1000 * 1000  # stamps have no part of a second
                    cursor = str(Place(iso(whole_s)))
                return await self._changes(kind, cursor, fields, limit)
            case ByIds(object_type=kind, ids=ids, fields=fields):
                return Page(await self._query(kind, fields, f"Id IN ({listed(ids)})"))
            case ByKeys(object_type=kind, field=field, values=values, fields=fields):
                records = [
                    record
                    for some in fitting(values)
                    for record in await self._query(
                        kind, (field, *fields), f"{field} IN ({listed(some)})"
                    )
                ]
                asked = {v.lower(): v for v in values}  # SOQL compares text without case
                return Page([record.keyed(field, asked) for record in records])
            case Count(object_type=kind):
                params = {"q": count(kind)}
                answer = await self._send("GET", "/query", params=params)
                return Page([], total=answer.json()["totalSize"])
            case FieldsOf(object_type=kind):
                answer = await self._send("GET", f"/sobjects/{kind}/describe")
                fields = answer.json()["fields"]
                return Page([field_found(f["name"], f) for f in fields])

    async def _changes(self, kind: str, cursor: str, fields: tuple[str, ...], limit: int) -> Page:
        """One page: the next of a query that is under way (QueryMore), else a new query that goes
        on behind the last record. A locator that has expired costs nothing but that."""
        place = Place.of(cursor)
        answer = await self._more(place.locator) if place.locator else None
        fresh = answer is None
        if answer is None:
            small = limit < PAGE_RECORDS  # the platform's own least page is 200
            tail = ORDER + (f" LIMIT {limit}" if small else "")
            params = {"q": soql(kind, fields, place.after, tail)}
            answer = await self._send("GET", "/query", params=params)
            place = place._replace(began=given_at(answer.headers))
        body = answer.json()
        records = [found(record) for record in body["records"]]
        place = place.behind(records, fresh=fresh)
        place = place._replace(locator=body.get("nextRecordsUrl", ""))
        last = bool(body["done"]) and (limit >= PAGE_RECORDS or len(records) < limit)
        return Page(records, str(place), last)

    async def _more(self, locator: str) -> Answer | None:
        """None: it has expired."""
        try:
            return await self._send("GET", locator)
        except PlatformError as error:
            if error.status not in (400, 404) or isinstance(error, LoginRefused):
                raise
            return None

    async def _query(self, kind: str, fields: Sequence[str], where: str) -> list[Found]:
        """All of it; for a question whose answer is short."""
        answer = (await self._send("GET", "/query", params={"q": soql(kind, fields, where)})).json()
        records = [found(record) for record in answer["records"]]
        while not answer["done"]:
            answer = (await self._send("GET", answer["nextRecordsUrl"])).json()
            records += map(found, answer["records"])
        return records

    def map_fields(self, object_type: str, row: Row) -> dict[str, Any]:
        """Null clears a field; numbers and booleans stay what they are."""
        return dict(row.fields)

    async def upload_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """One Collections call: upsert by our external id, or update by record id."""
        key, by_id = self.config.external_id_field, bool(rows[0].object_id)
        records = [
            {
                "attributes": {"type": object_type},
                **({"id": row.object_id} if by_id else {}),
                **self.map_fields(object_type, row),
                key: row.person,
            }
            for row in rows
        ]
        path = "/composite/sobjects" + ("" if by_id else f"/{object_type}/{key}")
        body = {"allOrNone": False, "records": records}
        return await self._each(rows, self._send("PATCH", path, body))

    async def remove_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """One Collections call: into the recycle bin, where people find them for 15 days."""
        ids = ",".join(row.object_id for row in rows)
        params = {"ids": ids, "allOrNone": "false"}
        return await self._each(rows, self._send("DELETE", "/composite/sobjects", params=params))

    async def _each(self, rows: Sequence[Row], asked: Awaitable[Answer]) -> list[Outcome]:
        """The verdicts of a Collections call."""
        try:
            answer = await asked
        except PlatformError as error:
            return [self.handle_error(error)] * len(rows)
        try:
            results = msgspec.json.decode(answer.body, type=list[_Result])
        except msgspec.DecodeError:  # a 200 of something between us and Salesforce
            return [Retry("the answer is no list of results")] * len(rows)
        if len(results) != len(rows):  # by place alone nobody knows whose verdicts are missing
            return [Retry(f"{len(results)} results for {len(rows)} rows")] * len(rows)
        return [self._verdict(row, result) for row, result in zip(rows, results, strict=True)]

    def _verdict(self, row: Row, result: _Result) -> Outcome:
        """Results stand in the order of the rows."""
        if result.success:
            return Written(result.id or row.object_id)
        error = result.errors[0] if result.errors else {}
        code, words = str(error.get("statusCode", "UNKNOWN")), str(error.get("message", ""))
        if row.removal and code in GONE:
            return Written(row.object_id)
        fields = error.get("fields") or [""]
        return self._refused(code, words, fields[0])

    def _refused(self, code: str, words: str, field: str) -> Outcome:
        ours = code == "DUPLICATE_VALUE" and self.config.external_id_field in words
        if code in PASSING_ROWS or ours or "Too many SOQL queries" in words:
            return Retry(f"{code}: {words}")
        return Parked(code, words, field)

    # ---- many rows in a job (`JobConnector`)

    async def open_job(self, object_type: str, rows: Sequence[Row]) -> str:
        """A job that holds these rows and is not started."""
        key, by_id = self.config.external_id_field, bool(rows[0].object_id)
        made = await self._send("POST", JOBS, bulk.job_of(object_type, key, by_id=by_id))
        job = f"{JOBS}/{made.json()['id']}"
        shaped = [(row, self.map_fields(object_type, row)) for row in rows]
        sheet = bulk.sheet(shaped, key, by_id=by_id)
        try:
            await self._send("PUT", f"{job}/batches", content=sheet)
        except PlatformError:
            with contextlib.suppress(PlatformError):  # else it is deleted there after a while
                await self._send("PATCH", job, {"state": "Aborted"})
            raise
        return str(made.json()["id"])

    async def start_job(self, receipt: str) -> None:
        try:
            await self._send("PATCH", f"{JOBS}/{receipt}", {"state": "UploadComplete"})
        except PlatformError as error:
            if error.status != 400 or "JOBSTATE" not in str(error.body).upper():
                raise  # else it was started before, and the answer was lost

    async def check_job(
        self, object_type: str, receipt: str, rows: Sequence[Row]
    ) -> list[Outcome] | None:
        """Rows are found in its files by our key; one that is in none was left alone."""
        job = f"{JOBS}/{receipt}"
        about = (await self._send("GET", job)).json()
        match about.get("state"):
            case "Open":
                await self.start_job(receipt)
                return None
            case "JobComplete" | "Failed" | "Aborted":
                pass
            case _:
                return None
        key = self.config.external_id_field
        why = str(about.get("errorMessage") or f"the job left it alone ({about['state']})")
        refused = about.get("numberRecordsFailed", -1)
        files = {
            "successfulResults": about.get("numberRecordsProcessed", 0) != refused,
            "failedResults": refused != 0,
        }
        outcomes: dict[str, Outcome] = {}
        for name in (name for name, filled in files.items() if filled):
            for record in bulk.records((await self._send("GET", f"{job}/{name}/")).body):
                said = record.get(bulk.ERROR)
                outcomes[record.get(key, "")] = (
                    self._refused(*bulk.words(said)) if said else Written(record[bulk.ID])
                )
        return [outcomes.get(row.person, Retry(why)) for row in rows]

    def handle_error(self, error: PlatformError) -> Outcome:
        """Errors are a list `[{errorCode, message}]`."""
        if isinstance(error, LoginRefused):
            return Halted(str(error))
        first = error.body[0] if isinstance(error.body, list) and error.body else error.body
        body: dict[str, Any] = first if isinstance(first, dict) else {}
        code = str(body.get("errorCode") or error.status)
        words = str(body.get("message") or "")
        match error.status:
            case 403 if code == "REQUEST_LIMIT_EXCEEDED":
                concurrent = "Concurrent" in words  # told apart by the message only
                return Throttled(5.0 if concurrent else None, "long" if concurrent else "day")
            case 401:
                return Retry(code) if code == "INVALID_SESSION_ID" else Halted(f"{code}: {words}")
            case 403:
                return Halted(f"{code}: {words}")
            case 413:
                return TooLarge(words)
            case s if s < 300 or s >= 500:  # a 2xx without JSON comes from something in between
                return Retry(f"{error} {code}")
            case _:
                return Parked(code, words)

    async def _send(
        self, method: str, path: str, json: Any = None, *,
        params: Mapping[str, str] | None = None, content: bytes | None = None,
    ) -> Answer:  # fmt: skip
        """With a fresh token where ours has expired: once, then the error stands."""
        if not path.startswith("/services/"):
            path = f"/services/data/{self.config.api_version}{path}"

        async def send(token: SecretStr) -> Answer:
            headers = {"authorization": f"Bearer {token.get_secret_value()}"}
            if content is not None:
                headers["content-type"] = "text/csv"
            return await self.http.request(
                method, path, json=json, params=params, content=content, headers=headers
            )

        return await self._tokens.use(send)

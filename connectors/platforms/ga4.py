"""Google Analytics 4: events in by the Measurement Protocol (sink), report rows out by the Data API
(source).

API      Measurement Protocol, https://developers.google.com/analytics/devguides/collection/protocol/ga4/reference
         Data API v1beta, https://developers.google.com/analytics/devguides/reporting/data/v1 (2026-08)
Quotas   ratelimits/registry/ga4.json: collect (ours, Google names none); tokens of a property
Repeats  an event that is sent again counts again: what was sent and not answered is never repeated
Traps    2xx for everything, a wrong secret and an empty event included: each event is checked here
         by the published rules before it is sent (`ga4_rules.py`), and is *accepted, unproven* then.
         The secret stands in the address. A request holds events of one client only. Reports of the
         last days change for two days and more, and have no cursor: whole days are read again
"""  # noqa: E501

import time
from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Literal
from urllib.parse import quote, unquote

import msgspec
from pydantic import BaseModel, Field, SecretStr, model_validator

from connectors.base import (
    Answer,
    ByIds,
    Changes,
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
)
from connectors.google import SECRETS, SECRETS_INSTEAD, TOKEN_URL, statement
from connectors.http import told
from connectors.oauth import Granted, LoginRefused, Tokens, login, newest
from connectors.outcome import Accepted, Halted, Outcome, Parked, Retry, Throttled, TooLarge
from connectors.platforms.ga4_rules import BODY_BYTES_MAX, EVENTS_MAX, wrong
from ratelimits.headers import retry_after_s

SCOPE = "https://www.googleapis.com/auth/analytics.readonly"
READERS = (("access_token",), SECRETS, *SECRETS_INSTEAD)
REPORT_ROWS = 10_000  # Data API, runReport: what one answer holds unless asked otherwise
DIMENSIONS_MAX, METRICS_MAX = 9, 10  # Data API, runReport
CLIENT = ("client_id", "app_instance_id", "user_id")
FIELDS = (
    "client_id app_instance_id user_id name params.session_id params.engagement_time_msec "
    "params.currency params.value params.transaction_id params.items params.method "
    "consent.ad_user_data consent.ad_personalization"
)


class GA4Config(BaseModel, frozen=True, extra="forbid"):
    """What an operator fills in. The secret `api_secret` is for writing; for reading one of
    `service_account`, `access_token`, or `client_id`, `client_secret` and `refresh_token`."""

    host: Literal["www.google-analytics.com", "region1.google-analytics.com"] = Field(
        default="www.google-analytics.com",
        description="region1.google-analytics.com: collected in the EU.",
    )
    measurement_id: str = Field(
        default="",
        pattern=r"^(G-[A-Z0-9]+)?$",
        description="Of the web stream, from Admin > Data streams: G-….",
    )
    firebase_app_id: str = Field(default="", description="Of an app's stream, instead.")
    analytics_360: bool = Field(
        default=False, description="A 360 property: values may have 500 characters, not 100."
    )
    ask_first: bool = Field(
        default=False,
        description="Ask Google's validation server about each batch before it is sent: a second request a batch, for a first trial.",  # noqa: E501
    )
    property_id: str = Field(
        default="", pattern=r"^\d*$", description="Of the property, for reading: digits only."
    )
    dimensions: tuple[str, ...] = Field(
        default=("date",),
        max_length=DIMENSIONS_MAX,
        description="What a report's row is of; `date` is the first.",
    )
    metrics: tuple[str, ...] = Field(
        default=("activeUsers", "eventCount"), min_length=1, max_length=METRICS_MAX
    )
    since: date = Field(default=date(2023, 7, 1), description="First day of a first run.")
    days_again: int = Field(
        default=3, ge=1, le=60, description="So many last days are read again by each run."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "GA4Config":
        if self.measurement_id and self.firebase_app_id:
            raise ValueError("measurement_id or firebase_app_id, not both")
        if not (self.measurement_id or self.firebase_app_id or self.property_id):
            raise ValueError("measurement_id or firebase_app_id to write, property_id to read")
        if self.dimensions[:1] != ("date",):
            raise ValueError("the first dimension is date: reports are read day by day")
        return self


def _together(row: Row) -> Hashable:
    """Client, user, properties and consent stand once in a request, for all of its events."""
    given = row.fields
    around = [
        (name, str(value))
        for name, value in given.items()
        if name.startswith(("user_properties.", "consent."))
    ]
    return (*(str(given.get(name)) for name in CLIENT), *sorted(around))


class GA4:
    """One data stream to write to, and its property to read."""

    spec: ClassVar[Spec] = Spec(
        platform="ga4",
        config=GA4Config,
        secrets=("api_secret",),
        secrets_instead=(*READERS, *(("api_secret", *names) for names in READERS)),
        base_url="https://{host}",
        hosts={
            "data": "https://analyticsdata.googleapis.com",
            "token": TOKEN_URL.removesuffix("/token"),
        },
        objects={
            "event": ObjectSpec(
                kind="fact",
                repeat="unsafe",
                batch_rows_max=EVENTS_MAX,
                batch_bytes_max=BODY_BYTES_MAX - 2_000,  # what stands around the events
                together=_together,
                evidence="none",
            ),
            "report": ObjectSpec(kind="state", repeat="unsafe", batch_rows_max=1, read_rows_max=1),
        },
        fetchable=frozenset({"report"}),
    )

    def __init__(self, config: GA4Config, secrets: Mapping[str, SecretStr], http: Http) -> None:
        self.config, self.http, self._secrets = config, http, secrets
        ask = login(secrets, self._ask_token, lambda key: statement(key, SCOPE, TOKEN_URL))
        self._tokens = Tokens(self._given_token if "access_token" in secrets else ask)

    # ---- writing

    def map_fields(self, object_type: str, row: Row) -> dict[str, Any]:
        """A whole body with this one event. What is null is left out: events clear nothing. Names
        of fields that have no place in it are `stray`, for `wrong`; such a body is not sent."""
        body: dict[str, Any] = {}
        event: dict[str, Any] = {"params": {}}
        for name, value in row.fields.items():
            place, dot, leaf = name.partition(".")
            if value is None:
                continue
            if name == "name":
                event["name"] = value
            elif name in CLIENT:
                body[name] = str(value)
            elif dot and place == "params":
                event["params"][leaf] = value
            elif dot and place == "user_properties":
                body.setdefault(place, {})[leaf] = {"value": value}
            elif dot and place == "consent":
                body.setdefault(place, {})[leaf] = value
            else:
                body.setdefault("stray", []).append(name)
        if row.occurred_ms:
            event["timestamp_micros"] = row.occurred_ms * 1000
        return {**body, "events": [event]}

    async def upload_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """Events of one client: those that Google would drop are parked, the others go out."""
        now_ms = time.time_ns() // 1_000_000
        bodies = [self.map_fields(object_type, row) for row in rows]
        refused = [
            Parked("unknown_object", "reports are only read")
            if object_type != "event"
            else wrong(body, now_ms, app=self._is_app, long=self.config.analytics_360)
            for body in bodies
        ]
        good = [body for body, why in zip(bodies, refused, strict=True) if why is None]
        if good:
            body = {**good[0], "events": [event for one in good for event in one["events"]]}
            if len(msgspec.json.encode(body)) > BODY_BYTES_MAX:
                return [TooLarge("more than 130 kB")] * len(rows)
            if self.config.ask_first and (no := await self._objection(body)):
                return [no] * len(rows)
            try:
                await self._collect(body)
            except PlatformError as error:
                return [self.handle_error(error)] * len(rows)
        return [why or Accepted() for why in refused]

    async def _collect(self, body: Mapping[str, Any]) -> None:
        """Raises PlatformError also for a 2xx that has words: Google's has none."""
        answer = await self._post("/mp/collect", body)
        if answer.body.strip():
            raise PlatformError(answer.status, "a success with a body is not Google's")

    async def _objection(self, body: Mapping[str, Any]) -> Parked | None:
        """What the validation server says against it. It records nothing; where it gives no answer
        that can be read the batch goes out: what we know of the rules, it keeps."""
        try:
            strict = {**body, "validation_behavior": "ENFORCE_RECOMMENDATIONS"}
            answer = await self._post("/debug/mp/collect", strict)
            said = msgspec.json.decode(answer.body, type=_Validated).validationMessages
        except (PlatformError, msgspec.DecodeError):
            return None
        if not said:
            return None
        return Parked(said[0].validationCode, said[0].description, said[0].fieldPath)

    async def _post(self, path: str, body: Any) -> Answer:
        stream = {"measurement_id": self.config.measurement_id}
        if self._is_app:
            stream = {"firebase_app_id": self.config.firebase_app_id}
        if "api_secret" not in self._secrets or not all(stream.values()):
            # Google would answer 204, and drop everything.
            words = "to write, give the secret api_secret, and measurement_id or firebase_app_id"
            raise PlatformError(401, words, sent=False)
        secret = self._secrets["api_secret"].get_secret_value()
        params = {**stream, "api_secret": secret}
        return await self.http.request("POST", path, params=params, json=body)

    @property
    def _is_app(self) -> bool:
        return bool(self.config.firebase_app_id)

    # ---- reading

    async def fetch_records(self, request: Fetch) -> Page:
        """Rows of a report. The cursor is a day and how many of its rows were read; after the last
        day it goes back by `days_again`."""
        match request:
            case Changes(object_type="report", cursor=cursor, rows_max=rows_max):
                return await self._day(cursor, min(rows_max or REPORT_ROWS, REPORT_ROWS))
            case ByIds(object_type="report", ids=(report_id,)):
                values = [unquote(part) for part in report_id.split("/")]
                pairs = zip(self.config.dimensions, values, strict=False)
                every = {"andGroup": {"expressions": [_is(name, value) for name, value in pairs]}}
                day = f"{values[0][:4]}-{values[0][4:6]}-{values[0][6:]}"
                report = await self._report(day, {"dimensionFilter": every, "limit": "1"})
                return Page(self._records(report))
            case FieldsOf(object_type="report"):
                return await self._names()
            case FieldsOf():
                return await self._probe()
            case _:
                raise PlatformError(404, "Google Analytics has no such read", sent=False)

    async def _day(self, cursor: str, limit: int) -> Page:
        text, _, offset_text = cursor.partition("|")
        day = date.fromisoformat(text) if text else self.config.since
        offset, today = int(offset_text or 0), datetime.now(UTC).date()
        names = [{"dimension": {"dimensionName": name}} for name in self.config.dimensions]
        asked = {"limit": str(limit), "offset": str(offset), "orderBys": names}
        report = await self._report(day.isoformat(), asked)
        records = self._records(report)
        seen = offset + len(records)
        if records and seen < report.rowCount:
            return Page(records, f"{day}|{seen}", last=False)
        if day < today:
            return Page(records, f"{day + timedelta(days=1)}|0", last=False)
        again = today - timedelta(days=self.config.days_again - 1)
        return Page(records, f"{max(again, self.config.since)}|0")

    async def _report(self, day: str, asked: Mapping[str, Any]) -> "_Report":
        body = {
            "dateRanges": [{"startDate": day, "endDate": day}],
            "dimensions": [{"name": name} for name in self.config.dimensions],
            "metrics": [{"name": name} for name in self.config.metrics],
            "returnPropertyQuota": True,
            **asked,
        }
        answer = await self._data("POST", ":runReport", body)
        try:
            report = msgspec.json.decode(answer.body, type=_Report)
        except msgspec.DecodeError:
            raise PlatformError(answer.status, "the answer is no report") from None
        quotas = report.propertyQuota.items()
        told({n.lower(): str(said["remaining"]) for n, said in quotas if "remaining" in said})
        return report

    def _records(self, report: "_Report") -> list[Found]:
        """The id is the tuple of the dimensions' values: rows have no other."""
        found: list[Found] = []
        for row in report.rows:
            names = [value.value for value in row.dimensionValues]
            values: dict[str, Any] = dict(zip(self.config.dimensions, names, strict=True))
            for head, value in zip(report.metricHeaders, row.metricValues, strict=True):
                whole = head.type == "TYPE_INTEGER"
                values[head.name] = int(value.value) if whole else float(value.value)
            raw = msgspec.json.encode(values)
            found.append(Found("/".join(quote(name, safe="") for name in names), raw, raw))
        return found

    async def _names(self) -> Page:
        """Dimensions and metrics that this property has, those of its own included."""
        said = (await self._data("GET", "/metadata")).json()
        return Page(
            [
                field_found(one["apiName"], one)
                for kind in ("dimensions", "metrics")
                for one in said.get(kind, ())
            ]
        )

    async def _probe(self) -> Page:
        """What an event may say; asks whichever of the two APIs there are secrets for."""
        if self.spec.wanted(self._secrets) == self.spec.secrets:
            await self._post("/debug/mp/collect", {"client_id": "0.0", "events": []})
        else:
            await self._names()
        names = FIELDS.split()
        return Page([field_found(n, {"name": n}) for n in names])

    async def _data(self, method: str, call: str, json: Any = None) -> Answer:
        if not self.config.property_id or self._secrets.keys() <= {"api_secret"}:
            words = "to read, give the option property_id, and service_account or another login"
            raise PlatformError(401, words, sent=False)
        path = f"/v1beta/properties/{self.config.property_id}{call}"

        async def send(token: SecretStr) -> Answer:
            headers = {"authorization": f"Bearer {token.get_secret_value()}"}
            return await self.http.request(method, path, json=json, headers=headers, host="data")

        return await self._tokens.use(send)

    async def _given_token(self) -> Granted:
        """Somebody else renews it behind its reference."""
        return Granted(newest(self._secrets, "access_token"))

    async def _ask_token(self, form: Mapping[str, str]) -> Answer:
        return await self.http.request("POST", "/token", form=form, host="token")

    # ---- failing

    def handle_error(self, error: PlatformError) -> Outcome:
        """Google's errors are `{error: {code, status, message}}`; the Measurement Protocol has
        none. Ten of their own faults in an hour close a property: the worker's gate waits."""
        if isinstance(error, LoginRefused):
            return Halted(str(error))
        body: Any = error.body.get("error") if isinstance(error.body, dict) else None
        said: dict[str, Any] = body if isinstance(body, dict) else {}
        code = str(said.get("status", error.status))
        words = str(said.get("message") or error.body or "")[:300]
        match error.status:
            case 429:
                wait_s = retry_after_s(error.headers.get("retry-after", ""), time.time())
                return Throttled(wait_s, _window(words))
            case 401 | 403:
                return Halted(f"{code}: {words}")
            case 413:
                return TooLarge(words)
            case s if s < 300 or s == 408 or s >= 500:
                return Retry(f"{error}")
            case _:
                return Parked(code, words)


class _Message(msgspec.Struct):
    fieldPath: str = ""  # noqa: N815 - the platform's names
    description: str = ""
    validationCode: str = "INVALID"  # noqa: N815


class _Validated(msgspec.Struct):
    validationMessages: list[_Message]  # noqa: N815


class _Value(msgspec.Struct):
    value: str = ""


class _Head(msgspec.Struct):
    name: str
    type: str = ""


class _ReportRow(msgspec.Struct):
    dimensionValues: list[_Value] = []  # noqa: N815
    metricValues: list[_Value] = []  # noqa: N815


class _Report(msgspec.Struct):
    metricHeaders: list[_Head] = []  # noqa: N815
    rows: list[_ReportRow] = []
    rowCount: int = 0  # noqa: N815
    propertyQuota: dict[str, dict[str, int]] = {}  # noqa: N815


def _is(dimension: str, value: str) -> dict[str, Any]:
    exact = {"matchType": "EXACT", "value": value, "caseSensitive": True}
    return {"filter": {"fieldName": dimension, "stringFilter": exact}}


def _window(words: str) -> str:
    """Only the words of a refusal say which quota was used up."""
    said = words.lower()
    for part, window in (
        ("concurrent", "concurrent"),
        ("per day", "tokens_day"),
        ("project per hour", "tokens_project_hour"),
        ("thresholded", "thresholded_hour"),
        ("per hour", "tokens_hour"),
    ):
        if part in said:
            return window
    return ""

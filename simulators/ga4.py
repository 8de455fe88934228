"""Google Analytics 4: a property with one web stream, over the Measurement Protocol and Data API.

Behaves as these pages say (read 2026-08)
- https://developers.google.com/analytics/devguides/collection/protocol/ga4/reference and
  /sending-events: 204 for everything, what is not well formed or not secret included; 25 events
- https://developers.google.com/analytics/devguides/collection/protocol/ga4/validating-events: the
  validation server records nothing, and looks at neither secret nor stream
- https://developers.google.com/analytics/devguides/reporting/data/v1/rest/v1beta/properties/runReport
  and /metadata; /devguides/reporting/data/v1/quotas: tokens, told in the body where one asks

Quotas of a standard property: `tokens_day` until midnight Pacific time, `tokens_hour`,
`tokens_project_hour`, `concurrent`; after ten answers of 5xx within an hour nothing is answered
(`server_errors`). 429 RESOURCE_EXHAUSTED; only its words say which. The Measurement Protocol has no
limit.

Our reading where the pages are silent
- an event that breaks a rule is dropped, the others of its request are kept; a request that breaks
  one as a whole (26 events, no client, 130 kB) is dropped whole
- an hour of a quota is any 60 minutes; a report costs 10 tokens, and 1 more for 1,000 rows
- reports show what has been collected at once, and what was there from the beginning
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from simulators.ga4_rules import BODY_BYTES_MAX, Event, Payload, event_wrong, payload_wrong
from simulators.ga4_tokens import Google
from simulators.quotas import Calendar, Concurrent, Rolling, Window
from simulators.server import Answer, Call, Platform, Refused, Source, each
from simulators.store import Index, Store

PROPERTY = r"/v1beta/properties/(\d+)"
DIMENSIONS_MAX, METRICS_MAX, ROWS_USUAL, ROWS_MAX = 9, 10, 10_000, 250_000
DIMENSIONS = ("date", "eventName", "country", "sessionSource", "pagePath")
METRICS = {"eventCount": "TYPE_INTEGER", "activeUsers": "TYPE_INTEGER", "value": "TYPE_FLOAT"}
COST = 10


class Filter(msgspec.Struct):
    filter: dict[str, Any] | None = None
    andGroup: dict[str, list["Filter"]] | None = None  # noqa: N815 - the platform's names


class Query(msgspec.Struct):
    dateRanges: list[dict[str, str]]  # noqa: N815
    metrics: list[dict[str, str]]
    dimensions: list[dict[str, str]] = []
    dimensionFilter: Filter | None = None  # noqa: N815
    orderBys: list[dict[str, Any]] = []  # noqa: N815
    limit: str = str(ROWS_USUAL)
    offset: str = "0"
    returnPropertyQuota: bool = False  # noqa: N815


class ServerErrors(Rolling):
    """Spent by our own failures, not by requests that come."""

    def take(self, now: float) -> None: ...

    def failed(self, now: float) -> None:
        super().take(now)


class GA4(Platform):
    """`reported`: rows of reports that are there from the beginning, dimensions and metrics flat:
    {"date": "20260101", "country": "Germany", "eventCount": 3}."""

    name = "ga4"
    routes = [
        ("POST", r"/mp/collect", "collect"),
        ("POST", r"/debug/mp/collect", "validate"),
        ("POST", r"/token", "token"),
        ("POST", PROPERTY + r":runReport", "run_report"),
        ("GET", PROPERTY + r"/metadata", "metadata"),
    ]

    def __init__(
        self,
        reported: Source[Mapping[str, Any]] = (),
        *,
        measurement_id: str = "G-TEST123",
        api_secret: str = "ga4-api-secret",
        property_id: str = "123456789",
        public_key: str = "",
        seed: int = 0,
        quota: Mapping[str, str] | None = None,
        script: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """`public_key`: PEM, of the service account that may log in; empty: none may."""
        self.measurement_id, self.api_secret = measurement_id, api_secret
        self.property_id, self._reported = property_id, reported
        self.google = Google(public_key)
        self.reported: list[Mapping[str, Any]] = []
        self.errors = ServerErrors("server_errors", 10, 3_600)
        self.project = Rolling("tokens_project_hour", 14_000, 3_600)
        self.day = Calendar("tokens_day", 200_000, zone="America/Los_Angeles")
        self.hour = Rolling("tokens_hour", 40_000, 3_600)
        self.at_once = Concurrent("concurrent", 10)
        stores = {
            "events": Store({"what": Index()}, "what"),
            "users": Store({"client_id": Index()}, "client_id"),
        }
        windows = [self.errors, self.day, self.hour, self.project, self.at_once]
        super().__init__(stores, windows, seed=seed, quota=quota, script=script)
        self.fill()

    def fill(self) -> None:
        self.reported = list(each(self._reported))

    # -- who may, and how much

    def recognise(self, call: Call) -> None:
        """The Data API wants a token; the Measurement Protocol answers anybody."""
        if not call.path.startswith("/v1beta/"):
            return
        how, _, token = call.headers.get("Authorization", "").partition(" ")
        if how != "Bearer" or not self.google.good(token, self.clock.now()):
            words = "Request had invalid authentication credentials."
            raise Refused(_error(401, "UNAUTHENTICATED", words))
        if f"/properties/{self.property_id}" not in call.path:
            words = "User does not have sufficient permissions for this property."
            raise Refused(_error(403, "PERMISSION_DENIED", words))

    def expire_tokens(self) -> None:
        self.google.app.expire()

    def limits(self, call: Call) -> list[Window]:
        return list(self.windows.values()) if call.path.startswith("/v1beta/") else []

    def over_limit(self, policy: str, now: float, *, bare: bool = False) -> Answer:
        if bare:
            return Answer(429, b"<html>429</html>", {"Content-Type": "text/html"})
        words = {
            "tokens_day": "Exhausted property tokens per day.",
            "tokens_hour": "Exhausted property tokens per hour.",
            "tokens_project_hour": "Exhausted property tokens for a project per hour.",
            "concurrent": "Exhausted concurrent requests quota. Please send fewer requests.",
            "server_errors": "Exhausted server errors quota for this property and project.",
        }
        return _error(429, "RESOURCE_EXHAUSTED", words.get(policy, "Resource exhausted."))

    def done(self, call: Call) -> None:
        fault = call.struck.first("status", "status_after")
        if fault is not None and fault.status >= 500 and call.path.startswith("/v1beta/"):
            self.errors.failed(self.clock.now())

    # -- the Measurement Protocol

    def collect(self, call: Call) -> Answer:
        """Nobody is told what became of it."""
        params = call.params()
        known = (params.get("measurement_id"), params.get("api_secret"))
        payload = self._payload(call.body)
        if payload is None or payload_wrong(payload, len(call.body)):
            self.rows["dropped"] += 1 if payload is None else len(payload.events)
        elif known != (self.measurement_id, self.api_secret):
            self.rows["of_nobody"] += len(payload.events)
        else:
            for row, event in enumerate(payload.events):
                self.rows[self._event(call, row, payload, event)] += 1
            self._properties(call, payload)
        return Answer(204)

    def _event(self, call: Call, row: int, payload: Payload, event: Event) -> str:
        at_ms = (event.timestamp_micros or payload.timestamp_micros or call.at_ms * 1000) // 1000
        if event_wrong(event, at_ms, call.at_ms):
            return "dropped"
        values = {f"params.{name}": value for name, value in event.params.items()}
        if call.struck.refusing and call.struck.refuses(values.get):
            return "dropped"
        values |= {"client_id": payload.client_id, "name": event.name, "at_ms": at_ms}
        if payload.user_id:
            values["user_id"] = payload.user_id
        values["what"] = msgspec.json.encode(values, order="sorted").decode()
        events = self.stores["events"]
        events.create(call, row, f"event-{len(events.numbered)}", values)
        return "written"

    def _properties(self, call: Call, payload: Payload) -> None:
        users = self.stores["users"]
        values = {name: held.get("value") for name, held in payload.user_properties.items()}
        known = users.objects.get(payload.client_id)
        if known is not None:
            users.update(call, 0, known, values)
        elif values:
            kept = {name: value for name, value in values.items() if value is not None}
            users.create(call, 0, payload.client_id, {"client_id": payload.client_id, **kept})

    def validate(self, call: Call) -> Answer:
        payload = self._payload(call.body)
        if payload is None:
            found = [("", "Unable to parse Measurement Protocol JSON payload.", "VALUE_INVALID")]
        else:
            found = list(payload_wrong(payload, len(call.body)))
            for event in payload.events:
                at_ms = (event.timestamp_micros or payload.timestamp_micros or 0) // 1000
                found += event_wrong(event, at_ms or call.at_ms, call.at_ms)
        names = ("fieldPath", "description", "validationCode")
        return Answer(
            200, {"validationMessages": [dict(zip(names, f, strict=True)) for f in found]}
        )

    def _payload(self, body: bytes) -> Payload | None:
        if len(body) > 10 * BODY_BYTES_MAX:
            return None
        try:
            return msgspec.json.decode(body, type=Payload)
        except msgspec.DecodeError:
            return None

    # -- the Data API

    def run_report(self, call: Call, _: str) -> Answer:
        query = msgspec.json.decode(call.body, type=Query)
        dimensions = [one.get("name", "") for one in query.dimensions]
        metrics = [one.get("name", "") for one in query.metrics]
        try:
            limit, offset = int(query.limit), int(query.offset)
            orders = [dimensions.index(o["dimension"]["dimensionName"]) for o in query.orderBys]
        except (ValueError, KeyError):
            words = "limit, offset or orderBys"
            raise Refused(_error(400, "INVALID_ARGUMENT", words)) from None
        self._check(dimensions, metrics, limit, offset)
        found = self._rows(query, dimensions, metrics, orders)
        page = found[offset : offset + limit]
        self.rows["read"] += len(page)
        cost = COST + len(page) // 1_000
        now = self.clock.now()
        for window in (self.day, self.hour, self.project):
            for _more in range(cost - 1):  # one was taken when it came
                window.take(now)
        body: dict[str, Any] = {
            "dimensionHeaders": [{"name": name} for name in dimensions],
            "metricHeaders": [{"name": name, "type": METRICS[name]} for name in metrics],
            "rows": [
                {
                    "dimensionValues": [{"value": value} for value in key],
                    "metricValues": [{"value": _number(value)} for value in sums],
                }
                for key, sums in page
            ],
            "rowCount": len(found),
            "metadata": {"currencyCode": "EUR", "timeZone": "America/Los_Angeles"},
            "kind": "analyticsData#runReport",
        }
        if not page:
            del body["rows"]
        if query.returnPropertyQuota:
            body["propertyQuota"] = self._quota(cost, now)
        return Answer(200, body)

    def _check(self, dimensions: list[str], metrics: list[str], limit: int, offset: int) -> None:
        unknown = [n for n in dimensions if n not in DIMENSIONS and not n.startswith("custom")]
        unknown += [name for name in metrics if name not in METRICS]
        if unknown:
            words = f"Did you mean another field? Field {unknown[0]} is not a valid field."
        elif len(dimensions) > DIMENSIONS_MAX or not 0 < len(metrics) <= METRICS_MAX:
            words = "Requests are limited to 9 dimensions and 10 metrics."
        elif not 0 < limit <= ROWS_MAX or offset < 0:
            words = "limit must be positive and at most 250000, offset must not be negative."
        else:
            return
        raise Refused(_error(400, "INVALID_ARGUMENT", words))

    def _rows(
        self, query: Query, dimensions: list[str], metrics: list[str], orders: list[int]
    ) -> list[tuple[tuple[str, ...], list[float]]]:
        sums: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0] * len(metrics))
        spans = [(_day(r["startDate"]), _day(r["endDate"])) for r in query.dateRanges]
        for fact in self._facts():
            if not any(start <= fact["date"] <= end for start, end in spans):
                continue
            if query.dimensionFilter is not None and not _passes(fact, query.dimensionFilter):
                continue
            row = sums[tuple(str(fact.get(name, "(not set)")) for name in dimensions)]
            for place, name in enumerate(metrics):
                row[place] += fact.get(name, 0)
        found = list(sums.items())
        if orders:
            found.sort(key=lambda one: [one[0][place] for place in orders])
        else:
            found.sort(key=lambda one: -one[1][0])
        return found

    def _facts(self) -> Iterable[Mapping[str, Any]]:
        yield from self.reported
        for event in self.stores["events"].alive():
            day = datetime.fromtimestamp(event.values["at_ms"] / 1000, UTC)
            yield {
                "date": day.strftime("%Y%m%d"),
                "eventName": event.values["name"],
                "eventCount": 1,
                "value": event.values.get("params.value", 0),
            }

    def _quota(self, cost: int, now: float) -> dict[str, Any]:
        def left(window: Window, consumed: int = 0) -> dict[str, int]:
            remaining = max(0, (window.limit or 0) - window.used(now))
            return {"consumed": consumed, "remaining": remaining}

        return {
            "tokensPerDay": left(self.day, cost),
            "tokensPerHour": left(self.hour, cost),
            "concurrentRequests": left(self.at_once),
            "serverErrorsPerProjectPerHour": left(self.errors),
            "potentiallyThresholdedRequestsPerHour": {"remaining": 120},
            "tokensPerProjectPerHour": left(self.project, cost),
        }

    def metadata(self, call: Call, property_id: str) -> Answer:
        return Answer(
            200,
            {
                "name": f"properties/{property_id}/metadata",
                "dimensions": [{"apiName": n, "uiName": n} for n in DIMENSIONS],
                "metrics": [
                    {"apiName": n, "uiName": n, "type": kind} for n, kind in METRICS.items()
                ],
            },
        )

    def token(self, call: Call) -> Answer:
        return self.google.token(call.body, self.clock.now())

    # -- small things

    def act(self, call: Call, acts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of reports that came from elsewhere, or that grew -> `[{"rows"}]`."""
        self.reported += acts
        return [{"rows": len(self.reported)} for _ in acts]

    def not_found(self, call: Call) -> Answer:
        return Answer(404, b"<html>404</html>", {"Content-Type": "text/html"})

    def malformed(self, call: Call, problem: Exception) -> Answer:
        return _error(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. {problem}")


def _error(status: int, name: str, words: str) -> Answer:
    return Answer(status, {"error": {"code": status, "message": words, "status": name}})


def _day(text: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise Refused(_error(400, "INVALID_ARGUMENT", f"{text} is no date we know here."))
    return date.fromisoformat(text).strftime("%Y%m%d")


def _passes(fact: Mapping[str, Any], wanted: Filter) -> bool:
    """Exact texts, and all of a group; nothing else is understood here."""
    if wanted.andGroup is not None:
        return all(_passes(fact, one) for one in wanted.andGroup["expressions"])
    said = wanted.filter or {}
    exact = said.get("stringFilter", {})
    if exact.get("matchType") != "EXACT":
        raise Refused(_error(400, "INVALID_ARGUMENT", "Only exact filters are understood here."))
    return str(fact.get(said.get("fieldName", ""), "(not set)")) == exact.get("value")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)

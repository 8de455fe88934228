"""HubSpot: contacts, companies, deals out (source) and in (sink); associations, custom events in.

API      CRM v3, https://developers.hubspot.com/docs/api-reference/crm-contacts-v3/guide (2026-03)
Quotas   ratelimits/registry/hubspot.json: read, search, write
Repeats  batch upsert on a unique property of our own changes nothing the second time
Traps    answers are not in input order; one bad row fails the whole batch unless every row carries
         an objectWriteTraceId; a 2xx with neither result nor error for a row has been seen
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

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
    milliseconds,
)
from connectors.oauth import LoginRefused, Tokens, login
from connectors.outcome import (
    Accepted,
    Halted,
    Outcome,
    Parked,
    Retry,
    Throttled,
    TooLarge,
    Written,
)
from connectors.platforms import hubspot_associations as associations
from connectors.platforms import hubspot_events as events
from connectors.platforms import hubspot_search as search
from ratelimits.headers import retry_after_s

OBJECTS = {
    "contact": "/crm/v3/objects/contacts",
    "company": "/crm/v3/objects/companies",
    "deal": "/crm/v3/objects/deals",
}
REMOVALS = {
    "contact": {"archive": 100, "erase": 1}, "company": {"archive": 100}, "deal": {"archive": 100},
}  # fmt: skip
"""Pages "Archive a batch of contacts", "Permanently delete a contact (GDPR-compliant)"."""
PAGE_RECORDS = 100  # page "Contacts", list: limit at most 100
PASSING = frozenset({423, 502, 503, 504, 521, 522, 523, 524, 525, 526})  # page "Error handling"


class HubSpotConfig(BaseModel, frozen=True, extra="forbid"):
    """What an operator fills in. The secret `token` is a private app's access token; in its place
    `client_id`, `client_secret` and `refresh_token` of an app that was authorised by OAuth."""

    key_property: str = Field(
        default="syncline_id",
        description="Unique text property on each kind of object that holds our key; create it before the first run.",  # noqa: E501
    )

    read_by: Literal["list", "search"] = Field(
        default="list",
        description="How runs read all objects: by list (100 a call, in the order of creation), or by search (200 a call at 5 calls a second, the change of longest ago first; properties of at most 2,500 characters in all).",  # noqa: E501
    )


class _Object(msgspec.Struct):
    id: str
    properties: msgspec.Raw
    updatedAt: str = ""  # noqa: N815 - the platform's name
    archived: bool = False


class _Next(msgspec.Struct):
    after: str = ""


class _Paging(msgspec.Struct):
    next: _Next | None = None


class _Listing(msgspec.Struct):
    results: list[msgspec.Raw]
    paging: _Paging | None = None
    total: int = -1


class HubSpot:
    """One portal, through one private or authorised app."""

    spec: ClassVar[Spec] = Spec(
        platform="hubspot",
        config=HubSpotConfig,
        secrets=("token",),
        secrets_instead=(("client_id", "client_secret", "refresh_token"),),
        base_url="https://api.hubapi.com",
        objects={
            **{
                name: ObjectSpec(
                    kind="state",
                    repeat="safe",
                    batch_rows_max=100,  # pages "Contacts", "Companies", "Deals", batch upsert: 100
                    key_field="syncline_id",
                    key_option="key_property",
                    match_quota="search",
                    count_quota="search",
                    removals=REMOVALS[name],
                )
                for name in OBJECTS
            },
            **dict.fromkeys(associations.KINDS, associations.ASSOCIATION),
            "event": events.EVENT,
        },
        fetchable=frozenset(OBJECTS),
    )

    def __init__(self, config: HubSpotConfig, secrets: Mapping[str, SecretStr], http: Http) -> None:
        self.config, self.http, self._token = config, http, secrets.get("token")

        async def ask(form: Mapping[str, str]) -> Answer:
            return await http.request("POST", "/oauth/v1/token", form=form)

        self._tokens = Tokens(login(secrets, ask))
        self.changes_quota = "search" if config.read_by == "search" else "read"

    async def fetch_records(self, request: Fetch) -> Page:
        """Objects in the list's own order, whose cursor is HubSpot's `after` and does not expire;
        or by search, the change of longest ago first."""
        match request:
            case Changes() if self.config.read_by == "search":
                return await self._searched(request)
            case Changes(object_type=kind, cursor=cursor, fields=fields, rows_max=rows_max):
                limit = min(rows_max or PAGE_RECORDS, PAGE_RECORDS)
                params = {"limit": str(limit), "properties": ",".join(fields)}
                if cursor:
                    params["after"] = cursor
                return self._page(await self._call("GET", OBJECTS[kind], params=params))
            case ByIds(object_type=kind, ids=ids, fields=fields):
                body = {"inputs": [{"id": i} for i in ids], "properties": list(fields)}
                path = f"{OBJECTS[kind]}/batch/read"
                return self._page(await self._call("POST", path, body))
            case ByKeys():
                return await self._search(request)
            case FieldsOf(object_type="event"):
                return events.fields()
            case FieldsOf(object_type=kind) if kind in associations.KINDS:
                return associations.fields()
            case FieldsOf(object_type=kind):
                path = OBJECTS[kind].replace("objects", "properties")
                return self._page(await self._call("GET", path), raw_id="name")
            case Count(object_type=kind):  # the list tells no total, the search does
                return await self._find(kind, {"limit": 1})

    async def _searched(self, request: Changes) -> Page:
        limit = min(request.rows_max or search.PAGE_RECORDS, search.PAGE_RECORDS)
        place = search.Place.of(request.cursor)
        if not request.cursor:
            place = search.Place(request.since_ms)
        query = place.query(request.object_type, request.fields, limit)
        answer = await self._find(request.object_type, query)
        records, place, last = place.after(answer.records, limit)
        return Page(records, str(place), last, total=answer.total)

    async def _search(self, request: ByKeys) -> Page:
        values = [v.lower() for v in request.values] if request.field == "email" else request.values
        field = {"propertyName": request.field, "operator": "IN", "values": list(values)}
        body = {
            "filterGroups": [{"filters": [field]}],
            "properties": [request.field, *request.fields],
            "limit": search.PAGE_RECORDS,
        }
        page = await self._find(request.object_type, body)
        asked = {v.lower(): v for v in request.values}
        records = [r.keyed(request.field, asked) for r in page.records]
        return Page(records, page.cursor, page.last)

    async def _find(self, object_type: str, query: Mapping[str, Any]) -> Page:
        return self._page(await self._call("POST", f"{OBJECTS[object_type]}/search", query))

    def _page(self, body: bytes, raw_id: str = "id") -> Page:
        listing = msgspec.json.decode(body, type=_Listing)
        if raw_id != "id":
            names = [(msgspec.json.decode(raw)[raw_id], bytes(raw)) for raw in listing.results]
            return Page([Found(name, raw, raw) for name, raw in names])
        records: list[Found] = []
        for raw in listing.results:
            there = msgspec.json.decode(raw, type=_Object)
            records.append(
                Found(
                    there.id,
                    bytes(there.properties),
                    bytes(raw),
                    milliseconds(there.updatedAt),
                    there.archived,
                )
            )
        after = listing.paging.next.after if listing.paging and listing.paging.next else ""
        return Page(records, after, not after, listing.total)

    def map_fields(self, object_type: str, row: Row) -> dict[str, str]:
        """All HubSpot values are text; an empty text clears. (Events: hubspot_events.py.)"""
        return {name: _text(value) for name, value in row.fields.items()}

    async def upload_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """Upsert on our unique property, or update by id where the id is known; objects are
        associated; events are sent."""
        if object_type == "event":
            return await self._spared(rows, events.problem, self._tell)
        if object_type in associations.KINDS:
            send = partial(self._associate, object_type)
            return await self._spared(rows, associations.problem, send)
        key = self.config.key_property
        by_id = bool(rows[0].object_id)
        inputs = [
            {
                "id": row.object_id if by_id else row.person,
                **({} if by_id else {"idProperty": key}),
                "objectWriteTraceId": str(n),
                "properties": {**self.map_fields(object_type, row), key: row.person},
            }
            for n, row in enumerate(rows)
        ]
        path = f"{OBJECTS[object_type]}/batch/{'update' if by_id else 'upsert'}"
        return await self._answered(rows, path, {"inputs": inputs}, self._verdicts)

    async def _answered(
        self, rows: Sequence[Row], path: str, body: Any,
        verdicts: Callable[[Sequence[Row], dict[str, Any]], list[Outcome]],
    ) -> list[Outcome]:  # fmt: skip
        """What the answer says of each row."""
        try:
            answer = msgspec.json.decode(await self._call("POST", path, body))
        except PlatformError as error:
            return [self.handle_error(error)] * len(rows)
        except msgspec.DecodeError:  # a 200 of something between us and HubSpot
            return [Retry("the answer is no JSON")] * len(rows)
        return verdicts(rows, answer)

    async def remove_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """Archived, which people can take back for 90 days; or deleted for good. Neither answer
        says anything: what is not there any more is passed over."""
        path = OBJECTS[object_type]
        try:
            if rows[0].removal == "erase":
                await self._call("POST", f"{path}/gdpr-delete", {"objectId": rows[0].object_id})
            else:
                inputs = [{"id": row.object_id} for row in rows]
                await self._call("POST", f"{path}/batch/archive", {"inputs": inputs})
        except PlatformError as error:
            if error.status != 404 or len(rows) > 1:
                return [self.handle_error(error)] * len(rows)
        return [Written(row.object_id) for row in rows]

    async def _spared(
        self, rows: Sequence[Row], problem: Callable[[Row], Parked | None],
        send: Callable[[Sequence[Row]], Awaitable[list[Outcome]]],
    ) -> list[Outcome]:  # fmt: skip
        """What would have the whole call refused stays here, and the other rows go."""
        wrong = [problem(row) for row in rows]
        good = [row for row, said in zip(rows, wrong, strict=True) if said is None]
        outcomes = iter(await send(good) if good else ())
        return [said if said is not None else next(outcomes) for said in wrong]

    async def _tell(self, rows: Sequence[Row]) -> list[Outcome]:
        """Events. The answer has no verdict on any of them: taken, unproven."""
        try:
            await self._call("POST", events.PATH, {"inputs": [events.shape(row) for row in rows]})
        except PlatformError as error:
            return [self.handle_error(error)] * len(rows)
        return [Accepted() for _ in rows]

    async def _associate(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        path, pairs = associations.path(object_type), associations.body(object_type, rows)
        return await self._answered(rows, path, pairs, associations.verdicts)

    def _verdicts(self, rows: Sequence[Row], answer: dict[str, Any]) -> list[Outcome]:
        """Matched by trace id, our key or the id; a row that is nowhere was not written."""
        outcomes: list[Outcome] = [Retry("no verdict in the answer")] * len(rows)
        place = {
            name: n for n, row in enumerate(rows) for name in (row.person, row.object_id) if name
        }
        for result in answer.get("results", ()):
            trace = result.get("objectWriteTraceId")
            key = result.get("properties", {}).get(self.config.key_property, "")
            n = int(trace) if trace else place.get(key, place.get(result["id"]))
            if n is not None:
                outcomes[n] = Written(result["id"])
        for error in answer.get("errors", ()):
            context = error.get("context", {})
            for trace in context.get("objectWriteTraceId", ()):
                fields = context.get("propertyName") or context.get("name") or [""]
                outcomes[int(trace)] = Parked(
                    error.get("category", "ERROR"), error.get("message", ""), fields[0]
                )
        return outcomes

    def handle_error(self, error: PlatformError) -> Outcome:
        """Page "Error handling". An unknown 4xx parks; it does not loop."""
        if isinstance(error, LoginRefused):
            return Halted(str(error))
        body: dict[str, Any] = error.body if isinstance(error.body, dict) else {}
        code, words = (
            str(body.get("category", error.status)),
            str(body.get("message", error.body or "")),
        )
        match error.status:
            case 429:
                return Throttled(_retry_after(error.headers), str(body.get("policyName", "")))
            case 401 | 403:
                return Halted(f"{code}: {words}"[:300])
            case 413:
                return TooLarge(words)
            case 477:  # being moved between data centres
                return Throttled(_retry_after(error.headers) or 60.0, "migration")
            case s if s == 0 or s in PASSING or s >= 500:
                return Retry(f"{error}")
            case _:
                return Parked(code, words)

    async def _call(
        self, method: str, path: str, json: Any = None, params: Mapping[str, str] | None = None
    ) -> bytes:
        async def send(token: SecretStr) -> bytes:
            headers = {"authorization": f"Bearer {token.get_secret_value()}"}
            return (
                await self.http.request(method, path, json=json, params=params, headers=headers)
            ).body

        if self._token is not None:
            return await send(self._token)
        return await self._tokens.use(send)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return ";".join(map(_text, value))  # page "Properties": multiple checkboxes
        case _:
            return str(value)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date as HTTP allows; not promised by HubSpot on 429, promised on 477."""
    return retry_after_s(headers.get("retry-after", ""), time.time())

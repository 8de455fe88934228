"""A Salesforce organisation: leads, contacts, accounts and opportunities over the REST API.

Behaves as these pages say (read 2026-08)
- https://developer.salesforce.com/docs/atlas.en-us.244.0.api_rest.meta/api_rest/resources_composite_sobjects_collections_upsert.htm
  and its neighbours: 200 records a call, results in their order, 200 also when rows fail
- https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/: limits,
  `Sforce-Limit-Info`, 16,384 bytes of URI and headers
- https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/errorcodes.htm
- salesforce_fields.py: fields, ids, the checks of a record; soql.py: queries;
  salesforce_outbound.py: outbound messages

Quotas: `day` (100,000 requests in any 24 h) and `long` (no new request while 25 have been running
for 20 s or longer); both answer 403 REQUEST_LIMIT_EXCEEDED, told apart by the message. Logging in,
`/limits` and the list of versions take no token.

Our reading where the pages are silent
- one external id twice in a call: the later rows get DUPLICATE_VALUE (seen for Apex)
- two requests at once that create one external id: while the first is still running, the second
  gets DUPLICATE_VALUE for that row
- the external id field tells upper from lower case; a repeated equal upsert moves SystemModstamp,
  as any update does, and is no effect in the ledger
- `duplicate_rule=True` blocks a new record whose address another one has: DUPLICATES_DETECTED
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from simulators import soql
from simulators.portal import Lead
from simulators.quotas import Rolling, Slow, Window
from simulators.salesforce_answers import app, errors, log_in, shape, taken, well_formed
from simulators.salesforce_bulk import Job, Jobs
from simulators.salesforce_fields import (
    EXTERNAL_ID,
    FIELDS,
    NAMED_BY,
    PREFIX,
    Error,
    Mistyped,
    check,
    error,
    full_id,
    looks_like_id,
    new_id,
)
from simulators.salesforce_outbound import Events
from simulators.server import Answer, Call, Platform, Refused, Source, each
from simulators.store import Index, Obj, Store

ROWS_MAX = 200
HEAD_BYTES_MAX = 16_384
EXT = EXTERNAL_ID.name
V = r"/services/data/v\d+\.0"
KIND = r"([A-Za-z_]+)"


class _Records(msgspec.Struct):
    records: list[dict[str, Any]]
    allOrNone: bool = False  # noqa: N815 - the platform's name


class _Examined(NamedTuple):
    """One record before it is written."""

    kind: str
    target: Obj | None  # the record that is meant; None: a new one
    values: dict[str, Any]
    problem: Error | None


_Find = Callable[[dict[str, Any]], tuple[Obj | None, Error | None]]


class _Ids(msgspec.Struct):
    ids: list[str]
    fields: list[str]


class Salesforce(Platform):
    """One organisation. `leads` are there from the beginning, without an external id."""

    name = "salesforce"
    routes = [
        ("PATCH", rf"{V}/composite/sobjects/{KIND}/(\w+)", "upsert_many"),
        ("PATCH", rf"{V}/composite/sobjects/?", "update_many"),
        ("POST", rf"{V}/composite/sobjects/?", "create_many"),
        ("DELETE", rf"{V}/composite/sobjects/?", "delete_many"),
        ("POST", rf"{V}/composite/sobjects/{KIND}", "read_many"),
        ("GET", rf"{V}/query/?", "query"),
        ("GET", rf"{V}/queryAll/?", "query"),
        ("GET", rf"{V}/query/([\w-]+)", "query_more"),
        ("GET", rf"{V}/limits/?", "show_limits"),
        ("GET", rf"{V}/sobjects/{KIND}/describe/?", "describe"),
        ("POST", rf"{V}/sobjects/{KIND}/?", "create_one"),
        ("GET", rf"{V}/sobjects/{KIND}/(\w+)", "read_one"),
        ("PATCH", rf"{V}/sobjects/{KIND}/(\w+)", "update_one"),
        ("DELETE", rf"{V}/sobjects/{KIND}/(\w+)", "delete_one"),
        ("GET", rf"{V}/sobjects/{KIND}/(\w+)/(.+)", "read_by_key"),
        ("PATCH", rf"{V}/sobjects/{KIND}/(\w+)/(.+)", "upsert_one"),
        ("POST", rf"{V}/jobs/ingest/?", "open_job"),
        ("GET", rf"{V}/jobs/ingest/(\w+)/?", "show_job"),
        ("PATCH", rf"{V}/jobs/ingest/(\w+)/?", "change_job"),
        ("DELETE", rf"{V}/jobs/ingest/(\w+)/?", "delete_job"),
        ("PUT", rf"{V}/jobs/ingest/(\w+)/batches/?", "fill_job"),
        (
            "GET",
            rf"{V}/jobs/ingest/(\w+)/(successfulResults|failedResults|unprocessedrecords)/?",
            "job_results",
        ),
        ("GET", r"/services/data/?", "versions"),
        ("POST", r"/services/oauth2/token", "log_in"),
    ]

    def __init__(
        self,
        leads: Source[Lead] = (),
        *,
        client_id: str = "salesforce-client",
        client_secret: str = "salesforce-secret",
        refresh_token: str = "salesforce-refresh",
        organisation: str = "00D5g000004abcDEAU",
        token_ttl_s: float = 7_200.0,
        rotates: bool = False,
        job_s: float = 1.0,
        duplicate_rule: bool = False,
        seed: int = 0,
        quota: Mapping[str, str] | None = None,
        script: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.organisation = organisation
        self.app = app(client_id, client_secret, refresh_token, organisation, token_ttl_s, rotates)
        self.duplicate_rule = duplicate_rule
        stores = {
            kind: Store({name: Index(str.lower), EXT: Index()}, name)
            for kind, name in NAMED_BY.items()
        }
        windows = [Rolling("day", 100_000, 86_400.0), Slow("long", 25, 20.0)]
        super().__init__(stores, windows, seed=seed, quota=quota, script=script)
        self._leads = leads
        self._cursors: dict[str, tuple[soql.Query, list[Obj]]] = {}
        self.bulk = Jobs(self._settle_in_job, job_s)
        self._creating: dict[str, int] = {}  # external id -> the running request that made it
        self.events = Events(self)
        self.fill()

    def fill(self) -> None:
        self.bulk.jobs.clear()
        for lead in each(self._leads):
            number = len(self.store.numbered)
            values: dict[str, Any] = dict(lead.values)
            self.store.seed(new_id("Lead", number), values, lead.created_ms, lead.created_ms)

    def outbox(self) -> Events:
        return self.events

    async def stop(self) -> None:
        await self.events.stop()

    # -- who may, and how much

    def recognise(self, call: Call) -> None:
        if call.path.startswith("/services/oauth2/") or call.path.rstrip("/") == "/services/data":
            return
        token = call.headers.get("Authorization", "").removeprefix("Bearer ").removeprefix("OAuth ")
        if not self.app.good(token, self.clock.now()):
            raise Refused(errors(401, "INVALID_SESSION_ID", "Session expired or invalid"))
        size = (
            len(call.path) + len(call.query) + sum(len(k) + len(v) for k, v in call.headers.items())
        )
        if size > HEAD_BYTES_MAX:
            raise Refused(errors(414, "URI_TOO_LONG", "URI and headers exceed 16,384 bytes"))

    def expire_tokens(self) -> None:
        self.app.expire()

    def forget_queries(self) -> None:
        """Locators expire: after some days, or when a user has too many."""
        self._cursors.clear()

    def log_in(self, call: Call) -> Answer:
        return log_in(self.app, self.organisation, call)

    def limits(self, call: Call) -> list[Window]:
        if call.path.startswith("/services/oauth2/") or call.path.rstrip("/").endswith(
            ("/limits", "/services/data")
        ):
            return []
        return [self.windows["day"], self.windows["long"]]

    def over_limit(self, policy: str, now: float, *, bare: bool = False) -> Answer:
        if bare:
            return Answer(503, b"<html>Server Unavailable</html>", {"Content-Type": "text/html"})
        kind = (
            "ConcurrentRequests (Concurrent API Requests)" if policy == "long" else "TotalRequests"
        )
        return errors(403, "REQUEST_LIMIT_EXCEEDED", f"{kind} Limit exceeded.")

    def with_limits(self, call: Call, answer: Answer, now: float) -> None:
        day = self.windows["day"]
        total = day.limit if day.limit is not None else 5_000_000
        answer.headers["Sforce-Limit-Info"] = f"api-usage={day.used(now)}/{total}"

    def show_limits(self, call: Call) -> Answer:
        day = self.windows["day"]
        total = day.limit if day.limit is not None else 5_000_000
        left = max(0, total - day.used(self.clock.now()))
        return Answer(200, {"DailyApiRequests": {"Max": total, "Remaining": left}})

    def versions(self, call: Call) -> Answer:
        return Answer(
            200, [{"label": "Winter '24", "url": "/services/data/v59.0", "version": "59.0"}]
        )

    # -- many records

    def upsert_many(self, call: Call, kind: str, key: str) -> Answer:
        """By external id: created where nobody has it, updated where somebody does."""
        store = self._store(kind)
        if key not in store.indexes or not FIELDS[kind][key].external_id:
            words = f"Provided external ID field does not exist or is not accessible: {key}"
            raise Refused(errors(404, "NOT_FOUND", words))
        return self._many(call, kind, self._by_key(call, kind, key, set()))

    def _by_key(self, call: Call, kind: str, key: str, seen: set[str]) -> _Find:
        """`seen`: keys of earlier rows."""
        owners = self._store(kind).indexes[key]

        def find(record: dict[str, Any]) -> tuple[Obj | None, Error | None]:
            value = record.get(key)
            if value is None or value == "":
                return None, error("MISSING_ARGUMENT", f"{key} not specified", key)
            if "Id" in record or "id" in record:
                words = "The Id field should not be specified in the sobject data."
                return None, error("INVALID_FIELD", words, "Id")
            text = str(value)
            if text in seen:
                words = f"Duplicate external id specified: {text}"
                return None, error("DUPLICATE_VALUE", words, key)
            seen.add(text)
            found = owners.first(text)
            if found and self._creating.get(text, call.number) != call.number:
                return None, taken(key, found)
            return found, None

        return find

    def update_many(self, call: Call) -> Answer:
        return self._many(call, None, self._by_id)

    def create_many(self, call: Call) -> Answer:
        return self._many(call, None, _anew)

    def _many(self, call: Call, kind: str | None, find: _Find) -> Answer:
        given = msgspec.json.decode(call.body, type=_Records)
        if len(given.records) > ROWS_MAX:
            words = (
                f"record limit reached. cannot submit more than {ROWS_MAX} records into this call"
            )
            raise Refused(errors(400, "EXCEEDED_ID_LIMIT", words))
        if not given.records:
            raise Refused(errors(400, "MISSING_ARGUMENT", "no records given"))
        if not given.allOrNone:
            results = [
                self._settle(call, row, self._examine(call, kind, find, record))
                for row, record in enumerate(given.records)
            ]
            return self._results(call, results)
        examined = [self._examine(call, kind, find, record) for record in given.records]
        if any(one.problem for one in examined):
            words = "Record rolled back because not all records were valid and the request was using AllOrNone header"  # noqa: E501
            rolled = error("ALL_OR_NONE_OPERATION_ROLLED_BACK", words)
            examined = [one._replace(problem=one.problem or rolled) for one in examined]
        results = [self._settle(call, row, one) for row, one in enumerate(examined)]
        return self._results(call, results)

    def _results(self, call: Call, results: list[dict[str, Any]]) -> Answer:
        self.rows["written"] += sum(result["success"] for result in results)
        return Answer(200, call.struck.edit(results))

    def _settle(self, call: Call, row: int, one: _Examined) -> dict[str, Any]:
        """Writes an examined record, or not -> its result."""
        kind, target, values, problem = one
        if problem is not None:
            self.rows["refused"] += 1
            return {"success": False, "errors": [problem]}
        obj = self._write(call, row, kind, target, values)
        return {"id": obj.id, "success": True, "created": target is None, "errors": []}

    def _examine(
        self, call: Call, kind: str | None, find: _Find, record: dict[str, Any]
    ) -> _Examined:
        named = (record.get("attributes") or {}).get("type")
        known = kind or named
        if known not in FIELDS or named != known:
            words = f"sObject type '{named}' is not supported."
            return _Examined("", None, {}, error("INVALID_TYPE", words))
        target, problem = find(record)
        if problem is not None:
            return _Examined(known, target, {}, problem)
        if "id" in record or "Id" in record:
            record.pop("id", record.pop("Id", None))
        try:
            values, problem = check(known, record, new=target is None)
        except Mistyped as mistyped:
            raise Refused(errors(400, "JSON_PARSER_ERROR", str(mistyped))) from None
        struck = call.struck
        if problem is None and struck.refusing and (fault := struck.refuses(record.get)):
            problem = error(fault.code, fault.message, fault.rows.field)
        if problem is None and values.get("AccountId"):
            problem = self._astray(values["AccountId"])
        if problem is None and (kind is None or self.duplicate_rule):
            problem = self._clash(known, target, values)
        return _Examined(known, target, values, problem)

    def _astray(self, account_id: str) -> Error | None:
        """A reference to no account. Status codes: SOAP API Developer Guide, "StatusCode"."""
        if not looks_like_id(account_id):
            words = f"Account ID: id value of incorrect type: {account_id}"
            return error("MALFORMED_ID", words, "AccountId")
        if full_id(account_id) not in self.stores["Account"].objects:
            words = "invalid cross reference id"
            return error("INVALID_CROSS_REFERENCE_KEY", words, "AccountId")
        return None

    def _clash(self, kind: str, target: Obj | None, values: dict[str, Any]) -> Error | None:
        """A value that another record has and that must be unique."""
        indexes = self.stores[kind].indexes
        if (ext := values.get(EXT)) is not None:
            owner = indexes[EXT].first(ext)
            if owner is not None and owner is not target:
                return taken(EXT, owner)
        email = values.get("Email")
        if self.duplicate_rule and target is None and email and indexes["Email"].first(email):
            words = "You're creating a duplicate record. We recommend you use an existing record instead."  # noqa: E501
            return error("DUPLICATES_DETECTED", words)
        return None

    def _write(
        self, call: Call, row: int, kind: str, target: Obj | None, values: dict[str, Any]
    ) -> Obj:
        obj = self._stored(call, row, kind, target, values)
        if not call.dry:
            self.events.saved(kind, obj)
        return obj

    def _stored(
        self, call: Call, row: int, kind: str, target: Obj | None, values: dict[str, Any]
    ) -> Obj:
        store = self.stores[kind]
        if target is not None:
            if not store.update(call, row, target, values):
                store.touch(call, target)
            return target
        kept = values
        if None in values.values():
            kept = {name: value for name, value in values.items() if value is not None}
        if kind == "Lead":
            kept.setdefault("Status", "Open - Not Contacted")
        if call.number and (ext := kept.get(EXT)) is not None and not call.dry:
            self._creating[ext] = call.number
        number = len(store.numbered) + store.dry_rows  # a swallowed record had an id, too
        return store.create(call, row, new_id(kind, number), kept)

    def done(self, call: Call) -> None:
        if self._creating:
            mine = [ext for ext, number in self._creating.items() if number == call.number]
            for ext in mine:
                del self._creating[ext]

    def read_many(self, call: Call, kind: str) -> Answer:
        asked = msgspec.json.decode(call.body, type=_Ids)
        store = self._store(kind)
        known = [full_id(i) if looks_like_id(i) else i for i in asked.ids]
        objs = [store.objects.get(object_id) for object_id in known]
        return Answer(200, [o and shape(kind, o, asked.fields, call.path) for o in objs])

    # -- one record

    def create_one(self, call: Call, kind: str) -> Answer:
        return self._one(call, kind, None, 201)

    def update_one(self, call: Call, kind: str, object_id: str) -> Answer:
        return self._one(call, kind, self._get(kind, object_id), 204)

    def upsert_one(self, call: Call, kind: str, key: str, value: str) -> Answer:
        text = unquote(value)
        target = self._store(kind).indexes[key].first(text) if key == EXT else None
        call.body = msgspec.json.encode({**msgspec.json.decode(call.body), key: text})
        return self._one(call, kind, target, 200)

    def _one(self, call: Call, kind: str, target: Obj | None, status: int) -> Answer:
        self._store(kind)
        record = {**msgspec.json.decode(call.body), "attributes": {"type": kind}}
        one = self._examine(call, kind, lambda _: (target, None), record)
        result = self._settle(call, 0, one)
        self.rows["written"] += result["success"]
        if not result["success"]:
            problem = result["errors"][0]
            return errors(400, problem["statusCode"], problem["message"], problem["fields"])
        return Answer(204) if status == 204 else Answer(201 if result["created"] else 200, result)

    def read_one(self, call: Call, kind: str, object_id: str) -> Answer:
        names = call.params().get("fields", ",".join(FIELDS[kind])).split(",")
        return Answer(200, shape(kind, self._get(kind, object_id), names, call.path))

    def read_by_key(self, call: Call, kind: str, key: str, value: str) -> Answer:
        found = self._store(kind).indexes[key].first(unquote(value)) if key == EXT else None
        if found is None:
            raise Refused(errors(404, "NOT_FOUND", "The requested resource does not exist"))
        return Answer(200, shape(kind, found, list(FIELDS[kind]), call.path))

    def delete_many(self, call: Call) -> Answer:
        """By id, of any type; results in the order of the ids. `allOrNone` is not rebuilt."""
        ids = call.params().get("ids", "").split(",")
        if len(ids) > ROWS_MAX:
            words = f"record limit reached. cannot submit more than {ROWS_MAX} records"
            raise Refused(errors(400, "EXCEEDED_ID_LIMIT", words))
        results: list[dict[str, Any]] = []
        for row, object_id in enumerate(ids):
            kind = next((k for k in self.stores if well_formed(k, object_id)), "Lead")
            obj, problem = self._by_id({"attributes": {"type": kind}, "id": object_id})
            if obj is None:
                results.append({"success": False, "errors": [problem]})
            else:
                self.stores[kind].archive(call, row, obj)
                results.append({"id": obj.id, "success": True, "errors": []})
        return self._results(call, results)

    def delete_one(self, call: Call, kind: str, object_id: str) -> Answer:
        self._store(kind).archive(call, 0, self._get(kind, object_id))
        return Answer(204)

    # -- jobs of Bulk API 2.0: salesforce_bulk.py

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), "jobs": self.bulk.stats()}

    def answer(self, call: Call) -> Answer:
        self.bulk.work(call.at_ms)
        return super().answer(call)

    def open_job(self, call: Call) -> Answer:
        return self.bulk.create(call)

    def show_job(self, call: Call, name: str) -> Answer:
        return self.bulk.show(call, name)

    def change_job(self, call: Call, name: str) -> Answer:
        return self.bulk.change(call, name)

    def delete_job(self, call: Call, name: str) -> Answer:
        return self.bulk.delete(call, name)

    def fill_job(self, call: Call, name: str) -> Answer:
        return self.bulk.fill(call, name)

    def job_results(self, call: Call, name: str, which: str) -> Answer:
        return self.bulk.results(call, name, which)

    def _settle_in_job(
        self, call: Call, job: Job, row: int, record: dict[str, Any]
    ) -> dict[str, Any]:
        kind = job.wanted.object
        record["attributes"] = {"type": kind}
        match job.wanted.operation:
            case "upsert":
                find = self._by_key(call, kind, job.wanted.externalIdFieldName, job.seen)
            case "update":
                find = self._by_id
            case _:
                find = _anew
        try:
            result = self._settle(call, row, self._examine(call, kind, find, record))
        except Refused as refused:  # a value of the wrong kind: here one row's fault
            raise Mistyped(str(refused.answer.body)) from None
        self.rows["written"] += result["success"]
        self.done(call)  # it was over long ago
        return result

    # -- queries

    def query(self, call: Call) -> Answer:
        try:
            query = soql.parse(call.params().get("q", ""))
            found = soql.run(query, self.stores[query.kind], deleted="/queryAll" in call.path)
        except soql.Malformed as wrong:
            raise Refused(errors(400, wrong.code, str(wrong))) from None
        if query.count:
            return Answer(200, {"totalSize": len(found), "done": True, "records": []})
        size = 2_000
        if hint := call.headers.get("Sforce-Query-Options", "").partition("batchSize=")[2]:
            size = min(2_000, max(200, int(hint)))
        locator = f"01g{call.number:012}AAA"
        if len(found) > size:
            self._cursors[locator] = (query, found)
            while len(self._cursors) > 50:
                del self._cursors[next(iter(self._cursors))]
        return self._page(call, query, found, locator, 0, size)

    def query_more(self, call: Call, where: str) -> Answer:
        locator, _, rest = where.partition("-")
        start, _, size = rest.partition("-")
        if locator not in self._cursors or not start.isdigit():
            raise Refused(errors(400, "INVALID_QUERY_LOCATOR", "invalid query locator"))
        return self._page(call, *self._cursors[locator], locator, int(start), int(size or 2_000))

    def _page(
        self, call: Call, query: soql.Query, found: list[Obj], locator: str, start: int, size: int
    ) -> Answer:
        page = found[start : start + size]
        self.rows["read"] += len(page)
        body: dict[str, Any] = {
            "totalSize": len(found),
            "done": start + size >= len(found),
            "records": [shape(query.kind, obj, query.fields, call.path) for obj in page],
        }
        if not body["done"]:
            version = call.path.split("/")[3]
            body["nextRecordsUrl"] = (
                f"/services/data/{version}/query/{locator}-{start + size}-{size}"
            )
        return Answer(200, body)

    def describe(self, call: Call, kind: str) -> Answer:
        self._store(kind)
        return Answer(
            200, {"name": kind, "keyPrefix": PREFIX[kind], "fields": list(FIELDS[kind].values())}
        )

    # -- a person in the organisation

    def act(self, call: Call, acts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """`{"id", "fields"}`, `{"create": {…}}` or `{"delete": id}`; `object` if not Lead."""
        done: list[dict[str, Any]] = []
        for row, wish in enumerate(acts):
            kind = wish.get("object", "Lead")
            obj = self.stores[kind].objects.get(
                full_id(str(wish.get("id", wish.get("delete", ""))))
            )
            if "create" not in wish and obj is None:
                done.append({"error": "no such record"})
                continue
            if obj is not None and "delete" in wish:
                self.stores[kind].archive(call, row, obj)
            else:
                values, problem = check(
                    kind, wish.get("create", wish.get("fields", {})), new=obj is None
                )
                if problem is not None:
                    done.append({"error": problem["message"]})
                    continue
                obj = self._write(call, row, kind, obj, values)
            done.append({"id": obj.id, "occurred_ms": call.at_ms})
        return done

    # -- small things

    def _store(self, kind: str) -> Store:
        if kind not in self.stores:
            raise Refused(errors(404, "NOT_FOUND", "The requested resource does not exist"))
        return self.stores[kind]

    def _by_id(self, record: dict[str, Any]) -> tuple[Obj | None, Error | None]:
        kind = record["attributes"]["type"]
        object_id = str(record.get("id") or record.get("Id") or "")
        if not well_formed(kind, object_id):
            return None, error(
                "MALFORMED_ID", f"{kind} ID: id value of incorrect type: {object_id}", "Id"
            )
        obj = self.stores[kind].objects.get(full_id(object_id))
        if obj is None:
            return None, error("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        if obj.archived:
            return None, error("ENTITY_IS_DELETED", "entity is deleted")
        return obj, None

    def _get(self, kind: str, object_id: str) -> Obj:
        store = self._store(kind)
        if not well_formed(kind, object_id):
            raise Refused(errors(400, "MALFORMED_ID", f"malformed id {object_id}"))
        obj = store.objects.get(full_id(object_id))
        if obj is None:
            raise Refused(errors(404, "NOT_FOUND", "The requested resource does not exist"))
        if obj.archived:
            raise Refused(errors(404, "ENTITY_IS_DELETED", "entity is deleted"))
        return obj

    def not_found(self, call: Call) -> Answer:
        return errors(404, "NOT_FOUND", "The requested resource does not exist")

    def malformed(self, call: Call, problem: Exception) -> Answer:
        return errors(400, "JSON_PARSER_ERROR", str(problem))


def _anew(record: dict[str, Any]) -> tuple[Obj | None, Error | None]:
    return None, None

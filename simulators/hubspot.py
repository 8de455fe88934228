"""A HubSpot portal: contacts, companies, deals over CRM v3, associations, webhooks of contacts.

Behaves as these pages say (read 2026-08, except where a sentence below says otherwise)
- https://developers.hubspot.com/docs/api-reference/crm-contacts-v3/guide: list, batch calls,
  objectWriteTraceId and 207, lifecyclestage only forward, 100 records a call
- https://developers.hubspot.com/docs/api/crm/search: hubspot_search.py
- https://developers.hubspot.com/docs/api-reference/error-handling: error bodies
- https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines: limits, headers
- https://developers.hubspot.com/docs/api-reference/crm-associations-v4/guide: associations in
  batches of 2,000 pairs, one primary company
- https://developers.hubspot.com/docs/api/webhooks: hubspot_webhooks.py
- https://developers.hubspot.com/docs/api-reference/auth-oauth-v1/tokens/post-oauth-v1-token: tokens
  of an authorised app last 1,800 s; refreshing them counts in no window here

Quotas: `ten_seconds` (190 in any 10 s, a moving window), `day` (650,000 until midnight of the
portal's zone), `search` (5 in any second; search calls take a token here and of the day, not of
the ten seconds, and their answers carry no rate-limit headers).

Our reading where the pages are silent
- without a trace id on every input one bad input refuses the whole batch: 400, nothing written;
  "no partial upserts by email" means the same for `idProperty: email`, trace ids or not
- an older lifecycle stage is ignored without an error
- of two contacts that are merged the one that stays takes what it has no value of; the other's id
  reads as the one that stays
- an upsert's result holds the properties that were sent, and HubSpot's own three
- addresses are unique for whoever writes by API, without regard to case; contacts that were there
  before may share one
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from simulators import hubspot_search as search
from simulators.hubspot_shapes import (
    ADDRESS,
    ASSOCIATIONS,
    DEFAULT_PROPERTIES,
    OWN,
    PRIMARY,
    STAGES,
    STAMPS,
    STEMS,
    CustomEvent,
    Input,
    Inputs,
    Pair,
    Pairs,
    Problem,
    Property,
    Read,
    Told,
    as_text,
    correlation,
    error_of,
    is_number,
    iso,
    names_in,
    properties_of,
    shape,
)
from simulators.hubspot_webhooks import Events
from simulators.oauth import App, form_of
from simulators.portal import FIRST_ID, Contact
from simulators.quotas import Calendar, Rolling, Window
from simulators.server import Answer, Call, Platform, Refused, Source, each
from simulators.store import Index, Obj, Store

BATCH_MAX = 100
EVENTS_MAX = 500
KIND = "(contacts|companies|deals)"
PAIRS_MAX = 2_000
PAGE_MAX = 100


class HubSpot(Platform):
    """One portal, with one private app that reads, writes and receives webhooks.

    `contacts` are there from the beginning. `unique` names text properties whose values are
    unique, as `syncline_id`. `search_lag_ms`: what changed later than this is not found yet.
    """

    name = "hubspot"
    routes = [
        ("GET", rf"/crm/v3/objects/{KIND}", "list_objects"),
        ("POST", rf"/crm/v3/objects/{KIND}", "create_one"),
        ("POST", rf"/crm/v3/objects/{KIND}/search", "search"),
        ("POST", rf"/crm/v3/objects/{KIND}/batch/read", "batch_read"),
        ("POST", rf"/crm/v3/objects/{KIND}/batch/upsert", "batch_upsert"),
        ("POST", rf"/crm/v3/objects/{KIND}/batch/create", "batch_create"),
        ("POST", rf"/crm/v3/objects/{KIND}/batch/update", "batch_update"),
        ("POST", rf"/crm/v3/objects/{KIND}/batch/archive", "batch_archive"),
        ("POST", r"/crm/v3/objects/contacts/gdpr-delete", "forget"),
        ("GET", rf"/crm/v3/objects/{KIND}/([^/]+)", "read_one"),
        ("PATCH", rf"/crm/v3/objects/{KIND}/([^/]+)", "update_one"),
        ("DELETE", rf"/crm/v3/objects/{KIND}/([^/]+)", "archive_one"),
        ("GET", r"/crm/v3/properties/(contact|compan|deal)(?:s|ies|y)?", "list_properties"),
        ("POST", r"/crm/v3/properties/(contact|compan|deal)(?:s|ies|y)?", "create_property"),
        ("POST", rf"/crm/v4/associations/{KIND}/{KIND}/batch/create", "associate"),
        ("GET", r"/account-info/v3/details", "account"),
        ("POST", r"/oauth/v1/token", "log_in"),
        ("POST", r"/events/v3/send/batch", "send_events"),
    ]

    def __init__(
        self,
        contacts: Source[Contact] = (),
        *,
        token: str = "hubspot-token",
        client_id: str = "hubspot-client",
        client_secret: str = "hubspot-secret",
        refresh_token: str = "hubspot-refresh",
        token_ttl_s: float = 1_800.0,
        rotates: bool = False,
        portal_id: int = 4711001,
        unique: Iterable[str] = ("syncline_id",),
        search_lag_ms: int = 0,
        zone: str = "UTC",
        seed: int = 0,
        quota: Mapping[str, str] | None = None,
        script: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.token, self.portal_id, self.zone = token, portal_id, zone
        self.app = App(client_id, client_secret, refresh_token, token_ttl_s, rotates=rotates)
        self.search_lag_ms = search_lag_ms
        self.properties = {kind: properties_of(kind, unique) for kind in STAMPS}
        self._text = {kind: _plain(there) for kind, there in self.properties.items()}
        windows = [
            Rolling("ten_seconds", 190, 10.0),
            Calendar("day", 650_000, zone=zone),
            Rolling("search", 5, 1.0),
        ]
        stores = {
            kind: Store({name: Index(str.lower), **{u: Index() for u in unique}}, name)
            for kind, name in (
                ("contacts", "email"), ("companies", "domain"), ("deals", "dealname")
            )
        }  # fmt: skip
        stores["associations"] = Store({"pair": Index(), "start": Index()}, "pair")
        super().__init__(stores, windows, seed=seed, quota=quota, script=script)
        self._contacts, self._next_id, self._expired = contacts, FIRST_ID, False
        self.events = Events(self)
        self.told: dict[str, CustomEvent] = {}
        self.merged: dict[str, str] = {}  # id that is gone -> id that stays
        self.fill()

    def fill(self) -> None:
        self.told.clear()
        self.merged.clear()
        for contact in each(self._contacts):
            values: dict[str, Any] = dict(contact.properties)
            self.store.seed(contact.id, values, contact.created_ms, contact.updated_ms)
        self.refilled()

    def refilled(self) -> None:
        last = [int(s.numbered[-1].id) for s in self.stores.values() if s.numbered]
        self._next_id = max(last, default=FIRST_ID - 1) + 1

    def outbox(self) -> Events:
        return self.events

    async def stop(self) -> None:
        await self.events.stop()

    # -- who may, and how much

    def recognise(self, call: Call) -> None:
        if call.path.startswith("/oauth/"):
            return
        header = call.headers.get("Authorization", "")
        if not header.startswith("Bearer "):
            words = "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find more details at https://developers.hubspot.com/docs/methods/auth/oauth-overview"  # noqa: E501
            raise Refused(self._error(call, 401, "INVALID_AUTHENTICATION", words))
        token = header[7:]
        if self.app.good(token, self.clock.now()):
            return
        if token != self.token and not self.app.known(token):
            words = "The OAuth token used to make this call is invalid"
            raise Refused(self._error(call, 401, "INVALID_AUTHENTICATION", words))
        if self._expired or token != self.token:
            words = "The OAuth token used to make this call expired"
            raise Refused(self._error(call, 401, "EXPIRED_AUTHENTICATION", words))

    def expire_tokens(self) -> None:
        """The private app's until `token` is set to another one by `renew`; the authorised app's
        until it asks for another one."""
        self._expired = True
        self.app.expire()

    def renew(self, token: str) -> None:
        self.token, self._expired = token, False

    def log_in(self, call: Call) -> Answer:
        """A private app has its token; an authorised one refreshes here."""
        form = form_of(call.body)
        token, problem = "", "unsupported_grant_type"
        if form.get("grant_type") == "refresh_token":
            token, problem = self.app.grant(form, call.at_ms / 1000)
        if problem:
            codes = {
                "invalid_grant": "BAD_REFRESH_TOKEN",
                "unsupported_grant_type": "BAD_GRANT_TYPE",
            }
            code = codes.get(problem, "BAD_CLIENT_ID")
            words = "missing or invalid " + code.removeprefix("BAD_").replace("_", " ").lower()
            return Answer(400, {"status": code, "message": words})
        body = {
            "token_type": "bearer",
            "refresh_token": self.app.refresh_token,
            "access_token": token,
            "expires_in": int(self.app.ttl_s),
        }
        return Answer(200, body)

    def limits(self, call: Call) -> list[Window]:
        """A full day is told before a full ten seconds: it is the longer wait."""
        if call.path.startswith("/oauth/"):
            return []
        burst = "search" if call.path.endswith("/search") else "ten_seconds"
        return [self.windows["day"], self.windows[burst]]

    def over_limit(self, policy: str, now: float, *, bare: bool = False) -> Answer:
        if bare:
            return Answer(429, b"<html>Too Many Requests</html>", {"Content-Type": "text/html"})
        name = {"day": "DAILY", "ten_seconds": "TEN_SECONDLY_ROLLING", "search": "SECONDLY"}.get(
            policy, policy or "TEN_SECONDLY_ROLLING"
        )
        limit = {"DAILY": "daily", "SECONDLY": "secondly"}.get(name, "ten_secondly_rolling")
        body = {
            "status": "error",
            "message": f"You have reached your {limit} limit.",
            "errorType": "RATE_LIMIT",
            "correlationId": correlation(self.requests),
            "policyName": name,
            "requestId": correlation(self.requests),
        }
        return Answer(429, body)

    def with_limits(self, call: Call, answer: Answer, now: float) -> None:
        ten, day = self.windows["ten_seconds"], self.windows["day"]
        if call.path.endswith("/search"):
            return
        if ten.limit is not None and isinstance(ten, Rolling):
            answer.headers["X-HubSpot-RateLimit-Max"] = str(ten.limit)
            answer.headers["X-HubSpot-RateLimit-Remaining"] = str(max(0, ten.limit - ten.used(now)))
            answer.headers["X-HubSpot-RateLimit-Interval-Milliseconds"] = str(
                int(ten.window_s * 1000)
            )
        if day.limit is not None:
            answer.headers["X-HubSpot-RateLimit-Daily"] = str(day.limit)
            answer.headers["X-HubSpot-RateLimit-Daily-Remaining"] = str(
                max(0, day.limit - day.used(now))
            )

    # -- reading

    def list_objects(self, call: Call, kind: str) -> Answer:
        """Objects by id; `after` is the last id of the page before, opaque to the caller."""
        params = call.params()
        limit = _number(self, call, params.get("limit", "10"), "limit", PAGE_MAX)
        archived = params.get("archived") == "true"
        place = 0
        if after := params.get("after"):
            last = self.stores[kind].objects.get(after)
            if last is None:
                raise Refused(self._invalid(call, f"The after value {after!r} is not valid"))
            place = last.number + 1
        names = names_in(params.get("properties"), kind)
        page: list[Obj] = []
        numbered = self.stores[kind].numbered
        while place < len(numbered) and len(page) <= limit:
            if numbered[place].archived == archived and not numbered[place].erased:
                page.append(numbered[place])
            place += 1
        self.rows["read"] += min(len(page), limit)
        body: dict[str, Any] = {"results": [shape(o, names, STAMPS[kind]) for o in page[:limit]]}
        if len(page) > limit:
            last_id = page[limit - 1].id
            body["paging"] = {"next": {"after": last_id, "link": f"?after={last_id}"}}
        return Answer(200, body)

    def read_one(self, call: Call, kind: str, object_id: str) -> Answer:
        params = call.params()
        obj = self._find(kind, object_id, params.get("idProperty"))
        if obj is None:
            raise Refused(self._missing(call))
        return Answer(200, shape(obj, names_in(params.get("properties"), kind), STAMPS[kind]))

    def batch_read(self, call: Call, kind: str) -> Answer:
        asked = msgspec.json.decode(call.body, type=Read)
        self._bounded(call, len(asked.inputs))
        names = tuple(asked.properties) or DEFAULT_PROPERTIES[kind]
        found = {i.id: self._find(kind, str(i.id), asked.idProperty) for i in asked.inputs}
        results = [shape(obj, names, STAMPS[kind]) for obj in found.values() if obj is not None]
        self.rows["read"] += len(results)
        gone = [str(object_id) for object_id, obj in found.items() if obj is None]
        error = {
            "status": "error",
            "category": "OBJECT_NOT_FOUND",
            "message": "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid.",  # noqa: E501
            "context": {"ids": gone},
        }
        return self._batch(call, results, [error] if gone else [], 200)

    def search(self, call: Call, kind: str) -> Answer:
        try:
            found = search.run(call.body, self.stores[kind], call.at_ms - self.search_lag_ms)
        except search.Unacceptable as error:
            raise Refused(self._invalid(call, str(error))) from None
        self.rows["read"] += len(found.page)
        names = found.properties or DEFAULT_PROPERTIES[kind]
        body: dict[str, Any] = {
            "total": found.total,
            "results": [shape(obj, names, STAMPS[kind]) for obj in found.page],
        }
        if found.after is not None:
            body["paging"] = {"next": {"after": str(found.after)}}
        return Answer(200, body)

    def list_properties(self, call: Call, stem: str) -> Answer:
        return Answer(200, {"results": list(self.properties[STEMS[stem]].values())})

    def create_property(self, call: Call, stem: str) -> Answer:
        kind = STEMS[stem]
        made = msgspec.json.decode(call.body, type=Property)
        if made.name in self.properties[kind]:
            words = f"A property named {made.name!r} already exists."
            return self._error(call, 409, "OBJECT_ALREADY_EXISTS", words)
        self.properties[kind][made.name] = made
        self._text[kind] = _plain(self.properties[kind])
        if made.has_unique_value:
            self.stores[kind].indexes[made.name] = Index()
        return Answer(201, made)

    def account(self, call: Call) -> Answer:
        return Answer(200, {"portalId": self.portal_id, "timeZone": self.zone, "uiDomain": ""})

    # -- writing

    def batch_upsert(self, call: Call, kind: str) -> Answer:
        return self._write(call, kind, "upsert", 200)

    def batch_create(self, call: Call, kind: str) -> Answer:
        return self._write(call, kind, "create", 201)

    def batch_update(self, call: Call, kind: str) -> Answer:
        return self._write(call, kind, "update", 200)

    def batch_archive(self, call: Call, kind: str) -> Answer:
        for row, given in enumerate(msgspec.json.decode(call.body, type=Inputs).inputs):
            if (obj := self._find(kind, str(given.id), None)) is not None:
                self._archive(call, kind, row, obj, "INTEGRATION")
        return Answer(204)

    def forget(self, call: Call) -> Answer:
        """By id; the way by address, which also blocks it, is not rebuilt."""
        object_id = str(msgspec.json.decode(call.body)["objectId"])
        obj = self.store.objects.get(object_id)
        if obj is None or obj.erased:
            raise Refused(self.not_found(call))
        self._forget(call, 0, obj, "INTEGRATION")
        return Answer(204)

    def create_one(self, call: Call, kind: str) -> Answer:
        return self._one(call, kind, "create", msgspec.json.decode(call.body, type=Input), 201)

    def update_one(self, call: Call, kind: str, object_id: str) -> Answer:
        given = msgspec.json.decode(call.body, type=Input)
        given.id, given.idProperty = object_id, call.params().get("idProperty")
        return self._one(call, kind, "update", given, 200)

    def archive_one(self, call: Call, kind: str, object_id: str) -> Answer:
        if (obj := self._find(kind, object_id, None)) is not None:
            self._archive(call, kind, 0, obj, "INTEGRATION")
        return Answer(204)

    def _one(self, call: Call, kind: str, how: str, given: Input, status: int) -> Answer:
        target, problem = self._examine(call, kind, how, given, set())
        if problem is not None:
            return self._refusal(call, problem)
        result, _ = self._apply(call, kind, 0, how, given, target)
        return Answer(status, result)

    def _write(self, call: Call, kind: str, how: str, status: int) -> Answer:
        """All inputs are looked at before any is written; then the good ones, in order."""
        inputs = msgspec.json.decode(call.body, type=Inputs).inputs
        self._bounded(call, len(inputs))
        if how != "create" and len({str(given.id) for given in inputs}) < len(inputs):
            raise Refused(
                self._invalid(call, "Duplicate IDs found in batch input. IDs must be unique.")
            )
        apart = all(given.objectWriteTraceId for given in inputs) and not (
            how == "upsert" and inputs[0].idProperty == "email"
        )
        results: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        good: list[tuple[int, Input, Obj | None]] = []
        addresses: set[str] = set()
        for row, given in enumerate(inputs):
            target, problem = self._examine(call, kind, how, given, addresses)
            if problem is None:
                good.append((row, given, target))
                continue
            self.rows["refused"] += 1
            if not apart:
                raise Refused(self._refusal(call, problem))
            errors.append(error_of(problem, {"objectWriteTraceId": [given.objectWriteTraceId]}))
        for row, given, target in good:
            result, new = self._apply(call, kind, row, how, given, target)
            if how == "upsert":
                result["new"] = new
            if given.objectWriteTraceId:
                result["objectWriteTraceId"] = given.objectWriteTraceId
            results.append(result)
        self.rows["written"] += len(good)
        return self._batch(call, call.struck.edit(results), errors, status)

    def _examine(
        self, call: Call, kind: str, how: str, given: Input, addresses: set[str]
    ) -> tuple[Obj | None, Problem | None]:
        """-> the object that is meant, and why the input is refused."""
        target: Obj | None = None
        if how != "create":
            target = self._find(kind, str(given.id), given.idProperty)
            known = given.idProperty in self.stores[kind].indexes
            if how == "upsert" and given.idProperty not in (None, "hs_object_id") and not known:
                return None, Problem(
                    "INVALID_UNIQUE_PROPERTY",
                    f"Property {given.idProperty!r} is not a unique property",
                    str(given.idProperty),
                )
            if target is None and (how == "update" or not known):
                return None, Problem(
                    "OBJECT_NOT_FOUND", "resource not found", "", "OBJECT_NOT_FOUND", 404
                )
        if problem := self._wrong(kind, given.properties):
            return target, problem
        struck = call.struck
        if struck.refusing and (fault := struck.refuses(given.properties.get)):
            return target, Problem(fault.code, fault.message, fault.rows.field)
        if kind == "contacts" and (email := given.properties.get("email")):
            key = str(email).lower()
            owner = self.store.indexes["email"].first(key)
            free = owner is None or owner is target
            if key in addresses or not (free or self._shares(target, key)):
                existing = owner.id if owner else "?"
                words = f"Contact already exists. Existing ID: {existing}"
                return target, Problem("CONFLICT", words, "email", "CONFLICT", 409)
            addresses.add(key)
        return target, None

    def _wrong(self, kind: str, properties: dict[str, Any]) -> Problem | None:
        for name, value in properties.items():
            if name in self._text[kind] and type(value) is str:
                continue
            known = self.properties[kind].get(name)
            if known is None:
                words = f'Property "{name}" does not exist'
                return Problem("PROPERTY_DOESNT_EXIST", words, name)
            if name in OWN:
                return Problem("READ_ONLY_VALUE", f'"{name}" is a read only property', name)
            text = as_text(value)
            if not text:
                continue
            if name == "email" and not ADDRESS.fullmatch(text):
                return Problem("INVALID_EMAIL", f"Email address {text} is invalid", name)
            if known.type == "number" and not is_number(text):
                return Problem("INVALID_LONG", f"{text} was not a valid long.", name)
            if known.options and not known.takes(text):
                return Problem("INVALID_OPTION", f"{text} was not one of the allowed options", name)
        return None

    def _apply(
        self, call: Call, kind: str, row: int, how: str, given: Input, target: Obj | None
    ) -> tuple[dict[str, Any], bool]:
        """-> the result as it goes out, and whether the object is new."""
        values = {
            name: value if type(value) is str else as_text(value)
            for name, value in given.properties.items()
        }
        if how == "upsert" and given.idProperty in self.stores[kind].indexes:
            values.setdefault(str(given.idProperty), str(given.id))
        new = target is None
        obj = self.write(call, row, target, values, "INTEGRATION", kind)
        return shape(obj, tuple(values), STAMPS[kind]), new

    def write(
        self, call: Call, row: int, target: Obj | None, values: dict[str, str], source: str,
        kind: str = "contacts",
    ) -> Obj:  # fmt: skip
        """Writes one object; of contacts the webhooks are told. An empty text clears."""
        store, tells = self.stores[kind], kind == "contacts"
        if "email" in values:
            values["email"] = values["email"].strip().lower()
        if target is None:
            kept: dict[str, Any] = {name: value for name, value in values.items() if value}
            if tells:
                kept.setdefault("lifecyclestage", "lead")
            obj = store.create(call, row, str(self._next_id), kept)
            self._next_id += 1
            if tells:
                self.events.created(call, obj, source)
            return obj
        changes: dict[str, Any] = {name: value or None for name, value in values.items()}
        stage, before = changes.get("lifecyclestage"), target.values.get("lifecyclestage")
        if stage and before and STAGES.index(stage) < STAGES.index(before):
            del changes["lifecyclestage"]
        changed = store.update(call, row, target, changes)
        if changed and tells and not call.dry:
            self.events.changed(call, target, changed, source)
        return target

    def _archive(self, call: Call, kind: str, row: int, obj: Obj, source: str) -> None:
        if not obj.archived and not call.dry:
            self.stores[kind].archive(call, row, obj)
            if kind == "contacts":
                self.events.deleted(call, obj, source)

    def _forget(self, call: Call, row: int, obj: Obj, source: str) -> None:
        """For good. Page "Webhooks": `privacyDeletion` is told beside `deletion`."""
        if call.dry:
            return
        if not obj.archived:
            self.events.deleted(call, obj, source)
        self.events.forgotten(call, obj, source)
        self.store.erase(call, row, obj)

    def associate(self, call: Call, start: str, end: str) -> Answer:
        """Pairs by their ids. An object that is not there refuses its pair alone (our reading)."""
        pairs = msgspec.json.decode(call.body, type=Pairs).inputs
        if not 1 <= len(pairs) <= PAIRS_MAX:
            words = f"between 1 and {PAIRS_MAX} pairs, not {len(pairs)}"
            raise Refused(self._invalid(call, words))
        known = ASSOCIATIONS.get((start, end), ())
        for pair in pairs:
            if not pair.types or any(kind.associationTypeId not in known for kind in pair.types):
                words = f"not an association type from {start} to {end}"
                raise Refused(self._invalid(call, words))
        results: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for row, pair in enumerate(pairs):
            first, second = str(pair.start.id), str(pair.to.id)
            ends = {"fromObjectId": first, "toObjectId": second}
            if self._find(start, first, None) is None or self._find(end, second, None) is None:
                self.rows["refused"] += 1
                words = f"No {start} {first}, or no {end} {second}"
                problem = Problem("OBJECT_NOT_FOUND", words, "", "OBJECT_NOT_FOUND", 404)
                errors.append(error_of(problem, {name: [value] for name, value in ends.items()}))
                continue
            self._pair(call, row, start, end, pair)
            results.append(ends | {"fromObjectTypeId": "", "toObjectTypeId": "", "labels": []})
        self.rows["written"] += len(results)
        return self._batch(call, call.struck.edit(results), errors, 201)

    def _pair(self, call: Call, row: int, start: str, end: str, pair: Pair) -> None:
        """One association; a company that is made the primary one takes the place of another."""
        store = self.stores["associations"]
        begins = f"{start}/{pair.start.id}>{end}"
        name = f"{begins}/{pair.to.id}"
        primary = any(kind.associationTypeId in PRIMARY for kind in pair.types)
        if primary:
            for other in store.indexes["start"].find(begins):
                if other.values.get("primary") and other.values["pair"] != name:
                    store.update(call, row, other, {"primary": None})
        values: dict[str, Any] = {"pair": name, "start": begins}
        if primary:
            values["primary"] = "true"
        if (known := store.indexes["pair"].first(name)) is not None:
            store.update(call, row, known, values)
            return
        store.create(call, row, str(self._next_id), values)
        self._next_id += 1

    def send_events(self, call: Call) -> Answer:
        """Custom events, as https://developers.hubspot.com/docs/api-reference/events-send-event-completions-v3/guide
        says: one that is not well formed refuses the call, one whose `uuid` is known is dropped."""
        given = msgspec.json.decode(call.body, type=Told).inputs
        if not 1 <= len(given) <= EVENTS_MAX:
            raise Refused(
                self._invalid(call, f"between 1 and {EVENTS_MAX} events, not {len(given)}")
            )
        for event in given:
            if not event.eventName or not (event.email or event.objectId or event.utk):
                raise Refused(self._invalid(call, "eventName and one of email, objectId, utk"))
        for row, event in enumerate(given):
            if not call.dry:
                self.told.setdefault(event.uuid or f"{call.number}-{row}", event)
        return Answer(204)

    # -- a person in the CRM

    def act(self, call: Call, acts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """`{"id", "properties"}`, `{"create": {…}}`, `{"delete": id}`, or
        `{"forget": id}` (for good), or `{"merge": id, "into": id}`: in order, all now.

        -> `[{"id", "occurred_ms"}]`; an id that does not exist gives `{"error"}`.
        """
        done: list[dict[str, Any]] = []
        for row, wish in enumerate(acts):
            obj: Obj | None = None
            if "create" in wish:
                obj = self.write(call, row, None, dict(wish["create"]), "CRM_UI")
            elif (obj := self._find("contacts", _named(wish), None)) is None:
                done.append({"error": "no such contact"})
                continue
            elif "merge" in wish:
                if (gone := self._find("contacts", str(wish["merge"]), None)) in (None, obj):
                    done.append({"error": "no such contact"})
                    continue
                self._merge(call, row, gone, obj)
            elif "delete" in wish:
                self._archive(call, "contacts", row, obj, "CRM_UI")
            elif "forget" in wish:
                self._forget(call, row, obj, "CRM_UI")
            else:
                self.write(call, row, obj, dict(wish["properties"]), "CRM_UI")
            done.append({"id": obj.id, "occurred_ms": call.at_ms})
        return done

    def _merge(self, call: Call, row: int, gone: Obj, obj: Obj) -> None:
        taken = {n: v for n, v in gone.values.items() if n not in obj.values}
        self.merged[gone.id] = obj.id
        self.store.archive(call, row, gone)
        self.store.update(call, row, obj, taken)
        self.events.merged(call, gone, obj, len(taken))

    # -- small things

    def _shares(self, target: Obj | None, email: str) -> bool:
        """Has this address already, as another contact has, from before."""
        return target is not None and str(target.values.get("email", "")).lower() == email

    def _find(self, kind: str, value: str, by: str | None) -> Obj | None:
        if by in (None, "hs_object_id"):
            while kind == "contacts" and value in self.merged:
                value = self.merged[value]
            obj = self.stores[kind].objects.get(value)
            return None if obj is None or obj.archived else obj
        index = self.stores[kind].indexes.get(str(by))
        return index.first(value) if index is not None else None

    def _bounded(self, call: Call, count: int) -> None:
        if not 1 <= count <= BATCH_MAX:
            words = f"The batch must hold between 1 and {BATCH_MAX} inputs, not {count}"
            raise Refused(self._invalid(call, words))

    def _batch(
        self, call: Call, results: list[dict[str, Any]], errors: list[dict[str, Any]], status: int
    ) -> Answer:
        moment = iso(call.at_ms)
        body = {
            "status": "COMPLETE",
            "results": results,
            "startedAt": moment,
            "completedAt": moment,
        }
        if errors:
            return Answer(207, {**body, "numErrors": len(errors), "errors": errors})
        return Answer(status, body)

    def _refusal(self, call: Call, problem: Problem) -> Answer:
        body = error_of(problem, {"propertyName": [problem.property]} if problem.property else {})
        detail = {"message": problem.message, "code": problem.code, "in": problem.property}
        body |= {"correlationId": correlation(call.number), "errors": [detail]}
        return Answer(problem.status, body)

    def _error(self, call: Call, status: int, category: str, message: str) -> Answer:
        body = {
            "status": "error",
            "message": message,
            "correlationId": correlation(call.number),
            "category": category,
        }
        return Answer(status, body)

    def _invalid(self, call: Call, message: str) -> Answer:
        return self._error(call, 400, "VALIDATION_ERROR", message)

    def _missing(self, call: Call) -> Answer:
        return self._error(call, 404, "OBJECT_NOT_FOUND", "resource not found")

    def not_found(self, call: Call) -> Answer:
        return self._missing(call)

    def malformed(self, call: Call, problem: Exception) -> Answer:
        return self._invalid(call, f"Invalid input JSON: {problem}")


def _plain(properties: Mapping[str, Property]) -> frozenset[str]:
    """Properties that take any text."""
    return frozenset(
        p.name for p in properties.values() if p.type == "string" and p.name != "email"
    )


def _named(wish: Mapping[str, Any]) -> str:
    """The contact that an act is about; of a merge the one that stays."""
    return str(wish.get("into", wish.get("id", wish.get("delete", wish.get("forget")))))


def _number(platform: HubSpot, call: Call, text: str, name: str, most: int) -> int:
    if not text.isdigit() or not 1 <= int(text) <= most:
        words = f"{name} must be a number between 1 and {most}, not {text!r}"
        raise Refused(platform._invalid(call, words))
    return int(text)

"""Segment: one workspace behind the Tracking API; what its sources received, merged and counted.

Behaves as these pages say (read 2026-10)
- https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/: 500 KB a batch,
  32 KB a call, else 400; 200 for everything else, also for what is then dropped: no identity, no
  event name, no such type; Basic with the write key as the user name, or `writeKey` in the body
- https://segment.com/docs/guides/duplicate-data/: a `messageId` seen within 24 hours is dropped
- the same page's batch section: more than 2,500 calls are answered 200 and dropped

Quota: `tracking`, 50 requests in any second, as the page said for years (today it advises at most
1,000); 429 with `Retry-After` and `X-RateLimit-Reset` in seconds.

Our reading where the pages are silent
- a write key that nobody has is answered 200, and nothing comes of it
- an empty batch is answered 200
- null takes a trait away; `userId` and `anonymousId` together are the user of `userId`
- a `messageId` of more than 100 characters drops the call
- `sentAt` after the arrival or before it shifts each call's `timestamp` by the difference
"""

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from simulators.declared_answers import flat
from simulators.quotas import Rolling, Window
from simulators.server import Answer, Call, Platform, Source, each
from simulators.store import Index, Store

BATCH_BYTES_MAX, CALL_BYTES_MAX, CALLS_MAX = 500_000, 32_000, 2_500
SEEN_MS = 24 * 3_600_000
KEY_CHARS_MAX = 100
TYPES = frozenset({"identify", "track", "group", "page", "screen", "alias"})
SUCCESS = Answer(200, {"success": True})


class Message(msgspec.Struct):
    """One call, as far as Segment itself looks."""

    type: Any = None
    messageId: Any = None  # noqa: N815 - the platform's names
    userId: Any = None  # noqa: N815
    anonymousId: Any = None  # noqa: N815
    groupId: Any = None  # noqa: N815
    event: Any = None
    name: Any = None
    timestamp: Any = None
    traits: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None


class Batch(msgspec.Struct):
    batch: list[msgspec.Raw]
    writeKey: str = ""  # noqa: N815
    sentAt: str | None = None  # noqa: N815


class Segment(Platform):
    """One workspace. `users` are known from the beginning: their id and traits."""

    name = "segment"
    routes = [
        ("POST", r"/v1/(?:batch|import)", "batch"),
        ("POST", r"/v1/(identify|track|group|page|screen|alias)", "single"),
    ]

    def __init__(
        self,
        users: Source[tuple[str, Mapping[str, Any]]] = (),
        *,
        write_key: str = "segment-write-key",
        seed: int = 0,
        quota: Mapping[str, str] | None = None,
        script: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.write_key, self._users = write_key, users
        stores = {
            "users": Store({"userId": Index()}, "userId"),
            "events": Store({"messageId": Index()}, "messageId"),
            "groups": Store({"groupId": Index()}, "groupId"),
        }
        windows = [Rolling("tracking", 50, 1.0)]
        super().__init__(stores, windows, seed=seed, quota=quota, script=script)
        self._seen: dict[str, int] = {}
        """messageId to its arrival, oldest first."""
        self.fill()

    def fill(self) -> None:
        self._seen.clear()
        at_ms = self.started_ms - 86_400_000
        for user, traits in each(self._users):
            self.store.seed(user, {"userId": user, **traits}, at_ms, at_ms)

    # -- who may, and how much

    def recognise(self, call: Call) -> None:
        """Whoever comes is answered: see `_known`."""

    def limits(self, call: Call) -> list[Window]:
        return [self.windows["tracking"]]

    def over_limit(self, policy: str, now: float, *, bare: bool = False) -> Answer:
        if bare:
            return Answer(429, b"Too Many Requests", {"Content-Type": "text/plain"})
        headers = {"Retry-After": "1", "X-RateLimit-Reset": "1"}
        return Answer(429, {"success": False, "message": "Too Many Requests"}, headers)

    def _known(self, call: Call, in_body: str) -> bool:
        how, _, given = call.headers.get("Authorization", "").partition(" ")
        if how.lower() != "basic":
            return in_body == self.write_key
        try:
            user = base64.b64decode(given, validate=True).decode().partition(":")[0]
        except ValueError:
            return False
        return user == self.write_key

    # -- calls

    def batch(self, call: Call) -> Answer:
        if len(call.body) > BATCH_BYTES_MAX:
            return _bad("Exceeds maximum batch size: 500 KB")
        given = msgspec.json.decode(call.body, type=Batch)
        return self._take(call, given.batch, given.writeKey, given.sentAt)

    def single(self, call: Call, kind: str) -> Answer:
        fields = msgspec.json.decode(call.body, type=dict[str, Any])
        raw = msgspec.Raw(msgspec.json.encode({**fields, "type": kind}))
        return self._take(call, [raw], str(fields.get("writeKey", "")), fields.get("sentAt"))

    def _take(
        self, call: Call, raws: list[msgspec.Raw], write_key: str, sent_at: str | None
    ) -> Answer:
        if any(len(bytes(raw)) > CALL_BYTES_MAX for raw in raws):
            return _bad("Exceeds maximum call size: 32 KB")
        if not self._known(call, write_key):
            self.rows["of_nobody"] += len(raws)
            return SUCCESS
        if len(raws) > CALLS_MAX:
            self.rows["dropped"] += len(raws)
            return SUCCESS
        late_ms = call.at_ms - moment(sent_at) if sent_at else 0
        for row, raw in enumerate(raws):
            fate = self._one(call, row, raw, late_ms)
            self.rows[fate] += 1
        return SUCCESS

    def _one(self, call: Call, row: int, raw: msgspec.Raw, late_ms: int) -> str:
        """-> what became of it, which nobody is told."""
        try:
            message = msgspec.json.decode(raw, type=Message)
        except msgspec.ValidationError:
            return "dropped"
        if not _whole(message):
            return "dropped"
        values = message.properties if message.type not in ("identify", "group") else message.traits
        known = dict(flat(values or {}))
        if call.struck.refusing and call.struck.refuses(known.get):
            return "blocked"  # as the rules of a tracking plan do
        key = str(message.messageId or f"own-{call.number}-{row}")
        if not call.dry and self._repeated(key, call.at_ms):
            return "repeated"
        self._write(call, row, message, key, known, late_ms)
        return "written"

    def _repeated(self, key: str, at_ms: int) -> bool:
        """Was it seen within 24 hours? From now on it was."""
        while self._seen:
            oldest, seen_ms = next(iter(self._seen.items()))
            if seen_ms > at_ms - SEEN_MS:
                break
            del self._seen[oldest]
        if key in self._seen:
            return True
        self._seen[key] = at_ms
        return False

    def _write(
        self, call: Call, row: int, message: Message, key: str, values: dict[str, Any], late_ms: int
    ) -> None:
        who = str(message.userId or message.anonymousId)
        match message.type:
            case "identify":
                self._merge(call, row, "users", "userId", who, values)
            case "group":
                self._merge(call, row, "groups", "groupId", str(message.groupId), values)
                self._merge(call, row, "users", "userId", who, {f"groups.{message.groupId}": True})
            case _:
                events = self.stores["events"]
                twice = len(events.indexes["messageId"].all(key))
                values |= {"messageId": key, "type": message.type, "userId": who}
                values["event"] = message.event or message.name
                if message.timestamp is not None:
                    values["timestamp_ms"] = moment(str(message.timestamp)) + late_ms
                kept = {name: value for name, value in values.items() if value is not None}
                events.create(call, row, f"{key}#{twice}" if twice else key, kept)

    def _merge(
        self, call: Call, row: int, kind: str, field: str, name: str, values: Mapping[str, Any]
    ) -> None:
        store = self.stores[kind]
        obj = store.objects.get(name)
        if obj is not None:
            store.update(call, row, obj, dict(values))
            return
        kept = {key: value for key, value in values.items() if value is not None}
        store.create(call, row, name, {field: name, **kept})

    # -- small things

    def act(self, call: Call, acts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Calls as another source of the workspace makes them -> `[{"fate"}]`."""
        raws = [msgspec.Raw(msgspec.json.encode(one)) for one in acts]
        return [{"fate": self._one(call, row, raw, 0)} for row, raw in enumerate(raws)]

    def not_found(self, call: Call) -> Answer:
        return Answer(404, b"Not Found", {"Content-Type": "text/plain"})

    def malformed(self, call: Call, problem: Exception) -> Answer:
        return _bad(f"Invalid JSON: {problem}")


def _bad(words: str) -> Answer:
    return Answer(400, {"success": False, "message": words})


def _whole(message: Message) -> bool:
    if message.type not in TYPES:
        return False
    if not (_text(message.userId) or _text(message.anonymousId)):
        return False
    if message.type == "track" and not _text(message.event):
        return False
    if message.type == "group" and not _text(message.groupId):
        return False
    return message.messageId is None or 0 < len(str(message.messageId)) <= KEY_CHARS_MAX


def _text(value: Any) -> bool:
    """A text that says something, or a number."""
    return bool(value) if isinstance(value, str) else isinstance(value, int | float)


def moment(text: str) -> int:
    """Unix milliseconds of an ISO 8601 time; one that is none counts as 1970."""
    try:
        known = datetime.fromisoformat(text)
    except ValueError:
        return 0
    return int(known.replace(tzinfo=known.tzinfo or UTC).timestamp() * 1000)

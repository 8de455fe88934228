"""Segment: identify, track and group calls in (sink), through the Tracking API's batch call.

API      HTTP Tracking API v1, https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/ (2026-10)
Quotas   ratelimits/registry/segment.json: tracking (requests a second of a workspace)
Repeats  `messageId`: what Segment has seen within about 24 hours is dropped; ours are derived, never
         random. A fact's is its row id; a state's has a checksum of its content too, so that a row
         that was mended goes through
Traps    200 for nearly everything: a call that is not well formed is dropped without a word, and so
         is a whole batch of more than 2,500. Hence each call is checked here before it is sent, and
         what was taken is *accepted, unproven*: nothing can be read back
"""  # noqa: E501

import base64
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, ClassVar
from zlib import crc32

import msgspec
from pydantic import BaseModel, Field, SecretStr

from connectors.base import (
    Fetch,
    FieldsOf,
    Http,
    ObjectSpec,
    Page,
    PlatformError,
    Row,
    Spec,
    field_found,
)
from connectors.outcome import Accepted, Halted, Outcome, Parked, Retry, Throttled, TooLarge
from ratelimits.headers import retry_after_s

BODY_BYTES_MAX = 500_000  # section "Max request size": 500 KB a batch
CALL_BYTES_MAX = 32_000  # the same: 32 KB a call within
ROWS_MAX = 500  # they take 2,500, and drop a larger batch whole behind a 200
BATCH = "/v1/batch"

CALLS: Mapping[str, tuple[str, frozenset[str]]] = {
    "identify": ("traits", frozenset({"userId", "anonymousId"})),
    "track": ("properties", frozenset({"userId", "anonymousId", "event"})),
    "group": ("traits", frozenset({"userId", "anonymousId", "groupId"})),
}
"""Call to the place of its values, and the fields that stand beside them."""
AROUND = ("context.", "integrations.")
"""Fields of these names stand beside the values too, nested."""
FIELDS: Mapping[str, str] = {
    # Spec pages "Identify", "Track" and "Group": names with a meaning of their own. Any other is
    # taken as it is.
    "identify": "userId anonymousId email firstName lastName name phone title company.name "
    "company.id address.city address.country age birthday createdAt username website context.ip",
    "track": "userId anonymousId event revenue currency value context.ip",
    "group": "userId anonymousId groupId name email industry employees plan phone website "
    "address.city address.country createdAt context.ip",
}


class SegmentConfig(BaseModel, frozen=True, extra="forbid"):
    """What an operator fills in. The secret `write_key` is that of an HTTP API source."""

    host: str = Field(
        default="api.segment.io",
        pattern=r"^(api\.segment\.io|events\.eu1\.segmentapis\.com)$",
        description="events.eu1.segmentapis.com for a workspace in the EU: the other one answers 200 there and drops everything.",  # noqa: E501
    )


class Segment:
    """One source of one workspace."""

    spec: ClassVar[Spec] = Spec(
        platform="segment",
        config=SegmentConfig,
        secrets=("write_key",),
        base_url="https://{host}",
        objects={
            name: ObjectSpec(
                kind="fact" if name == "track" else "state",
                repeat="by_key",
                batch_rows_max=ROWS_MAX,
                # Room for what our shape adds to a row beyond the worker's estimate.
                batch_bytes_max=BODY_BYTES_MAX - 20 * ROWS_MAX,
                read_quota="write",  # only a probe, and it goes where rows go
                identity_field="userId",
                together=lambda row: "",
                evidence="none",
            )
            for name in CALLS
        },
    )

    def __init__(self, config: SegmentConfig, secrets: Mapping[str, SecretStr], http: Http) -> None:
        self.config, self.http, self._key = config, http, secrets["write_key"]

    async def fetch_records(self, request: Fetch) -> Page:
        """Events cannot be read back. The names that mean something, after an empty batch has shown
        that Segment is there."""
        if not isinstance(request, FieldsOf):
            raise PlatformError(404, "Segment's Tracking API cannot be read", sent=False)
        try:
            await self._send([])
        except PlatformError as error:
            if error.status != 400:  # no page says what an empty batch is; a 400 is an answer too
                raise
        names = FIELDS[request.object_type].split()
        return Page([field_found(n, {"name": n}) for n in names])

    def map_fields(self, object_type: str, row: Row) -> dict[str, Any]:
        """A call of this type, without its messageId. Dots nest. Null clears a trait; a property
        that is null is left out. Who it is: `userId`, or `anonymousId`, else our own key."""
        place, beside = CALLS[object_type]
        call: dict[str, Any] = {"type": object_type}
        values, nested = dict(row.fields), dict[str, Any]()
        clears = object_type != "track"
        for name in _elsewhere(object_type, tuple(values)):
            value = values.pop(name)
            if name in beside:
                if value is not None and value != "":
                    call[name] = str(value)
            elif value is not None or clears:
                _nest(call if name.startswith(AROUND) else nested, name, value)
        if not clears:
            values = {name: value for name, value in values.items() if value is not None}
        if "userId" not in call and "anonymousId" not in call:
            call["userId"] = row.object_id or row.person
        if row.occurred_ms:  # without one it happens when it arrives
            second_s, ms = divmod(row.occurred_ms, 1000)
            call["timestamp"] = f"{_second(second_s)}.{ms:03}Z"
        call[place] = nested | values
        return call

    async def upload_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """Calls that Segment would drop are parked here, each with its reason; the others go out
        together. No `sentAt`: with it Segment would shift the times of what is replayed."""
        ready = [self._ready(object_type, row) for row in rows]
        good = [call for call in ready if isinstance(call, bytes)]
        if sum(map(len, good)) + len(good) + 20 > BODY_BYTES_MAX:
            return [TooLarge("more than 500 KB")] * len(rows)
        if good:
            try:
                await self._send(good)
            except PlatformError as error:
                return [self.handle_error(error)] * len(rows)
        return [Accepted() if isinstance(call, bytes) else call for call in ready]

    def _ready(self, object_type: str, row: Row) -> bytes | Parked:
        """The call as JSON, with the key by which Segment knows a repeat; or why it would be
        dropped."""
        call = self.map_fields(object_type, row)
        raw = msgspec.json.encode(call)
        key = row.row_id if object_type == "track" else f"{row.row_id}-{crc32(raw):08x}"
        raw = b'%b,"messageId":"%b"}' % (raw[:-1], key.encode())
        return wrong(call, len(raw)) or raw

    async def _send(self, calls: Sequence[bytes]) -> None:
        """Raises PlatformError also for a 2xx that does not say that it succeeded."""
        headers = {"authorization": _basic(self._key.get_secret_value())}
        body = {"batch": [msgspec.Raw(call) for call in calls]}
        answer = await self.http.request("POST", BATCH, json=body, headers=headers)
        said = answer.json()
        if not isinstance(said, dict) or said.get("success") is not True:
            raise PlatformError(answer.status, "the answer does not say success")

    def handle_error(self, error: PlatformError) -> Outcome:
        """400 is too large or no JSON at all, for the batch as a whole: it is halved."""
        body: dict[str, Any] = error.body if isinstance(error.body, dict) else {}
        words = str(body.get("message") or body.get("error") or error.body or "")[:300]
        match error.status:
            case 429:
                return Throttled(_wait_s(error.headers))
            case 401 | 403:
                return Halted(f"write key refused: {words}")
            case 413:
                return TooLarge(words)
            case s if s < 300 or s == 408 or s >= 500:  # a 2xx of something in between, too
                return Retry(f"{error}")
            case _:
                return Parked(str(error.status), words)


def wrong(call: Mapping[str, Any], size: int) -> Parked | None:
    """Why Segment would drop this call behind its 200; None: it would not. Pure."""
    if size > CALL_BYTES_MAX:
        return Parked("too_large", f"{size} bytes; Segment takes {CALL_BYTES_MAX} a call")
    for needed in {"track": ("event",), "group": ("groupId",)}.get(call["type"], ()):
        if needed not in call:
            return Parked("missing", f"a {call['type']} call needs {needed}", needed)
    return None


@lru_cache(1024)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(256)
def _elsewhere(object_type: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Which of these fields do not stand among the values as they are: a sync's rows are alike."""
    beside = CALLS[object_type][1]
    return tuple(name for name in names if name in beside or "." in name)


def _nest(at: dict[str, Any], name: str, value: Any) -> None:
    *parents, leaf = name.split(".")
    for parent in parents:
        at = at.setdefault(parent, {})
    at[leaf] = value


def _basic(write_key: str) -> str:
    return "Basic " + base64.b64encode(f"{write_key}:".encode()).decode()


def _wait_s(headers: Mapping[str, str]) -> float | None:
    """Section "Rate limits": both in seconds."""
    text = headers.get("retry-after") or headers.get("x-ratelimit-reset", "")
    return retry_after_s(text, time.time())

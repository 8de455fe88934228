"""The contract of a connector: a `Spec` that describes the platform, and four methods.

One platform is one file in `connectors/platforms/`. The worker owns everything else: quotas,
batches, matching, retries, checkpoints. A connector never sleeps, never retries, keeps no state but
its access token.
"""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Protocol

import msgspec
from pydantic import BaseModel

from connectors.outcome import Outcome

__all__ = [
    "Answer",
    "ByIds",
    "ByKeys",
    "Changes",
    "Connector",
    "Fetch",
    "FieldsOf",
    "Found",
    "Http",
    "JobConnector",
    "JobSpec",
    "ObjectSpec",
    "Page",
    "PlatformError",
    "RemovingConnector",
    "Row",
    "Spec",
    "field_found",
    "iso",
    "milliseconds",
]

Fields = Mapping[str, Any]


@dataclass(eq=False)  # not frozen: whoever lets it pass sets its traceback
class PlatformError(Exception):
    """An answer that is no success, or none at all (`status` 0).

    `sent`: False only where it is certain that the platform saw nothing (connection refused): then
    a repeat is always safe. `body` is the decoded JSON, or the text, at most 64 KiB.
    """

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: bool = True

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status else "no answer"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Many rows in one job, whose verdicts come later. For bulk and replay only."""

    rows_min: int
    """Fewer are not worth one."""
    rows_max: int
    bytes_max: int
    calls: int
    """Requests that one takes in all, about."""
    takes: Callable[["Row"], bool] = lambda row: True
    """Rows that it can carry; told apart by the spec's `together` too."""
    quota: str = ""
    """Of its requests, where it is another than `write_quota`."""


@dataclass(frozen=True, slots=True)
class ObjectSpec:
    """One object type at the platform."""

    kind: Literal["state", "fact"]
    """state: upserted; fact: appended once, never merged, repeated only under a dedupe key."""
    repeat: Literal["safe", "by_key", "unsafe"]
    """Is a request without an answer safe to send again."""
    batch_rows_max: int
    batch_bytes_max: int | None = None
    write_quota: str = "write"
    """Group in ratelimits/registry/<platform>.json."""
    read_quota: str = "read"
    match_quota: str = ""
    """Of `ByKeys`, where it is another than `read_quota`."""
    count_quota: str = ""
    """Of `Count`; empty: the platform cannot be asked, its pages may still tell."""
    key_field: str = ""
    """Destination field that holds our person key (external id); empty: identity by `match`."""
    identity_field: str = ""
    """Destination field that is the identity itself (an address): such rows are never matched."""
    together: Callable[["Row"], Hashable] = lambda row: bool(row.object_id)
    """Rows with equal answers may share a request: updates by id, say, never with upserts."""
    evidence: Literal["answer", "job", "none"] = "answer"
    key_option: str = ""
    """Option of the connection that names `key_field` otherwise."""
    match_rows_max: int = 100
    """Values that one `ByKeys` may ask for."""
    match_bytes_max: int = 2_500
    """Their length in all: queries stand in addresses or have bounds of their own."""
    read_rows_max: int = 100
    """Ids that one `ByIds` may ask for."""
    job: JobSpec | None = None
    """Its connector is a `JobConnector`."""
    quiet: bool = False
    """Its webhooks may tell nothing of what is written by the API."""
    removals: Mapping[str, int] = field(default_factory=dict[str, int])
    """What can be done away with, and how many a request: `archive` (out of sight, it can come
    back), `delete` (as people delete it there), `erase` (for good, with what is known of them).
    Its connector is a `RemovingConnector`."""

    @property
    def asking_quota(self) -> str:
        """What `ByKeys` is paid from."""
        return self.match_quota or self.read_quota

    @property
    def job_quota(self) -> str:
        """What the requests of a job are paid from."""
        return (self.job.quota if self.job else "") or self.write_quota


@dataclass(frozen=True, slots=True)
class Spec:
    """What a platform is, as far as code elsewhere must know. Sources stand beside each figure."""

    platform: str
    objects: Mapping[str, ObjectSpec]
    base_url: str
    """Empty where each account has its own; `{name}` is filled from the connection's options."""
    config: type[BaseModel]
    secrets: tuple[str, ...]
    """Names of the secrets that a connection must refer to."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Other addresses of the platform by name, for `Http.request`. Not used where the connection
    gives a `base_url` of its own: then all requests go there."""
    secrets_instead: tuple[tuple[str, ...], ...] = ()
    """Other sets of which one may be given as a whole, in place of `secrets`."""
    fetchable: frozenset[str] = frozenset()
    """Object types that `fetch_records` can list."""
    fetch_pages_max: int = 20

    def wanted(self, given: Collection[str]) -> tuple[str, ...]:
        """The secrets that a connection with these must have: those of the set that it has whole,
        else of the one that it has begun, else `secrets`."""
        sets = (self.secrets, *self.secrets_instead)
        return max(sets, key=lambda names: (set(names) <= set(given), len(set(names) & set(given))))


class Row(msgspec.Struct, frozen=True):
    """One destination object as the worker hands it to a connector."""

    row_id: str
    person: str
    object_id: str
    """The object there where known (earlier write, or matched); empty: not there yet."""
    fields: Fields
    """Destination field to value, as mapped; None clears."""
    occurred_ms: int = 0
    removal: str = ""
    """A name in `ObjectSpec.removals`: it is taken away. Empty: it is written."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything, or what changed since a checkpoint; oldest first where the platform can."""

    object_type: str
    cursor: str
    """Opaque, from the last page; empty: from the beginning."""
    fields: tuple[str, ...] = ()
    rows_max: int = 0
    """0: the platform's largest page."""
    since_ms: int = 0
    """With an empty cursor: only what changed then or later. Who cannot tell gives everything."""


@dataclass(frozen=True, slots=True)
class ByIds:
    object_type: str
    ids: tuple[str, ...]
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ByKeys:
    """Which objects hold one of these values in this field? For matching before the first write."""

    object_type: str
    field: str
    values: tuple[str, ...]
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldsOf:
    """The live field list of an object type."""

    object_type: str


@dataclass(frozen=True, slots=True)
class Count:
    """How many objects does the platform hold? Answered in `Page.total`; asked once a run, of what
    has a `count_quota`."""

    object_type: str


Fetch = Changes | ByIds | ByKeys | FieldsOf | Count


@dataclass(frozen=True, slots=True)
class Found:
    """One object as read."""

    object_id: str
    values: bytes
    """JSON object of the flat field values."""
    payload: bytes
    """The object as it came."""
    occurred_ms: int = 0
    archived: bool = False
    key: str = ""
    """ByKeys: which of the asked values it matched (normalised as asked)."""

    def keyed(self, field: str, asked: Mapping[str, str]) -> "Found":
        """The same, with the asked value that it matched. `asked`: lower-cased to as asked, for
        platforms that compare text without case."""
        value = str(msgspec.json.decode(self.values).get(field) or "")
        return replace(self, key=asked.get(value.lower(), value))


def field_found(name: str, entry: Any) -> Found:
    """A field of the list, as `FieldsOf` answers."""
    raw = msgspec.json.encode(entry)
    return Found(name, raw, raw)


def iso(at_ms: int) -> str:
    """ISO 8601 to the second, UTC: `2026-11-26T02:30:00Z`."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(text: str | None) -> int:
    """Unix milliseconds of an ISO 8601 time; 0 for none."""
    return int(datetime.fromisoformat(text).timestamp() * 1000) if text else 0


@dataclass(frozen=True, slots=True)
class Page:
    """Part of an answer. `cursor`: where the next page begins; `last`: there is none."""

    records: Sequence[Found]
    cursor: str = ""
    last: bool = True
    total: int = -1
    """Objects that the platform holds, where it says so; else -1."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer, whole."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """Raises PlatformError where a 2xx holds no JSON."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            raise PlatformError(self.status, self.body[:65536].decode(errors="replace")) from None


class Http(Protocol):
    """What a connector sends with (`connectors/http.py`): one pooled client per connection.

    It adds the base URL, a time-out and size bounds, tells the limiter the answer's headers, and
    keeps secrets out of logs. It never retries.
    """

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        host: str = "",
    ) -> Answer:
        """Raises PlatformError for every answer that is not 2xx, and for none (`status` 0).

        `path` may be an absolute URL; `host` is a name of `Spec.hosts`. `json` is encoded with
        msgspec; `content` goes out as it is, under a content type in `headers`.
        """
        ...


class Connector(Protocol):
    """One connection to one platform. Built as `Connector(config, secrets, http)`: its options
    validated by `spec.config`, and the values of `spec.secrets`."""

    spec: ClassVar[Spec]

    async def fetch_records(self, request: Fetch) -> Page:
        """One HTTP request's worth. Raises PlatformError."""
        ...

    def map_fields(self, object_type: str, row: Row) -> Any:
        """The row in the platform's own shape: nesting, casing, dates. Pure."""
        ...

    async def upload_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """One HTTP request: at most `batch_rows_max` rows, no two of one identity, all of them
        `together` as the spec says. A row with an `object_id` updates that object and stamps our
        key on it; one without is upserted by key.

        One outcome per row, in the order given; a row without a verdict in a 2xx answer is Retry
        (or Unknown where a repeat is unsafe). An error of the request as a whole gives every row
        what `handle_error` says: the very same object, so that the worker knows that no single
        row is to blame. Never raises PlatformError.
        """
        ...

    def handle_error(self, error: PlatformError) -> Outcome:
        """The platform's word for a failure to ours. Pure."""
        ...


class RemovingConnector(Connector, Protocol):
    """One whose objects, or some of them, can be archived, deleted or erased."""

    async def remove_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """One HTTP request: at most as many rows as `removals` says, all with an `object_id` and of
        one `removal`.

        Outcomes as of `upload_batch`. What is gone already is Written: a repeat changes nothing, so
        a lost answer is Retry. Never raises PlatformError.
        """
        ...


class JobConnector(Connector, Protocol):
    """One whose object types, or some of them, can be written in jobs."""

    async def open_job(self, object_type: str, rows: Sequence[Row]) -> str:
        """Give the platform these rows, all of them `together` -> the name of the job that holds
        them. Nothing happens to them before `start_job`; where the platform begins at once, a job
        whose name is lost runs on, and its rows go again: so only for what may be repeated. Raises
        PlatformError."""
        ...

    async def start_job(self, receipt: str) -> None:
        """A repeat changes nothing. Raises PlatformError."""
        ...

    async def check_job(
        self, object_type: str, receipt: str, rows: Sequence[Row]
    ) -> list[Outcome] | None:
        """One outcome per row, in the order given, which need not be all of the job's; None: it is
        not through. Starts one that was never started. A row that it left alone is Retry. Raises
        PlatformError."""
        ...

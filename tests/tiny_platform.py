"""A platform of our own for tests: its connector, and a real HTTP server that misbehaves.

The server is not a worker's friend: it counts every object it holds and every write it applied, so
that a test can ask it what really happened.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
from aiohttp import web
from pydantic import BaseModel, Field, SecretStr

from connectors.base import (
    ByIds,
    ByKeys,
    Changes,
    Fetch,
    Found,
    Http,
    JobSpec,
    ObjectSpec,
    Page,
    PlatformError,
    Row,
    Spec,
)
from connectors.outcome import Halted, Outcome, Parked, Retry, Throttled, TooLarge, Written


class TinyConfig(BaseModel, frozen=True, extra="forbid"):
    page: int = Field(default=10, description="Records of a page.")


class Tiny:
    """People, upserted by our key, also in jobs; guests, made anew by each request; letters, sent
    once each."""

    spec: ClassVar[Spec] = Spec(
        platform="tiny",
        config=TinyConfig,
        secrets=("token",),
        base_url="",
        objects={
            "person": ObjectSpec(
                kind="state", repeat="safe", batch_rows_max=50, key_field="our_key",
                match_rows_max=20, read_rows_max=5,
            ),
            "crowd": ObjectSpec(
                kind="state", repeat="safe", batch_rows_max=5, key_field="our_key",
                job=JobSpec(rows_min=20, rows_max=200, bytes_max=1_000_000, calls=3),
            ),
            "guest": ObjectSpec(
                kind="state", repeat="unsafe", batch_rows_max=10, key_field="our_key",
                match_rows_max=20,
            ),
            "letter": ObjectSpec(kind="fact", repeat="unsafe", batch_rows_max=10),
        },
        fetchable=frozenset({"person"}),
    )  # fmt: skip

    def __init__(self, config: TinyConfig, secrets: Mapping[str, SecretStr], http: Http) -> None:
        self.config, self.http, self._token = config, http, secrets["token"]

    async def fetch_records(self, request: Fetch) -> Page:
        match request:
            case Changes(cursor=cursor):
                params = {"after": cursor or "0", "limit": str(self.config.page)}
                body = await self._call("GET", "/list", params=params)
            case ByIds(ids=ids):
                body = await self._call("POST", "/read", {"ids": ids})
            case ByKeys(field=name, values=values):
                body = await self._call("POST", "/find", {"field": name, "values": values})
            case _:
                await self._call("GET", "/fields")
                return Page([])
        answer = msgspec.json.decode(body)
        records = [
            Found(r["id"], msgspec.json.encode(r["values"]), msgspec.json.encode(r), r["at_ms"],
                  key=r.get("asked", ""))
            for r in answer["records"]
        ]  # fmt: skip
        return Page(records, answer.get("next", ""), answer.get("last", True))

    def map_fields(self, object_type: str, row: Row) -> dict[str, Any]:
        return dict(row.fields)

    async def upload_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        body = [
            {"id": r.object_id, "key": r.person, "row": r.row_id, **self.map_fields(object_type, r)}
            for r in rows
        ]
        try:
            answer = msgspec.json.decode(await self._call("POST", f"/{object_type}", body))
        except PlatformError as error:
            return [self.handle_error(error)] * len(rows)
        return [_verdict(v) for v in answer]

    async def open_job(self, object_type: str, rows: Sequence[Row]) -> str:
        body = [{"id": r.object_id, "key": r.person, "row": r.row_id, **r.fields} for r in rows]
        return msgspec.json.decode(await self._call("POST", "/job", body))["receipt"]

    async def start_job(self, receipt: str) -> None:
        await self._call("POST", "/start", {"receipt": receipt})

    async def check_job(
        self, object_type: str, receipt: str, rows: Sequence[Row]
    ) -> list[Outcome] | None:
        answer = msgspec.json.decode(await self._call("POST", "/check", {"receipt": receipt}))
        if answer["state"] == "open":
            await self.start_job(receipt)
        if answer["state"] != "done":
            return None
        verdicts = answer["verdicts"]
        return [_verdict(verdicts[r.row_id]) for r in rows]

    def handle_error(self, error: PlatformError) -> Outcome:
        match error.status:
            case 401:
                return Halted("token refused")
            case 413:
                return TooLarge("too many rows")
            case 429:
                return Throttled(float(error.headers.get("retry-after", "1")))
            case s if s == 0 or s >= 500:
                return Retry(str(error))
            case s:
                return Parked(str(s), str(error.body))

    async def _call(self, method: str, path: str, json: Any = None, params: Any = None) -> bytes:
        headers = {"authorization": f"Bearer {self._token.get_secret_value()}"}
        answer = await self.http.request(method, path, json=json, params=params, headers=headers)
        return answer.body


def _verdict(v: Mapping[str, Any]) -> Outcome:
    match v["say"]:
        case "written":
            return Written(v["id"])
        case "busy":
            return Retry("row is locked")
        case _:
            return Parked("REFUSED", f"bad value {v['value']}", "name")


@dataclass
class Account:
    """What one account holds and has seen."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Id to values; `our_key` and `updates` among them."""
    letters: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, int]] = field(default_factory=list)
    """(path, rows)"""
    writes: Counter[str] = field(default_factory=Counter)
    """Row id to how often it was applied."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Receipt to rows, state and verdicts."""
    job_s: float = 0.5
    """How long a job is worked at."""
    twice_at_once: int = 0
    times: list[float] = field(default_factory=list)
    """When each request came."""
    at_once: int = 0
    at_once_most: int = 0
    _now: Counter[str] = field(default_factory=Counter)
    _keys: dict[str, str] = field(default_factory=dict)
    """Our key to the object that carries it."""
    _indexed: int = 0
    """Objects in `_keys`' making: tests put their own beside them."""

    def holder(self, key: str) -> str | None:
        if self._indexed != len(self.objects):
            self._keys = {o["our_key"]: i for i, o in self.objects.items() if "our_key" in o}
            self._indexed = len(self.objects)
        return self._keys.get(key)

    def give(self, object_id: str, key: str) -> None:
        self.objects[object_id]["our_key"] = key
        self._keys[key] = object_id
        self._indexed = len(self.objects)

    def most_within(self, window_s: float) -> int:
        """The most requests that came in any stretch of so many seconds."""
        times, begin, most = self.times, 0, 0
        for end, at in enumerate(times):
            while at - times[begin] >= window_s:
                begin += 1
            most = max(most, end - begin + 1)
        return most

    # faults
    refuse_token: bool = False
    fail: int = 0
    """So many more requests end with 500."""
    lose: int = 0
    """So many more writes are applied and not answered."""
    latency_s: float = 0.0
    rows_max: int = 1000
    throttle: int = 0


WRITES = ("person", "letter", "guest", "start")


class TinyServer:
    """Accounts by name, at `/<name>/...`. Runs in a thread; `with TinyServer() as server`."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self.port = 0

    def account(self, name: str) -> Account:
        return self.accounts.setdefault(name, Account())

    def url(self, name: str) -> str:
        self.account(name)
        return f"http://127.0.0.1:{self.port}/{name}"

    def __enter__(self) -> "TinyServer":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{account}/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        account = self.accounts[request.match_info["account"]]
        path = request.match_info["path"]
        body = msgspec.json.decode(await request.read() or b"null")
        account.requests.append((path, len(body) if isinstance(body, list) else 0))
        account.times.append(time.monotonic())
        account.at_once += 1
        account.at_once_most = max(account.at_once_most, account.at_once)
        try:
            return await self._answered(account, path, body, request)
        finally:
            account.at_once -= 1

    async def _answered(
        self, account: Account, path: str, body: Any, request: web.Request
    ) -> web.StreamResponse:
        if account.refuse_token:
            return web.json_response({}, status=401)
        if account.throttle > 0:
            account.throttle -= 1
            return web.json_response({}, status=429, headers={"retry-after": "0.2"})
        if account.fail > 0:
            account.fail -= 1
            return web.json_response({"message": "sorry"}, status=500)
        with self._watched(account, path, body):
            await asyncio.sleep(account.latency_s)
            status, answer = self._answer(account, path, body, request.query)
        if account.lose > 0 and request.method == "POST" and path in WRITES:
            account.lose -= 1
            assert request.transport is not None
            request.transport.close()
            await asyncio.sleep(0.1)
        return web.Response(
            body=msgspec.json.encode(answer), status=status, content_type="application/json"
        )

    @contextlib.contextmanager
    def _watched(self, account: Account, path: str, body: Any):
        """Counts persons that are in two requests at once, or twice in one."""
        keys = [row["key"] for row in body] if path == "person" else []
        for key in keys:
            account._now[key] += 1
            account.twice_at_once += account._now[key] > 1
        try:
            yield
        finally:
            account._now.subtract(keys)

    def _answer(
        self, account: Account, path: str, body: Any, query: Mapping[str, str]
    ) -> tuple[int, Any]:
        match path:
            case "person" | "crowd":
                if len(body) > account.rows_max:
                    return 413, {}
                if any(row.get("name") == "spoils" for row in body):
                    return 400, {"message": "one of them is bad"}
                if any(row.get("name") == "crashes" for row in body):
                    return 500, {}
                return 200, [_upsert(account, row) for row in body]
            case "guest":
                return 200, [_invite(account, row) for row in body]
            case "job":
                receipt = f"job-{len(account.jobs) + 1}"
                account.jobs[receipt] = {"state": "open", "rows": body, "due": 0.0}
                return 200, {"receipt": receipt}
            case "start":
                job = account.jobs[body["receipt"]]
                if job["state"] == "open":
                    job |= {"state": "closed", "due": time.monotonic() + account.job_s}
                return 200, {}
            case "check":
                if (job := account.jobs.get(body["receipt"])) is None:
                    return 404, {"message": "no such job"}
                if job["state"] == "closed" and time.monotonic() >= job["due"]:
                    verdicts = {row["row"]: _upsert(account, row) for row in job["rows"]}
                    job |= {"state": "done", "verdicts": verdicts}
                return 200, {k: job[k] for k in ("state", "verdicts") if k in job}
            case "letter":
                for row in body:
                    account.letters[row["row"]] += 1
                return 200, [{"say": "written", "id": row["row"]} for row in body]
            case "find":
                asked = {str(v).lower(): v for v in body["values"]}
                hits = [
                    {**_record(i, o), "asked": asked[str(o.get(body["field"])).lower()]}
                    for i, o in account.objects.items()
                    if str(o.get(body["field"])).lower() in asked
                ]
                return 200, {"records": hits}
            case "read":
                objects = account.objects
                return 200, {
                    "records": [_record(i, objects[i]) for i in body["ids"] if i in objects]
                }
            case "list":
                after, limit = int(query["after"]), int(query["limit"])
                page = list(account.objects.items())[after : after + limit]
                last = after + limit >= len(account.objects)
                records = [_record(i, o) for i, o in page]
                return 200, {"records": records, "next": str(after + len(page)), "last": last}
            case _:
                return 200, {"records": []}


def _record(object_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": object_id, "values": values, "at_ms": 1_700_000_000_000}


def _invite(account: Account, row: dict[str, Any]) -> dict[str, Any]:
    """Whoever has no id is made anew, however often he is sent."""
    object_id = row["id"] or f"g{len(account.objects) + 1}"
    there = account.objects.setdefault(object_id, {})
    there.update({k: v for k, v in row.items() if k not in ("id", "key", "row")})
    there["our_key"] = row["key"]
    account.writes[row["row"]] += 1
    return {"say": "written", "id": object_id}


def _upsert(account: Account, row: dict[str, Any]) -> dict[str, Any]:
    if row.get("name") == "refused":
        return {"say": "refused", "value": row["name"]}
    if row.get("name") == "locked":
        return {"say": "busy"}
    object_id = row["id"] or account.holder(row["key"]) or f"p{len(account.objects) + 1}"
    there = account.objects.setdefault(object_id, {})
    there.update({k: v for k, v in row.items() if k not in ("id", "key", "row")})
    account.give(object_id, row["key"])
    account.writes[row["row"]] += 1
    return {"say": "written", "id": object_id}

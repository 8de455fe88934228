"""The worker's part of the contract, with its own code: an account that works on rows, without
Kafka. What it would write is kept here; requests go to the bench's platform."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import httpx2
import msgspec

from connectors import registry
from connectors.account import Account
from connectors.base import Http, Row
from connectors.breaker import Breaker
from connectors.http import HttpClient
from connectors.lanes import Taken
from connectors.limits import Limits, limits_of
from connectors.office import Client
from connectors.outcome import Outcome
from connectors.settling import Send, sends_of
from connectors.stats import Stats
from connectors.wire import Wire
from schemas.codec import Codec
from schemas.commands import Priority
from schemas.definitions import Connection
from schemas.topics import JOURNAL
from syncline.certify.bench import Bench

__all__ = ["Between", "Desk"]

FATE_S = 100.0
SYNC = "certify"
Answered = httpx2.Response | type[httpx2.ReadTimeout] | None


class Desk:
    """`async with Desk(bench) as desk`: implements `connectors.office.Office`."""

    partitions = 1

    def __init__(self, bench: Bench, client: Callable[[str], Http] = HttpClient) -> None:
        self.bench, self.platform, self._make = bench, bench.name, client
        self.wire, self.stats = Wire(Codec.offline()), Stats()
        self.breaker = Breaker()
        self.sends: list[Send] = []
        """What goes along with one of the next transactions."""
        self.intended: list[str] = []
        """Row ids made durable before a request that is not safe to repeat."""
        self._clients: dict[str, Client] = {}
        self._connections: dict[str, Connection] = {}
        self._ends, self._fated = ExitStack(), asyncio.Event()
        self._failed: BaseException | None = None
        self._count = 0

    async def __aenter__(self) -> "Desk":
        self.account = self.open("here")
        return self

    async def __aexit__(self, *error: Any) -> None:
        for client in self._clients.values():
            await client.http.close()  # type: ignore[attr-defined]
        self._ends.close()

    def open(self, name: str, instead: Mapping[str, str] | None = None) -> Account:
        """One more account of the platform, with a connection of its own. `instead`: secrets in
        place of the right ones."""
        bench = self.bench
        self._ends.enter_context(bench.secrets(name, instead))
        connection = bench.connection(bench.url, name)
        self._connections[name] = connection.model_copy(update={"account": name})

        async def write(_: str) -> None:
            """A lease, which nobody inherits."""

        limits = limits_of(connection, registry.connector_class(self.platform).spec)
        return Account(name, 0, self, Limits(limits, write))

    async def upload(
        self, rows: Sequence[Row], account: Account | None = None, wait_s: float = FATE_S
    ) -> dict[str, Outcome]:
        """Rows of one command -> fate of each by row id. Raises AssertionError where one has none
        within `wait_s`."""
        taken = await self.command(rows, account, wait_s)
        return {settled.item.row.row_id: settled.outcome for settled in taken.settled}

    async def command(
        self, rows: Sequence[Row], account: Account | None = None, wait_s: float = FATE_S
    ) -> Taken:
        """The same -> the command as the worker has it when it is through."""
        account = account or self.account
        self._count += 1
        taken = Taken(0, 1, self._count, time.monotonic(), priority=Priority.live)
        taken.account = taken.connection = account.name
        taken.object_type, taken.sync = self.bench.place.object_type, SYNC
        taken.decided_ms = taken.taken_ms = time.time_ns() // 1_000_000
        account.take(taken, [_raw(row, n) for n, row in enumerate(rows)], {}, 0.0)
        account.go()
        try:
            async with asyncio.timeout(wait_s):
                while len(taken.settled) < len(rows):
                    self._fated.clear()
                    await self._fated.wait()
                    if self._failed is not None:
                        raise self._failed
        except TimeoutError:
            without = len(rows) - len(taken.settled)
            why = account.gate.why or account.gate.shut
            raise AssertionError(f"{without} rows have no fate after {wait_s:g} s; {why}") from None
        finally:
            await account.stop(1.0)
            account.gate.stopping = False
        return taken

    def written(self, taken: Taken) -> bytes:
        """All bytes that a command and its account put on topics."""
        sends = [*sends_of(self.platform, [taken], self.wire), *self.sends]
        return b"\n".join(send.value or b"" for send in sends)

    def journal(self, taken: Taken) -> bytes:
        """What of it stands in the journal, which is kept longest and read by most."""
        sends = sends_of(self.platform, [taken], self.wire)
        return b"\n".join(send.value or b"" for send in sends if send.topic == JOURNAL)

    # -- Office

    def now_s(self) -> float:
        return time.monotonic()

    def client(self, connection: str) -> Client:
        client = self._clients.get(connection)
        if client is None:
            definition = self._connections[connection]
            connector, http = registry.build(definition, self._make)
            client = Client(connection, definition.account, connector, http)
            self._clients[connection] = client
        return client

    def refresh(self, connection: str) -> None:
        """Secrets do not change here."""

    def match_field(self, sync: str) -> str:
        """Who is there already is looked up before the first write, where that can be asked."""
        place = self.bench.place
        return place.address if "keys" in place.reads else ""

    def fetch_fields(self, connection: str, object_type: str) -> tuple[str, ...]:
        return ()

    def fated(self, taken: Taken) -> None:
        self._fated.set()

    def done(self, taken: Taken) -> None:
        self._fated.set()

    def also(self, sends: list[Send], partition: int) -> None:
        self.sends += sends

    async def intend(
        self, partition: int, account: str, request_id: str, rows: list[str], receipt: str = ""
    ) -> str:
        self.intended += rows
        return f"{account}:{request_id}"

    def later(self, wait_s: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(wait_s, call)

    def failed(self, error: BaseException) -> None:
        self._failed = error
        self._fated.set()


def _raw(row: Row, number: int) -> dict[str, Any]:
    """An UploadRow as it is read."""
    return {
        "row_id": row.row_id, "event_id": f"event-{row.row_id}", "person": row.person,
        "record_no": number, "object_id": row.object_id, "occurred_ms": row.occurred_ms,
        "fields": msgspec.json.encode(row.fields), "removal": row.removal,
    }  # fmt: skip


class Between(httpx2.AsyncBaseTransport):
    """Somebody between the worker and the platform, who refuses writes as a whole.

    `answer(body)`: what a write is answered instead of going on, None to let it pass, or
    `httpx2.ReadTimeout` to let it pass and the answer be lost. `calls` counts writes either way.
    """

    def __init__(self, bench: Bench, answer: Callable[[bytes], Answered]) -> None:
        self.calls = 0
        self.passed: list[int] = []
        """Bytes of each write that was let through."""
        self._answer, self._path = answer, re.compile(bench.place.write)
        self._next: httpx2.AsyncBaseTransport | None = None

    def client(self, base_url: str) -> Http:
        made = HttpClient(base_url)
        inner = made._client  # the one place where HTTP leaves; nobody else needs to reach it
        self._next, inner._transport = inner._transport, self
        return made

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert self._next is not None
        if request.method == "GET" or not self._path.search(request.url.path):
            return await self._next.handle_async_request(request)
        self.calls += 1
        body = await request.aread()
        told = self._answer(body)
        if isinstance(told, httpx2.Response):
            return told
        response = await self._next.handle_async_request(request)
        if told is httpx2.ReadTimeout:
            await response.aclose()
            raise httpx2.ReadTimeout("the answer took too long", request=request)
        self.passed.append(len(body))
        return response

    async def aclose(self) -> None:
        if self._next is not None:
            await self._next.aclose()

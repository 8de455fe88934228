"""An account of the worker by itself: real connectors, HTTP and limits, and no Kafka.

What a worker would commit is kept in memory: fates, intents, commands that were written again. A
kill forgets everything but that.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from pydantic import SecretStr

from connectors.account import Account
from connectors.base import Connector
from connectors.breaker import Breaker
from connectors.handover import Inherited
from connectors.http import HttpClient
from connectors.lanes import Taken
from connectors.limits import Limits, limits_of
from connectors.office import Client
from connectors.outcome import Outcome
from connectors.settling import Send, again
from connectors.stats import Stats
from connectors.wire import Wire
from ratelimits import registry
from schemas.codec import Codec
from schemas.commands import CheckJob, Priority
from schemas.handover import Intent

__all__ = ["Desk", "desk", "row", "until"]

COMMAND = 50
"""Rows of one command."""


class Desk:
    """Implements `connectors.office.Office` for one account. Use it as `async with desk(...)`."""

    partitions = 1

    def __init__(
        self, make: Any, url: str, options: Mapping[str, Any], secrets: Mapping[str, str],
        match: str, limits: registry.Limits | None,
    ) -> None:  # fmt: skip
        self.spec = make.spec
        self.platform = self.spec.platform
        self.http = HttpClient(url)
        values = {name: SecretStr(value) for name, value in secrets.items()}
        self.connector: Connector = make(self.spec.config(**options), values, self.http)
        self.match, self._limits = match, limits or limits_of(None, self.spec)
        self.wire, self.stats = Wire(Codec.offline()), Stats()
        self.breaker = Breaker()
        self.fates: dict[str, Outcome] = {}
        """Row id to its fate."""
        self.twice: Counter[str] = Counter()
        self.open: dict[int, Taken] = {}
        self.intents: dict[str, Intent] = {}
        self.errors: list[BaseException] = []
        self.begun: Callable[[str], None] = lambda receipt: None
        """Told when an intent is durable."""
        self._offsets = itertools.count()
        self._account()

    def _account(self) -> None:
        async def lease(document: str) -> None: ...

        limits = Limits(self._limits, lease)
        self.account = Account("a1", 0, self, limits)
        inherited = Inherited()
        for key, intent in self.intents.items():
            inherited.take(key, intent)
        self.account.inherit(inherited)

    def upload(
        self, rows: Sequence[dict[str, Any]], object_type: str, priority: Priority = Priority.bulk
    ) -> None:
        """As one command for every 50 rows."""
        for begin in range(0, len(rows), COMMAND):
            part = list(rows[begin : begin + COMMAND])
            taken = Taken(0, 1, next(self._offsets), self.now_s(), account="a1", priority=priority)
            taken.connection, taken.object_type, taken.sync = "here", object_type, "all"
            taken.left = len(part)
            self.open[taken.offset] = taken
            self.account.take(taken, part, {}, 0.0)
        self.account.go()

    async def kill(self) -> None:
        """The process dies; another one reads the same commands again."""
        self.account.cut_off()
        for _ in range(3):
            await asyncio.sleep(0)
        commands = [
            ([item.raw for item in t.items], t.object_type, t.priority) for t in self.open.values()
        ]
        self.open.clear()
        self._account()
        for rows, object_type, priority in commands:
            self.upload(rows, object_type, priority)

    def hand_on(self) -> None:
        """What the sweep does with commands that hold up others: written to the end."""
        for taken in list(self.open.values()):
            fated = {id(settled.item) for settled in taken.settled}
            taken.again = [i for i in taken.items if id(i) not in fated and i.job is not None]
            for item in taken.again:
                self.account.withdraw(item)
            taken.left -= len(taken.again)
            sends = list(again(self.platform, taken, self.wire))
            self._finish(taken) if not taken.left else None
            for send in sends:
                self._read(send)

    def _read(self, send: Send) -> None:
        assert send.value is not None
        model, command = self.wire.codec.decode_dict(send.value)
        assert model is CheckJob
        taken = Taken(0, 1, next(self._offsets), self.now_s(), account="a1", job=True)
        taken.priority = Priority(command["priority"])
        taken.connection, taken.object_type, taken.sync = "here", command["object_type"], "all"
        taken.left = len(command["rows"])
        self.open[taken.offset] = taken
        since_ms, due_ms = command["since_ms"], command["due_ms"]
        self.account.take_job(taken, command["rows"], {}, command["receipt"], since_ms, due_ms)

    async def settled(self, timeout_s: float = 60.0) -> dict[str, Outcome]:
        """Waits until every row has its fate."""
        await until(lambda: not self.open or self.errors, timeout_s)
        assert not self.errors, self.errors
        return self.fates

    # ---- Office

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def client(self, connection: str) -> Client:
        return Client(connection, "a1", self.connector, self.http)

    def refresh(self, connection: str) -> None: ...

    def match_field(self, sync: str) -> str:
        return self.match

    def fetch_fields(self, connection: str, object_type: str) -> tuple[str, ...]:
        return ()

    def fated(self, taken: Taken) -> None:
        taken.left -= 1
        if taken.left == 0:
            self._finish(taken)

    def done(self, taken: Taken) -> None:
        self._finish(taken)

    def _finish(self, taken: Taken) -> None:
        """As if it were committed at once."""
        if self.open.pop(taken.offset, None) is None:
            return
        for settled in taken.settled:
            row_id = settled.item.row.row_id
            self.twice[row_id] += 1
            self.fates[row_id] = settled.outcome
        for key in taken.intents:
            self.account.intents.kept(key)

    def also(self, sends: list[Send], partition: int) -> None:
        for send in sends:
            if send.value is None:
                self.intents.pop(send.key, None)

    async def intend(
        self, partition: int, account: str, request_id: str, rows: list[str], receipt: str = ""
    ) -> str:
        key = f"{account}:{request_id}"
        self.intents[key] = Intent(
            account=account, request_id=request_id, row_ids=rows, receipt=receipt,
            at_ms=4_000_000_000_000,
        )  # fmt: skip
        self.begun(receipt)
        return key

    def later(self, wait_s: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(wait_s, call)

    def failed(self, error: BaseException) -> None:
        self.errors.append(error)


@asynccontextmanager
async def desk(
    make: Any, url: str, *, options: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None, match: str = "",
    limits: registry.Limits | None = None,
) -> AsyncIterator[Desk]:  # fmt: skip
    made = Desk(make, url, options or {}, secrets or {}, match, limits)
    try:
        yield made
    finally:
        await made.account.stop(0.0)
        await made.http.close()


async def until(true: Callable[[], Any], timeout_s: float = 30.0) -> None:
    """Waits for a condition. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not true():  # noqa: ASYNC110 - what it waits for has no event of its own
            await asyncio.sleep(0.02)


def row(number: int, object_id: str = "", **fields: Any) -> dict[str, Any]:
    """An UploadRow as decoded."""
    return {
        "row_id": f"row-{number}", "event_id": f"event-{number}", "person": f"person-{number}",
        "record_no": number, "object_id": object_id, "occurred_ms": 1,
        "fields": msgspec.json.encode(fields), "removal": "",
    }  # fmt: skip

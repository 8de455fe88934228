"""What a check of the contract is given: one platform that misbehaves on request, and a connector.

A check is `async def check(bench)`. It raises AssertionError where the contract is broken, and
`NotHere` where the platform has no such thing; the words of either stand in the score card.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from connectors import registry
from connectors.base import ByKeys, Connector, Http, ObjectSpec, Row
from connectors.http import HttpClient
from connectors.outcome import Accepted, Outcome, Written
from schemas.definitions import Connection
from simulators import Platform
from syncline.certify.places import Place
from syncline.settings import environment

__all__ = ["Bench", "NotHere", "kinds", "same_for_all", "short"]


class NotHere(Exception):
    """This platform cannot show it; the text says why."""


def kinds(outcomes: Sequence[Outcome]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


def same_for_all(outcomes: Sequence[Outcome], count: int) -> Outcome:
    """The very same object, which tells the worker that no single row is to blame."""
    assert len(outcomes) == count
    assert all(outcome is outcomes[0] for outcome in outcomes), outcomes
    return outcomes[0]


def short(field: str) -> str:
    """A field's own name, as simulators and field lists have it."""
    return field.rpartition(".")[2]


class Bench:
    """`async with Bench(name, place) as bench`: the platform serves meanwhile, and is empty."""

    def __init__(self, name: str, place: Place) -> None:
        self.name, self.place = name, place
        self.spec: ObjectSpec = registry.connector_class(name).spec.objects[place.object_type]
        self._ends = AsyncExitStack()

    async def __aenter__(self) -> "Bench":
        self.platform: Platform = self.place.empty()
        self.url = await self._ends.enter_async_context(self.platform.serve())
        self.connector = await self._ends.enter_async_context(self.connect(self.url))
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._ends.aclose()

    # -- connecting, as a worker does: from a definition, with secrets from the environment

    def connection(self, url: str, name: str = "here") -> Connection:
        return Connection(
            connection=name,
            platform=self.name,
            account="1",
            base_url=url,
            secrets={secret: f"env:{_variable(secret, name)}" for secret in self.place.secrets},
            options=dict(self.place.options),
            quotas={"unlimited": True},
        )

    def secrets(
        self, name: str = "here", instead: Mapping[str, str] | None = None
    ) -> AbstractContextManager[None]:
        """In the environment while in there."""
        given = {**self.place.secrets, **(instead or {})}
        return environment({_variable(k, name): v for k, v in given.items()})

    @asynccontextmanager
    async def connect(
        self, url: str, client: Callable[[str], Http] = HttpClient,
        instead: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Connector]:  # fmt: skip
        """A connector at this address. `instead`: secrets in place of the right ones."""
        with self.secrets(instead=instead):
            connector, http = registry.build(self.connection(url), client)
        try:
            yield connector
        finally:
            await http.close()  # type: ignore[attr-defined]

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[tuple[Platform, Connector]]:
        """Another platform of the kind, with ten people who were there before us."""
        there = self.place.seeded()
        async with there.serve() as url, self.connect(url) as connector:
            yield there, connector

    # -- writing

    @property
    def good(self) -> type[Outcome]:
        """What a row that was taken is told: Accepted, where the platform gives no verdict."""
        return Accepted if self.spec.evidence == "none" else Written

    def one(self, count: int, *name: str) -> list[Row]:
        """Rows of one request: as many as asked for, or as fit."""
        return self.place.rows(min(count, self.spec.batch_rows_max), *name)

    async def upload(self, rows: list[Row]) -> list[Outcome]:
        """In as many requests as the platform needs."""
        outcomes: list[Outcome] = []
        for part in self.batches(rows):
            outcomes += await self.connector.upload_batch(self.place.object_type, part)
        return outcomes

    async def resend(self, rows: list[Row]) -> list[Outcome]:
        """Rows that went out before, as the worker sends them again: where a repeat could do harm,
        only after it has looked who is there."""
        if self.spec.repeat != "unsafe":
            return await self.upload(rows)
        found: list[Row] = []
        for row in rows:
            address = str(row.fields[self.place.address])
            asked = ByKeys(self.place.object_type, self.place.address, (address,))
            page = await self.connector.fetch_records(asked)
            ids = "".join(record.object_id for record in page.records)
            found.append(Row(row.row_id, row.person, ids, row.fields))
        return await self.upload(found)

    def batches(self, rows: list[Row]) -> list[list[Row]]:
        size = self.spec.batch_rows_max
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    # -- what goes wrong, and what stands there

    def strike(self, action: str, **fault: Any) -> None:
        """From now on writes go wrong in this way, once unless told."""
        self.platform.script.add(
            [{"path": self.place.write, "count": 1, "action": action, **fault}]
        )

    def fired(self) -> int:
        return sum(fault["fired"] for fault in self.platform.script.report())

    def values_of(self, outcome: Outcome, row: Row) -> Mapping[str, Any]:
        """What stands there for a row: by the id that we were told, else by the row's address."""
        assert isinstance(outcome, Written | Accepted), outcome
        store, address = self.platform.store, self.place.address
        if isinstance(outcome, Written):
            return store.objects[outcome.object_id].values
        there = [o for o in store.alive() if o.values.get(address) == row.fields[address]]
        assert len(there) == 1, f"{len(there)} objects with the row's address"
        return there[0].values

    @property
    def effects(self) -> Mapping[str, Any]:
        return self.platform.store.effects()

    def slow(self, answer_s: float) -> Callable[[str], Http]:
        """A client that waits no longer for an answer."""
        return partial(HttpClient, answer_s=answer_s)


def _variable(secret: str, name: str) -> str:
    return f"SYNCLINE_CERTIFY_{name}_{secret}".upper()

"""Reads of the worker: what the platform answers is acted on, not taken for a fault of ours."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from connectors import reading
from connectors.base import Count, Fetch, Page, PlatformError
from connectors.http import Trail, trail
from connectors.lanes import Taken
from schemas.commands import FetchPages
from schemas.events import PlatformEvent
from tests.desk import Desk, desk, until
from tests.tiny_platform import Account, Tiny, TinyServer


@pytest.fixture
def server() -> Iterator[TinyServer]:
    with TinyServer() as server:
        yield server


@pytest.fixture
def there(server: TinyServer) -> Account:
    account = server.account("a1")
    account.objects.update({f"o{n}": {"email": f"{n}@example.com"} for n in range(25)})
    return account


@pytest.fixture
async def office(server: TinyServer, there: Account) -> AsyncIterator[Desk]:
    async with desk(Tiny, server.url("a1"), secrets={"token": "t"}) as office:
        yield office


def fetch(office: Desk) -> Taken:
    """A FetchPages that begins."""
    taken = Taken(0, 1, 0, office.now_s(), account="a1", connection="here", object_type="person")
    taken.sync, taken.run = "all", "all-1"
    office.open[0] = taken
    asked = FetchPages(
        account="a1", connection="here", object_type="person", sync="all", run="all-1", cursor="",
        record_no=0, pages_max=5, step=1,
    )  # fmt: skip
    command = asked.model_dump()
    taken.task = office.account.spawn(reading.fetch(office.account, taken, command))
    return taken


def events(office: Desk, taken: Taken) -> list[PlatformEvent]:
    found = [office.wire.codec.decode(send.value) for send in taken.sends]
    return [message for message in found if isinstance(message, PlatformEvent)]


def test_a_refusal_passes_through_what_notes_requests_as_it_is() -> None:
    with pytest.raises(PlatformError) as caught, trail(Trail()):
        raise PlatformError(403, {"code": "NO"})
    assert (caught.value.status, caught.value.body) == (403, {"code": "NO"})


async def test_a_refused_key_halts_the_account_and_the_fetch_goes_on_when_it_opens(
    office: Desk, there: Account
) -> None:
    there.refuse_token = True
    taken = fetch(office)
    await until(lambda: office.account.gate.halted)
    assert office.account.gate.halted == "token refused"
    asked = len(there.requests)
    await asyncio.sleep(0.3)
    assert len(there.requests) == asked  # nobody asks a closed account
    there.refuse_token = False
    office.account.reopen("somebody said so")
    await office.settled()
    assert [e.object_id for e in events(office, taken)] == list(there.objects)


async def test_a_quota_that_is_used_up_is_waited_for(office: Desk, there: Account) -> None:
    there.throttle = 2
    taken = fetch(office)
    await office.settled()
    assert len(events(office, taken)) == 25
    assert not office.account.gate.why  # no trouble: a limit


async def test_a_fault_of_theirs_is_waited_out(office: Desk, there: Account) -> None:
    there.fail = 1
    taken = fetch(office)
    await until(lambda: there.fail == 0)
    await until(lambda: office.account.gate.why == "HTTP 500" or not office.open)
    await office.settled()
    assert len(events(office, taken)) == 25


class Searched(Tiny):
    """Reads changes by another call than single objects, as some connections do."""

    changes_quota = "search"
    spec = replace(
        Tiny.spec, objects={"person": replace(Tiny.spec.objects["person"], match_quota="search")}
    )


async def test_a_refusal_is_booked_where_the_page_was_paid(
    server: TinyServer, there: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.throttle = 1
    async with desk(Searched, server.url("a1"), secrets={"token": "t"}) as office:
        limits, booked = office.account.limits, list[str]()
        refuse = limits.throttled

        def throttled(group: str, wait_s: float | None, window: str) -> None:
            booked.append(group)
            refuse(group, wait_s, window)

        monkeypatch.setattr(limits, "throttled", throttled)
        taken = fetch(office)
        await office.settled()
        assert len(events(office, taken)) == 25
        assert booked == ["search"]


class Uncounted(Tiny):
    """Says nothing that makes sense when it is asked how many there are."""

    spec = replace(
        Tiny.spec, objects={"person": replace(Tiny.spec.objects["person"], count_quota="read")}
    )
    counts = 0

    async def fetch_records(self, request: Fetch) -> Page:
        if isinstance(request, Count):
            self.counts += 1
            raise KeyError("total")
        return await super().fetch_records(request)


async def test_a_count_is_asked_once_and_stops_no_page(server: TinyServer, there: Account) -> None:
    there.fail = 1
    async with desk(Uncounted, server.url("a1"), secrets={"token": "t"}) as office:
        taken = fetch(office)
        await office.settled()
        assert len(events(office, taken)) == 25
        assert isinstance(office.connector, Uncounted)
        assert office.connector.counts == 1

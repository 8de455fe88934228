"""Whole reads of Salesforce by SOQL and HubSpot by search: equal moments, cursors, late changes."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from connectors.base import Changes, Connector, Found, Page
from connectors.http import HttpClient
from connectors.platforms import hubspot_search
from connectors.platforms.hubspot import HubSpot, HubSpotConfig
from connectors.platforms.salesforce import Salesforce, SalesforceConfig
from simulators import HubSpot as Portal
from simulators import Salesforce as Organisation
from simulators.portal import Contact, Lead

MS = 1_700_000_000_000
FREE = {"day": "off", "long": "off"}


@asynccontextmanager
async def closing(http: HttpClient) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await http.close()


@asynccontextmanager
async def salesforce(organisation: Organisation) -> AsyncIterator[Salesforce]:
    names = {"client_id": "salesforce-client", "client_secret": "salesforce-secret"}
    secrets = {name: SecretStr(value) for name, value in names.items()}
    async with organisation.serve() as url:
        http = HttpClient(url)
        async with closing(http):
            yield Salesforce(SalesforceConfig(), secrets, http)


@asynccontextmanager
async def hubspot(portal: Portal) -> AsyncIterator[HubSpot]:
    async with portal.serve() as url:
        http = HttpClient(url)
        config = HubSpotConfig(read_by="search")
        async with closing(http):
            yield HubSpot(config, {"token": SecretStr("hubspot-token")}, http)


async def pages(
    connector: Connector, kind: str, cursor: str = "", rows_max: int = 0, count: int = 1_000
) -> list[Page]:
    """At most `count`."""
    read: list[Page] = []
    while len(read) < count:
        field = "Email" if kind == "Lead" else "email"
        page = await connector.fetch_records(Changes(kind, cursor, (field,), rows_max))
        read.append(page)
        if page.last:
            break
        assert page.cursor != cursor
        cursor = page.cursor
    return read


def ids(read: list[Page]) -> Counter[str]:
    return Counter(record.object_id for page in read for record in page.records)


def leads(count: int, per_second: int) -> list[Lead]:
    return [
        Lead(str(n), {"Email": f"{n}@example.com", "LastName": "L", "Company": "C"},
             MS + n // per_second * 1000)
        for n in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def crowd() -> list[Lead]:
    """Moments of 700 leads each, so that pages of 2,000 end in the middle of one."""
    return leads(5_000, 700)


async def test_salesforce_is_read_whole_by_one_query_and_its_locator(crowd: list[Lead]) -> None:
    organisation = Organisation(crowd, quota=FREE)
    async with salesforce(organisation) as connector:
        read = await pages(connector, "Lead")
        assert [len(page.records) for page in read] == [2_000, 2_000, 1_000]
        assert ids(read) == Counter([*organisation.store.objects])
        stamps = [record.occurred_ms for page in read for record in page.records]
        assert stamps == sorted(stamps)
        assert organisation.statuses == {"POST 200": 1, "GET 200": 3}
        for done in (1, 2):  # any cursor resumes
            rest = await pages(connector, "Lead", read[done - 1].cursor)
            assert ids(read[:done]) + ids(rest) == Counter([*organisation.store.objects])


async def test_a_locator_that_has_expired_goes_on_behind_the_last_record(
    crowd: list[Lead],
) -> None:
    organisation = Organisation(crowd, quota=FREE)
    async with salesforce(organisation) as connector:
        for done in (1, 2):
            read = await pages(connector, "Lead", count=done)
            organisation.forget_queries()
            rest = await pages(connector, "Lead", read[-1].cursor)
            assert ids(read) + ids(rest) == Counter([*organisation.store.objects])


async def test_what_changes_while_a_query_is_under_way_hides_nobody_else(
    crowd: list[Lead],
) -> None:
    """The changed record stands in its old place under a later stamp: going on behind that stamp
    would pass over everybody between."""
    organisation = Organisation(crowd, quota=FREE)
    async with salesforce(organisation) as connector:
        read = await pages(connector, "Lead", count=1)
        last_of_second = organisation.store.numbered[3_999]
        organisation.perform([{"id": last_of_second.id, "fields": {"Company": "New"}}])
        read += await pages(connector, "Lead", read[-1].cursor, count=1)
        assert read[-1].records[-1].object_id == last_of_second.id
        organisation.forget_queries()
        read += await pages(connector, "Lead", read[-1].cursor)
        assert set(ids(read)) == set(organisation.store.objects)


async def test_small_pages_tell_equal_moments_apart_by_id() -> None:
    organisation = Organisation(leads(40, 9), quota=FREE)
    async with salesforce(organisation) as connector:
        read = await pages(connector, "Lead", rows_max=4)
        assert ids(read) == Counter([*organisation.store.objects])


async def test_salesforce_is_read_from_a_moment_on() -> None:
    organisation = Organisation(leads(40, 10), quota=FREE)  # a second after another
    async with salesforce(organisation) as connector:
        page = await connector.fetch_records(Changes("Lead", "", (), since_ms=MS + 2_300))
    assert page.last
    assert {r.occurred_ms for r in page.records} == {MS + 2_000, MS + 3_000}


async def test_hubspot_is_read_from_a_moment_on() -> None:
    portal = Portal(contacts([0, 10, 20, 30]), quota={"search": "off"})
    async with hubspot(portal) as connector:
        page = await connector.fetch_records(Changes("contact", "", (), since_ms=MS + 20))
    assert [r.occurred_ms for r in page.records] == [MS + 20, MS + 30]


# ---- HubSpot


def contacts(moments: list[int]) -> list[Contact]:
    """One contact for each moment given, as milliseconds after the first."""
    return [
        Contact(str(1_000 + n), {"email": f"{n}@example.com"}, MS, MS + moment)
        for n, moment in enumerate(moments)
    ]


async def test_hubspot_is_read_past_its_ten_thousand() -> None:
    """10,300 contacts of one import in one moment, and others around them."""
    moments = [*range(150)] + [500] * 10_300 + [*range(1_000, 1_250)]
    portal = Portal(contacts(moments), quota={"search": "off", "day": "off"})
    async with hubspot(portal) as connector:
        read = await pages(connector, "contact")
        assert ids(read) == Counter([*portal.store.objects])
        assert set(portal.statuses) == {"POST 200"}
        assert read[0].total == len(moments)
        stamps = [record.occurred_ms for page in read for record in page.records]
        assert stamps == sorted(stamps)
        assert portal.requests <= len(moments) / 200 + 6
        middle = len(read) // 2
        rest = await pages(connector, "contact", read[middle].cursor)
        assert ids(read[: middle + 1]) + ids(rest) == Counter([*portal.store.objects])


async def test_hubspot_is_asked_under_the_quota_of_searches() -> None:
    portal = Portal(contacts([1]))
    async with hubspot(portal) as connector:
        assert connector.changes_quota == "search"
        await pages(connector, "contact")
    assert portal.windows["search"].spent == 1
    http = HttpClient("http://127.0.0.1:1")
    async with closing(http):
        plain = HubSpot(HubSpotConfig(), {"token": SecretStr("x")}, http)
        assert plain.changes_quota == "read"


async def test_whoever_goes_on_at_the_end_finds_what_came_late_into_the_index() -> None:
    portal = Portal(contacts([0, 10, 20]), quota={"search": "off"})
    async with hubspot(portal) as connector:
        (page,) = await pages(connector, "contact")
        portal.perform([{"create": {"email": "new@example.com"}}])
        (late,) = await pages(connector, "contact", page.cursor)
        assert len(late.records) == 4


def answer_to(query: dict, there: list[tuple[int, str]]) -> list[Found]:
    """What HubSpot would find: equals in any order, here against that of the ids."""
    (group,) = query["filterGroups"]
    tests = {(f["propertyName"], f["operator"]): int(f["value"]) for f in group["filters"]}
    stamp, ident = "lastmodifieddate", "hs_object_id"
    found = [
        (ms, name)
        for ms, name in there
        if ms >= tests.get((stamp, "GTE"), 0)
        and ms == tests.get((stamp, "EQ"), ms)
        and int(name) > tests.get((ident, "GT"), -1)
    ]
    by_id = query["sorts"][0]["propertyName"] == ident
    found.sort(key=lambda one: (int(one[1]), 0) if by_id else (one[0], -int(one[1])))
    raw = msgspec.json.encode({})
    return [Found(name, raw, raw, ms) for ms, name in found[: query["limit"]]]


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), max_size=60), st.integers(2, 7))
def test_every_contact_is_read_once_whatever_the_moments(moments: list[int], limit: int) -> None:
    there = [(ms, str(n + 1)) for n, ms in enumerate(moments)]
    read: list[Found] = []
    cursor, last, calls = "", False, 0
    while not last:
        place = hubspot_search.Place.of(cursor)
        found = answer_to(place.query("contact", (), limit), there)
        new, place, last = place.after(found, limit)
        read += new
        cursor = str(place)
        assert hubspot_search.Place.of(cursor) == place
        assert len(place.seen) < limit
        calls += 1
        assert calls < 500
    assert sorted(r.object_id for r in read) == sorted(name for _, name in there)
    assert [r.occurred_ms for r in read] == sorted(r.occurred_ms for r in read)

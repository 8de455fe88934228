"""Rows that take something away: through the worker, to simulated platforms."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connectors import registry
from connectors.outcome import Parked, Unchanged, Written
from connectors.readback import LOOKS_S
from schemas.commands import Priority
from simulators import Platform
from syncline.certify.places import PLACES
from tests.desk import Desk, desk, row


def removal(n: int, how: str, object_id: str = "", **fields: Any) -> dict[str, Any]:
    return {**row(n, object_id, **fields), "row_id": f"gone-{n}", "removal": how}


async def made(office: Desk, name: str, count: int) -> list[str]:
    place = PLACES[name]
    office.upload([row(n, **place.row(n).fields) for n in range(count)], place.object_type)
    fates = await office.settled()
    ids = [fate.object_id for fate in fates.values() if isinstance(fate, Written)]
    assert len(ids) == count
    return ids


@asynccontextmanager
async def at(
    name: str, *, seeded: bool = False, match: str = ""
) -> AsyncIterator[tuple[Platform, Desk]]:
    """A simulated platform, and a worker's account there. `seeded`: with others in it."""
    place, make = PLACES[name], registry.connector_class(name)
    platform = place.seeded() if seeded else place.empty()
    async with (
        platform.serve() as url,
        desk(make, url, options=place.options, secrets=place.secrets, match=match) as office,
    ):
        yield platform, office


def alive(platform: Platform) -> set[str]:
    return {obj.id for obj in platform.store.alive()}


@pytest.mark.parametrize(
    ("name", "how", "requests"),
    [("salesforce", "delete", 1), ("hubspot", "archive", 1), ("mailchimp", "archive", 3)],
)
async def test_rows_of_a_removal_fill_requests_of_their_own(
    name: str, how: str, requests: int
) -> None:
    """As many as the platform takes at once, never with others; what is gone already is written."""
    place = PLACES[name]
    async with at(name) as (platform, office):
        ids = await made(office, name, 4)
        before = platform.requests
        rows = [removal(n, how, ids[n]) for n in range(3)]
        office.upload(rows, place.object_type, Priority.live)
        fates = await office.settled()
        assert [fates[f"gone-{n}"] for n in range(3)] == [Written(ids[n]) for n in range(3)]
        assert platform.requests - before == requests
        assert alive(platform) == {ids[3]}
        again = [{**r, "row_id": f"again-{n}"} for n, r in enumerate(rows)]
        office.upload(again, place.object_type, Priority.live)
        fates = await office.settled()
        assert [fates[f"again-{n}"] for n in range(3)] == [Written(ids[n]) for n in range(3)]


@pytest.mark.parametrize(
    ("name", "how"), [("salesforce", "delete"), ("hubspot", "erase"), ("mailchimp", "erase")]
)
async def test_an_object_of_which_no_id_is_known_is_found_by_our_key(name: str, how: str) -> None:
    """Or by the address, where that is the identity: never by what another may share."""
    place = PLACES[name]
    async with at(name, match=place.address) as (platform, office):
        office.match = ""
        ids = await made(office, name, 2)
        office.match = place.address
        address = {place.address: place.row(0).fields[place.address]}
        office.upload([removal(0, how, **address)], place.object_type, Priority.live)
        fates = await office.settled()
        assert fates["gone-0"] == Written(ids[0])
        assert alive(platform) == {ids[1]}


async def test_what_was_never_there_is_looked_for_and_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody else's lead with the same address stays."""
    monkeypatch.setattr("connectors.readback.LOOKS_S", (0.0,) * len(LOOKS_S))
    place = PLACES["salesforce"]
    async with at("salesforce", seeded=True, match=place.address) as (platform, office):
        before = alive(platform)
        address = str(platform.store.numbered[0].values[place.address])
        office.upload([removal(0, "delete", Email=address)], "Lead", Priority.live)
        fates = await office.settled()
        assert fates["gone-0"] == Unchanged("")
        assert alive(platform) == before


async def test_a_member_that_cannot_be_archived_is_parked_with_mailchimps_words() -> None:
    async with at("mailchimp") as (platform, office):
        ids = await made(office, "mailchimp", 1)
        platform.perform([{"kind": "cleaned", "email": "person0@example.com"}])
        office.upload([removal(0, "archive", ids[0])], "member", Priority.live)
        fate = (await office.settled())["gone-0"]
    assert isinstance(fate, Parked)
    assert (fate.code, "bounced" in fate.words) == ("Method Not Allowed", True)


async def test_who_was_erased_at_mailchimp_is_refused_by_it_too() -> None:
    async with at("mailchimp") as (platform, office):
        ids = await made(office, "mailchimp", 1)
        office.upload([removal(0, "erase", ids[0])], "member", Priority.live)
        await office.settled()
        assert platform.store.objects[ids[0]].values == {}
        office.upload([row(1, **PLACES["mailchimp"].row(0).fields)], "member")
        assert isinstance((await office.settled())["row-1"], Parked)


async def test_what_an_object_type_cannot_do_is_parked() -> None:
    async with at("salesforce") as (_, office):
        office.upload([removal(0, "erase", "00Q")], "Lead", Priority.live)
        fate = (await office.settled())["gone-0"]
    assert isinstance(fate, Parked)
    assert fate.code == "unknown_removal"

"""Associations into HubSpot: each pair once, found by what the two are known by."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connectors.base import FieldsOf
from connectors.outcome import Parked, Written
from connectors.platforms.hubspot import HubSpot
from simulators import HubSpot as Portal
from simulators.portal import Contact
from tests.desk import Desk, desk, row

SECRETS = {"token": "hubspot-token"}


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Portal, Desk]]:
    """A portal with three contacts, two companies and a deal, and a worker's account there."""
    there = portal()
    async with there.serve() as url, desk(HubSpot, url, secrets=SECRETS) as office:
        yield there, office


def portal() -> Portal:
    made = Portal([Contact(str(100 + n), {"email": f"{n}@x.io"}, 1, 1) for n in range(3)])
    made.stores["companies"].seed("7", {"name": "ACME"}, 1, 1)
    made.stores["companies"].seed("8", {"name": "Later Ltd"}, 1, 1)
    made.stores["deals"].seed("9", {"dealname": "Boots"}, 1, 1)
    made.refilled()
    return made


def pairs(of: Portal) -> dict[str, bool]:
    """Each pair, and whether the company is the primary one."""
    there = of.stores["associations"].alive()
    return {obj.values["pair"]: bool(obj.values.get("primary")) for obj in there}


def pair(number: int, start: Any, end: Any) -> dict[str, Any]:
    return row(number, **{"from": start, "to": end})


def named(kind: str, by: str, value: str) -> dict[str, str]:
    return {"ref": kind, "by": by, "value": value}


@pytest.mark.parametrize("action", ["", "lose_after", "status_after"])
async def test_a_pair_is_associated_once_whatever_becomes_of_the_answer(action: str) -> None:
    async with opened() as (there, office):
        if action:
            there.script.add([{"path": "/crm/v4/associations", "count": 1, "action": action}])
        office.upload([pair(0, "100", "7"), pair(1, "101", "7")], "contact_company")
        fates = await office.settled()
    assert fates == {"row-0": Written("100-7"), "row-1": Written("101-7")}
    assert pairs(there) == {
        "contacts/100>companies/7": True,
        "contacts/101>companies/7": True,
    }


async def test_the_two_are_found_by_what_they_are_known_by() -> None:
    async with opened() as (there, office):
        start = named("contact", "email", "1@x.io")
        office.upload([pair(0, start, named("company", "name", "ACME"))], "contact_company")
        deal = named("deal", "dealname", "Boots")
        office.upload([pair(1, deal, named("company", "name", "ACME"))], "deal_company")
        office.upload([pair(2, deal, named("contact", "email", "2@x.io"))], "deal_contact")
        fates = await office.settled()
    assert {type(fate) for fate in fates.values()} == {Written}
    assert pairs(there) == {
        "contacts/101>companies/7": True,
        "deals/9>companies/7": True,
        "deals/9>contacts/102": False,
    }


async def test_another_company_becomes_the_primary_one() -> None:
    async with opened() as (there, office):
        for number, company in enumerate(("7", "8")):
            office.upload([pair(number, "100", company)], "contact_company")
            await office.settled()
    assert pairs(there) == {
        "contacts/100>companies/7": False,
        "contacts/100>companies/8": True,
    }


async def test_a_pair_that_is_none_spares_its_neighbours() -> None:
    async with opened() as (there, office):
        rows = [pair(0, "100", "7"), pair(1, "101", ""), pair(2, "102", "999")]
        office.upload(rows, "contact_company")
        fates = await office.settled()
        names = await office.connector.fetch_records(FieldsOf("contact_company"))
    assert fates["row-0"] == Written("100-7")
    assert fates["row-1"] == Parked("MISSING_OBJECT", "to is empty", "to")
    assert isinstance(fates["row-2"], Parked)
    assert "No contacts 102, or no companies 999" in fates["row-2"].words
    assert list(pairs(there)) == ["contacts/100>companies/7"]
    assert {found.object_id for found in names.records} == {"from", "to"}


async def test_a_deal_is_made_once_and_changed() -> None:
    async with opened() as (there, office):
        deal = {"dealname": "Hats", "amount": 1200.5, "dealstage": "contractsent"}
        office.upload([row(0, **deal)], "deal")
        await office.settled()
        office.upload([row(0, **{**deal, "dealstage": "closedwon"})], "deal")
        await office.settled()
    made = [obj.values for obj in there.stores["deals"].alive() if obj.id != "9"]
    assert len(made) == 1
    assert made[0]["dealstage"] == "closedwon"
    assert made[0]["amount"] == "1200.5"

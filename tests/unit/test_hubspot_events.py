"""Custom events into HubSpot: told once each, none of a call is lost for another's fault."""

import pytest

from connectors.base import FieldsOf, Row
from connectors.outcome import Accepted, Parked
from connectors.platforms.hubspot import HubSpot
from connectors.platforms.hubspot_events import EVENT, shape
from schemas.commands import Priority
from simulators import HubSpot as Portal
from tests.desk import desk, row

SECRETS = {"token": "hubspot-token"}


def event(number: int, **fields: object) -> dict:
    return row(
        number, **{"eventName": "pe1_bought", "email": f"{number}@x.io", "amount": 7, **fields}
    )


def test_an_event_in_the_platform_s_shape() -> None:
    fields = {"eventName": "pe1_bought", "email": "a@x.io", "amount": 7, "note": None}
    assert shape(Row("row-1", "p", "", fields, 1_700_000_000_123)) == {
        "eventName": "pe1_bought",
        "email": "a@x.io",
        "occurredAt": "2023-11-14T22:13:20.123Z",
        "uuid": "row-1",
        "properties": {"amount": 7},
    }


@pytest.mark.parametrize("action", ["", "lose_after", "status_after"])
async def test_each_event_is_told_once_whatever_becomes_of_the_answer(action: str) -> None:
    portal = Portal()
    async with portal.serve() as url, desk(HubSpot, url, secrets=SECRETS) as office:
        if action:
            portal.script.add([{"path": "/events/v3/send", "count": 1, "action": action}])
        office.upload([event(n) for n in range(120)], "event", Priority.live)
        fates = await office.settled()
    assert set(fates.values()) == {Accepted()}
    assert set(portal.told) == {f"row-{n}" for n in range(120)}
    assert {told.properties["amount"] for told in portal.told.values()} == {7}
    assert portal.requests <= 5


async def test_one_that_would_be_refused_spares_its_neighbours() -> None:
    portal = Portal()
    async with portal.serve() as url, desk(HubSpot, url, secrets=SECRETS) as office:
        office.upload([event(0), event(1, eventName=""), event(2, email=None)], "event")
        fates = await office.settled()
        names = await office.connector.fetch_records(FieldsOf("event"))
    assert fates["row-0"] == Accepted()
    assert [type(fates[f"row-{n}"]) for n in (1, 2)] == [Parked, Parked]
    assert list(portal.told) == ["row-0"]
    assert "eventName" in {found.object_id for found in names.records}
    assert (EVENT.kind, EVENT.evidence, EVENT.repeat) == ("fact", "none", "by_key")

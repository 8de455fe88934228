"""How many objects there are: `batch 451 of about 500` rests on it."""

import pytest

from connectors import registry
from connectors.base import Count
from syncline.certify.bench import Bench
from syncline.certify.places import PLACES, SEEDED

COUNTED = sorted(
    name
    for name, place in PLACES.items()
    if registry.connector_class(name).spec.objects[place.object_type].count_quota
)


def test_the_sources_of_large_runs_are_counted() -> None:
    assert {"hubspot", "mailchimp", "salesforce"} <= set(COUNTED)


@pytest.mark.parametrize("name", COUNTED)
async def test_a_platform_tells_how_many_it_holds(name: str) -> None:
    place = PLACES[name]
    async with Bench(name, place).settled() as (_, connector):
        page = await connector.fetch_records(Count(place.object_type))
    assert page.total == SEEDED

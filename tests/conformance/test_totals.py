"""How many objects there are: `batch 451 of about 500` rests on it."""

import pytest

from connectors import registry
from connectors.base import Count
from schemas.definitions import Connection
from tests.conformance.platforms import PLACES, SEEDED

COUNTED = sorted(
    name
    for name, place in PLACES.items()
    if registry.connector_class(name).spec.objects[place.object_type].count_quota
)


def test_the_sources_of_large_runs_are_counted() -> None:
    assert {"hubspot", "mailchimp", "salesforce"} <= set(COUNTED)


@pytest.mark.parametrize("name", COUNTED)
async def test_a_platform_tells_how_many_it_holds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = PLACES[name]
    for secret, value in place.secrets.items():
        monkeypatch.setenv(f"TEST_{secret.upper()}", value)
    async with place.seeded().serve() as url:
        connection = Connection(
            connection="here", platform=name, account="1", base_url=url,
            secrets={secret: f"env:TEST_{secret.upper()}" for secret in place.secrets},
            options=dict(place.options),
        )  # fmt: skip
        connector, http = registry.build(connection)
        try:
            page = await connector.fetch_records(Count(place.object_type))
        finally:
            await http.close()  # type: ignore[attr-defined]
    assert page.total == SEEDED

"""Certification of a real account, played by simulated ones: what it makes, shows and erases."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from connectors.base import Answer
from schemas.definitions import Connection
from simulators import Platform
from syncline.certify import CHECKS
from syncline.certify.bench import NotHere
from syncline.certify.card import ERASED, certify_live
from syncline.certify.live import AS_THEY_ARE, CANNOT, LIVE, Live
from syncline.certify.places import PLACES


@pytest.fixture(params=["klaviyo", "customerio", "hubspot"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def account(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Platform, Connection]]:
    """An account with ten people in it who are none of our business."""
    place = PLACES[name]
    for secret, value in place.secrets.items():
        monkeypatch.setenv(f"LIVE_{secret.upper()}", value)
    there = place.seeded()
    async with there.serve() as url:
        yield there, Connection(
            connection="real", platform=name, account="1", base_url=url,
            secrets={secret: f"env:LIVE_{secret.upper()}" for secret in place.secrets},
            options=dict(place.options),
        )  # fmt: skip


def test_each_line_is_of_the_list() -> None:
    names = {check.name for check in CHECKS}
    assert set(LIVE) | AS_THEY_ARE <= names
    assert not set(LIVE) & AS_THEY_ARE


async def test_the_same_list_in_a_namespace_of_its_own(
    name: str, account: tuple[Platform, Connection]
) -> None:
    there, connection = account
    before = {obj.id: dict(obj.values) for obj in there.store.alive()}
    lines = [line async for line in certify_live(name, connection, "run7", "test.example", 0.0)]
    told = {line.check: line for line in lines}
    assert [line.check for line in lines[:-1]] == [check.name for check in CHECKS]
    assert told["a_connection_cut_before_the_write_is_tried_again"].why == CANNOT
    failed = [line for line in lines[:-1] if line.verdict == "failed"]
    assert not failed, failed
    for shown in ("a_bad_row_spares_its_neighbours", "a_refused_key_halts", "mapping_is_pure"):
        assert told[shown].verdict == "shown", told[shown]
    made = [o for o in there.store.numbered if o.id not in before]
    assert made
    for obj in made:
        assert str(obj.values["email"]).startswith("syncline-certify-run7-")
        assert str(obj.values["email"]).endswith("@test.example")
    for object_id, values in before.items():
        assert there.store.objects[object_id].values == values, "somebody else's"
    assert lines[-1].shows == ERASED
    if name == "hubspot":
        assert lines[-1].verdict == "shown"
        assert {obj.id for obj in there.store.alive()} == set(before)
    if name == "klaviyo":  # the simulated one has no such call: that is said, not passed over
        assert lines[-1].verdict == "failed"


async def test_what_was_made_is_erased_by_the_platforms_own_request(
    account: tuple[Platform, Connection], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, connection = account
    async with Live(name, PLACES[name], connection, "run8", "test.example") as bench:
        await bench.upload([bench.place.row(1)])
        ids = list(bench.made)
        asked: list[tuple[str, str, Any, Any]] = []

        async def request(method: str, path: str, *, json: Any, headers: Any) -> Answer:
            asked.append((method, path, json, headers))
            return Answer(202, {}, b"")

        monkeypatch.setattr(bench.heard, "request", request)
        await bench.erase()
        await bench.erase()  # there is nothing left
    ((method, path, body, headers),) = asked
    assert method == PLACES[name].erase[0]  # type: ignore[index]
    assert ids[0] in f"{path} {body}"
    assert "{id}" not in f"{path} {body}"
    assert "authorization" in {key.lower() for key in headers}


async def test_what_nobody_has_read_how_to_erase_is_listed(
    account: tuple[Platform, Connection], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, connection = account
    async with Live(name, PLACES[name], connection, "run9", "test.example") as bench:
        monkeypatch.setattr(bench, "place", replace(bench.place, erase=None))
        await bench.upload([bench.place.row(1)])
        with pytest.raises(NotHere, match=next(iter(bench.made))):
            await bench.erase()

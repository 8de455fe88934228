"""Platforms whose connections are authorised by OAuth: tokens that end in the middle of things."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors import registry
from connectors.base import Connector
from connectors.outcome import Halted, Written
from schemas.definitions import Connection
from simulators import HubSpot, Salesforce
from syncline.certify.bench import kinds
from syncline.certify.places import PLACES, Place

ROWS = 6


@pytest.fixture(params=["hubspot", "salesforce"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def place(name: str) -> Place:
    return PLACES[name]


@pytest.fixture
def connect(name: str, tmp_path: Path) -> Callable[..., Any]:
    """A connection as a worker builds it; the refresh token stands in a file."""
    files: dict[str, str] = {}
    for secret, value in {
        "client_id": f"{name}-client",
        "client_secret": f"{name}-secret",
        "refresh_token": f"{name}-refresh",
    }.items():
        (tmp_path / secret).write_text(value)
        files[secret] = f"file:{tmp_path / secret}"

    @asynccontextmanager
    async def open_(url: str) -> AsyncIterator[Connector]:
        connection = Connection(
            connection="here", platform=name, account="1", base_url=url, secrets=files
        )
        connector, http = registry.build(connection)
        try:
            yield connector
        finally:
            await http.close()  # type: ignore[attr-defined]

    return open_


async def test_a_token_that_ends_in_mid_batch_costs_one_login_and_no_row(
    place: Place, connect: Callable[..., Any]
) -> None:
    platform = place.empty()
    assert isinstance(platform, HubSpot | Salesforce)
    async with platform.serve() as url, connect(url) as connector:
        both = await asyncio.gather(
            *(connector.upload_batch(place.object_type, [place.row(n)]) for n in range(ROWS))
        )
        assert [kinds(outcomes) for outcomes in both] == [[Written]] * ROWS
        assert platform.app.logins == 1
        platform.script.add([{"path": place.write, "count": 1, "action": "expire_token"}])
        again = await asyncio.gather(
            *(connector.upload_batch(place.object_type, [place.row(n, "Bea")]) for n in range(ROWS))
        )
        assert [kinds(outcomes) for outcomes in again] == [[Written]] * ROWS
        assert platform.app.logins == 2
    effects = platform.store.effects()
    assert (effects["created"], effects["changed"], effects["twice_total"]) == (ROWS, ROWS, 0)


async def test_refresh_tokens_that_rotate_outlive_a_restart(
    place: Place, connect: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    platform = place.empty(rotates=True)
    assert isinstance(platform, HubSpot | Salesforce)
    async with platform.serve() as url:
        for restart in range(3):
            async with connect(url) as connector:
                for _ in range(2):
                    outcomes = await connector.upload_batch(place.object_type, [place.row(restart)])
                    assert kinds(outcomes) == [Written]
                    platform.expire_tokens()
            assert (tmp_path / "refresh_token").read_text() == platform.app.refresh_token
    assert platform.app.logins == 6
    assert platform.app.refresh_token not in caplog.text


async def test_an_authorisation_that_was_withdrawn_halts_with_words(
    name: str, place: Place, connect: Callable[..., Any], tmp_path: Path
) -> None:
    platform = place.empty()
    (tmp_path / "refresh_token").write_text("withdrawn-and-secret")
    async with platform.serve() as url, connect(url) as connector:
        outcomes = await connector.upload_batch(place.object_type, place.rows(2))
        assert outcomes[0] is outcomes[1]
        assert isinstance(outcomes[0], Halted)
        assert "authorise the connection again" in outcomes[0].why
        assert "withdrawn-and-secret" not in outcomes[0].why
        (tmp_path / "refresh_token").write_text(f"{name}-refresh")  # somebody has done so
        mended = await connector.upload_batch(place.object_type, place.rows(2))
        assert kinds(mended) == [Written] * 2

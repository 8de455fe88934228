"""The configurable simulator keeps to its descriptions, seen by a plain HTTP client; and what needs
both ends of a described platform and is not in the contract: facts, lookups, imports."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from connectors import registry
from connectors.base import Row
from connectors.http import HttpClient
from connectors.outcome import Accepted, Outcome, Written
from simulators import declared
from simulators.declared import NAMES, Declared
from syncline.certify.places import DECLARED

KEY = {"Authorization": "Klaviyo-API-Key klaviyo-key", "revision": "2025-01-15"}


@asynccontextmanager
async def client(
    platform: Declared, headers: Mapping[str, str]
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        platform.serve() as url,
        httpx.AsyncClient(base_url=url, headers=headers, verify=False) as web,
    ):
        yield web


@asynccontextmanager
async def connected(name: str, platform: Declared) -> AsyncIterator[Any]:
    make: Any = registry.connector_class(name)
    place = DECLARED[name]
    secrets = {key: SecretStr(value) for key, value in place.secrets.items()}
    async with platform.serve() as url:
        http = HttpClient(url)
        try:
            yield make(make.spec.config(**place.options), secrets, http)
        finally:
            await http.close()


def _person(number: int) -> dict[str, Any]:
    return {"data": {"type": "profile", "attributes": {"email": f"p{number}@x.io"}}}


# --- the simulator -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
async def test_whoever_is_unknown_is_refused_and_counts_nowhere(name: str) -> None:
    platform = declared(name)()
    async with client(platform, {}) as web:
        for said in platform.about["calls"]:
            method, _, path = said["on"].partition(" ")
            if said["does"] != "login" and "(" not in path:
                answer = await web.request(method, path.replace("?", ""), json={})
                refused = platform.about["auth"]["refused"]
                assert answer.status_code == refused.get("status", 200)
                assert answer.json() == refused["answer"]
    assert all(window.spent == 0 for window in platform.windows.values())


async def test_both_windows_hold_and_what_is_too_much_is_counted() -> None:
    platform = declared("klaviyo")(quota={"l_second": "3/60", "l_minute": "5/60"})
    async with client(platform, KEY) as web:
        answers = [await web.post("/api/profile-import", json=_person(n)) for n in range(5)]
        assert [a.status_code for a in answers] == [201, 201, 201, 429, 429]
        assert answers[0].headers["ratelimit-remaining"] == "2"
        assert answers[3].headers["retry-after"] == "60"
        assert "ratelimit-remaining" not in answers[3].headers
        events = {"data": {"attributes": {"unique_id": "1"}}}
        assert (await web.post("/api/events", json=events)).status_code == 202  # its own quota
    stats = platform.stats()
    assert (stats["quota_overspends"], stats["quota_refusals"]) == (2, 2)
    assert stats["windows"]["l_second"]["spent"] == stats["windows"]["l_minute"]["spent"] == 3
    assert platform.store.effects()["created"] == 3


async def test_requests_at_once_and_a_calendar_day_are_counted() -> None:
    platform = declared("marketo")(quota={"at_once": "2", "day": "4"})
    async with client(platform, {}) as web:
        form = {"grant_type": "client_credentials", "client_id": "marketo-client",
                "client_secret": "marketo-secret"}  # fmt: skip
        token = (await web.post("/identity/oauth/token", data=form)).json()["access_token"]
        web.headers["Authorization"] = f"Bearer {token}"
        platform.script.add([{"action": "delay", "ms": 200}])
        path = "/rest/v1/leads/describe.json"
        codes: list[str] = []
        for answer in await asyncio.gather(*(web.get(path) for _ in range(3))):
            codes += [error["code"] for error in answer.json().get("errors", ())]
        assert codes == ["615"]
        platform.script.clear()
        said = [(await web.get(path)).json() for _ in range(3)]
        assert [s["success"] for s in said] == [True, True, False]
        assert said[2]["errors"][0]["code"] == "607"
    assert platform.windows["at_once"].peak == 2


async def test_the_ledger_knows_every_effect_and_acts_of_people() -> None:
    platform = declared("klaviyo")([{"email": "Old@x.io"}])
    async with client(platform, KEY) as web:
        old = platform.store.numbered[0]
        person = _person(1)
        person["data"]["attributes"] |= {"email": "old@X.io", "first_name": "Ann"}
        for _ in range(2):
            answer = await web.post("/api/profile-import", json=person)
            assert (answer.status_code, answer.json()["data"]["id"]) == (200, old.id)
        platform.perform([{"id": old.id, "values": {"first_name": None}}, {"delete": old.id}])
        assert (await web.get(f"/api/profiles/{old.id}")).status_code == 404
    changes = [entry["changes"] for entry in platform.store.entries(updates_only=True)]
    assert changes[0]["first_name"] == [None, "Ann"]
    assert changes[1] == {"first_name": ["Ann", None]}
    assert len(changes) == 3
    assert platform.store.effects()["created"] == 0
    platform.reset()
    assert [obj.values for obj in platform.store.alive()] == [{"email": "Old@x.io"}]


async def test_a_twin_is_seen() -> None:
    """Pipedrive makes a person each time; the ledger tells who did so twice."""
    platform = declared("pipedrive")()
    async with client(platform, {"x-api-token": "pipedrive-token"}) as web:
        for _ in range(2):
            person = {"name": "Ann", "emails": [{"value": "a@x.io", "primary": True}]}
            assert (await web.post("/api/v2/persons", json=person)).status_code == 201
    assert platform.store.effects()["twice_total"] == 1


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_no_request_of_theirs_is_refused(name: str) -> None:
    platform = declared(name)()
    place = DECLARED[name]
    async with connected(name, platform) as connector:
        await connector.upload_batch(place.object_type, [place.row(1)])  # logs in where needed
        token = await connector._tokens.token() if connector._tokens else None
        headers = connector._headers(token)
    headers["content-type"] = "application/json"
    async with client(platform, headers) as web:
        nowhere = await web.get("/nowhere")
        assert nowhere.status_code == platform.about["not_found"].get("status", 200)
        for said in platform.about["calls"]:
            method, _, path = said["on"].partition(" ")
            if said["does"] in ("upsert", "create") and "(" not in path:
                for body in (b"{", b"[]", b'"x"', b"{}"):
                    answer = await web.request(method, path.replace("?", ""), content=body)
                    assert answer.status_code < 500
    assert platform.store.effects()["created"] == 1


# --- both ends -----------------------------------------------------------------------------------


def _fact(fields: dict[str, Any], n: int = 1) -> Row:
    return Row(f"row-{n}", "person-1", "", fields, 1_700_000_000_000)


async def _upload(name: str, platform: Declared, kind: str, rows: list[Row]) -> list[Outcome]:
    async with connected(name, platform) as connector:
        return await connector.upload_batch(kind, rows)


async def test_a_fact_under_its_idempotency_key_counts_once() -> None:
    platform = declared("klaviyo")()
    fact = _fact({"metric": "Order", "sku": "x"})
    for _ in range(2):
        assert await _upload("klaviyo", platform, "event", [fact]) == [Accepted()]
    assert await _upload("klaviyo", platform, "event", [_fact({"metric": "Order"}, 2)]) == [
        Accepted()
    ]
    facts = platform.stores["facts"]
    assert sorted(facts.objects) == ["row-1", "row-2"]
    assert facts.objects["row-1"].values["properties.sku"] == "x"


async def test_who_is_there_already_is_updated_in_a_second_request() -> None:
    """Intercom's 409 tells the id; the worker has looked for the address and found nobody, since
    somebody else made the contact meanwhile."""
    platform = declared("intercom")([{"email": "ann@x.io"}])
    row = Row("row-1", "person-1", "", {"email": "ann@x.io", "name": "Ann"})
    there = platform.store.numbered[0]
    assert await _upload("intercom", platform, "contact", [row]) == [Written(there.id)]
    assert there.values == {"email": "ann@x.io", "name": "Ann", "external_id": "person-1"}
    assert platform.statuses == {"POST 409": 1, "PUT 200": 1}


async def test_an_import_says_nothing_of_rows_that_it_skips() -> None:
    platform = declared("activecampaign")()
    rows = [
        Row(f"row-{n}", f"person-{n}", "", {"email": email, "first_name": "Ann"})
        for n, email in enumerate(("a@x.io", "broken", "b@x.io"))
    ]
    assert await _upload("activecampaign", platform, "import", rows) == [Accepted()] * 3
    assert [o.values for o in platform.store.alive()] == [
        {"email": "a@x.io", "firstName": "Ann"},
        {"email": "b@x.io", "firstName": "Ann"},
    ]


async def test_a_known_contact_gets_its_new_address() -> None:
    """By address alone ActiveCampaign would make another one."""
    platform = declared("activecampaign")([{"email": "old@x.io"}])
    (there,) = platform.store.alive()
    row = Row("row-1", "person-1", there.id, {"email": "new@x.io"})
    assert await _upload("activecampaign", platform, "contact", [row]) == [Written(there.id)]
    assert [o.values for o in platform.store.alive()] == [{"email": "new@x.io"}]


def test_one_by_name_as_a_process() -> None:
    command = [
        sys.executable,
        "-m",
        "simulators",
        "--platform",
        "braze",
        "--quota",
        "braze.track=1/60",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())["braze"]
            headers = {"Authorization": "Bearer braze-key"}
            body = {"attributes": [{"external_id": "1"}]}
            codes = [
                httpx.post(
                    f"{url}/users/track", headers=headers, json=body, verify=False
                ).status_code
                for _ in range(2)
            ]
            assert codes == [201, 429]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0

"""What goes wrong on request: which calls are hit, and what the client and the ledger see."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from simulators import HubSpot, Mailchimp, Platform, Salesforce
from simulators.faults import Script

READ = "/crm/v3/objects/contacts"
UPSERT = "/crm/v3/objects/contacts/batch/upsert"
ROWS = [
    {
        "id": f"k{n}",
        "idProperty": "syncline_id",
        "objectWriteTraceId": str(n),
        "properties": {"email": f"a{n}@x.io"},
    }
    for n in range(20)
]


def _web(url: str, token: str = "hubspot-token") -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=url, headers=headers, verify=False)


async def _write(
    *script: dict[str, Any], then: str = "", times: int = 1
) -> tuple[list[httpx.Response | Exception], HubSpot]:
    """The answers to `times` equal upserts of 20 rows, or how they were lost."""
    portal = HubSpot(script=script, seed=7)
    answers: list[httpx.Response | Exception] = []
    async with portal.serve() as url, _web(url) as web:
        for _ in range(times):
            try:
                answers.append(await web.post(UPSERT, json={"inputs": ROWS}))
            except httpx.TransportError as error:
                answers.append(error)
    return answers, portal


def _written(portal: Platform) -> int:
    return portal.store.effects()["created"]


def _hits(script: Script, calls: int, method: str = "GET", path: str = "/a") -> list[int]:
    return [n for n in range(1, calls + 1) if "delay" in script.strike(method, path)]


@pytest.mark.parametrize(
    ("fault", "hit"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"count": 2}, [1, 2]),
        ({"after": 2}, [3, 4, 5, 6]),
        ({"every": 3}, [3, 6]),
        ({"after": 1, "every": 2, "count": 2}, [3, 5]),
        ({"method": "POST"}, []),
        ({"path": "^/b"}, []),
        ({"path": "a$"}, [1, 2, 3, 4, 5, 6]),
        ({"probability": 0.0}, []),
    ],
)
def test_which_calls_are_hit(fault: dict[str, Any], hit: list[int]) -> None:
    script = Script(seed=1)
    script.add([{"action": "delay", **fault}])
    assert _hits(script, 6) == hit


def test_chance_comes_from_the_seed() -> None:
    hits = []
    for seed in (1, 1, 2):
        script = Script(seed)
        script.add([{"action": "delay", "probability": 0.3}])
        hits.append(_hits(script, 300))
    assert hits[0] == hits[1] != hits[2]
    assert 60 < len(hits[0]) < 120


def test_faults_have_names_and_can_be_taken_away() -> None:
    script = Script(seed=1)
    assert script.add([{"action": "delay", "name": "slow"}, {"action": "shuffle"}]) == [
        "slow",
        "fault-1",
    ]
    script.clear("slow")
    assert [f["name"] for f in script.report()] == ["fault-1"]
    script.clear()
    assert script.report() == []


async def test_an_answer_of_any_status_before_and_after_the_work() -> None:
    before = {"action": "status", "status": 502, "body": "<html>bad</html>", "count": 1}
    after = {"action": "status_after", "status": 504, "body": {"m": 1}, "after": 1, "count": 1}
    answers, portal = await _write(before, after, times=3)
    first, second, third = answers
    assert isinstance(first, httpx.Response)
    assert (first.status_code, first.headers["Content-Type"]) == (502, "text/html")
    assert isinstance(second, httpx.Response)
    assert (second.status_code, second.json()) == (504, {"m": 1})
    assert isinstance(third, httpx.Response)
    assert {r["new"] for r in third.json()["results"]} == {False}, "the 504 had written"
    assert _written(portal) == 20


@pytest.mark.parametrize(
    ("action", "written"),
    [("lose_before", 0), ("lose_after", 20), ("truncate", 20)],
)
async def test_lost_answers(action: str, written: int) -> None:
    answers, portal = await _write({"action": action})
    assert isinstance(answers[0], httpx.RemoteProtocolError)
    assert _written(portal) == written
    assert portal.running == 0


async def test_no_effect_answers_as_if() -> None:
    answers, portal = await _write({"action": "no_effect"})
    assert isinstance(answers[0], httpx.Response)
    assert (answers[0].status_code, len(answers[0].json()["results"])) == (200, 20)
    assert _written(portal) == 0
    assert portal.store.dry_rows == 20


async def test_results_are_left_out_or_in_another_order() -> None:
    empty, portal = await _write({"action": "no_effect"}, {"action": "drop_results"})
    assert isinstance(empty[0], httpx.Response)
    assert empty[0].json()["results"] == []
    assert (empty[0].status_code, _written(portal)) == (200, 0), "2xx with nothing in it"
    some, portal = await _write({"action": "drop_results", "share": 0.5}, {"action": "shuffle"})
    assert isinstance(some[0], httpx.Response)
    traces = [int(r["objectWriteTraceId"]) for r in some[0].json()["results"]]
    assert 0 < len(traces) < 20
    assert traces != sorted(traces)
    assert _written(portal) == 20


async def test_rows_are_refused_by_what_they_hold() -> None:
    named = {"field": "email", "in": ["a3@x.io"]}
    matching = {"field": "email", "matches": "^a1[0-4]@"}
    answers, portal = await _write(
        {"action": "refuse_rows", "rows": named, "code": "ODD", "message": "odd address"},
        {"action": "refuse_rows", "rows": matching},
    )
    assert isinstance(answers[0], httpx.Response)
    body = answers[0].json()
    assert (answers[0].status_code, body["numErrors"], _written(portal)) == (207, 6, 14)
    refused = [e["context"]["objectWriteTraceId"][0] for e in body["errors"]]
    assert refused == ["3", "10", "11", "12", "13", "14"]
    assert "odd address" in body["errors"][0]["message"]


@asynccontextmanager
async def _salesforce(
    organisation: Salesforce,
) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, Any]]]:
    """A client that has logged in, and a lead that is good."""
    form = {
        "grant_type": "client_credentials",
        "client_id": "salesforce-client",
        "client_secret": "salesforce-secret",
    }
    async with organisation.serve() as url, httpx.AsyncClient(base_url=url, verify=False) as web:
        token = (await web.post("/services/oauth2/token", data=form)).json()["access_token"]
        web.headers["Authorization"] = f"Bearer {token}"
        yield web, {"attributes": {"type": "Lead"}, "LastName": "L", "Company": "C"}


RECORDS = "/services/data/v59.0/composite/sobjects"


async def test_records_that_salesforce_swallows_have_ids_of_their_own() -> None:
    organisation = Salesforce(script=[{"action": "no_effect", "path": "composite", "count": 1}])
    async with _salesforce(organisation) as (web, lead):
        answers = [
            (await web.post(RECORDS, json={"records": [lead, lead]})).json() for _ in range(2)
        ]
    ids = [result["id"] for answer in answers for result in answer]
    assert len(set(ids)) == 4
    assert _written(organisation) == 2


async def test_a_session_that_ends_asks_for_a_new_login() -> None:
    expire = {"action": "expire_token", "path": "composite", "after": 1, "count": 1}
    organisation = Salesforce(script=[expire])
    async with _salesforce(organisation) as (web, lead):
        statuses = [
            (await web.post(RECORDS, json={"records": [lead]})).status_code for _ in range(3)
        ]
        assert statuses == [200, 401, 401]
    async with _salesforce(organisation) as (web, lead):
        assert (await web.post(RECORDS, json={"records": [lead]})).status_code == 200
    assert _written(organisation) == 2


async def test_refused_rows_in_each_platforms_form() -> None:
    fault = {"action": "refuse_rows", "code": "UNABLE_TO_LOCK_ROW", "message": "locked"}
    rows = {"field": "Company", "matches": "LOCK"}
    async with _salesforce(Salesforce(script=[{**fault, "rows": rows}])) as (web, lead):
        records = [{**lead, "Company": "LOCK me"}, lead]
        answer = await web.post(RECORDS, json={"records": records})
    refused, written = answer.json()
    assert refused["errors"] == [
        {"statusCode": "UNABLE_TO_LOCK_ROW", "message": "locked", "fields": ["Company"]}
    ]
    assert written["success"] is True
    audience = Mailchimp(script=[{**fault, "rows": {"field": "FNAME", "matches": "LOCK"}}])
    async with audience.serve() as url, _web(url, "mailchimp-key-us1") as web:
        member = {"email_address": "a@x.io", "status": "subscribed"}
        body = {"members": [{**member, "merge_fields": {"FNAME": "LOCK"}}]}
        answer = await web.post("/3.0/lists/a1b2c3d4e5", json=body)
    assert answer.json()["errors"][0]["error_code"] == "UNABLE_TO_LOCK_ROW"


@pytest.mark.parametrize(
    ("platform", "token", "path", "policy", "status", "told"),
    [
        (HubSpot, "hubspot-token", READ, "DAILY", 429, "DAILY"),
        (HubSpot, "hubspot-token", READ, "", 429, "TEN_SECONDLY_ROLLING"),
        (Mailchimp, "mailchimp-key-us1", "/3.0/ping", "", 429, "Too Many Requests"),
    ],
)
async def test_throttling_by_fault_is_no_overspend(
    platform: type[HubSpot] | type[Mailchimp],
    token: str,
    path: str,
    policy: str,
    status: int,
    told: str,
) -> None:
    headers = {"Retry-After": "7"}
    fault = {"action": "throttle", "policy": policy, "headers": headers, "count": 1}
    running = platform(script=[fault, {"action": "throttle", "bare": True, "after": 1}])
    async with running.serve() as url, _web(url, token) as web:
        full = await web.get(path)
        assert (full.status_code, full.headers["Retry-After"]) == (status, "7")
        assert told in full.text
        bare = await web.get(path)
        assert bare.status_code in (403, 429)
        assert bare.headers["Content-Type"] == "text/html"
        stats = (await web.get("/_sim/stats")).json()
    assert (stats["quota_refusals"], stats["quota_overspends"]) == (0, 0)
    assert [f["fired"] for f in stats["faults"]] == [1, 1]


async def test_an_expired_token_until_a_fresh_one() -> None:
    portal = HubSpot(script=[{"action": "expire_token", "count": 1}])
    async with portal.serve() as url, _web(url) as web:
        for _ in range(2):
            answer = await web.get(READ)
            assert (answer.status_code, answer.json()["category"]) == (
                401,
                "EXPIRED_AUTHENTICATION",
            )
        await web.post("/_sim/token", json={"token": "fresh"})
        assert (await web.get(READ)).json()["category"] == "INVALID_AUTHENTICATION"
        fresh = await web.get(READ, headers={"Authorization": "Bearer fresh"})
        assert fresh.status_code == 200


async def test_delays_and_slow_bodies_take_their_time_and_let_others_in() -> None:
    faults = [
        {"action": "delay", "ms": [150, 160], "count": 1},
        {"action": "slow_body", "ms": 150, "after": 1, "count": 1},
    ]
    portal = HubSpot(script=faults)
    loop = asyncio.get_running_loop()
    async with portal.serve() as url, _web(url) as web:
        for _ in range(2):
            begun = loop.time()
            slow = asyncio.create_task(web.get(READ))
            await _struck(portal)
            quick = await web.get("/_sim/stats")
            assert quick.json()["running"] == 1
            assert (await slow).json() == {"results": []}
            assert loop.time() - begun >= 0.14
        begun = loop.time()
        await web.get(READ)
        assert loop.time() - begun < 0.14


async def _struck(portal: HubSpot) -> None:
    async with asyncio.timeout(5):
        while True:
            if portal.running:
                return
            await asyncio.sleep(0)


async def test_faults_by_http_and_what_makes_no_sense() -> None:
    async with HubSpot().serve() as url, _web(url) as web:
        named = await web.post("/_sim/faults", json=[{"action": "status", "status": 500}])
        assert named.json() == {"names": ["fault-0"]}
        assert (await web.get(READ)).status_code == 500
        await web.delete("/_sim/faults?name=fault-0")
        assert (await web.get(READ)).status_code == 200
        for path, body in (
            ("faults", {"action": "explode"}),
            ("faults", {"action": "status", "stauts": 500}),
            ("faults", {"action": "status", "path": "("}),
            ("quotas", {"weekly": "5"}),
            ("quotas", {"search": "-1"}),
            ("act", {"id": "1"}),
            ("use", {"window": "search"}),
        ):
            answer = await web.post(f"/_sim/{path}", json=body)
            acted = answer.status_code == 200 and path == "act"
            assert answer.status_code == 400 or acted, (path, body, answer.text)
        assert (await web.get("/_sim/nothing")).status_code == 404

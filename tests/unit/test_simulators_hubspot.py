"""The fake HubSpot behaves as HubSpot's pages say, seen by a plain HTTP client."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from simulators import HubSpot
from simulators.portal import Contact

CONTACTS = "/crm/v3/objects/contacts"


def _contact(number: int, **properties: str) -> Contact:
    return Contact(str(1000 + number), properties, 1_700_000_000_000, 1_700_000_000_000 + number)


def _client(url: str) -> httpx.AsyncClient:
    headers = {"Authorization": "Bearer hubspot-token"}
    return httpx.AsyncClient(base_url=url, headers=headers, verify=False)


@pytest.fixture
def portal() -> HubSpot:
    people = [_contact(n, email=f"P{n}@Example.com", company=f"C{n}") for n in range(250)]
    return HubSpot(people)


@pytest.fixture
async def web(portal: HubSpot) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": "Bearer hubspot-token"}
    async with (
        portal.serve() as url,
        httpx.AsyncClient(base_url=url, headers=headers, verify=False) as client,
    ):
        yield client


async def _batch(web: httpx.AsyncClient, how: str, *inputs: dict[str, Any]) -> httpx.Response:
    return await web.post(f"{CONTACTS}/batch/{how}", json={"inputs": inputs})


def _upsert(key: str, trace: str | None = None, **properties: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"id": key, "idProperty": "syncline_id", "properties": properties}
    return row | ({"objectWriteTraceId": trace} if trace is not None else {})


async def test_pages_of_the_list_hold_each_contact_once(web: httpx.AsyncClient) -> None:
    seen: list[str] = []
    params = {"limit": "100", "properties": "email,phone"}
    while True:
        page = (await web.get(CONTACTS, params=params)).json()
        seen += [contact["id"] for contact in page["results"]]
        if "paging" not in page:
            break
        params["after"] = page["paging"]["next"]["after"]
    assert seen == [str(1000 + n) for n in range(250)]
    first = (await web.get(CONTACTS, params={"limit": "1", "properties": "email,phone"})).json()
    properties = first["results"][0]["properties"]
    assert properties["email"] == "P0@Example.com"
    assert properties["phone"] is None, "asked for and empty: null"
    assert properties["lastmodifieddate"] == "2023-11-14T22:13:20.000Z"


async def test_the_list_tells_archived_from_used_and_knows_its_bounds(
    web: httpx.AsyncClient,
) -> None:
    assert (await web.delete(f"{CONTACTS}/1003")).status_code == 204
    used = (await web.get(CONTACTS, params={"limit": "100"})).json()["results"]
    gone = (await web.get(CONTACTS, params={"archived": "true"})).json()["results"]
    assert "1003" not in [c["id"] for c in used]
    assert [c["id"] for c in gone] == ["1003"]
    assert (await web.get(CONTACTS, params={"limit": "101"})).status_code == 400
    assert (await web.get(f"{CONTACTS}/1003")).status_code == 404


async def test_wrong_and_missing_tokens(portal: HubSpot, web: httpx.AsyncClient) -> None:
    refused = await web.get(CONTACTS, headers={"Authorization": "Bearer other"})
    assert (refused.status_code, refused.json()["category"]) == (401, "INVALID_AUTHENTICATION")
    missing = await web.get(CONTACTS, headers={"Authorization": ""})
    assert missing.status_code == 401
    assert portal.windows["ten_seconds"].spent == 0, "a stranger takes no token"


async def test_upsert_creates_then_changes_nothing_then_updates(
    portal: HubSpot, web: httpx.AsyncClient
) -> None:
    made = await _batch(web, "upsert", _upsert("a", email="New@x.io", company="One", phone=1))
    assert made.status_code == 200
    result = made.json()["results"][0]
    assert result["new"] is True
    assert result["properties"]["email"] == "new@x.io", "addresses are kept in lower case"
    assert result["properties"]["phone"] == "1", "all values are text"
    again = (await _batch(web, "upsert", _upsert("a", company="One"))).json()["results"][0]
    assert (again["new"], again["id"]) == (False, result["id"])
    await _batch(web, "upsert", _upsert("a", company="Two", phone=""))
    entries = list(portal.store.entries())
    assert [entry.get("changes") for entry in entries] == [
        None,
        {"company": ["One", "Two"], "phone": ["1", None]},
    ]
    assert entries[0]["created"] == {
        "email": "new@x.io",
        "company": "One",
        "phone": "1",
        "lifecyclestage": "lead",
        "syncline_id": "a",
    }
    assert portal.store.unchanged_rows == 1


async def test_a_bad_row_spares_its_neighbours_only_with_trace_ids(
    portal: HubSpot, web: httpx.AsyncClient
) -> None:
    rows = [_upsert("a", "0", email="a@x.io"), _upsert("b", "1", email="no address")]
    partly = await _batch(web, "upsert", *rows)
    body = partly.json()
    assert (partly.status_code, body["numErrors"]) == (207, 1)
    assert [r["objectWriteTraceId"] for r in body["results"]] == ["0"]
    assert body["errors"][0]["context"]["objectWriteTraceId"] == ["1"]
    assert "INVALID_EMAIL" in body["errors"][0]["message"]
    rows = [_upsert("c", "0", email="c@x.io"), _upsert("d", None, company="no trace id", nope="x")]
    whole = await _batch(web, "upsert", *rows)
    assert (whole.status_code, whole.json()["category"]) == (400, "VALIDATION_ERROR")
    assert "PROPERTY_DOESNT_EXIST" in whole.text
    assert portal.store.indexes["syncline_id"].first("c") is None, "nothing of it was written"


async def test_batches_that_are_refused_whole(web: httpx.AsyncClient) -> None:
    twice = await _batch(web, "upsert", _upsert("a", "0"), _upsert("a", "1"))
    assert twice.status_code == 400
    large = await _batch(web, "upsert", *(_upsert(str(n), str(n)) for n in range(101)))
    assert large.status_code == 400
    assert (await _batch(web, "upsert")).status_code == 400
    broken = await web.post(f"{CONTACTS}/batch/upsert", content=b"{")
    assert (broken.status_code, broken.json()["category"]) == (400, "VALIDATION_ERROR")
    unknown = {"id": "a", "idProperty": "company", "properties": {}, "objectWriteTraceId": "0"}
    assert (await _batch(web, "upsert", unknown)).status_code == 207


async def test_addresses_are_unique_for_writers(web: httpx.AsyncClient) -> None:
    taken = await _batch(web, "create", {"properties": {"email": "p7@example.COM"}})
    assert taken.status_code == 409
    assert "Existing ID: 1007" in taken.json()["message"]
    same = await _batch(
        web, "create", {"properties": {"email": "s@x.io"}}, {"properties": {"email": "S@x.io"}}
    )
    assert same.status_code == 409
    own = await _batch(web, "update", {"id": "1007", "properties": {"email": "p7@example.com"}})
    assert own.status_code == 200


async def test_lifecycle_stage_only_moves_forward(web: httpx.AsyncClient) -> None:
    for stage, kept in (
        ("customer", "customer"),
        ("lead", "customer"),
        ("", None),
        ("lead", "lead"),
    ):
        row = {"id": "1001", "properties": {"lifecyclestage": stage}}
        answer = (await _batch(web, "update", row)).json()
        assert answer["results"][0]["properties"]["lifecyclestage"] == kept


async def test_batch_read_names_what_is_missing(web: httpx.AsyncClient) -> None:
    body = {"inputs": [{"id": "1001"}, {"id": "9"}], "properties": ["company"]}
    answer = await web.post(f"{CONTACTS}/batch/read", json=body)
    assert answer.status_code == 207
    assert [r["properties"]["company"] for r in answer.json()["results"]] == ["C1"]
    assert answer.json()["errors"][0]["context"]["ids"] == ["9"]
    by_email = {"inputs": [{"id": "P2@EXAMPLE.com"}], "idProperty": "email"}
    found = await web.post(f"{CONTACTS}/batch/read", json=by_email)
    assert (found.status_code, found.json()["results"][0]["id"]) == (200, "1002")


async def test_search_filters_sorts_and_pages(web: httpx.AsyncClient) -> None:
    since = {
        "propertyName": "lastmodifieddate",
        "operator": "GTE",
        "value": str(1_700_000_000_000 + 40),
    }
    body: dict[str, Any] = {
        "filterGroups": [{"filters": [since]}],
        "sorts": [{"propertyName": "lastmodifieddate", "direction": "DESCENDING"}],
        "limit": 200,
    }
    page = (await web.post(f"{CONTACTS}/search", json=body)).json()
    assert (page["total"], len(page["results"]), page["paging"]["next"]["after"]) == (
        210,
        200,
        "200",
    )
    assert page["results"][0]["id"] == "1249"
    rest = (await web.post(f"{CONTACTS}/search", json={**body, "after": "200"})).json()
    assert [r["id"] for r in rest["results"]] == [str(1000 + n) for n in range(49, 39, -1)]
    assert "paging" not in rest
    body["filterGroups"][0]["filters"].append(
        {"propertyName": "hs_object_id", "operator": "GT", "value": "1247"}
    )
    assert (await web.post(f"{CONTACTS}/search", json=body)).json()["total"] == 2
    emails = {"propertyName": "email", "operator": "IN", "values": ["p3@example.com", "x@x"]}
    found = await web.post(f"{CONTACTS}/search", json={"filterGroups": [{"filters": [emails]}]})
    assert [r["id"] for r in found.json()["results"]] == ["1003"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"after": "9990", "limit": 20}, "10,000"),
        ({"limit": 201}, "200"),
        ({"query": "x" * 3000}, "3000 characters"),
        ({"filterGroups": [{"filters": []}] * 6}, "groups"),
        ({"filterGroups": [{"filters": [{"propertyName": "email", "operator": "HUH"}]}]}, "HUH"),
    ],
)
async def test_searches_that_are_refused(
    web: httpx.AsyncClient, body: dict[str, Any], why: str
) -> None:
    answer = await web.post(f"{CONTACTS}/search", json=body)
    assert (answer.status_code, answer.json()["category"]) == (400, "VALIDATION_ERROR")
    assert why in answer.json()["message"]


async def test_search_may_lag_behind_writes() -> None:
    portal = HubSpot(search_lag_ms=3_600_000)
    headers = {"Authorization": "Bearer hubspot-token"}
    async with (
        portal.serve() as url,
        httpx.AsyncClient(base_url=url, headers=headers, verify=False) as web,
    ):
        await _batch(web, "upsert", _upsert("a", company="new"))
        assert (await web.post(f"{CONTACTS}/search", json={})).json()["total"] == 0
        assert len((await web.get(CONTACTS)).json()["results"]) == 1


async def test_limits_tell_and_refuse_in_hubspots_form() -> None:
    portal = HubSpot(quota={"ten_seconds": "2/60", "search": "1/60", "day": "4"})
    headers = {"Authorization": "Bearer hubspot-token"}
    async with (
        portal.serve() as url,
        httpx.AsyncClient(base_url=url, headers=headers, verify=False) as web,
    ):
        left = [
            (await web.get(CONTACTS)).headers["X-HubSpot-RateLimit-Remaining"] for _ in range(2)
        ]
        assert left == ["1", "0"]
        full = await web.get(CONTACTS)
        body = full.json()
        assert (full.status_code, body["policyName"]) == (429, "TEN_SECONDLY_ROLLING")
        assert body["errorType"] == "RATE_LIMIT"
        assert "Retry-After" not in full.headers
        assert full.headers["X-HubSpot-RateLimit-Interval-Milliseconds"] == "60000"
        found = await web.post(f"{CONTACTS}/search", json={})
        assert found.status_code == 200, "searches have a window of their own"
        assert not [name for name in found.headers if "ratelimit" in name]
        assert (await web.post(f"{CONTACTS}/search", json={})).json()["policyName"] == "SECONDLY"
        await web.post("/_sim/quotas", json={"ten_seconds": "off", "search": "off"})
        assert (await web.get(CONTACTS)).headers["X-HubSpot-RateLimit-Daily-Remaining"] == "0"
        assert (await web.get(CONTACTS)).json()["policyName"] == "DAILY"
        stats = (await web.get("/_sim/stats")).json()
        assert stats["quota_refusals"] == 3
        assert {n: w["overspends"] for n, w in stats["windows"].items()} == {
            "ten_seconds": 1,
            "day": 1,
            "search": 1,
        }


async def test_properties_can_be_listed_and_made(web: httpx.AsyncClient) -> None:
    made = {"name": "our_key", "type": "string", "fieldType": "text", "hasUniqueValue": True}
    assert (await web.post("/crm/v3/properties/contacts", json=made)).status_code == 201
    assert (await web.post("/crm/v3/properties/contacts", json=made)).status_code == 409
    names = {p["name"] for p in (await web.get("/crm/v3/properties/contacts")).json()["results"]}
    assert {"our_key", "email", "hs_object_id", "syncline_id"} <= names
    row = {"id": "k", "idProperty": "our_key", "properties": {}, "objectWriteTraceId": "0"}
    assert (await _batch(web, "upsert", row)).json()["results"][0]["new"] is True

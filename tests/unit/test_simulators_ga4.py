"""The fake Google Analytics against Google's own pages: 204 to everything, and quotas in bodies."""

import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from simulators import GA4

DATA = "/v1beta/properties/123456789"
WRITE = "/mp/collect?measurement_id=G-TEST123&api_secret=ga4-api-secret"
REPORT = {
    "dateRanges": [{"startDate": "2026-01-01", "endDate": "2026-01-31"}],
    "dimensions": [{"name": "country"}],
    "metrics": [{"name": "eventCount"}],
}
ROWS = [
    {"date": "20260101", "country": "Germany", "eventCount": 3},
    {"date": "20260102", "country": "Germany", "eventCount": 4},
    {"date": "20260102", "country": "France", "eventCount": 5},
    {"date": "20260201", "country": "France", "eventCount": 9},
]


class Client:
    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self.session, self.headers = url, session, {}

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        url = self.url + path
        async with self.session.post(url, json=body, headers=self.headers) as response:
            return response.status, await response.json(content_type=None)

    async def login(self) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": "ga4-refresh",
                "client_id": "ga4-client", "client_secret": "ga4-secret"}  # fmt: skip
        async with self.session.post(self.url + "/token", data=form) as response:
            token = (await response.json())["access_token"]
        self.headers = {"Authorization": f"Bearer {token}"}

    async def send(self, *events: dict[str, Any], **more: Any) -> None:
        body = {"client_id": "1.2", "events": list(events), **more}
        assert await self.post(WRITE, body) == (204, None)


@pytest.fixture
def there() -> GA4:
    return GA4(ROWS)


@pytest.fixture
async def client(there: GA4) -> AsyncIterator[Client]:
    async with there.serve() as url, aiohttp.ClientSession() as session:
        yield Client(url, session)


async def test_what_breaks_a_rule_is_dropped_without_a_word(there: GA4, client: Client) -> None:
    now_us = int(time.time() * 1e6)
    await client.send({"name": "paid"}, {"name": "first_visit"}, {"name": "a b"}, {})
    await client.send({"name": "paid", "timestamp_micros": now_us - 73 * 3_600_000_000})
    await client.send({"name": "paid", "params": {"x": "x" * 101}})
    await client.send({"name": "paid", "params": {f"p{n}": 1 for n in range(26)}})
    assert there.rows == {"written": 1, "dropped": 6}
    await client.send(*[{"name": "paid"}] * 26)
    await client.send({"name": "paid"}, client_id="")
    await client.send({"name": "paid"}, user_properties={"ga_x": {"value": 1}})
    assert await client.post(WRITE, "no object") == (204, None)
    assert there.rows == {"written": 1, "dropped": 6 + 26 + 1 + 1 + 1}
    body = {"client_id": "1.2", "events": [{"name": "paid"}]}
    assert await client.post("/mp/collect?measurement_id=G-TEST123", body) == (204, None)
    assert there.rows["of_nobody"] == 1


async def test_an_event_that_comes_twice_is_there_twice(there: GA4, client: Client) -> None:
    event = {"name": "paid", "timestamp_micros": int(time.time() * 1e6)}
    await client.send(event, user_properties={"plan": {"value": "pro"}})
    await client.send(event)
    effects = there.store.effects()
    assert (effects["created"], effects["twice_total"]) == (2, 1)
    assert there.stores["users"].objects["1.2"].values == {"client_id": "1.2", "plan": "pro"}


async def test_the_validation_server_tells_and_records_nothing(there: GA4, client: Client) -> None:
    good = {"client_id": "1.2", "events": [{"name": "paid"}]}
    assert await client.post("/debug/mp/collect", good) == (200, {"validationMessages": []})
    bad = {"client_id": "1.2", "events": [{"name": "ga_x", "params": {"y z": 1}}]}
    _, said = await client.post("/debug/mp/collect", bad)
    codes = [message["validationCode"] for message in said["validationMessages"]]
    assert codes == ["NAME_RESERVED", "NAME_INVALID"]
    assert (await client.post("/debug/mp/collect", []))[1]["validationMessages"]
    assert there.store.effects()["objects"] == 0


async def test_reports_sum_what_there_is_and_page(there: GA4, client: Client) -> None:
    assert (await client.post(DATA + ":runReport", REPORT))[0] == 401
    await client.login()
    status, report = await client.post(DATA + ":runReport", REPORT)
    assert (status, report["rowCount"]) == (200, 2)
    values = {
        row["dimensionValues"][0]["value"]: row["metricValues"][0]["value"]
        for row in report["rows"]
    }
    assert values == {"Germany": "7", "France": "5"}
    _, second = await client.post(DATA + ":runReport", {**REPORT, "limit": "1", "offset": "1"})
    assert (second["rowCount"], second["rows"]) == (2, report["rows"][1:])
    await client.send({"name": "paid"})
    today = time.strftime("%Y-%m-%d", time.gmtime())
    query = {**REPORT, "dateRanges": [{"startDate": today, "endDate": today}],
             "dimensions": [{"name": "eventName"}]}  # fmt: skip
    _, events = await client.post(DATA + ":runReport", query)
    assert events["rows"][0]["dimensionValues"] == [{"value": "paid"}]
    assert (await client.post("/v1beta/properties/7:runReport", REPORT))[0] == 403


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": [{"name": "eventcount"}]},
        {"metrics": []},
        {"dimensions": [{"name": "country"}] * 10},
        {"limit": "250001"},
        {"dateRanges": [{"startDate": "lately", "endDate": "today"}]},
        {"dimensionFilter": {"filter": {"fieldName": "country", "inListFilter": {}}}},
        {"metrics": "none"},
    ],
)
async def test_what_makes_no_sense_is_refused(client: Client, change: dict[str, Any]) -> None:
    await client.login()
    status, body = await client.post(DATA + ":runReport", {**REPORT, **change})
    assert (status, body["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_tokens_are_counted_and_told(there: GA4, client: Client) -> None:
    await client.login()
    _, report = await client.post(DATA + ":runReport", {**REPORT, "returnPropertyQuota": True})
    assert report["propertyQuota"]["tokensPerDay"] == {"consumed": 10, "remaining": 199_990}
    assert report["propertyQuota"]["tokensPerProjectPerHour"]["remaining"] == 13_990
    there.project.limit = 25
    answers = [await client.post(DATA + ":runReport", REPORT) for _ in range(3)]
    assert [status for status, _ in answers] == [200, 200, 429]
    error = answers[-1][1]["error"]
    assert error["status"] == "RESOURCE_EXHAUSTED"
    assert "project per hour" in error["message"]
    assert there.stats()["quota_overspends"] == 1


async def test_ten_faults_in_an_hour_close_the_property(there: GA4, client: Client) -> None:
    await client.login()
    there.script.add([{"path": "runReport", "action": "status", "status": 500, "count": 10}])
    statuses = [(await client.post(DATA + ":runReport", REPORT))[0] for _ in range(11)]
    assert statuses == [500] * 10 + [429]


async def test_logins_that_are_refused(client: Client) -> None:
    for form in (
        {"grant_type": "password"},
        {"grant_type": "refresh_token", "refresh_token": "x", "client_id": "ga4-client",
         "client_secret": "ga4-secret"},
        {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "x.y.z"},
    ):  # fmt: skip
        async with client.session.post(client.url + "/token", data=form) as response:
            assert response.status == 400
            assert (await response.json())["error"]

"""The fake Segment against its own pages: 200 to nearly everything, and what came of it."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from simulators import Segment


def basic(write_key: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(write_key, "")}


AUTH = basic("segment-write-key")


class Client:
    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self.session = url, session

    async def post(self, path: str, body: Any, headers: dict[str, str] = AUTH) -> tuple[int, Any]:
        async with self.session.post(self.url + path, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def batch(self, *calls: dict[str, Any], **more: Any) -> tuple[int, Any]:
        return await self.post("/v1/batch", {"batch": list(calls), **more})


@pytest.fixture
def segment() -> Segment:
    return Segment(quota={"tracking": "off"})


@pytest.fixture
async def client(segment: Segment) -> AsyncIterator[Client]:
    async with segment.serve() as url, aiohttp.ClientSession() as session:
        yield Client(url, session)


GOOD = (200, {"success": True})


def track(key: str, **more: Any) -> dict[str, Any]:
    return {"type": "track", "userId": "u", "event": "Paid", "messageId": key, **more}


async def test_calls_become_users_groups_and_events(segment: Segment, client: Client) -> None:
    identify = {"type": "identify", "userId": "u", "traits": {"email": "a@b.co", "x": {"y": 1}}}
    group = {"type": "group", "userId": "u", "groupId": "g", "traits": {"name": "ACME"}}
    assert await client.batch(identify, group, track("k", properties={"revenue": 3})) == GOOD
    assert await client.post("/v1/identify", {"userId": "u", "traits": {"email": None}}) == GOOD
    (user,) = segment.store.alive()
    assert user.values == {"userId": "u", "x.y": 1, "groups.g": True}
    assert segment.stores["groups"].objects["g"].values == {"groupId": "g", "name": "ACME"}
    event = segment.stores["events"].objects["k"].values
    assert (event["event"], event["revenue"], event["userId"]) == ("Paid", 3, "u")
    assert segment.rows == {"written": 4}


@pytest.mark.parametrize(
    "call",
    [
        {"type": "sing", "userId": "u"},
        {"userId": "u"},
        {"type": "identify", "traits": {}},
        {"type": "identify", "userId": "", "anonymousId": ""},
        {"type": "track", "userId": "u"},
        {"type": "group", "userId": "u"},
        {"type": "identify", "userId": "u", "traits": []},
        track("k" * 101),
        "no object",
    ],
)
async def test_what_makes_no_sense_is_dropped_without_a_word(
    segment: Segment, client: Client, call: Any
) -> None:
    assert await client.batch(call, track("good")) == GOOD
    assert segment.rows == {"dropped": 1, "written": 1}
    assert set(segment.stores["events"].objects) == {"good"}


async def test_bounds_are_answered_400_but_for_too_many(segment: Segment, client: Client) -> None:
    assert (await client.batch(track("k", properties={"x": "x" * 32_000})))[0] == 400
    large = [track(f"{n}", properties={"x": "x" * 30_000}) for n in range(17)]
    assert (await client.batch(*large))[0] == 400
    assert (await client.post("/v1/batch", "no batch"))[0] == 400
    assert await client.batch(*[track(f"{n}") for n in range(2_501)]) == GOOD
    assert segment.rows == {"dropped": 2_501}
    assert await client.batch(*[track(f"{n}") for n in range(2_500)]) == GOOD
    assert len(segment.stores["events"].objects) == 2_500


async def test_a_key_that_was_seen_is_dropped_for_a_day(
    segment: Segment, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        assert await client.batch(track("k")) == GOOD
    assert segment.rows == {"written": 1, "repeated": 2}
    now = segment.clock.now()
    monkeypatch.setattr(segment.clock, "now", lambda: now + 86_401)
    assert await client.batch(track("k")) == GOOD
    effects = segment.stores["events"].effects()
    assert (effects["created"], effects["twice_total"]) == (2, 1)


async def test_a_wrong_key_is_answered_like_a_right_one(segment: Segment, client: Client) -> None:
    assert await client.post("/v1/batch", {"batch": [track("k")]}, basic("somebody")) == GOOD
    assert await client.post("/v1/batch", {"batch": [track("k")]}, {}) == GOOD
    assert segment.rows == {"of_nobody": 2}
    body = {"batch": [track("k")], "writeKey": "segment-write-key"}
    assert await client.post("/v1/batch", body, {}) == GOOD
    assert segment.rows["written"] == 1


async def test_what_was_sent_late_is_moved(segment: Segment, client: Client) -> None:
    """A `sentAt` an hour behind: their clock is an hour late, so the call happened an hour later
    than it says."""
    call = track("k", timestamp="2026-01-01T10:00:00Z")
    now_ms = int(segment.clock.now() * 1000)
    from_epoch = "1970-01-01T00:00:00Z"
    await client.batch(call, sentAt=from_epoch)
    at_ms = segment.stores["events"].objects["k"].values["timestamp_ms"]
    assert at_ms - 1_767_261_600_000 >= now_ms


async def test_more_than_the_limit_is_refused_and_counted() -> None:
    assert Segment().windows["tracking"].limit == 50
    segment = Segment(quota={"tracking": "3/60"})
    async with segment.serve() as url, aiohttp.ClientSession() as session:
        client = Client(url, session)
        assert [(await client.batch())[0] for _ in range(4)] == [200, 200, 200, 429]
        async with session.post(url + "/v1/batch", json={"batch": []}, headers=AUTH) as response:
            assert response.status == 429
            assert response.headers["Retry-After"] == response.headers["X-RateLimit-Reset"] == "1"
    stats = segment.stats()
    assert (stats["quota_overspends"], stats["windows"]["tracking"]["spent"]) == (2, 3)


async def test_faults_are_silent_too(segment: Segment, client: Client) -> None:
    rows = {"field": "revenue", "in": ["13"]}
    segment.script.add([{"action": "refuse_rows", "rows": rows, "count": 1}])
    one, other = track("1", properties={"revenue": 13}), track("2", properties={"revenue": 14})
    assert await client.batch(one, other) == GOOD
    assert segment.rows == {"blocked": 1, "written": 1}
    segment.script.add([{"action": "no_effect", "count": 1}])
    assert await client.batch(track("3")) == GOOD
    assert "3" not in segment.stores["events"].objects
    assert await client.batch(track("3")) == GOOD
    assert "3" in segment.stores["events"].objects

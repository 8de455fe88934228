"""Segment says 200 to nearly everything: what it would drop is parked before it is sent."""

from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from connectors.base import Answer, PlatformError, Row
from connectors.outcome import Accepted, Halted, Parked, Retry, Throttled, TooLarge
from connectors.platforms.segment import (
    BODY_BYTES_MAX,
    CALL_BYTES_MAX,
    ROWS_MAX,
    Segment,
    SegmentConfig,
)


class Taken:
    """Takes whatever is sent, and keeps it."""

    def __init__(self, error: PlatformError | None = None) -> None:
        self.bodies: list[bytes] = []
        self.error = error

    async def request(self, method: str, path: str, *, json: object = None, **_: object) -> Answer:
        self.bodies.append(msgspec.json.encode(json))
        if self.error is not None:
            raise self.error
        return Answer(200, {}, b'{"success":true}')

    @property
    def calls(self) -> list[dict[str, object]]:
        return [call for body in self.bodies for call in msgspec.json.decode(body)["batch"]]


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def segment(taken: Taken) -> Segment:
    return made(taken)


def made(taken: Taken) -> Segment:
    return Segment(SegmentConfig(), {"write_key": SecretStr("key")}, taken)


def row(n: int = 1, object_id: str = "", at_ms: int = 0, **fields: object) -> Row:
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return Row(f"{n:032}", f"person-{n}", object_id, named, at_ms)


def test_a_call_has_the_shape_of_its_type(segment: Segment) -> None:
    fields = {"email": "a@b.co", "plan": None, "address__city": "Ulm", "context__ip": "192.0.2.1"}
    assert segment.map_fields("identify", row(at_ms=1_700_000_000_123, **fields)) == {
        "type": "identify",
        "userId": "person-1",
        "timestamp": "2023-11-14T22:13:20.123Z",
        "context": {"ip": "192.0.2.1"},
        "traits": {"email": "a@b.co", "plan": None, "address": {"city": "Ulm"}},
    }
    track = row(event="Paid", anonymousId="anon", plan=None, revenue=3)
    assert segment.map_fields("track", track) == {
        "type": "track",
        "anonymousId": "anon",
        "event": "Paid",
        "properties": {"revenue": 3},
    }
    assert segment.map_fields("group", row(groupId=7, name="ACME", userId="")) == {
        "type": "group",
        "userId": "person-1",
        "groupId": "7",
        "traits": {"name": "ACME"},
    }


async def test_a_repeat_carries_the_same_key(segment: Segment, taken: Taken) -> None:
    """A fact's key is its row: it counts once, whatever became of its text. A state's names the
    content: a row that somebody mended is not taken for a repeat of what it was before."""
    for fields in ({"event": "Paid", "x": 1}, {"event": "Paid", "x": 1}, {"event": "Paid", "x": 2}):
        await segment.upload_batch("track", [row(**fields)])
        await segment.upload_batch("identify", [row(**fields)])
    keys = [call["messageId"] for call in taken.calls]
    tracks, identifies = keys[0::2], keys[1::2]
    assert tracks == [row().row_id] * 3
    assert identifies[0] == identifies[1] != identifies[2]
    assert all(str(key).startswith(row().row_id) for key in identifies)


@pytest.mark.parametrize(
    ("object_type", "fields", "code", "field"),
    [
        ("track", {"revenue": 3}, "missing", "event"),
        ("track", {"event": ""}, "missing", "event"),
        ("group", {"name": "ACME"}, "missing", "groupId"),
        ("identify", {"bio": "x" * CALL_BYTES_MAX}, "too_large", ""),
        ("identify", {"bio": "é" * (CALL_BYTES_MAX // 2)}, "too_large", ""),
    ],
)
async def test_what_would_be_dropped_is_parked_and_spares_the_rest(
    segment: Segment, taken: Taken, object_type: str, fields: dict[str, Any], code: str, field: str
) -> None:
    good = row(2, event="Paid", groupId="g")
    refused, accepted = await segment.upload_batch(object_type, [row(1, **fields), good])
    assert isinstance(refused, Parked)
    assert (refused.code, refused.field) == (code, field)
    assert refused.words
    assert accepted == Accepted()
    assert len(taken.calls) == 1


async def test_nothing_is_sent_where_nothing_is_good(segment: Segment, taken: Taken) -> None:
    (outcome,) = await segment.upload_batch("track", [row(revenue=3)])
    assert isinstance(outcome, Parked)
    assert taken.bodies == []


async def test_a_call_of_32_kb_just_fits(segment: Segment, taken: Taken) -> None:
    await segment.upload_batch("identify", [row(bio="")])
    room = CALL_BYTES_MAX - len(msgspec.json.encode(taken.calls[0]))
    assert await segment.upload_batch("identify", [row(bio="x" * room)]) == [Accepted()]
    (outcome,) = await segment.upload_batch("identify", [row(bio="x" * (room + 1))])
    assert isinstance(outcome, Parked)


async def test_what_the_worker_may_put_together_fits_into_one_request(
    segment: Segment, taken: Taken
) -> None:
    """Rows counted as the worker counts them (fields and 200 bytes each) up to the spec's bound,
    with as much around them as our shape can have."""
    spec = segment.spec.objects["track"]
    assert spec.batch_bytes_max
    fields = {"event": "Paid", "context.ip": "192.0.2.1", "integrations.All": True, "a.b": 1}
    size = spec.batch_bytes_max // ROWS_MAX - 200
    pad = size - len(msgspec.json.encode(fields)) - len('"pad":"",')
    rows = [
        Row(f"{n:032}", f"{n:032}", "", {**fields, "pad": "x" * pad}, 1_700_000_000_123)
        for n in range(ROWS_MAX)
    ]
    assert all(len(msgspec.json.encode(r.fields)) <= size for r in rows)
    assert await segment.upload_batch("track", rows) == [Accepted()] * ROWS_MAX
    assert BODY_BYTES_MAX * 0.9 < len(taken.bodies[0]) <= BODY_BYTES_MAX


async def test_what_is_too_much_for_one_request_is_not_sent(segment: Segment, taken: Taken) -> None:
    rows = [row(n, event="Paid", pad="x" * 30_000) for n in range(17)]
    outcomes = await segment.upload_batch("track", rows)
    assert isinstance(outcomes[0], TooLarge)
    assert all(outcome is outcomes[0] for outcome in outcomes)
    assert taken.bodies == []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (PlatformError(429, "", {"retry-after": "7"}), Throttled(7.0)),
        (PlatformError(429, "", {"x-ratelimit-reset": "3"}), Throttled(3.0)),
        (PlatformError(429, "", {}), Throttled(None)),
        (PlatformError(401, {"message": "no"}), Halted("write key refused: no")),
        (PlatformError(400, {"message": "Invalid JSON"}), Parked("400", "Invalid JSON")),
        (PlatformError(413, "big"), TooLarge("big")),
        (PlatformError(408), Retry("HTTP 408")),
        (PlatformError(0), Retry("no answer")),
    ],
)
async def test_a_failure_concerns_all_rows_alike(error: PlatformError, outcome: object) -> None:
    """Also those that would have been parked here: the worker tells a failure of the request by
    the very same object for every row."""
    taken = Taken(error)
    outcomes = await made(taken).upload_batch("track", [row(1, event="Paid"), row(2)])
    assert outcomes == [outcome] * 2
    assert outcomes[0] is outcomes[1]

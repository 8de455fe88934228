"""One genuine request to its records: nothing is dropped, no neighbour drags another down."""

import dataclasses
import json
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from schemas import ids
from schemas.codec import Codec
from schemas.events import PlatformEvent
from schemas.parked import ParkedRecord, Stage
from webhook_gateway import intake
from webhook_gateway.encode import EventEncoder
from webhook_gateway.publisher import Record
from webhook_gateway.senders.base import Request
from webhook_gateway.senders.hubspot import HubSpotWebhooks, Sender

codec = Codec.offline()
encoder = EventEncoder(codec, "hub", "hubspot")
sender = Sender(HubSpotWebhooks(), [SecretStr("secret")])
NOW_MS = 1_700_000_000_000
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def request(body: bytes) -> Request:
    target = "/hooks/hub?x=1"
    headers = {"x-hubspot-signature": "abc", "authorization": "Bearer hush", "cookie": "hush"}
    return Request(target, f"https://example.com{target}", "", headers, body, NOW_MS)


def records(*events: Any, body: bytes | None = None) -> tuple[list[Record], int]:
    asked = request(json.dumps(events).encode() if body is None else body)
    parts = sender.parse(asked)
    accounts = {"": encoder, "33": encoder, "44": EventEncoder(codec, "hub-b", "hubspot")}
    return intake.records(sender.spec, "hub", accounts.get, codec, asked, parts, TRACE)


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "subscriptionType": "contact.propertyChange", "objectId": number, "portalId": 33,
        "occurredAt": NOW_MS, "propertyName": "email", "propertyValue": "a@example.com",
    } | fields  # fmt: skip


def test_the_raw_body_and_one_message_an_event() -> None:
    (raw, *out), parked = records(*(event(n) for n in range(100)))
    assert parked == 0
    assert (raw.topic, raw.key) == ("intake.hubspot", "hub")
    assert json.loads(raw.value) == [event(n) for n in range(100)]
    assert dict(raw.headers) == {
        "platform": "hubspot",
        "method": "POST",
        "path": b"/hooks/hub?x=1",
        "verdict": "accepted",
        "received_ms": str(NOW_MS),
        "traceparent": TRACE,
        "http.x-hubspot-signature": b"abc",
    }
    assert {r.topic for r in out} == {"events.hubspot"}
    assert [r.key for r in out] == [f"hub:contact:{n}" for n in range(100)]
    for record in out:
        message = codec.decode_as(PlatformEvent, record.value)
        assert message.object_key == record.key
        assert dict(record.headers)["ce_id"] == message.event_id
        assert message.trace == dict(record.headers)["traceparent"] == TRACE


def test_a_repeat_makes_the_same_ids() -> None:
    first, again = (records(event(1, attemptNumber=n))[0][1] for n in (0, 5))
    one, two = (codec.decode_as(PlatformEvent, r.value) for r in (first, again))
    assert one.event_id == two.event_id
    assert one.payload != two.payload


def test_what_makes_no_sense_is_parked_alone_with_bytes_and_position() -> None:
    (_, good, bad, last), parked = records(event(1), {"objectId": 2}, event(3))
    assert parked == 1
    assert (good.topic, bad.topic, last.topic) == ("events.hubspot", "parked", "events.hubspot")
    message = codec.decode_as(ParkedRecord, bad.value)
    assert message.parked_id == bad.key == ids.event_id("hub", (), b'{"objectId": 2}')
    assert message.stage is Stage.intake
    assert (message.connection, message.position) == ("hub", 1)
    assert (message.words, message.source) == ("no subscriptionType", b'{"objectId": 2}')


def test_a_body_that_is_no_list_is_parked_whole() -> None:
    (raw, bad), parked = records(body=b"\xff\x00")
    assert parked == 1
    assert raw.value == codec.decode_as(ParkedRecord, bad.value).source == b"\xff\x00"


def test_an_empty_list_is_kept_and_makes_no_event() -> None:
    out, parked = records()
    assert ([r.topic for r in out], parked) == (["intake.hubspot"], 0)


def test_events_go_to_the_connection_of_their_account() -> None:
    (_, own, other, nobodys), parked = records(
        event(1), event(1, portalId=44), event(1, portalId=55)
    )
    assert parked == 1
    assert own.key == "hub:contact:1"
    assert other.key == "hub-b:contact:1"
    assert codec.decode_as(PlatformEvent, other.value).connection == "hub-b"
    message = codec.decode_as(ParkedRecord, nobodys.value)
    assert message.words == "of an account that is no connection here"
    assert message.position == 2
    assert json.loads(message.source)["portalId"] == 55


@pytest.mark.parametrize("size", [intake.VALUE_BYTES_MAX, intake.VALUE_BYTES_MAX + 1, 2_500_000])
def test_a_body_over_kafkas_message_size_is_kept_in_pieces(size: int) -> None:
    body = b"x" * size
    pieces = intake.raw_records("intake.hubspot", sender.spec, "hub", request(body), "accepted", "")
    assert b"".join(p.value for p in pieces) == body
    assert all(len(p.value) <= intake.VALUE_BYTES_MAX for p in pieces)
    marks = [dict(p.headers).get("part") for p in pieces]
    count = len(pieces)
    assert marks == ([None] if count == 1 else [f"{n + 1}/{count}" for n in range(count)])
    assert len({dict(p.headers).get("request") for p in pieces}) == 1


def test_one_event_over_kafkas_message_size_is_parked_and_its_neighbours_go_on() -> None:
    out, parked = records(event(1), event(2, propertyValue="x" * 1_000_000), event(3))
    assert parked == 1
    topics = [r.topic for r in out]
    assert topics == ["intake.hubspot"] * 2 + ["events.hubspot", "parked", "events.hubspot"]
    message = codec.decode_as(ParkedRecord, out[3].value)
    assert message.words.startswith("larger than")
    assert (message.source, message.position) == (b"", 1)  # whole on the intake topic


def test_an_event_that_cannot_be_encoded_is_parked_and_its_neighbours_go_on() -> None:
    asked = request(json.dumps([event(n) for n in range(3)]).encode())
    first, second, third = sender.parse(asked)
    wrong = msgspec.structs.replace(second, object_type="half \ud83d")
    out, parked = intake.records(
        sender.spec, "hub", lambda _: encoder, codec, asked, [first, wrong, third], TRACE
    )
    assert parked == 1
    assert [r.topic for r in out[1:]] == ["events.hubspot", "parked", "events.hubspot"]
    message = codec.decode_as(ParkedRecord, out[2].value)
    assert message.words == "cannot be encoded: UnicodeEncodeError"


def test_a_secret_in_the_address_is_not_kept() -> None:
    target = "/hooks/hub/s3cret-path?token=s3cret-query"
    asked = Request(target, f"https://example.com{target}", "s3cret-path", {}, b"[]", NOW_MS)
    spec = dataclasses.replace(sender.spec, secret_in_path=True, query_is_signed=False)
    (record,) = intake.raw_records("intake.hubspot", spec, "hub", asked, "accepted", TRACE)
    assert dict(record.headers)["path"] == b"/hooks/hub/"
    assert "s3cret" not in str(record.headers)


def test_a_refused_request_is_kept_apart_with_what_a_second_check_needs() -> None:
    (record,) = intake.quarantined(sender.spec, "hub", request(b"[]"), "signature wrong")
    assert (record.topic, record.key, record.value) == ("quarantine", "hub", b"[]")
    headers = dict(record.headers)
    assert headers["verdict"] == "signature wrong"
    assert headers["http.x-hubspot-signature"] == b"abc"
    assert "hush" not in str(record.headers)

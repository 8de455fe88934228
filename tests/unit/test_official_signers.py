"""Requests signed by code that nobody here wrote: what a platform's own package signs is taken, and
with one byte changed it is not.

HubSpot and Standard Webhooks publish signing code as Python packages, and it runs here. Segment's
stands in a JavaScript package, and Mandrill's is checked by a package as large as a web framework:
their requests were written to `official/` by the program beside them. No other platform publishes
code that signs: their packages (mailchimp-marketing 3.0.80, mailchimp-transactional 1.4.1,
customerio 3.2.0, python-intercom 5.0.1, klaviyo-api 25.0.0) have none in them, svix 2.9.1 has that
of Standard Webhooks.
"""

import base64
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hubspot.utils.signature import Signature
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from syncline.samples.sign import Call, signed
from tests.unit.gateway_kit import definition, world_of
from tests.unit.senders_kit import CASES, HOST, Lower, hubspot_event, lean, standard
from webhook_gateway.senders.base import Refused, Request, Unparseable

OFFICIAL = Path(__file__).parent / "official"
SECRET = "5a0a9bf5-3b1c-4c2e-9d53-2f2f8a8b1c11"
KEY = "whsec_" + base64.b64encode(b"the key of Standard Webhooks").decode()
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
Made = tuple[bytes, dict[str, str]]


def asked(
    platform: str, body: bytes, headers: Mapping[str, str], url: str = "", now_ms: int = 0
) -> Request:
    url = url or f"{HOST}/hooks/{platform}"
    target = "/" + url.split("/", 3)[3]
    return Request(target, url, "", Lower(headers), body, now_ms or time.time_ns() // 1_000_000)


def taken(platform: str, request: Request, *secrets: str, **options: Any) -> bool:
    try:
        CASES[platform].sender(*secrets, **options).verify(request)
    except Refused as refused:
        assert refused.status == 401  # noqa: PT017 - either is an answer here
        return False
    return True


def hubspot(version: str, body: bytes, url: str = f"{HOST}/hooks/hubspot") -> Made:
    stamp = str(time.time_ns() // 1_000_000)
    proof = Signature.get_signature(SECRET, body.decode(), version, url, "POST", stamp)
    if version == "v3":
        return body, {"X-HubSpot-Signature-v3": proof, "X-HubSpot-Request-Timestamp": stamp}
    return body, {"X-HubSpot-Signature": proof, "X-HubSpot-Signature-Version": version}


def standard_webhook(body: bytes, key: str = KEY, prefix: str = "webhook") -> Made:
    now = datetime.now(UTC)
    proof = Webhook(key).sign("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", now, body.decode())
    names = {"id": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", "signature": proof,
             "timestamp": str(int(now.timestamp()))}  # fmt: skip
    return body, {f"{prefix}-{name}": value for name, value in names.items()}


# --- HubSpot: hubspot-api-client ----------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
@given(words=WORDS, data=st.data())
def test_what_hubspots_package_signs(version: str, words: str, data: st.DataObject) -> None:
    body = lean([hubspot_event(1) | {"propertyValue": words}])
    _, headers = hubspot(version, body)
    assert taken("hubspot", asked("hubspot", body, headers), SECRET)
    assert not taken("hubspot", asked("hubspot", body, headers), "another")
    changed = _changed(body, data)
    assert not taken("hubspot", asked("hubspot", changed, headers), SECRET)


def test_hubspots_address_and_time_are_signed_as_its_package_does() -> None:
    body = lean([hubspot_event(1)])
    url = f"{HOST}/hooks/hubspot?a=b c&d=%26"
    _, headers = hubspot("v3", body, url)
    assert taken("hubspot", asked("hubspot", body, headers, url), SECRET)
    assert not taken("hubspot", asked("hubspot", body, headers, url + "x"), SECRET)
    later_ms = time.time_ns() // 1_000_000 + 301_000
    assert not taken("hubspot", asked("hubspot", body, headers, url, later_ms), SECRET)


def test_hubspots_package_takes_what_we_send() -> None:
    now_ms = time.time_ns() // 1_000_000
    body = lean([hubspot_event(1)])
    call = Call("http://127.0.0.1/hooks/h", f"{HOST}/hooks/h", body)
    made = signed("hubspot", call, SECRET, now_ms, {}, secret_in_path=False)
    proof = made.headers["X-HubSpot-Signature-v3"]
    rest = (SECRET, body.decode(), f"{HOST}/hooks/h", "POST", "v3", str(now_ms))
    assert Signature.is_valid(proof, *rest)
    assert not Signature.is_valid(proof, "another", *rest[1:])


# --- Standard Webhooks: standardwebhooks --------------------------------------------------------


@given(words=WORDS, data=st.data())
def test_what_the_package_of_standard_webhooks_signs(words: str, data: st.DataObject) -> None:
    body = standard(name=words)
    _, headers = standard_webhook(body)
    assert taken("generic", asked("generic", body, headers), KEY)
    assert taken("generic", asked("generic", body, headers), KEY.removeprefix("whsec_"))
    assert not taken("generic", asked("generic", body, headers), "whsec_" + "A" * 32)
    assert not taken("generic", asked("generic", _changed(body, data), headers), KEY)
    other = headers | {"webhook-id": "msg_other"}
    assert not taken("generic", asked("generic", body, other), KEY)


def test_during_a_rotation_the_package_signs_twice() -> None:
    body, old = standard_webhook(standard(), "whsec_" + base64.b64encode(b"old").decode())
    _, new = standard_webhook(body)
    both = new | {"webhook-signature": f"{old['webhook-signature']} {new['webhook-signature']}"}
    assert taken("generic", asked("generic", body, both), KEY)


def test_the_older_names_of_the_headers_can_be_declared() -> None:
    """As Svix sends them, whose package signs with that of Standard Webhooks."""
    body, headers = standard_webhook(standard(), prefix="svix")
    proof = {"kind": "signature", "header": "svix-signature", "encoding": "base64",
             "signed": "{header:svix-id}.{timestamp}.{body}", "prefix": "v1,", "separator": " ",
             "timestamp": "svix-timestamp", "key": "base64"}  # fmt: skip
    assert taken("generic", asked("generic", body, headers), KEY, proof=proof)
    assert not taken("generic", asked("generic", body + b" ", headers), KEY, proof=proof)


def test_the_package_of_standard_webhooks_takes_what_we_send() -> None:
    call = Call("http://127.0.0.1/hooks/g", f"{HOST}/hooks/g", standard())
    now_ms = time.time_ns() // 1_000_000
    made = signed("generic", call, KEY, now_ms, {}, secret_in_path=False)
    assert Webhook(KEY).verify(made.body, dict(made.headers)) == json.loads(made.body)
    with pytest.raises(WebhookVerificationError):
        Webhook(KEY).verify(made.body + b" ", dict(made.headers))


# --- Written by the packages named in them ------------------------------------------------------


def _written(platform: str) -> list[Any]:
    told = json.loads((OFFICIAL / f"{platform}.json").read_text())
    url = told.get("url", "")
    name = "X-Signature" if platform == "segment" else "X-Mandrill-Signature"
    return [
        pytest.param(
            platform,
            asked(platform, one["body"].encode(), {name: one["signature"]}, url),
            told["secret"],
            one["events"],
            id=f"{platform}: {one['name']}",
        )
        for one in told["signed"]
    ]


@pytest.mark.parametrize(
    ("platform", "request_", "secret", "events"), [*_written("segment"), *_written("mandrill")]
)
def test_what_a_package_has_written(
    platform: str, request_: Request, secret: str, events: int
) -> None:
    assert taken(platform, request_, secret)
    assert not taken(platform, request_, "another")
    parts = CASES[platform].sender(secret).parse(request_)
    assert len(parts) == events
    assert not any(isinstance(part, Unparseable) for part in parts)
    body = request_.body
    first = body.find(b"}}") + 2 if body[:1] == b"[" else len(body)  # of a list Segment signs it
    for position in range(0, first, 7):
        changed = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
        assert not taken(platform, request_._replace(body=changed), secret), position


# --- Through the gateway's door -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "secret", "sign"),
    [
        ("hubspot", SECRET, lambda: hubspot("v3", lean([hubspot_event(1)]))),
        ("generic", KEY, lambda: standard_webhook(standard())),
    ],
)
async def test_it_is_taken_at_the_door(
    platform: str, secret: str, sign: Callable[[], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.unit.gateway_kit.SECRET", secret)
    world = await world_of(definition(platform, platform=platform))
    body, headers = sign()
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    ask = f"POST /hooks/{platform} HTTP/1.1\r\nHost: h\r\n{head}Content-Length: {len(body)}\r\n\r\n"
    try:
        assert (await world.ask(ask.encode() + body))[0] == 200
        assert len(world.kafka.records) == 2
        changed = body.replace(b"1", b"2", 1)
        assert changed != body
        assert (await world.ask(ask.encode() + changed))[0] == 401
        assert len(world.kafka.records) == 2
    finally:
        await world.close()


def _changed(body: bytes, data: st.DataObject) -> bytes:
    position = data.draw(st.integers(0, len(body) - 1))
    return body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]

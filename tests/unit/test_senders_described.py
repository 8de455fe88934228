"""A platform whose webhooks are said in its description alone: no file of its own sends them."""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from connectors.registry import DESCRIPTIONS
from schemas.events import EventKind
from schemas.yamlfile import ConfigInvalid
from syncline.commands.connector import problems
from tests.unit.senders_kit import Lower
from webhook_gateway import senders
from webhook_gateway.senders import described
from webhook_gateway.senders.base import Event, Refused, Request, Unparseable
from webhook_gateway.senders.declared import NoOptions

NOW_MS = 1_795_000_000_123
WEBHOOK = """
webhook:
  about: Made up for this test.
  proof: {kind: signature, header: x-acme-proof, signed: "{url}{timestamp}.{body}",
          timestamp: x-acme-time}
  events:
    many: events
    kind: [what]
    kinds: {joined: subscribed, left: unsubscribed}
    objects: [{type: contact, id: who.id}]
    values: [who]
  body_bytes_max: 1000
"""
BODY = (
    b'{"events":[{"what":"joined","who":{"id":7,"email":"a@b.co"}},{"what":"danced","who":{}},3]}'
)
URL = "https://hooks.example.com/hooks/acme"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`acme` is described as Klaviyo's connector is, and sends."""
    text = (
        (DESCRIPTIONS / "klaviyo.yaml").read_text().replace("platform: klaviyo", "platform: acme")
    )
    (tmp_path / "acme.yaml").write_text(text + WEBHOOK)
    (tmp_path / "silent.yaml").write_text(text)
    monkeypatch.setattr(described, "_folder", lambda: tmp_path)
    described.described.cache_clear()
    yield tmp_path
    described.described.cache_clear()


def request(body: bytes = BODY, secret: str = "right") -> Request:
    stamp = str(NOW_MS // 1000)
    proof = hmac.new(secret.encode(), f"{URL}{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    headers = Lower({"X-Acme-Proof": proof, "X-Acme-Time": stamp})
    return Request("/hooks/acme", URL, "", headers, body, NOW_MS)


def test_it_is_a_sender_like_any_other(folder: Path) -> None:
    assert "acme" in senders.platforms()
    assert {"silent", "intercom"}.isdisjoint(senders.platforms())
    kind = senders.sender_type("acme")
    assert kind.spec.kept_headers == ("content-type", "user-agent", "x-acme-proof", "x-acme-time")
    assert (kind.spec.body_bytes_max, kind.spec.query_is_signed) == (1000, True)
    sender = kind(NoOptions(), [SecretStr("right")])
    sender.verify(request())
    for bad in (request(secret="wrong"), request()._replace(body=BODY.replace(b"7", b"8"))):
        with pytest.raises(Refused):
            sender.verify(bad)
    joined, danced, rest = sender.parse(request())
    assert isinstance(joined, Event)
    assert (joined.kind, joined.object_type, joined.object_id) == (
        EventKind.subscribed, "contact", "7",
    )  # fmt: skip
    assert isinstance(danced, Event)
    assert danced.kind is EventKind.other
    assert isinstance(rest, Unparseable)


def test_those_that_come_with_it_are_found() -> None:
    assert "intercom" in described.names()
    assert "intercom" in senders.platforms()
    assert senders.sender_type("intercom").spec.platform == "intercom"


def test_a_mistake_has_its_line(folder: Path, tmp_path: Path) -> None:
    path = folder / "acme.yaml"
    path.write_text(
        path.read_text().replace("kinds: {joined: subscribed", "kinds: {joined: subscrbed")
    )
    line = next(n for n, t in enumerate(path.read_text().splitlines(), 1) if "subscrbed" in t)
    with pytest.raises(ConfigInvalid) as caught:
        senders.sender_type("acme")
    assert caught.value.problems[0].startswith(f"{path}:{line}: webhook.events.kinds.joined: ")
    limits = tmp_path / "acme.json"
    limits.write_text(
        (DESCRIPTIONS.parents[1] / "ratelimits" / "registry" / "klaviyo.json")
        .read_text().replace('"klaviyo"', '"acme"', 1)
    )  # fmt: skip
    assert problems(path, limits) == list(caught.value.problems)

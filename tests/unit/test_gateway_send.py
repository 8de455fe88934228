"""`syncline send`: samples are what senders take, signed by code that knows no sender of ours."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.definitions import Connection, Webhook
from syncline import samples
from syncline.commands.send import prepared
from syncline.errors import Misused
from syncline.samples.sign import SIGNERS, Call
from tests.unit.senders_kit import Lower
from webhook_gateway.senders import platforms, sender_type
from webhook_gateway.senders.base import Event, Refused, Request, Sender, Unparseable

NOW_MS = 1_795_000_000_123
SECRET = "sixteen letters and more"
GATEWAY = "http://127.0.0.1:8080"
SENSELESS = {"hubspot/one-part-senseless": 1}
"""Parts that make no sense on purpose."""
ORGANIZATION = "00D5g000004abcDEAQ"
OPTIONS = {"salesforce": {"organization_id": "env:ORGANIZATION"}}
SHIPPED = [s for s in samples.samples() if s.platform in platforms() and s.platform in SIGNERS]


def call(
    sample: samples.Sample,
    monkeypatch: pytest.MonkeyPatch,
    secret: str = SECRET,
    seed: str = "a",
    **options: Any,
) -> Call:
    monkeypatch.setenv("TRIED", secret)
    monkeypatch.setenv("ORGANIZATION", ORGANIZATION)
    webhook = Webhook(secret="env:TRIED", options=OPTIONS.get(sample.platform, {}) | options)
    connection = Connection(connection="c", platform=sample.platform, account="33", webhook=webhook)
    return prepared(
        sample, "c", connection, "", GATEWAY, "https://hooks.example.com", seed, "", NOW_MS
    )


def request(made: Call) -> Request:
    target = made.url.removeprefix(GATEWAY)
    headers = Lower(made.headers)
    rest = target.removeprefix("/hooks/c").removeprefix("/")
    return Request(target, made.public_url, rest, headers, made.body, NOW_MS)


def sender_of(platform: str, **options: Any) -> Sender:
    kind = sender_type(platform)
    own = {"organization_id": ORGANIZATION} if platform == "salesforce" else {}
    return kind(kind.spec.options.model_validate(own | options), [SecretStr(SECRET)])


def test_every_sender_has_a_sample() -> None:
    assert {s.platform for s in SHIPPED} == set(platforms()) == set(SIGNERS)


@pytest.mark.parametrize(
    "proof",
    [
        {"kind": "signature", "header": "X-Proof"},
        {"kind": "signature", "header": "X-Proof", "hash": "sha512", "prefix": "sha512="},
        {"kind": "signature", "header": "X-Proof", "signed": "{method}{url}{timestamp}.{body}",
         "timestamp": "X-Time", "encoding": "base64"},
        {"kind": "signature", "header": "X-Proof", "signed": "{timestamp}.{body}",
         "timestamp": "t=", "prefix": "v1=", "separator": ","},
        {"kind": "shared_secret"},
        {"kind": "shared_secret", "header": "X-Key", "address": False},
    ],
)  # fmt: skip
def test_a_declared_proof(proof: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    sample = next(s for s in SHIPPED if s.platform == "generic")
    sender = sender_of("generic", proof=proof)
    sender.verify(request(call(sample, monkeypatch, proof=proof)))
    with pytest.raises(Refused):
        sender.verify(request(call(sample, monkeypatch, secret="another", proof=proof)))


@pytest.mark.parametrize("sample", SHIPPED, ids=str)
def test_a_sample_is_taken_and_makes_events(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = sender_of(sample.platform)
    asked = request(call(sample, monkeypatch))
    sender.verify(asked)
    parts = sender.parse(asked)
    senseless = [p for p in parts if isinstance(p, Unparseable)]
    events = [p for p in parts if isinstance(p, Event)]
    assert len(senseless) == SENSELESS.get(str(sample), 0), senseless
    assert events
    with pytest.raises(Refused):
        sender.verify(request(call(sample, monkeypatch, secret="another secret altogether")))


@pytest.mark.parametrize("sample", SHIPPED, ids=str)
def test_the_same_seed_is_the_same_body_and_another_is_not(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again, other = (call(sample, monkeypatch, seed=s) for s in "aab")
    assert first == again
    assert first.body != other.body
    assert b"$" not in first.body


def test_a_field_of_a_form_is_encoded() -> None:
    sample = samples.Sample("x", "y", "form", "data[a]=1 + $email\nb=")
    blanks = samples.values(NOW_MS, "a", email="ada@example.com")
    assert samples.filled(sample, blanks) == b"data%5Ba%5D=1+%2B+ada%40example.com&b="


def test_a_body_of_json_is_json() -> None:
    for sample in samples.samples():
        if sample.kind == "json":
            json.loads(samples.filled(sample, samples.values(NOW_MS, "a")))


def test_a_missing_secret_is_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(Misused, match="env:NOT_THERE"):
        prepared(SHIPPED[0], "c", None, "env:NOT_THERE", GATEWAY, "", "a", "", NOW_MS)

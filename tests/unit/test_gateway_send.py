"""`syncline send`: samples are what senders take, signed by code that knows no sender of ours."""

import json

import pytest
from pydantic import SecretStr

from schemas.definitions import Connection, Webhook
from syncline import samples
from syncline.commands.send import prepared
from syncline.errors import Misused
from syncline.samples.sign import SIGNERS, Call
from webhook_gateway.senders import platforms, sender_type
from webhook_gateway.senders.base import Event, Refused, Request, Unparseable

NOW_MS = 1_795_000_000_123
SECRET = "sixteen letters and more"
GATEWAY = "http://127.0.0.1:8080"
SENSELESS = {"hubspot/one-part-senseless": 1}
"""Parts that make no sense on purpose."""
SHIPPED = [s for s in samples.samples() if s.platform in platforms() and s.platform in SIGNERS]


def call(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch, secret: str = SECRET, seed: str = "a"
) -> Call:
    monkeypatch.setenv("TRIED", secret)
    connection = Connection(
        connection="c", platform=sample.platform, account="33", webhook=Webhook(secret="env:TRIED")
    )
    return prepared(
        sample, "c", connection, "", GATEWAY, "https://hooks.example.com", seed, "", NOW_MS
    )


def request(made: Call) -> Request:
    target = made.url.removeprefix(GATEWAY)
    headers = {name.lower(): value for name, value in made.headers.items()}
    rest = target.removeprefix("/hooks/c").removeprefix("/")
    return Request(target, made.public_url, rest, headers, made.body, NOW_MS)


@pytest.mark.parametrize("sample", SHIPPED, ids=str)
def test_a_sample_is_taken_and_makes_events(
    sample: samples.Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = sender_type(sample.platform)
    sender = kind(kind.spec.options(), [SecretStr(SECRET)])
    asked = request(call(sample, monkeypatch))
    sender.verify(asked)
    parts = sender.parse(asked)
    senseless = [p for p in parts if isinstance(p, Unparseable)]
    events = [p for p in parts if isinstance(p, Event)]
    assert len(senseless) == SENSELESS.get(str(sample), 0), senseless
    assert events
    assert all(e.time_certain or not e.thin for e in events)
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

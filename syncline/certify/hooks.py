"""The platform's webhooks: sample bodies, signed by code that knows no sender of ours."""

import time
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from syncline import samples
from syncline.certify.bench import Bench, NotHere
from syncline.certify.checks import check
from syncline.samples.sign import SIGNERS, Call, signed
from webhook_gateway.senders import platforms, sender_type
from webhook_gateway.senders.base import Event, Refused, Request, Sender

__all__ = ["Vector"]

GROUP = "webhooks"
GATEWAY, PUBLIC, PATH = "http://127.0.0.1:8080", "https://hooks.example.com", "/hooks/here"
RIGHT, WRONG = "sixteen letters and more", "sixteen letters and less"
OPTIONS: Mapping[str, Mapping[str, str]] = {"salesforce": {"organization_id": "00D5g000004abcDEAQ"}}


class Vector:
    """One sample as its platform sends it, and the sender of ours that takes it."""

    def __init__(self, sample: samples.Sample) -> None:
        self.sample, self.now_ms = sample, time.time_ns() // 1_000_000
        options = OPTIONS.get(sample.platform, {})
        kind = sender_type(sample.platform)
        self.sender: Sender = kind(kind.spec.options.model_validate(options), [SecretStr(RIGHT)])
        account = options.get("organization_id", "33")
        self.body = samples.filled(sample, samples.values(self.now_ms, "vector", account))

    def call(self, secret: str = RIGHT, body: bytes | None = None) -> Call:
        """Signed by the platform's recipe."""
        made = Call(
            GATEWAY + PATH,
            PUBLIC + PATH,
            self.body if body is None else body,
            {"Content-Type": self.sample.content_type},
        )
        return signed(
            self.sample.platform,
            made,
            secret,
            self.now_ms,
            OPTIONS.get(self.sample.platform, {}),
            secret_in_path=self.sender.spec.secret_in_path,
        )

    @property
    def signs_body(self) -> bool:
        """Whether the proof is of the body, or a secret that goes along with any."""
        return dict(self.call().headers) != dict(self.call(body=self.changed).headers)

    @property
    def changed(self) -> bytes:
        """The body with one digit changed: as well-formed as before."""
        spot = next(n for n, byte in enumerate(self.body) if byte in b"12345678")
        return self.body[:spot] + bytes([self.body[spot] ^ 1]) + self.body[spot + 1 :]

    def request(self, call: Call, body: bytes | None = None) -> Request:
        """As the gateway hands it on."""
        target = call.url.removeprefix(GATEWAY)
        rest = target.removeprefix(PATH).removeprefix("/")
        headers = {name.lower(): value for name, value in call.headers.items()}
        return Request(target, call.public_url, rest, _Any(headers), body or call.body, self.now_ms)

    def refuses(self, request: Request) -> bool:
        try:
            self.sender.verify(request)
        except Refused as refused:
            return refused.status == 401
        return False


class _Any(dict[str, str]):
    """Header names in any case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())


def _vectors(platform: str) -> list[Vector]:
    if platform not in platforms():
        raise NotHere("it sends none")
    found = [Vector(s) for s in samples.samples() if s.platform == platform]
    assert found, f"no sample in syncline/samples/{platform}/"
    assert platform in SIGNERS, "no recipe in syncline/samples/sign.py"
    return found


@check(GROUP, "proved as the platform does it: taken; with another secret, or none: refused")
async def a_webhook_with_its_proof_is_taken_and_no_other(bench: Bench) -> None:
    for vector in _vectors(bench.name):
        vector.sender.verify(vector.request(vector.call()))
        assert vector.refuses(vector.request(vector.call(WRONG))), str(vector.sample)
        bare = Call(GATEWAY + PATH, PUBLIC + PATH, vector.body)
        assert vector.refuses(vector.request(bare)), str(vector.sample)


@check(GROUP, "a changed byte breaks the signature")
async def a_changed_byte_breaks_the_signature(bench: Bench) -> None:
    vectors = _vectors(bench.name)
    if not any(vector.signs_body for vector in vectors):
        raise NotHere("it signs no bodies: a secret goes along")
    for vector in vectors:
        assert vector.refuses(vector.request(vector.call(), vector.changed)), str(vector.sample)


@check(GROUP, "each sample becomes events with kind and object; a repeat has the same identity")
async def samples_become_events(bench: Bench) -> None:
    for vector in _vectors(bench.name):
        request = vector.request(vector.call())
        events = [part for part in vector.sender.parse(request) if isinstance(part, Event)]
        assert events, str(vector.sample)
        for event in events:
            assert event.object_type, str(vector.sample)
            assert event.platform_kind, str(vector.sample)
        again = [part for part in vector.sender.parse(request) if isinstance(part, Event)]
        named = [(e.identity, e.content) for e in events]
        assert named == [(e.identity, e.content) for e in again], str(vector.sample)
        assert len(set(named)) == len(named), str(vector.sample)

"""Each sender over a real socket: what it is answered, and what is written for it."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from tests.unit.gateway_kit import BOUNDS, SECRET, World, definition, world_of
from tests.unit.senders_kit import CASES, HOST, NOW_MS, SESSION, Case, Proof, mandrill, soap
from webhook_gateway import hooks

ROOM = dataclasses.replace(BOUNDS, bytes_max=10_000_000)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:

    monkeypatch.setattr(hooks.time, "time_ns", lambda: NOW_MS * 1_000_000)
    made = await world_of(
        *(
            definition(name, platform=name, account="33", webhook={"options": dict(case.options)})
            for name, case in CASES.items()
        ),
        bounds=ROOM,
    )
    yield made
    await made.close()


def post(case: Case, body: bytes, secret: str = SECRET) -> bytes:
    """As the platform sends it."""
    path = f"/hooks/{case.platform}"
    proof: Proof = case.sign(body, secret, HOST + path)
    path += f"/{proof.rest}" if proof.rest else ""
    headers = "".join(f"{name}: {value}\r\n" for name, value in proof.headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_genuine_request_is_written_and_answered_as_its_platform_wants(
    world: World, case: Case
) -> None:
    count = case.counts[-1]
    status, answer = await world.ask(post(case, case.body(count)))
    assert status == 200
    assert (b"<Ack>true</Ack>" in answer) == (case.platform == "salesforce")
    topics = [record.topic for record in world.kafka.records]
    assert topics == [f"intake.{case.platform}"] + [f"events.{case.platform}"] * count
    path = dict(world.kafka.records[0].headers)["path"]
    assert path in (f"/hooks/{case.platform}".encode(), f"/hooks/{case.platform}/".encode())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_forged_one_is_refused_and_its_live_login_is_kept_nowhere(
    world: World, case: Case
) -> None:
    status, answer = await world.ask(post(case, case.body(1), "forged-secret"))
    assert status == 401
    assert answer.endswith(b"\r\n\r\n")  # a stranger is told nothing
    assert world.kafka.records == []
    (kept,) = world.kafka.offered
    assert kept.topic == "quarantine"
    written = kept.value + repr(kept.headers).encode()
    assert SESSION.encode() not in written
    if case.platform not in ("hubspot", "mandrill", "segment", "klaviyo", "generic"):
        assert b"forged-secret" not in written


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_check_of_the_address_is_answered_and_publishes_nothing(
    world: World, case: Case, method: str
) -> None:
    request = f"{method} /hooks/{case.platform}/{SECRET} HTTP/1.1\r\nHost: h\r\n\r\n"
    status, _ = await world.ask(request.encode())
    assert status == 200
    assert not world.kafka.records
    assert not world.kafka.offered


async def test_mandrills_check_with_a_key_that_all_know_is_kept_nowhere(world: World) -> None:
    case = CASES["mandrill"]
    assert (await world.ask(post(case, mandrill(), "test-webhook")))[0] == 200
    assert not world.kafka.records
    assert not world.kafka.offered


async def test_salesforces_live_login_is_on_no_topic(world: World) -> None:
    case = CASES["salesforce"]
    for body in (case.body(3), soap(), soap()[:-30], b"<SessionId>" + SESSION.encode()):
        await world.ask(post(case, body))
    written = [*world.kafka.records, *world.kafka.offered]
    assert len(written) >= 7
    for record in written:
        assert SESSION.encode() not in record.value

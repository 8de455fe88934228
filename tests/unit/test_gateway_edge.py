"""The HTTP edge over real sockets: bounds, odd clients, answers. Kafka alone is played here."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.unit.gateway_kit import (
    BODY,
    BOUNDS,
    World,
    answer_of,
    definition,
    post,
    until,
    world_of,
)
from webhook_gateway.config import Bounds


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = await world_of(definition("hub"))
    yield made
    await made.close()


async def test_a_good_request_is_answered_once_it_is_kept(world: World) -> None:
    world.kafka.held = True
    asking = asyncio.create_task(world.ask(post()))
    await until(lambda: world.kafka.waiting)
    assert not asking.done()
    assert [r.topic for r in world.kafka.records] == ["intake.hubspot", "events.hubspot"]
    assert world.hooks.held.bytes == len(BODY)
    world.kafka.confirm()
    status, answer = await asking
    assert (status, answer) == (200, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert (world.stats.accepted, world.stats.events, world.stats.in_hand) == (1, 1, 0)
    assert world.hooks.held.bytes == world.stats.bytes_in_hand == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/hooks/hub", "/hooks/nobody", "/healthz", "/readyz"])
async def test_checks_of_the_address_are_good_and_publish_nothing(
    world: World, method: str, path: str
) -> None:
    _, answer = await world.ask(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    reader, writer = await world.connect()
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
    whole = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert whole.startswith(b"HTTP/1.1 200 ")
    assert whole.partition(b"\r\n\r\n")[2] == (
        b"" if method == "HEAD" else answer.partition(b"\r\n\r\n")[2]
    )
    assert world.kafka.records == []


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        (b"PUT /hooks/hub HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 405),
        (b"POST /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 404),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 400),
        (b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\n\r\n", 400),
        (
            b"POST /hooks/hub HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
            400,
        ),
        (post(Content_Encoding="gzip"), 415),
    ],
)
async def test_what_is_not_taken(world: World, request_: bytes, status: int) -> None:
    got, answer = await world.ask(request_)
    assert got == status
    assert b"Python" not in answer
    assert b"aiohttp" not in answer
    assert world.kafka.records == []


async def test_a_stranger_cannot_tell_a_wrong_secret_from_a_wrong_name(world: World) -> None:
    wrong = await world.ask(post(secret="other"))
    nobody = await world.ask(post(path="/hooks/nobody"))
    inside = await world.ask(post(path="/hooks/hub/more"))
    assert (
        wrong
        == nobody
        == inside
        == (401, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    )
    assert world.stats.refused == {(401, "signature wrong"): 1}
    (kept,) = world.kafka.offered
    assert (kept.topic, kept.key, kept.value) == ("quarantine", "hub", BODY)
    assert world.kafka.records == []


async def test_a_flood_of_forgeries_fills_no_quarantine(world: World) -> None:
    world.hooks.bounds = Bounds(quarantine_bytes_s=1, quarantine_burst_bytes=5000)
    for _ in range(20):
        assert (await world.ask(post(secret="other")))[0] == 401
    assert len(world.kafka.offered) == 4  # 5,000 bytes at 68 of body and 1,024 of everything else


@pytest.mark.parametrize("reason", ["kafka away", "kafka stalled", "queue full"])
async def test_without_kafka_the_answer_is_503_at_once(world: World, reason: str) -> None:
    world.kafka.refuses = reason
    status, answer = await world.ask(post())
    assert (await world.ask(post(path="/hooks/nobody")))[1] == answer
    assert status == 503
    assert b"Retry-After: 2\r\n" in answer
    assert (await world.ask(b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n"))[0] == 503
    assert (await world.ask(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"))[0] == 200
    world.kafka.refuses = ""
    assert (await world.ask(post()))[0] == 200


async def test_what_kafka_did_not_confirm_is_never_2xx(world: World) -> None:
    world.kafka.error = "kafka slow"
    assert (await world.ask(post()))[0] == 503
    assert world.stats.refused == {(503, "kafka slow"): 1}
    assert world.stats.accepted == 0


async def test_a_fault_in_a_sender_parks_the_body_and_sends_nobody_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError(BODY)

    monkeypatch.setattr("webhook_gateway.senders.hubspot.Sender.parse", fail)
    assert (await world.ask(post()))[0] == 200
    assert [r.topic for r in world.kafka.records] == ["intake.hubspot", "parked"]
    assert (world.stats.events, world.stats.parked) == (0, 1)


async def test_before_anything_is_read_from_kafka(world: World) -> None:
    world.hooks.routes = None
    assert (await world.ask(post()))[0] == 503
    assert (await world.ask(post(path="/hooks/nobody")))[0] == 503


async def test_too_large_is_said_before_it_is_read(world: World) -> None:
    head = post(b"", Content_Length=str(9 * 1024 * 1024))
    assert (await world.ask(head, until_closed=True))[0] == 413
    status, answer = await world.ask(post(b"", Content_Length=str(60_000)), until_closed=True)
    assert status == 503  # over this connection's half of all bytes
    assert b"Retry-After" in answer


async def test_chunks_are_counted_as_they_come(world: World) -> None:
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (BODY[:10], BODY[10:])) + b"0\r\n\r\n"
    head = post(BODY, Transfer_Encoding="chunked").removesuffix(BODY)
    assert (await world.ask(head + chunked))[0] == 200
    endless = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    assert (await world.ask(head + endless, until_closed=True))[0] == 503
    assert world.hooks.held.bytes == 0
    assert (await world.ask(head + b"zz\r\n", until_closed=True))[0] == 400


async def test_a_client_may_ask_before_it_sends(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(post(Expect="100-continue").removesuffix(BODY))
    assert (
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    )
    writer.write(BODY)
    assert (await asyncio.wait_for(answer_of(reader), 5)).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(
        post() + post(secret="other") + b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n" + post()
    )
    answers = [await asyncio.wait_for(answer_of(reader), 5) for _ in range(4)]
    assert [int(a.split()[1]) for a in answers] == [200, 401, 200, 200]
    writer.close()


async def test_one_connection_cannot_take_all_hands(world: World) -> None:
    world.kafka.held = True
    asking = [asyncio.create_task(world.ask(post())) for _ in range(BOUNDS.requests_max)]
    await until(lambda: len(world.kafka.waiting) == BOUNDS.requests_max)
    assert (await world.ask(post()))[0] == 503
    assert world.stats.refused == {(503, "too many requests in hand"): 1}
    world.kafka.confirm()
    assert [(await a)[0] for a in asking] == [200] * BOUNDS.requests_max


async def test_headers_that_drip_are_cut_off_and_nobody_else_is(world: World) -> None:
    reader, writer = await world.connect()

    async def drip() -> None:
        for byte in post():
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)

    async def cut() -> bytes:
        try:
            return await reader.read()
        except ConnectionResetError:  # it dripped on after we had hung up
            return b""

    dripping = asyncio.create_task(drip())
    cutting = asyncio.create_task(cut())
    assert (await world.ask(post()))[0] == 200
    assert await asyncio.wait_for(cutting, 5) == b""
    dripping.cancel()
    writer.close()


async def test_a_body_that_never_comes_is_408(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook_gateway.held.READ_S_MAX", 0.3)
    status, _ = await world.ask(post(BODY, Content_Length="500"), until_closed=True)
    assert status == 408
    assert world.hooks.held.bytes == 0


async def test_a_client_that_goes_in_mid_body_costs_nothing(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(post(BODY, Content_Length="500"))
    await until(lambda: world.hooks.held.bytes)
    writer.close()
    await until(lambda: not world.hooks.held.bytes)
    assert world.stats.in_hand == 0
    assert await reader.read() == b""


async def test_what_was_published_counts_though_the_client_is_gone(world: World) -> None:
    world.kafka.held = True
    _, writer = await world.connect()
    writer.write(post())
    await until(lambda: world.kafka.waiting)
    writer.transport.abort()
    world.kafka.confirm()
    await until(lambda: world.stats.accepted == 1)


async def test_quiet_peers_make_room_for_new_ones(world: World) -> None:
    idle = [await world.connect() for _ in range(BOUNDS.peers_max)]
    await until(lambda: len(world.edge.connections) == BOUNDS.peers_max)
    assert (await world.ask(post()))[0] == 200
    assert await asyncio.wait_for(idle[0][0].read(), 5) == b""  # the quietest went
    for _, writer in idle:
        writer.close()


async def test_idle_peers_are_let_go(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(post())
    await answer_of(reader)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_draining_ends_what_is_under_way_and_takes_no_more(world: World) -> None:
    idle, idle_writer = await world.connect()
    half, half_writer = await world.connect()
    half_writer.write(post()[:40])  # headers have begun
    world.kafka.held = True
    asking = asyncio.create_task(world.ask(post(), until_closed=True))
    await until(lambda: world.kafka.waiting)
    world.server.close()
    draining = asyncio.create_task(world.edge.drain(5))
    assert await asyncio.wait_for(idle.read(), 5) == b""
    assert world.hooks.not_ready() == "stopping"
    half_writer.write(post()[40:])
    await until(lambda: len(world.kafka.waiting) == 2)
    assert not draining.done()
    world.kafka.confirm()
    status, answer = await asking
    assert status == 200
    assert b"Connection: close" in answer
    assert (await answer_of(half)).startswith(b"HTTP/1.1 200 ")
    assert await draining is True
    for writer in (idle_writer, half_writer):
        writer.close()


async def test_draining_has_an_end(world: World) -> None:
    world.kafka.held = True
    reader, writer = await world.connect()
    writer.write(post())
    await until(lambda: world.kafka.waiting)
    world.server.close()
    assert await world.edge.drain(0.1) is False
    assert await reader.read() == b""
    writer.close()

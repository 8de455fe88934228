"""Bounds of one connection, and what one may take from the others: nothing. Over real sockets."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from schemas.codec import Codec
from tests.unit.gateway_kit import BODY, BOUNDS, World, definition, post, until, world_of
from webhook_gateway import held as held_module
from webhook_gateway.config import Bounds, Tls
from webhook_gateway.guard import Networks
from webhook_gateway.held import Held, InHand
from webhook_gateway.routes import Routes
from webhook_gateway.seen import Seen
from webhook_gateway.senders.base import Refused
from webhook_gateway.stats import Bucket, Stats, exposition


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = await world_of(definition("hub"), definition("quiet", account="44"))
    yield made
    await made.close()


def bounded(world: World, **webhook: Any) -> None:
    assert world.hooks.routes is not None
    assert not world.hooks.routes.load([definition("hub", webhook=webhook), definition("quiet")])


async def test_a_lower_bound_for_bodies(world: World) -> None:
    bounded(world, bounds={"body_bytes_max": len(BODY) - 1})
    assert (await world.ask(post()))[0] == 413
    chunked = post(Transfer_Encoding="chunked").removesuffix(BODY)
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    assert (await world.ask(chunked))[0] == 413
    assert (await world.ask(post(path="/hooks/quiet")))[0] == 200


async def test_a_rate_counts_genuine_requests_alone(world: World) -> None:
    bounded(world, bounds={"requests_s": 0.001, "burst": 2})
    for _ in range(5):
        assert (await world.ask(post(secret="other")))[0] == 401
    statuses = [(await world.ask(post()))[0] for _ in range(3)]
    assert statuses == [200, 200, 503]
    assert (await world.ask(post(path="/hooks/quiet")))[0] == 200
    assert world.stats.refused[503, "over its rate"] == 1


async def test_a_reload_forgets_no_rate(world: World) -> None:
    for expected in (200, 503):
        bounded(world, bounds={"requests_s": 0.001, "burst": 1})
        assert (await world.ask(post()))[0] == expected


async def test_fewer_hands_for_one(world: World) -> None:
    bounded(world, bounds={"in_hand_max": 1})
    world.kafka.held = True
    asking = asyncio.create_task(world.ask(post()))
    await until(lambda: world.kafka.waiting)
    assert (await world.ask(post()))[0] == 503
    other = asyncio.create_task(world.ask(post(path="/hooks/quiet")))
    await until(lambda: len(world.kafka.waiting) == 2)
    world.kafka.confirm()
    assert (await asking)[0] == (await other)[0] == 200


async def test_messages_of_one_connection_leave_room_for_others(world: World) -> None:
    world.kafka.room = 5  # two records a request
    world.kafka.held = True
    asking = asyncio.create_task(world.ask(post()))
    await until(lambda: world.kafka.waiting)
    world.kafka.room = 3
    assert (await world.ask(post()))[0] == 503
    assert world.stats.refused == {(503, "too many messages in hand"): 1}
    world.kafka.room = 4
    other = asyncio.create_task(world.ask(post(path="/hooks/quiet")))
    await until(lambda: len(world.kafka.waiting) == 2)
    world.kafka.confirm()
    assert (await asking)[0] == (await other)[0] == 200
    assert world.stats.messages_in_hand == 0


async def test_bodies_that_never_end_make_room_for_one_that_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger holds all the bytes there are with bodies that he does not end."""
    monkeypatch.setattr(held_module, "READER_S_MIN", 0.0)
    begun = [await world.connect() for _ in range(8)]
    for number, (_, writer) in enumerate(begun):
        writer.write(post(BODY, Content_Length="20000").removesuffix(BODY) + b"x" * 6_000)
        wanted = min(number + 1, 4)
        await until(lambda wanted=wanted: world.hooks.held.bytes >= wanted * 6_000)
    large = b"[" + BODY[1:-1] + b" " * 20_000 + b"]"
    assert (await world.ask(post(large)))[0] == 200
    assert await asyncio.wait_for(begun[0][0].read(), 5) == b""  # who was at it longest went
    assert (await world.ask(post(path="/hooks/quiet")))[0] == 200
    for _, writer in begun:
        writer.close()
    await until(lambda: not world.hooks.held.bytes)
    assert world.stats.bytes_in_hand == 0


async def test_peers_in_mid_body_make_room_and_those_that_wait_for_kafka_do_not(
    world: World,
) -> None:
    world.kafka.held = True
    asking = asyncio.create_task(world.ask(post()))
    await until(lambda: world.kafka.waiting)
    begun = [await world.connect() for _ in range(BOUNDS.peers_max - 1)]
    for _, writer in begun:
        writer.write(post(BODY, Content_Length="500"))
    await until(lambda: len(world.edge.connections) == BOUNDS.peers_max)
    await until(lambda: world.hooks.held.bytes == len(BODY) * BOUNDS.peers_max)
    second = asyncio.create_task(world.ask(post(path="/hooks/quiet")))
    await until(lambda: len(world.kafka.waiting) == 2)
    world.kafka.confirm()
    assert (await asking)[0] == (await second)[0] == 200
    for _, writer in begun:
        writer.close()


async def test_where_all_wait_for_kafka_one_more_is_not_let_in() -> None:
    world = await world_of(definition("hub"), bounds=Bounds(peers_max=2))
    try:
        world.kafka.held = True
        asking = [asyncio.create_task(world.ask(post())) for _ in range(2)]
        await until(lambda: len(world.kafka.waiting) == 2)
        reader, writer = await world.connect()
        writer.write(post())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
        world.kafka.confirm()
        assert [(await a)[0] for a in asking] == [200, 200]
    finally:
        await world.close()


async def test_a_peer_that_sends_and_never_reads_is_let_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pipelined requests without end: neither they nor their answers pile up here."""
    monkeypatch.setattr("webhook_gateway.edge.UNREAD_S", 0.3)
    world.server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", world.port))
        client.setblocking(False)
        loop = asyncio.get_running_loop()

        async def flood() -> None:
            while True:
                await loop.sock_sendall(client, b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n" * 100)

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(flood(), 30)
    assert (await world.ask(post()))[0] == 200


async def test_who_hangs_up_at_once_does_not_slip_past_the_guard(world: World) -> None:
    """Its request is whole, and handled after the connection is gone."""
    bounded(world, allow_from=["192.0.2.0/24"])
    told = asyncio.get_running_loop().create_future()
    handle = world.edge._inner

    async def once_gone(request: Any) -> Any:
        await until(lambda: request.transport is None)
        answer = await handle(request)
        told.set_result(answer.status)
        return answer

    world.edge._inner = once_gone
    _, writer = await world.connect()
    writer.write(post())
    await writer.drain()
    writer.close()
    assert await asyncio.wait_for(told, 5) == 401
    assert world.kafka.records == []


async def test_the_same_request_again_is_taken_told_and_marked(world: World) -> None:
    for _ in range(2):
        assert (await world.ask(post()))[0] == 200
    other = BODY.replace(b":1", b":2")
    assert (await world.ask(post(other)))[0] == 200
    assert (world.stats.accepted, world.stats.repeated) == (3, 1)
    raw = [r for r in world.kafka.records if r.topic == "intake.hubspot"]
    assert [dict(r.headers).get("repeat") for r in raw] == [None, "1", None]
    ids = [dict(r.headers)["ce_id"] for r in world.kafka.records if r.topic == "events.hubspot"]
    assert ids[0] == ids[1] != ids[2]


async def test_what_kafka_did_not_take_is_no_repeat(world: World) -> None:
    world.kafka.error = "kafka slow"
    assert (await world.ask(post()))[0] == 503
    world.kafka.error = ""
    assert (await world.ask(post()))[0] == 200
    assert world.stats.repeated == 0


async def test_addresses_that_may_not_send(world: World) -> None:
    bounded(world, allow_from=["192.0.2.0/24"])
    stranger = await world.ask(post(path="/hooks/nobody"))
    assert await world.ask(post()) == stranger
    assert await world.ask(post(X_Forwarded_For="192.0.2.7")) == stranger  # who says so?
    assert world.kafka.offered == []  # not even kept apart
    world.hooks.proxies = Networks(["127.0.0.0/8"])
    assert (await world.ask(post(X_Forwarded_For="203.0.113.1, 192.0.2.7")))[0] == 200
    assert await world.ask(post(X_Forwarded_For="192.0.2.7, 203.0.113.1")) == stranger
    assert world.stats.refused == {(401, "address not allowed"): 3}
    assert world.hooks.strangers == 1


# --- TLS ----------------------------------------------------------------------------------------


def certified(folder: Path, name: str, signer: Any = None) -> tuple[Any, Any]:
    """Writes name.pem and name.key; -> (certificate, key). Without a signer it is an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, with_key = (signer[0].subject, signer[1]) if signer else (subject, key)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(with_key.public_key()),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True, key_cert_sign=signer is None, crl_sign=signer is None,
                content_commitment=False, key_encipherment=False, data_encipherment=False,
                key_agreement=False, encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
        .sign(with_key, hashes.SHA256())
    )  # fmt: skip
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made, key


async def test_mutual_tls(tmp_path: Path) -> None:
    """One connection asks for a certificate in a name, another for none."""
    authority = certified(tmp_path, "authority")
    for name in ("gateway", "sender.example.com", "other.example.com"):
        certified(tmp_path, name, authority)
    certified(tmp_path, "stranger")
    tls = Tls(tmp_path / "gateway.pem", tmp_path / "gateway.key", tmp_path / "authority.pem")
    world = await world_of(
        definition("hub", webhook={"client_names": ["sender.example.com"]}),
        definition("quiet"),
        secure=tls.context(),
    )

    def client(name: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
        if name:
            context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        return context

    try:
        stranger = await world.ask(post(path="/hooks/nobody"), secure=client(""))
        assert (await world.ask(post(), secure=client("sender.example.com")))[0] == 200
        assert await world.ask(post(), secure=client("other.example.com")) == stranger
        assert await world.ask(post(), secure=client("")) == stranger
        assert (await world.ask(post(path="/hooks/quiet"), secure=client("")))[0] == 200
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await world.ask(post(), secure=client("stranger"))
        assert world.stats.refused == {(401, "client certificate"): 2}
    finally:
        await world.close()


def test_a_certificate_that_nobody_can_show_is_a_mistake() -> None:
    routes = Routes(Codec.offline(), lambda _: SecretStr("x"), certificates=False)
    (wrong,) = routes.load([definition("hub", webhook={"client_names": ["a"]})])
    assert "webhook.client_names needs a gateway with --tls-client-ca" in str(wrong)


# --- pure ---------------------------------------------------------------------------------------


@given(
    shares=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 400)), min_size=1, max_size=60)
)
def test_no_connections_together_take_all_bytes(shares: list[tuple[str, int]]) -> None:
    """Three that take whatever they get leave room for a fourth."""
    held = Held(1000)
    stats = {name: Stats() for name in "abcd"}
    for name, count in shares:
        try:
            InHand(held, stats[name], 9, lambda: None).add(count)
        except Refused:
            continue
        assert held.bytes == sum(s.bytes_in_hand for s in stats.values())
    assert held.fits(stats["d"], (1000 - held.bytes) // 2)
    assert held.bytes <= 875  # 1/2, 1/4 and 1/8, at worst


def test_a_bucket_runs_out_at_its_rate() -> None:
    bucket = Bucket()
    assert [bucket.spend(1, 10.0, 2, 3) for _ in range(4)] == [True, True, True, False]
    assert bucket.spend(1, 10.4, 2, 3) is False
    assert bucket.spend(1, 10.6, 2, 3) is True
    assert [bucket.spend(1, 99.0, 2, 3) for _ in range(4)] == [True, True, True, False]


def test_requests_seen_are_remembered_up_to_a_bound() -> None:
    seen = Seen(seen_max=3)
    names = [seen.name("hub", "/", [], b"%d" % n) for n in range(5)]
    for name in names:
        seen.add(name)
    assert [n in seen for n in names] == [False, False, True, True, True]
    seen.add(names[2])  # again: the newest now
    seen.add(names[0])
    assert names[2] in seen
    assert names[3] not in seen


def test_what_names_a_request() -> None:
    seen = Seen()
    long = b"x" * 1000
    named = {
        seen.name(*what)
        for what in (
            ("hub", "/", [], long), ("hub", "/", [], long + b"y"), ("other", "/", [], long),
            ("hub", "/?a", [], long), ("hub", "/", ["s"], long), ("hub", "/", ["t"], long),
            ("hub", "/", ["s"], long[:-1] + b"y"), ("hub", "/", [None, "s"], long),
        )
    }  # fmt: skip
    assert len(named) == 8


def test_metrics_tell_all_of_a_connection() -> None:
    stats = Stats()
    stats.confirmed(600, 3, 1, 0.004)
    stats.refuse(401, "signature wrong")
    stats.repeated += 1
    page = exposition({"hub": stats}, {"ready": 1.0}, 7).decode()
    for line in (
        'syncline_gateway_accepted_requests_total{connection="hub"} 1.0',
        'syncline_gateway_events_total{connection="hub"} 3.0',
        'syncline_gateway_parked_parts_total{connection="hub"} 1.0',
        'syncline_gateway_body_bytes_total{connection="hub"} 600.0',
        'syncline_gateway_repeated_requests_total{connection="hub"} 1.0',
        'syncline_gateway_confirm_seconds_bucket{connection="hub",le="0.005"} 1.0',
        "syncline_gateway_unknown_requests_total 7.0",
        "syncline_gateway_ready 1.0",
    ):
        assert line in page.splitlines()
    assert 'reason="signature wrong",status="401"' in page

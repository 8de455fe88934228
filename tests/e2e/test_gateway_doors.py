"""What clients may do to the gateway's process, on real Kafka: drip, fall silent, pipeline, send
too much or too often, come from elsewhere or without a certificate. None costs another anything."""

import asyncio
import json
import socket
import ssl
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.gateway_world import (  # noqa: F401 - fixtures are found where they are imported
    WAIT_S,
    Gateway,
    Kafka,
    Start,
    event,
    kafka_fixture,
    post,
    send,
    signed,
    start_fixture,
    until,
)
from tests.unit.test_gateway_bounds import certified

HEAD_S = 10.0  # webhook_gateway.config.Bounds.head_s
BODY_S = 5.0  # HubSpot's own deadline
SLACK_S = 10.0
"""Of a machine that does other things as well."""


@pytest.fixture
def gateway(kafka: Kafka, start: Start) -> Gateway:
    return start(kafka).await_ready()


@contextmanager
def defined(kafka: Kafka, gateway: Gateway, **webhook: Any) -> Iterator[str]:
    """A connection that the running gateway has taken up."""
    name = f"door-{uuid.uuid4().hex[:8]}"
    kafka.define(name, webhook={"secret": "env:GATEWAY_SECRET"} | webhook)
    connections = f"http://127.0.0.1:{gateway.admin_port}/connections"
    try:
        until(lambda: name in httpx.get(connections, timeout=5).text, "it is served")
        yield name
    finally:
        kafka.retire(name)


def raw(
    name: str, *events: Any, secret: str = "", length: int | None = None, **headers: str
) -> bytes:
    """A request as it goes over the wire."""
    body = json.dumps(events).encode()
    proof = signed(body, secret) if secret else signed(body)
    lines = [f"POST /hooks/{name} HTTP/1.1", "Host: h", *(f"{n}: {v}" for n, v in proof.items())]
    lines += [f"{header.replace('_', '-')}: {value}" for header, value in headers.items()]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def answers(client: socket.socket, count: int) -> list[int]:
    """Statuses of so many answers, in the order in which they come."""
    client.settimeout(WAIT_S)
    data = b""
    while data.count(b"HTTP/1.1 ") < count or not data.endswith(b"\r\n\r\n"):
        more = client.recv(65_536)
        assert more, data
        data += more
    return [int(piece[:3]) for piece in data.split(b"HTTP/1.1 ")[1:]]


def whole(gateway: Gateway, data: bytes) -> tuple[int, bytes]:
    """-> (status, the answer, byte for byte) to a request that comes in one piece."""
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.settimeout(WAIT_S)
        client.sendall(data)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            more = client.recv(65_536)
            assert more, answer
            answer += more
    return int(answer.split()[1]), answer


def closed_after(client: socket.socket, began_s: float) -> tuple[float, bytes]:
    """-> (when the other side has hung up, what it said before)."""
    client.settimeout(HEAD_S + SLACK_S)
    data = b""
    try:
        while more := client.recv(65_536):
            data += more
    except ConnectionError:
        pass
    return time.monotonic() - began_s, data


def drip(client: socket.socket, data: bytes, stop: threading.Event) -> None:
    for byte in data:
        try:
            client.sendall(bytes([byte]))
        except OSError:
            return  # hung up on
        if stop.wait(0.2):
            return


def test_who_drips_or_falls_silent_is_let_go_and_the_others_are_served(
    kafka: Kafka, gateway: Gateway
) -> None:
    """Headers a byte at a time, headers that stop, a body that stops: each has its time, and no
    request of anybody else waits for them."""
    with defined(kafka, gateway) as name, ExitStack() as ends:
        stop = threading.Event()
        ends.callback(stop.set)
        connect = ("127.0.0.1", gateway.port)
        slow = [ends.enter_context(socket.create_connection(connect)) for _ in range(60)]
        began_s = time.monotonic()
        for number, client in enumerate(slow):
            match number % 3:
                case 0:
                    data = raw(name, event(1)) + b"x" * 1_000
                    threading.Thread(target=drip, args=(client, data, stop), daemon=True).start()
                case 1:
                    client.sendall(raw(name, event(1))[:40])
                case _:
                    client.sendall(raw(name, event(1), length=1_000))
        senders = send(gateway, name)
        ended = [closed_after(client, began_s) for client in slow]
        senders.end()
        assert set(senders.statuses()) == {200}
        assert max(s.slowest_s for s in senders.all) < BODY_S
        for number, (after_s, said) in enumerate(ended):
            if number % 3 == 2:
                assert said.startswith(b"HTTP/1.1 408 ")
                assert BODY_S - 1 < after_s < BODY_S + SLACK_S
            else:
                assert said == b""
                assert HEAD_S - 1 < after_s < HEAD_S + SLACK_S
        until(lambda: gateway.metric("syncline_gateway_bytes_in_hand") == 0, "nothing is held")
        assert gateway.metric("syncline_gateway_in_hand", connection=name) == 0


def test_pipelined_requests_are_answered_each_and_in_order(kafka: Kafka, gateway: Gateway) -> None:
    with (
        defined(kafka, gateway) as name,
        socket.create_connection(("127.0.0.1", gateway.port)) as client,
    ):
        data = b"".join(raw(name, event(n), secret="wrong" * (n % 3 == 1)) for n in range(30))
        client.sendall(data)
        assert answers(client, 30) == [401 if n % 3 == 1 else 200 for n in range(30)]
        keys = [m.key().decode() for m in kafka.messages("events.hubspot", name)]
        good = [n for n in range(30) if n % 3 != 1]
        assert sorted(keys) == sorted(f"{name}:contact:{n}" for n in good)


def test_a_body_over_its_bound_is_refused_unread(kafka: Kafka, gateway: Gateway) -> None:
    """By what it says of itself, and by what comes, where it says nothing."""
    bounds = {"body_bytes_max": 2_000}
    with defined(kafka, gateway, bounds=bounds) as name, defined(kafka, gateway) as other:
        large = [event(n) for n in range(20)]
        with socket.create_connection(("127.0.0.1", gateway.port)) as client:
            client.sendall(raw(name, length=3_000))  # and nothing of it comes
            assert answers(client, 1) == [413]
        body = json.dumps(large).encode()

        def pieces() -> Iterator[bytes]:
            yield from (body[n : n + 500] for n in range(0, len(body), 500))

        url = f"{gateway.url}/hooks/{name}"
        answer = httpx.post(url, content=pieces(), headers=signed(body), timeout=WAIT_S)
        assert answer.status_code == 413
        assert post(gateway, name, event(1)).status_code == 200
        assert post(gateway, other, *large).status_code == 200
        refused = gateway.metric(
            "syncline_gateway_refused_requests_total", connection=name, status="413"
        )
        assert refused == 2


def test_requests_over_a_rate_are_sent_away_for_a_while(kafka: Kafka, gateway: Gateway) -> None:
    bounds = {"requests_s": 0.001, "burst": 3}
    with defined(kafka, gateway, bounds=bounds) as name, defined(kafka, gateway) as other:
        statuses = [post(gateway, name, event(n)).status_code for n in range(5)]
        assert statuses == [200, 200, 200, 503, 503]
        assert post(gateway, name, event(9)).headers["Retry-After"] == "2"
        assert post(gateway, other, event(1)).status_code == 200


def test_one_that_waits_for_kafka_takes_no_hand_of_another(kafka: Kafka, gateway: Gateway) -> None:
    """Twelve at once where four may wait: eight are sent away at once, four are answered when
    Kafka goes on; and so is the other's one, which came last."""
    with (
        defined(kafka, gateway, bounds={"in_hand_max": 4}) as name,
        defined(kafka, gateway) as other,
        ExitStack() as ends,
    ):
        connect = ("127.0.0.1", gateway.port)
        assert post(gateway, name, event(0)).status_code == 200
        noisy = [ends.enter_context(socket.create_connection(connect)) for _ in range(12)]
        quiet = ends.enter_context(socket.create_connection(connect))
        with kafka.frozen():
            for number, client in enumerate(noisy, 1):
                client.sendall(raw(name, event(number)))
            quiet.sendall(raw(other, event(1)))

            def waits(connection: str) -> float:
                return gateway.metric("syncline_gateway_in_hand", connection=connection)

            until(lambda: (waits(name), waits(other)) == (4, 1), "five wait for Kafka", 3)
        assert Counter(answers(client, 1)[0] for client in noisy) == {200: 4, 503: 8}
        assert answers(quiet, 1) == [200]


def test_a_noisy_sender_starves_nobody(kafka: Kafka, gateway: Gateway) -> None:
    """Sixty-four clients of one connection send as fast as they can, at most eight of them at a
    time; every request of another's is taken meanwhile, within its platform's deadline."""
    with (
        defined(kafka, gateway, bounds={"in_hand_max": 8}) as noisy,
        defined(kafka, gateway) as quiet,
    ):
        statuses, taken_s = asyncio.run(_noise(gateway, noisy, quiet))
    assert statuses[200] > 100
    assert statuses[503] > 100  # it is the noisy one that is sent away
    assert len(taken_s) == 100
    assert max(taken_s) < BODY_S
    print(f"\none beside a noisy sender: slowest {max(taken_s):.2f} s; the noisy's {statuses}")


async def _noise(gateway: Gateway, noisy: str, quiet: str) -> tuple[Counter[int], list[float]]:
    """-> (what the noisy one was answered, how long each of the other's requests took)."""
    statuses: Counter[int] = Counter()
    going = True
    data = raw(noisy, *(event(n) for n in range(100)))

    async def shout() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        while going:
            writer.write(data)
            statuses[await _status(reader)] += 1
        writer.close()
        await writer.wait_closed()

    shouting = [asyncio.create_task(shout()) for _ in range(64)]
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    taken_s: list[float] = []
    for number in range(100):
        began_s = time.monotonic()
        writer.write(raw(quiet, event(number)))
        assert await _status(reader) == 200
        taken_s.append(time.monotonic() - began_s)
        await asyncio.sleep(0.02)  # its own pace
    going = False
    await asyncio.gather(*shouting)
    writer.close()
    await writer.wait_closed()
    return statuses, taken_s


async def _status(reader: asyncio.StreamReader) -> int:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S)
    assert b"Content-Length: 0\r\n" in head
    return int(head.split()[1])


def test_only_listed_networks_may_send(kafka: Kafka, start: Start) -> None:
    """Behind a proxy of ours the address is the one that it names; else nobody's word counts."""
    behind = start(kafka, options=["--proxy", "127.0.0.0/8"]).await_ready()
    alone = start(kafka).await_ready()
    with (
        defined(kafka, behind, allow_from=["192.0.2.0/24"]) as name,
        defined(kafka, behind) as other,
    ):
        until(lambda: post(alone, other, event(0)).status_code == 200, "both serve them")
        assert whole(behind, raw(name, event(1), X_Forwarded_For="192.0.2.7"))[0] == 200
        stranger = whole(behind, raw("nobody", event(1)))
        assert stranger[0] == 401
        for gateway, data in (
            (behind, raw(name, event(1), X_Forwarded_For="192.0.2.7, 203.0.113.9")),
            (behind, raw(name, event(1))),
            (alone, raw(name, event(1), X_Forwarded_For="192.0.2.7")),
        ):
            assert whole(gateway, data) == stranger


def test_a_connection_may_ask_for_a_clients_certificate(
    kafka: Kafka, start: Start, tmp_path: Path
) -> None:
    authority = certified(tmp_path, "authority")
    for name in ("gateway", "sender.example.com", "other.example.com"):
        certified(tmp_path, name, authority)
    certified(tmp_path, "stranger")

    def client(name: str = "") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
        if name:
            context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        return context

    files = {"certificate": "gateway.pem", "key": "gateway.key", "client-ca": "authority.pem"}
    options = [word for n, f in files.items() for word in (f"--tls-{n}", str(tmp_path / f))]
    gateway = start(kafka, options=options, tls=client()).await_ready()

    def status(connection: str, who: str = "") -> int:
        gateway.tls = client(who)
        return post(gateway, connection, event(1)).status_code

    with (
        defined(kafka, gateway, client_names=["sender.example.com"]) as name,
        defined(kafka, gateway) as other,
    ):
        assert status(name, "sender.example.com") == 200
        assert status(name, "other.example.com") == 401
        assert status(name) == 401
        assert status(other) == 200
        with pytest.raises(httpx.TransportError):
            status(other, "stranger")
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{gateway.port}/healthz", timeout=WAIT_S)

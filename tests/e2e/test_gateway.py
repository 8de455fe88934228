"""The gateway as a process on real Kafka: what was answered 2xx is on its topic, whatever dies.

Senders are played by threads that do as HubSpot does: what is not answered 2xx is sent again, with
another attempt number.
"""

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.codec import Codec
from schemas.definitions import Definition
from schemas.follow import Follower
from schemas.parked import ParkedRecord
from syncline import cluster
from syncline.settings import Settings
from syncline.stack import Stack
from webhook_gateway.publisher import Publisher, Record, Unconfirmed

FreshStack = Callable[..., Stack]
Start = Callable[..., "Gateway"]
SECRET = "first secret"
WAIT_S = 30.0


def until(true: Callable[[], Any], what: str, wait_s: float = WAIT_S) -> None:
    deadline_s = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < deadline_s, f"not within {wait_s:g} s: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Kafka:
    """The cluster of a test: defines connections, reads topics."""

    servers: str
    registry_url: str
    codec: Codec

    @classmethod
    def of(cls, stack: Any) -> "Kafka":
        settings = Settings(
            bootstrap_servers=stack.bootstrap_servers, registry_url=stack.registry_url
        )
        cluster.create_topics(settings)
        codec = Codec.from_registry(stack.registry_url)
        return cls(stack.bootstrap_servers, stack.registry_url, codec)

    def define(self, name: str, version: int = 1, **fields: Any) -> None:
        """As `syncline apply` does: the document, then the pointer to it."""
        document = {"connection": name, "platform": "hubspot", "account": "33"} | fields
        producer = Producer({"bootstrap.servers": self.servers})
        for key, text in (
            (f"connection:{name}@{version}", json.dumps(document)),
            (f"connection:{name}", ""),
        ):
            definition = Definition(
                kind="connection", name=name, version=version, document=text, applied_ms=1
            )
            producer.produce("definitions", self.codec.encode(definition), key)
        assert producer.flush(WAIT_S) == 0

    def retire(self, name: str) -> None:
        """Version 0 points to nothing: the connection is gone. Tests share the topic."""
        producer = Producer({"bootstrap.servers": self.servers})
        definition = Definition(kind="connection", name=name, version=0, applied_ms=1)
        producer.produce("definitions", self.codec.encode(definition), f"connection:{name}")
        assert producer.flush(WAIT_S) == 0

    def messages(self, topic: str, name: str) -> list[Any]:
        """Everything of one connection on a topic, up to its end, as committed readers see it."""
        found: list[Any] = []

        def read() -> bool:
            """A broker that was frozen is not the leader of its partitions for a moment."""
            follower = Follower({"bootstrap.servers": self.servers, "log_level": 0}, topic)
            try:
                found[:] = follower.read_to_end()
            except KafkaException:
                return False
            finally:
                follower.close()
            return True

        until(read, f"{topic} is read")
        return [m for m in found if name in _owner(m)]


def _owner(message: Any) -> str:
    headers = dict(message.headers() or [])
    return (headers.get("ce_source", b"").decode() or message.key().decode()) + "/"


class Gateway:
    """One gateway process."""

    def __init__(self, kafka: Kafka, *, port: int = 0, env: dict[str, str] | None = None) -> None:
        self.port, self.admin_port = port or free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        args = ["gateway", "--port", str(self.port), "--admin-port", str(self.admin_port)]
        self.env = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.servers,
            "SCHEMA_REGISTRY_URL": kafka.registry_url,
            "GATEWAY_SECRET": SECRET,
            "NO_COLOR": "1",
        } | (env or {})  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "syncline", *args],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        self.lines.extend(self.process.stdout)

    def status(self, path: str) -> int:
        try:
            return httpx.get(f"{self.url}{path}", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def await_ready(self) -> "Gateway":
        until(lambda: self.status("/readyz") == 200 or self.process.poll() is not None, "ready")
        assert self.process.poll() is None, "".join(self.lines)
        return self

    def metric(self, name: str, **labels: str) -> float:
        page = httpx.get(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5).text
        wanted = "".join(f'(?=.*{k}="{v}")' for k, v in labels.items())
        found = re.findall(rf"^{name}(?={{)?{wanted}\S* (\S+)$", page, re.MULTILINE)
        return sum(map(float, found))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        assert self.process.stdout
        self.process.stdout.close()
        return code


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts gateways, and ends those that a test leaves."""
    with ExitStack() as ends:

        def begin(kafka: Kafka, **options: Any) -> Gateway:
            gateway = Gateway(kafka, **options)

            def end() -> None:
                if gateway.process.poll() is None:
                    gateway.end(signal.SIGKILL)
                assert gateway.process.stdout
                gateway.process.stdout.close()

            ends.callback(end)
            return gateway

        yield begin


@pytest.fixture(scope="module")
def kafka(java_files: None) -> Iterator[Kafka]:
    """A stack of our own: a gateway serves every connection of its cluster, also other tests'."""
    with Stack.start() as stack:
        yield Kafka.of(stack)


@pytest.fixture
def hub(kafka: Kafka) -> Iterator[str]:
    name = f"hub-{uuid.uuid4().hex[:8]}"
    kafka.define(name, webhook={"secret": "env:GATEWAY_SECRET"})
    yield name
    kafka.retire(name)


def event(number: int, attempt: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "eventId": 1, "subscriptionId": 25, "portalId": 33, "occurredAt": 1_700_000_000_000,
        "subscriptionType": "contact.propertyChange", "attemptNumber": attempt,
        "objectId": number, "propertyName": "email", "propertyValue": f"{number}@example.com",
    } | fields  # fmt: skip


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    proof = hashlib.sha256(secret.encode() + body).hexdigest()
    return {"X-HubSpot-Signature": proof, "X-HubSpot-Signature-Version": "v1"}


def post(gateway: Gateway, name: str, *events: Any, secret: str = SECRET) -> httpx.Response:
    body = json.dumps(events).encode()
    url = f"{gateway.url}/hooks/{name}"
    return httpx.post(url, content=body, headers=signed(body, secret), timeout=10)


@dataclass
class Sender(threading.Thread):
    """Sends batches of ten until told to stop, each again until it is answered 2xx."""

    url: str
    first: int
    stop: threading.Event
    accepted: set[int] = field(default_factory=set)
    tried: set[int] = field(default_factory=set)
    statuses: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    slowest_s: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        number, attempt = self.first, 0
        with httpx.Client(timeout=10) as client:
            while not self.stop.is_set():
                batch = range(number, number + 10)
                self.tried.update(batch)
                body = json.dumps([event(n, attempt) for n in batch]).encode()
                status = self._send(client, body)
                self.statuses[status] += 1
                if status == 200:
                    self.accepted.update(batch)
                    number, attempt = number + 10, 0
                else:
                    attempt += 1
                    self.stop.wait(0.02)

    def _send(self, client: httpx.Client, body: bytes) -> int:
        began_s = time.monotonic()
        try:
            status = client.post(self.url, content=body, headers=signed(body)).status_code
        except httpx.TransportError:
            status = 0
        self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
        return status


@dataclass
class Senders:
    all: list[Sender]
    stop: threading.Event

    def end(self) -> set[int]:
        """-> numbers of all events that were answered 2xx."""
        self.stop.set()
        for sender in self.all:
            sender.join(WAIT_S)
            assert not sender.is_alive()
        return set().union(*(s.accepted for s in self.all))

    def accepted(self) -> int:
        return sum(len(s.accepted) for s in self.all)

    def statuses(self) -> dict[int, int]:
        total: dict[int, int] = defaultdict(int)
        for sender in self.all:
            for status, count in sender.statuses.items():
                total[status] += count
        return total


def send(gateway: Gateway, name: str, count: int = 4) -> Senders:
    stop = threading.Event()
    url = f"{gateway.url}/hooks/{name}"
    senders = Senders([Sender(url, n * 1_000_000, stop) for n in range(1, count + 1)], stop)
    for sender in senders.all:
        sender.start()
    return senders


def kept_once(kafka: Kafka, name: str, accepted: set[int], tried: set[int]) -> None:
    """Every event that was answered 2xx is there, and no event under two ids."""
    ids: dict[int, set[str]] = defaultdict(set)
    for message in kafka.messages("events.hubspot", name):
        number = int(message.key().decode().rpartition(":")[2])
        ids[number].add(dict(message.headers())["ce_id"].decode())
    assert accepted <= ids.keys()
    assert ids.keys() <= tried
    assert {n: found for n, found in ids.items() if len(found) != 1} == {}
    bodies = [json.loads(m.value()) for m in kafka.messages("intake.hubspot", name)]
    assert accepted <= {e["objectId"] for body in bodies for e in body}


def test_a_webhook_becomes_events_that_anybody_can_read(
    kafka: Kafka, hub: str, start: Start
) -> None:
    """Read by confluent-kafka's own deserializer: it knows the registry, none of our code."""
    gateway = start(kafka).await_ready()
    assert post(gateway, hub, event(1), {"objectId": 2}, event(3)).status_code == 200
    first, second = sorted(kafka.messages("events.hubspot", hub), key=lambda m: m.key())
    assert (first.key(), second.key()) == (f"{hub}:contact:1".encode(), f"{hub}:contact:3".encode())
    with SchemaRegistryClient({"url": kafka.registry_url}) as registry:
        context = SerializationContext("events.hubspot", MessageField.VALUE)
        value: Any = AvroDeserializer(registry)(first.value(), context)
    headers = {k: v.decode() for k, v in first.headers()}
    assert value["platform_kind"] == "contact.propertyChange"
    assert json.loads(value["values"]) == {"email": "1@example.com"}
    assert json.loads(value["payload"]) == event(1)
    assert headers["ce_id"] == value["event_id"]
    assert headers["ce_source"] == f"/connections/{hub}"
    assert headers["traceparent"] == value["trace"]
    (raw,) = kafka.messages("intake.hubspot", hub)
    assert [e["objectId"] for e in json.loads(raw.value())] == [1, 2, 3]
    parked = [
        message
        for m in kafka.messages("parked", "")
        if m.value()
        and (message := kafka.codec.decode_as(ParkedRecord, m.value())).connection == hub
    ]
    assert [(p.position, p.source) for p in parked] == [(1, b'{"objectId": 2}')]
    assert gateway.metric("syncline_gateway_events_total", connection=hub) == 2
    assert gateway.metric("syncline_gateway_parked_parts_total", connection=hub) == 1


def test_checks_are_good_and_forgeries_are_kept_apart(kafka: Kafka, hub: str, start: Start) -> None:
    gateway = start(kafka).await_ready()
    for method in ("GET", "HEAD"):
        assert httpx.request(method, f"{gateway.url}/hooks/{hub}").status_code == 200
    assert post(gateway, hub, event(1), secret="wrong").status_code == 401
    assert post(gateway, "nobody", event(1)).status_code == 401
    until(lambda: kafka.messages("quarantine", hub), "the refused request is kept")
    (refused,) = kafka.messages("quarantine", hub)
    assert json.loads(refused.value()) == [event(1)]
    assert kafka.messages("events.hubspot", hub) == kafka.messages("intake.hubspot", hub) == []


def test_killed_again_and_again_it_lost_nothing(kafka: Kafka, hub: str, start: Start) -> None:
    gateway = start(kafka).await_ready()
    senders = send(gateway, hub)
    for _ in range(5):
        before = senders.accepted()
        until(lambda before=before: senders.accepted() > before + 200, "events are accepted")
        gateway.end(signal.SIGKILL)
        gateway = start(kafka, port=gateway.port)
    before = senders.accepted()
    until(lambda: senders.accepted() > before + 200, "events are accepted")
    accepted = senders.end()
    kept_once(kafka, hub, accepted, set().union(*(s.tried for s in senders.all)))
    assert senders.statuses()[200] > 0


def test_without_its_broker_it_says_503_and_goes_on_when_it_is_back(
    fresh_stack: FreshStack, start: Start
) -> None:
    stack = fresh_stack()
    kafka = Kafka.of(stack)
    kafka.define("hub", webhook={"secret": "env:GATEWAY_SECRET"})
    gateway = start(kafka).await_ready()
    senders = send(gateway, "hub")
    until(lambda: senders.accepted() > 500, "events are accepted")
    stack.kill_broker()
    until(lambda: gateway.status("/readyz") == 503, "not ready")
    began_s = time.monotonic()
    answer = post(gateway, "hub", event(5))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert time.monotonic() - began_s < 1  # at once, not after a time-out
    assert gateway.status("/healthz") == 200
    before = senders.accepted()
    until(lambda: senders.statuses()[503] > 50, "senders are told to come again")
    assert senders.accepted() == before
    stack.restart_broker()
    until(lambda: senders.accepted() > before + 500, "events are accepted again")
    assert gateway.process.poll() is None
    assert gateway.status("/readyz") == 200
    kafka.define("late", webhook={"secret": "env:GATEWAY_SECRET"})
    until(lambda: post(gateway, "late", event(1)).status_code == 200, "definitions are followed")
    accepted = senders.end()
    assert max(s.slowest_s for s in senders.all) < 5  # HubSpot waits no longer
    kept_once(kafka, "hub", accepted, set().union(*(s.tried for s in senders.all)))


def test_a_broker_that_hangs_is_as_good_as_away_and_sigterm_still_drains(
    fresh_stack: FreshStack, start: Start
) -> None:
    """The connection stays open, nothing comes: the answer is 503 in time, then at once."""
    stack = fresh_stack()
    kafka = Kafka.of(stack)
    kafka.define("hub", webhook={"secret": "env:GATEWAY_SECRET"})
    gateway = start(kafka).await_ready()
    assert post(gateway, "hub", event(1)).status_code == 200
    os.kill(stack.pid("kafka"), signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        assert post(gateway, "hub", event(2)).status_code == 503
        assert 1 < time.monotonic() - began_s < 5
        until(lambda: gateway.status("/readyz") == 503, "not ready")
        began_s = time.monotonic()
        assert post(gateway, "hub", event(3)).status_code == 503
        assert time.monotonic() - began_s < 1
    finally:
        os.kill(stack.pid("kafka"), signal.SIGCONT)
    until(lambda: post(gateway, "hub", event(4)).status_code == 200, "accepted again")
    os.kill(stack.pid("kafka"), signal.SIGSTOP)
    try:
        answers: list[int] = []
        asking = threading.Thread(
            target=lambda: answers.append(post(gateway, "hub", event(6)).status_code)
        )
        asking.start()
        until(
            lambda: gateway.metric("syncline_gateway_in_hand", connection="hub") == 1, "under way"
        )
        gateway.process.send_signal(signal.SIGTERM)
        until(lambda: gateway.status("/healthz") == 0, "takes no more")
    finally:
        os.kill(stack.pid("kafka"), signal.SIGCONT)
    asking.join(WAIT_S)
    assert answers == [200]
    assert gateway.process.wait(10) == 0
    kept_once(kafka, "hub", {1, 4, 6}, {1, 2, 3, 4, 6})


def test_sigterm_under_load_breaks_off_nothing(kafka: Kafka, hub: str, start: Start) -> None:
    """Two gateways share the port; one goes. No request that it had taken stays unanswered."""
    going = start(kafka).await_ready()
    staying = start(kafka, port=going.port)
    until(
        lambda: (
            (
                staying.process.poll() is None
                and httpx.get(f"http://127.0.0.1:{staying.admin_port}/readyz").status_code == 200
            )
            if _listens(staying.admin_port)
            else False
        ),
        "the second is ready",
    )
    senders = send(going, hub, count=12)
    until(
        lambda: going.metric("syncline_gateway_accepted_requests_total", connection=hub) > 50,
        "load",
    )
    until(
        lambda: staying.metric("syncline_gateway_accepted_requests_total", connection=hub) > 50,
        "load",
    )
    began_s = time.monotonic()
    assert going.end() == 0
    assert time.monotonic() - began_s < 10
    before = senders.accepted()
    until(lambda: senders.accepted() > before + 500, "the other serves on")
    accepted = senders.end()
    kept_once(kafka, hub, accepted, set().union(*(s.tried for s in senders.all)))
    assert any('"drained": true' in line for line in going.lines)
    # A keep-alive connection may be closed in the moment its next request leaves the sender.
    assert senders.statuses()[0] <= 12
    assert senders.statuses()[503] == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_definitions_are_followed_without_a_restart(
    kafka: Kafka, hub: str, start: Start, tmp_path: Any
) -> None:
    gateway = start(kafka, env={"SECOND": "second secret"}).await_ready()
    other = f"{hub}-b"
    assert post(gateway, other, event(1)).status_code == 401
    kafka.define(other, webhook={"secret": "env:GATEWAY_SECRET"})
    until(lambda: post(gateway, other, event(1)).status_code == 200, "the new connection is served")
    rotation = {"secret": "env:SECOND", "previous_secret": "env:GATEWAY_SECRET"}
    kafka.define(hub, 2, webhook=rotation)
    until(
        lambda: post(gateway, hub, event(1), secret="second secret").status_code == 200,
        "the second secret is good",
    )
    assert post(gateway, hub, event(2)).status_code == 200
    kafka.define(hub, 3, webhook={"secret": "env:MISSING"})
    until(lambda: any("env:MISSING" in line for line in gateway.lines), "it is said")
    assert post(gateway, hub, event(3)).status_code == 200  # served on as it was
    kafka.retire(other)
    until(lambda: post(gateway, other, event(1)).status_code == 401, "served no more")


def test_a_missing_secret_at_start_is_named(kafka: Kafka, hub: str, start: Start) -> None:
    kafka.define(hub, 2, webhook={"secret": "env:NOT_THERE"})
    gateway = start(kafka)
    assert gateway.process.wait(WAIT_S) == 2
    until(lambda: any("env:NOT_THERE" in line for line in gateway.lines), "it is said")


def test_without_kafka_it_is_alive_but_not_ready(kafka: Kafka, start: Start) -> None:
    nowhere = Kafka(f"127.0.0.1:{free_port()}", kafka.registry_url, kafka.codec)
    gateway = start(nowhere)
    until(lambda: gateway.status("/healthz") == 200, "alive")
    assert gateway.status("/readyz") == 503
    assert post(gateway, "hub", event(1)).status_code == 503
    until(lambda: any("Kafka" in line for line in gateway.lines), "it is said")
    began_s = time.monotonic()
    assert gateway.end() == 0
    assert time.monotonic() - began_s < 10


def test_a_port_that_is_taken_is_named(kafka: Kafka, start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        gateway = start(kafka, port=taken.getsockname()[1])
        assert gateway.process.wait(WAIT_S) == 1
        until(lambda: any("in use" in line for line in gateway.lines), "it is said")


def test_slow_and_half_open_clients_cost_nobody_else(kafka: Kafka, hub: str, start: Start) -> None:
    gateway = start(kafka).await_ready()
    with ExitStack() as sockets:
        head = f"POST /hooks/{hub} HTTP/1.1\r\nHost: h\r\n".encode()
        for number in range(200):
            client = sockets.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
            client.sendall(head[: number % len(head)])
            if number % 3 == 0:
                client.sendall(head[number % len(head) :] + b"Content-Length: 1000\r\n\r\n[")
        senders = send(gateway, hub)
        until(lambda: senders.accepted() > 500, "others are served")
        accepted = senders.end()
        statuses = senders.statuses()
        assert set(statuses) == {200}
        kept_once(kafka, hub, accepted, set().union(*(s.tried for s in senders.all)))


async def test_a_producer_that_failed_for_good_is_made_anew(kafka: Kafka) -> None:
    """Told by hand: librdkafka reports it the same way, through the error callback."""
    publisher = Publisher({"bootstrap.servers": kafka.servers}, messages_max=1000)
    record = Record("intake.hubspot", f"fatal-{uuid.uuid4().hex}", b"[]", [])

    async def confirmed() -> bool:
        try:
            await publisher.publish([record], 5)
        except Unconfirmed:
            return False
        return True

    async def awaited() -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not await confirmed():
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)

    await awaited()
    publisher._on_error(KafkaError(KafkaError._FATAL, "sequence out of order", fatal=True))
    under_way = asyncio.create_task(confirmed())
    await awaited()
    assert await under_way in (True, False)  # answered, one way or the other
    assert len(kafka.messages("intake.hubspot", record.key)) >= 2
    await publisher.close(1)

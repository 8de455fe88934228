"""What the tests of the gateway on real Kafka share: the cluster, a process, senders that repeat.

Senders are played by threads that do as HubSpot does: what is not answered 2xx is sent again, with
another attempt number.
"""

import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from confluent_kafka import KafkaException, Producer

from schemas.codec import Codec
from schemas.definitions import Definition
from schemas.follow import Follower
from syncline import cluster
from syncline.settings import Settings
from syncline.stack import Stack

FreshStack = Callable[..., Stack]
Start = Callable[..., "Gateway"]
SECRET = "first secret"
WAIT_S = 30.0
START_S = 90.0
"""Of a gateway: on a busy machine the imports alone may take a while."""


def until(true: Callable[[], Any], what: object, wait_s: float = WAIT_S) -> None:
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
    stack: Any = None

    @classmethod
    def of(cls, stack: Any) -> "Kafka":
        settings = Settings(
            bootstrap_servers=stack.bootstrap_servers, registry_url=stack.registry_url
        )
        cluster.create_topics(settings)
        codec = Codec.from_registry(stack.registry_url)
        return cls(stack.bootstrap_servers, stack.registry_url, codec, stack)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The broker does nothing, and its connections stay open."""
        pid = self.stack.pid("kafka")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

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
    """One gateway process. `tls`: how its clients call it, where it ends TLS itself."""

    def __init__(
        self,
        kafka: Kafka,
        *,
        port: int = 0,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port, self.admin_port, self.tls = port or free_port(), free_port(), tls
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        args = ["gateway", "--port", str(self.port), "--admin-port", str(self.admin_port)]
        self.env = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.servers,
            "SCHEMA_REGISTRY_URL": kafka.registry_url,
            "GATEWAY_SECRET": SECRET,
            "NO_COLOR": "1",
        } | dict(env or {})  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "syncline", *args, *options],
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
            return httpx.get(f"{self.url}{path}", timeout=5, verify=self.tls or True).status_code
        except httpx.TransportError:
            return 0

    def await_ready(self) -> "Gateway":
        until(
            lambda: self.status("/readyz") == 200 or self.process.poll() is not None,
            ("the gateway is ready; it says", self.lines),
            START_S,
        )
        assert self.process.poll() is None, "".join(self.lines)
        return self

    def metric(self, name: str, **labels: str) -> float:
        page = httpx.get(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5).text
        wanted = "".join(f'(?=.*{k}="{v}")' for k, v in labels.items())
        found = re.findall(rf"^{name}{wanted}(?:{{.*}})? (\S+)$", page, re.MULTILINE)
        return sum(map(float, found))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        assert self.process.stdout
        self.process.stdout.close()
        return code


@pytest.fixture(name="start")
def start_fixture() -> Iterator[Start]:
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


@pytest.fixture(name="kafka", scope="module")
def kafka_fixture(java_files: None) -> Iterator[Kafka]:
    """A stack of our own: a gateway serves every connection of its cluster, also other tests'."""
    with Stack.start() as stack:
        yield Kafka.of(stack)


@pytest.fixture(name="hub")
def hub_fixture(kafka: Kafka) -> Iterator[str]:
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
    return httpx.post(
        f"{gateway.url}/hooks/{name}",
        content=body,
        headers=signed(body, secret),
        timeout=10,
        verify=gateway.tls or True,
    )


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

    def told(self) -> str:
        """For docs/soak.md; `pytest -s` shows it."""
        statuses = {status or "broken off": n for status, n in sorted(self.statuses().items())}
        slowest_s = max(s.slowest_s for s in self.all)
        return f"{self.accepted():,} events accepted, answers {statuses}, slowest {slowest_s:.1f} s"

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

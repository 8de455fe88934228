"""`examples/all-senders` as the README says it: started by one command with a secret each, every
sender's fixture sent and seen, and what is on Kafka read by confluent-kafka alone.

Addresses of Kafka and of the registry are those that the command prints; nothing else is known.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from typer.testing import CliRunner

from syncline import samples
from syncline.cli import app
from tests.e2e.gateway_world import WAIT_S, free_port, until
from webhook_gateway.senders import platforms

EXAMPLE = Path(__file__).parents[2] / "examples" / "all-senders"
PUBLIC_URL = "https://hooks.example.com"
SECRETS = {f"{p.upper()}_SECRET": f"a secret of {p} alone".replace(" ", "-") for p in platforms()}
SECRETS["PIPEDRIVE_SECRET"] = "pipe:drive-of-its-own"  # a user and a password
SECRETS["GENERIC_SECRET"] = "whsec_dGhlIGtleSBvZiBnZW5lcmlj"
pytestmark = pytest.mark.timeout(900)
UP_S = 240.0  # a dozen seconds where nothing else runs
ORGANIZATION = "00D5g000004abcDEAQ"
SENSELESS = {"hubspot/one-part-senseless": 1}
SENT = [s for s in samples.samples() if s.platform in platforms()]


@dataclass
class Running:
    """What the command has said, line by line."""

    process: subprocess.Popen[str]
    gateway: str
    lines: list[str] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stdout
        self.lines.extend(self.process.stdout)

    def told(self, name: str) -> str:
        """The value that it prints as NAME=value; empty: not yet."""
        found = [line.removeprefix(f"{name}=") for line in self.lines if line.startswith(name)]
        return found[0].strip() if found else ""


@pytest.fixture(scope="module")
def up(java_files: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("KAFKA", "SCHEMA"))}
    ports = {"SYNCLINE_CONNECTORS_ADMIN_PORT": str(free_port())}
    data = {"SYNCLINE_DATA": str(tmp_path_factory.mktemp("data"))}
    port = free_port()
    args = ["up", str(EXAMPLE), "--gateway-port", str(port), "--gateway-admin-port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "syncline", *args, "--public-url", PUBLIC_URL],
        env=environment | SECRETS | ports | data | {"SALESFORCE_ORG_ID": ORGANIZATION},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Running(process, f"http://127.0.0.1:{port}")
    reader = threading.Thread(target=running.read, daemon=True)
    reader.start()
    try:
        until(lambda: _ready(running) or process.poll() is not None, running.lines, UP_S)
        assert process.poll() is None, running.lines
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(UP_S)
        finally:
            process.kill()
            process.wait(WAIT_S)
            reader.join(WAIT_S)
            assert process.stdout
            process.stdout.close()


def _ready(running: Running) -> bool:
    try:
        return httpx.get(f"{running.gateway}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module", autouse=True)
def shell(up: Running) -> Iterator[None]:
    """Commands see what somebody would have set who has read the command's lines."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL"):
            assert up.told(name)
            patch.setenv(name, up.told(name))
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        patch.setenv("SALESFORCE_ORG_ID", ORGANIZATION)
        yield


@pytest.fixture(scope="module")
def answers(up: Running, shell: None) -> dict[str, str]:
    """Every fixture is sent twice, as after a time-out; -> by fixture what the command said."""
    where = ["--gateway", up.gateway, "--public-url", PUBLIC_URL]
    return {
        str(sample): syncline("send", str(sample), *where, "--seed", str(sample), "--times", "2")
        for sample in SENT
    }


@pytest.fixture(scope="module")
def kept(up: Running, answers: dict[str, str]) -> dict[str, list[Any]]:
    """-> by topic all that is on it then, oldest first."""
    found: list[Any] = []

    def read() -> bool:
        """A broker that was held up is not the leader of its partitions for a moment."""
        settings = {"bootstrap.servers": up.told("KAFKA_BOOTSTRAP_SERVERS"), "group.id": "nobody"}
        consumer = Consumer(settings | {"enable.auto.commit": False, "log_level": 0})
        try:
            found[:] = _to_the_end(consumer)
        except KafkaException:
            return False
        finally:
            consumer.close()
        return True

    until(read, "the topics are read", UP_S)
    topics: dict[str, list[Any]] = defaultdict(list)
    for message in sorted(found, key=lambda m: (m.timestamp(), m.offset())):
        topics[message.topic()].append(message)
    return topics


def _to_the_end(consumer: Consumer) -> list[Any]:
    """By a client that knows none of our code. Raises KafkaException."""
    topics = consumer.list_topics(timeout=WAIT_S).topics
    wanted = [t for platform in platforms() for t in (f"intake.{platform}", f"events.{platform}")]
    partitions = [
        TopicPartition(topic, p, OFFSET_BEGINNING)
        for topic in wanted
        for p in topics[topic].partitions
    ]
    ends = sum(consumer.get_watermark_offsets(p, timeout=WAIT_S)[1] for p in partitions)
    consumer.assign(partitions)
    found: list[Any] = []

    def read() -> bool:
        found.extend(m for m in consumer.consume(1000, 0.2) if m.error() is None)
        return len(found) >= ends

    until(read, "the topics are read to their ends")
    return found


def syncline(*args: str) -> str:
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == 0, done.output
    return done.output


def headers(message: Any) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers()}


def test_every_sender_has_a_fixture_to_send() -> None:
    assert {s.platform for s in SENT} == set(platforms())


@pytest.mark.parametrize("sample", SENT, ids=str)
def test_a_fixture_is_taken(sample: samples.Sample, answers: dict[str, str]) -> None:
    told = answers[str(sample)]
    assert len([line for line in told.splitlines() if line.startswith("200 in ")]) == 2, told
    if sample.platform == "salesforce":
        assert told.count("<Ack>true</Ack>") == 2


@pytest.mark.parametrize("platform", platforms())
def test_it_is_on_kafka_for_anybody_to_read(
    platform: str, up: Running, kept: dict[str, list[Any]]
) -> None:
    """Two requests a fixture, each event under one id, and nowhere the secret."""
    requests, events = kept[f"intake.{platform}"], kept[f"events.{platform}"]
    count = sum(sample.platform == platform for sample in SENT)
    assert len(requests) == 2 * count
    assert sum("repeat" in headers(m) for m in requests) == count
    ids = Counter(headers(m)["ce_id"] for m in events)
    assert len(ids) >= count
    assert set(ids.values()) == {2}
    bodies = b"".join(m.value() for m in requests)
    with SchemaRegistryClient({"url": up.told("SCHEMA_REGISTRY_URL")}) as registry:
        deserialize = AvroDeserializer(registry)
        for message in events:
            context = SerializationContext(message.topic(), MessageField.VALUE)
            value: Any = deserialize(message.value(), context)
            key = f"{platform}:{value['object_type']}:{value['object_id']}"
            assert message.key().decode() == key
            assert value["event_id"] == headers(message)["ce_id"]
            assert (value["connection"], value["platform"]) == (platform, platform)
            assert value["payload"] in bodies or platform == "mandrill"
            assert isinstance(json.loads(value["values"]), dict)
    for message in (*requests, *events):
        written = message.value() + repr(message.headers()).encode()
        assert SECRETS[f"{platform.upper()}_SECRET"].encode() not in written


@pytest.mark.parametrize("platform", platforms())
def test_the_tail_shows_it(platform: str, kept: dict[str, list[Any]]) -> None:
    there = [*kept[f"intake.{platform}"], *kept[f"events.{platform}"]]
    lines = len(there) + 2 * sum(SENSELESS.get(str(s), 0) for s in SENT if s.platform == platform)
    shown = syncline(
        "tail", platform, "--since", "1h", "--json", "--count", str(lines), "--for", str(WAIT_S)
    )
    seen = [json.loads(line) for line in shown.splitlines()]
    assert len(seen) == lines
    places = {f"{m.topic()}-{m.partition()}-{m.offset()}" for m in there}
    assert places == {line["place"] for line in seen if line["what"] != "parked"}


@pytest.mark.parametrize("platform", platforms())
def test_a_strangers_request_is_refused(platform: str, up: Running) -> None:
    answer = httpx.post(f"{up.gateway}/hooks/{platform}", content=b"[]", timeout=WAIT_S)
    assert (answer.status_code, answer.content) == (401, b"")
    for method in ("GET", "HEAD"):
        url = f"{up.gateway}/hooks/{platform}"
        assert httpx.request(method, url, timeout=WAIT_S).status_code == 200

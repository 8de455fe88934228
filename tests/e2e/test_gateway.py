"""The gateway as a process on real Kafka: what was answered 2xx is on its topic, whatever dies."""

import json
import signal
import socket
import time
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.parked import ParkedRecord
from tests.e2e.gateway_world import (  # noqa: F401 - fixtures are found where they are imported
    WAIT_S,
    FreshStack,
    Gateway,
    Kafka,
    Start,
    event,
    free_port,
    hub_fixture,
    kafka_fixture,
    kept_once,
    post,
    send,
    start_fixture,
    until,
)

KILLS = 20


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


@pytest.mark.soak
@pytest.mark.timeout(900)  # each kill waits for a gateway that serves; a machine may be busy
def test_of_two_now_one_and_now_the_other_is_killed(kafka: Kafka, hub: str, start: Start) -> None:
    """Twenty kills under load: of two gateways on one port, now one and now the other. None is
    killed before it has taken requests; the load never pauses."""
    first = start(kafka).await_ready()
    pair = [first, start(kafka, port=first.port)]
    senders = send(first, hub, count=8)
    for number in range(KILLS):
        victim = pair[number % 2]
        until(lambda victim=victim: _took(victim, hub) >= 5, "it takes requests", 120)
        victim.end(signal.SIGKILL)
        pair[number % 2] = start(kafka, port=first.port)
    before = senders.accepted()
    until(lambda: senders.accepted() > before + 200, "events are accepted", 120)
    accepted = senders.end()
    kept_once(kafka, hub, accepted, set().union(*(s.tried for s in senders.all)))
    assert senders.statuses()[0] > 0  # connections were broken off
    print(f"\n{KILLS} kills of two gateways: {senders.told()}")


def _took(gateway: Gateway, name: str) -> float:
    if not _listens(gateway.admin_port):
        return 0
    return gateway.metric("syncline_gateway_accepted_requests_total", connection=name)


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

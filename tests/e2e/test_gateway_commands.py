"""`send`, `tail` and `replay intake` as people use them, on real Kafka beside a gateway process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from schemas.events import Origin, PlatformEvent
from tests.e2e.gateway_world import (  # noqa: F401 - fixtures are found where they are imported
    SECRET,
    WAIT_S,
    Gateway,
    Kafka,
    Start,
    event,
    hub_fixture,
    kafka_fixture,
    post,
    start_fixture,
    until,
)


def command(kafka: Kafka, folder: Path, *args: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.servers,
        "SCHEMA_REGISTRY_URL": kafka.registry_url,
        "GATEWAY_SECRET": SECRET,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "syncline", *args],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(kafka: Kafka, folder: Path, *args: str) -> tuple[int, str, str]:
    """-> (exit code, stdout, stderr)."""
    process = command(kafka, folder, *args)
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


def sent(kafka: Kafka, folder: Path, gateway: Gateway, hub: str, fixture: str, *args: str) -> Any:
    return done(kafka, folder, "send", fixture, "--to", hub, "--gateway", gateway.url, *args)


def test_what_is_sent_is_seen_to_arrive(
    kafka: Kafka, hub: str, start: Start, tmp_path: Path
) -> None:
    """A sample goes through, a part of another makes no sense, a third has a wrong secret: the tail
    tells all of it, live, and ends at Ctrl-C with exit code 0."""
    gateway = start(kafka).await_ready()
    watching = command(kafka, tmp_path, "tail", hub, "--json", "--since", "1h")
    assert watching.stdout
    code, out, err = sent(kafka, tmp_path, gateway, hub, "hubspot/contact-changed")
    assert (code, err) == (0, ""), err
    assert out.startswith("200 in ")
    [first, second] = (json.loads(watching.stdout.readline()) for _ in range(2))
    assert {first["what"], second["what"]} == {"request", "event"}
    assert first["trace"] == second["trace"]
    code, out, _ = sent(kafka, tmp_path, gateway, hub, "hubspot/one-part-senseless")
    assert code == 0
    lines = [json.loads(watching.stdout.readline()) for _ in range(4)]
    assert sorted(line["what"] for line in lines) == ["event", "event", "parked", "request"]
    [parked] = [line for line in lines if line["what"] == "parked"]
    assert parked["about"] == "part 2: no subscriptionType"
    code, out, err = sent(kafka, tmp_path, gateway, hub, "hubspot", "--secret", "env:HOME")
    assert (code, out.split()[0], err) == (1, "401", "1 of 1 were not taken\n")
    line = json.loads(watching.stdout.readline())
    assert (line["what"], line["verdict"]) == ("refused", "signature wrong")
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=WAIT_S)
    assert (watching.returncode, out, err) == (0, "", "")


def test_a_connection_that_is_none_is_named(kafka: Kafka, hub: str, tmp_path: Path) -> None:
    code, out, err = done(kafka, tmp_path, "tail", "nobody")
    assert (code, out) == (1, "")
    assert f"no connection nobody; there are: {hub}" in err
    code, out, err = done(kafka, tmp_path, "send", "hubspot", "--to", "nobody")
    assert (code, out) == (2, "")
    assert "no connection nobody" in err


def test_without_a_gateway_the_address_is_named(kafka: Kafka, hub: str, tmp_path: Path) -> None:
    code, out, err = done(
        kafka, tmp_path, "send", "hubspot", "--to", hub, "--gateway", "http://127.0.0.1:1"
    )
    assert (code, out) == (1, "")
    assert err == "the gateway at http://127.0.0.1:1 does not answer: ConnectError\n"


def test_what_was_parked_is_run_again_and_settled(
    kafka: Kafka, hub: str, start: Start, tmp_path: Path
) -> None:
    """An event of a portal that is no connection is parked; the connection is made; the replay
    shows the one event that is missing, publishes it when told to, and nothing at a repeat."""
    gateway = start(kafka).await_ready()
    before = {m.key() for m in kafka.messages("parked", "")}  # of tests that ran on this Kafka
    assert post(gateway, hub, event(1), event(2, portalId=44)).status_code == 200
    [parked] = [m for m in kafka.messages("parked", "") if m.value() and m.key() not in before]
    parked_id = parked.key().decode()
    other = f"{hub}-b"
    kafka.define(other, account="44", webhook={"secret": "env:GATEWAY_SECRET"})
    try:
        code, out, err = done(kafka, tmp_path, "replay", "intake", "--parked", parked_id, "--json")
        assert (code, err) == (0, ""), err
        shown = json.loads(out)
        assert (shown["requests"], shown["same"], shown["published"]) == (1, 1, 0)
        [missing] = shown["missing"]
        assert missing["event"]["object"] == f"{other}:contact:2"
        assert shown["settled"] == [parked_id]
        assert kafka.messages("events.hubspot", other) == []
        code, out, err = done(kafka, tmp_path, "replay", "intake", "--parked", parked_id, "--yes")
        assert (code, err) == (0, ""), err
        assert "1 missing, published" in out
        [record] = kafka.messages("events.hubspot", other)
        told = kafka.codec.decode_as(PlatformEvent, record.value())
        assert told.event_id == missing["event"]["event_id"]
        assert told.origin is Origin.replay
        [*_, last] = [m for m in kafka.messages("parked", "") if m.key() == parked.key()]
        assert not last.value()
        code, _, err = done(kafka, tmp_path, "replay", "intake", "--parked", parked_id)
        assert code == 1
        assert err.startswith(f"{parked_id} is not parked at intake;")
        args = ("replay", "intake", hub, "--since", "1h", "--yes", "--json")
        again = json.loads(done(kafka, tmp_path, *args)[1])
        assert (again["same"], again["missing"], again["published"]) == (2, [], 0)
        at = ("replay", "intake", hub, "--at", missing["place"], "--json")
        assert json.loads(done(kafka, tmp_path, *at)[1])["same"] == 2
    finally:
        kafka.retire(other)


def test_refused_requests_are_taken_up_when_the_secret_is_put_right(
    kafka: Kafka, hub: str, start: Start, tmp_path: Path
) -> None:
    gateway = start(kafka).await_ready()
    assert post(gateway, hub, event(7), secret="next secret").status_code == 401
    until(lambda: kafka.messages("quarantine", hub), "the refused request is kept")
    args = ("replay", "intake", hub, "--quarantine", "--since", "1h", "--yes", "--json")
    shown = json.loads(done(kafka, tmp_path, *args)[1])
    assert shown["still_refused"] == {"signature wrong": 1}
    assert shown["published"] == 0
    secret = tmp_path / "secret"
    secret.write_text("next secret")
    kafka.define(hub, 2, webhook={"secret": f"file:{secret}"})
    shown = json.loads(done(kafka, tmp_path, *args)[1])
    assert (shown["published"], shown["still_refused"]) == (1, {})
    [record] = kafka.messages("events.hubspot", hub)
    assert record.key().decode() == f"{hub}:contact:7"
    [raw] = kafka.messages("intake.hubspot", hub)
    assert json.loads(raw.value()) == [event(7)]
    shown = json.loads(done(kafka, tmp_path, *args)[1])
    assert (shown["published"], shown["same"]) == (0, 1)

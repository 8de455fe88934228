"""`syncline traces` beside a real gateway, into a collector that takes OTLP over HTTP."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from schemas import ids, topics
from schemas.codec import Codec
from schemas.events import PlatformEvent
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from tests.e2e.gateway_world import (  # noqa: F401 - fixtures are found where they are imported
    Kafka,
    Start,
    event,
    hub_fixture,
    kafka_fixture,
    signed,
    start_fixture,
    until,
)

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes `/v1/traces`; `refuses`: answers 400, which is not repeated."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.refuses = False
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                told = ExportTraceServiceRequest.FromString(body)
                if not collector.refuses:
                    collector.spans += [
                        s for r in told.resource_spans for o in r.scope_spans for s in o.spans
                    ]
                self.send_response(400 if collector.refuses else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def of(self, connection: str) -> dict[str, Span]:
        """By name; each once, however often it was exported."""
        trace = bytes.fromhex(TRACE)
        return {s.name: s for s in self.spans if s.trace_id == trace and connection in str(s)}


@pytest.fixture
def collector() -> Iterator[Collector]:
    there = Collector()
    thread = threading.Thread(target=there.server.serve_forever, daemon=True)
    thread.start()
    yield there
    there.server.shutdown()
    there.server.server_close()
    thread.join(5)


def traces(kafka: Kafka, folder: Path, url: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.servers,
        "SCHEMA_REGISTRY_URL": kafka.registry_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
    }
    command = [sys.executable, "-m", "syncline", "traces", "--from-beginning"]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def settled(kafka: Kafka, codec: Codec, found: PlatformEvent, sync: str) -> None:
    """What streams and connectors write of an event that is decided, sent and taken."""
    row = ids.row_id(found.event_id, sync)
    now_ms = int(time.time() * 1000)
    producer = Producer({"bootstrap.servers": kafka.servers})
    for kind, standing in (
        (JournalKind.decided, Standing.out),
        (JournalKind.settled, Standing.written),
    ):
        note = RowNote(row_id=row, event_id=found.event_id, standing=standing, request_id="q1")
        entry = JournalEntry(kind=kind, at_ms=now_ms, sync=sync, connection=sync, rows=[note])
        producer.produce(topics.JOURNAL, codec.encode(entry), sync)
    assert producer.flush(20) == 0


def test_a_webhook_is_a_trace_from_its_sender_to_the_destination(
    kafka: Kafka, hub: str, start: Start, tmp_path: Path, collector: Collector
) -> None:
    """Continues after SIGKILL, keeps its place while the collector refuses, ends at SIGTERM."""
    gateway = start(kafka).await_ready()
    codec = Codec.from_registry(kafka.registry_url)
    exporting = traces(kafka, tmp_path, collector.url)
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}

    def arrives(number: int) -> None:
        body = json.dumps([event(number)]).encode()
        url = f"{gateway.url}/hooks/{hub}"
        answer = httpx.post(url, content=body, headers=headers | signed(body), timeout=10)
        assert answer.is_success

    try:
        arrives(1)
        until(lambda: f"receive {hub}" in collector.of(hub), "the span of its receipt")
        exporting.kill()
        exporting.communicate(timeout=20)
        arrives(2)
        decoded = [
            codec.decode_as(PlatformEvent, record.value())
            for record in kafka.messages(topics.events_of("hubspot"), hub)
        ]
        [found] = [e for e in decoded if e.object_id == "2"]
        sync = f"sync-{hub}"
        collector.refuses = True
        settled(kafka, codec, found, sync)
        exporting = traces(kafka, tmp_path, collector.url)
        _, said = exporting.communicate(timeout=60)
        assert exporting.returncode == 1
        assert "nothing is lost, start again" in said
        collector.refuses = False
        exporting = traces(kafka, tmp_path, collector.url)
        until(lambda: f"upload {sync}" in collector.of(hub), "the span of the upload")
        exporting.send_signal(signal.SIGTERM)
        _, said = exporting.communicate(timeout=20)
        assert exporting.returncode == 0, said
    finally:
        if exporting.poll() is None:
            exporting.kill()
            exporting.communicate(timeout=20)
    spans = collector.of(hub)
    assert set(spans) == {f"receive {hub}", f"decide {sync}", f"upload {sync}"}
    assert {s.parent_span_id.hex() for s in spans.values()} == {PARENT}
    assert len({s.span_id for s in spans.values()}) == 3
    for one in spans.values():
        assert one.start_time_unix_nano <= one.end_time_unix_nano


def test_without_a_collector_it_says_which_variable_is_missing(
    kafka: Kafka, tmp_path: Path
) -> None:
    exporting = traces(kafka, tmp_path, "")
    _, said = exporting.communicate(timeout=30)
    assert (exporting.returncode, said.count("\n")) == (2, 1)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in said

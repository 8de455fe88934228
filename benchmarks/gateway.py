"""How fast is the webhook gateway? `python -m benchmarks.gateway [--rounds N] [--seconds S]`.

W1 is one HubSpot event of about 600 bytes, W2 an array of 100 events of about 33 KB. Every request
is signed (v3), verified, split, published to real Kafka (acks=all) with its raw body, and answered
after the confirmation. Generator and broker share the machine's cores with the gateway, so read
ratios and CPU seconds rather than requests per second. Rounds are interleaved; medians are printed.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
import uvloop
from confluent_kafka import Producer

from schemas.codec import Codec
from schemas.definitions import Definition
from schemas.topics import DEFINITIONS
from syncline import cluster
from syncline.settings import Settings
from syncline.stack import Stack

SECRET = "benchmark"
VARIANTS = 500
"""Different bodies of each workload, sent in turn: ids and keys differ as they do in life."""


def event(number: int) -> dict[str, object]:
    return {
        "eventId": 3_816_279_340 + number,
        "subscriptionId": 25,
        "portalId": 33,
        "appId": 1_160_452,
        "occurredAt": int(time.time() * 1000),
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0,
        "objectId": 1_246_965 + number,
        "changeSource": "CRM_UI",
        "sourceId": "userId:12345",
        "propertyName": "lifecyclestage",
        "propertyValue": f"subscriber {number:08}",
    }


def one_event(number: int) -> bytes:
    """W1: a longer value brings it to the 600 bytes of a usual request."""
    return json.dumps([event(number) | {"propertyValue": "x" * 300}]).encode()


def hundred_events(number: int) -> bytes:
    return json.dumps([event(number * 100 + n) for n in range(100)]).encode()


WORKLOADS = {"W1": one_event, "W2": hundred_events}


def http_request(body: bytes, url: str) -> bytes:
    stamp = str(int(time.time() * 1000))
    text = f"POST{url}".encode() + body + stamp.encode()
    proof = base64.b64encode(hmac.digest(SECRET.encode(), text, hashlib.sha256)).decode()
    head = (
        f"POST /hooks/bench HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
        f"X-HubSpot-Signature-v3: {proof}\r\nX-HubSpot-Request-Timestamp: {stamp}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client(asyncio.Protocol):
    """One keep-alive connection: the next request as soon as the answer is there."""

    def __init__(self, load: "Load") -> None:
        self.load, self.sent_s = load, 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # pyright: ignore[reportAttributeAccessIssue]
        self.send()

    def send(self) -> None:
        self.sent_s = time.perf_counter()
        self.transport.write(self.load.next())

    def data_received(self, data: bytes) -> None:
        """An answer without a body comes in one piece."""
        self.load.answered(data.startswith(b"HTTP/1.1 200 "), time.perf_counter() - self.sent_s)
        if self.load.running:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.lost()


@dataclass
class Load:
    """The generator of one round."""

    requests: Sequence[bytes]
    connections: int
    running: bool = True
    sent: int = 0
    failed: int = 0
    took_s: list[float] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def next(self) -> bytes:
        self.sent += 1
        return self.requests[self.sent % len(self.requests)]

    def answered(self, good: bool, took_s: float) -> None:
        self.failed += not good
        self.took_s.append(took_s)

    def lost(self) -> None:
        self.connections -= 1
        if not self.connections:
            self.done.set()


async def _load(requests: Sequence[bytes], port: int, connections: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    load = Load(requests, connections)
    for _ in range(connections):
        await loop.create_connection(lambda: Client(load), "127.0.0.1", port)
    await asyncio.sleep(seconds)
    load.running = False
    await asyncio.wait_for(load.done.wait(), 30)
    return load


@dataclass(frozen=True)
class Round:
    requests_s: float
    cpu_s_per_10k: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    failed: int


def measure(
    gateway: psutil.Process, port: int, workload: str, connections: int, seconds: float
) -> Round:
    url = f"http://127.0.0.1:{port}/hooks/bench"
    requests = [http_request(WORKLOADS[workload](n), url) for n in range(VARIANTS)]
    before, began_s = gateway.cpu_times(), time.perf_counter()
    load = uvloop.run(_load(requests, port, connections, seconds))
    wall_s, after = time.perf_counter() - began_s, gateway.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    took_ms = sorted(t * 1000 for t in load.took_s)
    return Round(
        requests_s=len(took_ms) / wall_s,
        cpu_s_per_10k=cpu_s / len(took_ms) * 10_000,
        p50_ms=took_ms[len(took_ms) // 2],
        p99_ms=took_ms[int(len(took_ms) * 0.99)],
        rss_mb=gateway.memory_info().rss / 1e6,
        failed=load.failed,
    )


def _define(stack: Stack) -> None:
    cluster.create_topics(
        Settings(bootstrap_servers=stack.bootstrap_servers, registry_url=stack.registry_url)
    )
    codec = Codec.from_registry(stack.registry_url)
    document = json.dumps(
        {
            "connection": "bench",
            "platform": "hubspot",
            "account": "33",
            "webhook": {"secret": "env:BENCH_SECRET"},
        }
    )
    now_ms = int(time.time() * 1000)
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    for key, text in (("connection:bench@1", document), ("connection:bench", "")):
        definition = Definition(
            kind="connection", name="bench", version=1, document=text, applied_ms=now_ms
        )
        producer.produce(DEFINITIONS, codec.encode(definition), key)
    producer.flush()


def _await_ready(url: str) -> None:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        try:
            if httpx.get(f"{url}/readyz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise TimeoutError("the gateway did not get ready")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--port", type=int, default=18081)
    parser.add_argument("--json", type=Path, help="also write the medians here")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="bench-") as folder, Stack.start(Path(folder)) as stack:
        _define(stack)
        env = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": stack.registry_url,
            "BENCH_SECRET": SECRET,
        }
        args = ["gateway", "--port", str(options.port), "--admin-port", "0"]
        process = subprocess.Popen([sys.executable, "-m", "syncline", *args], env=env)
        try:
            _await_ready(f"http://127.0.0.1:{options.port}")
            gateway = psutil.Process(process.pid)
            rounds: dict[str, list[Round]] = {name: [] for name in WORKLOADS}
            for name in WORKLOADS:  # nothing is cold in the rounds that count
                measure(gateway, options.port, name, options.connections, 1)
            for _ in range(options.rounds):
                for name in WORKLOADS:
                    rounds[name].append(
                        measure(gateway, options.port, name, options.connections, options.seconds)
                    )
        finally:
            process.terminate()
            process.wait(15)
    medians = {
        name: {f: statistics.median(getattr(r, f) for r in done) for f in Round.__annotations__}
        for name, done in rounds.items()
    }
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {options.rounds} rounds")
    for name, figures in medians.items():
        print(name, ", ".join(f"{k} {v:,.2f}" for k, v in figures.items()))
    if options.json:
        options.json.write_text(json.dumps(medians, indent=2))


if __name__ == "__main__":
    main()

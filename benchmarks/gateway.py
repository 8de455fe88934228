"""How fast is the webhook gateway? `make bench-gateway`, or `python -m benchmarks.gateway --help`.

W1 is one HubSpot event of about 600 bytes, W2 an array of 100 of about 33 KB, W3 a Salesforce
envelope of 20 notifications. Every request is proven, split, normalised, published to real Kafka
(acks=all) with its raw body, and answered after the confirmation: by ours, by one in Go (net/http,
franz-go), by one in Node (fastify, kafkajs). Before anything is measured the three must have
written equal records for equal requests.

Generator and broker share the cores with the gateway, so what is compared is the gateway's own CPU
time. Rounds are interleaved; ratios are medians over rounds, each with its neighbour.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
import uvloop
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks import gateway_load, gateway_rivals, gateway_same
from benchmarks.gateway_load import ORGANIZATION, PORTAL, PUBLIC_URL, SECRET, WORKLOADS
from schemas.codec import Codec
from schemas.definitions import Definition
from schemas.events import PlatformEvent
from schemas.topics import DEFINITIONS
from syncline import cluster
from syncline.settings import Settings
from syncline.stack import Stack

OURS = "syncline"
TARGETS = {("W1", "go"): 0.5, ("W1", "node"): 4.0, ("W2", "go"): 1.0, ("W3", "go"): 1.0}
"""Ours is to do so many times as much as this one with a second of CPU."""
P99_MS_MAX = {"W1": 30.0}
RSS_MB_MAX = 80.0
SLICE_S = 10.0
"""A long run gives each workload so long, with requests signed anew: HubSpot's are good for five
minutes."""


@dataclass(frozen=True)
class Round:
    requests_s: float
    cpu_us_per_request: float
    cpu_ms_per_mb: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    failed: int


def measure(
    gateway: psutil.Process, port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> Round:
    before, began_s = gateway.cpu_times(), time.perf_counter()
    load = uvloop.run(gateway_load.run(requests, port, connections, seconds))
    wall_s, after = time.perf_counter() - began_s, gateway.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    took_ms = sorted(t * 1000 for t in load.took_s)
    sent_mb = len(took_ms) * statistics.mean(map(len, requests[:100])) / 1e6
    return Round(
        requests_s=len(took_ms) / wall_s,
        cpu_us_per_request=cpu_s / len(took_ms) * 1e6,
        cpu_ms_per_mb=cpu_s / sent_mb * 1e3,
        p50_ms=took_ms[len(took_ms) // 2],
        p99_ms=took_ms[int(len(took_ms) * 0.99)],
        rss_mb=gateway.memory_info().rss / 1e6,
        failed=load.failed,
    )


def define(stack: Stack) -> int:
    """Topics and connections; -> the schema id of an event."""
    cluster.create_topics(
        Settings(bootstrap_servers=stack.bootstrap_servers, registry_url=stack.registry_url)
    )
    codec = Codec.from_registry(stack.registry_url)
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    accounts = {"hubspot": (PORTAL, {}), "salesforce": ("o", {"organization_id": ORGANIZATION})}
    for name, (account, options) in accounts.items():
        webhook = {"secret": "env:BENCH_SECRET", "options": options}
        document = {"connection": name, "platform": name, "account": account, "webhook": webhook}
        for key, text in ((f"{name}@1", json.dumps(document)), (name, "")):
            definition = Definition(
                kind="connection", name=name, version=1, document=text,
                applied_ms=int(time.time() * 1000),
            )  # fmt: skip
            producer.produce(DEFINITIONS, codec.encode(definition), f"connection:{key}")
    producer.flush()
    blank = PlatformEvent(
        event_id="", connection="", platform="", object_type="", object_id="", occurred_ms=0,
        received_ms=0, values=b"", payload=b"",
    )  # fmt: skip
    return int.from_bytes(codec.encode(blank)[1:5])


@contextmanager
def started(
    commands: Mapping[str, Sequence[str]], env: Mapping[str, str]
) -> Iterator[dict[str, tuple[psutil.Process, int]]]:
    """All of them side by side, ready: process and port by name."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    found: dict[str, tuple[psutil.Process, int]] = {}
    try:
        for name, command in commands.items():
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            own = {"BENCH_PORT": str(port)}
            line = [word.replace("PORT", str(port)) for word in command]
            processes[name] = subprocess.Popen(line, env=os.environ | env | own)
            found[name] = psutil.Process(processes[name].pid), port
        for name, (_, port) in found.items():
            _await_ready(name, f"http://127.0.0.1:{port}/readyz", processes[name])
        yield found
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def _await_ready(name: str, url: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 150
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}")
        try:
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"{name} did not get ready")


Rounds = dict[tuple[str, str], list[Round]]
"""By workload and gateway, in order."""


def rounds_of(
    gateways: Mapping[str, tuple[psutil.Process, int]], options: argparse.Namespace
) -> Rounds:
    """Interleaved: in each round every workload, for it each gateway in turn."""
    rounds: Rounds = {(w, g): [] for w in options.workloads for g in gateways}
    for number in range(options.rounds + 1):
        for workload in options.workloads:
            for name, (process, port) in gateways.items():
                requests = WORKLOADS[workload].requests(number * WORKLOADS[workload].variants)
                seconds = options.seconds if number else 2.0
                done = measure(process, port, requests, options.connections, seconds)
                if number:  # nothing is cold in the rounds that count
                    rounds[workload, name].append(done)
    return rounds


def ratio(rounds: Rounds, workload: str, other: str) -> float:
    """How many times as much ours does with a second of CPU: median over rounds."""
    pairs = zip(rounds[workload, other], rounds[workload, OURS], strict=True)
    return statistics.median(t.cpu_us_per_request / o.cpu_us_per_request for t, o in pairs)


def report(rounds: Rounds) -> list[str]:
    """Prints everything; -> what is not as it is to be."""
    missed: list[str] = []
    for (workload, name), done in rounds.items():
        medians = {f: statistics.median(getattr(r, f) for r in done) for f in asdict(done[0])}
        print(f"{workload} {name:9}", ", ".join(f"{k} {v:,.2f}" for k, v in medians.items()))
        if sum(r.failed for r in done):
            missed.append(f"{workload}: {name} refused {sum(r.failed for r in done)} requests")
        if name == OURS:
            for what, most in (("p99_ms", P99_MS_MAX.get(workload)), ("rss_mb", RSS_MB_MAX)):
                if most is not None and medians[what] > most:
                    missed.append(f"{workload}: {what} {medians[what]:.1f}, aim under {most:g}")
        else:
            aim = TARGETS.get((workload, name))
            found = ratio(rounds, workload, name)
            print(f"{workload} per CPU second {OURS} does {found:.2f} times what {name} does")
            if aim is not None and found < aim:
                missed.append(f"{workload}: {found:.2f} of {name}, aim {aim:g}")
    return missed


def many(gateway: psutil.Process, port: int, stack: Stack, options: argparse.Namespace) -> bool:
    """`options.events` through one process: what it holds in memory on the way; -> no growth."""
    events, connections = options.events, options.connections
    sent, refused, resident, number = 0, 0, [], 0
    while sent < events:
        for workload in map(WORKLOADS.__getitem__, options.workloads):
            requests = workload.requests(number * workload.variants)
            left = max(1, (events - sent) // workload.events)
            load = uvloop.run(
                gateway_load.run(requests, port, connections, SLICE_S, left + connections)
            )
            refused += load.failed  # 503: Kafka was slow, nothing is promised
            sent += (len(load.took_s) - load.failed) * workload.events
            resident.append(gateway.memory_info().rss / 1e6)
        number += 1
        print(f"{sent:>12,} events, resident {resident[-1]:.1f} MB", flush=True)
    stored = _stored(stack, ("events.hubspot", "events.salesforce"))
    print(f"{sent:,} events answered 200, {stored:,} on Kafka; {refused:,} requests refused")
    third = max(1, len(resident) // 3)
    early, late = (
        statistics.median(resident[third : 2 * third]),
        statistics.median(resident[-third:]),
    )
    print(f"resident, median of the second third {early:.1f} MB, of the last {late:.1f} MB")
    return stored >= sent and late < early * 1.05


def _stored(stack: Stack, topics: Sequence[str]) -> int:
    consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "bench"})
    try:
        known = consumer.list_topics(timeout=10).topics
        ends = [
            consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            for topic in topics
            for partition in known[topic].partitions
        ]
        return sum(high - low for low, high in ends)
    finally:
        consumer.close()


def main() -> None:
    """Exit code 1: an aim was missed, or the other gateways cannot be built."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="0: only compare what is written")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--only", nargs="+", choices=("go", "node"), help="of the other gateways")
    parser.add_argument("--events", type=int, help="instead: so many events through ours alone")
    parser.add_argument("--json", type=Path, help="also write every round here")
    options = parser.parse_args()
    commands = {
        OURS: [sys.executable, "-m", "syncline", "gateway", "--port", "PORT",
               "--admin-port", "0", "--public-url", PUBLIC_URL],
    }  # fmt: skip
    if not options.events:
        try:
            rivals = gateway_rivals.build()
        except gateway_rivals.CannotBuild as error:
            sys.exit(f"cannot build the gateways to compare with\n{error}")
        commands |= {
            n: c
            for n, c in (("go", list(rivals.go)), ("node", list(rivals.node)))
            if n in (options.only or ("go", "node"))
        }
        print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {rivals.versions}")
    with TemporaryDirectory(prefix="bench-") as folder, Stack.start(Path(folder)) as stack:
        env = {
            "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": stack.registry_url,
            "BENCH_SCHEMA_ID": str(define(stack)),
            "BENCH_BOOTSTRAP": stack.bootstrap_servers,
            "BENCH_PUBLIC_URL": PUBLIC_URL,
            "BENCH_SECRET": SECRET,
            "BENCH_PORTAL": PORTAL,
            "BENCH_ORGANIZATION": ORGANIZATION,
        }
        with started(commands, env) as gateways:
            if options.events:
                good = many(*gateways[OURS], stack, options)
                sys.exit(0 if good else 1)
            ports = {name: port for name, (_, port) in gateways.items()}
            try:
                same = gateway_same.check(ports, stack.bootstrap_servers, stack.registry_url)
            except gateway_same.Different as error:
                sys.exit(f"nothing to measure: {error}")
            print(f"all wrote the same {same} records for the same requests", flush=True)
            if not options.rounds:
                return
            rounds = rounds_of(gateways, options)
    if options.json:
        flat = {f"{w} {g}": [asdict(r) for r in done] for (w, g), done in rounds.items()}
        options.json.write_text(json.dumps(flat, indent=2))
    missed = report(rounds)
    print("\n".join(["missed:", *missed]) if missed else "every aim is reached")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

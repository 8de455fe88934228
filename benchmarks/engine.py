"""How fast is the engine? `python -m benchmarks.engine [--rounds N] [--events N] [--memory N]`.

One event: 400 bytes, one of 20,000 keys on 4 partitions, one row of 208 bytes in RocksDB with a
changelog, one output with an id header. Rounds are interleaved; medians are printed. CPU is of
the whole process, all threads, from its first event to half a second after its last; the broker
shares the machine's cores, so read CPU and ratios rather than events per second. Each variant's
outputs are counted afterwards by a read-committed reader.

Quix Streams needs other versions of our dependencies: its venv is built once from
`engine_quix.lock` into the cache folder.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # pyright: ignore[reportPrivateImportUsage]
from filelock import FileLock

from streams.engine import EngineSettings
from streams.engine.restore import Restorer
from streams.engine.topics import prepare
from syncline.jars import cache_dir
from syncline.stack import Stack

HERE = Path(__file__).resolve().parent
PARTITIONS = 4
RUN_S_MAX = 900.0
KEYS = 20_000
TARGETS = {"faust": 20.0, "faust, tuned": 10.0, "quix, exactly-once": 2.0}
"""Ours must be so many times better in CPU an event."""


@dataclass
class Variant:
    """`share`: of the events, so that slow ones do not take minutes."""

    name: str
    command: Callable[[dict[str, object]], tuple[list[str], dict[str, str]]]
    share: float
    more: dict[str, object] = field(default_factory=dict)
    runs: list[tuple[float, float]] = field(default_factory=list)
    """(us of CPU an event, events a second)"""

    @property
    def cpu_us(self) -> float:
        return statistics.median(cpu for cpu, _ in self.runs)

    @property
    def per_s(self) -> float:
        return statistics.median(per_s for _, per_s in self.runs)


def ours(job: dict[str, object]) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-m", "benchmarks.engine_ours", json.dumps(job)], {}


def stock(job: dict[str, object]) -> tuple[list[str], dict[str, str]]:
    script = [str(HERE / "engine_faust.py"), "worker", "--without-web", "-l", "error"]
    return [sys.executable, *script], {"BENCH_JOB": json.dumps(job)}


def quix(job: dict[str, object]) -> tuple[list[str], dict[str, str]]:
    return [str(quix_python()), str(HERE / "engine_quix.py"), json.dumps(job)], {}


def quix_python() -> Path:
    """The interpreter of Quix Streams' venv, built on first use."""
    lock = HERE / "engine_quix.lock"
    name = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    venv = cache_dir() / f"bench-quix-{name}"
    python = venv / "bin" / "python"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(venv.parent / "bench-quix.lock"):
        if not (venv / "complete").exists():
            print("building a venv for Quix Streams (once)", flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
            subprocess.run(
                [str(python), "-m", "pip", "install", "--quiet", "--require-hashes",
                 "--disable-pip-version-check", "-r", str(lock)], check=True,
            )  # fmt: skip
            (venv / "complete").touch()
    return python


class Cluster:
    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.admin = AdminClient({"bootstrap.servers": bootstrap_servers})

    def topic(self, name: str) -> str:
        name = f"{name}-{uuid.uuid4().hex[:8]}"
        self.admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result()
        deadline = time.monotonic() + 30
        while self.admin.list_topics(name, timeout=10).topics[name].error is not None:
            assert time.monotonic() < deadline, f"{name} is made, but not known"
            time.sleep(0.05)
        return name

    def job(self, source: str, output: str, events: int, folder: str) -> dict[str, object]:
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "group": f"bench-{uuid.uuid4().hex[:8]}",
            "source": source,
            "output": output,
            "events": events,
            "data_dir": folder,
        }

    def producer(self, **more: object) -> Producer:
        return Producer(
            {"bootstrap.servers": self.bootstrap_servers, "partitioner": "murmur2_random",
             "compression.type": "lz4", "linger.ms": 20, **more}
        )  # fmt: skip

    def fill(self, topic: str, count: int, pace: Callable[[int], None] | None = None) -> None:
        """So many events. `pace` is called every 10,000."""
        producer, draw = self.producer(), random.Random(1)
        payload = draw.randbytes(8192)
        for n in range(count):
            at = draw.randrange(8192 - 200)
            value = payload[at : at + 200] + b"%0200d" % n
            while True:
                try:
                    producer.produce(topic, value, b"key-%d" % draw.randrange(KEYS))
                    break
                except BufferError:
                    producer.poll(0.1)
            if n % 10_000 == 0:
                producer.poll(0)
                if pace:
                    pace(n)
        producer.flush(60)

    def count(self, topic: str) -> int:
        """Records that a read-committed reader sees."""
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap_servers, "group.id": "count",
             "enable.partition.eof": True, "isolation.level": "read_committed"}
        )  # fmt: skip
        consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        records, ended = 0, set[int]()
        while len(ended) < PARTITIONS:
            for record in consumer.consume(10_000, 0.2):
                error = record.error()
                if error is None:
                    records += 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(record.partition() or 0)
        consumer.close()
        return records


@contextmanager
def running(
    variant: Variant, job: dict[str, object], run_s_max: float = RUN_S_MAX
) -> Iterator[subprocess.Popen[bytes]]:
    command, env = variant.command(job)
    with Path(str(job["data_dir"]), "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=HERE.parent, env={**os.environ, **env}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    limit = threading.Timer(run_s_max, process.kill)
    limit.start()
    try:
        yield process
    finally:
        limit.cancel()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure(cluster: Cluster, variant: Variant, source: str, events: int) -> None:
    output = cluster.topic("bench-out")
    with TemporaryDirectory(prefix="bench-engine-") as folder:
        job = {**cluster.job(source, output, events, folder), **variant.more}
        with running(variant, job) as process:
            assert process.stdout is not None
            line = b""
            for line in process.stdout:
                if line.startswith(b"{"):
                    break
            if not line.startswith(b"{"):
                log = Path(folder, "log").read_text(errors="replace")[-2000:]
                raise SystemExit(f"{variant.name} ended without a result: {log}")
            time.sleep(1)
        found = json.loads(line)
    seen = cluster.count(output)
    if seen != events and not variant.more.get("silent"):
        print(f"  {variant.name}: {seen:,} outputs of {events:,} events", flush=True)
    variant.runs.append((found["cpu_s"] / events * 1e6, events / found["wall_s"]))
    cpu_us, per_s = variant.runs[-1]
    print(f"  {variant.name:<24}{cpu_us:>8.1f} us CPU/event{per_s:>12,.0f} events/s", flush=True)


def compare(cluster: Cluster, rounds: int, events: int, only: str) -> list[Variant]:
    variants = [
        Variant("ours", ours, 1.0),
        Variant("ours, without outputs", ours, 1.0, {"silent": True}),
        Variant("quix, exactly-once", quix, 0.3),
        Variant("faust, tuned", stock, 0.15, {"tuned": True}),
        Variant("faust", stock, 0.07, {"tuned": False}),
    ]
    variants = [v for v in variants if only in v.name]
    sources: dict[int, str] = {}
    for variant in variants:
        count = int(events * variant.share)
        if count not in sources:
            sources[count] = cluster.topic("bench-in")
            cluster.fill(sources[count], count)
    for n in range(rounds):
        print(f"round {n + 1} of {rounds}", flush=True)
        for variant in variants:
            count = int(events * variant.share)
            measure(cluster, variant, sources[count], count)
    return variants


def restore(cluster: Cluster, rows: int) -> dict[str, float]:
    """An empty disk, a changelog of rows of 208 bytes in transactions of 5,000, a tenth aborted."""
    source, group = cluster.topic("bench-in"), f"bench-{uuid.uuid4().hex[:8]}"
    with TemporaryDirectory(prefix="bench-engine-") as folder:
        settings = EngineSettings(
            group=group, slot="0", bootstrap_servers=cluster.bootstrap_servers,
            data_dir=Path(folder),
        )  # fmt: skip
        _, ids = prepare(settings, [source], [], ["rows"])
        producer = cluster.producer(**{"transactional.id": group})
        producer.init_transactions(30)
        value, topic = random.Random(2).randbytes(208), settings.changelog("rows")
        for n in range(0, rows, 5000):
            for is_aborted in (True, False) if n % 50_000 == 0 else (False,):
                producer.begin_transaction()
                for k in range(n, n + 5000):
                    producer.produce(topic, value, b"key-%d" % k, k % PARTITIONS)
                producer.flush(30)
                (producer.abort_transaction if is_aborted else producer.commit_transaction)(30)
        restorer = Restorer(settings, {"count": [source]}, ["rows"])
        restorer.topic_ids = ids
        sources = [(source, p) for p in range(PARTITIONS)]
        cpu = time.process_time()
        restored = restorer.run(sources, lambda: False)
        cpu = time.process_time() - cpu
        assert restored is not None
        assert restored.rows == rows
        restorer.close()
    return {"rows": rows, "rows_per_s": rows / restored.seconds, "cpu_us": cpu / rows * 1e6}


def latency(cluster: Cluster, seconds: float = 20.0, rate: int = 500) -> dict[str, float]:
    """ms from produce to a read-committed reader of the output, at a low rate."""
    source, output = cluster.topic("bench-in"), cluster.topic("bench-out")
    count, found = int(seconds * rate), list[float]()
    with TemporaryDirectory(prefix="bench-engine-") as folder:
        job = cluster.job(source, output, count + 1, folder)
        with running(Variant("ours", ours, 1.0), job) as process:
            consumer = Consumer(
                {"bootstrap.servers": cluster.bootstrap_servers, "group.id": "latency",
                 "isolation.level": "read_committed", "fetch.wait.max.ms": 5}
            )  # fmt: skip
            consumer.assign([TopicPartition(output, p, 0) for p in range(PARTITIONS)])
            producer = cluster.producer(**{"linger.ms": 0})
            worker = psutil.Process(process.pid)

            def read(until_s: float) -> None:
                while (left := until_s - time.time()) > 0:
                    if (record := consumer.poll(left)) is not None and record.error() is None:
                        sent = int((record.value() or b"")[8:28])
                        found.append((time.time_ns() - sent) / 1e6)

            producer.produce(source, b"%020d%0380d" % (time.time_ns(), 0), b"first")
            while not found:  # the worker has started
                producer.flush(1)
                read(time.time() + 0.2)
            found.clear()
            began, cpu = time.time(), sum(worker.cpu_times()[:2])
            for n in range(count):
                producer.produce(
                    source, b"%020d%0380d" % (time.time_ns(), n), b"key-%d" % (n % KEYS)
                )
                producer.poll(0)
                read(began + n / rate)
            producer.flush(5)
            read(time.time() + 2)
            cpu = sum(worker.cpu_times()[:2]) - cpu
            consumer.close()
    assert len(found) == count, f"{len(found)} of {count}"
    cuts = statistics.quantiles(found, n=100)
    return {"p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98], "cpu": cpu / (seconds + 2)}


def memory(cluster: Cluster, events: int, cache_mb: int) -> list[tuple[int, float]]:
    """Resident MB of a worker while it works off so many events, written as it goes.

    RocksDB's cache fills with blocks of files that are long gone before it is full and lets go of
    them. A small one shows within minutes whether anything else rises.
    """
    source, output = cluster.topic("bench-in"), cluster.topic("bench-out")
    samples: list[tuple[int, float]] = []
    with TemporaryDirectory(prefix="bench-engine-") as folder:
        job = cluster.job(source, output, events, folder)
        job["block_cache_bytes"] = cache_mb << 20
        with running(Variant("ours", ours, 1.0), job, RUN_S_MAX + events / 1000) as process:
            worker = psutil.Process(process.pid)

            def pace(n: int) -> None:
                if process.poll() is not None:
                    log = Path(folder, "log").read_text(errors="replace")[-2000:]
                    raise SystemExit(f"the worker ended: {log}")
                if n and n % max(events // 20, 10_000) == 0:
                    samples.append((n, worker.memory_info().rss / 1e6))
                    print(f"  {n:>10,} events{samples[-1][1]:>8.0f} MB", flush=True)

            cluster.fill(source, events, pace)
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(b"{"):
                    break
            samples.append((events, worker.memory_info().rss / 1e6))
        assert cluster.count(output) == events
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=200_000, help="for ours; others take less")
    parser.add_argument(
        "--memory", type=int, default=0, help="events of the memory run, e.g. 5000000"
    )
    parser.add_argument("--cache-mb", type=int, default=8, help="RocksDB's cache in that run")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the restore; 0: none")
    parser.add_argument("--latency", action="store_true", help="measure it too, about 30 s")
    parser.add_argument("--only", default="", help="variants whose name contains this")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    figures: dict[str, object] = {}
    with Stack.start(registry=False) as stack:
        cluster = Cluster(stack.bootstrap_servers)
        if options.rounds:
            variants = compare(cluster, options.rounds, options.events, options.only)
            figures["variants"] = {v.name: {"cpu_us": v.cpu_us, "per_s": v.per_s} for v in variants}
            base = variants[0]
            print(
                f"\nmedians{'CPU us/event':>30}{'events/s':>12}{'CPU, ours = 1':>16}{'target':>9}"
            )
            for v in variants:
                ratio, target = v.cpu_us / base.cpu_us, TARGETS.get(v.name)
                wish = f">= {target:g}" if target else ""
                print(f"{v.name:<24}{v.cpu_us:>13.1f}{v.per_s:>12,.0f}{ratio:>16.1f}{wish:>9}")
        if options.rows:
            figures["restore"] = found = restore(cluster, options.rows)
            print(f"\nrestore: {found['rows']:,} rows from an empty disk, "
                  f"{found['rows_per_s']:,.0f} rows/s, "
                  f"{found['cpu_us']:.1f} us CPU/row")  # fmt: skip
        if options.latency:
            figures["latency"] = slow = latency(cluster)
            print(
                f"\nlatency at 500 events/s: p50 {slow['p50_ms']:.0f}, p95 {slow['p95_ms']:.0f}, "
                f"p99 {slow['p99_ms']:.0f} ms; the worker takes {slow['cpu']:.0%} of a core"
            )
        if options.memory:
            print(f"\nmemory over {options.memory:,} events")
            samples = memory(cluster, options.memory, options.cache_mb)
            half = [mb for n, mb in samples if n >= options.memory / 2]
            figures["memory_mb"] = samples
            print(f"second half: {min(half):.0f} to {max(half):.0f} MB")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

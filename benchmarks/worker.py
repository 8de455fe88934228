"""How many rows does a worker carry a second, for each core it has? `python -m benchmarks.worker`.

Rows of about 1 KB in commands of 500, without any quota, in requests of 500 to the simulated
Segment: real Kafka, real HTTP, everything included (decode, lanes, form, check, send, settle,
outcomes, journal, commit). All of it stands on the same cores, so what is compared is the worker's
own CPU time; the simulator's share of a core beside it shows that nobody waited for it.

`--waiting` fills the topic with so many rows for an account whose quota is one request a minute,
and looks at the worker's memory while they wait.
"""

import argparse
import inspect
import json
import logging
import os
import subprocess
import sys
import time
import types
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec
import psutil
import structlog
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from connectors import commits, uploads
from connectors.account import Account
from connectors.http import HttpClient
from connectors.lanes import Lanes
from connectors.platforms.segment import Segment
from connectors.run import ConnectorsConfig, run
from connectors.transactions import Transactions
from connectors.worker import Worker
from schemas import topics
from schemas.codec import Codec
from schemas.commands import Priority, UploadBatch, UploadRow
from schemas.definitions import Connection, Definition, Sync
from schemas.kafka_log import KAFKA_LOG
from syncline.stack import Stack

PLATFORM, ACCOUNT, KEY = "segment", "workspace", "bench-write-key"
ROWS, PARTITIONS, TARGET = 500, 4, 20_000
AHEAD = 10_000
"""Rows on the topic that are not carried yet."""
STUCK_S = 90.0
IDLE_S = 5.0
HOLD_S = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--rows", type=int, default=100_000, help="that are carried while CPU is measured")
    add("--waiting", type=int, default=1_000_000, help="rows that wait; 0: do not look")
    add("--kind", choices=("identify", "track"), default="identify")
    add("--json", type=Path, help="write the figures here too")
    add("--profile", type=Path, help="write a profile (cProfile) of the worker's event loop here")
    add("--stages", action="store_true", help="tell where the CPU went (costs a few percent)")
    add("--serve", nargs=2, metavar=("BOOTSTRAP", "REGISTRY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        bootstrap, registry_url = options.serve
        serve(bootstrap, registry_url, options.profile, stages=options.stages)
        return
    figures: dict[str, Any] = {"load_before": os.getloadavg()[0]}
    with (
        TemporaryDirectory(prefix="bench-worker-") as folder,
        Stack.start(Path(folder) / "stack") as stack,
    ):
        bench = Bench(stack, Path(folder), stages=options.stages)
        figures |= bench.carry(options.rows, options.kind, options.profile)
        said = "carries {rows_s_per_core:,.0f} rows/s per core ({cpu_us_per_row:.1f} µs a row)"
        print(said.format(**figures), f"of {TARGET:,} asked for")
        said = "{rows_s_per_core_beyond_idle:,.0f} beyond the {idle_cores:.3f} cores it uses idle"
        print(said.format(**figures))
        said = "{row_bytes} bytes a row; {rows_s:,.0f} rows/s by the clock, on {worker_cores:.2f} "
        said += "cores; the simulator used {simulator_cores:.2f}; at most {rss_mb:.0f} MB"
        print(said.format(**figures))
        print("µs a row by thread:", figures["cpu_us_per_row_by_thread"])
        if options.stages:
            print(bench.log.read_text().splitlines()[-1])
        if options.waiting:
            figures |= bench.hold(options.waiting, options.kind)
            said = "{waiting:,} rows waiting: {rss_mb_waiting} MB, every 10 s"
            print(said.format(**figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def serve(bootstrap: str, registry_url: str, profile: Path | None, *, stages: bool) -> None:
    """The process that is measured: `syncline connectors`, for this platform alone. `stages`: its
    last line says where its CPU went."""
    level = structlog.make_filtering_bound_logger(logging.INFO)
    structlog.configure(wrapper_class=level)
    config = ConnectorsConfig({"bootstrap.servers": bootstrap}, [PLATFORM])
    codec = Codec.from_registry(registry_url)
    spent = _timed() if stages else Counter[str]()
    if profile is None:
        run(config, codec)
        rows = spent.pop("rows", 1)
        print("µs a row by stage:", {name: round(s / rows / 1000, 2) for name, s in spent.items()})
        return
    import cProfile

    cProfile.runctx("run(config, codec)", globals(), locals(), str(profile))


def _timed() -> Counter[str]:
    """Nanoseconds of their own thread's CPU that stages take from now on, and how many `rows`. What
    is called within another is counted in both."""
    spent = Counter[str]()
    clock = time.thread_time_ns

    def watch(owner: Any, name: str, label: str) -> None:
        call = getattr(owner, name)

        def timed(*args: Any, **named: Any) -> Any:
            began = clock()
            try:
                return call(*args, **named)
            finally:
                spent[label] += clock() - began

        @types.coroutine
        def steps(work: Any) -> Any:
            """Without what other tasks do while it waits."""
            step, given = work.send, None
            while True:
                began = clock()
                try:
                    waits_for = step(given)
                except StopIteration as end:
                    return end.value
                finally:
                    spent[label] += clock() - began
                try:
                    step, given = work.send, (yield waits_for)
                except BaseException as error:  # noqa: BLE001 - cancelled: the work hears of it
                    step, given = work.throw, error

        async def awaited(*args: Any, **named: Any) -> Any:
            return await steps(call(*args, **named))

        setattr(owner, name, awaited if inspect.iscoroutinefunction(call) else timed)

    def count(call: Any) -> Any:
        def counted(self: Any, taken: Any, rows: Any, *others: Any) -> None:
            spent["rows"] += len(rows)
            call(self, taken, rows, *others)

        return counted

    Account.take = count(Account.take)
    for owner, name, label in STAGES:
        watch(owner, name, label)
    return spent


STAGES = (
    (Worker, "take", "take"),
    (Codec, "decode_dict", "take: decode"),
    (Lanes, "cut", "cut"),
    (Segment, "upload_batch", "upload"),
    (HttpClient, "request", "upload: HTTP"),
    (uploads, "judge", "judge"),
    (commits, "sends_of", "commit: outcomes and notes"),
    (Transactions, "commit", "commit"),
)
"""(where, what, its name)"""


class Bench:
    """Topics, definitions and commands on one cluster."""

    def __init__(self, stack: Stack, folder: Path, *, stages: bool = False) -> None:
        self.stack, self.folder, self.stages = stack, folder, stages
        self.codec = Codec.from_registry(stack.registry_url)
        self.kafka = {"bootstrap.servers": stack.bootstrap_servers}
        self.producer = Producer(
            {**self.kafka, "logger": KAFKA_LOG, "partitioner": "murmur2_random", "linger.ms": 20,
             "compression.type": "lz4", "queue.buffering.max.kbytes": 65_536}
        )  # fmt: skip
        names = [topics.commands_of(PLATFORM), topics.outcomes_of(PLATFORM)]
        names += [topics.events_of(PLATFORM), topics.JOURNAL, topics.HANDOVER, topics.PARKED]
        wanted = [NewTopic(name, PARTITIONS, 1) for name in (*names, topics.CONTROL)]
        wanted.append(NewTopic(topics.DEFINITIONS, 1, 1, config={"cleanup.policy": "compact"}))
        admin = AdminClient(self.kafka)  # held: without it nothing is made
        for future in admin.create_topics(wanted).values():
            future.result(30)
        self._versions = 0
        self.log = folder / "worker.log"

    def connect(self, url: str, quotas: dict[str, Any]) -> None:
        """The same connection with other limits."""
        self._versions += 1
        connection = Connection(
            connection=PLATFORM, platform=PLATFORM, account=ACCOUNT, base_url=url, quotas=quotas,
            secrets={"write_key": "env:BENCH_WRITE_KEY"},
        )  # fmt: skip
        sync = Sync(
            sync="bench", source=PLATFORM, source_object="any", destination=PLATFORM,
            destination_object="identify", mapping="none",
        )  # fmt: skip
        for kind, name, document in (("connection", PLATFORM, connection), ("sync", "bench", sync)):
            made = Definition(kind=kind, name=name, version=self._versions, applied_ms=0)
            whole = made.model_copy(update={"document": document.model_dump_json()})
            for key, value in (
                (f"{kind}:{name}@{self._versions}", whole),
                (f"{kind}:{name}", made),
            ):
                self.producer.produce(topics.DEFINITIONS, self.codec.encode(value), key)
        assert self.producer.flush(30) == 0

    def commands(self, count: int, kind: str, begin: int = 0) -> Iterator[bytes]:
        """Of 500 rows each."""
        for start in range(begin, begin + count, ROWS):
            batch = UploadBatch(
                account=ACCOUNT, connection=PLATFORM, object_type=kind, sync="bench",
                run="bench-1", priority=Priority.bulk, decided_ms=1,
                rows=[_row(n) for n in range(start, start + ROWS)],
            )  # fmt: skip
            yield self.codec.encode(batch)

    def send(self, commands: Iterable[bytes]) -> None:
        for value in commands:
            while True:
                try:
                    self.producer.produce(topics.commands_of(PLATFORM), value, ACCOUNT)
                    break
                except BufferError:
                    self.producer.poll(0.1)
        assert self.producer.flush(120) == 0

    def carry(self, count: int, kind: str, profile: Path | None) -> dict[str, Any]:
        """CPU of a worker that has always something to carry."""
        commands = list(self.commands(count, kind))
        with self.simulator() as (url, simulator):
            self.connect(url, {"unlimited": True})
            with self.worker(profile) as worker:
                idle_cores = self._idle(worker)
                began_s, ours, theirs = time.perf_counter(), _cpu(worker), _cpu(simulator)
                threads = _cpu_by_thread(worker)
                sent = done = peak = 0
                moved_s = time.monotonic()
                while done < count:
                    # Rows are given as a run gives them: what waits for a minute goes back.
                    ahead = min(len(commands), (done + AHEAD) // ROWS)
                    self.send(commands[sent:ahead])
                    sent = ahead
                    time.sleep(0.05)
                    before, done = done, _written(url)
                    moved_s = time.monotonic() if done > before else moved_s
                    if time.monotonic() - moved_s > STUCK_S:
                        raise TimeoutError(f"{done} of {count} rows, and no more for {STUCK_S:g} s")
                    peak = max(peak, worker.memory_info().rss)
                time.sleep(0.5)  # what went out last is settled and committed, and belongs to it
                wall_s = time.perf_counter() - began_s
                ours, theirs = _cpu(worker) - ours, _cpu(simulator) - theirs
                threads = _cpu_by_thread(worker) - threads
        carrying = ours - idle_cores * wall_s
        return {
            "rows": count,
            "idle_cores": idle_cores,
            "rows_s_per_core_beyond_idle": count / carrying,
            "row_bytes": len(_row(0).fields),
            "rows_s": count / wall_s,
            "cpu_us_per_row": ours / count * 1e6,
            "cpu_us_per_row_by_thread": {
                name: round(cpu_s / count * 1e6, 1) for name, cpu_s in threads.most_common()
            },
            "rows_s_per_core": count / ours,
            "worker_cores": ours / wall_s,
            "simulator_cores": theirs / wall_s,
            "rss_mb": peak / 1e6,
        }

    def _idle(self, worker: psutil.Process) -> float:
        """Cores that a worker without work uses: polls, heartbeats, definitions. On a machine that
        lets it carry little they would be counted for many rows."""
        deadline = time.monotonic() + STUCK_S
        while b"assigned" not in self.log.read_bytes():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no partitions within {STUCK_S:g} s")
            time.sleep(0.1)
        time.sleep(1.0)  # what taking partitions costs is over
        before, began_s = _cpu(worker), time.perf_counter()
        time.sleep(IDLE_S)
        return (_cpu(worker) - before) / (time.perf_counter() - began_s)

    def hold(self, count: int, kind: str) -> dict[str, Any]:
        """Memory of a worker with far more rows than may go."""
        with self.simulator() as (url, _):
            self.connect(url, {"tracking": {"limit": 1, "window_s": 60}})
            self.send(self.commands(count, kind, begin=10_000_000))
            with self.worker(None) as worker:
                seen: list[int] = []
                for _ in range(HOLD_S // 10):
                    time.sleep(10)  # between two looks
                    seen.append(round(worker.memory_info().rss / 1e6))
        return {"waiting": count, "rss_mb_waiting": seen}

    @contextmanager
    def simulator(self) -> Iterator[tuple[str, psutil.Process]]:
        command = [sys.executable, "-m", "simulators", "--platform", PLATFORM, "--contacts", "0"]
        command += [
            "--quota",
            f"{PLATFORM}.tracking=off",
            "--option",
            f"{PLATFORM}.write_key={KEY}",
        ]
        command += ["--while-stdin-open"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())[PLATFORM]
            try:
                yield url, psutil.Process(process.pid)
            finally:
                process.kill()

    @contextmanager
    def worker(self, profile: Path | None) -> Iterator[psutil.Process]:
        log = self.log = self.folder / f"worker-{self._versions}.log"
        command = [sys.executable, "-m", "benchmarks.worker"]
        command += ["--serve", self.stack.bootstrap_servers, self.stack.registry_url]
        command += ["--profile", str(profile)] if profile else []
        command += ["--stages"] if self.stages else []
        with (
            log.open("wb") as out,
            subprocess.Popen(
                command, stdout=out, stderr=out, env={**os.environ, "BENCH_WRITE_KEY": KEY}
            ) as process,
        ):
            try:
                yield psutil.Process(process.pid)
            except BaseException:
                print(log.read_text()[-3000:], file=sys.stderr)
                raise
            finally:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()


def _row(number: int) -> UploadRow:
    """Twenty fields, about 1 KB, as a contact has."""
    values: dict[str, Any] = {
        "email": f"person{number}@example.com",
        "firstName": f"Ann {number % 997}",
        "lastName": f"Lee {number % 7919}",
        "score": number % 100,
        "address.city": "Mülheim an der Ruhr",
        "company.name": f"ACME {number % 5000} Holding",
    }
    values |= {
        f"property_{n}": f"{number * (n + 7) % 999_983:06} value of it" * 2 for n in range(14)
    }
    return UploadRow(
        row_id=f"{number:032x}", event_id=f"{number:032x}", person=f"{number:032x}",
        record_no=number, occurred_ms=1_764_000_000_000 + number,
        fields=msgspec.json.encode(values),
    )  # fmt: skip


def _written(url: str) -> int:
    return httpx.get(f"{url}/_sim/stats").json()["rows"].get("written", 0)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _cpu_by_thread(process: psutil.Process) -> Counter[str]:
    """Seconds: of the event loop, of Python's other threads (poll, commit), of librdkafka's."""
    seen = Counter[str]()
    for thread in process.threads():
        name = Path(f"/proc/{process.pid}/task/{thread.id}/comm").read_text().strip()
        if thread.id == process.pid:
            name = "event loop"
        elif name.startswith("rdk:"):
            name = "librdkafka"
        else:
            name = "poll and commit"
        seen[name] += thread.user_time + thread.system_time
    return seen


if __name__ == "__main__":
    main()

"""A million people in one streams worker: `python -m benchmarks.people [--people N]`.

Each is a HubSpot contact with a lead and a member of a list (the example with both), made by the
real steps with the real mappings: what they wrote into `links`, `addresses` and `people` is put
into the changelogs. A real `syncline streams` then begins on an empty disk, reads all of it, and
works off changes of people drawn at random; the reading is done as often as asked for. Printed:
bytes a person, rows a second of the recoveries, resident memory all the way. Exit 1 where memory or
speed miss what is asked for.
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import ids, topics
from schemas.codec import Codec
from schemas.commands import UploadBatch
from schemas.events import Origin, PlatformEvent
from schemas.outcomes import OutcomeKind, RecordOutcome
from streams.definitions import Catalogs
from streams.engine import EngineSettings
from streams.engine.topics import prepare
from streams.steps.addresses import Addresses
from streams.steps.links import Links
from streams.steps.outputs import Send
from streams.steps.people import People
from syncline.stack import Stack

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "hubspot-to-salesforce-and-mailchimp"
SECRETS = (
    "HUBSPOT_TOKEN", "HUBSPOT_SECRET", "MAILCHIMP_API_KEY", "SALESFORCE_CLIENT_ID",
    "SALESFORCE_CLIENT_SECRET",
)  # fmt: skip
GROUP = "syncline-streams"
TABLES = ("links", "addresses", "people")
TOGETHER = 5_000
"""People made at a time, and rows in a transaction of a changelog."""
RSS_MAX_MB, ROWS_PER_S = 1024, 150_000
FIRST_MS = 1_790_000_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=50_000, help="worked off at the end")
    parser.add_argument("--rounds", type=int, default=3, help="recoveries; the median counts")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    with (
        TemporaryDirectory(prefix="bench-people-") as folder,
        Stack.start(Path(folder) / "stack") as stack,
    ):
        bench = Bench(stack, Path(folder))
        figures = bench.fill(options.people)
        print(", ".join(f"{t} {figures[t]:.0f}" for t in TABLES), "bytes a person, packed")
        speeds = [bench.recover(options.people) for _ in range(options.rounds - 1)]
        figures |= bench.work(options.people, options.changes)
        figures["rows_per_s"] = statistics.median([*speeds, figures["rows_per_s"]])
    print(
        f"recovery of {figures['rows']:,.0f} rows: {figures['rows_per_s']:,.0f} a second, asked "
        f"for {ROWS_PER_S:,}\nresident at most {figures['rss_restore_mb']:.0f} MB while it read, "
        f"{figures['rss_work_mb']:.0f} MB while it worked, asked for {RSS_MAX_MB}"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    most = max(figures["rss_restore_mb"], figures["rss_work_mb"])
    sys.exit(most > RSS_MAX_MB or figures["rows_per_s"] < ROWS_PER_S)


class Kept:
    """Rows of one table that were made and not yet written out."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.rows.get(key)

    def put(self, key: str, row: bytes | None) -> None:
        assert row is not None
        self.rows[key] = row


class Bench:
    def __init__(self, stack: Stack, folder: Path) -> None:
        self.folder = folder
        self.kafka = {"bootstrap.servers": stack.bootstrap_servers}
        self.env = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": stack.registry_url,
            "SYNCLINE_DATA": str(folder / "data"),
            **dict.fromkeys(SECRETS, "secret"),
        }
        self.codec = Codec.from_registry(stack.registry_url)
        subprocess.run(
            [sys.executable, "-m", "syncline", "apply", str(EXAMPLE), "--yes"],
            env=self.env, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.catalog = Catalogs(self.kafka, self.codec, b"").now
        self.admin = AdminClient(self.kafka)

    def fill(self, count: int) -> dict[str, float]:
        """The changelogs of so many people -> bytes of a person's row in each table."""
        settings = EngineSettings(
            group=GROUP, slot="0", data_dir=self.folder / "none",
            bootstrap_servers=self.kafka["bootstrap.servers"],
        )  # fmt: skip
        prepare(settings, [topics.RESOLVED], [], [*TABLES, "runs"])
        producer = Producer({
            **self.kafka, "partitioner": "murmur2_random", "compression.type": "lz4",
            "linger.ms": 20, "transactional.id": "bench-people",
        })  # fmt: skip
        producer.init_transactions(30)
        sizes = Counter[str]()
        began_s = time.monotonic()
        for first in range(0, count, TOGETHER):
            producer.begin_transaction()
            for table, rows in self._made(range(first, min(first + TOGETHER, count))).items():
                for key, row in rows.items():
                    if not key.startswith("!"):  # what a partition has in common is made anew
                        producer.produce(settings.changelog(table), row, key.encode())
                        sizes[table] += len(row)
                producer.poll(0)
            producer.commit_transaction(60)
            if (done := first + TOGETHER) % 100_000 == 0:
                print(f"  made {done:,} people, {time.monotonic() - began_s:.0f} s", flush=True)
        return {table: sizes[table] / count for table in TABLES}

    def _made(self, numbers: range) -> dict[str, dict[str, bytes]]:
        """Rows of people who were read, asked for, shaped, sent and written."""
        links, owners, people = Kept(), Kept(), Kept()
        events = [Send("", e.object_key, e) for e in (contact(n) for n in numbers)]
        asked = told(events, lambda: Links(links, self.catalog))
        answers = told([s for s in asked if s.topic == topics.ASKED], lambda: Addresses(owners))
        resolved = told(answers, lambda: Links(links, self.catalog))
        commands = told(
            [s for s in resolved if s.topic == topics.RESOLVED],
            lambda: People(people, self.catalog, 0),
        )
        batches = [s.message for s in commands if isinstance(s.message, UploadBatch)]
        outcomes = [
            Send("", row.person, RecordOutcome(
                row_id=row.row_id, person=row.person, connection=batch.connection,
                object_type=batch.object_type, sync=batch.sync, kind=OutcomeKind.written,
                object_id=row.row_id[:18], at_ms=FIRST_MS + 60_000,
            ))
            for batch in batches for row in batch.rows
        ]  # fmt: skip
        assert len(outcomes) == 2 * len(numbers), (len(outcomes), len(numbers))
        told(outcomes, lambda: People(people, self.catalog, 0))
        return {"links": links.rows, "addresses": owners.rows, "people": people.rows}

    def recover(self, count: int) -> float:
        """Rows a second of a worker that begins on an empty disk, and ends when it has all."""
        with self._worker() as (worker, log):
            rows, seconds, _ = self._recovered(worker, log, count)
        shutil.rmtree(self.folder / "data" / "streams")
        return rows / seconds

    def work(self, count: int, changes: int) -> dict[str, float]:
        """The same, then changes of people drawn at random."""
        with self._worker() as (worker, log):
            rows, seconds, most_mb = self._recovered(worker, log, count)
            self._change(count, changes)
            worked_mb = watched(worker, lambda: self._resolved() >= changes, 900)
            print(f"  {changes:,} changes worked off, {worked_mb:.0f} MB", flush=True)
        disk = sum(f.stat().st_size for f in (self.folder / "data").rglob("*") if f.is_file())
        return {
            "rows": rows, "rows_per_s": rows / seconds, "rss_restore_mb": most_mb,
            "rss_work_mb": worked_mb, "disk_mb": disk / 1e6,
        }  # fmt: skip

    def _recovered(self, worker: psutil.Process, log: Path, count: int) -> tuple[int, float, float]:
        """Rows, seconds as the worker counts them, most resident MB."""
        most_mb = watched(worker, lambda: "partitions taken" in log.read_text(), 900)
        said = re.search(
            r'"rows": (\d+), "seconds": ([\d.]+), "event": "partitions taken"', log.read_text()
        )
        assert said, log.read_text()[-3000:]
        rows, seconds = int(said[1]), float(said[2])
        assert rows >= len(TABLES) * count, rows
        spent = worker.cpu_times()
        cpu_us = (spent.user + spent.system) / rows * 1e6
        print(
            f"  {rows:,} rows in {seconds:.1f} s, {cpu_us:.1f} us CPU each, {most_mb:.0f} MB",
            flush=True,
        )
        return rows, seconds, most_mb

    @contextmanager
    def _worker(self) -> Iterator[tuple[psutil.Process, Path]]:
        log = self.folder / "streams.log"
        with (
            log.open("wb") as out,
            subprocess.Popen(
                [sys.executable, "-m", "syncline", "streams"], env=self.env, stdout=out, stderr=out
            ) as process,
        ):
            try:
                yield psutil.Process(process.pid), log
            finally:
                process.terminate()
                process.wait(30)

    def _change(self, count: int, changes: int) -> None:
        producer = Producer({**self.kafka, "partitioner": "murmur2_random", "linger.ms": 20})
        draw = random.Random(1)
        for n in range(changes):
            event = contact(draw.randrange(count), f"Changed{n}", FIRST_MS + 3_600_000 + n)
            while True:
                try:
                    producer.produce(
                        topics.events_of("hubspot"), self.codec.encode(event),
                        event.object_key.encode(),
                    )  # fmt: skip
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush(60)

    def _resolved(self) -> int:
        """Resolved records that the worker has worked off, by its committed offsets."""
        asked = ConsumerGroupTopicPartitions(GROUP, [
            TopicPartition(topics.RESOLVED, p)
            for p in self.admin.list_topics(topics.RESOLVED, timeout=10)
            .topics[topics.RESOLVED].partitions
        ])  # fmt: skip
        answer = self.admin.list_consumer_group_offsets([asked])[GROUP].result(30)
        committed = [p for p in answer.topic_partitions or () if p.offset >= 0]
        return _count_up_to(self.kafka, committed)


def _count_up_to(kafka: dict[str, Any], parts: list[TopicPartition]) -> int:
    """Records before these offsets; markers of transactions stand between them."""
    consumer = Consumer({
        **kafka, "group.id": "bench-people-count", "isolation.level": "read_committed",
        "enable.auto.commit": False, "auto.offset.reset": "earliest",
    })  # fmt: skip
    ends = {p.partition: p.offset for p in parts}
    todo = {p for p, end in ends.items() if end > 0}
    count = 0
    consumer.assign([TopicPartition(topics.RESOLVED, p, 0) for p in todo])
    silent_since = time.monotonic()
    while todo and time.monotonic() < silent_since + 2:
        for record in consumer.consume(5000, 0.2):
            silent_since = time.monotonic()
            partition, offset = record.partition() or 0, record.offset() or 0
            count += offset < ends[partition]
            if offset + 1 >= ends[partition]:
                todo.discard(partition)
    consumer.close()
    return count


def contact(number: int, last_name: str = "", at_ms: int = 0) -> PlatformEvent:
    """As a bulk fetch reads it, or as a webhook tells it later."""
    values = json.dumps({
        "email": f"person{number}@example.com", "firstname": f"First{number % 977}",
        "lastname": last_name or f"Last{number % 7919}", "phone": f"+49 30 {1_000_000 + number}",
        "company": f"Company {number % 4999}", "jobtitle": "Head of Marketing", "city": "Berlin",
        "country": "Germany", "numberofemployees": str(number % 900),
        "hs_analytics_source": "ORGANIC_SEARCH",
    }).encode()  # fmt: skip
    key = ids.object_key("hubspot", "contact", str(number))
    at_ms = at_ms or FIRST_MS + number
    return PlatformEvent(
        event_id=ids.fetched_event_id("", key, values), connection="hubspot", platform="hubspot",
        object_type="contact", object_id=str(number), origin=Origin.fetch, occurred_ms=at_ms,
        received_ms=at_ms + 1_000, values=values, payload=values,
    )  # fmt: skip


def told(sends: list[Send], start: Callable[[], Any]) -> list[Send]:
    """Every message through a step -> what it sends."""
    step = start()
    for send in sends:
        if send.message is not None:
            step.take(send.key, send.message)
    return step.close()


def watched(process: psutil.Process, done: Callable[[], bool], wait_s: float) -> float:
    """Most resident MB of a process until something is done."""
    most, deadline, asked = 0.0, time.monotonic() + wait_s, 0.0
    while time.monotonic() < deadline:
        most = max(most, process.memory_info().rss / 1e6)
        if time.monotonic() - asked > 3:
            if done():
                return most
            asked = time.monotonic()
        time.sleep(0.1)
    raise SystemExit(f"not done after {wait_s:g} s")


if __name__ == "__main__":
    main()

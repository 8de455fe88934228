"""A platform of its own on the shared cluster: topics, definitions, a worker process, readers."""

import itertools
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas import topics
from schemas.base import Message
from schemas.codec import Codec
from schemas.commands import Priority, UploadBatch, UploadRow
from schemas.definitions import Connection, Definition, Sync
from schemas.follow import Follower
from schemas.outcomes import RecordOutcome
from syncline.stack import Stack
from tests.tiny_platform import TinyServer

PARTITIONS = 4
ROOT = Path(__file__).parents[1]


def until(true: Callable[[], Any], timeout_s: float = 30.0, what: str = "") -> Any:
    """Waits for a condition; AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        if value := true():
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what or true}"
        time.sleep(0.05)


@contextmanager
def alone() -> Iterator["World"]:
    """A world on a cluster of its own, for benchmarks."""
    with (
        TemporaryDirectory(prefix="worker-world-") as folder,
        Stack.start(Path(folder) / "stack") as stack,
        World(stack, Path(folder)) as world,
    ):
        yield world


class World:
    """`with World(stack, tmp_path) as world`: nothing of it is left behind."""

    def __init__(self, stack: Any, folder: Path) -> None:
        self.platform = f"tiny{uuid.uuid4().hex[:8]}"
        self.stack, self.folder = stack, folder
        self.kafka = {"bootstrap.servers": stack.bootstrap_servers}
        self.codec = Codec.from_registry(stack.registry_url)
        self.server = TinyServer()
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._starts = itertools.count()
        self._readers: dict[str, tuple[Follower, list[Any]]] = {}
        self._producer = Producer({**self.kafka, "partitioner": "murmur2_random", "linger.ms": 5})

    def __enter__(self) -> "World":
        self.server.__enter__()
        p = self.platform
        names = [topics.commands_of(p), topics.outcomes_of(p), topics.events_of(p)]
        shared = [topics.JOURNAL, topics.HANDOVER, topics.PARKED, topics.CONTROL]
        admin = AdminClient(self.kafka)
        wanted = [NewTopic(name, PARTITIONS, 1) for name in (*names, *shared)]
        wanted.append(NewTopic(topics.DEFINITIONS, 1, 1, config={"cleanup.policy": "compact"}))
        for future in admin.create_topics(wanted).values():
            try:
                future.result(30)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        os.environ["TINY_TOKEN"] = "tiny-secret-token"
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.workers.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        for follower, _ in self._readers.values():
            follower.close()
        self.server.__exit__()

    # ---- definitions

    def connect(self, account: str, match: str = "", **more: Any) -> str:
        """Define a connection to an account of the server, and a sync to it -> connection."""
        name = f"{self.platform}-{account}"
        document = self.connection(account, **more)
        self.define("connection", name, document)
        sync = Sync(
            sync=name, source=name, source_object="person", destination=name,
            destination_object="person", mapping="none", match=match,
        )  # fmt: skip
        self.define("sync", name, sync)
        self.flush()
        return name

    def connection(self, account: str, **more: Any) -> Connection:
        return Connection(
            connection=f"{self.platform}-{account}", platform=self.platform, account=account,
            base_url=self.server.url(account), secrets={"token": "env:TINY_TOKEN"}, **more,
        )  # fmt: skip

    def define(self, kind: str, name: str, document: Any, version: int = 1) -> None:
        made = Definition(kind=kind, name=name, version=version, applied_ms=0)
        whole = made.model_copy(update={"document": document.model_dump_json()})
        self.send(topics.DEFINITIONS, f"{kind}:{name}@{version}", whole)
        self.send(topics.DEFINITIONS, f"{kind}:{name}", made)

    def limit(self, **windows: dict[str, Any]) -> None:
        """Quotas that every request of this platform spends from, before a worker starts."""
        said = {"source": "https://example.com", "read_on": "2026-11-25"}
        groups = {name: list(windows) for name in ("read", "write")}
        document = {
            "platform": self.platform, "groups": groups,
            "windows": {name: {**window, **said} for name, window in windows.items()},
        }  # fmt: skip
        (self.folder / f"{self.platform}.json").write_bytes(msgspec.json.encode(document))

    # ---- commands

    def send(self, topic: str, key: str, message: Message | bytes, partition: int = -1) -> None:
        value = message if isinstance(message, bytes) else self.codec.encode(message)
        self._producer.produce(topic, value, key, partition)
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def rows(self, count: int, begin: int = 0, **fields: Any) -> list[UploadRow]:
        return [self.row(f"{begin + n}", **fields) for n in range(count)]

    def row(self, number: str, object_id: str = "", **fields: Any) -> UploadRow:
        values = {"email": f"{number}@example.com", **fields}
        return UploadRow(
            row_id=f"row-{number}", event_id=f"event-{number}", person=f"person-{number}",
            record_no=0, object_id=object_id, occurred_ms=1, fields=msgspec.json.encode(values),
        )  # fmt: skip

    def upload(
        self, account: str, rows: list[UploadRow], partition: int = -1, object_type: str = "person",
        priority: Priority = Priority.live,
    ) -> None:  # fmt: skip
        name = f"{self.platform}-{account}"
        batch = UploadBatch(
            account=account, connection=name, object_type=object_type, sync=name,
            run=f"{name}-1", priority=priority, decided_ms=1, rows=rows,
        )  # fmt: skip
        self.send(topics.commands_of(self.platform), account, batch, partition)

    # ---- workers

    def start(self, slot: str = "0", wait: bool = True) -> str:
        """A worker process -> the address of its admin port, once it is ready."""
        log = self.folder / f"worker-{slot}-{next(self._starts)}.log"
        with log.open("wb") as out:
            self.workers[slot] = subprocess.Popen(
                [sys.executable, "-m", "tests.tiny_worker", self.platform, slot,
                 self.stack.bootstrap_servers, self.stack.registry_url],
                stdout=out, stderr=out, cwd=ROOT,
                env={**os.environ, "TINY_QUOTAS": str(self.folder)},
            )  # fmt: skip
        self.log = log
        return until(lambda: self._admin(log, slot), 40, f"worker ready; {log}") if wait else ""

    def _admin(self, log: Path, slot: str) -> str:
        assert self.workers[slot].poll() is None, log.read_text()[-3000:]
        for line in log.read_text().splitlines():
            if "admin_port=" in line:
                port = line.partition("admin_port=")[2].split()[0].strip("\x1b[0m")
                url = f"http://127.0.0.1:{port}"
                try:
                    return url if httpx.get(f"{url}/readyz").status_code == 200 else ""
                except httpx.HTTPError:
                    return ""
        return ""

    def kill(self, slot: str = "0", how: int = signal.SIGKILL) -> int:
        process = self.workers[slot]
        process.send_signal(how)
        return process.wait(15)

    # ---- what is visible to a reader of committed records

    def read(self, topic: str) -> list[Any]:
        """All messages of this platform so far, decoded. Call it again for more."""
        if topic not in self._readers:
            self._readers[topic] = Follower(self.kafka, topic), []
        follower, found = self._readers[topic]
        for record in follower.read_to_end():
            if topic == topics.JOURNAL and not record.key().startswith(self.platform.encode()):
                continue  # another test's
            found.append(self.codec.decode(record.value()))
        return found

    def outcomes(self) -> list[RecordOutcome]:
        return [
            m for m in self.read(topics.outcomes_of(self.platform)) if isinstance(m, RecordOutcome)
        ]

    def fates(self, row_ids: Iterable[str], timeout_s: float = 30.0) -> dict[str, RecordOutcome]:
        """Waits until each of these rows has an outcome; fails where one has two."""
        wanted = set(row_ids)
        until(lambda: wanted <= {o.row_id for o in self.outcomes()}, timeout_s, "all outcomes")
        return self.once(wanted)

    def once(self, wanted: set[str]) -> dict[str, RecordOutcome]:
        counts = Counter(o.row_id for o in self.outcomes())
        twice = {r: n for r, n in counts.items() if n > 1}
        assert not twice, f"outcomes twice: {dict(itertools.islice(twice.items(), 5))}"
        return {o.row_id: o for o in self.outcomes() if o.row_id in wanted}

    def journal(self) -> list[Any]:
        return self.read(topics.JOURNAL)

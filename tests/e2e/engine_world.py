"""A world for the engine's toy job: topics, a feeder, workers that are killed, and the audit.

The audit knows nothing of the engine: it reads the committed source, folds it in plain Python, and
compares with what a read-committed reader of the outputs, of the changelogs and of every local
copy sees.
"""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # pyright: ignore
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from schemas.transactions import insist
from streams.engine import EngineSettings
from streams.engine.store import Memory, Store
from tests.e2e.engine_job import Job, Row

PARTITIONS = 4
POINTS = ("chunk", "offsets_sent", "outputs_produced", "delivered", "committed", "local_written",
          "restoring")  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


def wait(until: Callable[[], bool], seconds: float, what: str, every_s: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(every_s)


def ends(bootstrap_servers: str, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """End of every partition, records of open transactions included: a transaction is committed
    before its markers stand in the log, and until then a committed reader's end is an earlier one.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    known = admin.list_topics(timeout=10).topics
    asked = {TopicPartition(t, p): OffsetSpec.latest() for t in topics for p in known[t].partitions}
    futures = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED)
    return {(at.topic, at.partition): future.result().offset for at, future in futures.items()}


def read_all(bootstrap_servers: str, topic: str) -> list[Message]:
    """Every committed record of a topic, up to its end now."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "audit",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    todo = {p: end for (_, p), end in ends(bootstrap_servers, [topic]).items() if end > 0}
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in todo])
    found: list[Message] = []
    deadline = time.monotonic() + 60
    while todo:
        assert time.monotonic() < deadline, f"{topic}: end of {todo} not reached"
        for message in consumer.consume(5000, 0.1):
            error, reached = message.error(), message.offset() or 0
            if error is None:
                found.append(message)
                reached += 1
            else:  # comes again after each marker
                assert error.code() == KafkaError._PARTITION_EOF, error
            partition = message.partition() or 0
            if reached >= todo.get(partition, 0):
                todo.pop(partition, None)
    consumer.close()
    return found


def _insist(call: Callable[[float], None]) -> None:
    """A call of the feeder's: the broker may be busy, or away."""
    insist(call, 10, wait_s=120.0)


def header(message: Message, name: str) -> str:
    values = [value for key, value in message.headers() or () if key == name]
    assert len(values) == 1, (name, message.headers())
    assert isinstance(values[0], bytes)
    return values[0].decode()


@dataclasses.dataclass
class Worker:
    slot: str
    process: subprocess.Popen[bytes]
    data_dir: Path
    log: Path
    point: str = ""
    may_leave: bool = False
    """Exit 70 is right: it was frozen, or its place or its broker was taken."""
    expected: set[int] = dataclasses.field(default_factory=set)

    def kill(self) -> None:
        self.expected = {-9, *self.expected}
        self.process.kill()
        self.process.wait(10)

    def terminate(self) -> float:
        """SIGTERM; seconds until it is gone, with exit 0, or 70 where it ran out of time: on a
        machine as busy as that, nothing is lost by it either."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(60)
        self.expected |= {0, 70} if "not stopped in time" in self.tail() else {0}
        self.check()
        return time.monotonic() - began

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    @property
    def has_taken(self) -> bool:
        return "partitions taken" in self.log.read_text(errors="replace")

    @property
    def code(self) -> int | None:
        return self.process.poll()

    def check(self) -> None:
        """It runs, or ended as it should."""
        allowed = {*self.expected, None}
        if self.point:
            allowed.add(-9)
        if self.may_leave:
            allowed.add(70)
        assert self.code in allowed, f"exit {self.code} of slot {self.slot}: {self.tail()}"

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


class World:
    """One group, its topics and its workers. Close it: `with World(...) as world`."""

    def __init__(
        self, bootstrap_servers: str, folder: Path, *, inputs: int = 1, seed: int = 1,
        source_config: dict[str, str] | None = None, **job: object,
    ) -> None:  # fmt: skip
        self.bootstrap_servers, self.folder = bootstrap_servers, folder
        self.random = random.Random(seed)
        self.name = f"engine-{uuid.uuid4().hex[:8]}"
        self.inputs = [f"{self.name}.in{n}" for n in range(inputs)]
        self.output, self.parked = f"{self.name}.out", f"{self.name}.parked"
        self.job = Job(
            bootstrap_servers=bootstrap_servers, group=self.name, slot="", data_dir="",
            inputs=self.inputs, output=self.output, parked=self.parked,
        )  # fmt: skip
        for name, value in job.items():
            setattr(self.job, name, value)
        self.admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        new = [NewTopic(t, PARTITIONS, 1, config=source_config or {}) for t in self.inputs]
        new += [NewTopic(t, PARTITIONS, 1) for t in (self.output, self.parked)]
        self._create(new)
        self.workers: list[Worker] = []
        self.kills = 0
        self.left = 0
        """Workers that ended themselves with exit 70."""
        self._runs = 0
        self._moves: dict[str, int] = {}
        self._feeding = threading.Event()
        self._feeder: threading.Thread | None = None

    def _create(self, topics: list[NewTopic]) -> None:
        """A broker on a busy machine may answer before it may hold partitions."""
        deadline = time.monotonic() + 60
        left = topics
        while left:
            failed = []
            for topic, future in self.admin.create_topics(left).items():
                try:
                    future.result()
                except KafkaException as error:
                    code = error.args[0].code()
                    if code != KafkaError.TOPIC_ALREADY_EXISTS:
                        if code != KafkaError.INVALID_REPLICATION_FACTOR:
                            raise
                        failed.append(topic)
            assert time.monotonic() < deadline, f"topics not made: {failed}"
            left = [topic for topic in left if topic.topic in failed]

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_feeding()
        for worker in self.workers:
            if worker.code is None:
                worker.process.kill()
                worker.process.wait(10)

    # Workers

    def start(self, slot: str, point: str = "", data_dir: Path | None = None) -> Worker:
        """A new worker in this slot; `point` kills or freezes it there (see engine/exits.py)."""
        self._runs += 1
        data = data_dir or self.folder / f"slot-{slot}-{self._moves.get(slot, 0)}"
        job = msgspec.structs.replace(self.job, slot=slot, data_dir=str(data))
        log = self.folder / f"worker-{self._runs}-slot-{slot}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.engine_job", msgspec.json.encode(job).decode()],
                cwd=ROOT, env={**os.environ, "SYNCLINE_ENGINE_POINT": point},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        worker = Worker(slot, process, data, log, point)
        self.workers.append(worker)
        return worker

    def move(self, slot: str) -> None:
        """Workers that are started in this slot from now on have another folder, empty at first."""
        self._moves[slot] = self._moves.get(slot, 0) + 1

    def started(self, worker: Worker, seconds: float = 90) -> Worker:
        """Wait until it has taken partitions for the first time."""
        wait(lambda: worker.has_taken or worker.code is not None, seconds,
             f"worker in slot {worker.slot} takes partitions")  # fmt: skip
        return worker

    def wipe(self, worker: Worker) -> None:
        shutil.rmtree(worker.data_dir, ignore_errors=True)

    def check_exits(self) -> None:
        for worker in self.workers:
            worker.check()
        self.left = sum(worker.code == 70 for worker in self.workers)

    # Source

    def feed(self, count: int, *, keys: int = 300, values: Iterable[bytes] = ()) -> None:
        """So many records, spread over the inputs; `values` are strewn in. Committed at once."""
        producer = self._producer()
        _insist(producer.init_transactions)
        producer.begin_transaction()
        special = list(values)
        for n in range(count):
            value = b"%d" % self.random.randrange(10**9)
            if special and n >= count // 2:
                value = special.pop()
            self._produce(producer, keys, value)
        _insist(producer.commit_transaction)

    def _producer(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "transactional.id": f"feeder-{uuid.uuid4().hex}",
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": 5,
                "log_level": 0,
            }
        )

    def _produce(self, producer: Producer, keys: int, value: bytes) -> None:
        key = b"key-%d" % self.random.randrange(keys)
        while True:
            try:
                producer.produce(self.random.choice(self.inputs), value, key)
                return
            except BufferError:
                producer.poll(0.05)

    def start_feeding(self, rate: int, *, keys: int = 300, aborted: float = 0.15) -> None:
        """Transactions of 1 to 60 records, a part of them aborted, until `stop_feeding`."""
        self._feeding.set()

        def run() -> None:
            producer = self._producer()
            _insist(producer.init_transactions)
            began, sent = time.monotonic(), 0
            while self._feeding.is_set():
                if sent > (time.monotonic() - began) * rate:
                    time.sleep(0.005)
                    continue
                size = self.random.randint(1, 60)
                producer.begin_transaction()
                for _ in range(size):
                    self._produce(producer, keys, b"%d" % self.random.randrange(10**9))
                if self.random.random() < aborted:
                    producer.flush(10)  # so that the aborted records stand in the log
                    _insist(producer.abort_transaction)
                else:
                    _insist(producer.commit_transaction)
                sent += size

        self._feeder = threading.Thread(target=run, daemon=True)
        self._feeder.start()

    def stop_feeding(self) -> None:
        self._feeding.clear()
        if self._feeder is not None:
            self._feeder.join(40)
            self._feeder = None

    # Audit

    def lag(self) -> int:
        """Offsets between the group's commits and the ends of the inputs; 1 where Kafka is away."""
        asked = [TopicPartition(t, p) for t in self.inputs for p in range(PARTITIONS)]
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap_servers, "group.id": self.name,
             "enable.auto.commit": False}
        )  # fmt: skip
        try:
            stands = {(at.topic, at.partition): at for at in consumer.committed(asked, timeout=20)}
            until = ends(self.bootstrap_servers, self.inputs)
            return sum(end - max(0, stands[at].offset) for at, end in until.items())
        except KafkaException:  # a broker that has just come back says no in several ways
            return 1
        finally:
            consumer.close()

    def member(self, slot: str) -> str:
        """The group's id for the worker of this slot, with or without partitions; empty: none."""
        found = self.admin.describe_consumer_groups([self.name])[self.name].result()
        mine = [m.member_id for m in found.members if m.group_instance_id == f"{self.name}-{slot}"]
        return mine[0] if mine else ""

    def settle(self, seconds: float = 60) -> None:
        """Wait until the group has committed the whole source."""
        wait(lambda: self.lag() == 0, seconds, "the group reaches the end", 0.2)

    def compact_no_more(self) -> None:
        """The source stays as it is: an audit finds what the workers found."""
        kept = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
        wanted = [
            ConfigResource(ResourceType.TOPIC, name, incremental_configs=[kept])
            for name in self.inputs
        ]
        for future in self.admin.incremental_alter_configs(wanted).values():
            future.result(10)
        before, now = -1, self._held()
        while before != now:  # a compaction that was under way ends
            time.sleep(1)
            before, now = now, self._held()

    def _held(self) -> int:
        """Records of the source."""
        return sum(len(read_all(self.bootstrap_servers, name)) for name in self.inputs)

    def audit(self) -> int:
        """Stop all workers and compare everything with a plain fold. Returns records audited."""
        for worker in self.workers:
            if worker.code is None:
                worker.wake()  # one may have frozen at its point before it took anything
                self.started(worker)  # before, SIGTERM ends Python as it ends any program
                worker.terminate()
        self.check_exits()
        rows: dict[bytes, Row] = {}
        outputs: dict[str, tuple[bytes, bytes]] = {}
        parked: Counter[str] = Counter()
        for topic in self.inputs:
            for message in sorted(read_all(self.bootstrap_servers, topic), key=_place):
                offset, key, value = message.offset(), message.key(), message.value()
                assert isinstance(key, bytes)
                assert isinstance(value, bytes)
                assert offset is not None
                place = f"{topic}-{message.partition()}-{offset}"
                if value in (b"poison", b"big"):
                    parked[place] += 1
                    continue
                row = rows.setdefault(key, {})
                count, chain, _ = row.get(topic, (0, 0, -1))
                row[topic] = count + 1, zlib.crc32(value, chain), offset
                outputs[place] = key, msgspec.json.encode(row[topic])
        agents = ["one", "two"] if self.job.two_agents else ["one"]
        self._check_outputs(agents, outputs)
        seen = Counter(header(m, "id") for m in read_all(self.bootstrap_servers, self.parked))
        assert seen == Counter({place: n * len(agents) for place, n in parked.items()})
        for agent in agents:
            self._check_rows(f"{agent}-rows", rows)
        return len(outputs) + len(parked)

    def _check_outputs(self, agents: list[str], expected: dict[str, tuple[bytes, bytes]]) -> None:
        found: Counter[tuple[str, str]] = Counter()
        wrong = []
        for message in read_all(self.bootstrap_servers, self.output):
            agent, place = header(message, "agent"), header(message, "id")
            found[agent, place] += 1
            if expected.get(place) != (message.key(), message.value()):
                wrong.append((place, expected.get(place), message.value()))
        missing = [(a, p) for a in agents for p in expected if (a, p) not in found]
        repeated = [at for at, n in found.items() if n > 1]
        summary = f"{len(missing)} missing, {len(repeated)} repeated, {len(wrong)} wrong"
        assert not missing, f"{summary}: {missing[:5]}"
        assert not repeated, f"{summary}: {repeated[:5]}"
        assert not wrong, f"{summary}: {wrong[:5]}"

    def _check_rows(self, table: str, expected: dict[bytes, Row]) -> None:
        """The changelog is the fold; and each local copy is the changelog up to where it says."""
        decode = msgspec.msgpack.Decoder(Row).decode
        changelog = sorted(read_all(self.bootstrap_servers, f"{self.name}-{table}-changelog"),
                           key=_place)  # fmt: skip
        state = {m.key(): m.value() for m in changelog}
        rows = {key: decode(value or b"") for key, value in state.items()}
        assert {k: {t: tuple(v) for t, v in row.items()} for k, row in rows.items()} == expected
        memory = Memory(EngineSettings(group="g", slot="s", bootstrap_servers="",
                                       data_dir=self.folder))  # fmt: skip
        for path in self.folder.glob(f"*/{self.name}-*"):
            number = int(path.name.rsplit("-", 1)[1])
            store = Store(path, memory)
            reached = store.reached.changelogs.get(table, 0)
            known: dict[bytes, bytes] = {}
            for message in changelog:
                key, value = message.key(), message.value()
                if message.partition() == number and (message.offset() or 0) < reached:
                    assert isinstance(key, bytes)
                    assert isinstance(value, bytes)
                    known[key] = value
            assert store.rows(table) == known, f"{path} is not its changelog up to {reached}"
            store.close()


def _place(message: Message) -> tuple[int, int]:
    return message.partition() or 0, message.offset() or 0

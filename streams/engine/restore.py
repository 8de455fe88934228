"""Bring partitions to the state of their committed offsets. Blocks; runs in a thread of its own.

The order matters. First the *stable* committed offsets: aiokafka's own look-up does not wait for
transactions that are still open, and was seen to answer with offsets from before them. Then the
ends of the changelogs as an uncommitted reader sees them. Then committed rows up to there: what
stands before the end belongs to the offsets, because one transaction wrote both.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaRecord
from confluent_kafka.admin import (
    AdminClient,
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
)

from streams.engine.exits import AWAY_S_MAX, hit, leave
from streams.engine.ledger import Part, Source, check_vector, decode_ahead
from streams.engine.settings import EngineSettings
from streams.engine.store import Memory, Reached, Store
from streams.engine.transaction import VECTOR

__all__ = ["Restored", "Restorer"]

log = structlog.get_logger("streams.engine")

ROWS_A_WRITE = 20_000
_PASSING = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
    }
)
OLD_S = 3 * 24 * 3600
"""A copy older than this may hold rows whose tombstones are gone from the changelog, which keeps
them for twice as long (see `topics.CHANGELOG`)."""


@dataclass
class Restored:
    committed: dict[Source, tuple[int, str]]
    parts: list[Part]
    rows: int = 0
    seconds: float = 0.0


@dataclass
class _Reading:
    """One changelog partition on its way to `end`."""

    table: str
    store: Store
    end: int
    position: int
    rows: dict[bytes, bytes | None] = field(default_factory=dict)
    vector: dict[str, dict[str, int]] = field(default_factory=dict)


class Stopped(Exception):
    """Partitions were taken away meanwhile."""


class Restorer:
    def __init__(
        self, settings: EngineSettings, agents: Mapping[str, Collection[str]],
        tables: Collection[str],
    ) -> None:  # fmt: skip
        self._settings, self._agents, self._tables = settings, agents, tables
        self._memory = Memory(settings)
        self._stores: dict[int, Store] = {}
        self._admin = AdminClient(settings.client())
        self._consumer = Consumer(  # never subscribes; kept, as starting one takes 0.1 s
            settings.client(
                **{
                    "group.id": settings.group,
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "error",
                    "isolation.level": "read_committed",
                    "enable.partition.eof": True,
                    "queued.max.messages.kbytes": 32768,  # else 64 MB a partition
                    "fetch.queue.backoff.ms": 10,  # when that is full; else a second
                    "fetch.message.max.bytes": 4 << 20,
                    "fetch.wait.max.ms": 10,  # a partition at its end says so after this
                }
            )
        )
        self.topic_ids: dict[str, str] = {}
        """Table -> id of its changelog topic; set when the topics are checked."""

    def run(self, sources: Collection[Source], stop: Callable[[], bool]) -> Restored | None:
        """None: `stop` said so."""
        began = time.monotonic()
        self._admin.poll(0)  # its log
        try:
            numbers = sorted({partition for _, partition in sources})
            committed = self._committed(sources, stop)
            lows, ends = self._ends(sources, numbers, stop)
            for source, low in lows.items():
                offset, ahead = committed.get(source, (low, ""))
                if offset < low:
                    leave("records were deleted before they were read; move the group's offset on"
                          " only if losing them is meant", source=source, committed=offset,
                          first_kept=low)  # fmt: skip
                committed[source] = offset, ahead
            self._close_others(numbers)
            readings = self._readings(numbers, ends, committed)
            rows = self._read(readings, stop)
            for reading in readings:
                reading.store.flush()
                self._check(reading.store, committed)
        except Stopped:
            return None
        parts = [Part(number, self._stores[number]) for number in numbers]
        return Restored(committed, parts, rows, time.monotonic() - began)

    def _committed(
        self, sources: Collection[Source], stop: Callable[[], bool]
    ) -> dict[Source, tuple[int, str]]:
        """Stable offsets of the group; a source never committed is left out.

        Waits for open transactions on them: their producer commits, or the broker ends them.
        """
        found: dict[Source, tuple[int, str]] = {}
        left = set(sources)
        deadline = time.monotonic() + AWAY_S_MAX
        while left:
            if stop():
                raise Stopped
            answers: list[TopicPartition] = []
            try:
                asked = [TopicPartition(topic, partition) for topic, partition in left]
                answers = self._consumer.committed(asked, timeout=1.0)
            except KafkaException as error:  # timed out, or the coordinator moves
                if error.args[0].fatal() or time.monotonic() > deadline:
                    raise
            for answer in answers:
                if answer.error is None:
                    left.discard((answer.topic, answer.partition))
                    if answer.offset >= 0:
                        found[answer.topic, answer.partition] = answer.offset, answer.metadata or ""
            if left:
                time.sleep(0.05)
        return found

    def _ends(
        self, sources: Collection[Source], numbers: Collection[int], stop: Callable[[], bool]
    ) -> tuple[dict[Source, int], dict[tuple[str, int], int]]:
        """`_watermarks`, asked again where Kafka is away or moves a leader just now."""
        deadline = time.monotonic() + AWAY_S_MAX
        while True:
            if stop():
                raise Stopped
            try:
                return self._watermarks(sources, numbers)
            except KafkaException as error:
                if error.args[0].code() not in _PASSING or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _watermarks(
        self, sources: Collection[Source], numbers: Collection[int]
    ) -> tuple[dict[Source, int], dict[tuple[str, int], int]]:
        """First offset of each source; end of each changelog partition, uncommitted records too."""
        lows = {TopicPartition(*source): OffsetSpec.earliest() for source in sources}
        ends = {
            TopicPartition(self._settings.changelog(table), number): OffsetSpec.latest()
            for table in self._tables
            for number in numbers
        }
        answers: list[dict[Source, int]] = []
        asked: Any
        for asked in (lows, ends):
            futures = (
                self._admin.list_offsets(
                    asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=5
                )
                if asked
                else {}
            )
            answers.append({(p.topic, p.partition): f.result().offset for p, f in futures.items()})
        return answers[0], answers[1]

    def _close_others(self, numbers: Collection[int]) -> None:
        for number in [n for n in self._stores if n not in numbers]:
            self._stores.pop(number).close()

    def _readings(
        self, numbers: Collection[int], ends: Mapping[tuple[str, int], int],
        committed: Mapping[Source, tuple[int, str]],
    ) -> list[_Reading]:  # fmt: skip
        readings = []
        for number in numbers:
            store = self._stores.get(number)
            if store is None:
                path = self._settings.data_dir / f"{self._settings.group}-{number}"
                try:
                    store = self._stores[number] = Store(path, self._memory)
                except Exception as error:  # noqa: BLE001 - whatever it is, we cannot work
                    leave("local store not opened", path=str(path), error=str(error))
            mine = {t: ends[self._settings.changelog(t), number] for t in self._tables}
            if self._is_stale(store.reached, mine):
                log.info("local copy thrown away, read anew", partition=number)
                store.wipe()
            self._check(store, committed)
            readings += [
                _Reading(table, store, end, store.reached.changelogs.get(table, 0))
                for table, end in mine.items()
            ]
        return readings

    def _is_stale(self, reached: Reached, ends: Mapping[str, int]) -> bool:
        """Whether a copy belongs to another log, or is too old to have seen every deletion."""
        if not reached.changelogs:
            return False
        return time.time() - reached.at_s > OLD_S or any(
            offset > ends.get(table, 0) or reached.ids.get(table) != self.topic_ids.get(table)
            for table, offset in reached.changelogs.items()
        )

    def _check(self, store: Store, committed: Mapping[Source, tuple[int, str]]) -> None:
        number = int(store.path.name.rsplit("-", 1)[1])
        cursors = {
            (agent, topic, number): offset + decode_ahead(ahead).get(agent, 0)
            for (topic, partition), (offset, ahead) in committed.items()
            if partition == number
            for agent, topics in self._agents.items()
            if topic in topics
        }
        if detail := check_vector(store.reached.vector, number, cursors):
            leave(
                "state is newer than the group's offsets; were they reset by hand?", detail=detail
            )

    def _read(self, readings: list[_Reading], stop: Callable[[], bool]) -> int:
        """Apply committed rows until every changelog has passed its end."""
        todo = {
            (self._settings.changelog(r.table), int(r.store.path.name.rsplit("-", 1)[1])): r
            for r in readings
            if r.position < r.end
        }
        count = 0
        if todo:
            with contextlib.suppress(KafkaException):  # knowing the leaders saves 0.6 s
                for topic in {topic for topic, _ in todo}:
                    self._consumer.list_topics(topic, timeout=2)
            self._consumer.assign([TopicPartition(t, p, r.position) for (t, p), r in todo.items()])
        try:
            while todo:
                if stop():
                    raise Stopped
                hit("restoring")
                count += self._take(todo, self._consumer.consume(5000, 0.02))
        finally:
            self._consumer.unassign()
        return count

    def _take(self, todo: dict[tuple[str, int], _Reading], records: list[KafkaRecord]) -> int:
        """Sort records into their partitions' rows; write what is full or done. Returns rows.

        Most of a restore's time is spent in this loop.
        """
        count, at, reading = 0, None, None
        for record in records:
            here: Any = record.topic(), record.partition()
            if here != at:
                at, reading = here, todo.get(here)
            if reading is None:
                continue
            error = record.error()
            if error is not None:
                self._note(reading, record, error)
                continue
            count += 1
            reading.rows[record.key()] = record.value()  # type: ignore[index, assignment]
            reading.position = record.offset() + 1  # type: ignore[operator]
            for name, data in record.headers() or ():
                if name == VECTOR:
                    reading.vector = json.loads(data or b"{}")
        for at, reading in list(todo.items()):
            is_done = reading.position >= reading.end
            if is_done:
                del todo[at]
            if is_done or len(reading.rows) >= ROWS_A_WRITE:
                self._write(reading)
        return count

    def _note(self, reading: _Reading, record: KafkaRecord, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:  # past markers and aborted records too
            reading.position = max(reading.position, record.offset() or 0)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            leave("changelog is shorter than the local copy thinks; delete the local copy",
                  copy=str(reading.store.path), offset=reading.position)  # fmt: skip
        elif not error.retriable():
            raise KafkaException(error)

    def _write(self, reading: _Reading) -> None:
        store, table = reading.store, reading.table
        reached = self.reached(store, {table: reading.position}, reading.vector)
        store.write({table: reading.rows}, reached, logged=False)
        reading.rows = {}

    def reached(
        self, store: Store, changelogs: Mapping[str, int], vector: Mapping[str, dict[str, int]]
    ) -> Reached:
        """How far a store is after a write that reaches these offsets."""
        before = store.reached
        return Reached(
            {**before.changelogs, **changelogs},
            {**before.ids, **{table: self.topic_ids[table] for table in changelogs}},
            {**before.vector, **vector},
        )

    def close(self) -> None:
        for store in self._stores.values():
            store.close()
        self._stores.clear()
        self._consumer.close()


def forget_local_copies(settings: EngineSettings) -> None:
    """Delete all local copies of a slot that does not run; they are read anew from Kafka."""
    for path in settings.data_dir.glob(f"{settings.group}-*"):
        shutil.rmtree(path)

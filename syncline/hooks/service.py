"""The process behind `syncline hooks`: reads the journal once for all hooks, from where the one
that has come least far is. Each has its own place, committed in Kafka under a group of its own."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas import topics
from schemas.codec import Codec, Undecodable
from schemas.definitions import Hook
from schemas.follow import Definitions, Follower
from schemas.journal import JournalEntry
from schemas.kafka_log import KAFKA_LOG
from syncline.hooks.delivery import Delivery, calling
from syncline.hooks.notices import Kind, hooks_of, notices

__all__ = ["Service"]

log = structlog.get_logger("hooks")

COMMIT_S = 1.0
KAFKA_S = 10.0
WORKER_S = 9.0

Offsets = Mapping[int, int]
"""Partition of the journal to an offset."""


class Place:
    """How far one hook has come: offsets of the group `syncline-hook-ID`."""

    def __init__(self, kafka: Mapping[str, Any], hook_id: str) -> None:
        self._consumer = Consumer(
            {
                "logger": KAFKA_LOG,
                **kafka,
                "group.id": f"syncline-hook-{hook_id}",
                "enable.auto.commit": False,
            }
        )

    def read(self, ends: Offsets) -> dict[int, int]:
        """Where it goes on; a hook that is new begins at the end as it is now."""
        parts = [TopicPartition(topics.JOURNAL, n) for n in ends]
        there = {p.partition: p.offset for p in self._consumer.committed(parts, timeout=KAFKA_S)}
        return {n: there[n] if there.get(n, -1) >= 0 else end for n, end in ends.items()}

    def write(self, offsets: Offsets) -> None:
        parts = [TopicPartition(topics.JOURNAL, n, offset) for n, offset in offsets.items()]
        self._consumer.commit(offsets=parts, asynchronous=False)

    def close(self) -> None:
        self._consumer.close()


class Served:
    """A hook with its place and its task."""

    def __init__(self, delivery: Delivery, kind: Kind, place: Place, begins: Offsets) -> None:
        self.delivery, self.kind, self.place, self.begins = delivery, kind, place, begins
        self.written: Offsets = {}
        self.task = asyncio.create_task(delivery.run())


class Journal(Follower):
    """The journal from given offsets on."""

    def __init__(self, kafka: Mapping[str, Any]) -> None:
        super().__init__(kafka, topics.JOURNAL)

    def ends(self) -> dict[int, int]:
        return {part.partition: self._end(part) for part in self._parts}

    def go_to(self, offsets: Offsets) -> None:
        self._consumer.assign([TopicPartition(topics.JOURNAL, n, at) for n, at in offsets.items()])


class Service:
    """All hooks of all syncs. Definitions that are applied later count at once."""

    def __init__(
        self, kafka: Mapping[str, Any], codec: Codec,
        make: Callable[[str, str, Hook, httpx.AsyncClient], Delivery] = Delivery,
    ) -> None:  # fmt: skip
        """Raises KafkaException or TimeoutError where Kafka is away."""
        self._kafka, self._codec, self._make = kafka, codec, make
        self._definitions = Definitions(kafka, codec)
        self._journal = Journal(kafka)
        self._reached: dict[int, int] = {}
        self._hooks: dict[str, Served] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then within 10 s. What was not told then is told by the next."""
        async with calling() as client:
            try:
                self._reached = await asyncio.to_thread(self._journal.ends)
                await self._follow(client)
                self._rewind()
                log.info("hooks run", hooks=len(self._hooks))
                due_s = 0.0
                while not stop.is_set():
                    for record in await asyncio.to_thread(self._journal.poll, 0.25):
                        self._take(record)
                    if time.monotonic() >= due_s:
                        due_s = time.monotonic() + COMMIT_S
                        await self._commit()
                        if await asyncio.to_thread(self._definitions.refresh):
                            await self._follow(client)
            finally:
                await self._stop()
        log.info("hooks stop")

    async def _follow(self, client: httpx.AsyncClient) -> None:
        """Begin the hooks that are defined, end those that are not any more."""
        wanted = hooks_of(self._definitions.syncs())
        for hook_id in self._hooks.keys() - wanted.keys():
            await self._end(self._hooks.pop(hook_id))
        for hook_id, (sync, kind, hook) in wanted.items():
            known = self._hooks.get(hook_id)
            if known is not None:
                known.delivery.hook = hook  # another secret, say
                continue
            place = await asyncio.to_thread(Place, self._kafka, hook_id)
            begins = await asyncio.to_thread(place.read, dict(self._reached))
            made = self._make(hook_id, sync, hook, client)
            self._hooks[hook_id] = Served(made, kind, place, begins)
            await asyncio.to_thread(place.write, begins)

    def _rewind(self) -> None:
        """Read again what some hook has not been told."""
        for served in self._hooks.values():
            for partition, offset in served.begins.items():
                self._reached[partition] = min(self._reached.get(partition, offset), offset)
        self._journal.go_to(self._reached)

    def _take(self, record: Any) -> None:
        partition, offset = record.partition(), record.offset()
        self._reached[partition] = offset + 1
        try:
            entry = self._codec.decode(record.value())
        except Undecodable:
            return
        if not isinstance(entry, JournalEntry):
            return
        for notice in notices(entry, (partition, offset)):
            for served in self._hooks.values():
                hook = served.delivery
                mine = hook.sync == notice.sync and served.kind == notice.kind
                if mine and offset >= served.begins.get(partition, 0):
                    hook.take(notice)

    async def _commit(self) -> None:
        for served in self._hooks.values():
            if served.task.done():
                served.task.result()  # a bug in it ends the process, which is started again
            at = served.delivery.floor(self._reached)
            floor = {n: max(offset, served.begins.get(n, 0)) for n, offset in at.items()}
            if floor != served.written:
                try:
                    await asyncio.to_thread(served.place.write, floor)
                    served.written = floor
                except KafkaException as error:
                    log.warning("place not kept", sync=served.delivery.sync, why=str(error))

    async def _end(self, served: Served) -> None:
        served.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await served.task
        await asyncio.to_thread(served.place.close)

    async def _stop(self) -> None:
        try:
            async with asyncio.timeout(WORKER_S):
                await self._commit()
                for served in self._hooks.values():
                    await self._end(served)
        except TimeoutError:
            log.warning("stopped late")
        self._journal.close()
        self._definitions.close()

"""The parts between Faust and Kafka: what runs, in which order, in a worker process.

Consumer thread: fetches. Event loop: agents, ledger, the beginning and end of checkpoints.
Checkpoint thread: transactions and local writes. Restore thread: reading after an assignment.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, cast

import structlog

from streams.engine import metrics
from streams.engine.exits import AWAY_S_MAX, boot_s, hit, leave
from streams.engine.ledger import Batch, Ledger, Member, Part, Source
from streams.engine.restore import Restored, Restorer
from streams.engine.settings import EngineSettings
from streams.engine.store import Store
from streams.engine.transaction import End, Transactions

__all__ = ["Engine", "Joined"]

log = structlog.get_logger("streams.engine")

IDLE_S = 1.0
"""Longest wait for a checkpoint that would only move offsets over gaps."""


class Joined(NamedTuple):
    """An assignment, as it was taken in the consumer thread the moment it was made."""

    revocations: int
    member: Member
    sources: frozenset[Source]


class Engine:
    """One worker's checkpoints and ownership. Its methods run in the event loop."""

    def __init__(
        self, settings: EngineSettings, agents: Mapping[str, Collection[str]],
        outputs: Collection[str], tables: Collection[str],
    ) -> None:  # fmt: skip
        self.settings = settings
        self.agents = {name: tuple(topics) for name, topics in agents.items()}
        self.ledger = Ledger(self.agents, outputs, settings.record_bytes_max)
        self.restorer = Restorer(settings, self.agents, tables)
        self.transactions = Transactions(settings)
        self._threads = {
            name: ThreadPoolExecutor(1, thread_name_prefix=name)
            for name in ("checkpoint", "restore")
        }
        self.heard_s: float | None = None
        """When a heartbeat was sent that the group has answered, by `boot_s`. The consumer's
        thread writes it."""
        self._patience_s = settings.transaction_timeout_s + 2
        """By then the broker has ended the transaction. The client itself may never come back:
        confluentinc/librdkafka#5456, seen here after restarts of a broker."""
        self._lock = asyncio.Lock()
        self._due = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._wake = asyncio.Event()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads["checkpoint"], self.transactions.start)

    @property
    def is_silent(self) -> bool:
        """Whether the group has answered no heartbeat lately: Kafka is away, or we slept."""
        return self.heard_s is None or boot_s() - self.heard_s > self.settings.session_timeout_s / 2

    # Ownership

    async def recover(self, joined: Joined, stopping: asyncio.Event) -> Restored | None:
        """Read the state of what was assigned. None: it was taken away meanwhile, or we stop."""
        self._check_together(joined.sources)

        def stop() -> bool:
            return stopping.is_set() or self.ledger.revocations != joined.revocations

        restored = await asyncio.get_running_loop().run_in_executor(
            self._threads["restore"], self.restorer.run, joined.sources, stop
        )
        return None if stop() else restored

    async def open(self, joined: Joined, restored: Restored) -> bool:
        """Begin to work on what was restored. False: it was taken away meanwhile."""
        async with self._lock:
            if self.ledger.revocations != joined.revocations:
                return False
            self.ledger.open(joined.member, restored.parts, restored.committed, joined.revocations)
        metrics.RESTORED_ROWS.inc(restored.rows)
        metrics.PARTITIONS.set(len(restored.parts))
        log.info(
            "partitions taken",
            partitions=[part.number for part in restored.parts],
            generation=joined.member.generation,
            rows=restored.rows,
            seconds=round(restored.seconds, 3),
        )
        return True

    def _check_together(self, sources: Collection[Source]) -> None:
        """All topics of an agent must be here with the same partitions: they share its rows."""
        for agent, topics in self.agents.items():
            owned = {t: sorted(p for name, p in sources if name == t) for t in topics}
            if len({tuple(numbers) for numbers in owned.values()}) > 1:
                leave("workers with different agents in one group: stop the old ones first",
                      agent=agent, partitions=owned)  # fmt: skip

    async def hand_back(self) -> None:
        """Finish what is in hand, or drop it; commit the rest as the member we still are."""
        deadline = time.monotonic() + self.settings.revoke_wait_s
        while self.ledger.in_hand and time.monotonic() < deadline:  # noqa: ASYNC110 - rare
            await asyncio.sleep(0.01)
        await self.checkpoint()
        self.drop()

    def drop(self) -> None:
        self.ledger.drop()
        self._room.set()
        metrics.PARTITIONS.set(0)

    # Checkpoints

    def note(self) -> None:
        """A chunk is done."""
        ledger = self.ledger
        self._wake.set()
        if ledger.dirty >= self.settings.checkpoint_rows_max:
            self._due.set()
            if ledger.dirty >= 2 * self.settings.checkpoint_rows_max:
                self._room.clear()  # the checkpoint is slower than the agents: they wait

    async def room(self) -> None:
        await self._room.wait()

    async def run(self) -> None:
        """Checkpoint for ever, `checkpoint_s` after the first change or when due by rows."""
        while True:
            await self._wake.wait()
            if not self.ledger.records:  # only gaps were passed: no hurry, unless records come
                self._wake.clear()
                await _wait(self._wake, IDLE_S)
            if self.ledger.records:
                await _wait(self._due, self.settings.checkpoint_s)
            self._wake.clear()
            await self.checkpoint()

    async def checkpoint(self) -> None:
        """Commit everything decided so far. Returns at once where there is nothing."""
        async with self._lock:
            self._due.clear()
            batch = self.ledger.take()
            self._room.set()
            if batch is None:
                return
            began = time.monotonic()
            self._watch(began, began)
            parts = {number: self.ledger.parts[number] for number in batch.rows}
            loop = asyncio.get_running_loop()
            end = await loop.run_in_executor(
                self._threads["checkpoint"], self._commit, batch, parts
            )
            self._alarm.cancel()
            seconds = time.monotonic() - began
            if end is End.COMMITTED:
                self.ledger.landed(batch)
                metrics.committed(batch, seconds)
                log.debug("checkpoint", records=batch.records, outputs=len(batch.outputs),
                          rows=batch.changed, seconds=round(seconds, 4))  # fmt: skip
            else:
                metrics.GONE.inc()
                log.info("checkpoint refused: partitions were given away", records=batch.records)
                self.drop()

    def _watch(self, began_s: float, since_s: float) -> None:
        """Leave when the checkpoint that runs takes too long. Time without Kafka does not count:
        the same checkpoint goes on when it is back, and a new worker could not do better."""
        now_s = time.monotonic()
        if self.is_silent:
            since_s = now_s
        if now_s - since_s > self._patience_s:
            leave("checkpoint takes too long", seconds=round(now_s - began_s, 1))
        if now_s - began_s > AWAY_S_MAX:
            leave("Kafka is away for too long", seconds=round(now_s - began_s, 1))
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(1.0, self._watch, began_s, since_s)

    def _commit(self, batch: Batch, parts: Mapping[int, Part]) -> End:
        """In the checkpoint thread: Kafka first, then the disk."""
        end = self.transactions.commit(batch)
        if end is End.COMMITTED:
            for number, rows in batch.rows.items():
                changelogs = {table: batch.reached[number, table] for table in rows}
                store = cast(Store, parts[number].store)
                store.write(rows, self.restorer.reached(store, changelogs, batch.vectors[number]))
                hit("local_written")
        return end

    async def stop(self) -> None:
        """For good. A restore that runs ends first: it still writes."""
        await self.hand_back()
        self.ledger.revocations += 1
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads["restore"], self.restorer.close)
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)

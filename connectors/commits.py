"""What is finished, gathered and committed: one transaction every 50 ms, or sooner when much is."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import TopicPartition

from connectors.exits import leave
from connectors.lanes import Taken
from connectors.partition import Partition
from connectors.settling import Send, sends_of
from connectors.stats import Stats
from connectors.transactions import Transactions
from connectors.wire import Wire
from schemas.topics import commands_of

__all__ = ["Commits"]

COMMIT_S = 0.05
COMMIT_MESSAGES = 4_000
HUNG_S = 60.0
"""A commit that takes longer never ends: a client has hung in one whose broker went away
(docs/decisions/0004). Longer than any single wait of `Transactions`."""


class Commits:
    """Of one worker. Used in the event loop; the transaction itself runs in a thread of its own."""

    def __init__(
        self, platform: str, transactions: Transactions, wire: Wire, stats: Stats,
        parts: Mapping[int, Partition], committed: Callable[[Sequence[Taken]], None],
    ) -> None:  # fmt: skip
        """`parts`: the partitions that are ours, as they come and go. `committed`: told of what
        is durable now."""
        self._committed = committed
        self._platform, self._transactions = platform, transactions
        self._wire, self._stats, self._parts = wire, stats, parts
        self._thread = ThreadPoolExecutor(1, f"commit {platform}")
        self._finished: list[Taken] = []
        self._also: list[tuple[Send, int, int]] = []
        """(message, partition, epoch)"""
        self._messages = 0
        self._due = asyncio.Event()
        self._full = asyncio.Event()
        self._committing = asyncio.Lock()

    async def start(self) -> None:
        """Throw out whoever had this slot before. Raises KafkaException where Kafka is away."""
        await asyncio.to_thread(self._transactions.start)

    def done(self, taken: Taken) -> None:
        """Everything that the command asked for is done. Void where its partition has another
        owner by now: that one does it again."""
        part = self._parts.get(taken.partition)
        if part is None or part.epoch != taken.epoch:
            return
        part.open.pop(taken.offset, None)
        self._finished.append(taken)
        self._messages += len(taken.settled) + len(taken.sends) + 1
        self._due.set()
        if self._messages >= COMMIT_MESSAGES:
            self._full.set()

    def also(self, sends: list[Send], partition: int) -> None:
        """Messages that belong to no command, written as long as the partition is ours."""
        part = self._parts.get(partition)
        if part is not None:
            self._also += ((send, partition, part.epoch) for send in sends)
            self._due.set()

    def skipped(self, part: Partition) -> None:
        """The checkpoint moves although nothing was done."""
        part.skipped = True
        self._due.set()

    @property
    def owes(self) -> bool:
        return bool(self._finished or self._also)

    async def next(self) -> None:
        """Wait until something is due, let a little more gather, and commit it."""
        await self._due.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._full.wait(), COMMIT_S)
        await self.commit()

    async def commit(self) -> None:
        """One transaction with everything that is finished now."""
        async with self._committing:
            finished, also = self._finished, self._also
            self._finished, self._also, self._messages = [], [], 0
            self._due.clear()
            self._full.clear()
            checkpoints = self._checkpoints(finished)

            def due() -> tuple[list[Send], list[TopicPartition]]:
                """In the committing thread, at each try: what is still ours."""
                ours = {n: part.epoch for n, part in list(self._parts.items())}
                here = [t for t in finished if ours.get(t.partition) == t.epoch]
                sends = sends_of(self._platform, here, self._wire)
                sends += (send for send, n, epoch in also if ours.get(n) == epoch)
                topic = commands_of(self._platform)
                offsets = [
                    TopicPartition(topic, number, offset, metadata)
                    for number, (epoch, offset, metadata) in checkpoints.items()
                    if ours.get(number) == epoch
                ]
                return sends, offsets

            begun_s = time.monotonic()
            loop = asyncio.get_running_loop()
            alarm = loop.call_later(HUNG_S, leave, "commit does not come back")
            try:
                await loop.run_in_executor(self._thread, self._transactions.commit, due)
            finally:
                alarm.cancel()
            self._stats.committed(finished, time.monotonic() - begun_s)
            self._committed(finished)
            for taken in finished:  # its rows know it, and it knows them: nothing else holds them
                taken.items.clear()
                taken.settled.clear()

    def _checkpoints(self, finished: list[Taken]) -> dict[int, tuple[int, int, str]]:
        """Partition to (epoch, offset, metadata), for those that moved."""
        moved = {number for number, part in self._parts.items() if part.skipped}
        for taken in finished:
            part = self._parts.get(taken.partition)
            if part is not None and part.epoch == taken.epoch:
                part.stretch.finish(taken.offset)
                moved.add(taken.partition)
        found: dict[int, tuple[int, int, str]] = {}
        for number in moved:
            part = self._parts[number]
            part.skipped = False
            found[number] = (part.epoch, *part.stretch.checkpoint())
        return found

    def close(self) -> None:
        self._thread.shutdown(wait=False)
        self._transactions.close()

"""Sending webhooks as a platform does: in batches, with a time limit, retries and mishaps.

What a batch looks like and how it is signed is the platform's; this module only delivers. Any
2xx within `timeout_s` is an acknowledgement. Everything else, a broken connection included, is
tried again up to `retries` times, after random delays whose mean is `retry_delay_s`, doubled at
each try and multiplied by `delay_scale` (a test does not wait for a day).
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
import msgspec

Event = dict[str, Any]
Signed = tuple[bytes, dict[str, str]]  # body, headers


class Target(msgspec.Struct, forbid_unknown_fields=True):
    """Where webhooks go and what goes wrong on the way; the platform adds its own settings."""

    url: str
    secret: str = ""
    batch_max: int = 100
    linger_ms: float = 20.0  # how long events are gathered for one batch
    concurrency: int = 10
    timeout_s: float = 5.0
    retries: int = 10
    retry_delay_s: float = 60.0
    delay_scale: float = 1.0
    duplicates: float = 0.0  # share of the batches that are sent a second time after a 2xx
    reorder: bool = False  # events leave in random order
    paused: bool = False  # events wait; sent when a target without `paused` is set
    off_at: int = 0  # an answer of this status ends the webhook: what waits is dropped
    options: dict[str, Any] = {}


class Outbox(Protocol):
    """What a platform has that sends webhooks."""

    sender: "Sender | None"

    async def aim(self, target: Target | None) -> None:
        """From now on events go to this target; None: to nobody."""


class Sender:
    """Events in, deliveries out. `sign(events, attempt)` makes the request; attempt 0 is first."""

    def __init__(
        self, target: Target, sign: Callable[[list[Event], int], Signed], seed: int
    ) -> None:
        self.target, self._sign = target, sign
        self.counts: Counter[str] = Counter()
        self.off = False
        self._pending: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._chance = random.Random(f"webhooks:{seed}")
        self._places = asyncio.Semaphore(target.concurrency)
        self._running: set[asyncio.Task[None]] = set()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(target.timeout_s))
        self._pump = asyncio.create_task(self._send_pending())

    def push(self, event: Event) -> None:
        if self.off:
            self.counts["dropped_events"] += 1
            return
        self._pending.append(event)
        self.counts["events"] += 1
        self._wake.set()

    def resume(self, target: Target) -> None:
        """The same sender with other settings; what waits is kept."""
        self.target = target
        self._wake.set()

    @property
    def unsettled(self) -> int:
        """Events waiting, and batches on their way."""
        return len(self._pending) + len(self._running)

    async def stop(self) -> None:
        tasks = [self._pump, *self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    async def _send_pending(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending and not self.target.paused:
                if len(self._pending) < self.target.batch_max:
                    await asyncio.sleep(self.target.linger_ms / 1000)
                await self._places.acquire()
                task = asyncio.create_task(self._deliver(self._take()))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def _take(self) -> list[Event]:
        if self.target.reorder:
            waiting = list(self._pending)
            self._chance.shuffle(waiting)
            self._pending = deque(waiting)
        size = min(len(self._pending), self.target.batch_max)
        return [self._pending.popleft() for _ in range(size)]

    async def _deliver(self, events: list[Event]) -> None:
        held = True
        try:
            for attempt in range(self.target.retries + 1):
                if not held:
                    await self._places.acquire()
                    held = True
                delivered = await self._try(events, attempt)
                if delivered and self._chance.random() < self.target.duplicates:
                    self.counts["duplicates"] += 1
                    await self._try(events, attempt)
                self._places.release()
                held = False
                if delivered:
                    self.counts["delivered_events"] += len(events)
                    return
                if self.off:
                    break
                mean_s = self.target.retry_delay_s * 2**attempt * self.target.delay_scale
                await asyncio.sleep(self._chance.uniform(0.5, 1.5) * mean_s)
            self.counts["given_up_events"] += len(events)
        finally:
            if held:
                self._places.release()

    async def _try(self, events: list[Event], attempt: int) -> bool:
        body, headers = self._sign(events, attempt)
        self.counts["attempts"] += 1
        try:
            async with self._session.post(self.target.url, data=body, headers=headers) as response:
                await response.read()
                self.counts[f"answered_{response.status}"] += 1
                self.off = self.off or response.status == self.target.off_at
                return 200 <= response.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.counts[f"failed_{type(error).__name__}"] += 1
            return False

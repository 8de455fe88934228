"""One hook: what it waits for, its tries, and how far it has come in the journal.

In order, one at a time, so that who is told sees what happened as it happened. A try is a try for
ten seconds; after the last one the notice is given up, with a line in the log. At most 1,000 wait:
beyond that the oldest is given up. One hook that does not answer holds up no other.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Mapping

import httpx
import structlog
from prometheus_client import Counter

from schemas.definitions import Hook
from schemas.secrets import SecretMissing, resolve
from syncline.hooks.bodies import body, signed, words
from syncline.hooks.notices import Notice, merged

__all__ = ["Delivery", "calling"]

log = structlog.get_logger("hooks")

TRY_S = 10.0
"""For a connection, the request and the head of its answer together."""
AGAIN_S = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Waits between tries: six in about 13 minutes."""
TOGETHER_S = 30.0
"""Errors of one kind that come within it are one notice."""
WAITING_MAX = 1_000
GONE = 410

DELIVERED = Counter("syncline_hooks_delivered", "Notices delivered", ["sync", "kind"])
TRIES = Counter("syncline_hooks_tries_failed", "Tries without success", ["sync", "kind"])
GIVEN_UP = Counter("syncline_hooks_given_up", "Notices given up", ["sync", "kind"])


class Delivery:
    """Feed it with `take`; run `run` as a task; `floor` says from where to read after a crash."""

    def __init__(
        self, hook_id: str, sync: str, hook: Hook, client: httpx.AsyncClient,
        clock: Callable[[], float] = time.monotonic, again_s: tuple[float, ...] = AGAIN_S,
        together_s: float = TOGETHER_S,
    ) -> None:  # fmt: skip
        self.hook_id, self.sync, self.hook = hook_id, sync, hook
        self._client, self._clock, self._again_s = client, clock, again_s
        self._together_s = together_s
        self._waiting: deque[tuple[Notice, float]] = deque()
        """With the time before which it is not told."""
        self._now: Notice | None = None
        self._news = asyncio.Event()

    @property
    def waiting(self) -> int:
        return len(self._waiting) + (self._now is not None)

    def take(self, notice: Notice) -> None:
        """To be told. An error joins one of its kind that waits still."""
        if notice.kind == "error":
            for at, (other, due_s) in enumerate(self._waiting):
                if other.key == notice.key:
                    self._waiting[at] = (merged(other, notice), due_s)
                    return
        if len(self._waiting) >= WAITING_MAX:
            self._give_up(self._waiting.popleft()[0], "too many wait")
        wait_s = self._together_s if notice.kind == "error" else 0.0
        self._waiting.append((notice, self._clock() + wait_s))
        self._news.set()

    def floor(self, reached: Mapping[int, int]) -> dict[int, int]:
        """Partition of the journal to the offset from which something is still to be told.

        `reached`: what has been read.
        """
        places = [notice.place for notice, _ in self._waiting]
        places += [self._now.place] if self._now is not None else []
        floors = dict(reached)
        for partition, offset in places:
            floors[partition] = min(floors.get(partition, offset), offset)
        return floors

    async def run(self) -> None:
        """Tells, for ever. Cancelled, it tells nothing more; what was not told is told again."""
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            _, due_s = self._waiting[0]
            if (wait_s := due_s - self._clock()) > 0:
                await asyncio.sleep(wait_s)
            self._now, _ = self._waiting.popleft()
            await self._tell(self._now)
            self._now = None

    async def _tell(self, notice: Notice) -> None:
        why = ""
        for wait_s in (*self._again_s, None):
            why, later_s = await self._try(notice)
            if not why:
                DELIVERED.labels(self.sync, notice.kind).inc()
                return
            TRIES.labels(self.sync, notice.kind).inc()
            if wait_s is None or why == f"HTTP {GONE}":
                break
            longest = self._again_s[-1]
            await asyncio.sleep(max(wait_s, min(later_s, longest)) * random.uniform(1.0, 1.1))  # noqa: S311
        self._give_up(notice, why)

    async def _try(self, notice: Notice) -> tuple[str, float]:
        """-> (why it was not taken, or nothing; how long the other side asks to wait, s)."""
        hook = self.hook
        if hook.url is None:
            log.info(words(notice)[0], type=notice.type, sync=notice.sync, run=notice.run)
            return "", 0.0
        content, message_id = body(hook, notice), notice.message_id(self.hook_id)
        headers = {"content-type": "application/json", "webhook-id": message_id}
        try:
            for name, reference in hook.headers.items():
                headers[name] = resolve(reference).get_secret_value()
            if hook.secret:
                headers |= signed(resolve(hook.secret), message_id, int(time.time()), content)
            async with (
                asyncio.timeout(TRY_S),
                self._client.stream("POST", hook.url, content=content, headers=headers) as answer,
            ):
                if answer.is_success:
                    return "", 0.0
                return f"HTTP {answer.status_code}", _seconds(answer.headers.get("retry-after"))
        except (SecretMissing, ValueError) as error:
            return str(error), 0.0
        except TimeoutError:
            return f"no answer within {TRY_S:g} s", 0.0
        except httpx.HTTPError as error:
            return type(error).__name__, 0.0

    def _give_up(self, notice: Notice, why: str) -> None:
        GIVEN_UP.labels(self.sync, notice.kind).inc()
        log.error(
            "given up", sync=notice.sync, run=notice.run, type=notice.type, why=why,
            place=f"journal-{notice.place[0]}-{notice.place[1]}",
        )  # fmt: skip


def calling() -> httpx.AsyncClient:
    """The client of all hooks. Each try has its own bound in time, and a hook that hangs takes no
    connection from another."""
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(timeout=None, limits=limits)  # noqa: S113 - see TRY_S


def _seconds(text: str | None) -> float:
    """Of a Retry-After in seconds; a date counts as nothing."""
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else 0.0

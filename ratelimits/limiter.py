"""One account's quotas, kept by the one worker that owns the account.

    limiter = Limiter(limits, write_lease=write)
    async with limiter.permit("write", "bulk") as permit:   # waits; several windows at once
        answer = await send()
        limiter.observe("write", answer.headers)            # others spend from it too

Nothing starts without a lease: a document on `handover` that says how many tokens this worker may
spend, written durably (`write_lease`) before the first request that they pay for. A lease covers
one second's worth of tokens (or n slots) and ends by the clock; the next is written while the last
still holds. A successor (`restore`) counts everything leased as spent, so a crash costs at most
the lease's unused rest, and never an overspend.

Clocks: leases carry Unix time. A successor's clock that is ahead by more than a window could trust
too early, so `GRACE_S` is added; keep hosts within a second of each other (NTP does).
"""

import asyncio
import heapq
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from ratelimits import bucket as b
from ratelimits.registry import Limits

__all__ = ["PRIORITIES", "Limiter", "NoLease", "Permit", "QuotaView"]

PRIORITIES = ("live", "released", "bulk", "replay")
FLOOR = 0.05
"""Share of grants that lower priorities get while higher ones wait too."""
LEASE_S = 2.0
GRACE_S = 1.0
CLOSE_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""After a refusal that names no wait: longer each time in a row."""
SNAPSHOT_SLOTS = 50


class NoLease(Exception):
    """The lease could not be written: nothing may start."""


@dataclass(slots=True)
class Permit:
    """Tokens taken for one request. They come back one window after the block ends."""

    group: str
    cost: int
    sent: bool = True
    """Set to False where the platform never saw the request: the tokens are back at once."""


@dataclass(frozen=True, slots=True)
class QuotaView:
    """One window as people see it."""

    window: str
    limit: int
    used_by_us: int
    used_by_others: int
    left: int
    resets_s: float
    """Seconds until all that is spent now is back; inf: unknown."""
    closed_s: float
    """Seconds for which the platform takes nothing; 0: it takes."""
    waiting: int


@dataclass(order=True, slots=True)
class _Waiter:
    rank: int
    number: int
    group: str = field(compare=False)
    cost: int = field(compare=False)
    granted: asyncio.Future[None] = field(compare=False)


class Limiter:
    """See the module. Use it from one event loop only."""

    def __init__(
        self,
        limits: Limits,
        *,
        write_lease: Callable[[str], Awaitable[None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`write_lease(document)` returns when all replicas have it, or raises."""
        self.limits, self._write_lease, self._clock = limits, write_lease, clock
        self.buckets = {name: b.Bucket() for name in limits.quotas}
        self._granted = dict.fromkeys(limits.quotas, 0)
        self._lease_until_s = 0.0
        self._leasing: asyncio.Task[None] | None = None
        self._waiting: list[_Waiter] = []
        self._numbers = 0
        self._grants = 0
        self._timer: asyncio.TimerHandle | None = None
        self._refused = 0
        self.tokens_spent = 0
        self.stopped: Exception | None = None

    @asynccontextmanager
    async def permit(
        self, group: str, priority: str = "live", cost: int = 1
    ) -> AsyncIterator[Permit]:
        """Wait until all windows of the group have `cost` tokens, then hold them.

        Among those who wait, a higher priority goes first; lower ones keep a small floor. Raises
        NoLease where leases cannot be written.
        """
        await self._taken(group, PRIORITIES.index(priority), cost)
        permit = Permit(group, cost)
        try:
            yield permit
        finally:
            self._answered(permit)

    def observe(self, group: str, headers: Mapping[str, str]) -> None:
        """What an answer's headers say of what is left. Names in lower case."""
        now_s = self._clock()
        for rule in self.limits.headers:
            text = headers.get(rule.header)
            if text is None:
                continue
            remaining = _remaining(text, rule.form, rule.key)
            if remaining is not None:
                name = rule.window
                self.buckets[name] = b.correct(
                    self.buckets[name], self.limits.quotas[name], now_s, remaining
                )
        self._refused = 0

    def refused(self, group: str, wait_s: float | None = None, window: str = "") -> float:
        """The platform said: too much. Closes the window it named, else all of the group.

        -> seconds for which nothing starts. A wait of unbelievable length is clamped.
        """
        now_s = self._clock()
        self._refused += 1
        if wait_s is None:
            wait_s = CLOSE_S[min(self._refused, len(CLOSE_S)) - 1]
        wait_s = min(max(wait_s, 0.1), self.limits.retry_after_max_s)
        named = [n for n in self.limits.groups.get(group, ()) if window and n == window]
        for name in named or self.limits.groups.get(group, ()):
            quota = self.limits.quotas[name]
            self.buckets[name] = b.close(self.buckets[name], quota, now_s, now_s + wait_s)
        self._schedule(wait_s)
        return wait_s

    def wait_s(self, group: str, cost: int = 1) -> float:
        """Seconds until a permit could be had if nobody else waited; inf: when an answer comes."""
        now_s = self._clock()
        waits = [
            b.take(self.buckets[n], self.limits.quotas[n], now_s, cost)[1]
            for n in self.limits.groups.get(group, ())
        ]
        return max(waits, default=0.0)

    def left(self, group: str) -> int:
        """Tokens of a group that could be spent now; a large number where nothing limits it."""
        now_s = self._clock()
        names = self.limits.groups.get(group, ())
        counts = [b.left(self.buckets[n], self.limits.quotas[n], now_s) for n in names]
        return min(counts, default=1_000_000)

    def waiting(self, group: str = "") -> int:
        return sum(not group or w.group == group for w in self._waiting)

    def view(self) -> list[QuotaView]:
        now_s = self._clock()
        return [self._view(name, now_s) for name in self.buckets]

    def _view(self, name: str, now_s: float) -> QuotaView:
        state, quota = self.buckets[name], self.limits.quotas[name]
        others = sum(n for at, n in state.others if at > now_s)
        back = [at for at, _ in (*state.returns, *state.others) if at > now_s]
        return QuotaView(
            window=name,
            limit=quota.limit,
            used_by_us=b.used(state, now_s) - others,
            used_by_others=others,
            left=b.left(state, quota, now_s),
            resets_s=max(back) - now_s if back else (float("inf") if state.open else 0.0),
            closed_s=max(0.0, state.closed_until_s - now_s),
            waiting=sum(name in self.limits.groups.get(w.group, ()) for w in self._waiting),
        )

    # leases

    def restore(self, document: str | bytes) -> None:
        """Take over from a predecessor: all that it had leased counts as spent.

        Windows that no longer exist are passed over. Call it before the first permit.
        """
        held = json.loads(document)
        now_s = self._clock()
        spent_until_s = float(held["until_s"]) + GRACE_S
        for name, kept in held["windows"].items():
            if name not in self.buckets:
                continue
            state = b.Bucket(
                open=int(kept["open"]) + int(kept["granted"]),
                returns=tuple((float(at), int(n)) for at, n in kept["returns"]),
                others=tuple((float(at), int(n)) for at, n in kept["others"]),
                closed_until_s=float(kept["closed_until_s"]),
                share=float(kept["share"]),
                quiet_since_s=now_s,
            )
            self.buckets[name] = b.restore(state, self.limits.quotas[name], now_s, spent_until_s)

    def document(self) -> str:
        """The lease as it stands: what a successor needs."""
        now_s = self._clock()
        windows = {
            name: {
                "open": state.open,
                "granted": self._granted[name],
                "returns": _coarse(state.returns, now_s, self.limits.quotas[name].window_s),
                "others": _coarse(state.others, now_s, self.limits.quotas[name].window_s),
                "closed_until_s": state.closed_until_s,
                "share": state.share,
            }
            for name, state in self.buckets.items()
        }
        return json.dumps({"until_s": self._lease_until_s, "windows": windows})

    async def close(self) -> None:
        """Hand back what was leased and not spent, so that a successor need not count it."""
        if self._leasing is not None:
            await asyncio.gather(self._leasing, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        self._granted = dict.fromkeys(self._granted, 0)
        for waiter in self._waiting:
            waiter.granted.cancel()
        self._waiting.clear()
        if self._lease_until_s:
            self._lease_until_s = self._clock()
            await self._write_lease(self.document())

    def _covered(self, names: list[str], cost: int, now_s: float) -> bool:
        return now_s < self._lease_until_s and all(self._granted[n] >= cost for n in names)

    def _renew(self, names: list[str], cost: int) -> None:
        """Write a lease in the background; one at a time."""
        if self._leasing is None or self._leasing.done():
            self._leasing = asyncio.ensure_future(self._lease(names, cost))
            self._leasing.add_done_callback(self._leased)

    def _leased(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._pump()

    async def _lease(self, names: list[str], cost: int) -> None:
        now_s = self._clock()
        granted = dict(self._granted)
        before, until_s = self._granted, self._lease_until_s
        for name, quota in self.limits.quotas.items():
            wanted = cost if name in names else 0
            there = b.left(self.buckets[name], quota, now_s)
            granted[name] = max(granted[name], min(max(_worth(quota), wanted), there), wanted)
        self._lease_until_s, self._granted = now_s + LEASE_S, granted
        document = self.document()
        # Until it stands on the topic the old lease holds, less what is spent from it meanwhile.
        self._lease_until_s, self._granted = until_s, before
        try:
            await self._write_lease(document)
        except Exception as error:
            self.stopped = NoLease(f"the lease could not be written: {error}")
            for waiter in self._waiting:
                if not waiter.granted.done():
                    waiter.granted.set_exception(self.stopped)
            self._waiting.clear()
            raise self.stopped from error
        spent = {n: granted_before - self._granted[n] for n, granted_before in before.items()}
        self._lease_until_s = now_s + LEASE_S
        self._granted = {n: max(0, granted[n] - max(0, spent.get(n, 0))) for n in granted}

    # granting

    async def _taken(self, group: str, rank: int, cost: int) -> None:
        if self.stopped is not None:
            raise self.stopped
        if group not in self.limits.groups:
            raise KeyError(f"{self.limits.platform} has no quota group {group}")
        if not self._waiting and self._grant(group, cost):
            return
        granted = asyncio.get_running_loop().create_future()
        self._numbers += 1
        waiter = _Waiter(rank, self._numbers, group, cost, granted)
        heapq.heappush(self._waiting, waiter)
        self._pump()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._answered(Permit(group, cost, sent=False))  # granted in the same moment
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
                heapq.heapify(self._waiting)
            raise

    def _grant(self, group: str, cost: int) -> float | bool:
        """True: taken. Else False, with a timer set or a lease asked for."""
        names = self.limits.groups[group]
        if not names:
            self.tokens_spent += cost
            return True
        now_s = self._clock()
        after: dict[str, b.Bucket] = {}
        wait_s = 0.0
        for name in names:
            after[name], wait = b.take(self.buckets[name], self.limits.quotas[name], now_s, cost)
            wait_s = max(wait_s, wait)
        if wait_s > 0:
            self._schedule(wait_s)
            return False
        if not self._covered(names, cost, now_s):
            self._renew(names, cost)
            return False
        self.buckets.update(after)
        for name in names:
            self._granted[name] -= cost
        self.tokens_spent += cost
        ends_soon = now_s > self._lease_until_s - LEASE_S / 2
        if ends_soon or any(self._granted[n] < cost for n in names):
            self._renew(names, cost)
        return True

    def _pump(self) -> None:
        """Grant to whoever waits, the most urgent first. One that cannot have its group's tokens
        does not hold up others of other groups."""
        blocked: set[str] = set()
        held: list[_Waiter] = []
        while self._waiting:
            waiter = self._next(blocked)
            if waiter is None:
                break
            if waiter.granted.done():
                continue
            if self._grant(waiter.group, waiter.cost):
                self._grants += 1
                waiter.granted.set_result(None)
            else:
                blocked.add(waiter.group)
                held.append(waiter)
        for waiter in held:
            heapq.heappush(self._waiting, waiter)

    def _next(self, blocked: set[str]) -> _Waiter | None:
        """The most urgent whose group is not blocked; now and then the least urgent."""
        open_ = [w for w in self._waiting if w.group not in blocked]
        if not open_:
            return None
        floor = self._grants % round(1 / FLOOR) == round(1 / FLOOR) - 1
        chosen = max(open_, key=lambda w: (w.rank, -w.number)) if floor else min(open_)
        self._waiting.remove(chosen)
        heapq.heapify(self._waiting)
        return chosen

    def _answered(self, permit: Permit) -> None:
        now_s = self._clock()
        for name in self.limits.groups[permit.group]:
            quota = self.limits.quotas[name]
            self.buckets[name] = b.give_back(
                self.buckets[name], quota, now_s, permit.cost, sent=permit.sent
            )
            if quota.kind == "slots" or not permit.sent:
                # A slot that came back may be used again under the same lease.
                self._granted[name] += permit.cost
        self._pump()

    def _schedule(self, wait_s: float) -> None:
        if wait_s == float("inf"):
            return  # an answer will wake us
        loop = asyncio.get_event_loop()
        if (
            self._timer is None
            or self._timer.cancelled()
            or loop.time() + wait_s < self._timer.when()
        ):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_later(min(wait_s, 30.0) + 0.001, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._pump()


def _worth(quota: b.Quota) -> int:
    """Tokens of one lease: a second's worth, at least one; all slots."""
    if quota.kind == "slots":
        return quota.limit
    window_s = 86_400.0 if quota.kind == "day" else quota.window_s
    return max(1, int(quota.limit / window_s), 20 if window_s > 3_600 else 1)


def _coarse(
    returns: tuple[tuple[float, int], ...], now_s: float, window_s: float
) -> list[tuple[float, int]]:
    """At most about 50 entries, each rounded to later."""
    step = max(window_s / SNAPSHOT_SLOTS, 0.001)
    out: dict[float, int] = {}
    for at, n in returns:
        if at > now_s:
            slot = (int(at / step) + 1) * step
            out[slot] = out.get(slot, 0) + n
    return sorted(out.items())


def _remaining(text: str, form: str, key: str) -> int | None:
    """What a header says is left; None where it cannot be read."""
    try:
        if form == "number":
            return int(text)
        parts = dict(part.strip().split("=", 1) for part in text.split(","))
        spent, _, total = parts[key].partition("/")
        return int(total) - int(spent)
    except (ValueError, KeyError):
        return None


def retry_after_s(text: str, now_s: float) -> float | None:
    """`Retry-After`: seconds, or an HTTP date. None where it is neither."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (TypeError, ValueError):
        return None

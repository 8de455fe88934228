"""One account's quotas, kept by the one worker that owns the account.

    limiter = Limiter(limits, write_lease=write)
    limiter.restore(document)                               # what a predecessor left, if anything
    async with limiter.permit("write", "bulk") as permit:   # waits; several windows at once
        answer = await send()
        limiter.observe("write", answer.headers)            # others spend from it too
    limiter.refused("write", wait_s, window)                # the platform said: too much
    await limiter.close()                                   # hand back what was not spent

Nothing starts without a lease: a document on `handover` that says how many tokens this worker may
spend, written durably (`write_lease`) before the first request that they pay for. A lease covers
one second's worth of tokens (all slots) and ends by the clock; the next one is written when three
quarters are spent or half of its time is over, while it still holds: one or two writes a second.
It is renewed as long as a request is under way, and not when there is nothing to do. A successor
(`restore`) counts everything leased as spent, so a crash costs at most the lease's unused rest.
`write_lease` must refuse, for good, who does not own the account any more.

Inside, time is monotonic: a wall clock that jumps opens no window (days excepted, which end by the
wall clock). What it means between processes stands in `ratelimits.lease`.

Priorities: live, released, bulk, replay. The most urgent goes first; the others keep a twentieth of
the grants meanwhile. Bulk and replay leave tokens for live work that may come: in each window as
many as a fifth of its rate asks for until more come back (a twentieth of a day's).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from ratelimits import bucket as b
from ratelimits import lease as leases
from ratelimits.headers import remaining
from ratelimits.registry import Limits
from ratelimits.waiting import PRIORITIES, Queue

__all__ = ["PRIORITIES", "Limiter", "NoLease", "Permit", "QuotaView"]

KEEP, KEEP_LONG = 0.2, 0.05
"""Share of a window's rate (of a long one's) that bulk and replay leave for live work."""
CLOSE_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""After a refusal that names no wait: longer each time in a row."""
PROBE_S = 900.0
"""The same for a rolling day: when tokens come back depends on what others spent."""
LOW = 0.25
"""Of a lease's tokens: with fewer the next one is written."""
PLENTY = 1_000_000


class NoLease(Exception):
    """The lease could not be written, or the limiter is closed: nothing may start."""


@dataclass(slots=True)
class Permit:
    """Tokens taken for one request. They come back one window after the block ends."""

    group: str
    cost: int
    number: int
    since_s: float
    sent: bool = True
    """Set to False where the platform never saw the request: the tokens are back at once."""
    lost: bool = False
    """Set to True where no answer came: the platform may be at it for a while. An exception that
    leaves the block does the same."""


@dataclass(frozen=True, slots=True)
class QuotaView:
    """One window as people see it."""

    window: str
    limit: int
    """The registry's figure, or less while it is slowed after refusals."""
    used_by_us: int
    used_by_others: int
    left: int
    resets_s: float
    """Seconds until all that is spent now is back; inf: unknown."""
    closed_s: float
    """Seconds for which the platform takes nothing; 0: it takes."""
    waiting: int


class Limiter:
    """See the module. Use it from one event loop only."""

    def __init__(
        self,
        limits: Limits,
        *,
        write_lease: Callable[[str], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`write_lease(document)` returns when all replicas have it, or raises."""
        self.limits, self._write_lease = limits, write_lease
        self._clock, self._wall = clock, wall
        self.buckets = {name: b.Bucket() for name in limits.quotas}
        self._granted = dict.fromkeys(limits.quotas, 0)
        self._worth = dict.fromkeys(limits.quotas, 0)
        self._spent_before = dict.fromkeys(limits.quotas, 0)
        self._spent = dict.fromkeys(limits.quotas, 0)
        """Since the lease, or within it, by window; for the worth of the next."""
        self._lease_until_s = float("-inf")
        self._write_s = 0.0
        self._leasing: asyncio.Task[None] | None = None
        self._queue = Queue()
        self._open: dict[int, Permit] = {}
        self._slowest = leases.Slowest()
        self._numbers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._refused = 0
        self._sampled: dict[str, tuple[float, int]] = {}
        self.tokens_spent = 0
        self.leases_written = 0
        self.stopped: Exception | None = None

    @asynccontextmanager
    async def permit(
        self, group: str, priority: str = "live", cost: int = 1
    ) -> AsyncIterator[Permit]:
        """Wait until all windows of the group have the tokens, then hold them.

        `cost` is spent from weighted windows, one token from all others. Raises NoLease where
        leases cannot be written, KeyError for an unknown group, ValueError for a cost that no
        window ever has.
        """
        permit = await self._taken(group, PRIORITIES.index(priority), cost)
        try:
            yield permit
        except BaseException:
            permit.lost = True
            raise
        finally:
            self._answered(permit)

    def observe(self, group: str, headers: Mapping[str, str]) -> None:
        """What a good answer's headers say of what is left. Names in lower case."""
        for rule in self.limits.headers:
            left = remaining(rule, headers)
            if left is not None and rule.window in self.limits.groups.get(group, ()):
                quota = self.limits.quotas[rule.window]
                state = self.buckets[rule.window]
                self.buckets[rule.window] = b.correct(state, quota, self._now_s(quota), left)
        if not any(self._closed_s(name) > 0 for name in self.limits.groups.get(group, ())):
            self._refused = 0  # what came while closed answers what was sent before

    def refused(self, group: str, wait_s: float | None = None, window: str = "") -> float:
        """The platform said: too much. Closes the window it named, else all of the group.

        `window`: ours, or the platform's name of it. Without a wait: a day is closed until it
        ends, a rolling day for a quarter of an hour, others for a second and longer each time in a
        row. -> seconds for which nothing starts. A wait of unbelievable length is clamped.
        """
        names = self.limits.groups.get(group, ())
        window = self.limits.names.get(window, window)
        names = [n for n in names if n == window] or names
        if all(self._closed_s(n) <= 0 for n in names):
            self._refused += 1
        closed_s = 0.0
        for name in names:
            quota = self.limits.quotas[name]
            now_s = self._now_s(quota)
            for_s = self._close_for_s(quota, wait_s, named=name == window)
            self.buckets[name] = b.close(self.buckets[name], quota, now_s, now_s + for_s)
            closed_s = max(closed_s, for_s)
        self._schedule(closed_s)
        return closed_s

    def wait_s(self, group: str, cost: int = 1) -> float:
        """Seconds until a permit could be had if nobody else waited; inf: when an answer comes."""
        waits = [self._try(name, cost, 0.0)[1] for name in self.limits.groups.get(group, ())]
        return max(waits, default=0.0)

    def left(self, group: str) -> int:
        """Tokens of a group that could be spent now; a large number where nothing limits it."""
        counts = [
            b.left(
                self.buckets[name], self.limits.quotas[name], self._now_s(self.limits.quotas[name])
            )
            for name in self.limits.groups.get(group, ())
        ]
        return min(counts, default=PLENTY)

    def waiting(self, group: str = "") -> int:
        return self._queue.count([group]) if group else len(self._queue)

    def view(self) -> list[QuotaView]:
        return [self._view(quota) for quota in self.limits.quotas.values()]

    def sample(self, groups: Iterable[str]) -> None:
        """To be called at even intervals (100 ms) with the groups for which rows wait: how much of
        their scarcest window is in use? Closed windows do not count: nothing could be spent."""
        for group in groups:
            names = self.limits.groups.get(group, ())
            if not names or any(self._closed_s(name) > 0 for name in names):
                continue
            parts: list[float] = []
            for name in names:
                quota, state = self.limits.quotas[name], self.buckets[name]
                now_s = self._now_s(quota)
                spent, limit = b.used(state, now_s), b.allowed(state, quota, now_s)
                parts.append(min(1.0, spent / limit))
            total, count = self._sampled.get(group, (0.0, 0))
            self._sampled[group] = total + max(parts), count + 1

    def use(self, group: str) -> float | None:
        """Part of the quota that was in use while rows waited; None: none waited. Tokens of
        requests under way are in use, so 1.0 is the best possible, window ÷ (window + latency)."""
        total, count = self._sampled.get(group, (0.0, 0))
        return total / count if count else None

    def relimit(self, limits: Limits) -> None:
        """Other figures hold from now on. What was spent counts on, also for who waits."""
        self.limits = limits
        self.buckets = {n: self.buckets.get(n, b.Bucket()) for n in limits.quotas}
        for counts in (self._granted, self._worth, self._spent, self._spent_before):
            kept = {name: counts.get(name, 0) for name in limits.quotas}
            counts.clear()
            counts.update(kept)
        self._pump()

    # leases

    def restore(self, document: str | bytes) -> None:
        """Take over from a predecessor: all that it had leased counts as spent.

        Windows that no longer exist are passed over. Call it before the first permit. Raises
        ValueError for what is no lease.
        """
        now_s, unix_s = self._clock(), self._wall()
        held = leases.decode(document, self.limits.quotas, now_s, unix_s)
        self._slowest = leases.Slowest(max(0.0, held.settle_s - leases.GRACE_S))
        for name in held.buckets:
            quota = self.limits.quotas[name]
            at_s = self._now_s(quota)
            state = leases.inherit(held, quota, at_s, at_s - now_s)
            longest_s = self._close_for_s(quota, state.closed_until_s - at_s, named=True)
            self.buckets[name] = replace(state, closed_until_s=at_s + longest_s)

    def document(self) -> str:
        """The lease as it stands: what a successor needs."""
        return self._document(self._lease_until_s, self._granted)

    async def close(self) -> None:
        """Hand back what was leased and not spent, so that a successor need not count it.

        Who waits gets NoLease. Requests under way stay counted. Raises what `write_lease` raises.
        """
        self._stop(NoLease("the account is handed over"))
        if self._leasing is not None:
            await asyncio.gather(self._leasing, return_exceptions=True)
        if self._lease_until_s > float("-inf"):
            self._granted = dict.fromkeys(self._granted, 0)
            self._lease_until_s = self._clock()
            await self._write_lease(self.document())

    def _document(self, until_s: float, granted: dict[str, int]) -> str:
        now_s = self._clock()
        oldest_s = now_s - min((p.since_s for p in self._open.values()), default=now_s)
        settle_s = leases.GRACE_S + max(self._slowest.took_s, oldest_s)
        lease = leases.Lease(until_s, min(settle_s, leases.SETTLE_MAX_S), granted, self.buckets)
        return leases.encode(lease, self.limits.quotas, now_s, self._wall())

    def _renew(self, cost: int = 1) -> None:
        """Write a lease in the background; one at a time."""
        if self.stopped is None and (self._leasing is None or self._leasing.done()):
            self._leasing = asyncio.ensure_future(self._lease(cost))
            self._leasing.add_done_callback(self._leased)

    def _leased(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None or self.stopped is not None:
            return
        if self._beat is not None:
            self._beat.cancel()
        half_s = max(0.0, self._lease_until_s - self._clock()) / 2
        self._beat = asyncio.get_running_loop().call_later(half_s, self._beats)
        self._pump()

    def _beats(self) -> None:
        if self._open or len(self._queue):
            self._renew()

    async def _lease(self, cost: int) -> None:
        now_s, before, limits = self._clock(), self._granted, self.limits
        until_s = now_s + leases.duration_s(self._write_s)
        granted: dict[str, int] = {}
        for name, quota in self.limits.quotas.items():
            lately = self._spent_before[name] + self._spent[name]
            ends_s = self._now_s(quota) + until_s - now_s
            self._worth[name] = leases.worth(quota, self.buckets[name], ends_s, lately)
            granted[name] = max(before[name], self._worth[name], self._price(quota, cost))
        self._spent_before, self._spent = self._spent, dict.fromkeys(self._spent, 0)
        # Until it stands on the topic the old lease holds, and the new one covers what it spends.
        self._granted = dict(before)
        try:
            await self._write_lease(self._document(until_s, granted))
        except Exception as error:
            no_lease = NoLease(f"the lease could not be written: {error}")
            self._stop(no_lease)
            raise no_lease from error
        self.leases_written += 1
        self._write_s = self._clock() - now_s
        if limits is not self.limits:
            return  # other figures hold by now: the next lease is theirs
        self._lease_until_s = until_s
        spent = {name: max(0, n - self._granted[name]) for name, n in before.items()}
        self._granted = {name: max(0, n - spent[name]) for name, n in granted.items()}

    def _stop(self, why: NoLease) -> None:
        if self.stopped is None:
            self.stopped = why
        for timer in (self._timer, self._beat):
            if timer is not None:
                timer.cancel()
        for waiter in self._queue.clear():
            if not waiter.granted.done():
                waiter.granted.set_exception(self.stopped)

    # granting

    async def _taken(self, group: str, rank: int, cost: int) -> Permit:
        if self.stopped is not None:
            raise self.stopped
        if group not in self.limits.groups:
            raise KeyError(f"{self.limits.platform} has no quota group {group}")
        for name in self.limits.groups[group]:
            quota = self.limits.quotas[name]
            if self._price(quota, cost) > quota.limit:
                raise ValueError(f"{name} never has {cost} tokens: its limit is {quota.limit}")
        granted = asyncio.get_running_loop().create_future()
        waiter = self._queue.add(group, rank, cost, granted)
        self._pump()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                permit = self._open[waiter.number]  # granted in the same moment
                permit.sent = False
                self._answered(permit)
            else:
                self._queue.remove(waiter)
            raise
        return self._open[waiter.number]

    def _pump(self) -> None:
        """Grant to whoever waits, the most urgent first. One that lacks tokens of a window holds
        up those after it that want the same window, and nobody else."""
        ranks = dict.fromkeys(self.limits.groups, len(PRIORITIES))
        wait_s = float("inf")
        while (waiter := self._queue.first(ranks)) is not None:
            names = self.limits.groups[waiter.group]
            keep = waiter.rank >= PRIORITIES.index("bulk") and not self._queue.urgent(
                waiter.group, waiter.rank
            )
            tried = {name: self._try(name, waiter.cost, float(keep)) for name in names}
            short = {name for name, (_, wait) in tried.items() if wait > 0}
            if short:
                wait_s = min(wait_s, max(tried[name][1] for name in short))
                for group, wanted in self.limits.groups.items():
                    if group == waiter.group or short.intersection(wanted):
                        ranks[group] = min(ranks[group], waiter.rank)
                continue
            if not self._covered(names, waiter.cost):
                self._renew(waiter.cost)
                break  # goes on when it is written
            self.buckets.update({name: after for name, (after, _) in tried.items()})
            self._queue.served(waiter)
            self._spend(waiter.number, waiter.group, waiter.cost)
            waiter.granted.set_result(None)
        self._schedule(wait_s)

    def _spend(self, number: int, group: str, cost: int) -> None:
        self.tokens_spent += cost
        self._open[number] = Permit(group, cost, number, self._clock())
        low = False
        for name in self.limits.groups[group]:
            price = self._price(self.limits.quotas[name], cost)
            self._granted[name] -= price
            self._spent[name] += price
            slots = self.limits.quotas[name].kind == "slots"
            low |= not slots and self._granted[name] < max(1, LOW * self._worth[name])
        if low:
            self._renew()

    def _covered(self, names: Iterable[str], cost: int) -> bool:
        return not names or (
            self._clock() < self._lease_until_s
            and all(self._granted[n] >= self._price(self.limits.quotas[n], cost) for n in names)
        )

    def _answered(self, permit: Permit) -> None:
        self._open.pop(permit.number, None)
        took_s = self._clock() - permit.since_s
        if permit.sent and not permit.lost:
            self._slowest.saw(took_s, self._clock())
        for name in self.limits.groups[permit.group]:
            quota = self.limits.quotas[name]
            now_s, price = self._now_s(quota), self._price(quota, permit.cost)
            lost = permit.lost and permit.sent
            until_s = now_s + self._slowest.took_s + leases.GRACE_S if lost else 0.0
            self.buckets[name] = b.give_back(
                self.buckets[name], quota, now_s, price, sent=permit.sent, until_s=until_s
            )
            if lost:
                self._schedule(until_s - now_s)
            if quota.kind == "slots" or not permit.sent:
                # What came back may be used again under the same lease.
                self._granted[name] += price
        if self.stopped is None:
            self._pump()

    def _try(self, name: str, cost: int, keep: float) -> tuple[b.Bucket, float]:
        quota = self.limits.quotas[name]
        share = keep * (KEEP_LONG if quota.long else KEEP)
        price = self._price(quota, cost)
        return b.take(self.buckets[name], quota, self._now_s(quota), price, keep=share)

    @staticmethod
    def _price(quota: b.Quota, cost: int) -> int:
        return cost if quota.weighted else 1

    def _now_s(self, quota: b.Quota) -> float:
        return self._wall() if quota.kind == "day" else self._clock()

    def _closed_s(self, name: str) -> float:
        return self.buckets[name].closed_until_s - self._now_s(self.limits.quotas[name])

    def _close_for_s(self, quota: b.Quota, wait_s: float | None, *, named: bool) -> float:
        """`named`: the platform said that it was this window."""
        longest_s = self.limits.retry_after_max_s
        if quota.kind == "day" and named:
            longest_s = b.next_midnight_s(quota.zone, self._wall()) + b.DAY_SKEW_S - self._wall()
        if wait_s is None and named and quota.kind == "day":
            return longest_s
        if wait_s is None and named and quota.long:
            return min(PROBE_S, longest_s)
        if wait_s is None:
            wait_s = CLOSE_S[min(max(self._refused, 1), len(CLOSE_S)) - 1]
        return min(max(wait_s, 0.0), longest_s)

    def _schedule(self, wait_s: float) -> None:
        """Look again then, at the latest; an answer or a lease looks again by itself."""
        if wait_s == float("inf") or self.stopped is not None:
            return
        loop = asyncio.get_running_loop()
        at_s = loop.time() + min(wait_s, 30.0) + 0.001
        if self._timer is None or self._timer.cancelled() or at_s < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(at_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._pump()

    def _view(self, quota: b.Quota) -> QuotaView:
        state, now_s = self.buckets[quota.name], self._now_s(quota)
        others = b.others(state, now_s)
        back = [at for at, _ in (*state.returns, *state.others) if at > now_s]
        wanting = [g for g, names in self.limits.groups.items() if quota.name in names]
        return QuotaView(
            window=quota.name,
            limit=b.allowed(state, quota, now_s),
            used_by_us=b.used(state, now_s) - others,
            used_by_others=others,
            left=b.left(state, quota, now_s),
            resets_s=max(back) - now_s if back else (float("inf") if state.open else 0.0),
            closed_s=max(0.0, state.closed_until_s - now_s),
            waiting=self._queue.count(wanting),
        )

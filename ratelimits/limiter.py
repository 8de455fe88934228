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

from ratelimits import lease as leases
from ratelimits.books import Books, QuotaView, price
from ratelimits.registry import Limits
from ratelimits.waiting import PRIORITIES, Queue, Waiter

__all__ = ["PRIORITIES", "Limiter", "NoLease", "Permit", "QuotaView"]

LOW = 0.25
"""Of a lease's tokens: with fewer the next one is written."""
LOOK_S = 30.0
"""However long the wait, look again: a day may end earlier than it seemed."""


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
        self._write_lease, self._clock, self._wall = write_lease, clock, wall
        self.books = Books(limits, clock, wall)
        self._granted = dict.fromkeys(limits.quotas, 0)
        self._worth = dict.fromkeys(limits.quotas, 0)
        self._spent = dict.fromkeys(limits.quotas, 0)
        self._spent_before = dict.fromkeys(limits.quotas, 0)
        """By window: tokens spent since the last lease was asked for, and under the one before."""
        self._until_s = self._until_unix_s = float("-inf")
        self._write_s = 0.0
        self._leasing: asyncio.Task[None] | None = None
        self._queue = Queue()
        self._open: dict[int, Permit] = {}
        self._slowest = leases.Slowest()
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self.tokens_spent = 0
        """By requests that the platform saw, or may have seen."""
        self.leases_written = 0
        self.stopped: Exception | None = None

    @property
    def limits(self) -> Limits:
        return self.books.limits

    @asynccontextmanager
    async def permit(
        self, group: str, priority: str = "live", cost: int | None = None
    ) -> AsyncIterator[Permit]:
        """Wait until all windows of the group have the tokens, then hold them.

        `cost` is spent from weighted windows, one token from all others; not said: the registry's
        for the group. Raises NoLease where
        leases cannot be written, KeyError for an unknown group, ValueError for a cost that no
        window ever has.
        """
        cost = self.limits.costs.get(group, 1) if cost is None else cost
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
        self.books.observe(group, headers)

    def refused(self, group: str, wait_s: float | None = None, window: str = "") -> float:
        """The platform said: too much. Closes the window it named, else all of the group.

        `window`: ours, or the platform's name of it. Without a wait: a day is closed until it
        ends, a rolling day for a quarter of an hour, others for a second and longer each time in a
        row. -> seconds for which nothing starts. A wait of unbelievable length is clamped.
        """
        closed_s = self.books.refused(group, wait_s, window)
        self._schedule(closed_s)
        return closed_s

    def wait_s(self, group: str, cost: int | None = None) -> float:
        """Seconds until a permit could be had if nobody else waited; inf: when an answer comes."""
        cost = self.limits.costs.get(group, 1) if cost is None else cost
        return self.books.asked(group, cost, keep=False)[1]

    def left(self, group: str) -> int:
        """Tokens of a group that could be spent now; a large number where nothing limits it."""
        return self.books.left(group)

    def waiting(self, group: str = "") -> int:
        return self._queue.count([group]) if group else len(self._queue)

    def view(self) -> list[QuotaView]:
        return [
            self.books.view(quota, self._queue.count(self._groups_of(quota.name)))
            for quota in self.limits.quotas.values()
        ]

    def sample(self, groups: Iterable[str]) -> None:
        """To be called at even intervals (100 ms) with the groups for which rows wait: how much of
        their scarcest window is in use? Closed windows do not count: nothing could be spent."""
        self.books.sample(groups)

    def use(self, group: str) -> float | None:
        """Part of the quota that was in use while rows waited; None: none waited. Tokens of
        requests under way are in use, so 1.0 is the best possible, window ÷ (window + latency)."""
        return self.books.use(group)

    def relimit(self, limits: Limits) -> None:
        """Other figures hold from now on. What was spent counts on, also for who waits; in a window
        that was not known before, only what is under way."""
        self.books.relimit(limits, ((p.group, p.cost) for p in self._open.values()))
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
        now_s, quotas = self._clock(), self.limits.quotas
        held = leases.decode(document, quotas, now_s, self._wall())
        self._slowest = leases.Slowest(max(0.0, held.settle_s - leases.GRACE_S))
        for name in held.buckets:
            quota, at_s = quotas[name], self.books.now_s(quotas[name])
            state = leases.inherit(held, quota, at_s, at_s - now_s)
            closed_s = self.books.believed_s(quota, state.closed_until_s - at_s)
            self.books.buckets[name] = replace(state, closed_until_s=at_s + closed_s)

    def document(self) -> str:
        """The lease as it stands: what a successor needs."""
        return self._document(self._until_s, self._granted)

    async def close(self) -> None:
        """Hand back what was leased and not spent, so that a successor need not count it.

        Who waits gets NoLease. Requests under way stay counted. Raises what `write_lease` raises.
        """
        self._stop(NoLease("the account is handed over"))
        if self._leasing is not None:
            await asyncio.gather(self._leasing, return_exceptions=True)
        if self._until_s > float("-inf"):
            self._granted = dict.fromkeys(self._granted, 0)
            self._until_s = self._clock()
            await self._write_lease(self.document())

    def _document(self, until_s: float, granted: dict[str, int]) -> str:
        now_s = self._clock()
        oldest_s = now_s - min((p.since_s for p in self._open.values()), default=now_s)
        settle_s = leases.GRACE_S + max(self._slowest.took_s, oldest_s)
        lease = leases.Lease(
            until_s, min(settle_s, leases.SETTLE_MAX_S), granted, self.books.buckets
        )
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
        half_s = max(0.0, self._until_s - self._clock()) / 2
        self._beat = asyncio.get_running_loop().call_later(half_s, self._beats)
        self._pump()

    def _beats(self) -> None:
        """A successor must know of what is under way, however long it takes."""
        self._beat = None  # with nothing under way the next request renews
        if self._open:
            self._renew()

    async def _lease(self, cost: int) -> None:
        now_s, unix_s, limits = self._clock(), self._wall(), self.limits
        holds_s = leases.duration_s(self._write_s)
        before, granted = self._granted, dict[str, int]()
        for name, quota in limits.quotas.items():
            lately = self._spent_before[name] + self._spent[name]
            ends_s = self.books.now_s(quota) + holds_s
            self._worth[name] = leases.worth(quota, self.books.buckets[name], ends_s, lately)
            granted[name] = max(before[name], self._worth[name], price(quota, cost))
        self._spent_before, self._spent = self._spent, dict.fromkeys(self._spent, 0)
        # Until it stands on the topic the old lease holds, and the new one covers what it spends.
        self._granted = dict(before)
        try:
            await self._write_lease(self._document(now_s + holds_s, granted))
        except Exception as error:
            no_lease = NoLease(f"the lease could not be written: {error}")
            self._stop(no_lease)
            raise no_lease from error
        self.leases_written += 1
        self._write_s = self._clock() - now_s
        if limits is not self.limits:
            return  # other figures hold by now: the next lease is theirs
        self._until_s, self._until_unix_s = now_s + holds_s, unix_s + holds_s
        spent = {name: max(0, n - self._granted[name]) for name, n in before.items()}
        self._granted = {name: max(0, n - spent[name]) for name, n in granted.items()}

    def _covered(self, waiter: Waiter) -> bool:
        """Is there a lease for it? By both clocks: a machine that was suspended has slept through
        the end of its lease, and only one of them knows."""
        quotas = self.books.quotas(waiter.group)
        holds = self._clock() < self._until_s and self._wall() < self._until_unix_s
        return not quotas or (
            holds and all(self._granted[q.name] >= price(q, waiter.cost) for q in quotas)
        )

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
        self.books.asked(group, cost, keep=False)  # raises where it can never be had
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
        least_s = float("inf")
        while (waiter := self._queue.first(ranks)) is not None:
            # Who has its floor while live work waits need not leave anything for live work to come.
            keep = waiter.rank >= PRIORITIES.index("bulk")
            keep = keep and not self._queue.urgent(waiter.group, waiter.rank)
            after, wait_s = self.books.asked(waiter.group, waiter.cost, keep=keep)
            if wait_s > 0:
                least_s = min(least_s, wait_s)
                for group in {waiter.group, *(g for name in after for g in self._groups_of(name))}:
                    ranks[group] = min(ranks[group], waiter.rank)
                continue
            if not self._covered(waiter):
                self._renew(waiter.cost)
                break  # goes on when it is written
            self.books.booked(after)
            self._queue.served(waiter)
            self._spend(waiter)
            waiter.granted.set_result(None)
        self._schedule(least_s)

    def _spend(self, waiter: Waiter) -> None:
        self.tokens_spent += waiter.cost
        permit = Permit(waiter.group, waiter.cost, waiter.number, self._clock())
        self._open[waiter.number] = permit
        low = self._beat is None and bool(self.books.quotas(waiter.group))
        for quota in self.books.quotas(waiter.group):
            name, tokens = quota.name, price(quota, waiter.cost)
            self._granted[name] -= tokens
            self._spent[name] += tokens
            few = self._granted[name] < max(1, LOW * self._worth[name])
            low |= few and quota.kind != "slots"  # those come back under the same lease
        if low:
            self._renew()

    def _answered(self, permit: Permit) -> None:
        self._open.pop(permit.number, None)
        lost = permit.lost and permit.sent
        took_s = self._clock() - permit.since_s
        if permit.sent and not lost:
            self._slowest.saw(took_s, self._clock())
        self.tokens_spent -= 0 if permit.sent else permit.cost
        lost_for_s = self._slowest.took_s + leases.GRACE_S if lost else 0.0
        self.books.answered(
            permit.group, permit.cost, sent=permit.sent, took_s=took_s, lost_for_s=lost_for_s
        )
        for quota in self.books.quotas(permit.group):
            if quota.kind == "slots" or not permit.sent:
                # What came back may be used again under the same lease.
                self._granted[quota.name] += price(quota, permit.cost)
        if self.stopped is None:
            self._pump()

    def _groups_of(self, window: str) -> list[str]:
        return [group for group, names in self.limits.groups.items() if window in names]

    def _schedule(self, wait_s: float) -> None:
        """Look again then, at the latest; an answer or a lease looks again by itself."""
        if wait_s == float("inf") or self.stopped is not None:
            return
        loop = asyncio.get_running_loop()
        at_s = loop.time() + min(wait_s, LOOK_S) + 0.001
        if self._timer is None or self._timer.cancelled() or at_s < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(at_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._pump()

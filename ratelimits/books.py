"""What one account has spent and may spend, in all its windows at once. It waits for nothing.

Time is monotonic, so that a wall clock that jumps opens no window; days end by the wall clock.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ratelimits import bucket as b
from ratelimits.headers import remaining
from ratelimits.registry import Limits

__all__ = ["Books", "QuotaView"]

KEEP, KEEP_LONG = 0.2, 0.05
"""Share of a window's rate (of a long one's) that bulk and replay leave for live work."""
CLOSE_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""After a refusal that names no wait: longer each time in a row."""
PROBE_S = 900.0
"""The same for a rolling day: when tokens come back depends on what others spent."""
PLENTY = 1_000_000
SMOOTH = 0.1
"""Weight of the newest answer in the average."""


@dataclass(frozen=True, slots=True)
class QuotaView:
    """One window as people see it."""

    window: str
    limit: int
    """The registry's figure, or less while it is slowed after refusals."""
    figure: int
    """The registry's, or the connection's own."""
    used_by_us: int
    used_by_others: int
    left: int
    resets_s: float
    """Seconds until all that is spent now is back; inf: unknown."""
    closed_s: float
    """Seconds for which the platform takes nothing; 0: it takes."""
    waiting: int


class Books:
    """The windows of one account."""

    def __init__(
        self, limits: Limits, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self.limits, self.clock, self.wall = limits, clock, wall
        self.buckets = {name: b.Bucket() for name in limits.quotas}
        self.took_s = 0.0
        """Until an answer, on average."""
        self._refused = 0
        self._sampled: dict[str, tuple[float, int]] = {}

    def quotas(self, group: str) -> list[b.Quota]:
        """The windows that a group spends from; none for a group nobody knows."""
        return [self.limits.quotas[name] for name in self.limits.groups.get(group, ())]

    def now_s(self, quota: b.Quota) -> float:
        return self.wall() if quota.kind == "day" else self.clock()

    def asked(self, group: str, cost: int, *, keep: bool) -> tuple[dict[str, b.Bucket], float]:
        """-> (buckets after, by window; seconds to wait: 0.0, they may be `booked`).

        `keep`: leave tokens for live work. Where it must wait, only the windows that lack tokens
        are in the answer.
        """
        after: dict[str, b.Bucket] = {}
        waits: dict[str, float] = {}
        for quota in self.quotas(group):
            share = (KEEP_LONG if quota.long else KEEP) if keep else 0.0
            state, now_s = self.buckets[quota.name], self.now_s(quota)
            after[quota.name], wait_s = b.take(
                state, quota, now_s, price(quota, cost), keep=share, took_s=self.took_s
            )
            if wait_s > 0:
                waits[quota.name] = wait_s
        if waits:
            return {name: after[name] for name in waits}, max(waits.values())
        return after, 0.0

    def booked(self, after: Mapping[str, b.Bucket]) -> None:
        self.buckets.update(after)

    def answered(
        self, group: str, cost: int, *, sent: bool, took_s: float, lost_for_s: float
    ) -> None:
        """`lost_for_s`: no answer came, and the platform may be at it for so long yet."""
        if sent and not lost_for_s:
            self.took_s += (took_s - self.took_s) * (SMOOTH if self.took_s else 1.0)
        for quota in self.quotas(group):
            now_s = self.now_s(quota)
            self.buckets[quota.name] = b.give_back(
                self.buckets[quota.name], quota, now_s, price(quota, cost),
                sent=sent, until_s=now_s + lost_for_s,
            )  # fmt: skip

    def observe(self, group: str, headers: Mapping[str, str]) -> None:
        """What a good answer's headers say of what is left. Names in lower case."""
        quotas = {quota.name: quota for quota in self.quotas(group)}
        for rule in self.limits.headers:
            quota, left = quotas.get(rule.window), remaining(rule, headers)
            if quota is not None and left is not None:
                state = self.buckets[quota.name]
                self.buckets[quota.name] = b.correct(state, quota, self.now_s(quota), left)
        if not any(self.closed_s(quota) > 0 for quota in quotas.values()):
            self._refused = 0  # what came while closed answers what was sent before

    def refused(self, group: str, wait_s: float | None, window: str) -> float:
        """-> seconds for which nothing starts. See `Limiter.refused`."""
        quotas = self.quotas(group)
        window = self.limits.names.get(window, window)
        quotas = [quota for quota in quotas if quota.name == window] or quotas
        if all(self.closed_s(quota) <= 0 for quota in quotas):
            self._refused += 1
        longest_s = 0.0
        for quota in quotas:
            now_s = self.now_s(quota)
            for_s = self._close_for_s(quota, wait_s, named=quota.name == window)
            self.buckets[quota.name] = b.close(
                self.buckets[quota.name], quota, now_s, now_s + for_s, certain=len(quotas) == 1
            )
            longest_s = max(longest_s, for_s)
        return longest_s

    def closed_s(self, quota: b.Quota) -> float:
        """Seconds for which the platform takes nothing; 0 or less: it takes."""
        return self.buckets[quota.name].closed_until_s - self.now_s(quota)

    def believed_s(self, quota: b.Quota, closed_for_s: float) -> float:
        """A wait of unbelievable length is clamped: an hour, or the rest of the day."""
        return self._close_for_s(quota, closed_for_s, named=True)

    def left(self, group: str) -> int:
        """Tokens of a group that could be spent now; a large number where nothing limits it."""
        counts = [b.left(self.buckets[q.name], q, self.now_s(q)) for q in self.quotas(group)]
        return min(counts, default=PLENTY)

    def view(self, quota: b.Quota, waiting: int) -> QuotaView:
        state, now_s = self.buckets[quota.name], self.now_s(quota)
        others = b.others(state, now_s)
        back = [at for at, _ in (*state.returns, *state.others) if at > now_s]
        return QuotaView(
            window=quota.name,
            limit=b.allowed(state, quota, now_s),
            figure=quota.limit,
            used_by_us=b.used(state, now_s) - others,
            used_by_others=others,
            left=b.left(state, quota, now_s),
            resets_s=max(back) - now_s if back else (float("inf") if state.open else 0.0),
            closed_s=max(0.0, self.closed_s(quota)),
            waiting=waiting,
        )

    def sample(self, groups: Iterable[str]) -> None:
        """See `Limiter.sample`."""
        for group in groups:
            parts: list[float] = []
            for quota in self.quotas(group):
                state, now_s = self.buckets[quota.name], self.now_s(quota)
                closed = self.closed_s(quota) > 0
                part = b.used(state, now_s) / b.allowed(state, quota, now_s)
                parts.append(float("inf") if closed else min(1.0, part))
            if parts and max(parts) < float("inf"):
                total, count = self._sampled.get(group, (0.0, 0))
                self._sampled[group] = total + max(parts), count + 1

    def use(self, group: str) -> float | None:
        total, count = self._sampled.get(group, (0.0, 0))
        return total / count if count else None

    def relimit(self, limits: Limits, open_: Iterable[tuple[str, int]]) -> None:
        """Other figures hold from now on. What was spent counts on; a window not known before has
        only the requests under way, `open_`: (group, cost)."""
        known, self.limits = self.buckets, limits
        self.buckets = {name: known.get(name, b.Bucket()) for name in limits.quotas}
        for group, cost in open_:
            for quota in self.quotas(group):
                if quota.name not in known:
                    state = self.buckets[quota.name]
                    self.buckets[quota.name] = b.Bucket(open=state.open + price(quota, cost))

    def _close_for_s(self, quota: b.Quota, wait_s: float | None, *, named: bool) -> float:
        """`named`: the platform said that it was this window."""
        longest_s = self.limits.retry_after_max_s
        if quota.kind == "day" and named:
            now_s = self.wall()
            longest_s = b.next_midnight_s(quota.zone, now_s) + b.DAY_SKEW_S - now_s
        if wait_s is None and named and quota.long:
            return longest_s if quota.kind == "day" else min(PROBE_S, longest_s)
        if wait_s is None:
            wait_s = CLOSE_S[min(max(self._refused, 1), len(CLOSE_S)) - 1]
        return min(max(wait_s, 0.0), longest_s)


def price(quota: b.Quota, cost: int) -> int:
    """What a request of this cost spends from a window."""
    return cost if quota.weighted else 1

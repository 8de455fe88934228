"""What a simulated platform allows, counted strictly and independently of any client.

A request counts at its arrival: when its head has been read and its sender recognised, before
the body. A refused request takes nothing. Every window that was full at an arrival counts one
overspend there, whoever of them gives the refusal. A weighted window gives as many tokens as the
request costs, all others one. Times are seconds since the epoch, from a clock
that only goes forward.

Rolling     at most `limit` arrivals in every span (t - window_s, t]
Calendar    at most `limit` arrivals from one reset to the next (midnight of a zone, or a period)
Concurrent  at most `limit` requests between arrival and the moment their answer is handed over
Slow        no new request while `limit` others have been running for `slow_s` or longer
"""

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

LOG_MAX = 2_000_000  # arrivals remembered for a timeline: 16 MB; the oldest half goes first


class Window(ABC):
    """One window of one quota. `limit` None: counted, never refused."""

    weighted = False
    """A request takes its cost."""

    def __init__(self, name: str, limit: int | None) -> None:
        self.name, self.limit = name, limit
        self.spent = self.refused = self.overspends = self.peak = 0

    @abstractmethod
    def used(self, now: float) -> int:
        """Tokens taken at this moment."""

    @abstractmethod
    def take(self, now: float) -> None: ...

    def release(self, taken: float, now: float) -> None:  # noqa: B027 - most give nothing back
        """The request that took its token at `taken` has been answered."""

    @abstractmethod
    def spent_in(self, start: float, end: float) -> float:
        """Tokens spent in [start, end]; for requests at once: slot-seconds."""

    @abstractmethod
    def spendable_in(self, start: float, end: float) -> float:
        """The most that could have been spent in [start, end] after what was spent before it."""

    def full(self, now: float, tokens: int = 1) -> bool:
        return self.limit is not None and self.used(now) + tokens > self.limit

    def at(self, now: float) -> int:
        """Tokens taken as it was at a time gone by."""
        return self.used(now)

    def summary(self, now: float) -> dict[str, Any]:
        return {
            "kind": type(self).__name__.lower(),
            "limit": self.limit,
            "used": self.used(now),
            "peak": self.peak,
            "spent": self.spent,
            "refused": self.refused,
            "overspends": self.overspends,
        }


class Rolling(Window):
    def __init__(self, name: str, limit: int | None, window_s: float) -> None:
        super().__init__(name, limit)
        self.window_s = window_s
        self._log, self._head = array("d"), 0

    def used(self, now: float) -> int:
        log, edge = self._log, now - self.window_s
        while self._head < len(log) and log[self._head] <= edge:
            self._head += 1
        return len(log) - self._head

    def take(self, now: float) -> None:
        self._log.append(now)
        self.spent += 1
        self.peak = max(self.peak, self.used(now))
        if len(self._log) > LOG_MAX:
            cut = min(self._head, LOG_MAX // 2)
            del self._log[:cut]
            self._head -= cut

    def at(self, now: float) -> int:
        return bisect_right(self._log, now) - bisect_right(self._log, now - self.window_s)

    def spent_in(self, start: float, end: float) -> float:
        return bisect_right(self._log, end) - bisect_left(self._log, start)

    def spendable_in(self, start: float, end: float) -> float:
        """Each token comes back a window after it was spent, and is spent again at once."""
        if self.limit is None:
            return float("inf")
        low, high = bisect_right(self._log, start - self.window_s), bisect_left(self._log, start)
        returns = [self._log[i] + self.window_s for i in range(low, high)]
        returns += [start] * (self.limit - len(returns))
        return sum(int((end - t) / self.window_s) + 1 for t in returns if t <= end)

    def summary(self, now: float) -> dict[str, Any]:
        return super().summary(now) | {"window_s": self.window_s}


class Calendar(Rolling):
    """`window_s` of a day means midnight in `zone`; any other one, multiples since the epoch."""

    def __init__(self, name: str, limit: int | None, window_s: float = 86_400, zone: str = "UTC"):
        super().__init__(name, limit, window_s)
        self.zone = ZoneInfo(zone) if zone != "UTC" else None

    def start(self, now: float) -> float:
        if self.zone is None:
            return now - now % self.window_s
        return (
            datetime.fromtimestamp(now, self.zone)
            .replace(hour=0, minute=0, second=0, microsecond=0)
            .timestamp()
        )

    def next_reset(self, now: float) -> float:
        if self.zone is None:
            return self.start(now) + self.window_s
        day = datetime.fromtimestamp(now, self.zone) + timedelta(days=1)
        return day.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()

    def used(self, now: float) -> int:
        start = self.start(now)
        while self._head < len(self._log) and self._log[self._head] < start:
            self._head += 1
        return len(self._log) - self._head

    def at(self, now: float) -> int:
        return bisect_right(self._log, now) - bisect_left(self._log, self.start(now))

    def spendable_in(self, start: float, end: float) -> float:
        if self.limit is None:
            return float("inf")
        before = bisect_left(self._log, start) - bisect_left(self._log, self.start(start))
        spendable, reset = self.limit - before, self.next_reset(start)
        while reset <= end:
            spendable, reset = spendable + self.limit, self.next_reset(reset)
        return spendable


class Concurrent(Window):
    def __init__(self, name: str, limit: int | None) -> None:
        super().__init__(name, limit)
        self._running = 0
        self._times, self._levels = array("d", [0.0]), array("I", [0])

    def used(self, now: float) -> int:
        return self._running

    def take(self, now: float) -> None:
        self.spent += 1
        self._step(now, 1)
        self.peak = max(self.peak, self._running)

    def release(self, taken: float, now: float) -> None:
        self._step(now, -1)

    def _step(self, now: float, by: int) -> None:
        self._running += by
        self._times.append(now)
        self._levels.append(self._running)
        if len(self._times) > LOG_MAX:
            del self._times[: LOG_MAX // 2], self._levels[: LOG_MAX // 2]

    def at(self, now: float) -> int:
        return self._levels[bisect_right(self._times, now) - 1]

    def spent_in(self, start: float, end: float) -> float:
        total, t = 0.0, start
        for i in range(bisect_right(self._times, start) - 1, len(self._times)):
            until = min(end, self._times[i + 1] if i + 1 < len(self._times) else end)
            total, t = total + max(0.0, until - t) * self._levels[i], max(t, until)
            if until >= end:
                break
        return total

    def spendable_in(self, start: float, end: float) -> float:
        return float("inf") if self.limit is None else self.limit * (end - start)


class Slow(Window):
    """Running requests, of which only those older than `slow_s` take a place."""

    def __init__(self, name: str, limit: int | None, slow_s: float) -> None:
        super().__init__(name, limit)
        self.slow_s = slow_s
        self._running: list[float] = []

    def used(self, now: float) -> int:
        return sum(1 for since in self._running if now - since >= self.slow_s)

    def take(self, now: float) -> None:
        self.spent += 1
        self._running.append(now)
        self.peak = max(self.peak, self.used(now))

    def release(self, taken: float, now: float) -> None:
        self._running.remove(taken)

    def spent_in(self, start: float, end: float) -> float:
        return 0.0

    def spendable_in(self, start: float, end: float) -> float:
        return 0.0

    def summary(self, now: float) -> dict[str, Any]:
        return super().summary(now) | {"slow_s": self.slow_s}


def admit(windows: Sequence[Window], now: float, cost: int = 1) -> Window | None:
    """Takes one token of each window, `cost` of a weighted one, or none of any -> the window that
    refuses."""
    full = [window for window in windows if window.full(now, cost if window.weighted else 1)]
    for window in full:
        window.overspends += 1
    if full:
        full[0].refused += 1
        return full[0]
    for window in windows:
        for _ in range(cost if window.weighted else 1):
            window.take(now)
    return None


def change(window: Window, setting: str) -> None:
    """`190`, `190/10` (limit/seconds) or `off`. What was spent before stays spent.

    Raises ValueError where the text means nothing for this window.
    """
    if setting == "off":
        window.limit = None
        return
    limit, _, seconds = setting.partition("/")
    if seconds and not isinstance(window, Rolling | Slow):
        raise ValueError(f"{window.name} has no length: {setting!r}")
    if int(limit) < 0 or (seconds and float(seconds) <= 0):
        raise ValueError(f"{window.name}: {setting!r}")
    window.limit = int(limit)
    if seconds and isinstance(window, Rolling):
        window.window_s = float(seconds)
    elif seconds and isinstance(window, Slow):
        window.slow_s = float(seconds)


def timeline(window: Window, start: float, end: float, step_s: float) -> dict[str, Any]:
    """Columns sampled every `step_s`: at_ms, used, spent since `start`. At most 100,000 rows."""
    count = min(100_000, max(0, round((end - start) / step_s) + 1))
    times = [start + i * step_s for i in range(count)]
    return {
        "limit": window.limit,
        "at_ms": [round(t * 1000) for t in times],
        "used": [window.at(t) for t in times],
        "spent": [window.spent_in(start, t) for t in times],
    }


def use(window: Window, spans: Iterable[tuple[float, float]]) -> dict[str, Any]:
    """Tokens spent ÷ tokens that could have been spent in these spans, in seconds.

    Spans that touch or overlap are one: cut into pieces, free tokens would count in each.
    """
    merged: list[tuple[float, float]] = []
    for a, b in sorted(spans):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        elif b > a:
            merged.append((a, b))
    pairs = [(window.spent_in(a, b), window.spendable_in(a, b)) for a, b in merged]
    spent, spendable = sum(p[0] for p in pairs), sum(p[1] for p in pairs)
    known = 0 < spendable < float("inf")
    return {
        "spent": spent,
        "spendable": spendable if spendable < float("inf") else None,
        "use": spent / spendable if known else None,
    }

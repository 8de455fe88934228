"""What is left of one window of a quota. Pure: time comes in, nothing goes out.

We never know at which moment between sending and answer the platform counts a request. So a token
is spent from the send on, and comes back one window after the *answer*: whatever moment the
platform chose, no window of its own ever holds more than the limit. The price is the time under
way: of `window_s` a token is idle for the latency, the best possible use is window ÷ (window +
latency).

Returns are kept in slots of 1/400 of the window, rounded up: memory is bounded, and the loss is
below 0.3 %.
"""

import bisect
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

__all__ = ["Bucket", "Kind", "Quota", "close", "correct", "give_back", "left", "restore", "take"]

Kind = Literal["moving", "day", "slots"]
"""moving: so many in any stretch of `window_s`; day: so many until midnight in `zone`; slots: so
many at once."""
SLOTS = 400
SLOW = 0.8
QUICKEN = 0.05
SLOW_MIN = 0.1


@dataclass(frozen=True, slots=True)
class Quota:
    """One window as the registry gives it."""

    name: str
    kind: Kind
    limit: int
    window_s: float = 0.0
    zone: str = "UTC"

    @property
    def slot_s(self) -> float:
        return max(self.window_s / SLOTS, 0.001)


@dataclass(frozen=True, slots=True)
class Bucket:
    """State of one window. Times are Unix seconds, so that it can be handed to another process."""

    open: int = 0
    """Tokens of requests without an answer yet."""
    returns: tuple[tuple[float, int], ...] = ()
    """(when they come back, how many), in order."""
    others: tuple[tuple[float, int], ...] = ()
    """The same for what others spent, as the platform's headers told."""
    closed_until_s: float = 0.0
    share: float = 1.0
    """Of the limit; below 1 after refusals, back to 1 in quiet windows, never above."""
    quiet_since_s: float = field(default=0.0)


def used(bucket: Bucket, now_s: float) -> int:
    """Tokens that are not ours to spend now: our own, open ones included, and others'."""
    back = sum(n for at, n in bucket.returns if at > now_s)
    return bucket.open + back + sum(n for at, n in bucket.others if at > now_s)


def left(bucket: Bucket, quota: Quota, now_s: float) -> int:
    """Tokens that could be taken now."""
    if now_s < bucket.closed_until_s:
        return 0
    return max(0, _limit(bucket, quota, now_s) - used(bucket, now_s))


def take(bucket: Bucket, quota: Quota, now_s: float, cost: int = 1) -> tuple[Bucket, float]:
    """-> (bucket after, 0) if `cost` tokens are there; else (bucket, wait in seconds).

    A wait of 0.0 always means taken. Slots come back with an answer, not with time: then the wait
    is infinite. A cost above the whole limit is taken when the window is empty.
    """
    if now_s < bucket.closed_until_s:
        return bucket, bucket.closed_until_s - now_s
    limit = max(_limit(bucket, quota, now_s), min(cost, quota.limit))
    spent = used(bucket, now_s)
    if spent + cost <= limit or (spent == 0 and cost > quota.limit):
        kept = tuple(r for r in bucket.returns if r[0] > now_s)
        others = tuple(r for r in bucket.others if r[0] > now_s)
        return replace(bucket, open=bucket.open + cost, returns=kept, others=others), 0.0
    missing = spent + cost - limit
    for at, n in sorted((*bucket.returns, *bucket.others)):
        if at > now_s:
            missing -= n
            if missing <= 0:
                return bucket, max(at - now_s, 0.001)
    return bucket, float("inf")


def give_back(
    bucket: Bucket, quota: Quota, now_s: float, cost: int = 1, *, sent: bool = True
) -> Bucket:
    """The answer is there (or the request was given up): the tokens come back one window later.

    `sent` False: the platform never saw it, and they are back at once.
    """
    bucket = replace(bucket, open=max(0, bucket.open - cost))
    if quota.kind == "slots" or not sent:
        return bucket
    return replace(bucket, returns=_add(bucket.returns, _back_at(quota, now_s), cost))


def restore(bucket: Bucket, quota: Quota, now_s: float, spent_until_s: float) -> Bucket:
    """As a successor must see it: what was open, or leased, was spent at `spent_until_s`."""
    if quota.kind == "slots":
        others = _add(bucket.others, spent_until_s, bucket.open) if bucket.open else bucket.others
        return replace(bucket, open=0, others=others)
    at = _back_at(quota, max(now_s, spent_until_s))
    returns = _add(bucket.returns, at, bucket.open) if bucket.open else bucket.returns
    return replace(bucket, open=0, returns=returns)


def correct(bucket: Bucket, quota: Quota, now_s: float, remaining: int) -> Bucket:
    """The platform says how many are left. Only down: its word may be older than what is open."""
    extra = left(bucket, quota, now_s) - max(0, remaining)
    if extra <= 0 or quota.kind == "slots":
        return bucket
    return replace(bucket, others=_add(bucket.others, _back_at(quota, now_s), extra))


def close(bucket: Bucket, quota: Quota, now_s: float, until_s: float) -> Bucket:
    """The platform refused: nothing before `until_s`, and a little less from then on."""
    return replace(
        bucket,
        closed_until_s=max(bucket.closed_until_s, until_s),
        share=max(SLOW_MIN, bucket.share * SLOW),
        quiet_since_s=max(now_s, until_s),
    )


def _limit(bucket: Bucket, quota: Quota, now_s: float) -> int:
    """Of the registry's figure, the share that is trusted now; each quiet window adds to it."""
    if bucket.share >= 1.0:
        return quota.limit
    quiet = max(0.0, now_s - bucket.quiet_since_s) / min(max(quota.window_s, 1.0), 60.0)
    return max(1, int(quota.limit * min(1.0, bucket.share + QUICKEN * int(quiet))))


def _back_at(quota: Quota, now_s: float) -> float:
    if quota.kind == "day":
        return next_midnight_s(quota.zone, now_s)
    slots = int((now_s + quota.window_s) / quota.slot_s) + 1
    return slots * quota.slot_s


def next_midnight_s(zone: str, now_s: float) -> float:
    """When a calendar day ends there, as Unix seconds; days of 23 and 25 hours included."""
    here = datetime.fromtimestamp(now_s, ZoneInfo(zone))
    return datetime.combine(here.date() + timedelta(days=1), time(), ZoneInfo(zone)).timestamp()


def _add(
    returns: tuple[tuple[float, int], ...], at_s: float, cost: int
) -> tuple[tuple[float, int], ...]:
    if returns and returns[-1][0] == at_s:
        return (*returns[:-1], (at_s, returns[-1][1] + cost))
    if not returns or returns[-1][0] < at_s:
        return (*returns, (at_s, cost))
    merged = list(returns)
    index = bisect.bisect_left(merged, (at_s, 0))
    if index < len(merged) and merged[index][0] == at_s:
        merged[index] = (at_s, merged[index][1] + cost)
    else:
        merged.insert(index, (at_s, cost))
    return tuple(merged)

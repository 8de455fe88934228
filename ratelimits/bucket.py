"""What is left of one window of a quota. Pure: time comes in, nothing goes out.

    after, wait_s = take(bucket, quota, now_s)          # 0.0: taken
    after = give_back(after, quota, answered_s)         # the answer is there

We never know at which moment between sending and answer the platform counts a request. So a token
is spent from the send on, and comes back one window after the *answer*: whatever moment the
platform chose, no window of its own ever holds more than the limit. The price is the time under
way: the best possible use of a quota is window ÷ (window + latency).

Returns are kept in slots of 1/400 of the window, rounded up: memory is bounded whatever the rate,
and the loss is below 0.3 %.

`now_s` is any clock that never jumps for moving windows and slots; Unix time for days, which end
at midnight somewhere.
"""

import bisect
import math
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

__all__ = ["Bucket", "Kind", "Quota", "close", "correct", "give_back", "left", "restore", "take"]

Kind = Literal["moving", "day", "slots"]
"""moving: so many in any stretch of `window_s` (86,400: rolling 24 h); day: so many until midnight
in `zone`; slots: so many at once."""
Returns = tuple[tuple[float, int], ...]
"""(when they come back, how many), in order, each time once."""
SLOTS = 400
LONG_S = 3600.0
"""Longer windows are closed by refusals and corrected by headers, never slowed."""
SLOW = 0.85
SLOW_MIN = 0.1
QUIET_S, QUIET_SLOTS_S = 60.0, 180.0
"""Slots are found exactly, and each attempt at one more is refused if others hold it still: of ten,
one in seven hundred seconds, which is below one in a thousand calls of four seconds."""
QUICKEN = 0.01
"""Of the limit, for the first quiet time; twice that for the second, and so on."""
TOLERANCE = 0.001
"""Refused requests in a thousand are bad luck (others use the account too), not our speed."""
ASKED_MAX = 4000
"""Answers after which half of them are forgotten: the ratio is about the recent past."""
DAY_SKEW_S = 1.0
"""The platform's midnight may come this much after ours."""


@dataclass(frozen=True, slots=True)
class Quota:
    """One window as the registry gives it."""

    name: str
    kind: Kind
    limit: int
    window_s: float = 0.0
    zone: str = "UTC"
    weighted: bool = False
    """A request spends its cost; else every request spends one."""

    @property
    def slot_s(self) -> float:
        return max(self.window_s / SLOTS, 0.001)

    @property
    def long(self) -> bool:
        return self.kind == "day" or self.window_s > LONG_S


@dataclass(frozen=True, slots=True)
class Bucket:
    """State of one window. Which clock its times are of, its owner knows."""

    open: int = 0
    """Tokens of requests without an answer yet."""
    returns: Returns = ()
    others: Returns = ()
    """The same for what others spent, as the platform's headers told."""
    closed_until_s: float = 0.0
    share: float = 1.0
    """Of the limit; below 1 after refusals, back to 1 in quiet windows, never above."""
    quiet_since_s: float = 0.0
    heard_s: float = 0.0
    """When headers last told what is left."""
    asked: int = 0
    refused: int = 0


def used(bucket: Bucket, now_s: float) -> int:
    """Tokens that are not ours to spend now: our own, open ones included, and others'."""
    return bucket.open + _sum(bucket.returns, now_s) + others(bucket, now_s)


def others(bucket: Bucket, now_s: float) -> int:
    """Of these, the tokens that others spent."""
    return _sum(bucket.others, now_s)


def allowed(bucket: Bucket, quota: Quota, now_s: float) -> int:
    """The registry's figure, or the part of it that is trusted after refusals."""
    return max(1, int(quota.limit * _trusted(bucket, quota, now_s) + 1e-9))


def left(bucket: Bucket, quota: Quota, now_s: float) -> int:
    """Tokens that could be taken at `now_s`, if nothing is taken or answered until then."""
    if now_s < bucket.closed_until_s:
        return 0
    return max(0, allowed(bucket, quota, now_s) - used(bucket, now_s))


def take(
    bucket: Bucket,
    quota: Quota,
    now_s: float,
    cost: int = 1,
    *,
    keep: float = 0.0,
    took_s: float = 0.0,
) -> tuple[Bucket, float]:
    """-> (bucket after, 0) if `cost` tokens are there; else (bucket, wait in seconds).

    A wait of 0.0 always means taken. Slots come back with an answer, not with time: then the wait
    is infinite. `keep`: share of the window's mean rate that stays free for somebody else, at every
    moment until the window has come round; it holds back no more than the next gap in the returns
    asks for, and that little by little less. `took_s`: how long answers take, on average; what
    others will have spent by the time this one is counted is left to them. Raises ValueError where
    the cost is above the limit.
    """
    if cost > quota.limit:
        raise ValueError(f"{quota.name} never has {cost} tokens: its limit is {quota.limit}")
    if now_s < bucket.closed_until_s:
        return bucket, bucket.closed_until_s - now_s
    limit = max(allowed(bucket, quota, now_s), cost)  # slowed, but not to a standstill
    missing = used(bucket, now_s) + _unseen(bucket, quota, now_s, took_s) + cost - limit
    if missing > 0:
        for at, n in sorted((*bucket.returns, *bucket.others)):
            if at > now_s:
                missing -= n
                if missing <= 0:
                    return bucket, at - now_s
        return bucket, float("inf")
    if keep > 0 and quota.kind != "slots":
        wait_s = _kept_for_s(bucket, quota, now_s, -missing, keep)
        if wait_s > 0:
            return bucket, wait_s
    return replace(bucket, open=bucket.open + cost), 0.0


def give_back(
    bucket: Bucket,
    quota: Quota,
    now_s: float,
    cost: int = 1,
    *,
    sent: bool = True,
    until_s: float = 0.0,
) -> Bucket:
    """The request is over: its tokens come back one window later, slots at once.

    `until_s`: no answer came, and the platform may be at it until then. `sent` False: the platform
    never saw it, and all is back at once.
    """
    after = replace(bucket, open=max(0, bucket.open - cost))
    if not sent:
        return after
    half = 2 if bucket.asked >= ASKED_MAX else 1
    at = _back_at(quota, max(now_s, until_s))
    return replace(
        after,
        returns=_add(after.returns, at, cost, now_s) if at > now_s else after.returns,
        asked=bucket.asked // half + cost,
        refused=bucket.refused // half,
    )


def restore(bucket: Bucket, quota: Quota, now_s: float, spent_until_s: float) -> Bucket:
    """As a successor must see it: what was open, or leased, is spent at `spent_until_s`.

    Nothing can come back later than what is spent then: a time beyond it was written by a clock
    that has been put right since.
    """
    latest = _back_at(quota, max(now_s, spent_until_s))
    earlier = [(min(at, latest), n) for at, n in bucket.returns if at > now_s]
    after = replace(bucket, open=0, returns=(), others=_merge(bucket.others, latest))
    for at, n in (*earlier, (latest, bucket.open)):
        if n and at > now_s:
            after = replace(after, returns=_add(after.returns, at, n, now_s))
    return after


def correct(bucket: Bucket, quota: Quota, now_s: float, remaining: int) -> Bucket:
    """The platform says how many are left: what we cannot account for, others spent.

    Never more than we thought: its word may be older than what is open. Only where others' tokens
    of a rolling day come back earlier than guessed, the guess is corrected; ours stay as they are.
    """
    if quota.kind == "slots":
        return bucket
    before = others(bucket, now_s)
    theirs = quota.limit - max(0, remaining) - used(bucket, now_s) + before
    bucket = replace(bucket, heard_s=now_s)
    if theirs > before:
        at = _back_at(quota, now_s)
        return replace(bucket, others=_add(bucket.others, at, theirs - before, now_s))
    at_most = max(0, theirs + bucket.open)  # what is open is perhaps not counted yet
    if quota.kind == "moving" and quota.long and at_most < before:
        return replace(bucket, others=_trim(bucket.others, now_s, at_most))
    return bucket


def close(
    bucket: Bucket, quota: Quota, now_s: float, until_s: float, *, certain: bool = True
) -> Bucket:
    """The platform refused: nothing before `until_s`, and if it does so often, less from then on.

    Refusals that arrive while it is closed answer what was sent before: they slow nothing. But each
    request that found no place tells exactly how many there are for us: one fewer. `certain`: this
    window refused; else it may have been another one of the request's.
    """
    after = replace(
        bucket,
        closed_until_s=max(bucket.closed_until_s, until_s),
        refused=bucket.refused + 1,
        quiet_since_s=max(now_s, until_s),
        share=_trusted(bucket, quota, now_s),
    )
    if quota.long or after.refused <= TOLERANCE * after.asked:
        return after
    if quota.kind == "slots" and certain:
        places = min(allowed(bucket, quota, now_s), bucket.open) - 1
        return replace(after, share=max(1, places) / quota.limit)
    if now_s < bucket.closed_until_s:
        return after
    return replace(after, share=max(SLOW_MIN, after.share * SLOW))


def next_midnight_s(zone: str, now_s: float) -> float:
    """When a calendar day ends there, as Unix seconds; days of 23 and 25 hours included."""
    here = datetime.fromtimestamp(now_s, ZoneInfo(zone))
    return datetime.combine(here.date() + timedelta(days=1), time(), ZoneInfo(zone)).timestamp()


def _trusted(bucket: Bucket, quota: Quota, now_s: float) -> float:
    """Share of the registry's figure that is trusted now; each quiet time adds to it, and more
    than the one before: bad luck is made up for soon, a limit that is there is met seldom."""
    if bucket.share >= 1.0:
        return 1.0
    each_s = QUIET_SLOTS_S if quota.kind == "slots" else QUIET_S
    times = int(max(0.0, now_s - bucket.quiet_since_s) / each_s)
    return min(1.0, bucket.share + QUICKEN * times * (times + 1) / 2)


def _unseen(bucket: Bucket, quota: Quota, now_s: float, took_s: float) -> int:
    """Tokens that others will have spent, without our knowing, when a request of now is counted: if
    they go on as they did, and with two standard deviations of chance arrivals; also those that we
    took for requests of ours under way. No more than half of what they leave."""
    if not bucket.others or took_s <= 0 or quota.kind != "moving" or quota.long:
        return 0
    rate = _sum(bucket.others, min(bucket.heard_s, now_s)) / quota.window_s
    stale_s = min(quota.window_s, took_s / 2 + max(0.0, now_s - bucket.heard_s))
    likely = rate * stale_s + bucket.open / 2
    most = max(0, quota.limit - others(bucket, now_s)) // 2
    return min(most, math.ceil(likely + 2 * math.sqrt(likely + rate * took_s)))


def _kept_for_s(bucket: Bucket, quota: Quota, now_s: float, spare: int, keep: float) -> float:
    """Seconds until `spare` tokens are enough to give `keep` of the mean rate until more return."""
    whole_s = 86_400.0 if quota.kind == "day" else quota.window_s
    rate = keep * quota.limit / whole_s
    if spare >= rate * whole_s:
        return 0.0
    end = next_midnight_s(quota.zone, now_s) if quota.kind == "day" else now_s + whole_s
    need, back = 0.0, 0
    for at, n in sorted((*bucket.returns, *bucket.others)):
        if now_s < at < end:
            need = max(need, rate * (at - now_s) - back)
            back += n
    need = max(need, rate * (end - now_s) - back)
    # Part of a token is no token: it is enough when less than one is missing.
    return (need - spare - 1) / rate + 1e-3 if int(need) > spare else 0.0


def _back_at(quota: Quota, now_s: float) -> float:
    if quota.kind == "slots":
        return now_s
    if quota.kind == "day":
        return next_midnight_s(quota.zone, now_s) + DAY_SKEW_S
    slots = int((now_s + quota.window_s) / quota.slot_s) + 1
    return slots * quota.slot_s


def _sum(returns: Returns, now_s: float) -> int:
    return sum(n for at, n in returns if at > now_s)


def _merge(returns: Returns, latest: float) -> Returns:
    after: Returns = ()
    for at, n in returns:
        after = _add(after, min(at, latest), n, 0.0)
    return after


def _trim(returns: Returns, now_s: float, total: int) -> Returns:
    """The latest `total` of them."""
    after: list[tuple[float, int]] = []
    for at, n in reversed(returns):
        kept = min(n, total) if at > now_s else 0
        total -= kept
        if kept:
            after.append((at, kept))
    return tuple(reversed(after))


def _add(returns: Returns, at_s: float, cost: int, now_s: float) -> Returns:
    """One more; those that are back at `now_s` go."""
    first = bisect.bisect_right(returns, (now_s, 0)) if returns and returns[0][0] <= now_s else 0
    if first < len(returns) and returns[-1][0] == at_s:
        return (*returns[first:-1], (at_s, returns[-1][1] + cost))
    if first >= len(returns) or returns[-1][0] < at_s:
        return (*returns[first:], (at_s, cost))
    index = bisect.bisect_left(returns, (at_s, 0))
    if returns[index][0] == at_s:
        return (*returns[first:index], (at_s, returns[index][1] + cost), *returns[index + 1 :])
    return (*returns[first:index], (at_s, cost), *returns[index:])

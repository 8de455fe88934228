"""What stands on `handover` before a request starts, so that a successor overspends nothing. Pure.

A lease says: until this moment I may spend so many tokens more, beside what is spent already. Who
comes after me counts all of it as spent when the lease ends, plus the time for which a request may
still be under way (`settle_s`).

Inside a process time is monotonic; on the topic it is Unix time, translated when the lease is
written and when it is read. A wall clock that jumps within a process changes nothing. Between
processes it does: a successor whose clock is ahead of ours by more than `GRACE_S` trusts too early:
keep hosts within a second of each other (NTP does). One that is behind waits longer, but never
longer than a whole window: nothing can have been spent later than now.
"""

import json
import math
from dataclasses import dataclass, replace
from typing import Any

from ratelimits import bucket as b

__all__ = ["GRACE_S", "LEASE_S", "SETTLE_MAX_S", "Lease", "Slowest", "decode", "encode", "worth"]

LEASE_S = 2.0
LEASE_MAX_S = 10.0
"""Where writing takes long, so that the next one can be written while the last still holds."""
GRACE_S = 1.0
SETTLE_MAX_S = 120.0
"""No request is waited for longer; it is Mailchimp's own bound for a call."""
RETURNS_MAX = 50
FEW = 20
SHORT_S = 60.0


@dataclass(frozen=True, slots=True)
class Lease:
    until_s: float
    settle_s: float
    granted: dict[str, int]
    buckets: dict[str, b.Bucket]


class Slowest:
    """The longest that an answer took, of the last five to ten minutes."""

    KEPT_S = 300.0

    def __init__(self, took_s: float = 0.0) -> None:
        self._since_s, self._now, self._before = 0.0, took_s, 0.0

    def saw(self, took_s: float, now_s: float) -> None:
        if now_s - self._since_s > self.KEPT_S:
            self._since_s, self._before, self._now = now_s, self._now, 0.0
        self._now = max(self._now, took_s)

    @property
    def took_s(self) -> float:
        return max(self._now, self._before)


def worth(quota: b.Quota, state: b.Bucket, ends_s: float, spent_lately: int) -> int:
    """Tokens of one lease: a second's worth, as far as they are there before it ends; all slots.

    A day's quota gives hardly a token a second, and is spent at the pace of the work: twice what
    the last lease spent.
    """
    if quota.kind == "slots":
        return max(0, quota.limit - state.open)
    if quota.kind == "moving" and quota.window_s <= SHORT_S:
        second = int(quota.limit / max(quota.window_s, 1.0))
    else:
        second = min(max(FEW, 2 * spent_lately), quota.limit // 50)
    return min(max(1, second), b.left(state, quota, ends_s))


def duration_s(write_s: float) -> float:
    """How long a lease holds, if writing one takes `write_s`."""
    return min(max(LEASE_S, 4 * write_s), LEASE_MAX_S)


def encode(lease: Lease, quotas: dict[str, b.Quota], now_s: float, unix_s: float) -> str:
    """`now_s` and `unix_s` are one moment on both clocks."""
    ahead_s = unix_s - now_s
    windows = {
        name: {
            "open": state.open,
            "granted": lease.granted[name],
            "returns": _coarse(state.returns, quotas[name], now_s, unix_s),
            "others": _coarse(state.others, quotas[name], now_s, unix_s),
            "closed_until_s": _moved(quotas[name], state.closed_until_s, ahead_s),
            "share": state.share,
        }
        for name, state in lease.buckets.items()
    }
    return json.dumps(
        {"until_s": lease.until_s + ahead_s, "settle_s": lease.settle_s, "windows": windows}
    )


def decode(document: str | bytes, quotas: dict[str, b.Quota], now_s: float, unix_s: float) -> Lease:
    """Windows that no longer exist are passed over; new ones are full. Raises ValueError."""
    behind_s = now_s - unix_s
    try:
        held: dict[str, Any] = json.loads(document)
        kept = {n: w for n, w in held["windows"].items() if n in quotas}
        return Lease(
            until_s=float(held["until_s"]) + behind_s,
            settle_s=float(held.get("settle_s", 0.0)),
            granted={name: int(window["granted"]) for name, window in kept.items()},
            buckets={name: _bucket(quotas[name], w, behind_s) for name, w in kept.items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a lease: {error!r}") from error


def inherit(lease: Lease, quota: b.Quota, now_s: float, ahead_s: float) -> b.Bucket:
    """One window of a predecessor's lease as its successor must see it.

    `ahead_s` leads from the clock of the lease to that of the window.
    """
    state, granted = lease.buckets[quota.name], lease.granted[quota.name]
    # It cannot have been written later than now, whatever its writer's clock said.
    ends_s = min(lease.until_s + ahead_s, now_s + LEASE_MAX_S)
    spent_until_s = ends_s + GRACE_S + min(lease.settle_s, SETTLE_MAX_S)
    if quota.kind != "day":  # that has room for clocks of its own
        returns = tuple((at + GRACE_S, n) for at, n in state.returns)
        state = replace(state, returns=returns)
    state = replace(state, open=state.open + granted, quiet_since_s=now_s)
    return b.restore(state, quota, now_s, spent_until_s)


def _bucket(quota: b.Quota, kept: dict[str, Any], behind_s: float) -> b.Bucket:
    def times(returns: list[list[float]]) -> b.Returns:
        return tuple(sorted((_moved(quota, at, behind_s), int(n)) for at, n in returns))

    return b.Bucket(
        open=int(kept["open"]),
        returns=times(kept["returns"]),
        others=times(kept["others"]),
        closed_until_s=_moved(quota, kept["closed_until_s"], behind_s),
        share=min(1.0, max(b.SLOW_MIN, float(kept["share"]))),
    )


def _moved(quota: b.Quota, at_s: float, by_s: float) -> float:
    """A day's window lives in Unix time everywhere."""
    return float(at_s) if quota.kind == "day" else float(at_s) + by_s


def _coarse(
    returns: b.Returns, quota: b.Quota, now_s: float, unix_s: float
) -> list[tuple[float, int]]:
    """In Unix time; at most about 50 entries, each rounded to later, and never twice."""
    step = max(quota.window_s / RETURNS_MAX, 0.001)
    ahead_s = 0.0 if quota.kind == "day" else unix_s - now_s
    out: dict[float, int] = {}
    for at, n in returns:
        if at + ahead_s > unix_s:
            slot = round(math.ceil((at + ahead_s - 1e-5) / step) * step, 6)
            out[slot] = out.get(slot, 0) + n
    return sorted(out.items())

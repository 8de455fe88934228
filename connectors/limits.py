"""An account's quotas as its requests see them: `ratelimits.Limiter`, and leases on `handover`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from connectors.base import Spec
from connectors.http import Call
from ratelimits import registry
from ratelimits.limiter import Limiter, Permit, QuotaView
from schemas.commands import Priority
from schemas.definitions import Connection

__all__ = ["Limits", "Paid", "limits_of"]

PACE_MAX_S = 1.0


def limits_of(connection: Connection | None, spec: Spec) -> registry.Limits:
    """The figures that hold for an account. A platform without a registry file has no limits.

    Raises KeyError for an override of an unknown window.
    """
    groups = {
        group
        for o in spec.objects.values()
        for group in (
            o.read_quota,
            o.write_quota,
            o.asking_quota,
            o.count_quota or o.read_quota,
            o.job_quota,
        )
    }
    if not (registry.FOLDER / f"{spec.platform}.json").exists():
        return registry.Limits(
            platform=spec.platform, quotas={}, groups={g: [] for g in groups}, headers=[],
            retry_after_max_s=3600,
        )  # fmt: skip
    if connection is None:
        return registry.load(spec.platform)
    return registry.load(spec.platform, connection.tier, connection.quotas)


@dataclass(slots=True)
class Paid:
    """What one request has paid. Its answers correct what is thought to be left."""

    limiter: Limiter
    group: str
    priority: Priority
    held: AsyncExitStack
    permit: Permit

    async def another(self) -> None:
        """Pay for one more request of the same work, after the last was answered. Nothing is held
        while waiting: with a limit on requests at once, all could wait for each other."""
        await self.held.aclose()
        self.permit = await self.held.enter_async_context(
            self.limiter.permit(self.group, self.priority)
        )

    def answered(self, call: Call) -> None:
        if not call.sent:
            self.permit.sent = False
        elif call.status == 0:
            self.permit.lost = True
        elif 0 < call.status < 400:
            self.limiter.observe(self.group, call.headers)

    def unused(self) -> None:
        """There was nothing to send."""
        self.permit.sent = False


class Limits:
    """Of one account."""

    def __init__(
        self, limits: registry.Limits, write_lease: Callable[[str], Awaitable[None]]
    ) -> None:
        self._write_lease, self._retired = write_lease, False
        self.limiter = Limiter(limits, write_lease=self._write)

    async def _write(self, document: str) -> None:
        if self._retired:
            raise RuntimeError("other limits hold for the account now")
        await self._write_lease(document)

    def replaced(self, limits: registry.Limits) -> "Limits":
        """The same account under other figures: what was spent counts on. The old one writes
        nothing any more."""
        successor = Limits(limits, self._write_lease)
        successor.restore(self.limiter.document().encode())
        self._retired = True
        return successor

    @asynccontextmanager
    async def permit(self, group: str, priority: Priority) -> AsyncIterator[Paid]:
        """Waits until one request of the group may start. Raises NoLease."""
        async with AsyncExitStack() as held:
            permit = await held.enter_async_context(self.limiter.permit(group, priority))
            yield Paid(self.limiter, group, priority, held, permit)

    def restore(self, document: bytes) -> None:
        """Raises ValueError for what is no lease."""
        self.limiter.restore(document)

    def sample(self, groups: Iterable[str]) -> None:
        """Every 100 ms: groups for which rows wait."""
        self.limiter.sample(groups)

    def throttled(self, group: str, wait_s: float | None, window: str) -> None:
        self.limiter.refused(group, wait_s, window)

    def why(self, group: str, priority: Priority) -> tuple[str, float]:
        """(what rows of this group wait for, seconds until one could go)."""
        wait_s = self.limiter.wait_s(group)
        full = [v for v in self.views() if v.window in self._windows(group) and v.left <= 0]
        if not full:
            return f"other rows go first ({priority.value})", 0.0
        names = ", ".join(v.window for v in full)
        return f"quota {group} used up: {names}", min(wait_s, 86_400.0)

    def pace_s(self, group: str) -> float:
        """How far requests that are not full keep apart: nothing, as long as half of each long
        quota (a day's) is left; then more and more, up to the pace at which it lasts for ever."""
        quotas = self.limiter.limits.quotas
        long = {name for name in self._windows(group) if quotas[name].long}
        longest_s = 0.0
        for view in self.views() if long else ():
            if view.window in long:
                quota = quotas[view.window]
                window_s = 86_400.0 if quota.kind == "day" else quota.window_s
                tight = min(1.0, max(0.0, 2.0 - 4.0 * view.left / quota.limit))
                longest_s = max(longest_s, tight * window_s / quota.limit)
        return min(PACE_MAX_S, longest_s)

    def part_left(self, group: str) -> float:
        """Of the scarcest quota of this group that is meant for a day: 0 to 1; 1 where none is."""
        quotas = self.limiter.limits.quotas
        long = {name for name in self._windows(group) if quotas[name].long}
        parts = [v.left / quotas[v.window].limit for v in self.views() if v.window in long]
        return max(0.0, min(parts, default=1.0))

    def _windows(self, group: str) -> list[str]:
        return self.limiter.limits.groups.get(group, [])

    def views(self) -> list[QuotaView]:
        return self.limiter.view()

    def spent(self) -> int:
        return self.limiter.tokens_spent

    async def close(self) -> None:
        await self.limiter.close()

"""Who waits for a quota, and who is next. Pure but for the futures that it carries."""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

__all__ = ["FLOOR", "PRIORITIES", "Queue", "Waiter"]

PRIORITIES = ("live", "released", "bulk", "replay")
FLOOR = 20
"""Of so many grants in a row, lower priorities get one while higher ones wait too."""


@dataclass(slots=True)
class Waiter:
    number: int
    group: str
    rank: int
    """Position in PRIORITIES."""
    cost: int
    granted: asyncio.Future[None]


@dataclass(slots=True)
class _Lanes:
    """Of one group: one lane a priority, first come first served."""

    lanes: list[deque[Waiter]] = field(default_factory=lambda: [deque() for _ in PRIORITIES])
    passed: int = 0
    """Grants since a lower priority got one, while it waited."""
    floor_rank: int = 0
    """The last that had its floor: they take turns."""


class Queue:
    """All that wait for the quotas of one account."""

    def __init__(self) -> None:
        self._groups: dict[str, _Lanes] = {}
        self._number = 0

    def __len__(self) -> int:
        return sum(len(lane) for group in self._groups.values() for lane in group.lanes)

    def count(self, groups: Collection[str]) -> int:
        return sum(len(lane) for g in groups for lane in self._lanes(g).lanes)

    def add(self, group: str, rank: int, cost: int, granted: asyncio.Future[None]) -> Waiter:
        self._number += 1
        waiter = Waiter(self._number, group, rank, cost, granted)
        self._groups.setdefault(group, _Lanes()).lanes[rank].append(waiter)
        return waiter

    def urgent(self, group: str, rank: int) -> bool:
        """Is somebody of this group waiting who goes before `rank`?"""
        return any(self._lanes(group).lanes[:rank])

    def first(self, open_ranks: Mapping[str, int]) -> Waiter | None:
        """The most urgent, and among equals the first to come; now and then the one whose floor is
        due. `open_ranks`: group to how many ranks, from the top, can be served at all."""
        heads: list[Waiter] = []
        for name, group in self._groups.items():
            ranks = [r for r, lane in enumerate(group.lanes[: open_ranks[name]]) if lane]
            if len(ranks) > 1 and group.passed >= FLOOR - 1:
                lower = [r for r in ranks[1:] if r > group.floor_rank] or ranks[1:]
                return group.lanes[lower[0]][0]
            if ranks:
                heads.append(group.lanes[ranks[0]][0])
        return min(heads, key=lambda w: (w.rank, w.number), default=None)

    def served(self, waiter: Waiter) -> None:
        """It got its tokens."""
        group = self._groups[waiter.group]
        self.remove(waiter)
        if any(group.lanes[: waiter.rank]):
            group.passed, group.floor_rank = 0, waiter.rank
        elif any(group.lanes[waiter.rank + 1 :]):
            group.passed += 1
        else:
            group.passed = group.floor_rank = 0

    def remove(self, waiter: Waiter) -> bool:
        """-> was it there."""
        lane = self._groups[waiter.group].lanes[waiter.rank]
        if lane and lane[0] is waiter:
            lane.popleft()
            return True
        try:
            lane.remove(waiter)
        except ValueError:
            return False
        return True

    def clear(self) -> list[Waiter]:
        """-> all that waited."""
        everybody = [w for group in self._groups.values() for lane in group.lanes for w in lane]
        self._groups.clear()
        return everybody

    def _lanes(self, group: str) -> _Lanes:
        return self._groups.get(group) or _Lanes()

"""Faults on request: a script of what goes wrong, for which calls, how often.

One fault is a JSON object. Which calls: `method`, `path` (a regular expression, searched), the
first `after` of them let through, then each `every`-th, with `probability` from the simulator's
seed, at most `count` times. What: `action`, one of

delay         wait `ms` (a number, or [least, most]) before the work
status        answer `status` with `body` (JSON value or text) and `headers`; nothing is written
status_after  the same after the work was done, as a gateway that lost patience does
lose_before   close the connection, nothing written
lose_after    do the work, then close the connection without an answer
truncate      do the work, close the connection in the middle of the answer
slow_body     do the work, then send the answer in ten pieces over `ms`
throttle      the platform's own refusal for a quota; `policy` names which, `bare` without JSON
expire_token  every token given out so far is refused from now on
refuse_rows   rows that match `rows` are refused with `code` and `message`
no_effect     2xx as if written, nothing written
drop_results  leave the results of a `share` of the rows out of the answer
shuffle       the results in another order

`rows` is `{"field", "in": […]}`, `{"field", "matches": "regex"}` or `{"share": 0.01}`.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

import msgspec

T = TypeVar("T")

Action = Literal[
    "delay",
    "status",
    "status_after",
    "lose_before",
    "lose_after",
    "truncate",
    "slow_body",
    "throttle",
    "expire_token",
    "refuse_rows",
    "no_effect",
    "drop_results",
    "shuffle",
]


class Rows(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"among": "in"}):
    """Which rows of a batch."""

    field: str = ""
    among: frozenset[str] = frozenset()
    matches: str = ""
    share: float = 1.0


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the script, see the module."""

    action: Action
    name: str = ""
    method: str = ""
    path: str = ""
    after: int = 0
    every: int = 1
    probability: float = 1.0
    count: int | None = None
    ms: float | tuple[float, float] = 0.0
    status: int = 503
    body: Any = None
    headers: dict[str, str] = {}
    policy: str = ""
    bare: bool = False
    rows: Rows = Rows()
    code: str = "UNKNOWN_EXCEPTION"
    message: str = "refused on request"
    share: float = 1.0


class _Armed:
    """A fault with what it has seen."""

    def __init__(self, fault: Fault, seed: str) -> None:
        self.fault = fault
        self.seen = self.fired = 0
        self.chance = random.Random(seed)
        try:
            self.path, self.matches = re.compile(fault.path), re.compile(fault.rows.matches)
        except re.error as error:
            raise ValueError(f"{fault.action}: {error}") from None

    def hits(self, method: str, path: str) -> bool:
        fault = self.fault
        if fault.count is not None and self.fired >= fault.count:
            return False
        if (fault.method and fault.method != method) or not self.path.search(path):
            return False
        self.seen += 1
        if self.seen <= fault.after or (self.seen - fault.after) % fault.every:
            return False
        if fault.probability < 1 and self.chance.random() >= fault.probability:
            return False
        self.fired += 1
        return True

    def delay_s(self) -> float:
        ms = self.fault.ms
        return (self.chance.uniform(*ms) if isinstance(ms, tuple) else ms) / 1000

    def names_row(self, value_of: Callable[[str], Any]) -> bool:
        rows = self.fault.rows
        if rows.field:
            value = str(value_of(rows.field) or "")
            if rows.among and value not in rows.among:
                return False
            if rows.matches and not self.matches.search(value):
                return False
        return rows.share >= 1 or self.chance.random() < rows.share


class Struck:
    """The faults that hit one call."""

    def __init__(self, armed: list[_Armed]) -> None:
        self._armed = armed
        self.refusing = [a for a in armed if a.fault.action == "refuse_rows"]

    def __contains__(self, action: Action) -> bool:
        return any(a.fault.action == action for a in self._armed)

    def first(self, *actions: Action) -> Fault | None:
        return next((a.fault for a in self._armed if a.fault.action in actions), None)

    def delay_s(self, action: Action) -> float:
        return sum(a.delay_s() for a in self._armed if a.fault.action == action)

    def refuses(self, value_of: Callable[[str], Any]) -> Fault | None:
        """The fault that refuses a row, given how to look at its fields."""
        return next((a.fault for a in self.refusing if a.names_row(value_of)), None)

    def edit(self, results: list[T]) -> list[T]:
        """Results as they go out: some left out, or in another order."""
        for armed in self._armed:
            if armed.fault.action == "drop_results":
                share = armed.fault.share
                results = [r for r in results if share < 1 and armed.chance.random() >= share]
            elif armed.fault.action == "shuffle":
                results = armed.chance.sample(results, len(results))
        return results


NONE = Struck([])


class Script:
    """All faults of one simulator, in the order in which they were given."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._armed: list[_Armed] = []
        self._given = 0

    def add(self, faults: Iterable[Mapping[str, Any]]) -> list[str]:
        """-> their names. Raises ValueError (msgspec.ValidationError is one) with what is wrong."""
        fresh: list[_Armed] = []
        for given in faults:
            number = self._given + len(fresh)
            fault = msgspec.convert(dict(given), Fault)
            named = msgspec.structs.replace(fault, name=fault.name or f"fault-{number}")
            fresh.append(_Armed(named, f"{self.seed}:{number}"))
        self._armed += fresh
        self._given += len(fresh)
        return [armed.fault.name for armed in fresh]

    def clear(self, name: str = "") -> None:
        """Takes away the fault of this name, or all."""
        self._armed = [a for a in self._armed if name and a.fault.name != name]

    def strike(self, method: str, path: str) -> Struck:
        if not self._armed:
            return NONE
        armed = [a for a in self._armed if a.hits(method, path)]
        return Struck(armed) if armed else NONE

    def report(self) -> list[dict[str, Any]]:
        return [
            {"name": a.fault.name, "action": a.fault.action, "seen": a.seen, "fired": a.fired}
            for a in self._armed
        ]

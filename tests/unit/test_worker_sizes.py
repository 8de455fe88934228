"""A size that time-outs made small grows again with success; what the platform names stays."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from connectors import halting
from connectors.account import Account
from connectors.lanes import Item, Lane
from connectors.outcome import Outcome, Retry, TooLarge
from connectors.settling import Request
from connectors.uploads import GROW_AFTER, _grow, _whole


def account(**small: int) -> Any:
    told: list[Any] = []
    office = SimpleNamespace(also=lambda sends, _: told.extend(sends))
    return SimpleNamespace(
        rows_max={"lead": 16}, small=small, office=office, partition=0, told=told,
        learned=lambda: "learned",
    )  # fmt: skip


def succeed(there: Any, rows: int, times: int) -> None:
    items = [SimpleNamespace(spec=SimpleNamespace(batch_rows_max=50))] * rows
    for _ in range(times):
        lane = SimpleNamespace(object_type="lead")
        _grow(cast(Account, there), cast(Lane, lane), cast(list[Item], items))


def refused(there: Any, rows: int, outcome: Outcome) -> None:
    """As a whole, for the last time."""
    gate, split = SimpleNamespace(answered_s=2.0), list[Any]()
    there.gate, there.split = gate, lambda lane, items: split.append(items)
    there.office.now_s = lambda: 3.0
    spec = SimpleNamespace(batch_rows_max=50)
    items = [SimpleNamespace(spec=spec, attempts=2, fault_s=1.0) for _ in range(rows)]
    lane = SimpleNamespace(object_type="lead")
    _whole(
        cast(Account, there), cast(Lane, lane), cast(list[Item], items), outcome, Request("r", rows)
    )
    assert split == [items]


def test_full_requests_that_are_answered_let_it_grow_up_to_the_platforms_own() -> None:
    there = account(lead=0)
    succeed(there, 15, 10 * GROW_AFTER)  # not full: they prove nothing
    succeed(there, 16, GROW_AFTER - 1)
    assert there.rows_max == {"lead": 16}
    succeed(there, 16, 1)
    assert there.rows_max == {"lead": 32}
    succeed(there, 32, GROW_AFTER)
    assert (there.rows_max, there.small) == ({}, {})
    assert there.told == ["learned", "learned"]


def test_a_bound_that_the_platform_named_stays() -> None:
    there = account()
    succeed(there, 16, 10 * GROW_AFTER)
    assert (there.rows_max, there.told) == ({"lead": 16}, [])


def test_a_bound_that_the_platform_names_after_time_outs_is_not_outgrown() -> None:
    there = account(lead=3)
    refused(there, 16, TooLarge())
    succeed(there, 8, 10 * GROW_AFTER)
    assert (there.rows_max, there.small) == ({"lead": 8}, {})


@pytest.mark.parametrize("outcome", [TooLarge(), Retry("no answer")])
def test_a_job_that_is_refused_says_nothing_about_requests(outcome: Outcome) -> None:
    there = account(lead=3)
    refused(there, 600, outcome)
    assert (there.rows_max, there.small, there.told) == ({"lead": 16}, {"lead": 3}, [])


def test_a_successor_knows_which_sizes_may_grow() -> None:
    gate = SimpleNamespace(halted="", halted_ms=0)
    there = account(lead=7)
    there.gate, there.connections, there.name = gate, {"here"}, "a1"
    kept: list[Any] = []
    there.office.platform = "acme"
    there.office.wire = SimpleNamespace(encode=lambda message: kept.append(message) or b"")
    halting.learned(cast(Account, there))
    next_ = account()
    next_.rows_max = {}
    halting.inherit(cast(Account, next_), kept[0].document)
    assert (next_.rows_max, next_.small) == ({"lead": 16}, {"lead": 0})
    old = msgspec.json.encode({"rows_max": {"lead": 8}})  # as releases before wrote it
    halting.inherit(cast(Account, next_), old)
    assert (next_.rows_max, next_.small) == ({"lead": 8}, {})

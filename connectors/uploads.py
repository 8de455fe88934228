"""A write request: send it, and act on what the connector says became of it.

Row by row where the answer tells rows apart. What concerns the request as a whole (the very same
outcome object for every row) is split, waited for, or halts the account, so that a row-level
refusal never costs its neighbours.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never, cast

import structlog

from connectors import readback
from connectors.base import Connector, ObjectSpec, RemovingConnector, Row
from connectors.http import Trail
from connectors.lanes import Item, Lane, Place
from connectors.office import Client
from connectors.outcome import (
    Accepted,
    Halted,
    Outcome,
    Parked,
    Retry,
    Returned,
    Throttled,
    TooLarge,
    Unchanged,
    Unknown,
    Written,
)
from connectors.settling import Request

if TYPE_CHECKING:
    from connectors.account import Account

__all__ = ["ATTEMPTS_MAX", "UNKNOWN_OBJECT", "alike", "judge", "row", "upload"]

log = structlog.get_logger("connectors")

ATTEMPTS_MAX = 3
RETRY_S = (0.5, 2.0, 4.0)
GROW_AFTER = 20
"""Full requests answered, after which a size that time-outs made small doubles."""
UNKNOWN_OBJECT = ObjectSpec(kind="fact", repeat="unsafe", batch_rows_max=1)
"""Stands in for an object type that the platform does not have: its rows are parked."""


async def upload(
    account: "Account", client: Client, lane: Lane, items: list[Item], request: Request, of: Trail
) -> None:
    """Send these rows in one request. Returns when each is settled, or waits somewhere else."""
    office, rows = account.office, [item.row for item in items]
    unsafe = items[0].spec.repeat == "unsafe" and not lane.removal
    if unsafe:
        await account.intents.make(items, request)
    try:
        outcomes = await _send(client.connector, lane, rows)
    except Exception as error:  # noqa: BLE001 - whatever a connector throws is the rows' fault at most
        log.error("connector failed", platform=office.platform, error=type(error).__name__)
        outcomes = alike(Retry(f"connector failed: {type(error).__name__}"), items)
    if len(outcomes) != len(items):
        outcomes = alike(Retry(f"{len(outcomes)} outcomes for {len(items)} rows"), items)
    if unsafe:
        outcomes = [
            outcome if row.object_id else _not_again(outcome, of)
            for row, outcome in zip(rows, outcomes, strict=True)
        ]
    judge(account, client.connector, lane, items, outcomes, request, of)


async def _send(connector: Connector, lane: Lane, rows: Sequence[Row]) -> list[Outcome]:
    if not lane.removal:
        return await connector.upload_batch(lane.object_type, rows)
    return await cast(RemovingConnector, connector).remove_batch(lane.object_type, rows)


def alike(outcome: Outcome, items: Sequence[Item]) -> list[Outcome]:
    """Of the request as a whole: the very same object for every row, as `judge` tells it by."""
    return [outcome] * len(items)


def _not_again(outcome: Outcome, of: Trail) -> Outcome:
    """Of a row whose repeat could do harm (nothing that is known by its id): what may have been
    applied is unknown."""
    if isinstance(outcome, Retry) and (of.unanswered or 200 <= of.status < 300):
        return Unknown(outcome.why)
    return outcome


def judge(
    account: "Account", connector: Connector, lane: Lane, items: list[Item],
    outcomes: Sequence[Outcome], request: Request, of: Trail,
) -> None:  # fmt: skip
    """Every row ends settled, split off, waiting in its lane, or given back."""
    request.name, request.status, request.took_ms = of.name, of.status, of.took_ms
    good = 200 <= of.status < 300
    if good:
        account.gate.answered(account.office.now_s())
    elif 0 < of.status < 500:
        account.gate.heard(account.office.now_s())
    whole = all(o is outcomes[0] for o in outcomes) and (len(items) > 1 or not good)
    if whole:
        _whole(account, lane, items, outcomes[0], request)
        return
    for position, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
        row(account, lane, item, outcome, request, position)
    account.gate.wrote()
    _grow(account, lane, items)


def _grow(account: "Account", lane: Lane, items: Sequence[Item]) -> None:
    """Time-outs are not for ever, unlike a bound that the platform names: try larger ones again."""
    kind = lane.object_type
    if kind not in account.small or len(items) < account.rows_max[kind]:
        return
    account.small[kind] += 1
    if account.small[kind] >= GROW_AFTER:
        account.small[kind] = 0
        account.rows_max[kind] *= 2
        if account.rows_max[kind] >= items[0].spec.batch_rows_max:
            del account.rows_max[kind], account.small[kind]
        account.office.also([account.learned()], account.partition)


def _in_job(items: Sequence[Item]) -> bool:
    """These went in a job: of how many rows a request may have, that says nothing."""
    return len(items) > items[0].spec.batch_rows_max


def _whole(
    account: "Account", lane: Lane, items: list[Item], outcome: Outcome, request: Request
) -> None:
    """One outcome for the request as such."""
    match outcome:
        case Parked() if len(items) > 1:
            account.split(lane, items)
        case TooLarge() if len(items) > 1:
            if not _in_job(items):
                account.rows_max[lane.object_type] = max(1, len(items) // 2)
                account.small.pop(lane.object_type, None)  # it does not grow again
                account.office.also([account.learned()], account.partition)
            account.split(lane, items)
        case Retry(why, wait_s):
            _fault(account, lane, items, why, wait_s, request)
        case Throttled(wait_s, window):
            account.limits.throttled(lane.group, wait_s, window)
            account.back(items)
        case Halted(why):
            account.halt(why)
            account.give_back(items)
        case _:
            for position, item in enumerate(items):
                row(account, lane, item, outcome, request, position)


def _fault(
    account: "Account", lane: Lane, items: list[Item], why: str, wait_s: float, request: Request
) -> None:
    """No good answer at all. Whose fault is it? The platform's, as long as nothing else has been
    answered since these rows were tried last; then no attempt is spent, and the account waits."""
    gate, now_s = account.gate, account.office.now_s()
    for item in items:
        item.attempts += item.fault_s == 0.0 or gate.answered_s > item.fault_s
        item.fault_s = now_s
    worst = max(item.attempts for item in items)
    if worst < ATTEMPTS_MAX:
        gate.failed(now_s, why)
        account.later(items, max(wait_s, gate.until_s - now_s))
    elif len(items) > 1:  # one of them makes the platform fail, or all are too many: find out
        for item in items:
            item.attempts = ATTEMPTS_MAX - 1
        if request.status == 0 and not _in_job(items):
            account.rows_max[lane.object_type] = len(items) // 2
            account.small[lane.object_type] = 0
            account.office.also([account.learned()], account.partition)
        account.split(lane, items)
    else:
        account.settle(items[0], Parked("retries_exhausted", why), request, 0)


def row(
    account: "Account", lane: Lane, item: Item, outcome: Outcome, request: Request, position: int
) -> None:
    """One outcome for one row."""
    match outcome:
        case Unknown():
            readback.begin(account, item, outcome, request, position)
        case Accepted(receipt) if receipt and item.spec.evidence == "job":
            account.jobs.put(item, receipt, request=request)
        case Written() | Unchanged() | Accepted() | Parked() | Returned():
            account.settle(item, outcome, request, position)
        case Retry(why, wait_s):
            item.attempts += 1
            if item.attempts >= ATTEMPTS_MAX:
                item.attempts -= 1  # parking counts it
                account.settle(item, Parked("retries_exhausted", why), request, position)
            else:
                account.later([item], wait_s or RETRY_S[item.attempts - 1])
        case Throttled(wait_s, window):
            account.limits.throttled(lane.group, wait_s, window)
            account.back([item])
        case TooLarge(why):
            account.settle(item, Parked("too_large", why), request, position)
        case Halted(why):
            account.halt(why)
            if item.place is Place.out:
                account.give_back([item])
        case _:
            assert_never(outcome)

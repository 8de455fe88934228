"""What stands at a destination, for whoever must know before something is done there. Changes
nothing, so a repeat does no harm; the answers are outcomes of a kind of their own, `seen`.

By id where it is known, else by the field by which people already there are found. Rows of an
account that is closed are given back, as those of an upload are: nobody waits here without a name.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from connectors import reading
from connectors.base import ByIds, ByKeys, Found, PlatformError
from connectors.lanes import Taken
from connectors.matching import verdict
from connectors.office import Client
from connectors.outcome import Halted, Outcome, Parked, Retry, Throttled, TooLarge, Written
from connectors.registry import Misconfigured
from connectors.settling import Send, wall_ms
from ratelimits.limiter import NoLease
from schemas.commands import Priority
from schemas.outcomes import OutcomeKind
from schemas.topics import outcomes_of

if TYPE_CHECKING:
    from connectors.account import Account

__all__ = ["look_up"]

TRIES_MAX = 3
AGAIN_MS = 5_000

Rows = Sequence[dict[str, Any]]


async def look_up(account: "Account", taken: Taken, command: dict[str, Any]) -> None:
    """A LookUp: each row is answered, or given back."""
    wanted: dict[str, dict[str, Any]] = {row["row_id"]: row for row in command["rows"]}
    by_id = [row for row in wanted.values() if row["object_id"]]
    by_key = [row for row in wanted.values() if not row["object_id"]]
    for rows, field in ((by_id, ""), (by_key, command["field"])):
        async for row, told in _answers(account, taken, command, rows, field):
            taken.sends.append(_outcome(account, taken, row, told))
    account.office.done(taken)


async def _answers(
    account: "Account", taken: Taken, command: dict[str, Any], rows: Rows, field: str
) -> AsyncIterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(row, what its outcome says), all of them."""
    left = list(rows)
    tries = size = 0
    while left:
        if account.gate.shut:
            for row in left:
                yield row, _back(account.gate.shut, 0)
            return
        try:
            client = account.office.client(taken.connection)
            spec = client.spec.objects[taken.object_type]
        except (Misconfigured, KeyError) as error:
            for row in left:
                yield row, _back(str(error), wall_ms() + AGAIN_MS)
            return
        most = spec.match_rows_max if field else spec.read_rows_max
        part = list(islice(left, max(1, min(size or most, most))))
        outcome, found = await _read(account, client, taken, command["fields"], part, field)
        if outcome is None:
            for row in part:
                yield row, _said(client, taken, row, found, field)
            del left[: len(part)]
            tries = 0
        elif isinstance(outcome, Parked | TooLarge) and len(part) > 1:
            size = len(part) // 2
        elif isinstance(outcome, Throttled | Halted):
            continue  # it waits for the quota, or is given back above
        else:
            tries += 1
            if tries < TRIES_MAX and not isinstance(outcome, Parked):
                await asyncio.sleep(reading.RETRY_S[tries - 1])
                continue
            for row in part:
                yield row, {"code": "cannot_be_read"}
            del left[: len(part)]
            tries = 0


async def _read(
    account: "Account", client: Client, taken: Taken, fields: Sequence[str], rows: Rows, field: str
) -> tuple[Outcome | None, list[Found]]:
    """One call -> (None, what was found), or why it failed."""
    spec = client.spec.objects[taken.object_type]
    key_field = client.key_field(spec)
    names = tuple(dict.fromkeys((*fields, *((key_field,) if key_field else ()))))
    asked = (
        ByKeys(taken.object_type, field, tuple(row["value"] for row in rows), names)
        if field
        else ByIds(taken.object_type, tuple(row["object_id"] for row in rows), names)
    )
    quota = spec.asking_quota if field else spec.read_quota
    gate, now_s = account.gate, account.office.now_s
    try:
        page = await reading.ask(account, client, asked, quota, Priority.released)
    except PlatformError as error:
        outcome = client.connector.handle_error(error)
    except NoLease:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a connector throws must not end the worker
        outcome = Retry(f"connector failed: {type(error).__name__}")
    else:
        gate.answered(now_s())
        if field and not page.last and len(rows) > 1:
            return TooLarge("more objects than one answer holds"), []
        return None, [record for record in page.records if not record.archived]
    if isinstance(outcome, Retry):
        gate.failed(now_s(), outcome.why)
    else:
        gate.heard(now_s())
    match outcome:
        case Throttled(wait_s, window):
            account.limits.throttled(quota, wait_s, window)
        case Halted(why):
            account.halt(why)
        case _:
            pass
    return outcome, []


def _said(
    client: Client, taken: Taken, row: dict[str, Any], found: Sequence[Found], field: str
) -> dict[str, Any]:
    """What differs from the defaults of RecordOutcome."""
    if not field:
        here = [record for record in found if record.object_id == row["object_id"]]
    else:
        value = row["value"].lower()
        here = [record for record in found if (record.key.lower() or value) == value]
        key_field = client.key_field(client.spec.objects[taken.object_type])
        match verdict(row["person"], here, key_field, taken.object_type, field):
            case Parked(code):
                return {"code": code}
            case Written(object_id):
                here = [record for record in here if record.object_id == object_id]
            case None:
                here = []
    if not here:
        return {"code": "absent"}
    return {"object_id": here[0].object_id, "seen": here[0].values}


def _back(why: str, until_ms: int) -> dict[str, Any]:
    returned = OutcomeKind.returned.value
    return {"kind": returned, "code": "returned", "words": why, "until_ms": until_ms}


def _outcome(account: "Account", taken: Taken, row: dict[str, Any], told: dict[str, Any]) -> Send:
    record = {
        "row_id": row["row_id"], "person": row["person"], "connection": taken.connection,
        "object_type": taken.object_type, "sync": taken.sync, "run": taken.run,
        "at_ms": wall_ms(), "kind": OutcomeKind.seen.value, **told,
    }  # fmt: skip
    office = account.office
    return Send(outcomes_of(office.platform), office.wire.outcome(record), row["person"])

"""Before the first write of a person: is there already such an object? Many in one read.

Found one: it is adopted, updated and stamped with our key. Several, or one that carries another
person's key: the row is parked. None: it is made. A first run into a system that already holds the
people makes no twins.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from connectors import readback, uploads
from connectors.base import ByKeys, Found, Page
from connectors.base import PlatformError as Refused
from connectors.http import Trail
from connectors.lanes import Item, Lane
from connectors.office import Client
from connectors.outcome import Outcome, Parked, Retry, Written
from connectors.settling import Request

if TYPE_CHECKING:
    from connectors.account import Account

__all__ = ["ask", "match", "verdict"]


async def match(
    account: "Account", client: Client, lane: Lane, items: list[Item], request: Request, of: Trail
) -> None:
    """Look all of them up in one read; each goes on to its write, or is parked."""
    key_field = client.key_field(items[0].spec)
    asked = ByKeys(
        lane.object_type, lane.field, tuple(item.match for item in items),
        (key_field,) if key_field else (),
    )  # fmt: skip
    page = await ask(account, client, lane, items, asked, request, of)
    if page is None:
        return
    found: dict[str, list[Found]] = defaultdict(list)
    for record in page.records:
        if not record.archived:
            found[(record.key or items[0].match).lower()].append(record)
    for position, item in enumerate(items):
        records = found.get(item.match.lower(), ())
        outcome = verdict(item.row.person, records, key_field, lane.object_type, lane.field)
        match outcome:
            case Parked():
                item.doubt = ""  # whatever stands there, it was not applied
                account.settle(item, outcome, request, position)
            case Written(object_id):
                _adopt(account, item, object_id)
            case _ if item.doubt or item.row.removal:
                readback.not_found(account, item, request, position)
            case _:
                item.match = ""
                account.lanes.put(item, account.lane_of(item))
    account.go()


async def ask(
    account: "Account", client: Client, lane: Lane, items: list[Item], asked: ByKeys,
    request: Request, of: Trail,
) -> Page | None:  # fmt: skip
    """One read for these rows. None: it failed, or is tried with fewer; they are seen to."""
    try:
        page = await client.connector.fetch_records(asked)
    except Refused as error:
        outcome = client.connector.handle_error(error)
        _failed(account, client, lane, items, outcome, request, of)
        return None
    except Exception as error:  # noqa: BLE001 - whatever a connector throws is the rows' fault at most
        outcome = Retry(f"connector failed: {type(error).__name__}")
        _failed(account, client, lane, items, outcome, request, of)
        return None
    request.name, request.status, request.took_ms = of.name, of.status, of.took_ms
    account.gate.answered(account.office.now_s())
    if not page.last and len(items) > 1:  # more objects than one answer holds: ask for fewer
        account.split(lane, items)
        return None
    return page


def verdict(
    person: str, found: Sequence[Found], key_field: str, object_type: str, field: str
) -> Parked | Written | None:
    """Written(id): that object is this person's, adopt it; None: there is none."""
    keys = [_key(record, key_field) for record in found]
    if person in keys:  # we made it ourselves, and were killed before the answer was kept
        return Written(found[keys.index(person)].object_id)
    match len(found):
        case 0:
            return None
        case 1 if not keys[0]:
            return Written(found[0].object_id)
        case 1:
            words = f"the {object_type} with this {field} carries the key of another person"
            return Parked("matched_another", words, field)
        case n:
            return Parked("ambiguous_match", f"{n} {object_type} objects with this {field}", field)


def _key(record: Found, key_field: str) -> str:
    return str(msgspec.json.decode(record.values).get(key_field) or "") if key_field else ""


def _adopt(account: "Account", item: Item, object_id: str) -> None:
    """From now on the row updates that object; unless another row has it out: then what stands
    there is looked up again afterwards."""
    target = f"{item.taken.connection}:{item.taken.object_type}"
    if not account.lanes.claim(item, (target, "object", object_id)):
        return
    item.match = item.doubt = item.field = ""
    item.row = replace(item.row, object_id=object_id)
    account.lanes.put(item, account.lane_of(item))


def _failed(
    account: "Account", client: Client, lane: Lane, items: list[Item], outcome: Outcome,
    request: Request, of: Trail,
) -> None:  # fmt: skip
    outcomes = uploads.alike(outcome, items)
    uploads.judge(account, client.connector, lane, items, outcomes, request, of)

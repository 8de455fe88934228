"""A row that names another object of its destination by one of that object's fields: a lead's
account by the company's name. The object's id takes the name's place before the row goes on. Many
in one read; what was found is remembered for a minute.

None there: the row is given back and comes again after a while, ever less often, until the object
is there (`wait`); or it is parked, or goes without the field, as its mapping says. Several: it is
parked, or the first is taken.
"""

from collections import defaultdict
from typing import TYPE_CHECKING

from msgspec.structs import replace

from connectors import matching
from connectors.base import ByKeys
from connectors.http import Trail
from connectors.lanes import Item, Lane
from connectors.office import Client
from connectors.outcome import Parked, Returned
from connectors.rows import Reference
from connectors.settling import Request, wall_ms

if TYPE_CHECKING:
    from connectors.account import Account

__all__ = ["Known", "fill", "look_up"]

KNOWN_S = 60.0
KNOWN_MAX = 10_000
WAIT_S, WAIT_S_MAX = 30.0, 3600.0


class Known:
    """What look-ups of an account have found, and how often in vain."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str, str], tuple[str, float]] = {}
        self._misses: dict[tuple[str, str, str], tuple[int, float]] = {}
        """How often, and when it is worth another look."""

    def found(self, reference: Reference, object_id: str, now_s: float) -> None:
        self._misses.pop(reference.key, None)
        if len(self._ids) >= KNOWN_MAX:
            self._ids.clear()
        self._ids[reference.key] = object_id, now_s + KNOWN_S

    def missed(self, reference: Reference, now_s: float) -> float:
        """-> seconds until it is worth another look: the same moment for all rows that wait for
        one object, and twice as long each time that it has come."""
        number, until_s = self._misses.get(reference.key, (0, 0.0))
        if now_s >= until_s:
            if len(self._misses) >= KNOWN_MAX:
                self._misses.clear()
            until_s = now_s + min(WAIT_S * 2 ** min(number, 16), WAIT_S_MAX)
            self._misses[reference.key] = number + 1, until_s
        return until_s - now_s

    def id_of(self, reference: Reference, now_s: float) -> str:
        """Empty: it must be looked up."""
        object_id, until_s = self._ids.get(reference.key, ("", 0.0))
        return object_id if now_s < until_s else ""


def fill(account: "Account", item: Item) -> None:
    """Put in what is known; what is left has to be looked up."""
    now_s = account.office.now_s()
    for reference in item.references:
        if object_id := account.referred.id_of(reference, now_s):
            _put(item, reference, object_id)


async def look_up(
    account: "Account", client: Client, lane: Lane, items: list[Item], request: Request, of: Trail
) -> None:
    """The first reference of each row, in one read; each goes on, or has its fate."""
    wanted = {item: item.references[0] for item in items}
    values = tuple(dict.fromkeys(reference.value for reference in wanted.values()))
    asked = ByKeys(lane.object_type, lane.field, values, ())
    page = await matching.ask(account, client, lane, items, asked, request, of)
    if page is None:
        return
    found: dict[str, list[str]] = defaultdict(list)
    for record in page.records:
        if not record.archived:
            found[(record.key or values[0]).lower()].append(record.object_id)
    for position, (item, reference) in enumerate(wanted.items()):
        ids = found.get(reference.value.lower(), ())
        words = f"{len(ids) or 'no'} {lane.object_type} with this {lane.field}"
        if len(ids) == 1 or (ids and reference.if_many == "first"):
            account.referred.found(reference, ids[0], account.office.now_s())
            _put(item, reference, ids[0])
        elif ids:
            account.settle(item, Parked("ambiguous_reference", words, reference.field), request,
                           position)  # fmt: skip
            continue
        elif reference.if_none == "skip":
            _put(item, reference, None)
        elif reference.if_none == "wait":
            wait_s = account.referred.missed(reference, account.office.now_s())
            until_ms = wall_ms() + int(wait_s * 1000)
            account.settle(item, Returned(f"there is {words} yet", until_ms), request, position)
            continue
        else:
            account.settle(item, Parked("no_reference", f"there is {words}", reference.field),
                           request, position)  # fmt: skip
            continue
        fill(account, item)
        account.lanes.put(item, account.lane_of(item))
    account.go()


def _put(item: Item, reference: Reference, object_id: str | None) -> None:
    """None: the row goes without the field."""
    fields = dict(item.row.fields)
    del fields[reference.field]
    if object_id is not None:
        fields[reference.field] = object_id
    item.row = replace(item.row, fields=fields)
    item.references = tuple(r for r in item.references if r is not reference)

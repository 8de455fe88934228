"""A row that may have been applied: look whether it stands there, before anybody sends it again.

What stands there is updated by its id, which repeats nothing; what is not found after a while stays
unknown, and is parked by its person's state: it is never sent again on a guess.
"""

from typing import TYPE_CHECKING

from connectors.lanes import Item
from connectors.outcome import Unchanged, Unknown
from connectors.registry import Misconfigured
from connectors.settling import Request

if TYPE_CHECKING:
    from connectors.account import Account

__all__ = ["LOOKS_S", "begin", "not_found", "seek"]

ATTEMPTS_MAX = 3
LOOKS_S = (2.0, 10.0, 30.0)
"""Before each look. What is written last is found last: indexes lag by moments, and a request
without an answer may still be under way at the platform."""


def begin(
    account: "Account", item: Item, unknown: Unknown, request: Request | None = None,
    position: int = -1,
) -> None:  # fmt: skip
    """Its fate is not known. Facts cannot be looked for: nothing tells one from its like."""
    spec = item.spec
    if spec.kind == "state" and (spec.repeat == "safe" or item.row.object_id or item.row.removal):
        item.attempts += 1
        if item.attempts < ATTEMPTS_MAX:
            account.later([item], LOOKS_S[0])  # the same values once more, on the same object
        else:
            account.settle(item, unknown, request, position)
        return
    field, value = _wanted(account, item) if spec.kind == "state" else ("", "")
    if not value:
        account.settle(item, unknown, request, position)
        return
    item.doubt = unknown.why or "no answer"
    item.field, item.match, item.looks = field, value, 0
    account.look_later(item, LOOKS_S[0])


def _wanted(account: "Account", item: Item) -> tuple[str, str]:
    """By what it is looked for: as the sync matches people, else by our key, else by the identity
    that the platform itself has."""
    spec, fields = item.spec, item.row.fields
    try:
        key_field = account.office.client(item.taken.connection).key_field(spec)
    except Misconfigured:
        return "", ""
    match_field = account.office.match_field(item.taken.sync)
    if match_field and (value := str(fields.get(match_field) or "").strip()):
        return match_field, value
    if key_field:
        return key_field, item.row.person
    return spec.identity_field, str(fields.get(spec.identity_field) or "").strip()


def seek(account: "Account", item: Item) -> bool:
    """A row that takes something away of which no id is known: it is looked for by our own key, or
    the identity that the platform itself has, never by what others may share -> whether it can be.
    """
    key_field = account.office.client(item.taken.connection).key_field(item.spec)
    identity = item.spec.identity_field
    item.field = key_field or identity
    item.match = item.row.person if key_field else str(item.row.fields.get(identity) or "").strip()
    return bool(item.match)


def not_found(account: "Account", item: Item, request: Request, position: int) -> None:
    """It does not stand there, as far as the platform can see."""
    item.looks += 1
    if item.looks < len(LOOKS_S):
        account.look_later(item, LOOKS_S[item.looks])
        return
    if item.row.removal:
        account.settle(item, Unchanged(""), request, position)
    else:
        account.settle(item, Unknown(f"{item.doubt}; not found when read back"), request, position)

"""HubSpot's custom events: something that a contact did, appended once. Pure.

API      https://developers.hubspot.com/docs/api-reference/events-send-event-completions-v3/guide
         (read 2026-08): 500 events a call, answered 204 without a word on any of them
Repeats  `uuid` tells a repeat from another event of the same kind; ours is the row id
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from connectors.base import Found, ObjectSpec, Page, Row
from connectors.outcome import Parked

__all__ = ["EVENT", "PATH", "fields", "problem", "shape"]

PATH = "/events/v3/send/batch"
WHO = ("email", "objectId", "utk")
"""Of whom it tells: one of these."""
AROUND = ("eventName", *WHO)
"""Fields that stand beside the properties."""

EVENT = ObjectSpec(
    kind="fact",
    repeat="by_key",
    batch_rows_max=500,
    evidence="none",
)


def shape(row: Row) -> dict[str, Any]:
    """The event as it is sent. Whatever has no place of its own is one of its properties."""
    around = {name: row.fields[name] for name in AROUND if row.fields.get(name) not in (None, "")}
    told = {k: v for k, v in row.fields.items() if k not in AROUND and v is not None}
    when = {}
    if row.occurred_ms:
        moment = datetime.fromtimestamp(row.occurred_ms / 1000, UTC)
        text = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        when = {"occurredAt": text}
    return {**around, **when, "uuid": row.row_id, "properties": told}


def problem(row: Row) -> Parked | None:
    """What the platform would refuse the whole call for."""
    if not row.fields.get("eventName"):
        return Parked("MISSING_EVENT_NAME", "eventName is empty", "eventName")
    if not any(row.fields.get(name) for name in WHO):
        return Parked("MISSING_CONTACT", f"one of {', '.join(WHO)} is needed", WHO[0])
    return None


def fields() -> Page:
    """Names with a meaning of their own; any other is a property of the event."""
    return Page(_named(AROUND))


def _named(names: Sequence[str]) -> list[Found]:
    return [Found(name, b"{}", b"{}") for name in names]

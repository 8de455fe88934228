"""HubSpot's associations: one object belongs to another, a contact to its company. Pure.

API      v4, batch/create, https://developers.hubspot.com/docs/api-reference/crm-associations-v4/guide
         (read 2026-11): 2,000 pairs a call, 207 where some are refused
Types    the same page, "Association type ID values"; a company is made the primary one, and the one
         that was primary before stays associated
Repeats  a pair that is associated already is associated once
"""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.base import Found, ObjectSpec, Page, Row
from connectors.outcome import Outcome, Parked, Retry, Written

__all__ = ["ASSOCIATION", "KINDS", "body", "fields", "path", "problem", "verdicts"]

KINDS: Mapping[str, tuple[str, str, int]] = {
    "contact_company": ("contacts", "companies", 1),
    "deal_company": ("deals", "companies", 5),
    "deal_contact": ("deals", "contacts", 3),
}
"""Object types: from, to, and the type of association from the one to the other."""
ENDS = ("from", "to")
"""Fields: the ids of the two; a mapping finds them by `ref`."""

ASSOCIATION = ObjectSpec(
    kind="state",
    repeat="safe",
    batch_rows_max=2_000,
    identity_field="from",
    together=lambda row: True,
)


def path(object_type: str) -> str:
    start, end, _ = KINDS[object_type]
    return f"/crm/v4/associations/{start}/{end}/batch/create"


def body(object_type: str, rows: Sequence[Row]) -> dict[str, Any]:
    kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": KINDS[object_type][2]}
    return {
        "inputs": [
            {**{end: {"id": str(row.fields[end])} for end in ENDS}, "types": [kind]} for row in rows
        ]
    }


def problem(row: Row) -> Parked | None:
    """A pair needs both."""
    for end in ENDS:
        if not row.fields.get(end):
            return Parked("MISSING_OBJECT", f"{end} is empty", end)
    return None


def verdicts(rows: Sequence[Row], answer: Mapping[str, Any]) -> list[Outcome]:
    """Pairs are matched by their ids; one that is nowhere was not associated."""
    done = {
        (str(result.get("fromObjectId")), str(result.get("toObjectId")))
        for result in answer.get("results", ())
    }
    refused: dict[tuple[str, str], Parked] = {}
    for error in answer.get("errors", ()):
        context = error.get("context", {})
        said = Parked(str(error.get("category", "ERROR")), str(error.get("message", "")))
        for pair in zip(
            context.get("fromObjectId", ()), context.get("toObjectId", ()), strict=False
        ):
            refused[pair] = said
    outcomes: list[Outcome] = []
    for row in rows:
        pair = str(row.fields["from"]), str(row.fields["to"])
        if pair in done:
            outcomes.append(Written("-".join(pair)))
        else:
            outcomes.append(refused.get(pair, Retry("no verdict in the answer")))
    return outcomes


def fields() -> Page:
    return Page([Found(name, b"{}", b"{}") for name in ENDS])

"""HubSpot's search as a way to read all objects of a kind, the change of longest ago first. Pure.

Search   https://developers.hubspot.com/docs/api/crm/search (read 2026-08): one sort, 200 records a
         page, 10,000 a query, a body of 3,000 characters; what changed moments ago is not found yet

No query is ever paged into: each begins where the last one ended, so none comes near its 10,000.
Records of one moment are told apart by being remembered; where they fill a page, that moment is
read by itself, in windows of ids.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from connectors.base import Found

__all__ = ["PAGE_RECORDS", "Place"]

PAGE_RECORDS = 200
ID = "hs_object_id"
LAG_MS = 120_000
"""Whoever goes on at the end begins so much earlier: what came late into the index lies there. Own
choice; the page speaks of moments."""


class Place(NamedTuple):
    """Where reading goes on. As text: `since.window.seen,seen`."""

    since_ms: int = 0
    window: str = ""
    """Id behind which the moment `since_ms` is being read by itself; empty: it is not."""
    seen: tuple[str, ...] = ()
    """Ids of that moment that were read already; fewer than a page."""

    @classmethod
    def of(cls, cursor: str) -> "Place":
        if not cursor:
            return cls()
        since, window, seen = cursor.split(".")
        return cls(int(since), window, tuple(filter(None, seen.split(","))))

    def __str__(self) -> str:
        return f"{self.since_ms}.{self.window}.{','.join(self.seen)}"

    def query(self, object_type: str, fields: Sequence[str], limit: int) -> dict[str, Any]:
        """Body of the request."""
        stamp = "lastmodifieddate" if object_type == "contact" else "hs_lastmodifieddate"
        if self.window:
            filters, sort = [_is(stamp, "EQ", self.since_ms), _is(ID, "GT", self.window)], ID
        else:
            filters, sort = [_is(stamp, "GTE", self.since_ms)], stamp
        return {
            "filterGroups": [{"filters": filters}],
            "sorts": [{"propertyName": sort, "direction": "ASCENDING"}],
            "properties": list(fields),
            "limit": limit,
        }

    def after(self, found: Sequence[Found], limit: int) -> tuple[list[Found], "Place", bool]:
        """-> (what of the answer is new, where to go on, whether that was all)."""
        new = [record for record in found if record.object_id not in self.seen]
        full = len(found) >= limit
        if self.window:
            if full:
                return new, self._replace(window=found[-1].object_id), False
            return new, Place(self.since_ms + 1), False
        if not full:
            newest_ms = found[-1].occurred_ms if found else self.since_ms
            return new, Place(max(0, newest_ms - LAG_MS)), True
        newest_ms = found[-1].occurred_ms
        if found[0].occurred_ms == newest_ms:
            # Nothing of it counts: equals come in any order, and more of them than this.
            seen = self.seen if newest_ms == self.since_ms else ()
            return [], Place(newest_ms, "0", seen), False
        tail = tuple(r.object_id for r in found if r.occurred_ms == newest_ms)
        return new, Place(newest_ms, "", tail), False


def _is(name: str, operator: str, value: int | str) -> dict[str, str]:
    return {"propertyName": name, "operator": operator, "value": str(value)}

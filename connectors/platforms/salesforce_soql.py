"""Salesforce's query language, and the place where reading goes on. Pure.

SOQL     https://developer.salesforce.com/docs/atlas.en-us.soql_sosl.meta/soql_sosl/ (read 2026-08)
Order    SystemModstamp (moves with automated changes too), ids within one moment
"""

from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from connectors.base import Found, milliseconds

__all__ = ["Place", "count", "fitting", "found", "given_at", "listed", "soql"]

ORDER = "ORDER BY SystemModstamp, Id"
LISTED_BYTES_MAX = 12_000
"""Of a list as it stands in an address, where a quote takes three bytes: all of an address and its
headers may have 16,384 (https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/salesforce_app_limits_cheatsheet/salesforce_app_limits_platform_api.htm, 2026-11)."""  # noqa: E501


class Place(NamedTuple):
    """Where reading goes on: behind a record, and in which query."""

    stamp: str = ""
    record_id: str = ""
    began: str = ""
    """When the query under way was asked, by the platform's clock."""
    locator: str = ""

    @classmethod
    def of(cls, cursor: str) -> "Place":
        return cls(*cursor.split("|"))

    def __str__(self) -> str:
        return "|".join(self)

    @property
    def after(self) -> str:
        """SOQL. Records of one moment are told apart by their ids."""
        if not self.stamp:
            return ""
        if not self.record_id:  # from a moment on, behind nobody
            return f"SystemModstamp >= {self.stamp}"
        same = f"SystemModstamp = {self.stamp} AND Id > '{_escape(self.record_id)}'"
        return f"SystemModstamp > {self.stamp} OR ({same})"

    def behind(self, records: Sequence[Found], *, fresh: bool) -> "Place":
        """`fresh`: these are the first records of a query. Of later ones some may have been
        changed while it was under way: they stand where they stood, under a stamp that is later
        than that of many who come after them, so nobody must go on behind them."""
        began_ms = milliseconds(self.began)
        for record in reversed(records):
            if fresh or record.occurred_ms < began_ms:
                stamp = msgspec.json.decode(record.values)["SystemModstamp"]
                return self._replace(stamp=stamp, record_id=record.object_id)
        return self


def given_at(headers: Mapping[str, str]) -> str:
    """When an answer was given, as ISO 8601; empty where it does not say."""
    try:
        return parsedate_to_datetime(headers["date"]).isoformat()
    except (KeyError, ValueError):
        return ""


def soql(kind: str, fields: Sequence[str], where: str, tail: str = "") -> str:
    names = dict.fromkeys(("Id", "SystemModstamp", *fields))
    text = f"SELECT {', '.join(names)} FROM {kind}"  # noqa: S608 - names come from definitions
    return text + (f" WHERE {where}" if where else "") + (f" {tail}" if tail else "")


def count(kind: str) -> str:
    return f"SELECT COUNT() FROM {kind}"  # noqa: S608 - from a definition


def found(record: dict[str, Any]) -> Found:
    record.pop("attributes", None)
    raw = msgspec.json.encode(record)
    return Found(record["Id"], raw, raw, milliseconds(record.get("SystemModstamp")))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def fitting(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """The same values, as many at a time as one question can list."""
    begin = size = 0
    for end, value in enumerate(values):
        more = len(quote(f"{listed((value,))}, "))
        if end > begin and size + more > LISTED_BYTES_MAX:
            yield values[begin:end]
            begin, size = end, 0
        size += more
    yield values[begin:]


def listed(values: Sequence[str]) -> str:
    return ", ".join(f"'{_escape(v)}'" for v in values)

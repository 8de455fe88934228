"""Salesforce Bulk API 2.0: many rows as one CSV, upserted or updated by a job. Pure.

API      https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/, its pages
         walkthrough_upsert, datafiles_prepare_csv and get_job_failed_results (read 2026-08)
Limits   https://developer.salesforce.com/docs/atlas.en-us.salesforce_app_limits_cheatsheet.meta/:
         150 MB a job after base64, advised above 2,000 records; results are kept for 7 days
Traps    an empty cell leaves a field alone and `#N/A` clears it, so that text itself cannot be
         written; results name rows by their values, not by their places; rows that the job did not
         come to stand in a third file
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.base import JobSpec, Row

__all__ = ["BULK", "REFUSED", "carries", "job_of", "records", "sheet", "words"]

NONE = "#N/A"
ID = "sf__Id"
ERROR = "sf__Error"
REFUSED = re.compile(r"(?P<code>[A-Z0-9_]+):(?P<words>.*?)(?::(?P<fields>[\w, ]*))?\s*--\s*", re.S)
"""`sf__Error`: code, words and fields, as captured: `REQUIRED_FIELD_MISSING:…: [Name]:Name --`."""


def carries(row: Row) -> bool:
    """Whether a CSV can say it: plain values, and none of them the text that clears."""
    return all(
        isinstance(value, str | int | float | None) and value != NONE
        for value in row.fields.values()
    )


BULK = JobSpec(
    rows_min=2_000,  # the page's advice
    rows_max=10_000,  # own choice: a job of 10,000 keeps their persons waiting for tens of seconds
    bytes_max=10_000_000,  # far under 100 MB, the advice for 150 MB after base64
    calls=8,  # open, rows, start, about three looks, two files of results
    takes=carries,
)


def job_of(object_type: str, key: str, *, by_id: bool) -> dict[str, str]:
    """What a job is opened with."""
    upsert = {} if by_id else {"externalIdFieldName": key}
    return {
        "object": object_type,
        "operation": "update" if by_id else "upsert",
        **upsert,
        "contentType": "CSV",
        "columnDelimiter": "COMMA",
        "lineEnding": "LF",
    }


def sheet(rows: Sequence[tuple[Row, Mapping[str, Any]]], key: str, *, by_id: bool) -> bytes:
    """Rows and their fields in the platform's shape -> the CSV. One column for each field that any
    of them has; a cell without a value leaves its field alone."""
    names = dict.fromkeys(name for _, fields in rows for name in fields)
    names.pop(key, None)
    columns = [*(["Id"] if by_id else []), key, *names]
    text = io.StringIO()
    out = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    out.writeheader()
    for row, fields in rows:
        cells = {name: _cell(value) for name, value in fields.items()}
        out.writerow({**cells, key: row.person, **({"Id": row.object_id} if by_id else {})})
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    match value:
        case None | "":
            return NONE
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def records(body: bytes) -> list[dict[str, str]]:
    """A file of results."""
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


def words(error: str) -> tuple[str, str, str]:
    """`sf__Error` -> (code, words, first field)."""
    found = REFUSED.fullmatch(error)
    if found is None:
        return error.partition(":")[0][:80] or "UNKNOWN", error, ""
    return found["code"], found["words"], (found["fields"] or "").partition(",")[0].strip()

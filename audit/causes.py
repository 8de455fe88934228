"""What is parked, by cause: the same stage, code and field, and values of the same make.

Five hundred refusals are seven groups, and each group is mended once.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from schemas.ids import derive
from schemas.parked import ParkedRecord

__all__ = ["Cause", "cause_of", "causes", "pattern"]

PATTERN_MAX = 40


@dataclass(frozen=True)
class Cause:
    """What a group of parked records has in common. `group` names it: the same cause has the same
    name at any time, on any machine."""

    sync: str
    stage: str
    code: str
    field: str
    pattern: str
    """Make of the refused value, not the value; empty: no field is named, or it is not known."""

    @property
    def group(self) -> str:
        return derive(
            "cause", self.sync, self.stage, self.code, self.field, self.pattern
        )[:8]  # fmt: skip


def causes(records: Iterable[ParkedRecord]) -> dict[Cause, list[ParkedRecord]]:
    """The largest group first; in each the oldest record first."""
    found: dict[Cause, list[ParkedRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda r: (r.first_ms, r.parked_id)):
        found[cause_of(record)].append(record)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0].group)))


def cause_of(record: ParkedRecord) -> Cause:
    return Cause(record.sync, str(record.stage), record.code, record.field, _pattern_of(record))


def _pattern_of(record: ParkedRecord) -> str:
    """Of the value that was refused, or of the source's of the same name."""
    if not record.field:
        return ""
    for document in (record.fields, record.source):
        values = _values(document)
        for name, value in values.items():
            if name.lower() == record.field.lower():
                return pattern(value)
    return ""


def pattern(value: Any) -> str:
    """Make of a value: letters as `a`, digits as `9`, blanks as `_`, each once for a whole run;
    other characters as they are. `"  ann@x.io "` -> `_a@a.a_`."""
    match value:
        case None | "" | []:
            return "empty"
        case dict():
            return "an object"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            runs = "".join(kind for kind, _ in groupby(map(_kind, value)))
            return runs if len(runs) <= PATTERN_MAX else runs[: PATTERN_MAX - 1] + "…"
        case _:
            return "a list"


def _kind(character: str) -> str:
    if character.isalpha():
        return "a"
    if character.isnumeric():
        return "9"
    return "_" if character.isspace() else character


def _values(document: bytes) -> dict[str, Any]:
    try:
        values = msgspec.json.decode(document)
    except msgspec.DecodeError:
        return {}
    return values if isinstance(values, dict) else {}

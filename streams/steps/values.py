"""Values with the time of each field: the newest wins, the later of two equally new ones.

Snapshots hold source times in milliseconds. Rows and what stands at a destination hold *stamps*:
the source time with a few bits of the object's key below it. Two objects of one person that changed
in the same millisecond are thus ordered, always in the same way, and neither writes the other over
again and again.
"""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from streams.steps.rows import Values

__all__ = [
    "RULES", "Ruling", "along", "drop", "fold", "forget", "newest_ms", "overrule", "patch", "renew",
    "same", "stamp_at", "stamp_of", "text", "timed",
]  # fmt: skip

OBJECT_BITS = 10
RULES = 1 << 54
"""Above every time: raises the stamps of the source that rules at a destination."""
DOUBT_MS = 60_000
"""Of two times of which one is a guess, or coarse, nobody knows the order if they are so near."""


def stamp_of(object_key: str) -> int:
    """What a source time, shifted by `OBJECT_BITS`, is raised by for this object."""
    return zlib.crc32(object_key.encode()) & ((1 << OBJECT_BITS) - 1)


def stamp_at(at_ms: int, object_key: str) -> int:
    """The stamp of what this object said at a source time."""
    return (at_ms << OBJECT_BITS) + stamp_of(object_key)


def timed(values: dict[str, Any], times: Mapping[str, int]) -> Values:
    """`values` with a time for each of them, kept as one time where it is the same for all."""
    newest = max(times.values(), default=0)
    return Values(newest, values, {f: t for f, t in times.items() if t != newest})


def fold(earlier: Values, later: Values) -> Values:
    """Both as one row: per field the newer, at equal times the one decided later.

    A field that only one of them has is taken from it. Neither argument is changed.
    """
    if (
        not earlier.times
        and not later.times
        and later.at_ms >= earlier.at_ms
        and earlier.values.keys() <= later.values.keys()
    ):
        return later
    values = dict(earlier.values)
    times = {**earlier.times, **{f: earlier.time(f) for f in values}}
    for name, value in later.values.items():
        if name not in times or later.time(name) >= times[name]:
            values[name] = value
            times[name] = later.time(name)
    return timed(values, times)


def along(fields: Values, stands: Values, names: Iterable[str]) -> None:
    """Send these fields along as they stand there: the destination wants them in every row."""
    for name in names:
        if name in stands.values:
            fields.values[name] = stands.values[name]
            fields.times[name] = stands.time(name)


def renew(stands: Values, fields: Values, names: Iterable[str]) -> None:
    """What is equal to what stands there, and newer, makes that newer."""
    for name in names:
        if fields.time(name) > stands.time(name):
            stands.times[name] = fields.time(name)


def newest_ms(stamped: Values) -> int:
    """Source time of the newest field of a row."""
    return max(t & ~RULES for t in (stamped.at_ms, *stamped.times.values())) >> OBJECT_BITS


class Ruling(NamedTuple):
    """Fields of a destination of which what one source says counts more than anything newer."""

    whole: bool = False
    """All but `fields`; else these only."""
    fields: frozenset[str] = frozenset()

    def raised(self, name: str, stamp: int) -> int:
        """The stamp of a field, above whatever is newer where the source rules it."""
        return stamp | RULES if stamp and (name in self.fields) != self.whole else stamp

    def over(self, stamped: Values) -> Values:
        """The same values, each with its stamp raised."""
        if not (self.whole or self.fields):
            return stamped
        if self.whole and not self.fields:  # all alike: one stamp stays one
            times = {f: t | RULES for f, t in stamped.times.items()}
            return Values(stamped.at_ms | RULES, stamped.values, times)
        names = stamped.values
        return timed(names, {f: self.raised(f, stamped.time(f)) for f in names})


def drop(values: Values, name: str) -> None:
    """Leave a field out."""
    values.values.pop(name, None)
    values.times.pop(name, None)


def forget(values: Values, names: Iterable[str]) -> None:
    """What these fields hold is not known any more; how new it is at least, stays known."""
    for name in names:
        if name in values.values:
            values.times[name] = values.time(name)
            del values.values[name]


def patch(
    known: Values, seen: Mapping[str, Any], fields: Iterable[str], at_ms: int, *, whole: bool,
    certain: bool, doubts: list[str] | None = None,
) -> tuple[bool, bool]:  # fmt: skip
    """Enter what an event says about `fields` into a snapshot -> (has changed, is stale).

    `whole`: a field that is not in `seen` is empty; else it is not spoken of. Stale: it speaks of
    fields, and of each something newer is known. `doubts` gets the fields whose values differ and
    whose order the times do not tell; it loses those of which something surely newer is known.
    """
    changed, newer, older = False, False, False
    kept: list[str] = []
    sure = certain and not known.uncertain
    for name in fields:
        if not whole and name not in seen:
            continue
        before = known.time(name)
        if at_ms < before:
            older = True
            kept.append(name)
            if not sure and doubts is not None:
                _doubt(known, name, seen.get(name), at_ms, certain, doubts)
            continue
        newer = True
        value = seen.get(name)
        old = known.values.get(name)
        if old != value or type(old) is not type(value):
            if before and doubts is not None and (at_ms == before or not sure or doubts):
                _doubt(known, name, value, at_ms, certain, doubts)
            if value is None:
                changed |= known.values.pop(name, None) is not None
            else:
                known.values[name] = value
                changed = True
        elif doubts and name in doubts:  # said again, later: that is its answer
            _doubt(known, name, value, at_ms, certain, doubts)
        if not whole:
            changed |= _timed(known, name, at_ms, certain)
    if whole and at_ms >= known.at_ms:
        changed |= known.at_ms == 0
        known.times = {f: known.times[f] for f in kept if f in known.times}
        known.at_ms = at_ms
        known.uncertain = [f for f in known.uncertain if f in known.times]
        if not certain:
            known.uncertain.append("*")
    elif whole:
        for name in fields:
            if name not in kept:
                _timed(known, name, at_ms, certain)
    return changed, older and not newer


def _doubt(
    known: Values, name: str, value: Any, at_ms: int, certain: bool, doubts: list[str]
) -> None:  # fmt: skip
    """Whether `value` is later than what is known: open, or clear again."""
    before = known.time(name)
    unsure = not certain or name in known.uncertain
    unsure |= "*" in known.uncertain and name not in known.times
    if abs(at_ms - before) > (DOUBT_MS if unsure else 0):
        if at_ms > before and name in doubts:
            doubts.remove(name)
    elif name not in doubts and text(value) != text(known.values.get(name)):
        doubts.append(name)


def overrule(known: Values, seen: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Take what the source said when it was asked, whatever the times -> has changed."""
    changed = False
    for name in names:
        value = seen.get(name)
        if known.values.get(name) == value:
            continue
        changed = True
        if value is None:
            del known.values[name]
        else:
            known.values[name] = value
    return changed


def same(one: Any, other: Any) -> bool:
    """Whether a platform that tells all its values as text would tell both alike."""
    return one == other or (type(one) is not type(other) and text(one) == text(other))


def text(value: Any) -> str:
    """A value as most platforms write it: one tells in quotes what the other tells as a number."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _timed(known: Values, name: str, at_ms: int, certain: bool) -> bool:
    """Remember a field's own time -> whether the field was unknown before."""
    first = known.at_ms == 0 and name not in known.times
    known.times[name] = at_ms
    if name in known.uncertain:
        known.uncertain.remove(name)
    if not certain:
        known.uncertain.append(name)
    return first

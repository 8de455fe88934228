"""Values that people put in place of the source's: remembered in the row, listed on `fixes`.

A fix applies as long as the source still says what it said; then it goes by itself.
"""

from typing import Any

import msgspec

from schemas.control import Act
from schemas.parked import Fix
from schemas.topics import FIXES
from streams.steps.rows import Source
from streams.steps.work import Work, json

__all__ = ["fix", "overtaken", "unfix"]


def fix(work: Work, object_key: str, act: Act) -> list[str]:
    """Take the act's values from now on, each as long as the source says what it says -> fields."""
    source = work.person.sources.setdefault(object_key, Source())
    values: dict[str, Any] = msgspec.json.decode(act.values or b"{}")
    for name, value in values.items():
        was = source.known.values.get(name)
        source.fixes[name] = (was, value)
        told = Fix(
            person=work.key, source=object_key, field=name, act_id=act.act_id, who=act.who,
            why=act.why, when_ms=act.when_ms, was=json(was), value=json(value),
        )  # fmt: skip
        work.out.send(FIXES, _key(work, object_key, name), told)
    return sorted(values)


def unfix(work: Work, object_key: str, act: Act) -> list[str]:
    """The source speaks for itself again, in the fields that the act names, or in all -> fields."""
    source = work.person.sources.get(object_key)
    if source is None:
        return []
    named: dict[str, Any] = msgspec.json.decode(act.values or b"{}")
    gone = sorted(name for name in source.fixes if not named or name in named)
    _drop(work, object_key, source, gone)
    return gone


def overtaken(work: Work, object_key: str, source: Source) -> None:
    """The source has changed: what it says otherwise now needs no mending any more."""
    known = source.known.values
    _drop(
        work, object_key, source, [f for f, (was, _) in source.fixes.items() if known.get(f) != was]
    )


def _drop(work: Work, object_key: str, source: Source, names: list[str]) -> None:
    for name in names:
        del source.fixes[name]
        work.out.send(FIXES, _key(work, object_key, name), None)


def _key(work: Work, object_key: str, name: str) -> str:
    return f"{work.key}|{object_key}|{name}"

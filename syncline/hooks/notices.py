"""What is worth telling: one entry of the journal -> notices. Pure; no personal values, as the
journal holds none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from schemas.definitions import Hook, Sync
from schemas.ids import derive
from schemas.journal import JournalEntry, JournalKind, Standing

__all__ = ["Notice", "hook_id", "hooks_of", "merged", "notices"]

Kind = Literal["state_change", "error"]
RECORDS_SHOWN = 20


@dataclass(frozen=True)
class Notice:
    """One thing to tell."""

    kind: Kind
    type: str
    """`run.completed`, `run.stuck`, `run.refused`, `run.trouble`, `records.refused`."""
    sync: str
    run: str
    at_ms: int
    place: tuple[int, int]
    """Partition and offset of the journal, of the first entry that it tells of."""
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def key(self) -> tuple[str, ...]:
        """Errors with the same one that come together are told together."""
        return (self.type, self.sync, self.run, str(self.data.get("code", "")))

    def message_id(self, hook: str) -> str:
        """The same each time that it is delivered to this hook."""
        return f"msg_{derive('notice', hook, *map(str, self.place), *self.key)}"


def notices(entry: JournalEntry, place: tuple[int, int]) -> Iterator[Notice]:
    """In the order in which they are to be told."""

    def made(kind: Kind, type_: str, **data: Any) -> Notice:
        return Notice(kind, type_, entry.sync, entry.run, entry.at_ms, place, data)

    match entry.kind:
        case JournalKind.run_state:
            yield made(
                "state_change", f"run.{entry.after}", before=entry.before, after=entry.after,
                why=entry.why, who=entry.who,
            )  # fmt: skip
            if entry.after == "stuck":
                yield made("error", "run.stuck", why=entry.why)
        case JournalKind.act if entry.after == "run_start" and entry.why.startswith("refused: "):
            yield made("error", "run.refused", why=entry.why.removeprefix("refused: "))
        case JournalKind.account_state if entry.run:
            yield made("error", "run.trouble", why=entry.why)
        case JournalKind.decided | JournalKind.admitted:
            refused: dict[tuple[str, str], list[int]] = {}
            for note in entry.rows:
                if note.standing is Standing.parked and note.was != Standing.parked:
                    refused.setdefault((note.code, note.field), []).append(note.record_no)
            for (code, field_), numbers in refused.items():
                yield made(
                    "error", "records.refused", code=code, fields=[field_] if field_ else [],
                    records=len(numbers), record_nos=_shown(numbers),
                )  # fmt: skip
        case _:
            pass


def merged(first: Notice, later: Notice) -> Notice:
    """Two errors with one key, as one: at the time and place of the first."""
    if first.type != "records.refused":
        return replace(first, data=later.data)
    one, two = first.data, later.data
    data = {
        "code": one["code"],
        "fields": sorted({*one["fields"], *two["fields"]}),
        "records": one["records"] + two["records"],
        "record_nos": _shown([*one["record_nos"], *two["record_nos"]]),
    }
    return replace(first, data=data)


def hooks_of(syncs: Mapping[str, Sync]) -> dict[str, tuple[str, Kind, Hook]]:
    """Hook id to its sync, what it is told of, and itself. The id holds as long as the sync tells
    the same address of the same things."""
    found: dict[str, tuple[str, Kind, Hook]] = {}
    for name, sync in syncs.items():
        for hook in sync.on_state_change:
            found[hook_id(name, "state_change", hook)] = (name, "state_change", hook)
        for hook in sync.on_error:
            found[hook_id(name, "error", hook)] = (name, "error", hook)
    return found


def hook_id(sync: str, kind: Kind, hook: Hook) -> str:
    return derive("hook", sync, kind, hook.url or "", hook.form, *hook.to)[:16]


def _shown(numbers: list[int]) -> list[int]:
    return [n for n in numbers if n >= 0][:RECORDS_SHOWN]

"""Which parked records a command is about: options that several commands have, said once."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer

from audit.causes import cause_of
from audit.read import parked_records
from schemas.codec import Codec
from schemas.parked import ParkedRecord
from syncline.errors import Failed, Misused
from syncline.settings import Settings

__all__ = ["Selection", "selecting"]


@dataclass(frozen=True)
class Selection:
    """Each field is an option, or the arguments, of the command."""

    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids, as `parked list --records` shows.")
    ] = None
    sync: Annotated[str, typer.Option(help="Only this sync.")] = ""
    code: Annotated[str, typer.Option(help="Only this code, e.g. INVALID_EMAIL_ADDRESS.")] = ""
    field: Annotated[str, typer.Option(help="Only where this destination field was refused.")] = ""
    group: Annotated[str, typer.Option(help="Only this group, as `parked list` names it.")] = ""
    all_: Annotated[bool, typer.Option("--all", help="All that the other options select.")] = False

    def of(self, settings: Settings, codec: Codec) -> list[ParkedRecord]:
        """The oldest first. Raises Misused where nobody said which, Failed where none is."""
        if not (self.ids or self.group or self.all_):
            raise Misused(
                "name records by id or --group, or say --all (with --sync, --code, --field)"
            )
        if not (records := self.any(settings, codec)):
            raise Failed("no parked record matches; `syncline parked list` shows all")
        return records

    def any(self, settings: Settings, codec: Codec) -> list[ParkedRecord]:
        """All that it does not leave out, the oldest first. Raises Failed for an unknown id."""
        there = parked_records(settings.kafka_config(), codec)
        if missing := [i for i in self.ids or [] if i not in there]:
            raise Failed(f"not parked: {', '.join(missing)}")
        found = [there[i] for i in self.ids] if self.ids else list(there.values())
        return sorted(filter(self._takes, found), key=lambda r: (r.first_ms, r.parked_id))

    def _takes(self, record: ParkedRecord) -> bool:
        return (
            self.sync in ("", record.sync)
            and self.code in ("", record.code)
            and self.field in ("", record.field)
            and (not self.group or cause_of(record).group == self.group)
        )


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """`@app.command()` over `@selecting` over a function whose first parameter is a Selection: the
    command gets its options."""
    names = [f.name for f in fields(Selection)]
    hints = get_type_hints(Selection, include_extras=True)

    @functools.wraps(command)
    def told(**given: Any) -> None:
        command(Selection(**{name: given.pop(name) for name in names}), **given)

    own = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name]
        )
        for f in fields(Selection)
    ]
    _, *others = inspect.signature(command, eval_str=True).parameters.values()
    more = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in others]
    told.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    told.__annotations__ = {p.name: p.annotation for p in (*own, *more)}
    return told

"""`syncline audience`: the lists that say for whom a sync is."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from audit.read import latest
from schemas import ids, topics
from schemas.audiences import AudienceMember
from schemas.codec import Codec
from schemas.follow import Definitions
from schemas.runs import RunView
from syncline import audiences, cluster
from syncline.commands import run as runs
from syncline.errors import Failed, Misused
from syncline.options import Json, Why
from syncline.settings import Settings

app = typer.Typer(help="Lists that say for whom a sync is: put, show, list.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the sync; it has an `audience:`.")]


@app.command()
def put(
    sync: Name,
    file: Annotated[Path, typer.Argument(help="One id of the source a line; `-`: from stdin.")],
    column: Annotated[
        str, typer.Option(help="The file is a table with a heading: the column of the ids.")
    ] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Only say who would join and who would leave.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, though more than half would leave.")
    ] = False,
    why: Why = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait until it runs; 0: do not.")] = 20.0,
) -> None:
    """Give a sync a new list, and bring the destination to it: a bulk run; prints its id.

    Every id on the list is a record of the run, and so is everyone who is not on it any more; each
    has its fate in `syncline balance --run`. Put again what was interrupted: it happens whole, or
    not at all.
    """
    new = audiences.read_list(_bytes(file), column)
    with cluster.connected() as (settings, codec):
        _known(settings, codec, sync)
        repeats = f" ({new.repeats:,} ids were named more than once)" if new.repeats else ""
        if check:
            print(f"{sync}: {audiences.differs(settings, codec, sync, new)}{repeats}")
            return
        hand = audiences.Hand(settings, codec, sync)
        change = hand.differs(new)
        print(f"{sync}: {change}{repeats}")
        if not (change.joins or change.stays or change.leaves):
            raise Failed("the list is empty, and so was the last one: nothing to do")
        if change.share > 0.5 and not yes and not typer.confirm("more than half leave: go on?"):
            raise Failed("nothing was done")
        run = ids.run_id(sync, ids.stamp())
        hand.put(change, run, why)
        print(run)
        if wait:
            runs.until(settings, codec, run, {"running", "completed", "stuck"}, wait)


@app.command()
def show(
    sync: Name,
    members: Annotated[bool, typer.Option("--members", help="The ids, one a line.")] = False,
    json_: Json = False,
) -> None:
    """How many are on the list of a sync, and what became of the run that brought it."""
    with cluster.connected() as (settings, codec):
        _known(settings, codec, sync)
        there = audiences.members_of(settings, codec, sync)
        views = runs.views(settings, codec)
    if members:
        for name, member in there.items():
            if member.member:
                print(name)
        return
    told = _told(sync, there, views)
    if json_:
        print(cluster.as_json(told))
        return
    for name, value in told.items():
        print(f"{name:8} {value}")


@app.command("list")
def list_(json_: Json = False) -> None:
    """All syncs that have a list, with how many are on it."""
    with cluster.connected() as (settings, codec):
        known = _syncs(settings, codec)
        found = latest(settings.kafka_config(), codec, topics.AUDIENCES, AudienceMember)
        views = runs.views(settings, codec)
    by_sync: dict[str, dict[str, AudienceMember]] = {sync: {} for sync in known}
    for member in found.values():
        by_sync.get(member.sync, {})[member.object_id] = member
    rows = [_told(sync, there, views) for sync, there in by_sync.items()]
    if json_:
        print(cluster.as_json(rows))
        return
    table = Table("sync", "members", "last run", "state", "headline")
    for row in rows:
        table.add_row(row["sync"], f"{row['members']:,}", row["run"], row["state"], row["headline"])
    Console().print(table)


def _told(sync: str, there: dict[str, AudienceMember], views: dict[str, RunView]) -> dict[str, Any]:
    """The last run is the newest that changed the list, or went through it."""
    named = [name for name in views if ids.sync_of(name) == sync]
    run = max([*named, *(m.run for m in there.values())], default="")
    view = views.get(run)
    counts = Counter(m.member for m in there.values())
    return {
        "sync": sync, "members": counts[True], "leaving": counts[False], "run": run,
        "state": view.state if view else "", "headline": view.headline if view else "",
    }  # fmt: skip


def _bytes(file: Path) -> bytes:
    """At most one byte more than a list may have. Raises Misused."""
    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as source:
            return source.read(audiences.LIST_BYTES_MAX + 1)
    except OSError as error:
        raise Misused(f"{file}: {error.strerror}") from None


def _syncs(settings: Settings, codec: Codec) -> list[str]:
    definitions = Definitions(settings.kafka_config(), codec)
    try:
        return sorted(n for n, s in definitions.syncs().items() if s.audience is not None)
    finally:
        definitions.close()


def _known(settings: Settings, codec: Codec, sync: str) -> None:
    there = _syncs(settings, codec)
    if sync not in there:
        known = ", ".join(there) or "none: give one an `audience:`, see `syncline apply`"
        raise Failed(f"there is no sync {sync} with an audience; applied are: {known}")

"""`syncline sync`: standing orders."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from audit.read import control_acts
from schemas.codec import Codec
from schemas.control import Act, ActKind
from schemas.definitions import Sync
from schemas.follow import Definitions
from syncline import acts, cluster, schedules
from syncline.commands.account import closed
from syncline.errors import Failed
from syncline.options import Why
from syncline.settings import Settings
from syncline.watching import Watch

app = typer.Typer(help="Syncs: list, pause, resume, forget.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the sync.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait until it holds; 0: do not.")]


@app.command("list")
def list_(
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """All syncs that are applied, when each runs next by itself, and who has paused which."""
    with cluster.connected() as (settings, codec):
        definitions = Definitions(settings.kafka_config(), codec)
        known = definitions.syncs()
        definitions.close()
        last: dict[str, Act] = {
            a.sync: a
            for a in control_acts(settings.kafka_config(), codec)
            if a.kind in (ActKind.sync_pause, ActKind.sync_resume)
        }
    rows = [
        {
            "sync": name, "from": f"{s.source} {s.source_object}",
            "to": f"{s.destination} {s.destination_object}", "mapping": s.mapping,
            "policy": s.policy.value, "live": s.live, "next": _next(s),
            "paused": _paused(last.get(name)),
        }
        for name, s in sorted(known.items())
    ]  # fmt: skip
    if json_:
        print(cluster.as_json(rows))
        return
    table = Table("sync", "from", "to", "mapping", "policy", "live", "next run", "paused")
    for row in rows:
        table.add_row(*("yes" if v is True else "no" if v is False else v for v in row.values()))
    Console().print(table)


@app.command()
def pause(sync: Name, why: Why = "", wait: Wait = 10.0) -> None:
    """Send nothing more for a sync. What comes meanwhile waits, nothing is dropped, and other syncs
    of the same persons go on. Rows on their way to the platform already are finished."""
    _ask(ActKind.sync_pause, sync, why, wait, "paused")


@app.command()
def resume(sync: Name, why: Why = "", wait: Wait = 10.0) -> None:
    """Send what has waited, the newest state of each person, live changes first."""
    _ask(ActKind.sync_resume, sync, why, wait, "resumed")


@app.command()
def forget(sync: Name, why: Why = "", wait: Wait = 10.0) -> None:
    """Believe nothing any more of what stands at the sync's destination: a sandbox that was
    refreshed, a list that was replaced. Its account must be closed. Afterwards open it, and start a
    run: all is sent, and everybody is matched anew. Parked and waiting records stay."""
    _ask(ActKind.forget, sync, why, wait, "forgotten")


def _target(settings: Settings, codec: Codec, sync: Sync) -> dict[str, Any]:
    """What the act of forgetting is about. Raises Failed where rows may still go there."""
    definitions = Definitions(settings.kafka_config(), codec)
    connection = definitions.connections()[sync.destination]
    definitions.close()
    if f"{connection.platform}/{connection.account}" not in closed(settings, codec):
        raise Failed(f"rows may be on their way: `syncline account close {sync.destination}` first")
    return {"target": f"{sync.destination}:{sync.destination_object}"}


def _ask(kind: ActKind, sync: str, why: str, wait_s: float, done: str) -> None:
    with cluster.connected() as (settings, codec):
        definitions = Definitions(settings.kafka_config(), codec)
        known = definitions.syncs()
        definitions.close()
        if sync not in known:
            raise Failed(f"there is no sync {sync}; applied are: {', '.join(sorted(known))}")
        values = _target(settings, codec, known[sync]) if kind is ActKind.forget else None
        partitions = cluster.partitions(settings)
        with Watch(settings, codec) as watch:
            begun_s = time.monotonic()
            watch.ask([acts.act(kind, sync=sync, values=values, why=why)])
            if not wait_s:
                print(f"{sync}: asked for")
                return
            if not watch.until(lambda answers: len(answers.partitions) >= partitions, wait_s):
                raise Failed(
                    f"{sync}: after {wait_s:g} s {len(watch.answers.partitions)} of {partitions} "
                    "partitions have done it: is a streams worker running?"
                )
            print(f"{sync}: {done} in {time.monotonic() - begun_s:.2f} s")


def _next(sync: Sync) -> str:
    """When its next scheduled run is due, in UTC."""
    if sync.schedule is None:
        return ""
    return schedules.next_due(sync.schedule, datetime.now(UTC)).isoformat(timespec="minutes")


def _paused(act: Act | None) -> str:
    if act is None or act.kind is not ActKind.sync_pause:
        return ""
    return f"by {act.who}" + (f": {act.why}" if act.why else "")

"""`syncline balance`."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from audit.balance import Balance, Cohort, Line, total
from audit.read import Log
from schemas import topics
from schemas.codec import Codec
from schemas.events import PlatformEvent
from schemas.follow import Definitions
from schemas.journal import JournalEntry
from syncline import cluster
from syncline.errors import Failed
from syncline.settings import Settings

app = typer.Typer()

OVERDUE_MS = 5 * 60_000
"""A record with neither a fate nor a wait that has a name for longer is an alarm (promise P4)."""


class Reader:
    """The balance of a cluster, kept by reading `events.*` and `journal`."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        definitions = Definitions(settings.kafka_config(), codec)
        self.balance = Balance(definitions.syncs())
        events = [topics.events_of(p) for p in definitions.platforms()]
        definitions.close()
        self._log = Log(settings.kafka_config(), codec, [*events, topics.JOURNAL])

    def read(self) -> Balance:
        """Takes in what is new."""
        for _, _, _, _, message in self._log.read_to_end():
            if isinstance(message, PlatformEvent):
                self.balance.received(message)
            elif isinstance(message, JournalEntry):
                self.balance.noted(message)
        return self.balance


@app.command()
def balance(
    sync: Annotated[str, typer.Option(help="Only this sync.")] = "",
    run: Annotated[str, typer.Option(help="Only this run.")] = "",
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Every record received has a fate, or a named place: counted from the topics alone.

    What waits for something is listed with what for. Exit 1 where it does not close, or where a
    record has had neither a fate nor a named wait for five minutes.
    """
    with cluster.connected() as (settings, codec):
        kept = Reader(settings, codec).read()
    lines = [
        line for line in kept.lines()
        if (not sync or line.cohort.sync == sync) and (not run or line.cohort.run == run)
    ]  # fmt: skip
    overdue = kept.overdue(time.time_ns() // 1_000_000 - OVERDUE_MS)
    waits = {
        w: count for w, count in kept.waits().items()
        if (not sync or w.cohort.sync == sync) and (not run or w.cohort.run == run)
    }  # fmt: skip
    if json_:
        print(cluster.as_json({
            "lines": [plain(line) for line in lines],
            "difference": kept.difference,
            "overdue": [
                {"row_id": r, "sync": c.sync, "run": c.run, "place": s} for r, c, s, _ in overdue
            ],
            "waits": [
                {"sync": w.cohort.sync, "run": w.cohort.run, "hour_ms": w.cohort.hour_ms,
                 "place": w.place, "for": w.why, "records": n, "since_ms": since_ms}
                for w, (n, since_ms) in waits.items()
            ],
        }))  # fmt: skip
    else:
        show(lines)
        for w, (count, since_ms) in waits.items():
            print(f"{count:,} of {name(w.cohort)} wait for {w.why} since {_at(since_ms)}")
    for row_id, cohort, place, since_ms in overdue[:20]:
        words = f"row {row_id} of {name(cohort)} is {place} since {_at(since_ms)}"
        typer.echo(f"overdue: {words}", err=True)
    if kept.difference:
        for row_id in kept.strangers[:20]:
            typer.echo(f"row {row_id} has a fate, but was never received", err=True)
        raise Failed(f"the balance does not close: difference {kept.difference}")
    if overdue:
        raise Failed(
            f"{len(overdue):,} records have had neither a fate nor a named wait for five minutes"
        )


def show(lines: list[Line]) -> None:
    """As a table: one row a cohort, one column for each standing that occurs."""
    everything = total(lines)
    columns = list(everything.standings)
    table = Table("sync, run or hour", "received", *columns, "difference")
    for line in lines:
        counts = [str(line.standings.get(s, 0)) for s in columns]
        table.add_row(name(line.cohort), str(line.received), *counts, str(line.difference))
    counts = [str(everything.standings[s]) for s in columns]
    table.add_row("all", str(everything.received), *counts, str(everything.difference))
    Console().print(table)


def _at(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def name(cohort: Cohort) -> str:
    if cohort.run:
        return cohort.run
    hour = datetime.fromtimestamp(cohort.hour_ms / 1000, UTC).strftime("%Y-%m-%d %H:00Z")
    return f"{cohort.sync}, live {hour}"


def plain(line: Line) -> dict[str, Any]:
    return {
        "sync": line.cohort.sync,
        "run": line.cohort.run,
        "hour_ms": line.cohort.hour_ms,
        "received": line.received,
        "standings": dict(line.standings),
        "open": line.open,
        "difference": line.difference,
    }

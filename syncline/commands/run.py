"""`syncline run`: bulk runs."""

import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from audit.read import Log
from schemas import ids, topics
from schemas.codec import Codec
from schemas.control import ActKind
from schemas.follow import Definitions
from schemas.journal import JournalEntry
from schemas.runs import RunView
from syncline import acts, cluster
from syncline.errors import Failed
from syncline.options import Json, Why
from syncline.previewing import TITLES, Shown
from syncline.settings import Settings
from syncline.since import Since, decoded

app = typer.Typer(
    help="Bulk runs: preview, start, show, pause, resume, cancel.", no_args_is_help=True
)

Wait = Annotated[float, typer.Option(help="Seconds to wait for it; 0: do not.")]


@app.command()
def start(
    sync: Annotated[str, typer.Argument(help="Name of the sync.")],
    force: Annotated[
        bool, typer.Option("--force", help="Send also what equals what was written there last.")
    ] = False,
    why: Why = "",
    wait: Wait = 20.0,
) -> None:
    """Start a bulk run of a sync; prints its id.

    With --force everything goes out again, also what is unchanged: after somebody has overwritten
    or restored the destination. What is newer there stays.
    """
    with cluster.connected() as (settings, codec):
        options = {"force": True} if force else None
        run = begin(settings, codec, sync, why, options=options)
        print(run)
        if wait:
            until(settings, codec, run, {"running", "completed", "stuck"}, wait)


@app.command()
def preview(
    sync: Annotated[str, typer.Argument(help="Name of the sync.")],
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="Look at about so many records of the source.")
    ] = 1_000,
    json_: Json = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for it.")] = 300.0,
) -> None:
    """Show what a run would do: who would be created, updated or refused. Nothing is sent.

    The source is read, and the destination is asked who is there, within the limits of both. Exit 1
    where some would be refused.
    """
    with cluster.connected() as (settings, codec):
        log = Since(settings.kafka_config(), topics.JOURNAL, None)
        try:
            options = {"preview": True, "fetch_max": limit}
            run = begin(settings, codec, sync, "preview", options=options)
            shown = _shown(log, codec, Shown(run), wait)
        finally:
            log.close()
    if json_:
        print(cluster.as_json({
            "run": run, "state": shown.ended, "counts": shown.counts, "details": shown.details,
            "samples": shown.samples,
        }))  # fmt: skip
    else:
        _print_shown(shown)
    if TITLES["would_refuse"] in shown.counts:
        raise typer.Exit(1)


def _shown(log: Since, codec: Codec, shown: Shown, wait_s: float) -> Shown:
    """Follow the journal until the run has ended. Raises Failed where it does not in time."""
    deadline = time.monotonic() + wait_s
    while not shown.ended:
        for entry in decoded(log.poll(0.1), codec):
            if isinstance(entry, JournalEntry):
                shown.take(entry)
        if time.monotonic() > deadline:
            why = f"it is stuck: {shown.stuck}" if shown.stuck else "is a streams worker running?"
            raise Failed(f"{shown.run}: not over after {wait_s:g} s; {why}")
    return shown


def _print_shown(shown: Shown) -> None:
    counts, details, samples = shown.counts, shown.details, shown.samples
    for title, count in counts.items():
        print(f"{count:,} {title}")
        for why, times in list(details.get(title, {}).items())[:10]:
            print(f"  {times:,} {why}")
        if numbers := samples.get(title):
            print(f"  such as {', '.join(f'{shown.run}:{n}' for n in numbers)}")
    print(f"{sum(counts.values()):,} records looked at; nothing was sent")


def begin(
    settings: Settings, codec: Codec, sync: str, why: str = "", *,
    options: dict[str, Any] | None = None,
) -> str:  # fmt: skip
    """Ask for a run -> its id."""
    definitions = Definitions(settings.kafka_config(), codec)
    known = definitions.syncs()
    definitions.close()
    if sync not in known:
        there = ", ".join(sorted(known)) or "none; use `syncline apply`"
        raise Failed(f"there is no sync {sync}; applied are: {there}")
    run = ids.run_id(sync, ids.stamp())
    act = acts.act(ActKind.run_start, sync=sync, run=run, values=options, why=why)
    acts.ask(settings, codec, [act])
    return run


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="Run id; empty: all.")] = "", json_: Json = False
) -> None:
    """What a run is doing, in one sentence and in figures."""
    with cluster.connected() as (settings, codec):
        there = views(settings, codec)
    if run and run not in there:
        raise Failed(f"there is no run {run}; `syncline run list` shows all")
    for view in [there[run]] if run else list(there.values()):
        if json_:
            print(cluster.as_json(view.model_dump()))
            continue
        print(view.headline)
        for name, value in _figures(view).items():
            print(f"  {name:12} {value}")


@app.command("list")
def list_(json_: Json = False) -> None:
    """All runs, the newest last."""
    with cluster.connected() as (settings, codec):
        there = sorted(views(settings, codec).values(), key=lambda v: v.started_ms)
    if json_:
        print(cluster.as_json([v.model_dump() for v in there]))
        return
    table = Table("run", "state", "fetched", "a second", "headline")
    for v in there:
        table.add_row(v.run, v.state, str(v.fetched), f"{v.per_s:.0f}", v.headline)
    Console().print(table)


@app.command()
def pause(run: str, why: Why = "", wait: Wait = 60.0) -> None:
    """Fetch no more; what is on its way is finished, and nothing is dropped."""
    _ask(ActKind.run_pause, run, why, {"paused", "completed", "cancelled"}, wait)


@app.command()
def resume(run: str, why: Why = "", wait: Wait = 20.0) -> None:
    """Go on where it was paused, or stuck."""
    _ask(ActKind.run_resume, run, why, {"running", "completed", "cancelled"}, wait)


@app.command()
def cancel(run: str, why: Why = "", wait: Wait = 60.0) -> None:
    """End it. What was written stays; what was fetched and not sent gets the fate `cancelled`."""
    _ask(ActKind.run_cancel, run, why, {"cancelled", "completed"}, wait)


def _ask(kind: ActKind, run: str, why: str, states: set[str], wait_s: float) -> None:
    with cluster.connected() as (settings, codec):
        if run not in views(settings, codec):
            raise Failed(f"there is no run {run}; `syncline run list` shows all")
        acts.ask(settings, codec, [acts.act(kind, sync=ids.sync_of(run), run=run, why=why)])
        if wait_s:
            until(settings, codec, run, states, wait_s)


def until(settings: Settings, codec: Codec, run: str, states: set[str], wait_s: float) -> None:
    """Wait until the run is in one of these states, and say so. Raises Failed where it is not."""
    deadline = time.monotonic() + wait_s
    while True:
        view = views(settings, codec).get(run)
        if view is not None and view.state in states:
            print(f"{run}: {view.headline}")
            return
        if time.monotonic() > deadline:
            state = view.state if view else "not taken up yet: is a streams worker running?"
            raise Failed(f"{run}: after {wait_s:g} s it is {state}")
        time.sleep(0.3)


def views(settings: Settings, codec: Codec) -> dict[str, RunView]:
    """The newest view of every run."""
    log = Log(settings.kafka_config(), codec, [topics.RUNS])
    found = {m.run: m for *_, m in log.read_to_end() if isinstance(m, RunView)}
    log.close()
    return found


def _figures(view: RunView) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "run": view.run,
        "state": view.state,
        "phase": view.phase,
        "fetched": f"{view.fetched} records on {view.pages} pages",
        "rate": f"{view.per_s:.0f} a second",
        "done in": f"about {view.eta_s} s" if view.eta_s >= 0 else "not known",
        "batches": f"{view.batches} of about {view.batches_about}",
        "records": ", ".join(f"{n} {s}" for s, n in view.counts.items() if n),
    }
    return figures | ({"why": view.why} if view.why else {})

"""`syncline demo`."""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from schemas.runs import RunView
from syncline.demo import Demo, Options
from syncline.demo_report import broken
from syncline.errors import Failed

app = typer.Typer()

EVERY_S = 10.0


@app.command()
def demo(
    contacts: Annotated[
        int, typer.Option(min=200, help="Contacts in the simulated HubSpot portal.")
    ] = 100_000,
    seed: Annotated[int, typer.Option(help="Chooses the contacts and the accidents.")] = 1,
    fast: Annotated[bool, typer.Option("--fast", help="Take the platforms' quotas away.")] = False,
    accidents: Annotated[
        bool, typer.Option(help="Kill processes and the broker meanwhile.")
    ] = True,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report there too.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep data and logs there; else a temporary folder."),
    ] = None,
) -> None:
    """Sync a HubSpot portal into Salesforce and Mailchimp, with accidents, and report.

    Real Kafka, real processes, simulated platforms. While two bulk runs and live webhooks go on,
    gateway, streams, connectors and the broker are killed. Exit 1 if any promise is broken.
    """
    folder = keep or Path(tempfile.mkdtemp(prefix="syncline-demo-"))
    screen = _Screen()
    try:
        with screen:
            told = Demo(
                Options(contacts, seed, fast, accidents), folder, screen.say, screen.show
            ).go()
    except BaseException:
        print(f"data and logs are kept in {folder}", file=sys.stderr)
        raise
    if json_file:
        json_file.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    _print(told)
    wrong = broken(told)
    if wrong:
        raise Failed("promises broken: " + "; ".join(wrong) + f". Logs: {folder}")
    if keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    print("all promises kept")


class _Screen:
    """A live table on a terminal; a line now and then in a log."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, refresh_per_second=4, transient=True)
        self.said_s = 0.0

    def __enter__(self) -> "_Screen":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def say(self, text: str) -> None:
        self.console.print(text)

    def show(self, views: list[RunView], status: dict[str, Any], summary: str) -> None:
        if self.console.is_terminal:
            self.live.update(Group(*_lines(views, status, summary)))
        elif time.monotonic() - self.said_s > EVERY_S:
            self.said_s = time.monotonic()
            for view in views:
                self.console.print(f"{summary}: {view.run}: {view.headline}", soft_wrap=True)


def _lines(views: list[RunView], status: dict[str, Any], summary: str) -> list[Any]:
    runs = Table("run", "state", "phase", "batches", "a second", "done in")
    for v in views:
        batches = f"{v.batches} of about {v.batches_about}"
        left = f"{v.eta_s} s" if v.eta_s >= 0 else ""
        runs.add_row(v.run, v.state, v.phase, batches, f"{v.per_s:.0f}", left)
    quotas = Table("account", "window", "left", "of", "rows waiting")
    for platform, told in status.items():
        for account in told["accounts"].values():
            for q in account["quotas"]:
                waiting = str(sum(account["waiting"].values()))
                quotas.add_row(platform, q["window"], str(q["left"]), str(q["limit"]), waiting)
    return [runs, *(Text(v.headline) for v in views), quotas, Text(summary)]


def _print(told: dict[str, Any]) -> None:
    console = Console()
    table = Table("", *told["destinations"])
    for name in ("expected", "present", "missing", "wrong_fields", "persons_twice",
                 "duplicate_effects"):  # fmt: skip
        row = [str(d[name]) for d in told["destinations"].values()]
        table.add_row(name.replace("_", " "), *row)
    console.print(table)
    for name in ("parked", "balance", "balance_difference", "order_violations", "quota_refusals",
                 "quota_overspends", "quota_use", "live_changes", "latency_ms", "contacts_per_s",
                 "bulk_s", "wall_s"):  # fmt: skip
        console.print(f"{name.replace('_', ' '):20} {told[name]}", soft_wrap=True)
    console.print(f"memory               {told['memory_bytes_max'] / 2**30:.2f} GiB at most")
    console.print("accidents            " + ", ".join(
        f"{k['what']} at {k['at_s']} s ({k['silence_s']} s without a write)" for k in told["kills"]
    ))  # fmt: skip

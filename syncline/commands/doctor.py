"""`syncline doctor`."""

import importlib
import os
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from syncline import checks, cluster
from syncline.checks import Check
from syncline.errors import Failed
from syncline.settings import Settings

app = typer.Typer()

MARKS = {True: "[green]  ok[/]", False: "[red] bad[/]", None: "[yellow]look[/]"}


@app.command()
def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check this machine, the settings and the cluster, and say what to do.

    Exit 1 if anything is bad.
    """
    settings = Settings()
    read = variables()
    found = list(_checks(settings, read))
    good = all(check.ok is not False for check in found)
    shown = settings.shown()
    if json:
        plain = [check._asdict() for check in found]
        print(cluster.as_json({"ok": good, "checks": plain, "settings": shown}))
    else:
        console = Console(soft_wrap=True)
        for check in found:
            console.print(f"{MARKS[check.ok]} {check.name}: ", end="")
            console.print(check.text, markup=False)
        table = Table("variable", "value", "what it is for")
        for name in (*shown, *(n for n in read if n not in shown)):
            table.add_row(name, shown.get(name) or os.environ.get(name, ""), read.get(name, ""))
        console.print(table)
    raise typer.Exit(0 if good else 1)


def _checks(settings: Settings, read: dict[str, str]) -> Iterator[Check]:
    yield from checks.machine(settings)
    yield from checks.variables(read, os.environ)
    try:
        yield from checks.cluster(cluster.located(settings))
    except Failed as error:
        yield Check("cluster", False, str(error))


def variables() -> dict[str, str]:
    """Every variable that some part of Syncline reads, and what it is for."""
    from syncline.cli import COMMANDS  # it loads us

    found = Settings.described()
    for name in COMMANDS:
        try:
            module = importlib.import_module(f"syncline.commands.{name}")
        except ImportError:  # an extra that is not installed
            continue
        for command in _all(typer.main.get_command(module.app)):
            for option in command.params:
                given = option.envvar or ()
                for variable in (given,) if isinstance(given, str) else given:
                    found[variable] = getattr(option, "help", None) or ""
    return found


def _all(command: Any) -> Iterator[Any]:
    yield command
    for part in getattr(command, "commands", {}).values():
        yield from _all(part)

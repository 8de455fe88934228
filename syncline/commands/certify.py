"""`syncline certify`."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from syncline.certify.card import Line, as_json, certify, page
from syncline.certify.places import PLACES
from syncline.errors import Failed, Misused
from syncline.options import Json

app = typer.Typer()

MARKS = {"shown": "shown", "not here": "n/a", "failed": "FAILED"}


@app.command("certify")
def certify_(
    platforms: Annotated[list[str] | None, typer.Argument(help="Platforms.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that are registered.")] = False,
    write: Annotated[Path | None, typer.Option(help="Write docs/platforms.md there.")] = None,
    json_: Json = False,
) -> None:
    """Hold connectors to the contract, against simulated platforms that misbehave on request.

    Prints a score card: each line is shown, not applicable (and why), or failed. Exit 1 where any
    line failed.
    """
    names = sorted(PLACES) if all_ else platforms or []
    if not names:
        raise Misused("which platform? or --all")
    if write and not all_:
        raise Misused("--write needs --all: the page is of all platforms")
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # it hangs up on request
    cards = {name: asyncio.run(_card(name, told=not json_)) for name in names}
    if json_:
        print(json.dumps([as_json(name, lines) for name, lines in cards.items()], indent=2))
    if write:
        write.write_text(page(cards), encoding="utf-8")
    if failed := sum(line.verdict == "failed" for lines in cards.values() for line in lines):
        raise Failed(f"{failed} failed")


async def _card(name: str, *, told: bool) -> list[Line]:
    """The lines of a platform, printed as they come."""
    lines: list[Line] = []
    async for line in certify(name):
        if told:
            if not lines:
                print(f"{name}")
            if not lines or lines[-1].group != line.group:
                print(f"  {line.group}")
            why = f": {line.why}" if line.why else ""
            print(f"    {MARKS[line.verdict]:7} {line.shows}{why}", flush=True)
        lines.append(line)
    if told:
        counts = {v: sum(line.verdict == v for line in lines) for v in MARKS}
        shown, absent, failed = counts.values()
        print(f"  {shown} shown, {absent} not applicable, {failed} failed\n")
    return lines

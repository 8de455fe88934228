"""`syncline certify`."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from connectors.registry import Misconfigured
from schemas.definitions import Connection
from schemas.yamlfile import ConfigInvalid, load_yaml
from syncline.certify.card import Line, as_json, certify, certify_live, page
from syncline.certify.places import PLACES
from syncline.errors import Failed, Misused
from syncline.options import Json

app = typer.Typer()

MARKS = {"shown": "shown", "not here": "n/a", "failed": "FAILED"}


@app.command("certify")
def certify_(
    platforms: Annotated[list[str] | None, typer.Argument(help="Platforms.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that are registered.")] = False,
    live: Annotated[
        Path | None,
        typer.Option(
            metavar="CONNECTION.yaml",
            help="A real account: its connection as in connections/, secrets as env: or file:.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    domain: Annotated[
        str, typer.Option(help="With --live: of the addresses of people who are made and erased.")
    ] = "example.com",
    write: Annotated[Path | None, typer.Option(help="Write docs/platforms.md there.")] = None,
    json_: Json = False,
) -> None:
    """Hold connectors to the contract, against simulated platforms that misbehave on request.

    Prints a score card: each line is shown, not applicable (and why), or failed. Exit 1 where any
    line failed. With --live the same list runs against a real account: a few people are made under
    names of this run alone, and erased at the end.
    """
    if live:
        if all_ or write:
            raise Misused("--live is of one account: neither --all nor --write goes with it")
        _live(platforms or [], live, domain, json_)
        return
    names = sorted(PLACES) if all_ else platforms or []
    if not names:
        raise Misused("which platform? or --all")
    if write and not all_:
        raise Misused("--write needs --all: the page is of all platforms")
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # it hangs up on request
    cards = {name: asyncio.run(_card(name, certify(name), say=not json_)) for name in names}
    if json_:
        print(json.dumps([as_json(name, lines) for name, lines in cards.items()], indent=2))
    if write:
        write.write_text(page(cards), encoding="utf-8")
    if failed := sum(line.verdict == "failed" for lines in cards.values() for line in lines):
        raise Failed(f"{failed} failed")


def _live(platforms: list[str], path: Path, domain: str, json_: bool) -> None:
    try:
        connection = load_yaml(path, Connection)
    except ConfigInvalid as error:
        raise Misused(str(error)) from None
    name = connection.platform
    if platforms not in ([], [name]):
        raise Misused(f"{path} is a connection to {name}")
    run = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    try:
        told = certify_live(name, connection, run, domain)
        lines = asyncio.run(_card(name, told, say=not json_))
    except Misconfigured as error:
        raise Misused(str(error)) from None
    if json_:
        print(json.dumps([as_json(name, lines)], indent=2))
    if failed := sum(line.verdict == "failed" for line in lines):
        raise Failed(f"{failed} failed")


async def _card(name: str, told: AsyncIterator[Line], *, say: bool) -> list[Line]:
    """The lines of a platform, printed as they come."""
    lines: list[Line] = []
    async for line in told:
        if say:
            if not lines:
                print(f"{name}")
            if not lines or lines[-1].group != line.group:
                print(f"  {line.group}")
            why = f": {line.why}" if line.why else ""
            print(f"    {MARKS[line.verdict]:7} {line.shows}{why}", flush=True)
        lines.append(line)
    if say:
        counts = {v: sum(line.verdict == v for line in lines) for v in MARKS}
        shown, absent, failed = counts.values()
        print(f"  {shown} shown, {absent} not applicable, {failed} failed\n")
    return lines

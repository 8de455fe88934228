"""`syncline reconcile`."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from syncline import cluster
from syncline.options import Json
from syncline.progress import Teller
from syncline.reconcile import Compared
from syncline.reconcile import reconcile as compare
from syncline.since import parse_span

app = typer.Typer()

SHOWN_MAX = 20


@app.command()
def reconcile(
    connection: Annotated[str, typer.Argument(help="Name of the source's connection.")],
    object_type: Annotated[str, typer.Argument(help="The platform's own name: contact, Lead.")],
    since: Annotated[
        str, typer.Option(help="What changed so long ago or later: 6h, 2d. Empty: everything.")
    ] = "1d",
    wait: Annotated[float, typer.Option(help="Seconds without progress until it gives up.")] = 120,
    json_: Json = False,
) -> None:
    """Compare a source with what is known of it: names the changes that no webhook told of, and
    makes up for them, behind all live work. Only what changed since then is read where the
    platform can tell, else everything. May be run again at any time, from cron for instance."""
    since_ms = int(time.time() * 1000) - parse_span(since) if since else 0
    with cluster.connected() as (settings, codec), Teller() as teller:

        def show(so_far: Compared) -> None:
            if not json_:
                teller.say(f"read {so_far.read:,}; {so_far.undecided:,} not decided yet")

        compared = compare(settings, codec, connection, object_type, since_ms, wait, show)
    missed = compared.missed()
    if json_:
        told = {"read": compared.read, "missed": [asdict(m) for m in missed]}
        print(cluster.as_json(told))
        return
    print(f"{connection}: {compared.read:,} {object_type} read, {len(missed):,} changes missed")
    for one in missed[:SHOWN_MAX]:
        at = datetime.fromtimestamp(one.occurred_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        where = ", ".join(f"{sync}: {standing}" for sync, standing in sorted(one.syncs.items()))
        print(f"  {one.object_id} of {at}: {where}")
    if len(missed) > SHOWN_MAX:
        print(f"  and {len(missed) - SHOWN_MAX:,} more: --json tells all")

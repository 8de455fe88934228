"""`syncline quotas`."""

import os
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from syncline import cluster
from syncline.errors import Failed

app = typer.Typer()


@app.command()
def quotas(
    port: Annotated[
        int, typer.Option(help="Admin port of the connectors worker on this machine.")
    ] = int(os.environ.get("SYNCLINE_CONNECTORS_ADMIN_PORT", "9091")),
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Limits of each account: used by us and by others, left, back when, and what waits."""
    address = f"http://127.0.0.1:{port}/status"
    try:
        told: dict[str, Any] = httpx.get(address, timeout=5, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        raise Failed(
            f"no connectors worker answers on port {port}: start one with "
            f"`syncline connectors --admin-port {port}`, or name its port with --port"
        ) from None
    if json_:
        print(cluster.as_json(told))
        return
    table = Table(
        "platform", "account", "open", "window", "limit", "ours", "others", "left", "back in",
        "rows waiting",
    )  # fmt: skip
    for platform, there in told.items():
        for name, account in there["accounts"].items():
            waiting = str(sum(account["waiting"].values()))
            state = "yes" if account["open"] else account["why"]
            if not account["quotas"]:
                table.add_row(platform, name, state, "none", "", "", "", "", "", waiting)
            for q in account["quotas"]:
                back = "" if q["resets_s"] is None else f"{q['resets_s']:.0f} s"
                table.add_row(
                    platform, name, state, q["window"], str(q["limit"]), str(q["used_by_us"]),
                    str(q["used_by_others"]), str(q["left"]), back, waiting,
                )  # fmt: skip
    Console().print(table)

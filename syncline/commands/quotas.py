"""`syncline quotas`."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from syncline import cluster
from syncline.errors import Failed, Misused

app = typer.Typer()


@dataclass(frozen=True)
class Line:
    """One window of one account, as people ask for it. Seconds from now; None: not known."""

    platform: str
    account: str
    state: str
    """open, or why not."""
    window: str
    limit: int
    figure: int
    used_by_us: int
    used_by_others: int
    left: int
    resets_s: float | None
    """Until all that is spent now is back."""
    closed_s: float
    """For so long the platform takes nothing."""
    waiting: Mapping[str, int]
    """Rows of the account, by priority."""
    rows_per_s: float
    """Of the account, of late."""
    through_s: float | None
    """Until the rows that wait now have gone out, at that rate."""


@app.command()
def quotas(
    port: Annotated[
        int, typer.Option(help="Admin port of the connectors worker on this machine.")
    ] = int(os.environ.get("SYNCLINE_CONNECTORS_ADMIN_PORT", "9091")),
    account: Annotated[str, typer.Option(help="Only this account.")] = "",
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Limits of each account: used by us and by others, left, back when; what waits, until when."""
    told = _status(port)
    found = [line for line in lines(told) if account in ("", line.account)]
    if account and not found:
        known = sorted({line.account for line in lines(told)})
        raise Misused(f"no account {account} here; this worker has {', '.join(known) or 'none'}")
    if json_:
        print(cluster.as_json([asdict(line) for line in found]))
    else:
        Console().print(table(found, time.time()))


def _status(port: int) -> dict[str, Any]:
    address = f"http://127.0.0.1:{port}/status"
    try:
        return httpx.get(address, timeout=5, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        raise Failed(
            f"no connectors worker answers on port {port}: start one with "
            f"`syncline connectors --admin-port {port}`, or name its port with --port"
        ) from None


def lines(told: Mapping[str, Any]) -> Iterator[Line]:
    """The worker's `/status` -> a line a window; one without a window for an account that has no
    limits. Pure."""
    for platform, there in told.items():
        for name, account in there["accounts"].items():
            common: dict[str, Any] = {
                "platform": platform, "account": name,
                "state": "open" if account["open"] else account["why"] or "closed",
                "waiting": account["waiting"], "rows_per_s": account["rows_per_s"],
                "through_s": _through_s(account),
            }  # fmt: skip
            for q in account["quotas"]:
                spent = {k: q[k] for k in ("window", "limit", "figure", "used_by_us", "left")}
                yield Line(
                    **common, **spent, used_by_others=q["used_by_others"],
                    resets_s=q["resets_s"], closed_s=q["closed_s"],
                )  # fmt: skip
            if not account["quotas"]:
                yield Line(
                    **common, window="", limit=0, figure=0, used_by_us=0, used_by_others=0, left=0,
                    resets_s=0.0, closed_s=0.0,
                )  # fmt: skip


def _through_s(account: Mapping[str, Any]) -> float | None:
    """0: nothing waits. None: nobody can say: it takes nothing, or nothing went out of late."""
    rows = sum(account["waiting"].values())
    if not rows:
        return 0.0
    if not account["open"] or account["rows_per_s"] <= 0:
        return None
    closed_s = max((q["closed_s"] for q in account["quotas"]), default=0.0)
    return closed_s + rows / account["rows_per_s"]


def table(found: list[Line], now_s: float) -> Table:
    """`now_s`: Unix time, for the clock times."""
    shown = Table()
    shown.add_column("account", overflow="fold")
    shown.add_column("window")
    for name in ("limit", "ours", "others", "left"):
        shown.add_column(name, justify="right")
    for name in ("all back", "waiting", "through"):
        shown.add_column(name, overflow="fold")
    before = ""
    for line in found:
        title = f"{line.platform} {line.account}"
        words = title if line.state == "open" else f"{title}: {line.state}"
        first = title != before
        before = title
        waiting = ", ".join(f"{n:,} {priority}" for priority, n in line.waiting.items() if n)
        shown.add_row(
            words if first else "",
            *(_figures(line, now_s) if line.window else ("no limits", "", "", "", "", "")),
            waiting if first else "", _through(line, now_s) if first else "",
        )  # fmt: skip
    return shown


def _figures(line: Line, now_s: float) -> tuple[str, ...]:
    slowed = f" of {line.figure:,}" if line.limit < line.figure else ""
    if line.closed_s > 0:
        back = f"closed until {when(line.closed_s, now_s)}"
    elif line.resets_s is None:
        back = "with the answers"
    else:
        back = when(line.resets_s, now_s) if line.resets_s > 0 else ""
    return (
        line.window, f"{line.limit:,}{slowed}", f"{line.used_by_us:,}", f"{line.used_by_others:,}",
        f"{line.left:,}", back,
    )  # fmt: skip


def _through(line: Line, now_s: float) -> str:
    if line.through_s == 0:
        return ""
    if line.through_s is not None:
        return f"{when(line.through_s, now_s)} at {line.rows_per_s:,.0f} rows/s"
    return "when it is open" if line.state != "open" else "nothing went out of late"


def when(in_s: float, now_s: float) -> str:
    """`8 s`, `12 min`, and by the clock from an hour on: `00:00`, `Tue 03:10`."""
    if in_s < 120:
        return f"in {in_s:.0f} s"
    if in_s < 3600:
        return f"in {in_s / 60:.0f} min"
    form = "%H:%M" if in_s < 20 * 3600 else "%a %H:%M"
    return time.strftime(form, time.localtime(now_s + in_s))

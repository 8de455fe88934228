"""`syncline account`: the kill switch of a destination, and opening by hand."""

import time
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from audit.read import control_acts, latest
from schemas import topics
from schemas.codec import Codec
from schemas.control import Act, ActKind
from schemas.definitions import Connection
from schemas.follow import Definitions
from schemas.handover import Learned
from syncline import acts, cluster
from syncline.errors import Failed, Misused
from syncline.options import Why
from syncline.settings import Settings
from syncline.watching import Watch

app = typer.Typer(help="Accounts at platforms: list, close, open.", no_args_is_help=True)

WORKER_S = 1.5
"""A connectors worker that has rows of the account confirms within about half a second."""
Name = Annotated[str, typer.Argument(help="Connection, account, or PLATFORM/ACCOUNT.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait until it holds; 0: do not.")]


@app.command("list")
def list_(
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """All accounts, which are closed and by whom, which are halted and why."""
    with cluster.connected() as (settings, codec):
        known = _connections(settings, codec)
        shut = closed(settings, codec)
        halted = _halted(settings, codec)
    names: dict[str, list[str]] = {}
    for name, connection in sorted(known.items()):
        names.setdefault(_account(connection), []).append(name)
    rows = [
        {
            "account": account, "connections": ", ".join(of),
            "closed": _by(shut.get(account)), "halted": halted.get(account, ""),
        }
        for account, of in sorted(names.items())
    ]  # fmt: skip
    if json_:
        print(cluster.as_json(rows))
        return
    table = Table("account", "connections", "closed", "halted")
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


@app.command()
def close(account: Name, why: Why = "", wait: Wait = 10.0) -> None:
    """The kill switch: no request to the account begins any more, for whatever sync. What is to
    go there waits; nothing is dropped. It stays closed, over restarts too, until `open`."""
    _ask(ActKind.account_close, account, why, wait)


@app.command("open")
def open_(account: Name, why: Why = "", wait: Wait = 10.0) -> None:
    """Open what was closed by hand; and what was halted, without waiting for the next probe."""
    _ask(ActKind.account_open, account, why, wait)


def _ask(kind: ActKind, name: str, why: str, wait_s: float) -> None:
    with cluster.connected() as (settings, codec):
        account = _named(_connections(settings, codec), name)
        partitions = cluster.partitions(settings)
        with Watch(settings, codec) as watch:
            begun_s = time.monotonic()
            answers = watch.ask([acts.act(kind, account=account, why=why)])
            if not wait_s:
                print(f"{account}: asked for")
                return
            if not watch.until(lambda a: len(a.partitions) >= partitions, wait_s):
                raise Failed(
                    f"{account}: after {wait_s:g} s {len(answers.partitions)} of {partitions} "
                    "partitions have done it: is a streams worker running?"
                )
            took_s = time.monotonic() - begun_s
            watch.until(lambda a: bool(a.workers), WORKER_S)
            word = "closed" if kind is ActKind.account_close else "open"
            print(f"{account}: {word} in {took_s:.2f} s; {_at_worker(answers.workers)}")


def _at_worker(workers: dict[str, int]) -> str:
    if not workers:
        return "no connectors worker had to switch"
    under_way = sum(workers.values())
    return f"the worker has switched, {under_way} requests were under way and are finished"


def _connections(settings: Settings, codec: Codec) -> dict[str, Connection]:
    definitions = Definitions(settings.kafka_config(), codec)
    known = definitions.connections()
    definitions.close()
    return known


def _named(known: dict[str, Connection], name: str) -> str:
    """-> platform/account. Raises Failed where it is not known, Misused where it is not clear."""
    found = {
        _account(c) for n, c in known.items() if name in (n, c.account, _account(c))
    }  # fmt: skip
    if not found:
        raise Failed(f"there is no account {name}; `syncline account list` shows all")
    if len(found) > 1:
        raise Misused(f"{name} is not one account: say one of {', '.join(sorted(found))}")
    return found.pop()


def _account(connection: Connection) -> str:
    return f"{connection.platform}/{connection.account}"


def closed(settings: Settings, codec: Codec) -> dict[str, Act]:
    """Accounts that a person has closed and nobody has opened since."""
    last = {
        a.account: a
        for a in control_acts(settings.kafka_config(), codec)
        if a.kind in (ActKind.account_close, ActKind.account_open)
    }
    return {account: a for account, a in last.items() if a.kind is ActKind.account_close}


def _halted(settings: Settings, codec: Codec) -> dict[str, str]:
    """Accounts that the platform, or a mistake of ours, has closed, as the workers left word."""
    found: dict[str, str] = {}
    for key, learned in latest(settings.kafka_config(), codec, topics.HANDOVER, Learned).items():
        said: dict[str, Any] = msgspec.json.decode(learned.document)
        if why := said.get("halted"):
            found[f"{key.partition(':')[0]}/{learned.account}"] = why
    return found


def _by(act: Act | None) -> str:
    return f"by {act.who}" + (f": {act.why}" if act.why else "") if act else ""

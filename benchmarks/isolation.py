"""Does an account in trouble slow its neighbour down? `python -m benchmarks.isolation`.

One worker, one partition, four accounts: the one that is measured gets a live row ten times a
second. In turn nobody else has anything to do, or one of them has a backlog that cannot go out: it
refuses our token and is halted, answers 500 to everything, or takes five seconds for each answer.
Latency: from writing the command to the outcome. Rounds are interleaved; the ratio is the figure.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from schemas import topics
from schemas.control import ActKind
from syncline import acts
from tests.tiny_platform import Account
from tests.worker_world import World, alone, until

EVERY_S = 0.1
BACKLOG = 2_000
AWAY = 1_000_000_000
TROUBLES: dict[str, Callable[[Account], Any]] = {
    "halted": lambda account: setattr(account, "refuse_token", True),
    "failing": lambda account: setattr(account, "fail", AWAY),
    "slow": lambda account: setattr(account, "latency_s", 5.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="of each, interleaved")
    parser.add_argument("--rows", type=int, default=100, help="measured rows in a round")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    with alone() as world:
        figures = measure(world, options.rounds, options.rows)
    for name, told in figures.items():
        print(f"{name}: p50 {told['p50']:.0f} ms, p95 {told['p95']:.0f} ms, "
              f"most {told['most']:.0f} ms of {told['rows']} rows")  # fmt: skip
    for name in TROUBLES:
        print(f"p95 beside {name} ÷ alone: {figures[name]['p95'] / figures['alone']['p95']:.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(world: World, rounds: int, rows: int) -> dict[str, dict[str, float]]:
    for account in ("healthy", *TROUBLES):
        world.connect(account)
    world.start()
    found: dict[str, list[float]] = {name: [] for name in ("alone", *TROUBLES)}
    _one_by_one(world, 20, "warm")
    sent = 0
    for turn in range(rounds):
        found["alone"] += _one_by_one(world, rows, f"alone-{turn}")
        for account, trouble in TROUBLES.items():
            trouble(world.server.accounts[account])
            for _ in range(BACKLOG // 500):
                world.upload(account, world.rows(500, begin=sent), partition=0)
                sent += 500
            world.flush()
            found[account] += _one_by_one(world, rows, f"{account}-{turn}")
            _mend(world, account)
            until(partial(_ended, world, sent), 120, f"the backlog of {account}")
    return {
        name: {
            "p50": statistics.median(took),
            "p95": statistics.quantiles(took, n=20)[-1],
            "most": max(took),
            "rows": len(took),
        }
        for name, took in found.items()
    }


def _one_by_one(world: World, count: int, name: str) -> list[float]:
    """Milliseconds from each command to its outcome."""
    began_ms: dict[str, float] = {}
    for n in range(count):
        row = world.row(f"{name}-{n}")
        began_ms[row.row_id] = time.time() * 1000
        world.upload("healthy", [row], partition=0)
        world.flush()
        time.sleep(EVERY_S)  # the pace is the measure's, nothing is waited for
    done: dict[str, int] = {}

    def all_told() -> bool:
        done.update({o.row_id: o.at_ms for o in _healthy(world)})
        return began_ms.keys() <= done.keys()

    until(all_told, 60, f"outcomes of {name}")
    return [done[row_id] - began for row_id, began in began_ms.items()]


def _healthy(world: World) -> list[Any]:
    connection = f"{world.platform}-healthy"
    return [o for o in world.outcomes() if o.connection == connection]


def _ended(world: World, count: int) -> bool:
    """Whether so many rows of the others have a fate."""
    others = {o.row_id for o in world.outcomes() if o.connection != f"{world.platform}-healthy"}
    return len(others) >= count


def _mend(world: World, name: str) -> None:
    account = world.server.accounts[name]
    account.refuse_token, account.fail, account.latency_s = False, 0, 0.0
    if name == "halted":
        act = acts.act(ActKind.account_open, account=name)
        world.send(topics.CONTROL, name, act)
        world.flush()


if __name__ == "__main__":
    main()

"""How much of a quota does a worker use while work waits? `python -m benchmarks.quotas`.

A worker on real Kafka, a platform with HubSpot's 190 calls in any ten seconds that counts for
itself, and always more rows than may go. With such a backlog each token comes back one window after
it was spent; what is lost is the time until it is spent again. The best possible is the window ÷
(the window + the 99th percentile of the answers' time): a call under way may count later.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from schemas.commands import Priority
from tests.worker_world import World, alone, until

CALLS, WINDOW_S, ROWS = 190, 10.0, 50
AHEAD = 9_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--windows", type=int, default=6, help="windows' worth of rows")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds of each answer")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    with alone() as world:
        figures = measure(world, options.windows, options.latency)
    print(f"{figures['calls']} calls, {figures['most_in_window']} at most in any {WINDOW_S:g} s "
          f"of {CALLS} allowed")  # fmt: skip
    print(f"use {figures['use']:.1%}; best possible {figures['best']:.1%}; "
          f"{figures['use'] / figures['best']:.1%} of it, asked for 95 %")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(figures["most_in_window"] > CALLS)


def measure(world: World, windows: int, latency_s: float) -> dict[str, float]:
    world.limit(calls={"kind": "moving", "window_s": WINDOW_S, "limit": {"default": CALLS}})
    world.connect("acme")
    server = world.server.accounts["acme"]
    server.latency_s = latency_s
    sent = 0

    def enough() -> bool:
        """Rows are given as a run gives them: never more than the worker would keep."""
        nonlocal sent
        while sent < windows * CALLS * ROWS and sent - len(server.times) * ROWS < AHEAD:
            world.upload("acme", world.rows(500, begin=sent), priority=Priority.bulk)
            sent += 500
        world.flush()
        return len(server.times) >= windows * CALLS

    world.start()
    until(enough, windows * WINDOW_S + 60, "all calls")
    times = sorted(server.times)
    # The k-th call of a window to the k-th of the next: how long its token was out of use.
    cycles = [later - sooner for sooner, later in zip(times, times[CALLS:], strict=False)]
    return {
        "calls": len(times),
        "most_in_window": server.most_within(WINDOW_S),
        "use": WINDOW_S / statistics.fmean(cycles),
        "best": WINDOW_S / (WINDOW_S + latency_s),
        "latency_s": latency_s,
    }


if __name__ == "__main__":
    main()

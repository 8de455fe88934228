"""`python -m simulators`: the simulated platforms as a process.

Prints one line of JSON when all are ready, {"hubspot": "http://127.0.0.1:41001", …}, and serves
until SIGTERM or SIGINT. With `--state DIR` the contents and ledgers are written there at the end,
and read from there, instead of made from the seed, at the next start.
"""

import argparse
import asyncio
import gc
import json
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from simulators import (
    GA4,
    HubSpot,
    Mailchimp,
    Platform,
    Salesforce,
    Segment,
    declared,
    portal,
    state,
)
from simulators.declared import NAMES

PLATFORMS = ("hubspot", "salesforce", "mailchimp")
"""What `all` means; others begin empty, when asked for by name."""
OTHERS: dict[str, Callable[..., Platform]] = {
    "ga4": GA4,
    "segment": Segment,
}


def main() -> None:
    given = _arguments().parse_args()
    # The contents are many small objects that stay: look at each twice, never at all of them.
    gc.set_threshold(20_000, 5, 1_000_000)
    try:
        platforms = _make(given)
    except (ValueError, TypeError, OSError) as error:
        print(f"simulators: {error}", file=sys.stderr)
        sys.exit(2)
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(platforms, given.port, given.state, given.while_stdin_open))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulators", description=__doc__)
    add = parser.add_argument
    add(
        "--platform",
        action="append",
        choices=(*PLATFORMS, *OTHERS, *NAMES, "all"),
        help=f"repeat for several; all, which is the default: {', '.join(PLATFORMS)}",
    )
    add("--port", type=int, default=0, help="of the first platform, the next have the next; 0: any")
    add("--contacts", type=int, default=1_000, help="in the portal; 5 %% are in Salesforce too")
    add("--seed", type=int, default=0)
    add(
        "--while-stdin-open",
        action="store_true",
        help="end when standard input closes: so whoever started this leaves nothing behind",
    )
    add("--state", type=Path, help="directory for contents and ledgers between runs")
    add(
        "--faults", type=Path, help='JSON file {"hubspot": [fault, …], …}, see simulators/faults.py'
    )
    add(
        "--quota",
        action="append",
        default=[],
        metavar="PLATFORM.WINDOW=SETTING",
        help="hubspot.ten_seconds=190, =190/10 (limit/seconds) or =off; repeat for more",
    )
    add(
        "--option",
        action="append",
        default=[],
        metavar="PLATFORM.NAME=VALUE",
        help="of the platform's class: hubspot.token=…, hubspot.portal_id=1, mailchimp.list_id=…",
    )
    return parser


def _make(given: argparse.Namespace) -> list[Platform]:
    """Raises ValueError, naming what is wrong with the arguments."""
    wanted = PLATFORMS if (given.platform or ["all"]) == ["all"] else tuple(given.platform)
    faults = json.loads(given.faults.read_text()) if given.faults else {}
    quota, options = _settings(given.quota), _settings(given.option)
    n, seed = given.contacts, given.seed
    made: dict[str, Callable[..., Platform]] = {
        "hubspot": partial(HubSpot, partial(portal.contacts, n, seed)),
        "salesforce": partial(Salesforce, partial(portal.preloaded, n, seed)),
        "mailchimp": Mailchimp,
        **OTHERS,
        **{name: declared(name) for name in wanted if name in NAMES},
    }
    platforms = []
    for name in wanted:
        more: dict[str, Any] = {
            key: json.loads(value) if value[:1].isdigit() or value in ("true", "false") else value
            for key, value in options.get(name, {}).items()
        }
        platform = made[name](seed=seed, quota=quota.get(name), script=faults.get(name, ()), **more)
        if given.state is not None and state.kept(platform, given.state):
            state.load(platform, given.state)
        platforms.append(platform)
    return platforms


def _settings(pairs: list[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        platform, dot, key = name.partition(".")
        if not (equals and dot) or platform not in (*PLATFORMS, *OTHERS, *NAMES):
            raise ValueError(f"{pair!r} is not PLATFORM.NAME=VALUE")
        found.setdefault(platform, {})[key] = value
    return found


async def _serve(
    platforms: list[Platform], port: int, directory: Path | None, while_stdin_open: bool
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    if while_stdin_open:
        loop.add_reader(sys.stdin.fileno(), stopped.set)  # nothing is ever sent: it has closed
    async with AsyncExitStack() as serving:
        addresses = {
            platform.name: await serving.enter_async_context(platform.serve(port and port + place))
            for place, platform in enumerate(platforms)
        }
        print(json.dumps(addresses), flush=True)
        await stopped.wait()
    if directory is not None:
        for platform in platforms:
            state.save(platform, directory)


if __name__ == "__main__":
    main()

"""Run the list for one platform, and say what came of it."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from structlog.testing import capture_logs

from schemas.definitions import Connection
from syncline.certify.bench import Bench, NotHere
from syncline.certify.checks import CHECKS, Check
from syncline.certify.live import AS_THEY_ARE, CANNOT, LIVE, Live
from syncline.certify.places import PLACES, Place
from syncline.errors import Misused

__all__ = ["Line", "as_json", "certify", "certify_live", "page"]

CHECK_S = 300.0
"""The longest that a check may take; most are done in a tenth of a second."""
PAUSE_S = 1.0
"""Between the checks of a real account: no limiter stands in between."""
ERASED = "the platform took the order to erase all that was made"
Verdict = Literal["shown", "not here", "failed"]


@dataclass(frozen=True)
class Line:
    """What came of one check. `why`: the reason, unless it was shown."""

    group: str
    check: str
    shows: str
    verdict: Verdict
    why: str = ""


async def certify(name: str, checks: Sequence[Check] = ()) -> AsyncIterator[Line]:
    """A line a check, as each is done, against the simulated platform. Raises Misused for a
    platform without simulator."""
    place = _place(name)
    for check in checks or CHECKS:

        async def run(check: Check = check) -> None:
            async with Bench(name, place) as bench:
                await check.run(bench)

        yield await _line(place, check, run)


async def certify_live(
    name: str, connection: Connection, run: str, domain: str, pause_s: float = PAUSE_S
) -> AsyncIterator[Line]:
    """The same list against a real account, and last a line that says whether all that was made
    there is being erased. `run` names what is made; `domain` is of its addresses.
    Raises Misused."""
    async with Live(name, _place(name), connection, run, domain) as bench:
        for check in CHECKS:
            body = LIVE.get(check.name) or (check.run if check.name in AS_THEY_ARE else None)

            async def ask(body: Any = body) -> None:
                if body is None:
                    raise NotHere(CANNOT)
                await asyncio.sleep(pause_s)
                await body(bench)

            yield await _line(bench.place, check, ask)
        yield await _line(bench.place, Check("cleaning", ERASED, _erased), bench.erase)


async def _erased(_: Bench) -> None:
    """The name of the last line; what it does is `Live.erase`."""


def _place(name: str) -> Place:
    if not __debug__:
        raise Misused("certification needs assertions: run Python without -O")
    if name not in PLACES:
        raise Misused(f"no such platform: {name}; there are {', '.join(sorted(PLACES))}")
    return PLACES[name]


async def _line(place: Place, check: Check, run: Callable[[], Awaitable[Any]]) -> Line:
    def line(verdict: Verdict, why: str = "") -> Line:
        return Line(check.group, check.name, check.shows, verdict, why)

    if why := place.lacks.get(check.name):
        return line("not here", why)
    try:
        # What is provoked here is nobody's news.
        with capture_logs():
            async with asyncio.timeout(CHECK_S):
                await run()
    except NotHere as reason:
        return line("not here", str(reason))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong: it is not shown
        return line("failed", _words(error))
    return line("shown")


def _words(error: Exception) -> str:
    """What a failed check says, and where it stands."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/certify/" in f.filename]
    where = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    said = str(error) or (frames[-1].line if frames else "") or ""
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(said.split())[:200]} ({where})"


def as_json(name: str, lines: Iterable[Line]) -> dict[str, Any]:
    """The card as data."""
    told = [asdict(line) for line in lines]
    return {"platform": name, "passed": all(t["verdict"] != "failed" for t in told), "checks": told}


def page(cards: dict[str, list[Line]]) -> str:
    """`docs/platforms.md`: all platforms side by side, then the reasons of each."""
    names = list(cards)
    marks = {"shown": "✓", "not here": "–", "failed": "✗"}
    text = [HEAD, "| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for number, check in enumerate(CHECKS):
        told = " | ".join(marks[cards[name][number].verdict] for name in names)
        text.append(f"| {check.shows} | {told} |")
    for name in names:
        apart = [line for line in cards[name] if line.verdict != "shown"]
        shown = len(cards[name]) - len(apart)
        text += ["", f"## {name}", "", f"{shown} of {len(cards[name])} shown."]
        text += [""] if apart else []
        text += [f"- {marks[line.verdict]} {line.shows}: {line.why}" for line in apart]
    return "\n".join(text) + "\n"


HEAD = """# Platforms

<!-- Written by `syncline certify --all --write docs/platforms.md`: do not edit. -->

What each connector has been seen to do, against a simulated platform that misbehaves on request and
was written from the platform's own pages. ✓ shown, – not applicable (the reason stands below),
✗ failed. `syncline certify PLATFORM` runs the list; so does `pytest tests/conformance`.
"""

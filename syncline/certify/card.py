"""Run the list for one platform, and say what came of it."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from structlog.testing import capture_logs

from syncline.certify.bench import Bench, NotHere
from syncline.certify.checks import CHECKS, Check
from syncline.certify.places import PLACES
from syncline.errors import Misused

__all__ = ["Line", "as_json", "certify", "page", "table"]

CHECK_S = 300.0
"""The longest that a check may take; most are done in a tenth of a second."""
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
    if not __debug__:
        raise Misused("certification needs assertions: run Python without -O")
    if name not in PLACES:
        raise Misused(f"no simulated platform {name}; there are {', '.join(sorted(PLACES))}")
    for check in checks or CHECKS:
        yield await _line(name, check)


async def _line(name: str, check: Check) -> Line:
    place = PLACES[name]
    if why := place.lacks.get(check.name):
        return Line(check.group, check.name, check.shows, "not here", why)
    try:
        # What is provoked here is nobody's news.
        with capture_logs():
            async with asyncio.timeout(CHECK_S), Bench(name, place) as bench:
                await check.run(bench)
    except NotHere as reason:
        return Line(check.group, check.name, check.shows, "not here", str(reason))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong: it is not shown
        return Line(check.group, check.name, check.shows, "failed", _words(error))
    return Line(check.group, check.name, check.shows, "shown")


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


def table(lines: Sequence[Line]) -> str:
    """The card in Markdown, for one platform."""
    words = {"shown": "shown", "not here": "not applicable", "failed": "**failed**"}
    rows = ["| | |", "|---|---|"]
    for line in lines:
        why = f": {line.why}" if line.why else ""
        rows.append(f"| {line.shows} | {words[line.verdict]}{_cell(why)} |")
    return "\n".join(rows)


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


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


HEAD = """# Platforms

<!-- Written by `syncline certify --all --write docs/platforms.md`: do not edit. -->

What each connector has been seen to do, against a simulated platform that misbehaves on request and
was written from the platform's own pages. ✓ shown, – not applicable (the reason stands below),
✗ failed. `syncline certify PLATFORM` runs the list; so does `pytest tests/conformance`.
"""

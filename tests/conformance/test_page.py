"""`docs/platforms.md` is of the list and the platforms as they are now."""

from pathlib import Path

from syncline.certify import CHECKS
from syncline.certify.card import Line, page
from syncline.certify.places import PLACES

PAGE = Path(__file__).parents[2] / "docs" / "platforms.md"
STALE = "stale: syncline certify --all --write docs/platforms.md"


def test_it_has_every_check_and_every_platform() -> None:
    lines = PAGE.read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[0] == "| | " + " | ".join(sorted(PLACES)) + " |", STALE
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[1:]] == [
        check.shows for check in CHECKS
    ], STALE
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert headings == sorted(PLACES), STALE


def test_no_platform_fails() -> None:
    assert "✗ " not in PAGE.read_text().partition("|")[2], STALE


def test_a_page_says_what_was_shown_and_why_not() -> None:
    words = [("shown", ""), ("not here", "it cannot"), ("failed", "1 != 2 (x.py:3)")]
    lines = [
        Line(check.group, check.name, check.shows, verdict, why)  # type: ignore[arg-type]
        for check, (verdict, why) in zip(CHECKS, [*words, *[words[0]] * len(CHECKS)], strict=False)
    ]
    text = page({"acme": lines})
    assert f"| {CHECKS[0].shows} | ✓ |\n| {CHECKS[1].shows} | – |\n" in text
    assert f"{len(CHECKS) - 2} of {len(CHECKS)} shown." in text
    assert f"- – {CHECKS[1].shows}: it cannot" in text
    assert f"- ✗ {CHECKS[2].shows}: 1 != 2 (x.py:3)" in text

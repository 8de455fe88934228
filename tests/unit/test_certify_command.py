"""`syncline certify`: a score card for people and programs, and an exit code."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from syncline.certify import CHECKS, Check, card
from syncline.certify.bench import Bench, NotHere
from syncline.commands.certify import app
from syncline.errors import Failed, Misused


async def broken(bench: Bench) -> None:
    assert bench.name == "nobody", "the contract is broken"


async def absent(_: Bench) -> None:
    raise NotHere("it has no such thing")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """A list of three, of which nothing fails yet."""
    pure = next(check for check in CHECKS if check.name == "mapping_is_pure")
    checks = [pure, Check("writing", "something else", absent)]
    monkeypatch.setattr(card, "CHECKS", checks)
    return checks


def run(*args: str) -> str:
    done = CliRunner().invoke(app, list(args))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_each_line_is_shown_or_says_why_not(short: list[Check]) -> None:
    told = run("klaviyo")
    assert f"shown   {short[0].shows}\n" in told
    assert "n/a     something else: it has no such thing\n" in told
    assert "1 shown, 1 not applicable, 0 failed" in told


def test_a_failure_is_told_with_its_place_and_by_the_exit_code(short: list[Check]) -> None:
    short.append(Check("writing", "the contract", broken))
    with pytest.raises(Failed, match="1 failed") as caught:
        run("klaviyo", "--json")
    assert caught.value.exit_code == 1
    done = CliRunner().invoke(app, ["klaviyo", "--json"])
    (told,) = json.loads(done.output)
    assert (told["platform"], told["passed"]) == ("klaviyo", False)
    assert [line["verdict"] for line in told["checks"]] == ["shown", "not here", "failed"]
    assert told["checks"][2]["why"].startswith("the contract is broken")


def test_wrong_use_is_told(tmp_path: Path) -> None:
    for args, words in (
        ((), "which platform"),
        (("nobody",), "no such platform: nobody; there are activecampaign"),
        (("klaviyo", "--write", "x.md"), "--write needs --all"),
    ):
        with pytest.raises(Misused, match=words):
            run(*args)
    path = tmp_path / "here.yaml"
    path.write_text("connection: here\nplatform: klaviyo\naccount: a\n")
    with pytest.raises(Misused, match="is a connection to klaviyo"):
        run("braze", "--live", str(path))
    with pytest.raises(Misused, match="secret 'api_key' is not given"):
        run("--live", str(path))
    path.write_text("connection: here\nplatfrm: klaviyo\naccount: a\n")
    with pytest.raises(Misused, match=r"here\.yaml:2: platfrm: is not known"):
        run("--live", str(path))

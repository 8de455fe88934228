"""`syncline connector`: a skeleton that is right from the beginning, and checks with words."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from connectors.declared import declared, load
from ratelimits.registry import Registry
from syncline.commands.connector import app, schema
from syncline.errors import Misused


def _run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, Misused):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, ...]:
    return ("--folder", str(tmp_path / "p"), "--quotas-folder", str(tmp_path / "q"))


def test_a_new_description_is_commented_and_right(folders: tuple[str, ...], tmp_path: Path) -> None:
    code, told = _run("new", "acme_mail", *folders)
    assert code == 0
    assert "syncline connector check acme_mail" in told
    path = tmp_path / "p" / "acme_mail.yaml"
    text = path.read_text()
    assert "NAME, contacts" not in text
    assert "TODAY" not in text
    assert text.count("#") > 30
    made = declared(load(path))
    assert made.spec.platform == "acme_mail"
    assert made.spec.fetchable == {"contact"}
    Registry.model_validate_json((tmp_path / "q" / "acme_mail.json").read_bytes())
    lines = text.count("\n")
    right = f"acme_mail: right, {lines} lines: contact\n"
    assert _run("check", "acme_mail", *folders) == (0, right)


def test_nothing_that_exists_is_touched(folders: tuple[str, ...], tmp_path: Path) -> None:
    _run("new", "acme", *folders)
    path = tmp_path / "p" / "acme.yaml"
    path.write_text("mine")
    for name in ("acme", "klaviyo", "hubspot"):
        with pytest.raises(Misused, match=f"{name} exists already"):
            _run("new", name, *folders)
    assert path.read_text() == "mine"
    for name in ("Acme", "../x", "a-b", "1a"):
        with pytest.raises(Misused, match="small letters"):
            _run("new", name, *folders)


def test_mistakes_are_told_with_their_line(folders: tuple[str, ...], tmp_path: Path) -> None:
    _run("new", "acme", *folders)
    path = tmp_path / "p" / "acme.yaml"
    path.write_text(path.read_text().replace("write_quota: write", "write_quota: wrte"))
    code, told = _run("check", *folders)
    assert code == 2
    lines = path.read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "wrte" in text)
    what = "no group wrte of quotas; there are read, write"
    assert told == f"{path}:{line}: objects.contact.write_quota: {what}\n"
    code, told = _run("check", str(path), "--json", *folders)
    assert code == 2
    assert json.loads(told)[0]["file"] == str(path)
    with pytest.raises(Misused, match="no such description"):
        _run("check", "nobody", *folders)


def test_those_that_come_with_it_are_right_and_their_schema_is_printed() -> None:
    code, told = _run("check", "klaviyo", "marketo")
    assert code == 0
    assert told.count(": right, ") == 2
    assert _run("schema") == (0, schema())

"""Configuration files: plain data, and every mistake with its line and without its value."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from schemas.yamlfile import ConfigInvalid, load_yaml, read_yaml


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    size: int
    names: list[str] = []


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    parts: dict[str, Inner] = {}


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(tmp_path: Path, text: str | bytes, model: type[BaseModel] = Model) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load_yaml(written(tmp_path, text), model)
    return [p.removeprefix(f"{tmp_path}/") for p in caught.value.problems]


def test_plain_data_as_people_mean_it(tmp_path: Path) -> None:
    text = (
        "a: 1\nb: [2.5, true, yes, no, null, ~, 0x1F, 1e3, '1']\nc: 2026-01-31T10:00:00Z\n"
        "d: 2026-01-31\n1: x\ntrue: y\ne: |\n  two\n  lines\n"
    )
    data, lines = read_yaml(written(tmp_path, text))
    assert data == {
        "a": 1, "b": [2.5, True, "yes", "no", None, None, 31, 1000.0, "1"],
        "c": "2026-01-31T10:00:00Z", "d": "2026-01-31", "1": "x", "true": "y", "e": "two\nlines\n",
    }  # fmt: skip
    assert [lines.of(w) for w in [("a",), ("b", 3), ("e",), ("e", "x"), ("none",), ()]] == [
        1, 2, 7, 7, 1, 1,
    ]  # fmt: skip


def test_mistakes_name_their_line(tmp_path: Path) -> None:
    text = (
        "nme: x\nparts:\n  one:\n    size: '5'\n  two:\n    size: 1\n    names:\n    - a\n    - 2\n"
    )
    assert refused(tmp_path, text) == [
        "a.yaml:1: name: is missing",
        "a.yaml:4: parts.one.size: Input should be a valid integer",
        "a.yaml:9: parts.two.names.1: Input should be a valid string",
        "a.yaml:1: nme: is not known here; look for a spelling mistake",
    ]


def test_what_is_missing_is_told_where_the_document_begins(tmp_path: Path) -> None:
    assert refused(tmp_path, "# one\n# two\nparts: {}\n") == ["a.yaml:3: name: is missing"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2", "2: a is written twice"),
        ("a: [1", "1: "),
        ("a:\n - b\n c: 1", "3: "),
        ("a: 1\n---\nb: 2", "2: expected a single document"),
        ("a: &x 1\nb: *x", "this is used twice"),
        ("a: &x [*x]", "this is used twice"),
        ("a: !thing 1", "1: tags (!) are not known here"),
        ("a: !!int foo", "1: is no number"),
        ("? [a]\n: 1", "1: a key must be plain text"),
        ("a: 1\nb: \x00", "2: is no YAML: an unusual character"),
        (b"a: 1\nb: \xff", "2: is not UTF-8 text"),
        ("a: " + "[" * 50 + "]" * 50, "1: is nested too deeply"),
        ("a: " + "[" * 100_000, "1: is nested too deeply"),
        ("a: " + "9" * 5_000, "1: is no number"),
        ("", "Input should be a valid dictionary"),
        ("a: " + "x" * (4 * 1024 * 1024), "1: is larger than"),
    ],
)
def test_what_is_no_yaml_of_ours(tmp_path: Path, text: str | bytes, says: str) -> None:
    found = refused(tmp_path, text)
    assert any(says in line for line in found), found
    assert all(line.startswith("a.yaml:") for line in found)


def test_an_alias_bomb_costs_nothing(tmp_path: Path) -> None:
    levels = "\n".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "this is used twice" in refused(tmp_path, f"a: &a [x]\n{levels}")[0]


def test_a_value_is_never_told(tmp_path: Path) -> None:
    found = refused(tmp_path, "name: [SECRET]\nparts: {a: {size: SECRET, names: SECRET}}")
    assert len(found) == 3
    assert "SECRET" not in "".join(found)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80) | st.text("ab:-[]{}&*!|>'\"#\n \t?,%@1", max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: Any, text: str | bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    problems: tuple[str, ...] = ()
    try:
        read_yaml(path)
    except ConfigInvalid as error:
        problems = error.problems
    assert all(p.startswith(f"{path}:") for p in problems)

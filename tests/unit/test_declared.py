"""Descriptions of platforms: whole, short, completed by editors; mistakes have their line."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connectors import registry
from connectors.base import Row
from connectors.declared import Declared, declared, load
from connectors.declared_forms import MISSING, as_text, compiled, holds, look, names_of, place
from connectors.declared_structure import LINES_MAX, structural
from ratelimits.registry import FOLDER
from schemas.yamlfile import ConfigInvalid, read_yaml
from syncline.commands.connector import problems as all_problems
from syncline.commands.connector import schema
from syncline.config import load_folder

NAMES = sorted(path.stem for path in registry.DESCRIPTIONS.glob("*.yaml"))
GOOD = (registry.DESCRIPTIONS / "klaviyo.yaml").read_text()


def test_the_eight_are_described() -> None:
    eight = "activecampaign braze customerio intercom iterable klaviyo marketo pipedrive"
    assert set(eight.split()) <= set(NAMES)
    for name in NAMES:
        assert issubclass(registry.connector_class(name), Declared)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_whole_and_short(name: str) -> None:
    path = registry.DESCRIPTIONS / f"{name}.yaml"
    assert all_problems(path, FOLDER / f"{name}.json") == []
    assert len(path.read_text().splitlines()) <= LINES_MAX == 200


def test_the_guide_tells_how_long_each_is() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "add-a-platform.md").read_text()
    told = {name: int(n) for name, n in re.findall(r"^\| `(\w+)` \| (\d+) \|", guide, re.M)}
    assert told == {
        name: len((registry.DESCRIPTIONS / f"{name}.yaml").read_text().splitlines())
        for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_is_what_the_schema_for_editors_says(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    path = registry.DESCRIPTIONS / f"{name}.yaml"
    kept = (registry.DESCRIPTIONS / "description.schema.json").read_text()
    assert kept == schema(), (
        "stale: syncline connector schema > connectors/platforms/description.schema.json"
    )
    assert path.read_text().startswith("# yaml-language-server: $schema=./description.schema.json")
    jsonschema.validate(read_yaml(path)[0], json.loads(kept))


# --- mistakes ------------------------------------------------------------------------------------


def _problems(tmp_path: Path, text: str) -> tuple[str, ...]:
    path = tmp_path / "klaviyo.yaml"
    path.write_text(text)
    with pytest.raises(ConfigInvalid) as caught:
        load(path)
    return caught.value.problems


def _line(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("probe: {path", "prob: {path", "is not known here"),
        ("is: throttled", "is: slow", "Input should be"),
        ("id: $object_id", "id: $objct_id", "objct_id is not known here; known are"),
        ("id: $object_id", "id: $object id", "is no path"),
        ("{api_key}", "{api_kye}", "api_kye is not known here"),
        ("key_field: external_id", "key_field: external", "is not among the fields"),
        ("rows_max: 1 #", "rows_max: 0 #", "greater than or equal to 1"),
        ("kind: state", "kind: sate", "Input should be"),
        ("body: {data: $row}", "body: {data: 1}\n        rows_max: 7", "is 1, or left out"),
        ('path: "/api/profiles/{id}"', 'path: "api/profiles"', "should match pattern"),
        ("unique_id: $row_id", "unique_id: $person", "idempotency key"),
        ("is: exists, id: errors.0.meta.duplicate_profile_id", "is: exists", "exists needs"),
        ("is: halted", "is: renew", "needs `auth.login`"),
        ("verdicts: [{is: written, each: data, id: id}]", "count: data", "no row could ever be"),
        ('cursor: {next: links.next, parameter: "page[cursor]"}\n    ids', "\n    ids", "`cursor`"),
        ("revision: \"2025", "revision: \"{option.rev} 2025", "there is no such option"),
        ("base_url: https://a.", "base_url: https://{a}.", "{a} is no option"),
        ("base_url: https", "base_url: http", "should match pattern"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_file_and_line(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    assert before in GOOD
    problems = _problems(tmp_path, GOOD.replace(before, after, 1))
    (told,) = [p for p in problems if words in p][:1]
    path, line, _ = told.split(":", 2)
    assert path == str(tmp_path / "klaviyo.yaml")
    at = _line(GOOD, before.splitlines()[0])
    assert -1 <= at - int(line) <= 6, told  # its own line, or of what holds it


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "options.cluster: stands in base_url: it needs a pattern"),
        (", pattern: '('", "options.cluster.pattern: is no regular expression"),
        (", pattern: '(?=x)y'", "options.cluster.pattern: is no regular expression"),
    ],
)
def test_an_option_cannot_lead_a_key_astray(tmp_path: Path, pattern: str, words: str) -> None:
    text = (registry.DESCRIPTIONS / "braze.yaml").read_text()
    before = r""", pattern: '^[a-z]+-\d+$'"""
    assert before in text
    assert words in _problems(tmp_path, text.replace(before, pattern))[0]


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("kind: state", "kind: sate").replace("kind: fact", "kind: fat")
    assert len(_problems(tmp_path, text)) == 2


def test_what_is_wrong_with_quotas_is_told(tmp_path: Path) -> None:
    path, quotas = registry.DESCRIPTIONS / "klaviyo.yaml", tmp_path / "klaviyo.json"
    good = json.loads((FOLDER / "klaviyo.json").read_text())
    assert "cannot be read" in structural(path, quotas)[0]
    for change, words in (
        (lambda d: d["groups"].pop("event"), "no group event of quotas"),
        (lambda d: d["groups"].pop("event"), "windows.xl_second: no group spends it"),
        (lambda d: d.update(platform="other"), "platform: is other"),
        (lambda d: d["windows"]["l_second"].pop("source"), "source: Field required"),
    ):
        bad = json.loads(json.dumps(good))
        change(bad)
        quotas.write_text(json.dumps(bad))
        assert any(words in problem for problem in structural(path, quotas)), words
    long = tmp_path / "klaviyo.yaml"
    long.write_text(GOOD + "\n# x" * 200)
    assert any("at most 200" in p for p in structural(long, FOLDER / "klaviyo.json"))
    renamed = tmp_path / "other.yaml"
    renamed.write_text(GOOD)
    assert any("is called other" in p for p in structural(renamed, FOLDER / "klaviyo.json"))


def test_a_worker_says_what_is_wrong_in_a_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.yaml").write_text("platform: broken\n")
    monkeypatch.setitem(registry.CONNECTORS, "broken", tmp_path / "broken.yaml")
    with pytest.raises(registry.Misconfigured, match=r"broken\.yaml:1: api: is missing"):
        registry.connector_class("broken")


# --- paths and templates -------------------------------------------------------------------------

KNOWN: dict[str, Any] = {"a": {"b": 1, "none": None, "list": ["x", "y"]}, "t": "ü/&", "yes": True}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b", 1), ("a.list.1", "y"), ("a.list.2", MISSING), ("a.none", None),
        ("a.none.x", MISSING), ("t.0", MISSING), (".", KNOWN), ("b", MISSING),
    ],
)  # fmt: skip
def test_a_path_leads_to_a_value_or_nowhere(path: str, found: Any) -> None:
    assert look(KNOWN, path) is found or look(KNOWN, path) == found


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("$a.b", 1),
        ("$a.none", None),
        ("$nobody | $a.b", 1),
        ("$nobody", MISSING),
        ({"x": "$nobody", "y": "$a.none", "z": 5}, {"y": None, "z": 5}),
        (["$nobody", "$a.b", "text"], [1, "text"]),
        ({"+": "$a", "b": 2}, {"b": 2, "none": None, "list": ["x", "y"]}),
        ({"+": "$nobody", "c": 1}, {"c": 1}),
        ("{a.list} {yes} {nobody}!", "x,y true !"),
        ("{a.list:json}", '["x","y"]'),
        ("no holes { here }", "no holes { here }"),
    ],
)
def test_a_template_is_filled(template: Any, filled: Any) -> None:
    assert compiled(template)(KNOWN) == filled


def test_holes_of_a_path_are_encoded() -> None:
    assert compiled("/x/{t}", path=True)(KNOWN) == "/x/%C3%BC%2F%26"


def test_a_template_names_what_it_looks_at() -> None:
    assert names_of({"a": ["$x.y | $z", "{q} and {r:json}"], "b": 1}) == ["x.y", "z", "q", "r"]
    with pytest.raises(ValueError, match="is no path"):
        names_of("$1.50")


def test_a_value_is_put_in_its_place() -> None:
    out: dict[str, Any] = {"a": 1}
    place(out, ("a", "b", "c"), 2)
    place(out, ("a", "d"), 3)
    assert out == {"a": {"b": {"c": 2}, "d": 3}}


def test_conditions_compare_as_text_and_null_means_nothing() -> None:
    said = {"code": "606", "ok": True, "gone": None}
    assert holds(said, {"code": 606, "ok": True})
    assert holds(said, {"code": [1, "606"]})
    assert not holds(said, {"code": 607})
    assert holds(said, {"gone": None, "nowhere": None})
    assert not holds(said, {"nowhere": "x"})
    assert not holds("<html>", {"ok": True})


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (MISSING, ""), (False, "false"), ([1, True], "1,true"), (5, "5")],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert as_text(value) == text


def test_options_are_checked_like_any_connectors() -> None:
    config = registry.connector_class("braze").spec.config
    assert config(cluster="fra-01").model_dump() == {"cluster": "fra-01"}
    for wrong in ({}, {"cluster": "fra/../x"}, {"cluster": "fra-01", "more": 1}):
        with pytest.raises(ValueError):
            config.model_validate(wrong)


Changed = Callable[[str, str, str], type[Declared]]


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """A description with a part of its text replaced."""

    def make(name: str, before: str, after: str) -> type[Declared]:
        text = (registry.DESCRIPTIONS / f"{name}.yaml").read_text()
        assert before in text
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.replace(before, after))
        return declared(load(path))

    return make


def test_rows_of_different_ways_and_single_ones_do_not_share_a_request(changed: Changed) -> None:
    row = "        row: {id: $object_id, +: $fields}\n"
    single = changed("marketo", row, f"{row}        rows_max: 1\n")
    together = single.spec.objects["lead"].together
    new, other = Row("1", "p1", "", {}), Row("2", "p2", "", {})
    known, another = Row("3", "p3", "77", {}), Row("4", "p4", "78", {})
    assert together(new) == together(other)
    assert len({together(new), together(known), together(another)}) == 3


# --- the page ------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-platform.md").read_text()


def test_the_page_was_followed_literally() -> None:
    """Every piece of YAML on it stands in Customer.io's description, and they lead to the whole."""
    text = (registry.DESCRIPTIONS / "customerio.yaml").read_text()
    pieces = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    pieces = [p for p in pieces if not p.startswith("webhook:")]  # not in Customer.io's
    assert len(pieces) >= 5
    for piece in pieces:
        assert piece in text, piece
    shown = {line for piece in pieces for line in piece.splitlines()}
    lacking = [n for n in text[: text.index("  event:")].splitlines() if n and n not in shown]
    assert len(lacking) <= 20, lacking  # head, fields and the rules of the error table


def test_the_page_states_the_lines_of_each() -> None:
    stated = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE, re.MULTILINE))
    counted = {
        name: str(len((registry.DESCRIPTIONS / f"{name}.yaml").read_text().splitlines()))
        for name in NAMES
    }
    assert stated == counted


# --- in a configuration --------------------------------------------------------------------------

FOLDER_OF = {
    "connections/hubspot.yaml": "connection: hubspot\nplatform: hubspot\naccount: '1'\n"
    "secrets: {token: env:HUBSPOT_TOKEN}\n",
    "connections/marketo.yaml": "connection: marketo\nplatform: marketo\naccount: m\n"
    "options: {munchkin: 123-ABC-456}\n"
    "secrets: {client_id: env:M_ID, client_secret: env:M_SECRET}\n",
    "syncs/leads.yaml": "sync: leads\nsource: hubspot\nsource_object: contact\n"
    "destination: marketo\ndestination_object: lead\nmapping: leads\nmatch: email\n",
    "mappings/leads.yaml": "mapping: leads\nversion: 1\n"
    "from: {platform: hubspot, object: contact}\nto: {platform: marketo, object: lead}\n"
    "sentence: Contacts become leads.\nfields: {email: record.email}\n",
}


def _folder(folder: Path, **changed: tuple[str, str]) -> Path:
    for name, text in FOLDER_OF.items():
        for before, after in changed.values():
            text = text.replace(before, after)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_configuration_takes_it_like_any_other_platform(tmp_path: Path) -> None:
    found = load_folder(_folder(tmp_path))
    assert found.connections["marketo"].options == {"munchkin": "123-ABC-456"}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("munchkin: 123", "munchkn: 123", "munchkin: is missing"),
        ("munchkin: 123-ABC-456", "munchkin: x/y", "should match pattern"),
        ("client_secret: env:M_SECRET", "other: env:X", "client_secret is missing"),
        ("destination_object: lead", "destination_object: person", "marketo has lead"),
        ("\nmatch: email", "", "match: is missing"),
    ],
)
def test_its_mistakes_are_told_like_any_others(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_folder(_folder(tmp_path, change=(before, after)))
    assert any(words in problem for problem in caught.value.problems), caught.value.problems

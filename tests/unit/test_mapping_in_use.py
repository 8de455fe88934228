"""A mapping meets its destination's field list: at `apply`, in `map try`, and in streams."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mappings.document import MappingDocument
from schemas.definitions import Definition
from schemas.events import EventKind, Origin, PlatformEvent
from streams.definitions import compiled
from streams.steps.catalog import MappingDoc, Shaped
from syncline.commands.apply import misfits
from syncline.config import load_folder

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "hubspot-to-salesforce-and-mailchimp"
LEAD = EXAMPLE / "mappings" / "hubspot_contact_to_salesforce_lead.yaml"


def mapping(fields: Mapping[str, str]) -> str:
    given = {
        "mapping": "m", "version": 1, "from": {"platform": "p", "object": "o"},
        "to": {"platform": "q", "object": "r"}, "fields": fields,
    }  # fmt: skip
    return MappingDocument.model_validate(given).model_dump_json(by_alias=True)


def fields(**said: dict[str, Any]) -> str:
    rows = [{"name": name, **field} for name, field in said.items()]
    return json.dumps({"platform": "q", "object": "r", "fields": rows})


def shaped(document: MappingDoc | None, **values: Any) -> Shaped:
    assert document is not None
    event = PlatformEvent(
        event_id="e", connection="c", platform="p", object_type="o", object_id="1",
        kind=EventKind.updated, origin=Origin.webhook, occurred_ms=0, received_ms=0, values=b"{}",
        payload=b"",
    )  # fmt: skip
    return document.shape(values, event, "person")


def test_a_field_that_the_destination_needs_parks_a_record_that_has_none() -> None:
    text = mapping({"LastName": "record.name"})
    needed = compiled(text, fields(LastName={"required": True}))
    [error] = shaped(needed, name=None).errors
    assert (error.stage, error.field) == ("map", "LastName")
    assert shaped(compiled(text, fields(LastName={})), name=None).errors == ()


def test_a_destination_that_lost_a_field_parks_the_row_with_its_name_and_is_logged() -> None:
    """Applied when it fitted; the list changed since. Nothing is dropped, nothing is guessed."""
    with capture_logs() as told:
        document = compiled(mapping({"a": "record.x", "b": "record.x"}), fields(a={}))
    assert [line["event"] for line in told] == ["mapping does not fit its destination"]
    [error] = shaped(document, x="1").errors
    assert (error.stage, error.field, error.code) == ("validate", "b", "unknown_field")


def test_what_does_not_compile_is_no_mapping() -> None:
    with capture_logs() as told:
        assert compiled(mapping({"a": "nosuch(record.x)"}), "") is None
        assert compiled(mapping({"a": "nosuch(record.x)"}), fields(a={})) is None
    assert {line["log_level"] for line in told} == {"error"}


class There:
    """Definitions of a cluster, as far as field lists go."""

    def __init__(self, **lists: str) -> None:
        self._lists = lists

    def active(self, kind: str) -> dict[str, Definition]:
        assert kind == "fields"
        common = {"kind": "fields", "version": 1, "applied_ms": 0}
        return {
            name.replace("_", ":", 1): Definition(name=name, document=text, **common)
            for name, text in self._lists.items()
        }


@pytest.mark.parametrize("names", [["Email"], []])
def test_apply_asks_the_field_lists_that_the_cluster_has(names: list[str]) -> None:
    wanted = load_folder(EXAMPLE)
    there = There(salesforce_Lead=fields(**{name: {} for name in names}))
    found = misfits(wanted, there)  # type: ignore[arg-type]
    lines = LEAD.read_text().splitlines()
    at = next(n for n, line in enumerate(lines, 1) if line.startswith("  City:"))
    title = "hubspot_contact_to_salesforce_lead@1"
    assert f"{LEAD}:{at}: {title}: City: r has no such field" in found
    assert any(": Email: " in problem for problem in found) == (not names)
    assert misfits(wanted, There()) == []  # type: ignore[arg-type]


def test_try_refuses_a_mapping_that_the_destination_cannot_take(tmp_path: Path) -> None:
    listed = tmp_path / "lead.yaml"
    listed.write_text("platform: salesforce\nobject: Lead\nfields:\n- {name: Email}\n")
    done = subprocess.run(
        [sys.executable, "-m", "syncline", "map", "try", str(LEAD), "--record", "{}",
         "--destination", str(listed)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{LEAD}:12: FirstName: Lead has no such field" in done.stderr

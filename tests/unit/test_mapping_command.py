"""`syncline map`, as a shell sees it: what is right, what is wrong where, what a record becomes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAD = next((ROOT / "examples").glob("*/mappings/hubspot_contact_to_salesforce_lead.yaml"))
BAD = """\
mapping: bad
version: 1
from: {platform: hubspot, object: contact}
to: {platform: salesforce, object: Lead}
fields:
  Email: lowr(record.email)
  Name:
    value: >-
      record.a +
      1 + "x"
examples: []
"""


def syncline(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "syncline", "map", *arguments]
    return subprocess.run(
        command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=60, check=False
    )


def test_check_says_that_a_document_is_right() -> None:
    done = syncline("check", str(LEAD))
    assert (done.returncode, done.stderr) == (0, "")
    assert "hubspot_contact_to_salesforce_lead@1#" in done.stdout
    assert "is right, 4 examples pass" in done.stdout


def test_check_points_at_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    done = syncline("check", str(path), str(LEAD))
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        f"{path}:6: Email, column 1: there is no function lowr; did you mean lower?",
        "    lowr(record.email)",
        "    ^",
    ]
    assert lines[3].startswith(f"{path}:7: Name, column 14: + cannot be used on a whole number an")
    assert "is right" in lines[-1]


def test_check_names_the_line_of_a_mistake_in_form(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD.replace("version: 1", "verison: 1"))
    done = syncline("check", str(path))
    assert done.returncode == 2
    assert f"{path}:2: verison: is not known here" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_check_takes_field_lists(tmp_path: Path) -> None:
    listed = tmp_path / "lead.yaml"
    listed.write_text(
        "platform: salesforce\nobject: Lead\nfields:\n"
        "- {name: Email, type: email}\n- {name: Company, type: text, length: 5}\n"
    )
    done = syncline("check", "--destination", str(listed), "--json", str(LEAD))
    assert done.returncode == 2
    [report] = json.loads(done.stdout)
    assert {p["field"] for p in report["problems"]} >= {"FirstName", "LastName", "Company"}


@pytest.mark.parametrize("by", ["option", "file", "stdin"])
def test_try_maps_one_record(tmp_path: Path, by: str) -> None:
    record = json.dumps({"email": " A@B.co", "lastname": "Ng", "company": "ACME"})
    (tmp_path / "r.json").write_text(record)
    option = {"option": record, "file": f"@{tmp_path}/r.json", "stdin": "-"}[by]
    done = syncline("try", str(LEAD), "--record", option, "--json", given=record)
    assert done.returncode == 0
    assert json.loads(done.stdout)["row"] == {
        "Email": "a@b.co", "LastName": "Ng", "Company": "ACME", "LeadSource": "Marketing Site",
    }  # fmt: skip


def test_try_says_what_parks_or_filters_a_record() -> None:
    done = syncline("try", str(LEAD), "--record", '{"email": 5}')
    assert done.returncode == 1
    assert "parked: Email, column 1: email_normalise needs text, not a whole number" in done.stdout
    done = syncline("try", str(LEAD), "--record", "{}")
    assert (done.returncode, "filtered" in done.stdout) == (0, True)


@pytest.mark.parametrize("record", ["{", "[]", "@/nowhere.json", "[" * 100_000])
def test_try_refuses_what_is_no_record(record: str) -> None:
    done = syncline("try", str(LEAD), "--record", record)
    assert done.returncode == 2
    assert done.stderr.startswith("--record: ")
    assert "Traceback" not in done.stderr


def test_functions_are_listed() -> None:
    assert "phone_e164(number, country)" in syncline("functions").stdout

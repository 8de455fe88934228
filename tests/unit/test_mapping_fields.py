"""Rows against a field list: every misfit has a code and words, and no value is in them."""

from typing import Any

import pytest

from mappings.fields import DestinationField, FieldList, check_row

FIELDS = FieldList(
    platform="p",
    object="o",
    fields=[
        DestinationField(name="name", type="text", length=5, required=True, nullable=False),
        DestinationField(name="size", type="integer"),
        DestinationField(name="score", type="number"),
        DestinationField(name="ok", type="boolean", nullable=False),
        DestinationField(name="rating", type="text", picklist=["Hot", "Cold"]),
        DestinationField(name="tags", type="list", picklist=["a", "b"]),
        DestinationField(name="account", type="reference"),
        DestinationField(name="made", type="datetime", writable=False),
        DestinationField(name="free"),
    ],
)
KNOWN = FIELDS.by_name()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "12345"},
        {"name": "日本日本日", "size": 1, "score": 1, "ok": False, "rating": "Hot", "tags": ["a"]},
        {"name": "x", "score": 1.5, "size": None, "rating": None, "account": "001"},
        {"name": "x", "account": {"ref": "Account", "by": "Name", "value": "ACME"}},
        {"name": "x", "free": [1, 2]},
    ],
)
def test_what_fits(fields: dict[str, Any]) -> None:
    assert check_row(fields, KNOWN) == []


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"nam": "x", "name": "x"}, "nam", "unknown_field"),
        ({"name": "x", "made": "2026"}, "made", "read_only"),
        ({}, "name", "required"),
        ({"name": None}, "name", "required"),
        ({"name": ""}, "name", "required"),
        ({"name": "x", "ok": None}, "ok", "not_nullable"),
        ({"name": "SECRET"}, "name", "too_long"),
        ({"name": 5}, "name", "wrong_type"),
        ({"name": "x", "size": True}, "size", "wrong_type"),
        ({"name": "x", "size": 1.0}, "size", "wrong_type"),
        ({"name": "x", "size": "1"}, "size", "wrong_type"),
        ({"name": "x", "score": True}, "score", "wrong_type"),
        ({"name": "x", "ok": 1}, "ok", "wrong_type"),
        ({"name": "x", "rating": "SECRET"}, "rating", "not_in_picklist"),
        ({"name": "x", "tags": ["a", "SECRET"]}, "tags", "not_in_picklist"),
        ({"name": "x", "tags": "a"}, "tags", "wrong_type"),
    ],
)
def test_what_does_not(fields: dict[str, Any], field: str, code: str) -> None:
    [problem] = check_row(fields, KNOWN)
    assert (problem.field, problem.code) == (field, code)
    assert problem.message
    assert "SECRET" not in problem.message


def test_an_object_that_is_there_may_be_changed_in_part() -> None:
    assert check_row({"size": 1}, KNOWN, creating=False) == []
    [problem] = check_row({"name": None}, KNOWN, creating=False)
    assert problem.code == "required"


def test_a_field_list_travels_as_json() -> None:
    assert FieldList.model_validate_json(FIELDS.model_dump_json()) == FIELDS

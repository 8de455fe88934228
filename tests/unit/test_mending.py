"""What is stuck is mended by cause: groups, rules, and a try in which nothing is sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.causes import cause_of, causes, pattern
from schemas.parked import ParkedRecord, Stage
from syncline.errors import Misused
from syncline.mending import TARGETS_MAX, Mend, grouped, parse, tried
from tests.simulation.definitions import catalog
from tests.unit.steps_kit import ANN


def parked(number: int = 1, **more: Any) -> ParkedRecord:
    told = {
        "parked_id": f"leads:p{number}", "stage": Stage.upload, "sync": "leads",
        "person": f"p{number}", "row_id": f"r{number}", "code": "BAD", "field": "Phone",
        "first_ms": number, "source": ANN, "fields": {"Email": "ann@x.io", "Phone": "1"}, **more,
    }  # fmt: skip
    for name in ("source", "fields"):
        told[name] = json.dumps(told[name]).encode()
    return ParkedRecord(**told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("ann@x.io", "a@a.a"), ("  Änn  Lee", "_a_a"), ("+49 (30) 123", "+9_(9)_9"), ("", "empty"),
        (None, "empty"), (12.5, "a number"), (True, "true"), ([1], "a list"),
        ({"a": 1}, "an object"),
    ],
)  # fmt: skip
def test_the_make_of_a_value(value: Any, made: str) -> None:
    assert pattern(value) == made


@given(st.text(max_size=200))
def test_a_make_tells_no_letter_and_no_digit(value: str) -> None:
    made = pattern(value)
    assert len(made) <= 40
    if value:
        assert not {c for c in made if c.isalnum()} - {"a", "9"}


def test_records_of_one_cause_are_one_group_wherever_their_values_differ() -> None:
    mails = [parked(n, field="Email", fields={"Email": f"x{'y' * n}@b"}) for n in range(3)]
    other = [parked(9, field="Email", fields={"Email": " a@b.c"}), parked(8)]
    found = causes([*other, *mails])
    assert [len(of) for of in found.values()] == [3, 1, 1]
    first = next(iter(found))
    assert (first.code, first.field, first.pattern) == ("BAD", "Email", "a@a")
    assert first.group == cause_of(mails[2]).group
    assert len({cause.group for cause in found}) == 3


def test_a_cause_is_told_by_the_source_where_nothing_was_made_of_it() -> None:
    record = parked(stage=Stage.map, field="Phone", fields={}, source={"phone": "unmappable"})
    assert cause_of(record).pattern == "a"


def test_a_rule_makes_each_record_its_own_value() -> None:
    mend = parse(["company=acme"], ["lastname=trim", "phone=record.phone + '0'"])
    some = [parked(n, source={"lastname": f" l{n} ", "phone": "1"}) for n in (1, 2)]
    acts, left = grouped(some, mend)
    assert left == {}
    assert [(sync, values, [t.person for t in of]) for sync, values, of in acts] == [
        ("leads", {"company": "acme", "lastname": f"l{n}", "phone": "10"}, [f"p{n}"])
        for n in (1, 2)
    ]


def test_records_with_the_same_new_values_are_one_act_of_bounded_size() -> None:
    some = [parked(n) for n in range(TARGETS_MAX + 1)]
    acts, _ = grouped(some, Mend({"phone": "2"}))
    assert [len(of) for _, _, of in acts] == [TARGETS_MAX, 1]


def test_what_a_fix_would_not_change_is_left_and_says_why() -> None:
    acts, left = grouped([parked(1), parked(2, stage=Stage.admit)], Mend({"phone": "1"}))
    assert acts == []
    assert left == {
        "leads:p1": "the source says just that",
        "leads:p2": "parked at admit: there is no value to mend",
    }


def test_a_rule_that_fails_for_a_record_leaves_that_record() -> None:
    mend = parse([], ["phone=string(int(record.phone) + 1)"])
    acts, left = grouped([parked(1, source={"phone": "7"}), parked(2, source={"phone": "x"})], mend)
    assert [values for _, values, _ in acts] == [{"phone": "8"}]
    assert left["leads:p2"].startswith("the rule for phone fails")


@pytest.mark.parametrize(
    ("pairs", "rules", "says"),
    [
        (["phone"], [], "--set wants"), ([], ["phone"], "--rule wants"),
        ([], ["phone=trimm(record.phone)"], "no function trimm"), ([], ["phone="], "is empty"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_fix_is_told(pairs: list[str], rules: list[str], says: str) -> None:
    with pytest.raises(Misused, match=says):
        parse(pairs, rules)


# ---- tried before it is done

PLAN = catalog("leads").plan("leads", {})


@pytest.mark.parametrize(
    ("record", "mend", "why"),
    [
        (parked(), {"phone": "2"}, ""),
        (parked(), {"company": "x"}, "Phone would be as it was"),
        (parked(), {"phone": "unmappable"}, "is no phone number"),
        (parked(), {"optin": "no"}, "it would not be sent: optin is empty"),
        (parked(field="Email"), {"email": ""}, "Email: is empty"),
        (parked(stage=Stage.decode), {"phone": "2"}, "nothing to map"),
    ],
)
def test_a_fix_is_tried(record: ParkedRecord, mend: dict[str, str], why: str) -> None:
    result = tried(record, Mend(mend), PLAN, "hubspot", {})
    assert why in result.why
    assert bool(why) == bool(result.why)
    if not why:
        assert result.fields["Phone"] == "2"
        assert "Phone" in result.changed
        assert "Email" not in result.changed


def test_fixes_that_apply_already_are_in_it() -> None:
    result = tried(parked(), Mend(), PLAN, "hubspot", {"phone": "2"})
    assert (result.why, result.fields["Phone"]) == ("", "2")


def test_without_a_plan_nothing_can_be_tried() -> None:
    assert tried(parked(), Mend(), None, "", {}).why == "its sync is not defined"

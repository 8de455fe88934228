"""A list as people give it, held against the last one."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.audiences import AudienceMember, Change
from schemas.runs import RunView
from syncline import audiences
from syncline.audiences import Difference, List, difference, read_list
from syncline.errors import Misused

names = st.lists(st.sampled_from([str(n) for n in range(12)]), max_size=12)


def member(name: str, *, on: bool = True, run: str = "vip-1") -> AudienceMember:
    return AudienceMember(sync="vip", object_id=name, member=on, run=run, since_ms=1)


def ended(state: str = "completed", **counts: int) -> dict[str, RunView]:
    return {"vip-1": RunView(run="vip-1", sync="vip", state=state, counts=counts, updated_ms=1)}


def test_a_list_is_one_id_a_line() -> None:
    assert read_list("\ufeff12\r\n\n 13 \n12\n".encode()) == List(("12", "13"), repeats=1)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_has_its_ids_in_a_column(separator: str) -> None:
    rows = [["name", "hs_id"], ['"Lee, Ann"', "12"], ["Bo", ""], ["Cy", "14"]]
    data = "\n".join(separator.join(row) for row in rows).encode()
    assert read_list(data, "hs_id") == List(("12", "14"))


@pytest.mark.parametrize(
    ("data", "column", "words"),
    [
        (b"a\xff", "", "no UTF-8: byte 1"),
        (b"a\n" + b"x" * 201, "", "line 2: is no id"),
        (b"a\nb\x00c", "", "line 2: is no id"),
        (b"name,id\nx,1", "ids", "no column ids; it has: name, id"),
    ],
)
def test_a_mistake_is_named_with_its_line(data: bytes, column: str, words: str) -> None:
    with pytest.raises(Misused, match=words):
        read_list(data, column)


def test_a_list_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audiences, "IDS_MAX", 2)
    with pytest.raises(Misused, match="at most 2 ids"):
        read_list(b"1\n2\n3")
    monkeypatch.setattr(audiences, "LIST_BYTES_MAX", 1 << 20)
    with pytest.raises(Misused, match="at most 1 MiB"):
        read_list(b"1" * ((1 << 20) + 1))


@settings(deadline=None)
@given(names, names)
def test_whoever_is_on_either_list_joins_stays_or_leaves(new: list[str], old: list[str]) -> None:
    change = difference(new, {n: member(n) for n in old}, {})
    records = [name for part in change.parts("vip-2", "vip") for name in part.object_ids]
    assert Counter(records) == Counter({*new, *old})
    assert set(change.joins) == {*new} - {*old}
    assert set(change.leaves) == {*old} - {*new}


@pytest.mark.parametrize("views", [{}, ended("cancelled"), ended(written=3, parked=1)])
def test_who_left_in_a_run_that_ended_badly_leaves_again(views: dict[str, RunView]) -> None:
    change = difference(["1"], {"2": member("2", on=False)}, views)
    assert (change.leaves, change.gone) == (("2",), ())


def test_who_left_for_good_is_forgotten_and_may_join_again() -> None:
    views = ended(written=3, parked=0)
    assert difference([], {"2": member("2", on=False)}, views).gone == ("2",)
    again = difference(["2"], {"2": member("2", on=False)}, views)
    assert (again.joins, again.gone, again.leaves) == (("2",), (), ())


def test_parts_are_numbered_without_gaps_and_hold_one_kind_each() -> None:
    many = tuple(str(n) for n in range(1_001))
    parts = list(Difference(many, ("a",), ("b",)).parts("vip-2", "vip"))
    assert [p.part for p in parts] == list(range(5))
    assert [(p.change, len(p.object_ids)) for p in parts] == [
        (Change.joins, 500), (Change.joins, 500), (Change.joins, 1), (Change.stays, 1),
        (Change.leaves, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("stays", "leaves", "asks"), [(1, 1, False), (1, 2, True), (0, 1, True)])
def test_a_list_that_halves_the_last_one_is_asked_about(
    stays: int, leaves: int, asks: bool
) -> None:
    assert (Difference((), ("s",) * stays, ("l",) * leaves).share > 0.5) is asks

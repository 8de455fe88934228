"""The ledger holds every effect once, and finds the harm that a wrong client does."""

import random
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from simulators.store import Index, Store


@dataclass
class By:
    number: int
    at_ms: int
    dry: bool = False


def _store() -> Store:
    return Store({"email": Index(str.lower), "key": Index()}, "email")


def _entries(store: Store, **wanted: Any) -> list[dict[str, Any]]:
    return list(store.entries(**wanted))


def test_the_ledger_tells_who_wrote_what_when() -> None:
    store = _store()
    old = store.seed("1", {"email": "Old@x", "city": "Ulm"}, 5, 6)
    new = store.create(By(7, 1000), 3, "2", {"email": "new@x"})
    assert store.update(By(8, 2000), 0, new, {"city": "Bonn", "email": "new@x"}) == (
        "city",
        None,
        "Bonn",
    )
    store.update(By(9, 3000), 1, old, {"city": None})
    store.archive(By(0, 4000), 0, old)
    assert _entries(store) == [
        {"at_ms": 1000, "id": "2", "request": 7, "row": 3, "created": {"email": "new@x"}},
        {"at_ms": 2000, "id": "2", "request": 8, "row": 0, "changes": {"city": [None, "Bonn"]}},
        {"at_ms": 3000, "id": "1", "request": 9, "row": 1, "changes": {"city": ["Ulm", None]}},
        {"at_ms": 4000, "id": "1", "request": 0, "row": 0, "changes": {"(deleted)": [False, True]}},
    ]
    assert [e["at_ms"] for e in _entries(store, since_ms=2000, updates_only=True)] == [
        2000,
        3000,
        4000,
    ]
    assert [e["at_ms"] for e in _entries(store, object_id="2")] == [1000, 2000]
    assert _entries(store, object_id="nobody") == []


def test_a_repeat_is_no_effect() -> None:
    store = _store()
    obj = store.create(By(1, 1), 0, "1", {"email": "a@x", "city": "Ulm"})
    assert store.update(By(2, 2), 0, obj, {"city": "Ulm", "zip": None}) == ()
    assert (len(_entries(store)), store.unchanged_rows, obj.changed_ms) == (1, 1, 1)


def test_a_swallowed_write_leaves_no_trace() -> None:
    store = _store()
    obj = store.create(By(1, 1), 0, "1", {"email": "a@x"})
    assert store.update(By(2, 2, dry=True), 0, obj, {"email": "b@x"}) != ()
    ghost = store.create(By(2, 2, dry=True), 1, "2", {"email": "c@x"})
    store.archive(By(2, 2, dry=True), 2, obj)
    assert (obj.values, obj.archived, ghost.id in store.objects) == ({"email": "a@x"}, False, False)
    assert (len(_entries(store)), store.dry_rows) == (1, 2)


def test_twins_are_found_by_address_whatever_the_case() -> None:
    store = _store()
    store.seed("1", {"email": "A@x"}, 1, 1)
    store.seed("2", {"email": "a@x"}, 1, 1)
    assert store.effects()["twice_total"] == 0, "they were there before anybody wrote"
    store.seed("3", {"email": "b@x"}, 1, 1)
    store.create(By(1, 1), 0, "4", {"email": "B@X"})
    store.create(By(1, 1), 1, "5", {"email": "c@x"})
    store.create(By(1, 1), 2, "6", {})
    store.create(By(1, 1), 3, "7", {})
    effects = store.effects()
    assert (effects["made_twice"], effects["twice"]) == (1, {"b@x": ["3", "4"]})
    store.archive(By(0, 2), 0, store.objects["3"])
    assert (store.effects()["made_twice"], store.effects()["twice"]) == (1, {})


def test_values_that_go_back_and_forth() -> None:
    store = _store()
    obj = store.seed("1", {"email": "a@x", "city": "A", "zip": "1"}, 1, 1)
    for at_ms, city in enumerate("BCBCBD", 2):
        store.update(By(at_ms, at_ms), 0, obj, {"city": city, "zip": str(at_ms)})
    effects = store.effects()
    assert (effects["returns"], effects["flaps"]) == (3, 2)
    assert effects["returned"] == [{"id": "1", "field": "city", "values": list("ABCBCBD")}]
    assert effects["changed"] == 6
    store.update(By(9, 9), 0, obj, {"city": "B"})
    assert store.effects()["returns"] == 4, "the count follows later writes"


def test_changed_since_meets_each_object_once_by_its_last_change() -> None:
    draw = random.Random(3)
    store = _store()
    at_ms = 0
    for step in range(40_000):
        at_ms += draw.choice((0, 0, 1))
        if step < 50:
            store.create(By(step, at_ms), 0, str(step), {"n": 0})
        else:
            obj = store.objects[str(draw.randrange(50))]
            store.update(By(step, at_ms), 0, obj, {"n": step})
    since = sorted(o.changed_ms for o in store.numbered)[20]
    found = list(store.changed_since(since))
    assert [o.changed_ms for o in found] == sorted(o.changed_ms for o in found)
    assert sorted(o.number for o in found) == sorted(
        o.number for o in store.numbered if o.changed_ms >= since
    )
    assert len(store._by_change) < 20_000, "old places are given up in time"


def test_an_index_follows_changes_and_renames() -> None:
    store = _store()
    obj = store.create(By(1, 1), 0, "1", {"email": "A@x", "key": "K"})
    store.update(By(2, 2), 0, obj, {"email": "b@x", "key": None})
    store.rename(obj, "one")
    index = store.indexes["email"]
    assert (index.first("a@x"), index.first("B@X")) == (None, obj)
    assert store.indexes["key"].table == {}
    assert (store.objects, _entries(store)[0]["id"]) == ({"one": obj}, "one")


FIELDS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2", None]))


@given(st.lists(st.tuples(st.integers(0, 3), FIELDS)))
def test_the_ledger_and_the_contents_tell_the_same(writes: list[tuple[int, Any]]) -> None:
    """Every state is the fold of the ledger; a file between two runs changes nothing."""
    store = _store()
    for number, (who, values) in enumerate(writes, 1):
        known = store.objects.get(str(who))
        if known is None:
            kept = {name: value for name, value in values.items() if value is not None}
            store.create(By(number, number), 0, str(who), kept)
        else:
            store.update(By(number, number), 0, known, values)
    folded: dict[str, dict[str, Any]] = {}
    for entry in _entries(store):
        if "created" in entry:
            folded[entry["id"]] = dict(entry["created"])
            continue
        for name, (old, new) in entry["changes"].items():
            assert folded[entry["id"]].get(name) == old != new
            folded[entry["id"]][name] = new
    stated = {
        object_id: {name: value for name, value in values.items() if value is not None}
        for object_id, values in folded.items()
    }
    assert stated == {obj.id: obj.values for obj in store.numbered}
    other = _store()
    other.restore(store.keep())
    assert _entries(other) == _entries(store)
    assert other.effects() == store.effects()

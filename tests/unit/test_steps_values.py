"""Newest per field: in whatever order versions are folded, the newest stands."""

import json
import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mappings.document import load
from mappings.fields import DestinationField, FieldList
from streams.steps.mapped import Checked
from streams.steps.rows import Values, pack
from streams.steps.values import drop, fold, forget, patch, timed
from streams.steps.work import without_values
from tests.unit.steps_kit import event

FIELDS = ("a", "b", "c")
VERSIONS = st.lists(
    st.tuples(st.integers(1, 10_000), st.sets(st.sampled_from(FIELDS)), st.booleans()),
    min_size=1, max_size=8, unique_by=lambda v: v[0],
)  # fmt: skip


@given(VERSIONS, st.randoms())
def test_a_fold_does_not_depend_on_the_order_of_arrival(versions: Any, draw: Any) -> None:
    rows = [timed(dict.fromkeys(sorted(fs), at), dict.fromkeys(fs, at)) for at, fs, _ in versions]
    newest = {f: max((at for at, fs, _ in versions if f in fs), default=None) for f in FIELDS}
    draw.shuffle(rows)
    total = Values()
    for row in rows:
        total = fold(total, row)
    assert total.values == {f: at for f, at in newest.items() if at is not None}
    assert {f: total.time(f) for f in total.values} == total.values


@given(VERSIONS, st.randoms())
def test_a_snapshot_holds_the_newest_of_each_field_however_events_arrive(
    versions: Any, draw: Any
) -> None:
    """Events are whole (all fields) or thin (some); the value of a field is its time."""
    newest: dict[str, int] = {}
    for at, fields, whole in versions:
        for name in FIELDS if whole else fields:
            newest[name] = max(newest.get(name, 0), at)
    draw.shuffle(versions)
    known = Values()
    for at, fields, whole in versions:
        seen = dict.fromkeys(FIELDS if whole else sorted(fields), at)
        older = [f for f in seen if f in newest and known.time(f) > at]
        _, stale = patch(known, seen, FIELDS, at, whole=whole, certain=True)
        assert stale == (bool(seen) and len(older) == len(seen))
    assert known.values == newest
    assert {f: known.time(f) for f in newest} == newest


def test_a_snapshot_of_whole_objects_keeps_one_time() -> None:
    known = Values()
    patch(known, {"a": 1, "b": 2}, FIELDS, 10, whole=True, certain=True)
    patch(known, {"a": 2}, FIELDS, 20, whole=False, certain=True)
    assert known.times == {"a": 20}
    changed, stale = patch(known, {"a": 2, "b": 2}, FIELDS, 30, whole=True, certain=True)
    assert (changed, stale, known.times) == (False, False, {})
    assert len(pack(known)) < 20


def test_what_is_forgotten_stays_known_to_be_at_least_that_new() -> None:
    written = Values(10, {"a": 1, "b": 2})
    forget(written, ["a", "x"])
    assert (written.values, written.time("a")) == ({"b": 2}, 10)
    after = fold(written, Values(20, {"b": 3}))
    assert after.time("a") == 10
    drop(after, "b")
    assert after.values == {}


def test_words_lose_our_values_longest_first() -> None:
    words = without_values("ann@x.io of ann is bad", {"name": "ann", "email": "ann@x.io", "n": 1})
    assert words == "<email> of <name> is bad"


def test_steps_import_neither_faust_nor_kafka_nor_http() -> None:
    code = (
        "import json, sys, streams.steps.people, streams.steps.links, streams.steps.addresses, "
        "streams.steps.runs, streams.steps.mapped; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"faust", "mode", "aiokafka", "confluent_kafka", "httpx", "aiohttp"}


DOCUMENT = {
    "mapping": "m", "version": 3, "from": {"platform": "hubspot", "object": "contact"},
    "to": {"platform": "salesforce", "object": "Lead", "key": "Email"},
    "where": "!empty(record.email)",
    "fields": {
        "Email": "lower(record.email)", "LastName": "record.lastname",
        "Phone": {"value": "record.phone", "if_null": "clear"},
        "Source": "event.platform + person.key",
    },
}  # fmt: skip


def test_a_real_mapping_with_a_field_list_is_what_steps_expect() -> None:
    fields = FieldList(
        platform="salesforce", object="Lead",
        fields=[
            DestinationField(name="Email", type="email", required=True),
            DestinationField(name="LastName", type="text", length=5),
            DestinationField(name="Phone", type="text"), DestinationField(name="Source"),
        ],
    )  # fmt: skip
    checked = Checked(load(DOCUMENT, destination=fields), fields, "email")
    told = event({}, 1_000)
    assert checked.key == "Email"
    assert checked.title.startswith("m@3#")
    assert checked.inputs == {"email", "lastname", "phone"}
    assert checked.reads["Phone"] == {"phone"}
    record = {"email": "A@x.io", "lastname": "lee", "phone": None}
    assert checked.shape(record, told, "p").fields == {
        "Email": "a@x.io", "LastName": "lee", "Phone": None, "Source": "hubspotp",
    }  # fmt: skip
    assert checked.shape({**record, "email": ""}, told, "p").fields is None
    [error] = checked.shape({**record, "lastname": "too long"}, told, "p").errors
    assert (error.stage, error.field, error.code) == ("validate", "LastName", "too_long")
    [error, *_] = checked.shape({**record, "lastname": 5}, told, "p").errors
    assert error.field == "LastName"

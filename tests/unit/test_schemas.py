"""What travels: generated files are fresh, old messages stay readable, ids are what they say."""

import contextlib
import json
from pathlib import Path
from typing import Any

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids
from schemas.base import Message
from schemas.codec import MESSAGES, Codec, Undecodable, avro_schema
from schemas.events import EventKind, PlatformEvent, ResolvedRecord
from schemas.generate import ROOT, files
from schemas.journal import FATES, PLACES, Standing
from schemas.topics import TOPICS

RELEASED = sorted((ROOT / "schemas" / "released").glob("*/*.avsc"))
text = st.text(max_size=40)


@st.composite
def events(draw: st.DrawFn) -> PlatformEvent:
    return PlatformEvent(
        event_id=draw(text),
        connection=draw(text),
        platform=draw(text),
        object_type=draw(text),
        object_id=draw(text),
        kind=draw(st.sampled_from(EventKind)),
        occurred_ms=draw(st.integers(-(2**62), 2**62)),
        received_ms=draw(st.integers(0, 2**62)),
        changed=draw(st.lists(text, max_size=5)),
        thin=draw(st.booleans()),
        values=draw(st.binary(max_size=200)),
        payload=draw(st.binary(max_size=200)),
    )


@pytest.mark.parametrize("path", files(), ids=lambda p: p.name)
def test_generated_files_are_fresh(path: Path) -> None:
    assert path.read_bytes() == files()[path], "run: python -m schemas.generate"


def test_no_generated_file_is_left_over() -> None:
    assert {p for p in files() if p.suffix == ".avsc"} == set((ROOT / "schemas/avsc").iterdir())


def compatible(reader: dict[str, Any], writer: dict[str, Any]) -> bool:
    result = ReaderWriterCompatibilityChecker().get_compatibility(
        avro.schema.parse(json.dumps(reader)), avro.schema.parse(json.dumps(writer))
    )
    return result.compatibility is SchemaCompatibilityType.compatible


def test_there_is_a_release_to_compare_with() -> None:
    assert RELEASED


@pytest.mark.parametrize("path", RELEASED, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_messages_of_every_release_can_still_be_read(path: Path) -> None:
    model = next(m for m in MESSAGES if m.__name__ == path.stem)
    assert compatible(avro_schema(model), json.loads(path.read_text()))


def test_a_new_field_without_default_would_be_found() -> None:
    writer = avro_schema(ResolvedRecord)
    reader = {**writer, "fields": [*writer["fields"], {"name": "new", "type": "string"}]}
    assert not compatible(reader, writer)


@given(events())
def test_what_is_encoded_is_read_back(event: PlatformEvent) -> None:
    codec = Codec.offline()
    assert codec.decode(codec.encode(event)) == event
    record = ResolvedRecord(person="p", event=event)
    assert codec.decode_as(ResolvedRecord, codec.encode(record)) == record


@given(st.binary(max_size=300))
def test_garbage_is_undecodable_and_nothing_else(data: bytes) -> None:
    codec = Codec.offline()
    for body in (data, b"\0\0\0\0\1" + data):
        with contextlib.suppress(Undecodable):
            codec.decode(body)


def test_another_kind_of_message_is_named() -> None:
    codec = Codec.offline()
    event = PlatformEvent(
        event_id="e", connection="c", platform="p", object_type="t", object_id="1",
        occurred_ms=1, received_ms=1, values=b"{}", payload=b"",
    )  # fmt: skip
    with pytest.raises(Undecodable, match="expected ResolvedRecord, found PlatformEvent"):
        codec.decode_as(ResolvedRecord, codec.encode(event))


def test_fields_with_personal_data_are_marked_in_the_schema() -> None:
    marked = {f["name"] for f in avro_schema(PlatformEvent)["fields"] if f.get("personal")}
    assert marked == {"values", "payload"}


@given(st.lists(text, min_size=1, max_size=4), st.lists(text, min_size=1, max_size=4))
def test_ids_differ_where_their_parts_differ(a: list[str], b: list[str]) -> None:
    assert (ids.derive(*a) == ids.derive(*b)) == (a == b)


def test_same_identity_with_other_content_is_another_event() -> None:
    first = ids.event_id("hubspot", ["1", "2"], b'{"v":1}')
    assert first == ids.event_id("hubspot", ["1", "2"], b'{"v":1}')
    assert first != ids.event_id("hubspot", ["1", "2"], b'{"v":2}')


def test_a_standing_is_a_fate_or_a_place() -> None:
    assert set(Standing) == FATES | PLACES
    assert not FATES & PLACES


def test_every_message_has_a_topic_and_every_field_words() -> None:
    on_topics: set[type[Message]] = {m for topic in TOPICS for m in topic.values}
    assert on_topics == set(MESSAGES)
    assert len({t.name for t in TOPICS}) == len(TOPICS)

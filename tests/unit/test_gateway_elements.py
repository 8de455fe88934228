"""Splitting a JSON array into its elements as they came, broken neighbours or not."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook_gateway.senders.elements import Elements

split = Elements(10).split

texts = st.text(alphabet='a"\\[]{},: é\n', max_size=12)
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(values, max_size=10), st.sampled_from([None, 2]))
def test_elements_of_any_array(array: list[object], indent: int | None) -> None:
    elements = split(json.dumps(array, indent=indent).encode())
    assert elements is not None
    assert [json.loads(e) for e in elements] == array


@given(st.lists(values, min_size=1, max_size=9), st.data())
def test_a_broken_element_leaves_the_others(array: list[object], data: st.DataObject) -> None:
    """Half an emoji, which decoders refuse: the scan finds the same borders as the decoder."""
    at = data.draw(st.integers(0, len(array)))
    broken = b'{"a": ["\\ud83d"]}'
    parts = [json.dumps(v).encode() for v in array]
    parts.insert(at, broken)
    elements = split(b" [" + b" , ".join(parts) + b"]\n")
    assert elements is not None
    assert elements.pop(at) == broken
    assert [json.loads(e) for e in elements] == array


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"1",
        b'["\\ud83d]',
        b'["\\ud83d"',
        b'["\\ud83d"]]',
        b'["\\ud83d"][]',
        b'[{"\\ud83d"]',
    ],
)
def test_what_is_no_array(body: bytes) -> None:
    assert split(body) is None


def test_too_many_elements() -> None:
    assert split(b"[" + b"1," * 9 + b"1]") == [b"1"] * 10
    assert split(b"[" + b"1," * 10 + b"1]") is None
    assert split(b'["\\ud83d",' + b"1," * 9 + b"1]") is None


@given(st.binary(max_size=100))
def test_no_bytes_make_it_raise(body: bytes) -> None:
    split(body)
    split(b"[" + body + b"]")


def test_hostile_text_takes_no_longer_than_its_length() -> None:
    started_s = time.process_time()
    for hostile in (
        b'["' + b"\\" * 1_000_001 + b'"]',
        b'["' + b"a" * 1_000_000,
        b'["\\q' + b'""' * 500_000,
    ):
        split(hostile + b"]")
    assert time.process_time() - started_s < 5

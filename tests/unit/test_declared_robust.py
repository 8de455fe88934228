"""Whatever a platform answers, a described connector gives one outcome a row and breaks nowhere."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import PlatformError, Row
from connectors.declared_forms import compiled, look
from connectors.outcome import Accepted, Parked, Retry, Unchanged, Written
from tests.unit.test_declared import NAMES
from tests.unit.test_declared_rows import connector

ROW_FATES = Written | Unchanged | Accepted | Parked | Retry
WORDS = [
    "data", "id", "errors", "result", "status", "created", "skipped", "reasons", "batch_index",
    "index", "input_array", "attributes", "attributes_processed", "successCount", "invalidEmails",
    "failedUpdates", "contact", "success", "code", "message", "p1@x.io", "type", "updated_at",
    "users", "user", "dataFields", "emails", "value", "links", "next", "606", "607", "pages",
    "updatedAt", "udate", "update_time", "updated", "1e999",
]  # fmt: skip
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.sampled_from(WORDS)
    | st.text(max_size=5)
)  # fmt: skip
ANSWERS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner),
    max_leaves=12,
)
ROWS = [Row(f"row-{n}", f"person-{n}", "", {"email": f"p{n}@x.io"}) for n in range(3)]
MADE = [connector(name) for name in NAMES]
SHAPES = [(made, shape) for made in MADE for shape in made.shapes.values()]


@given(answer=ANSWERS)
@settings(max_examples=50, deadline=None)
def test_any_answer_gives_one_outcome_a_row(answer: Any) -> None:
    for made, shape in SHAPES:
        known = [shape.known(row, made._option) for row in ROWS]
        for way in shape.ways:
            outcomes = way.verdicts(answer, known)
            assert len(outcomes) == len(ROWS)
            for outcome in outcomes:
                assert isinstance(outcome, ROW_FATES)
                assert not isinstance(outcome, Written | Unchanged) or outcome.object_id


@given(
    answer=ANSWERS, status=st.sampled_from([0, 200, 201, 400, 403, 409, 429, 503]), text=st.text()
)
@settings(max_examples=50, deadline=None)
def test_any_failure_is_some_outcome(answer: Any, status: int, text: str) -> None:
    headers = {"retry-after": text, "x-ratelimit-reset": text, "date": text}
    for made in MADE:
        outcome = made.handle_error(PlatformError(status, answer, headers))
        assert getattr(outcome, "wait_s", None) is None or 0 <= outcome.wait_s < float("inf")
        assert len(str(getattr(outcome, "words", ""))) <= 300


@given(record=ANSWERS)
@settings(max_examples=50, deadline=None)
def test_any_record_is_read(record: Any) -> None:
    for _, shape in SHAPES:
        found = shape.found(record)
        assert isinstance(json.loads(found.values), dict)
        assert found.occurred_ms >= 0


@given(known=ANSWERS, template=ANSWERS)
@settings(max_examples=50, deadline=None)
def test_what_a_template_makes_is_json(known: Any, template: Any) -> None:
    scope = known if isinstance(known, dict) else {"data": known}
    whole = {"x": template, "y": "$data.id | $errors", "z": "{data} {id:json}"}
    try:
        form = compiled(whole)
    except ValueError:  # said of a description when it is read, long before any row
        with pytest.raises(ValueError, match="is no path"):
            compiled(whole)
        return
    made = form(scope)
    msgspec.json.encode(made)
    assert look(made, "z") is not None


@given(fields=st.dictionaries(st.text(max_size=12), SCALARS, max_size=5))
@settings(max_examples=30, deadline=None)
def test_any_names_of_fields_make_a_row(fields: dict[str, Any]) -> None:
    for made in MADE:
        for kind in made.shapes:
            msgspec.json.encode(made.map_fields(kind, Row("r", "p", "7", fields)))

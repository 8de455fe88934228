"""The expression language: what names mean, what is refused and where, and that nothing hurts."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.cel import Kind, compile_expression
from mappings.document import FieldErrors, Filtered, Mapped, load
from mappings.errors import EvaluationError, MappingInvalid
from mappings.functions import FUNCTIONS

FIELDS: dict[str, Kind] = {
    "email": "text", "age": "whole", "score": "number", "optin": "bool", "tags": "list",
    "Account.Name": "text", "address": "object", "extra": "any",
}  # fmt: skip


def value(text: str, record: dict[str, Any] | None = None, **more: Any) -> Any:
    expression, wrong = compile_expression(text, FUNCTIONS, **more)
    assert expression is not None, [(w.column, w.message) for w in wrong]
    event = {"type": "contact.updated", "changed": ["email"]}
    return expression.call(record or {}, event, {"key": "p1"})


def mistakes(text: str, **more: Any) -> list[tuple[int, str]]:
    expression, wrong = compile_expression(text, FUNCTIONS, **more)
    assert (expression is None) is bool(wrong)
    return [(w.column, w.message) for w in wrong]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("record.email", None),
        ("record.a", 1),
        ('record["First Name"]', "Ann"),
        ("record.Account.Name", "ACME"),
        ("record.merge_fields.FNAME", "Zoë"),
        ("record.Account.Name.First", None),
        ("record.import", "a word of the language may be a field"),
        ("has(record.a)", True),
        ("has(record.email)", False),
        ("has(record.Account.Nothing)", False),
        ("event.type", "contact.updated"),
        ('"email" in event.changed', True),
        ('event.changed.exists(f, f == "phone")', False),
        ("person.key", "p1"),
        ("person.email", None),
        ("record.tags.map(t, t)", []),
        ('"x" in record.tags', False),
        ("record.rows.map(r, r.name)", ["x", "y"]),
        ("record.rows[0].name", "x"),
        ('record.rows[0]["name"]', "x"),
        ("size(record.tags)", None),
    ],
)
def test_a_missing_field_is_null_and_a_missing_list_is_empty(text: str, expected: Any) -> None:
    record = {
        "a": 1, "First Name": "Ann", "Account": {"Name": "ACME"}, "merge_fields.FNAME": "Zoë",
        "import": "a word of the language may be a field",
        "rows": [{"name": "x"}, {"name": "y"}],
    }  # fmt: skip
    assert value(text, record) == expected


def test_a_list_of_the_source_that_is_missing_is_empty() -> None:
    assert value('record.tags.filter(t, t != "x")', fields=FIELDS) == []
    assert value("size(record.tags)", fields=FIELDS) == 0
    assert value("record.tags", {"tags": ["a"]}, fields=FIELDS) == ["a"]


def test_true_is_not_1_and_1_is_1_with_a_fraction() -> None:
    same = "record.a == record.b && record.b in [record.a] && [record.a] == [record.b]"
    assert value(same, {"a": 1, "b": 1.0}) is True
    for a, b in ((True, 1), (False, 0), (1, "1"), (None, ""), (None, False), ([], None)):
        assert value("record.a == record.b", {"a": a, "b": b}) is False
        assert value("record.a != record.b", {"a": a, "b": b}) is True
        assert (
            value("[record.a] == [record.b] || record.a in [record.b]", {"a": a, "b": b}) is False
        )


def test_reads_are_the_flat_names_of_fields() -> None:
    text = 'lower(record.email) + record["First Name"] + record.Account.Name + event.type'
    expression, _ = compile_expression(text, FUNCTIONS)
    assert expression is not None
    assert expression.reads == {"email", "First Name", "Account.Name"}
    assert expression.uses == {
        "record.email", "record.First Name", "record.Account.Name", "event.type",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("record.emial", 8, "no field emial; did you mean email?"),
        ("1 + record.nothing", 12, "there is no field nothing"),
        ("record.Account.Nam", 16, "did you mean Account.Name?"),
        ("record.email.name", 14, "there is no field email.name"),
        ("event.time + event.tyme", 20, "event has no tyme"),
        ("person.name", 8, "person has no name"),
        ("email", 1, "write record.email"),
        ("recrod.email", 1, "did you mean record?"),
        ("record", 1, "record alone is no value"),
        ("lower(record.age)", 14, "text of lower must be text, not a whole number"),
        ("truncate(record.email)", 1, "truncate is used as truncate(text, length)"),
        ("lowr(record.email)", 1, "there is no function lowr; did you mean lower?"),
        ("lowerAscii(record.email)", 1, "use lower"),
        ("record.email.lower()", 14, "write lower(text), without a dot"),
        ("now()", 1, "use event.time"),
        ("record.email + record.age", 14, "+ cannot be used on text and a whole number; use str"),
        ("record.score + 1", 14, "use double() or int()"),
        ("record.email == 1", 14, "text is never equal to a whole number"),
        ("record.email < 1", 14, "< cannot compare text and a whole number"),
        ('record.optin ? record.age : "none"', 29, "one side of : is a whole number, the other te"),
        ("record.email ? 1 : 2", 8, "? needs true or false, not text"),
        ("record.optin && record.age", 24, "&& needs true or false"),
        ("!record.email", 1, "! needs true or false"),
        ("-record.email", 1, "- cannot be used on text"),
        ("record.email.filter(x, true)", 14, "filter needs a list, not text"),
        ("record.tags.filter(record, true)", 13, "record has a meaning already"),
        ("record.tags.filter(size, true)", 13, "size has a meaning already"),
        ("record.tags.filter(x, 1)", 23, "filter needs true or false"),
        ("record.age[0]", 11, "[ ] cannot be used on a whole number"),
        ('lookup("colour", record.email)', 8, "no table colour; did you mean colours?"),
        ("lookup(record.email, record.email)", 15, "table of lookup must be written out"),
        ('matches(record.email, "(")', 23, "no regular expression (RE2): missing ): ("),
        ("matches(record.email, record.email)", 30, "pattern of matches must be written out"),
        ('date_format(record.email, "D.M.Y")', 27, "YYYY MM DD"),
        ('date_format(record.email, "YYYY", "Berlin")', 27, "no such time zone"),
        ('split_name(record.email, "middle")', 26, '"first" or "last"'),
        ("round(record.score, 99)", 21, "digits must be from 0 to 15"),
        ("has(record.email, 1)", 1, "has takes one field"),
        ("has(lower(record.email))", 1, "has takes one field"),
        ("a and b", 3, "write && for and"),
        ("record.a = 1", 10, "write == to compare"),
        ("{1: 2}", 1, "use a table"),
        ('"abc', 1, "this text has no end"),
        ("record.tags.map(x, x.map(y, y))", 22, "none inside another"),
        ("1 +", 4, "did not expect the end"),
        ("1 1", 3, "did not expect 1"),
        ("", 1, "is empty"),
        ("   ", 1, "is empty"),
    ],
)
def test_a_mistake_is_named_with_its_column(text: str, column: int, says: str) -> None:
    tables = {"colours": {"r": "red"}}
    [(at, message), *_] = mistakes(text, fields=FIELDS, tables=tables)
    assert says in message
    assert at == column


def test_all_mistakes_of_an_expression_are_told_at_once() -> None:
    found = mistakes("lower(record.emial) + uper(record.nam)", fields={"email": "text"})
    assert [column for column, _ in found] == [14, 23]


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("lower(record.a) + record.b", 17, "+ cannot be used on text and null"),
        ('record.a == "A"\n  && record.b > 1', 31, "> cannot be used on null and a whole number"),
        (
            'record.a.contains("S") && record.b.contains("y")',
            36,
            ".contains() cannot be used on nu",
        ),
        ("[1, 2].map(x, x / record.zero)", 17, "division by zero"),
        ("to_int(record.a)", 1, "is no number"),
        ("coalesce(record.b, to_int(record.a))", 20, "is no number"),
        ("record.list[7]", 12, "the list has no such item"),
        ("record.a ? 1 : 2", 8, "a condition must be true or false, not text"),
        ("record.rows.map(r, r.nam)", 22, "there is no nam"),
    ],
)
def test_a_record_that_fails_tells_where_and_never_what(text: str, column: int, says: str) -> None:
    expression, _ = compile_expression(text, FUNCTIONS)
    assert expression is not None
    record = {"a": "SECRET", "zero": 0, "list": [1], "rows": [{"name": "SECRET"}]}
    with pytest.raises(EvaluationError) as caught:
        expression.call({**record, "a": "A"} if "==" in text else record, {}, {})
    assert says in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert expression.column(caught.value) == column


@pytest.mark.parametrize(
    "text",
    [
        "1 + " * 300 + "1", "(" * 21 + "1" + ")" * 21, "!" * 21 + "true", "-" * 30 + "record.a",
        "record" + ".a" * 400, "record.a" + "[0]" * 200, "[" * 30 + "]" * 30,
        "f(" * 30 + ")" * 30, "true ? " * 30 + "1" + " : 2" * 30, "true && " * 100 + "true",
        "'" + "a" * 1_000 + "'", "1 == " * 100 + "1",
        "record.a.map(x, x).map(x, x).map(x, x)", "record.a.map(x, record.a.map(y, y))",
    ],
)  # fmt: skip
def test_what_is_too_long_or_too_deep_is_refused(text: str) -> None:
    [(column, message)] = mistakes(text)
    assert any(word in message for word in ("nested", "longer", "terms", "macros"))
    assert column <= 1_000


def test_twenty_brackets_and_sixty_terms_are_taken() -> None:
    assert value("(" * 19 + "1" + ")" * 19) == 1
    assert value(" + ".join(["1"] * 60)) == 60
    assert value(" || ".join(["record.a == 'x'"] * 40), {"a": "x"}) is True


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (" + ".join(["record.long"] * 9), "makes a text longer"),
        (" + ".join(["record.list"] * 9), "a list of more than"),
        ('replace(record.long, "a", "bbbbbbbbbbbbbbbb")', "makes a text longer"),
        ('replace(record.long, "", "bbbbbbbbbbbbbbbb")', "makes a text longer"),
        ('regex_replace(record.long, "a", "bbbbbbbbbbb")', "makes a text longer"),
        ('split(record.long, "a")', "makes a list of more"),
        ("record.huge.map(x, x)", "a list of more than"),
        ("join(record.huge, record.long)", "at most"),
    ],
)
def test_what_grows_is_bounded(text: str, says: str) -> None:
    record = {"long": "a" * 10_000, "list": [1] * 200, "huge": ["a"] * 1_001}
    started = time.process_time()
    with pytest.raises(EvaluationError, match=says):
        value(text, record)
    assert time.process_time() - started < 1.0


def test_a_pattern_that_would_take_others_for_ever_is_quick() -> None:
    started = time.process_time()
    assert value('matches(record.a, "^(a+)+$")', {"a": "a" * 5_000 + "!"}) is False
    assert time.process_time() - started < 1.0


def test_an_expression_reaches_nothing_of_python() -> None:
    for text in (
        "__import__('os')", "().__class__", "record.__class__.__bases__", "eq", "truth(true)",
        "lambda: 1", "record.get", "f0", "v_x", "__builtins__", "(1).real",
    ):  # fmt: skip
        expression, _ = compile_expression(text, FUNCTIONS)
        assert expression is None or expression.call({}, {}, {}) is None


def test_compiled_code_has_no_builtins_at_hand() -> None:
    expression, _ = compile_expression("lower(record.a)", FUNCTIONS)
    assert expression is not None
    scope: dict[str, Any] = getattr(expression.call, "__globals__", {})
    assert scope["__builtins__"] == {}
    assert "f0" in scope


# ---- whatever comes, a document is refused in good order or maps in good order

SOUP = st.lists(
    st.sampled_from(
        [
            "record", ".", "email", "event", "changed", "person", "(", ")", "[", "]", ",", "?", ":",
            "+", "-", "*", "/", "%", "!", "&&", "||", "==", "!=", "<", ">=", "in", "true", "null",
            "1", "0", "2.5", "0x", "9223372036854775807", '"a"', "''", "r'\\d'", "'\\", "map", "x",
            "filter", "exists", "lower", "size", "has", "lookup", "matches", '"t"', '"(a*)*"',
            "date_format", "replace", "truncate", "coalesce", " ", "\n", "//", "\x00", "é",
            "\ud800", "'''",
            '"', "`", "{", "to_int", "round", "split", "join", "sha256", "phone_e164",
        ]
    ),
    max_size=40,
).map("".join)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=9)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)  # fmt: skip


def attempt(text: str, record: dict[str, Any]) -> None:
    document = {
        "mapping": "m", "version": 1, "from": {"platform": "a", "object": "b"},
        "to": {"platform": "c", "object": "d"}, "fields": {"f": text}, "tables": {"t": {"*": "z"}},
    }  # fmt: skip
    started = time.process_time()
    try:
        compiled = load(document)
    except MappingInvalid:
        pass
    else:
        result = compiled.apply(record, {"changed": ["x"]}, {"key": "k"})
        match result:
            case Mapped(fields):
                json.dumps(fields)
            case FieldErrors(errors):
                assert all("fails (" not in e.message for e in errors), errors
            case Filtered():
                raise AssertionError("there is no filter")
    assert time.process_time() - started < 2.0


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=200), st.dictionaries(st.sampled_from(["email", "a"]), JSON))
def test_any_text_is_refused_in_good_order(text: str, record: dict[str, Any]) -> None:
    attempt(text, record)


@settings(max_examples=1_500, deadline=None)
@given(SOUP, st.dictionaries(st.sampled_from(["email", "changed", "x"]), JSON))
def test_any_heap_of_tokens_is_refused_or_maps(text: str, record: dict[str, Any]) -> None:
    attempt(text, record)


@settings(max_examples=1_500, deadline=None)
@given(
    st.sampled_from(sorted(FUNCTIONS)),
    st.lists(JSON, min_size=1, max_size=3),
    st.sampled_from(['"a"', '"%"', "2", '"YYYY-MM-DD"', '"first"', '"t"', '"(.)?"', '""', "-1"]),
)
def test_any_function_takes_any_value(name: str, values: list[Any], written: str) -> None:
    """With what is in a record or written out: an error of ours, or JSON, never a bug."""
    fields = [f"record.v{i}" for i in range(len(values))]
    record = {f"v{i}": v for i, v in enumerate(values)}
    for given_ in (fields, [fields[0], written], [fields[0], written, written], [written, *fields]):
        if name[0] == ".":
            attempt(f"{given_[0]}{name}({', '.join(given_[1:])})", record)
        else:
            attempt(f"{name}({', '.join(given_)})", record)

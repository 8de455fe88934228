"""What expressions may call, by example: null in gives null out, and errors say why."""

from pathlib import Path
from typing import Any

import pytest

from mappings.cel import compile_expression
from mappings.errors import EvaluationError
from mappings.functions import FUNCTIONS, VERSION

DOCS = Path(__file__).parents[2] / "docs" / "mappings.md"
TABLES = {"t": {"a": "A", "5": "five", "true": "yes", "*": "other"}, "u": {"a": "A"}}


def value(text: str, x: Any = None, y: Any = None) -> Any:
    expression, wrong = compile_expression(text, FUNCTIONS, tables=TABLES)
    assert expression is not None, [(w.column, w.message) for w in wrong]
    return expression.call({"x": x, "y": y}, {}, {})


@pytest.mark.parametrize(
    ("text", "x", "expected"),
    [
        ("empty(record.x)", None, True),
        ("empty(record.x)", "", True),
        ("empty(record.x)", " \u00a0\n", True),
        ("empty(record.x)", [], True),
        ("empty(record.x)", 0, False),
        ("empty(record.x)", False, False),
        ("empty(record.x)", [None], False),
        ('coalesce(record.y, "", " ", record.x, "c")', 0, 0),
        ("coalesce(record.x)", " ", None),
        ("lower(record.x)", "ÄSS", "äss"),
        ("upper(record.x)", "straße", "STRASSE"),
        ("trim(record.x)", "\u00a0 a b\t", "a b"),
        ("title(record.x)", "anne-marie o'neil", "Anne-Marie O'Neil"),
        ("title(record.x)", "ANN D’ARCY", "Ann D’Arcy"),
        ("title(record.x)", "it's a 2nd zoe\u0308", "It's A 2nd Zoë"),
        ("title(record.x)", "McDonald", "McDonald"),
        ("title(record.x)", "van der Berg", "van der Berg"),
        ("title(record.x)", "Иванов", "Иванов"),
        ("title(record.x)", "иван", "Иван"),
        ("title(record.x)", "佐藤", "佐藤"),
        ("title(record.x)", "", ""),
        ("truncate(record.x, 2)", "日本語", "日本"),
        ("truncate(record.x, 9)", "ab", "ab"),
        ('replace(record.x, "a", "bb")', "aca", "bbcbb"),
        ('replace(record.x, "", "-")', "ab", "-a-b-"),
        ('split(record.x, ";")', "a;b;;c", ["a", "b", "", "c"]),
        ('split(record.x, ";")', " ", []),
        ('join(record.x, ", ")', ["a", "b"], "a, b"),
        ('join(record.x, ", ")', [], ""),
        ('contains(record.x, "b")', "abc", True),
        ('starts_with(record.x, "b")', "abc", False),
        ('ends_with(record.x, "c")', "abc", True),
        ("size(record.x)", "日本", 2),
        ("size(record.x)", [1, 2, 3], 3),
        ("string(record.x)", 3.0, "3"),
        ("string(record.x)", 0.1, "0.1"),
        ("string(record.x)", 123456789.125, "123456789.125"),
        ("string(record.x)", False, "false"),
        (
            "sha256(record.x)", "p-1",
            "1dee6e3ec67dc8033b3363d93f46f1affea85aa403abe01a03fc6c21cbff1c15",
        ),
        ('lookup("t", record.x)', "a", "A"),
        ('lookup("t", record.x)', "b", "other"),
        ('lookup("t", record.x)', 5, "five"),
        ('lookup("t", record.x)', True, "yes"),
        ('lookup("t", record.x)', "", None),
        ('lookup("u", record.x)', "b", None),
        ('matches(record.x, "^a.c$")', "abc", True),
        ('regex_extract(record.x, "[0-9]+")', "ab 12 34", "12"),
        ('regex_extract(record.x, "([a-z])([0-9])")', "b7", "b"),
        ('regex_extract(record.x, "[0-9]+")', "ab", None),
        ('regex_replace(record.x, "[^0-9]", "")', "+49 (30) 1", "49301"),
        ('regex_replace(record.x, "(.)-(.)", "\\\\2-\\\\1")', "a-b", "b-a"),
        ('split_name(record.x, "first")', "  Ann Mary  O'Neil ", "Ann Mary"),
        ('split_name(record.x, "last")', "Ann Mary O'Neil", "O'Neil"),
        ('split_name(record.x, "first")', "Ann", None),
        ('split_name(record.x, "last")', " ", None),
        ("email_normalise(record.x)", " Ann@Example.COM ", "ann@example.com"),
        ("email_normalise(record.x)", "no address at all", "no address at all"),
        ("email_domain(record.x)", "a@b@Example.com ", "example.com"),
        ("email_domain(record.x)", "ann", None),
        ("email_domain(record.x)", "ann@", None),
        ("country_code(record.x)", "Germany", "DE"),
        ("country_code(record.x)", " deu ", "DE"),
        ("country_code(record.x)", "uk", "GB"),
        ("country_code(record.x)", "South Korea", "KR"),
        ("country_code(record.x)", "Türkiye", "TR"),
        ("country_code(record.x)", " ", None),
        ("country_name(record.x)", "DE", "Germany"),
        ("country_name(record.x)", "tw", "Taiwan"),
        ("country_name(record.x)", "Kosovo", "Kosovo"),
        ('phone_e164(record.x, "DE")', "030 1234567", "+49301234567"),
        ('phone_e164(record.x, "Germany")', "(030) 123-4567", "+49301234567"),
        ('phone_e164(record.x, "Atlantis")', "+44 20 7946 0018", "+442079460018"),
        ("phone_e164(record.x, record.y)", "+44 20 7946 0018", "+442079460018"),
        ("phone_e164(record.x, record.y)", " ", None),
        ("to_int(record.x)", " 42 ", 42),
        ("to_int(record.x)", "-42.0", -42),
        ("to_int(record.x)", "1e3", 1000),
        ("to_int(record.x)", 7.0, 7),
        ("to_int(record.x)", "", None),
        ("to_int(record.x)", "9223372036854775807", 2**63 - 1),
        ("to_number(record.x)", "1.50", 1.5),
        ("to_number(record.x)", 2, 2.0),
        ("to_number(record.x)", " ", None),
        ("to_bool(record.x)", "Yes", True),
        ("to_bool(record.x)", "0", False),
        ("to_bool(record.x)", 1, True),
        ("to_bool(record.x)", True, True),
        ("to_bool(record.x)", "", None),
        ("round(record.x)", 2.5, 3),
        ("round(record.x)", -2.5, -3),
        ("round(record.x, 2)", 2.675, 2.68),
        ("round(record.x, 2)", 3, 3),
        ("round(record.x)", 1e18, 10**18),
        ("abs(record.x)", -3, 3),
        ("abs(record.x)", -3.5, 3.5),
        ('date_format(record.x, "MM/DD/YYYY", "Europe/Berlin")', "2026-01-31T23:30:00Z",
         "02/01/2026"),
        ('date_format(record.x, "MM/DD/YYYY")', "2026-01-31T23:30:00Z", "01/31/2026"),
        ('date_format(record.x, "DD.MM.YYYY HH:mm:ss")', "2026-01-31T23:30:05.9+01:00",
         "31.01.2026 22:30:05"),
        ('date_format(record.x, "YYYY-MM-DD", "America/New_York")', "2026-01-31", "2026-01-31"),
        ('date_format(record.x, "{YYYY}")', "0999-01-31", "{0999}"),
        ('date_format(record.x, "YYYY-MM-DD")', 1769940000000, "2026-02-01"),
        ('date_format(record.x, "YYYY-MM-DD")', "1769940000000", "2026-02-01"),
        ('date_format(record.x, "YYYY")', " ", None),
        ('date_parse(record.x, "DD.MM.YYYY")', "31.01.2026", "2026-01-31"),
        ('date_parse(record.x, "DD.MM.YYYY HH:mm", "Europe/Berlin")', "01.07.2026 00:30",
         "2026-06-30T22:30:00Z"),
        ('date_parse(record.x, "YYYYMMDD")', "20260131", "2026-01-31"),
        ("to_seconds(record.x)", "2026-02-01T10:00:00Z", 1769940000),
        ("to_millis(record.x)", "2026-02-01T10:00:00.5Z", 1769940000500),
        ("to_micros(record.x)", "2026-02-01T11:00:00.000001+01:00", 1769940000000001),
        ("to_seconds(record.x)", "2026-02-01", 1769904000),
        ("to_seconds(record.x)", "1969-12-31T23:59:59.5Z", -1),
    ],
)  # fmt: skip
def test_by_example(text: str, x: Any, expected: Any) -> None:
    got = value(text, x)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("text", "x", "says"),
    [
        ("lower(record.x)", 5, "lower needs text, not a whole number"),
        ("title(record.x)", [], "title needs text, not a list"),
        ("truncate(record.x, -1)", "a", "length"),
        ("truncate(record.x, record.y)", "a", "length"),
        ('split(record.x, "")', "a", "separator"),
        ('join(record.x, ",")', ["a", 1], "join needs text, not a whole number"),
        ('join(record.x, ",")', "a", "join needs a list, not text"),
        ("string(record.x)", [], "a list"),
        ('lookup("t", record.x)', 1.5, "lookup needs text"),
        ("country_code(record.x)", "Atlantis", "no country"),
        ('phone_e164(record.x, "DE")', "n/a", "no telephone number"),
        ('phone_e164(record.x, "DE")', "12", "no valid telephone number"),
        ("phone_e164(record.x, record.y)", "030 1234567", "needs a country"),
        ('phone_e164(record.x, "Atlantis")', "030 1234567", "no country"),
        ("to_int(record.x)", "1.5", "no whole number"),
        ("to_int(record.x)", "1,000", "no number"),
        ("to_int(record.x)", "1_000", "no number"),
        ("to_int(record.x)", "\u0661", "no number"),
        ("to_int(record.x)", "9223372036854775808", "64 bits"),
        ("to_int(record.x)", "1e400", "no number"),
        ("to_int(record.x)", "9" * 5_000, "no number"),
        ("to_int(record.x)", True, "to_int needs text or a number"),
        ("to_number(record.x)", "nan", "no number"),
        ("to_number(record.x)", "inf", "no number"),
        ("to_bool(record.x)", "maybe", "neither true nor false"),
        ("round(record.x)", "2.5", "round needs a number"),
        ("int(record.x)", "", "no whole number"),
        ('date_format(record.x, "YYYY")', "31.01.2026", "no time"),
        ('date_format(record.x, "YYYY", "Asia/Tokyo")', "9999-12-31T23:00:00Z", "no time"),
        ('date_format(record.x, "YYYY")', 1.5, "a time as text"),
        ('date_parse(record.x, "DD.MM.YYYY")', "2026-01-31", "not written as DD.MM.YYYY"),
        ('date_parse(record.x, "DD.MM.YYYY")', "31.02.2026", "no time"),
        ("to_seconds(record.x)", 10**18, "no time"),
    ],
)
def test_what_cannot_be_done_is_an_error(text: str, x: Any, says: str) -> None:
    with pytest.raises(EvaluationError, match=says):
        value(text, x)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"empty", "lookup"}))
def test_null_in_null_out(name: str) -> None:
    """But for CEL's own methods, which CEL does not let be called on null."""
    written = {
        "matches": '"a"', "regex_extract": '"a"', "regex_replace": '"a", "b"',
        "split_name": '"first"', "date_format": '"YYYY"', "date_parse": '"YYYY-MM-DD"',
        ".matches": '"a"', "truncate": "1", "replace": '"a", "b"', "split": '","', "join": '","',
        "contains": '"a"', "starts_with": '"a"', "ends_with": '"a"', "phone_e164": '"DE"',
        ".contains": '"a"', ".startsWith": '"a"', ".endsWith": '"a"',
    }.get(name, "")  # fmt: skip
    if name[0] == ".":
        with pytest.raises(EvaluationError, match="null"):
            value(f"record.x{name}({written})")
    else:
        assert value(f"{name}(record.x{', ' + written if written else ''})") is None


def test_the_versions_that_change_results_are_named() -> None:
    assert VERSION.count("+") == 4


def test_every_function_is_in_the_documentation() -> None:
    text = DOCS.read_text()
    for function in FUNCTIONS.values():
        assert f"`{function.usage}`" in text, function.usage
        assert function.about, function.name

"""Our CEL says what the CEL project's own says: random well-typed expressions, value for value.

The oracle is `cel-expr-python`, its C++ evaluator. A failure prints the expression and the record;
`python -m tests.unit.test_cel_oracle SEED COUNT` tries more.
"""

import math
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cel_expr_python import cel

from mappings.cel import compile_expression
from mappings.errors import EvaluationError
from mappings.functions import FUNCTIONS

INT_MAX = 2**63 - 1
TYPES = {
    "text": cel.Type.STRING,
    "whole": cel.Type.INT,
    "number": cel.Type.DOUBLE,
    "bool": cel.Type.BOOL,
    "texts": cel.Type.List(cel.Type.STRING),
    "wholes": cel.Type.List(cel.Type.INT),
}
FIELDS = {f"{kind}{i}": kind for kind in TYPES for i in range(3)}
ITEM = {"texts": "text", "wholes": "whole"}
ENV = cel.NewEnv(variables={f"record.{name}": TYPES[kind] for name, kind in FIELDS.items()})
KINDS = {name: {"texts": "list", "wholes": "list"}.get(kind, kind) for name, kind in FIELDS.items()}


class Maker:
    """Random expressions of a wanted type."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.macros = 0
        self.variables: list[tuple[str, str]] = []

    def expression(self, kind: str, depth: int) -> str:
        known = [name for name, of in self.variables if of == kind]
        if known and self.draw.random() < 0.5:
            return self.draw.choice(known)
        if depth <= 0 or self.draw.random() < 0.15:
            return self.leaf(kind)
        if self.draw.random() < 0.08:
            test, yes, no = (self.expression(k, depth - 1) for k in ("bool", kind, kind))
            return f"({test} ? {yes} : {no})"
        return str(getattr(self, f"some_{ITEM.get(kind, kind)}")(depth - 1) if kind not in ITEM
                   else self.some_list(kind, depth - 1))  # fmt: skip

    def leaf(self, kind: str) -> str:
        draw = self.draw
        if draw.random() < 0.5:
            return f"record.{kind}{draw.randrange(3)}"
        match kind:
            case "text":
                return draw.choice(
                    ['""', '"a"', "'b\\n'", '"é"', '"ab"', 'r"\\d"', '"\\u00e9\\x41"', '"""q"r"""']
                )
            case "whole":
                return draw.choice(
                    ["0", "1", "-1", "2", "7", "0x10", str(INT_MAX), str(-INT_MAX - 1), "- 3"]
                )
            case "number":
                return draw.choice(["0.0", "1.5", "-2.25", "1e3", ".5", "1e300", "-0.0"])
            case "bool":
                return draw.choice(["true", "false"])
            case _:
                items = [self.leaf(ITEM[kind]) for _ in range(draw.randrange(4))]
                return f"[{', '.join(items)}{',' if items and draw.random() < 0.1 else ''}]"

    def some_text(self, depth: int) -> str:
        a, b = self.expression("text", depth), self.expression("text", depth)
        index = self.expression("whole", depth - 1)
        options = [
            f"{a} + {b}", f"({a} + {b})", f"string({index})", f"{self.leaf('texts')}[{index}]",
        ]  # fmt: skip
        return self.draw.choice(options)

    def some_whole(self, depth: int) -> str:
        a, b = self.expression("whole", depth), self.expression("whole", depth)
        sign = self.draw.choice("+-*/%")
        options = [
            f"({a} {sign} {b})", f"{a} {sign} {b}", f"(-({a}))",
            f"size({self.expression(self.draw.choice(['text', 'texts']), depth)})",
            f"({self.leaf('text')}).size()", f"int({self.leaf('number')})",
        ]  # fmt: skip
        return self.draw.choice(options)

    def some_number(self, depth: int) -> str:
        a, b = self.expression("number", depth), self.expression("number", depth)
        sign = self.draw.choice("+-*/")
        return self.draw.choice(
            [f"({a} {sign} {b})", f"-({a})", f"double({self.expression('whole', depth)})"]
        )

    def some_bool(self, depth: int) -> str:
        draw = self.draw
        kind = draw.choice(["text", "whole", "number", "bool"])
        a, b = self.expression(kind, depth), self.expression(kind, depth)
        match draw.randrange(8):
            case 0:
                return f"({a} {draw.choice(('==', '!='))} {b})"
            case 1:
                return f"({a} {draw.choice(('<', '<=', '>', '>='))} {b})"
            case 2 | 3:
                terms = [self.expression("bool", depth) for _ in range(draw.randrange(2, 4))]
                return "(" + f" {draw.choice(('&&', '||'))} ".join(terms) + ")"
            case 4:
                return f"{draw.choice(('!', '!!'))}({self.expression('bool', depth)})"
            case 5:
                texts = self.expression("text", depth), self.expression("text", depth)
                name = draw.choice(["contains", "startsWith", "endsWith"])
                return f"({texts[0]}).{name}({texts[1]})"
            case 6:
                items = draw.choice(["texts", "wholes"])
                item = self.expression(ITEM[items], depth)
                return f"({item} in {self.expression(items, depth)})"
            case _:
                name = draw.choice(["all", "exists", "exists_one"])
                items = draw.choice(["texts", "wholes"])
                return self.macro(name, items, ["bool"], depth) or self.leaf("bool")

    def some_list(self, kind: str, depth: int) -> str:
        other = self.draw.choice(list(ITEM))
        parts = (
            f"({self.expression(kind, depth)} + {self.expression(kind, depth)})",
            self.macro("filter", kind, ["bool"], depth),
            self.macro("map", other, [ITEM[kind]], depth),
            self.macro("map", other, ["bool", ITEM[kind]], depth),
        )
        return self.draw.choice([p for p in parts if p])

    def macro(self, name: str, items: str, bodies: list[str], depth: int) -> str:
        """At most two, and none in another: ours refuses more."""
        if self.macros >= 2 or self.variables:
            return ""
        over = self.leaf(items)
        self.macros += 1
        self.variables.append(("x", ITEM[items]))
        made = [self.expression(kind, depth) for kind in bodies]
        self.variables.pop()
        return f"{over}.{name}(x, {', '.join(made)})"

    def record(self) -> dict[str, Any]:
        draw = self.draw
        some: dict[str, Callable[[], Any]] = {
            "text": lambda: draw.choice(["", "a", "b", "ab", "é", "A b", "日本"]),
            "whole": lambda: draw.choice([0, 1, -1, 2, 5, 100, INT_MAX, -INT_MAX - 1]),
            "number": lambda: draw.choice([0.0, 1.0, -1.5, 1e300, 0.1, 3.0]),
            "bool": lambda: draw.random() < 0.5,
            "texts": lambda: [some["text"]() for _ in range(draw.randrange(4))],
            "wholes": lambda: [some["whole"]() for _ in range(draw.randrange(4))],
        }
        return {name: some[kind]() for name, kind in FIELDS.items()}


ERROR = "error"


def theirs(text: str, record: dict[str, Any]) -> Any:
    value = ENV.compile(text).eval(data={f"record.{k}": v for k, v in record.items()})
    return ERROR if value.type() == cel.Type.ERROR else value.plain_value()


def ours(text: str, record: dict[str, Any]) -> Any:
    expression, wrong = compile_expression(text, FUNCTIONS, fields=KINDS)
    assert expression is not None, f"refused: {[(w.column, w.message) for w in wrong]}"
    try:
        return expression.call(record, {}, {})
    except EvaluationError as error:  # anything else is a bug, and fails the test
        column = expression.column(error)
    assert 1 <= column <= len(text)
    return ERROR


def same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and a == b


def compare(seed: int, count: int) -> tuple[int, int]:
    """-> (expressions compared, of which errors on both sides)"""
    compared = errors = 0
    maker = Maker(seed)
    while compared < count:
        maker.macros = 0
        text = maker.expression(maker.draw.choice(list(TYPES)), maker.draw.randrange(1, 5))
        if len(text) > 900 or text.count("(") > 100:
            continue
        for _ in range(2):
            record = maker.record()
            expected, got = theirs(text, record), ours(text, record)
            assert same(expected, got), f"{text}\n{record}\ntheirs {expected!r}\nours {got!r}"
            compared += 1
            errors += expected == ERROR
    return compared, errors


@pytest.mark.parametrize("seed", range(4))
def test_ours_and_theirs_agree(seed: int) -> None:
    compared, errors = compare(seed, 1_000)
    assert 0.02 * compared < errors < 0.6 * compared, "the expressions must be worth comparing"


@pytest.mark.parametrize(
    "text",
    [
        "1 / 0 == 1 || true", "true || 1 / 0 == 1", "1 / 0 == 1 && false", "1 / 0 == 1 || false",
        "[1, 2].exists(i, 10 / (i - 1) > 5)", "[1, 2].all(i, 10 / (i - 1) > 50)",
        "[1, 2].exists_one(i, 10 / (i - 1) > 5)", "-9223372036854775808", "--1", "- -1",
        "-(-9223372036854775807 - 1)", "-5 % 3", "5 / -2", "-5 / 2", "1.0 / 0.0", "5 % 0",
        "(-9223372036854775807 - 1) % -1",
        "(-9223372036854775807 - 1) / -1",
        "0.0 / 0.0 == 0.0 / 0.0", "true ? 1 : false ? 2 : 3", "1 + 2 == 3 && true", "[1, 2,]",
        "!!true", "false < true", "'b' > 'a'", "[1, 2][5]", "[1, 2][-1]", "[[1], []] == [[1], []]",
        "'abc'.matches('b')", "matches('abc', '^b')", "'\\101\\x41\\u00e9\\U0001F600'",
        "string(true)", "string(-3)", "string(1.5)", "string(3.0)", "string('a')", "int('-12')",
        "int('+5')", "int('1.0')", "int(1.9)", "int(-1.9)", "int(1e30)", "double('1.5')",
        "double('x')", "double('1_0')", "double(3)", "r'\\n'", "'''a'b'''", "1 // one\n + 1",
        "9223372036854775807 + 1", "2 * 9223372036854775807", "null == null", "size('é')",
        "[1, 2].map(x, x > 1, x * 2)", "'a' in ['a', 'b']", "1 in []", "0x1F", "1e3", ".5",
    ],
)  # fmt: skip
def test_what_is_easily_got_wrong(text: str) -> None:
    expected, got = theirs(text, {}), ours(text, {})
    assert same(expected, got), f"theirs {expected!r}, ours {got!r}"


@pytest.mark.parametrize(
    "text",
    [
        '"a" + 1', "1 + 1.5", '"1" == 1', "[1] + 1", '"a" < 1', "!1", "-true", '1 ? "a" : "b"',
        'true ? 1 : "a"', "1 && true", "size(1)", '"a".contains(1)', "1.5 % 2.0", "true + true",
        '"a" in "abc"', "[1].map(x, y)", "[1].filter(x, 1)", "(1).size()", "1[0]", "foo(1)",
        "record.nothing", "record.text0.nothing", "5.", "1 +", "(1", "[1", '"a', "a b", "", "1 2",
        "9223372036854775808", "'\\q'", "'\\ud800'", "if", "record.text0 ?? 1", "1 = 1", "@",
        "'a\nb'", "1 ? 2", "!", "record.", "[1].map(1, 2)", "int(1, 2)", "'a'.matches('(')",
    ],
)  # fmt: skip
def test_what_they_refuse_we_refuse_before_any_record(text: str) -> None:
    """A mistake that types or grammar can show is found at load, with its column."""
    refused = True
    try:
        ENV.compile(text)
        refused = theirs(text, {}) == ERROR  # a bad pattern shows only at run time there
    except RuntimeError:
        pass
    assert refused, "the example is wrong: CEL takes it"
    expression, wrong = compile_expression(text, FUNCTIONS, fields=KINDS)
    assert expression is None
    assert wrong
    assert all(1 <= w.column <= len(text) + 1 for w in wrong)


if __name__ == "__main__":
    print(compare(int(sys.argv[1]), int(sys.argv[2])))

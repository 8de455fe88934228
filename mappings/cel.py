"""CEL, the Common Expression Language, as far as mappings need it, compiled to Python.

Syntax and meaning are CEL's (https://github.com/google/cel-spec, read 2026-11); the binding is
ours: every declared field exists, missing ones are null. Left out: map and message literals,
timestamps and durations as types, bytes, unsigned integers, optionals. An expression is parsed by
hand into Python `ast` nodes, never into text, so nothing that it says can become code. Bounds:
length, nesting, macros. Errors name the column; at run time too, as nodes carry CEL's columns.
"""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any, NoReturn, cast

from mappings.errors import EvaluationError, ExpressionError

__all__ = ["LIST_ITEMS_MAX", "TEXT_MAX", "Expression", "compile_expression"]

LENGTH_MAX = 1_000
NESTING_MAX = 20
MACROS_MAX = 2
LIST_ITEMS_MAX = 1_000
TEXT_MAX = 64 * 1024
ROOTS = ("record", "event", "person")
MACROS = frozenset({"exists", "all", "exists_one", "filter", "map"})
KEYWORDS = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "false",
        "var",
        "void",
        "while",
    ]
)
INT_MAX, INT_MIN = 2**63 - 1, -(2**63)

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|//[^\n]*)
    |(?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    |(?P<int>0x[0-9a-fA-F]+|\d+)
    |(?P<string>[rR]?(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<op>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|[0-3][0-7]{2}|.)", re.S)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a"}
_RELATIONS = {"==": "_eq", "!=": "_ne", "<": "_lt", "<=": "_le", ">": "_gt", ">=": "_ge"}
_ARITHMETIC = {"+": "_add", "-": "_sub", "*": "_mul", "/": "_div", "%": "_mod"}


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression. `reads`: the paths under `record` that it looks at."""

    text: str
    call: Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Any]
    code: CodeType
    reads: frozenset[str]
    tables: frozenset[str]
    """Names of the tables that it looks up."""

    def column(self, error: BaseException) -> int:
        """Where an error was raised: the innermost place in this expression; 0: unknown."""
        found = 0
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_filename == self.code.co_filename and code.co_filename.startswith("<cel"):
                position = list(code.co_positions())[trace.tb_lasti // 2]
                found = (position[2] or 0) + 1 if position[2] is not None else found
            trace = trace.tb_next
        return found


def compile_expression(
    text: str,
    functions: Mapping[str, "FunctionLike"],
    *,
    fields: frozenset[str] | None = None,
    tables: Mapping[str, Mapping[str, Any]] | None = None,
) -> Expression:
    """Parse and compile. `fields`: paths that exist under `record`; None: any.

    Raises ExpressionError for everything that is wrong, and nothing else.
    """
    if len(text) > LENGTH_MAX:
        raise ExpressionError(f"longer than {LENGTH_MAX} characters", LENGTH_MAX)
    parser = _Parser(text, functions, fields, tables or {})
    body = parser.whole()
    arguments = ast.arguments(
        posonlyargs=[],
        args=[ast.arg(arg=root) for root in ROOTS],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    tree = ast.Expression(ast.Lambda(args=arguments, body=body))
    for node in ast.walk(tree):  # what has no place of its own gets the beginning
        if isinstance(node, ast.expr | ast.arg) and not hasattr(node, "lineno"):
            node.lineno, node.col_offset, node.end_lineno, node.end_col_offset = 1, 0, 1, 0
    scope: dict[str, Any] = {"__builtins__": {}, **_RUNTIME, "_tables": tables or {}}
    scope |= {f"f_{name}": function.call for name, function in functions.items()}
    code = compile(tree, f"<cel {text[:40]}>", "eval")
    return Expression(
        text,
        eval(code, scope),  # noqa: S307 - nodes that we made ourselves
        code,
        frozenset(parser.reads),
        frozenset(parser.looked_up),
    )


@dataclass(frozen=True, slots=True)
class FunctionLike:
    """A function that expressions may call: how many arguments, and what it does."""

    call: Callable[..., Any]
    arity: tuple[int, int]
    check: Callable[[list[ast.expr]], str | None] = lambda arguments: None
    """What is wrong with the arguments as written, if anything."""


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent, one method a level of precedence."""

    def __init__(
        self,
        text: str,
        functions: Mapping[str, FunctionLike],
        fields: frozenset[str] | None,
        tables: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.text, self.functions, self.fields, self.tables = text, functions, fields, tables
        self.tokens = list(_tokens(text))
        self.i = 0
        self.depth = 0
        self.macros = 0
        self.in_macro = False
        self.variables: set[str] = set()
        self.reads: set[str] = set()
        self.looked_up: set[str] = set()

    def whole(self) -> ast.expr:
        tree = self.ternary()
        if self.token.kind != "end":
            self.fail(f"did not expect {self.token.text!r}")
        return tree

    @property
    def token(self) -> _Token:
        return self.tokens[self.i]

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        raise ExpressionError(message, (self.token.at if at is None else at) + 1)

    def take(self, *texts: str) -> _Token | None:
        token = self.token
        if token.kind in ("op", "name") and token.text in texts:
            self.i += 1
            return token
        return None

    def expect(self, text: str) -> None:
        if not self.take(text):
            self.fail(f"expected {text!r}, found {self.token.text or 'the end'!r}")

    def ternary(self) -> ast.expr:
        self.depth += 1
        if self.depth > NESTING_MAX:
            self.fail(f"nested deeper than {NESTING_MAX}")
        condition = self.logical("||", lambda: self.logical("&&", self.relation))
        if token := self.take("?"):
            yes = self.ternary()
            self.expect(":")
            no = self.ternary()
            condition = _at(token.at, ast.IfExp(self.helper("_bool", token.at, condition), yes, no))
        self.depth -= 1
        return condition

    def logical(self, sign: str, deeper: Callable[[], ast.expr]) -> ast.expr:
        terms = [deeper()]
        at = self.token.at
        while self.take(sign):
            terms.append(deeper())
        if len(terms) == 1:
            return terms[0]
        operator = ast.Or() if sign == "||" else ast.And()
        return _at(at, ast.BoolOp(operator, [self.helper("_bool", at, t) for t in terms]))

    def relation(self) -> ast.expr:
        left = self.arithmetic(("+", "-"), lambda: self.arithmetic(("*", "/", "%"), self.unary))
        while token := self.take(*_RELATIONS, "in"):
            right = self.arithmetic(
                ("+", "-"), lambda: self.arithmetic(("*", "/", "%"), self.unary)
            )
            left = self.helper(_RELATIONS.get(token.text, "_in"), token.at, left, right)
        return left

    def arithmetic(self, signs: tuple[str, ...], deeper: Callable[[], ast.expr]) -> ast.expr:
        left = deeper()
        while token := self.take(*signs):
            left = self.helper(_ARITHMETIC[token.text], token.at, left, deeper())
        return left

    def unary(self) -> ast.expr:
        signs: list[_Token] = []
        while token := self.take("!", "-"):
            signs.append(token)
            if len(signs) > NESTING_MAX:
                self.fail(f"nested deeper than {NESTING_MAX}")
        if signs and signs[-1].text == "-" and self.token.kind in ("int", "float"):
            signs.pop()
            tree = self.member(negative=True)
        else:
            tree = self.member()
        for token in reversed(signs):
            tree = self.helper("_not" if token.text == "!" else "_neg", token.at, tree)
        return tree

    def member(self, *, negative: bool = False) -> ast.expr:
        start = self.token
        tree, path = self.primary(negative=negative)
        while token := self.take(".", "["):
            if token.text == "[":
                tree, path = self.settle(tree, path, start.at), None
                index = self.ternary()
                self.expect("]")
                tree = self.helper("_index", token.at, tree, index)
                continue
            name = self.token
            if name.kind != "name":
                self.fail("expected a name after '.'")
            if name.text in KEYWORDS:
                self.fail(
                    f"{name.text} is a word of the language and cannot be a field's name here"
                )
            self.i += 1
            if self.take("("):
                tree, path = self.method(self.settle(tree, path, start.at), name), None
            elif path is not None:
                path = (*path, name.text)
            else:
                tree = self.helper("_member", name.at, tree, _at(name.at, ast.Constant(name.text)))
        return self.settle(tree, path, start.at)

    def settle(self, tree: ast.expr, path: tuple[str, ...] | None, at: int) -> ast.expr:
        """A dotted path under a root becomes one look-up."""
        if path is None:
            return tree
        root, *names = path
        if not names:
            self.fail(f"{root} alone is no value; name one of its fields", at)
        name = ".".join(names)
        if root == "record":
            self.reads.add(name)
            if self.fields is not None and name not in self.fields:
                self.fail(f"there is no field {name}{_near(name, self.fields)}", at)
        elif name not in (known := _ROOT_FIELDS[root]):
            self.fail(f"{root} has no {name}{_near(name, known)}", at)
        get = ast.Attribute(ast.Name(root, ast.Load()), "get", ast.Load())
        found = _at(at, ast.Call(_at(at, get), [_at(at, ast.Constant(name))], []))
        if len(names) == 1 or (self.fields is not None and root == "record"):
            return found
        parts = ast.Tuple([ast.Constant(n) for n in names], ast.Load())
        return self.helper("_path", at, ast.Name(root, ast.Load()), parts)

    def primary(self, *, negative: bool) -> tuple[ast.expr, tuple[str, ...] | None]:
        token = self.token
        self.i += 1
        match token.kind:
            case "int":
                number = int(token.text, 0) if token.text[:2] == "0x" else int(token.text)
                number = -number if negative else number
                if not INT_MIN <= number <= INT_MAX:
                    self.fail("does not fit into 64 bits", token.at)
                return _at(token.at, ast.Constant(number)), None
            case "float":
                number = float(token.text)
                return _at(token.at, ast.Constant(-number if negative else number)), None
            case "string":
                return _at(token.at, ast.Constant(self.literal(token))), None
            case "name":
                return self.named(token)
            case "op" if token.text == "(":
                tree = self.ternary()
                self.expect(")")
                return tree, None
            case "op" if token.text == "[":
                items = self.arguments("]")
                return _at(token.at, ast.List(items, ast.Load())), None
            case _:
                self.i -= 1
                self.fail(f"did not expect {token.text or 'the end'!r}")

    def named(self, token: _Token) -> tuple[ast.expr, tuple[str, ...] | None]:
        constants = {"true": True, "false": False, "null": None}
        if token.text in constants:
            return _at(token.at, ast.Constant(constants[token.text])), None
        if token.text in KEYWORDS:
            self.fail(f"{token.text} is a word of the language", token.at)
        if self.take("("):
            if token.text == "has":
                tree = self.ternary()
                self.expect(")")
                return self.helper("_has", token.at, tree), None
            return self.function(token, self.arguments(")")), None
        if token.text in self.variables:
            return _at(token.at, ast.Name(f"v_{token.text}", ast.Load())), None
        if token.text in ROOTS:
            return ast.Constant(None), (token.text,)
        self.fail(
            f"unknown name {token.text}{_near(token.text, (*ROOTS, *self.functions))}", token.at
        )

    def arguments(self, end: str) -> list[ast.expr]:
        found: list[ast.expr] = []
        if self.take(end):
            return found
        while True:
            found.append(self.ternary())
            if self.take(end):
                return found
            self.expect(",")

    def function(self, name: _Token, arguments: list[ast.expr]) -> ast.expr:
        function = self.functions.get(name.text)
        if function is None:
            self.fail(f"unknown function {name.text}{_near(name.text, self.functions)}", name.at)
        low, high = function.arity
        if not low <= len(arguments) <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            self.fail(f"{name.text} takes {wanted} arguments, not {len(arguments)}", name.at)
        if wrong := function.check(arguments):
            self.fail(f"{name.text}: {wrong}", name.at)
        if name.text == "lookup":
            return self.lookup(name, arguments)
        call = ast.Call(_at(name.at, ast.Name(f"f_{name.text}", ast.Load())), arguments, [])
        return _at(name.at, call)

    def lookup(self, name: _Token, arguments: list[ast.expr]) -> ast.expr:
        table = arguments[0]
        assert isinstance(table, ast.Constant)
        if table.value not in self.tables:
            self.fail(
                f"there is no table {table.value}{_near(str(table.value), self.tables)}", name.at
            )
        self.looked_up.add(str(table.value))
        held = ast.Subscript(ast.Name("_tables", ast.Load()), table, ast.Load())
        call = ast.Call(ast.Name("f_lookup", ast.Load()), [held, arguments[1]], [])
        return _at(name.at, call)

    def method(self, target: ast.expr, name: _Token) -> ast.expr:
        if name.text in MACROS:
            return self.macro(target, name)
        return self.function(name, [target, *self.arguments(")")])

    def macro(self, target: ast.expr, name: _Token) -> ast.expr:
        """`list.filter(x, condition)` and its kin."""
        self.macros += 1
        if self.macros > MACROS_MAX or self.in_macro:
            self.fail(f"at most {MACROS_MAX} list macros, and none inside another", name.at)
        variable = self.token
        if variable.kind != "name" or variable.text in (*ROOTS, *KEYWORDS, *self.functions):
            self.fail("expected a new name for the list's items")
        self.i += 1
        self.expect(",")
        self.in_macro = True
        self.variables.add(variable.text)
        body = self.ternary()
        self.variables.discard(variable.text)
        self.in_macro = False
        self.expect(")")
        arguments = ast.arguments(
            posonlyargs=[], args=[ast.arg(arg=f"v_{variable.text}")], kwonlyargs=[],
            kw_defaults=[], defaults=[],
        )  # fmt: skip
        return self.helper(f"_{name.text}", name.at, target, ast.Lambda(arguments, body))

    def helper(self, name: str, at: int, *arguments: ast.expr) -> ast.expr:
        return _at(at, ast.Call(_at(at, ast.Name(name, ast.Load())), list(arguments), []))

    def literal(self, token: _Token) -> str:
        if token.text[0] in "rR":
            return token.text[2:-1]

        def plain(found: re.Match[str]) -> str:
            code = found[1]
            if code[0] in "uUx" and len(code) > 1:
                return chr(int(code[1:], 16))
            if code[0].isdigit():
                return chr(int(code, 8))
            if code in _SIMPLE or code in "\\'\"`?":
                return _SIMPLE.get(code, code)
            raise ExpressionError(f"unknown escape \\{code}", token.at + 1)

        try:
            return _ESCAPE.sub(plain, token.text[1:-1])
        except (ValueError, OverflowError):
            raise ExpressionError("no such character", token.at + 1) from None


def _tokens(text: str) -> Iterable[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ExpressionError(f"did not expect {text[at]!r}", at + 1)
        if found.lastgroup != "space":
            yield _Token(str(found.lastgroup), found[0], at)
        at = found.end()
    yield _Token("end", "", at)


def _at(column: int, node: Any) -> Any:
    node.lineno = node.end_lineno = 1
    node.col_offset, node.end_col_offset = column, column + 1
    return node


def _near(name: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


_ROOT_FIELDS = {
    "event": frozenset({"type", "platform", "object", "time", "changed"}),
    "person": frozenset({"key", "email"}),
}


# What compiled expressions call


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case str():
            return "text"
        case int() | float():
            return "number"
        case list():
            return "list"
        case _:
            return "object"


def _no(sign: str, *values: Any) -> EvaluationError:
    return EvaluationError(f"{sign} cannot be used with {' and '.join(map(_kind, values))}")


def _bool(value: Any) -> bool:
    if value is True or value is False:
        return value
    raise EvaluationError(f"a condition must be true or false, not {_kind(value)}")


def _eq(a: Any, b: Any) -> bool:
    if a.__class__ is b.__class__ and a.__class__ is not list:
        return a == b
    if isinstance(a, list) and isinstance(b, list):
        left = cast("list[Any]", a)
        right = cast("list[Any]", b)
        return len(left) == len(right) and all(map(_eq, left, right))
    return _kind(a) == _kind(b) and a == b


def _ne(a: Any, b: Any) -> bool:
    return not _eq(a, b)


def _comparable(sign: str, a: Any, b: Any) -> None:
    kind = _kind(a)
    if kind != _kind(b) or kind not in ("text", "number", "bool"):
        raise _no(sign, a, b)


def _lt(a: Any, b: Any) -> bool:
    _comparable("<", a, b)
    return a < b


def _le(a: Any, b: Any) -> bool:
    _comparable("<=", a, b)
    return a <= b


def _gt(a: Any, b: Any) -> bool:
    _comparable(">", a, b)
    return a > b


def _ge(a: Any, b: Any) -> bool:
    _comparable(">=", a, b)
    return a >= b


def _in(item: Any, items: Any) -> bool:
    if isinstance(items, list):
        return any(_eq(item, other) for other in items)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    raise _no("in", item, items)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(sign: str, a: Any, b: Any) -> bool:
    """Whether both are whole numbers. CEL mixes no kinds of number."""
    if _is_number(a) and type(a) is type(b):
        return isinstance(a, int)
    raise _no(sign, a, b)


def _whole(value: int) -> int:
    if INT_MIN <= value <= INT_MAX:
        return value
    raise EvaluationError("does not fit into 64 bits")


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, str) and isinstance(b, str):
        if len(a) + len(b) > TEXT_MAX:
            raise EvaluationError(f"text longer than {TEXT_MAX}")
        return a + b
    if isinstance(a, list) and isinstance(b, list):
        left = cast("list[Any]", a)
        right = cast("list[Any]", b)
        if len(left) + len(right) > LIST_ITEMS_MAX:
            raise EvaluationError(f"list longer than {LIST_ITEMS_MAX}")
        return left + right
    return _whole(a + b) if _numbers("+", a, b) else a + b


def _sub(a: Any, b: Any) -> Any:
    return _whole(a - b) if _numbers("-", a, b) else a - b


def _mul(a: Any, b: Any) -> Any:
    return _whole(a * b) if _numbers("*", a, b) else a * b


def _div(a: Any, b: Any) -> Any:
    if not _numbers("/", a, b):
        if b == 0:
            return float("nan") if a == 0 or a != a else float("inf") * (1 if a > 0 else -1)
        return a / b
    if b == 0:
        raise EvaluationError("division by zero")
    quotient = abs(a) // abs(b)
    return _whole(quotient if (a < 0) == (b < 0) else -quotient)


def _mod(a: Any, b: Any) -> Any:
    if not _numbers("%", a, b):
        raise _no("%", a, b)
    if b == 0:
        raise EvaluationError("division by zero")
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


def _not(a: Any) -> bool:
    return not _bool(a)


def _neg(a: Any) -> Any:
    if not _is_number(a):
        raise _no("-", a)
    return _whole(-a) if isinstance(a, int) else -a


def _path(root: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """By the flat name where there is one, else step by step; null on the way is null."""
    flat = ".".join(names)
    if flat in root:
        return root[flat]
    value: Any = root
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return value  # pyright: ignore[reportUnknownVariableType]


def _member(value: Any, name: str) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return value.get(name)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    raise _no(f".{name}", value)


def _index(value: Any, index: Any) -> Any:
    if isinstance(value, list) and isinstance(index, int) and not isinstance(index, bool):
        items = cast("list[Any]", value)
        if 0 <= index < len(items):
            return items[index]
        raise EvaluationError("no such item in the list")
    if isinstance(value, Mapping) and isinstance(index, str):
        return value.get(index)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    raise _no("[]", value, index)


def _has(value: Any) -> bool:
    return value is not None


def _items(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise EvaluationError(f"a list is needed, not {_kind(value)}")
    items = cast("list[Any]", value)
    if len(items) > LIST_ITEMS_MAX:
        raise EvaluationError(f"list longer than {LIST_ITEMS_MAX}")
    return items


Each = Callable[[Any], Any]


def _exists(items: Any, test: Each) -> bool:
    return any(_bool(test(item)) for item in _items(items))


def _all(items: Any, test: Each) -> bool:
    return all(_bool(test(item)) for item in _items(items))


def _exists_one(items: Any, test: Each) -> bool:
    return sum(_bool(test(item)) for item in _items(items)) == 1


def _filter(items: Any, test: Each) -> list[Any]:
    return [item for item in _items(items) if _bool(test(item))]


def _map(items: Any, change: Each) -> list[Any]:
    return [change(item) for item in _items(items)]


_RUNTIME: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        _bool, _eq, _ne, _lt, _le, _gt, _ge, _in, _add, _sub, _mul, _div, _mod, _not, _neg,
        _path, _member, _index, _has, _exists, _all, _exists_one, _filter, _map,
    )
}  # fmt: skip

"""An expression's tree to a Python function, with names, arguments and kinds of value checked.

Python's own `ast` nodes are built, never text, so nothing that an expression says can become code.
Nodes carry the expression's columns: an error at run time tells its place, at no cost before.
"""

import ast
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

from mappings.cel import syntax
from mappings.cel.function import WORDS, Function, Kind, fits
from mappings.cel.operations import OPERATIONS
from mappings.cel.operators import NOTHING, Code, Operators, lambda_
from mappings.errors import ExpressionError

__all__ = ["ROOTS", "Expression", "Fields", "Tables", "compile_expression", "near"]

Tables = Mapping[str, Mapping[str, Any]]
Fields = Mapping[str, Kind]
Given = str | int | float | bool | None

ROOTS: dict[str, Fields | None] = {
    "record": None,
    "event": {
        "type": "text", "platform": "text", "object": "text", "time": "text", "changed": "list",
    },
    "person": {"key": "text", "email": "text"},
}  # fmt: skip
FILENAME = "<expression>"

_MACROS: dict[str, tuple[str, Kind]] = {
    "all": ("every", "bool"), "exists": ("exists", "bool"), "exists_one": ("exists_one", "bool"),
    "filter": ("keep", "list"), "map": ("change", "list"),
}  # fmt: skip
_HINTS = {
    "now": "use event.time, the time of the change", "timestamp": "times are text; see date_format",
    "duration": "there are no durations", "uint": "use int", "bytes": "there are no bytes",
    "dyn": "leave it out", "type": "there is none", "bool": "use to_bool",
    "lowerAscii": "use lower", "upperAscii": "use upper", "substring": "use truncate",
    "format": "use + and string()", "iif": "write test ? this : that",
    "if": "write test ? this : that",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression."""

    text: str
    call: Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Any]
    """(record, event, person) -> JSON value. Raises EvaluationError, or whatever a bug raises."""
    kind: Kind
    reads: frozenset[str]
    """Fields of the record that it looks at, by their flat names."""
    tree: syntax.Node
    uses: frozenset[str]
    """Paths as written, with their root: `record.email`, `person.email`."""

    def column(self, error: BaseException) -> int:
        """Where the error was raised in this expression, from 1; 0: unknown."""
        trace, found = error.__traceback__, 0
        while trace is not None:
            code = trace.tb_frame.f_code
            if code.co_filename == FILENAME:
                start = _start(code, trace.tb_lasti)
                found = found if start is None else start + 1
            trace = trace.tb_next
        return found


def _start(code: CodeType, instruction: int) -> int | None:
    for place, (_, _, start, _) in enumerate(code.co_positions()):
        if place == instruction // 2:
            return start
    return None


def compile_expression(
    text: str,
    functions: Mapping[str, Function],
    *,
    fields: Fields | None = None,
    tables: Tables | None = None,
) -> tuple[Expression | None, list[ExpressionError]]:
    """-> (what can be called, what is wrong); the first is None where anything is wrong.

    `fields`: the source's fields and what kind of value each has; None: any name is taken.
    """
    try:
        tree = syntax.parse(text)
    except ExpressionError as error:
        return None, [error]
    compiler = _Compiler(functions, fields, tables or {})
    body = compiler.code(tree)
    if compiler.wrong:
        return None, compiler.wrong
    function = ast.Expression(lambda_(list(ROOTS), body.tree))
    code = compile(ast.fix_missing_locations(function), FILENAME, "eval")
    scope: dict[str, Any] = {"__builtins__": {}, **OPERATIONS, **compiler.bound}
    call = eval(code, scope)  # noqa: S307 - of nodes that were made here, without any builtin
    reads, uses = frozenset(compiler.reads), frozenset(compiler.uses)
    return Expression(text, call, body.kind, reads, tree, uses), []


def near(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing."""
    close = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


class _Compiler(Operators):
    """Walks a tree. `bound`: what the Python code calls by name."""

    def __init__(
        self, functions: Mapping[str, Function], fields: Fields | None, tables: Tables
    ) -> None:
        super().__init__()
        self.functions, self.fields, self.tables = functions, fields, tables
        self.variables: set[str] = set()
        self.reads: set[str] = set()
        self.uses: set[str] = set()
        self.bound: dict[str, Any] = {}

    def code(self, node: syntax.Node) -> Code:
        match node:
            case syntax.Literal(value=value):
                return self.literal(value)
            case syntax.Name() | syntax.Select() | syntax.Index():
                return self.member(node)
            case syntax.Call():
                return self.function(node)
            case syntax.Method():
                return self.method(node)
            case syntax.Macro():
                return self.macro(node)
            case syntax.Items(items=items):
                found = [self.code(item) for item in items]
                tree = ast.List([f.tree for f in found], ast.Load())
                return Code(tree, "list", True, all(f.safe for f in found))
            case syntax.Unary(at=at, sign=sign, of=of):
                return (self.negated if sign == "!" else self.minus)(at, self.code(of))
            case syntax.Chain(first=first, rest=rest):
                left = self.code(first)
                for sign, at, operand in rest:
                    left = self.between(sign, at, left, self.code(operand))
                return left
            case syntax.Logic(at=at, sign=sign, terms=terms):
                places = [term.at for term in terms]
                return self.logic(sign, at, places, [self.code(term) for term in terms])
            case syntax.Ternary(test=test, yes=yes, no=no):
                codes = (self.code(test), self.code(yes), self.code(no))
                return self.chosen(test.at, no.at, *codes)
            case _:
                raise AssertionError(node)

    def literal(self, value: Given) -> Code:
        kinds: dict[type, Kind] = {
            str: "text", int: "whole", float: "number", bool: "bool", type(None): "null",
        }  # fmt: skip
        kind = kinds[type(value)]
        return Code(ast.Constant(value), kind, kind != "null", True, literal=True)

    # ---- names

    def member(self, node: syntax.Node) -> Code:
        """A name, or what stands after a dot or in brackets: one look-up where it is a path."""
        path = self.path(node)
        if path is not None:
            return self.look_up(node.at, *path)
        match node:
            case syntax.Name(at=at, name=name):
                if name in self.variables:
                    return Code(ast.Name(f"v_{name}", ast.Load()), safe=True)
                if name in ROOTS:
                    return self.fail(at, f"{name} alone is no value; name one of its fields")
                known = [*ROOTS, *self.variables, *self.functions]
                if self.fields is not None and name in self.fields:
                    return self.fail(at, f"write record.{name}")
                return self.fail(at, f"there is no {name}{near(name, known)}")
            case syntax.Select(at=at, of=of, name=name):
                held = self.code(of)
                if not fits(held.kind, ("object",)):
                    return self.fail(at, f".{name} cannot be taken from {WORDS[held.kind]}")
                return Code(self.call(at, "select", held.tree, ast.Constant(name)))
            case syntax.Index(at=at, of=of, key=key):
                held, which = self.code(of), self.code(key)
                if not fits(held.kind, ("list", "object")):
                    return self.fail(at, f"[ ] cannot be used on {WORDS[held.kind]}")
                if not fits(which.kind, ("text", "whole")):
                    return self.fail(key.at, f"[ ] cannot hold {WORDS[which.kind]}")
                return Code(self.call(at, "index", held.tree, which.tree))
            case _:
                raise AssertionError(node)

    def path(self, node: syntax.Node) -> tuple[str, tuple[str, ...]] | None:
        """Root and names of `record.a["b"].c`; None where it is no such path."""
        names: list[str] = []
        while True:
            match node:
                case syntax.Select(of=of, name=name):
                    names.append(name)
                    node = of
                case syntax.Index(of=of, key=syntax.Literal(value=str(name))):
                    names.append(name)
                    node = of
                case syntax.Name(name=root) if root in ROOTS and names:
                    return root, tuple(reversed(names))
                case _:
                    return None

    def look_up(self, at: int, root: str, names: tuple[str, ...]) -> Code:
        flat = ".".join(names)
        self.uses.add(f"{root}.{flat}")
        known = self.fields if root == "record" else ROOTS[root]
        if known is None:
            self.reads.add(flat)
            get = ast.Attribute(ast.Name(root, ast.Load()), "get", ast.Load())
            if len(names) == 1:
                return Code(ast.Call(get, [ast.Constant(flat)], []), safe=True, path=True)
            parts = ast.Tuple([ast.Constant(name) for name in names], ast.Load())
            tree = self.call(at, "path", ast.Name(root, ast.Load()), ast.Constant(flat), parts)
            return Code(tree, safe=True, path=True)
        whole = next((p for p in _prefixes(names) if p in known), None)
        if whole is None or (whole != flat and known[whole] not in ("object", "any")):
            words = f"there is no field {flat}" if root == "record" else f"{root} has no {flat}"
            return self.fail(at, words + near(flat, known))
        if root == "record":
            self.reads.add(whole)
        if whole != flat:
            parts = ast.Tuple([ast.Constant(name) for name in names], ast.Load())
            tree = self.call(at, "path", ast.Name(root, ast.Load()), ast.Constant(flat), parts)
            return Code(tree, safe=True, path=True)
        get = ast.Attribute(ast.Name(root, ast.Load()), "get", ast.Load())
        found = Code(ast.Call(get, [ast.Constant(flat)], []), known[flat], safe=True, path=True)
        return self.as_list(at, found) if known[flat] == "list" else found

    # ---- calls

    def function(self, node: syntax.Call) -> Code:
        if node.name == "has":
            return self.has(node)
        function = self.functions.get(node.name)
        if function is None:
            hint = _HINTS.get(node.name)
            words = f"; {hint}" if hint else near(node.name, self.functions)
            return self.fail(node.at, f"there is no function {node.name}{words}")
        return self.called(node.at, function, node.arguments)

    def has(self, node: syntax.Call) -> Code:
        """`has(record.x)`: the field has a value, null is none."""
        if len(node.arguments) != 1 or not isinstance(
            node.arguments[0], syntax.Select | syntax.Index
        ):
            return self.fail(node.at, "has takes one field, as in has(record.email)")
        held = self.code(node.arguments[0])
        tree = ast.Compare(held.tree, [ast.IsNot()], [ast.Constant(None)])
        return Code(tree, "bool", True, held.safe)

    def method(self, node: syntax.Method) -> Code:
        function = self.functions.get(f".{node.name}")
        if function is None:
            if node.name in self.functions:
                return self.fail(node.at, f"write {self.functions[node.name].usage}, without a dot")
            methods = [name[1:] for name in self.functions if name[0] == "."]
            hint = _HINTS.get(node.name)
            words = f"; {hint}" if hint else near(node.name, [*methods, *self.functions])
            return self.fail(node.at, f"there is no .{node.name}(){words}")
        return self.called(node.at, function, (node.of, *node.arguments))

    def called(self, at: int, function: Function, given: tuple[syntax.Node, ...]) -> Code:
        most = None if function.many else len(function.takes)
        if len(given) < len(function.takes) - function.optional or len(given) > (
            most or len(given)
        ):
            return self.fail(at, f"{function.name} is used as {function.usage}")
        codes = [self.code(argument) for argument in given]
        ends = [function.takes[min(i, len(function.takes) - 1)] for i in range(len(given))]
        for place, (argument, code, allowed) in enumerate(zip(given, codes, ends, strict=True)):
            if not fits(code.kind, allowed):
                wanted = " or ".join(WORDS[a] for a in allowed)
                name = function.names[min(place, len(function.names) - 1)]
                self.fail(
                    argument.at,
                    f"{name} of {function.name} must be {wanted}, not {WORDS[code.kind]}",
                )
            if place in function.literal and not isinstance(argument, syntax.Literal):
                name = function.names[place]
                self.fail(argument.at, f"{name} of {function.name} must be written out")
        if self.wrong:
            return Code(ast.Constant(None), function.gives)
        call = function.call
        if function.bind is not None:
            found = self.prepared(function, given)
            if found is None:
                return NOTHING
            call = found
        name = f"f{len(self.bound)}"
        self.bound[name] = call
        rest = [c.tree for i, c in enumerate(codes) if i not in function.literal]
        tree = self.call(at, name, *rest)
        safe = function.never_fails and all(c.safe for c in codes)
        return Code(tree, function.gives, function.never_null, safe)

    def prepared(
        self, function: Function, given: tuple[syntax.Node, ...]
    ) -> Callable[..., Any] | None:
        """The function for the arguments that were written out."""
        assert function.bind is not None
        written = [given[i] for i in function.literal if i < len(given)]
        values = [node.value for node in written if isinstance(node, syntax.Literal)]
        if function.table:
            name = str(values[0])
            if name not in self.tables:
                words = f"there is no table {name}{near(name, self.tables)}"
                self.fail(written[0].at, words)
                return None
            return function.bind(self.tables[name])
        try:
            return function.bind(*values)
        except ValueError as error:
            self.fail(written[0].at, str(error))
            return None

    def macro(self, node: syntax.Macro) -> Code:
        of = self.code(node.of)
        if not fits(of.kind, ("list",)):
            return self.fail(node.at, f"{node.name} needs a list, not {WORDS[of.kind]}")
        if node.variable in ROOTS or node.variable in self.functions:
            return self.fail(node.at, f"{node.variable} has a meaning already; take another name")
        if of.path and of.kind == "any":
            of = self.as_list(node.at, of)
        self.variables.add(node.variable)
        bodies = [self.code(body) for body in node.bodies]
        self.variables.discard(node.variable)
        name, gives = _MACROS[node.name]
        if node.name != "map" or len(bodies) == 2:
            self.condition(node.bodies[0].at, bodies[0], node.name)
        if node.name == "map" and len(bodies) == 2:
            name = "keep_and_change"
        each = [lambda_([f"v_{node.variable}"], body.tree) for body in bodies]
        return Code(self.call(node.at, name, of.tree, *each), gives, True)


def _prefixes(names: tuple[str, ...]) -> Iterable[str]:
    """`a.b.c`, `a.b`, `a`"""
    for end in range(len(names), 0, -1):
        yield ".".join(names[:end])

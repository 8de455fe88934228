"""CEL text to a tree. Every node knows its place; what is too long or too deep is refused here."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from mappings.errors import ExpressionError

__all__ = [
    "Call", "Chain", "Index", "Items", "Literal", "Logic", "Macro", "Method", "Name", "Node",
    "Select", "Ternary", "Unary", "parse",
]  # fmt: skip

LENGTH_MAX = 1_000
NESTING_MAX = 20  # brackets, arguments and branches inside one another
HEIGHT_MAX = 50  # of the tree: far below what Python's own compiler takes
TERMS_MAX = 64  # of one `a + b + c`
MACROS_MAX = 2
INT_MAX, INT_MIN = 2**63 - 1, -(2**63)

MACROS = {"all": (2,), "exists": (2,), "exists_one": (2,), "filter": (2,), "map": (2, 3)}
CONSTANTS = {"true": True, "false": False, "null": None}
RESERVED = frozenset(
    ["as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop",
     "package", "namespace", "return", "var", "void", "while"]
)  # fmt: skip
RELATIONS = ("==", "!=", "<=", ">=", "<", ">", "in")
SUMS = ("+", "-")
PRODUCTS = ("*", "/", "%")

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<double>(?:\d+\.\d+|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    |(?P<int>0x[0-9a-fA-F]+|\d+)
    |(?P<raw>[rR](?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\r\n]*"|'[^'\r\n]*'))
    |(?P<text>\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}
             |"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*')
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(
    r"\\(?:(?P<hex>x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|(?P<octal>[0-3][0-7]{2})|(?P<one>.))",
    re.DOTALL,
)
_SIMPLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip
_HINTS = {
    "{": "maps cannot be written here; use a table and lookup()",
    "&": "write && for and",
    "|": "write || for or",
    "=": "write == to compare",
    "`": "write record[\"…\"] for a name that is not a plain word",
    '"': "this text has no end",
    "'": "this text has no end",
}  # fmt: skip
_WORDS = {"and": "write && for and", "or": "write || for or", "not": "write ! for not"}


@dataclass(frozen=True, slots=True)
class Node:
    """`at`: offset in the text, from 0. `height`: of the tree from here down."""

    at: int
    height: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Name(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Select(Node):
    of: Node
    name: str


@dataclass(frozen=True, slots=True)
class Index(Node):
    of: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Method(Node):
    of: Node
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Macro(Node):
    """`of.name(variable, bodies…)`."""

    of: Node
    name: str
    variable: str
    bodies: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Items(Node):
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Unary(Node):
    sign: str
    of: Node


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """Operators of one precedence, from left to right: `first (sign, at, operand)*`."""

    first: Node
    rest: tuple[tuple[str, int, Node], ...]


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """All of `&&`, or all of `||`."""

    sign: str
    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Ternary(Node):
    test: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> Node:
    """Raises ExpressionError for everything that is no expression of ours, and nothing else."""
    if len(text) > LENGTH_MAX:
        raise ExpressionError(f"is longer than {LENGTH_MAX} characters", LENGTH_MAX)
    if not text.strip():
        raise ExpressionError("is empty", 1)
    parser = _Parser(text)
    tree = parser.expression()
    if parser.token.kind != "end":
        parser.fail(_WORDS.get(parser.token.text, f"did not expect {parser.token.text}"))
    return tree


class _Parser:
    """Recursive descent, one method a level of precedence; depth is bounded in `expression`."""

    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.i = 0
        self.depth = self.macros = 0
        self.in_macro = False

    @property
    def token(self) -> _Token:
        return self.tokens[self.i]

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        raise ExpressionError(message, (self.token.at if at is None else at) + 1)

    def next(self) -> _Token:
        token = self.token
        if token.kind != "end":
            self.i += 1
        return token

    def take(self, *texts: str) -> _Token | None:
        """The next token if it is one of these."""
        if self.token.kind in ("sign", "name") and self.token.text in texts:
            return self.next()
        return None

    def expect(self, text: str) -> None:
        if not self.take(text):
            found = self.token.text or "the end"
            self.fail(_WORDS.get(found, f"expected {text} and not {found}"))

    def over(self, at: int, *below: Node) -> int:
        """Height of a node over these."""
        height = 1 + max((node.height for node in below), default=0)
        if height > HEIGHT_MAX:
            self.fail("is nested too deeply", at)
        return height

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > NESTING_MAX:
            self.fail(f"is nested deeper than {NESTING_MAX}")
        test = self.logic("||")
        if token := self.take("?"):
            yes = self.expression()
            self.expect(":")
            no = self.expression()
            test = Ternary(token.at, self.over(token.at, test, yes, no), test, yes, no)
        self.depth -= 1
        return test

    def logic(self, sign: str) -> Node:
        terms: list[Node] = []
        at = -1
        while True:
            terms.append(self.logic("&&") if sign == "||" else self.chain(RELATIONS))
            token = self.take(sign)
            if token is None:
                break
            at = token.at if at < 0 else at
        self.bound(len(terms))
        return terms[0] if at < 0 else Logic(at, self.over(at, *terms), sign, tuple(terms))

    def chain(self, signs: tuple[str, ...]) -> Node:
        first = self.operand(signs)
        rest: list[tuple[str, int, Node]] = []
        while token := self.take(*signs):
            rest.append((token.text, token.at, self.operand(signs)))
            self.bound(len(rest))
        if not rest:
            return first
        at = rest[0][1]
        return Chain(at, self.over(at, first, *(node for _, _, node in rest)), first, tuple(rest))

    def operand(self, signs: tuple[str, ...]) -> Node:
        if signs is RELATIONS:
            return self.chain(SUMS)
        return self.chain(PRODUCTS) if signs is SUMS else self.unary()

    def bound(self, terms: int) -> None:
        if terms > TERMS_MAX:
            self.fail(f"more than {TERMS_MAX} terms in a row")

    def unary(self) -> Node:
        signs: list[_Token] = []
        while token := self.take("!", "-"):
            signs.append(token)
            if len(signs) > NESTING_MAX:
                self.fail(f"is nested deeper than {NESTING_MAX}")
        minus = bool(signs) and signs[-1].text == "-" and self.token.kind in ("int", "double")
        if minus:
            signs.pop()
        tree = self.member(minus)
        for token in reversed(signs):
            tree = Unary(token.at, self.over(token.at, tree), token.text, tree)
        return tree

    def member(self, minus: bool) -> Node:
        tree = self.primary(minus)
        while token := self.take(".", "["):
            if token.text == "[":
                key = self.expression()
                self.expect("]")
                tree = Index(token.at, self.over(token.at, tree, key), tree, key)
                continue
            name = self.next()
            if name.kind != "name" or name.text in (*CONSTANTS, "in"):
                self.fail(f"expected a name after the dot, not {name.text or 'the end'}", name.at)
            if not self.take("("):
                tree = Select(name.at, self.over(name.at, tree), tree, name.text)
            elif name.text in MACROS:
                tree = self.macro(tree, name)
            else:
                given = self.list_until(")")
                tree = Method(name.at, self.over(name.at, tree, *given), tree, name.text, given)
        return tree

    def macro(self, of: Node, name: _Token) -> Node:
        """`of.filter(x, condition)` and its kin, after the bracket."""
        self.macros += 1
        if self.macros > MACROS_MAX or self.in_macro:
            self.fail(f"at most {MACROS_MAX} list macros, and none inside another", name.at)
        variable = self.next()
        if variable.kind != "name" or variable.text in (*CONSTANTS, *RESERVED, "in"):
            self.fail(f"{name.text} needs a name for the items of the list first", variable.at)
        self.expect(",")
        self.in_macro = True
        bodies = self.list_until(")")
        self.in_macro = False
        if len(bodies) + 1 not in MACROS[name.text]:
            wanted = " or ".join(map(str, MACROS[name.text]))
            self.fail(f"{name.text} takes {wanted} arguments", name.at)
        height = self.over(name.at, of, *bodies)
        return Macro(name.at, height, of, name.text, variable.text, bodies)

    def list_until(self, end: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self.take(end):
            if found:
                self.expect(",")
                if end == "]" and self.take(end):  # CEL allows a comma after the last item
                    break
            found.append(self.expression())
        return tuple(found)

    def primary(self, minus: bool) -> Node:
        token = self.next()
        match token.kind:
            case "int":
                number = int(token.text, 16 if token.text[:2] == "0x" else 10)
                number = -number if minus else number
                if not INT_MIN <= number <= INT_MAX:
                    self.fail("does not fit into 64 bits", token.at)
                return Literal(token.at, 1, number)
            case "double":
                return Literal(token.at, 1, -float(token.text) if minus else float(token.text))
            case "text" | "raw":
                return Literal(token.at, 1, _unquoted(token))
            case "name":
                return self.named(token)
            case "sign" if token.text == "(":
                tree = self.expression()
                self.expect(")")
                return tree
            case "sign" if token.text == "[":
                items = self.list_until("]")
                return Items(token.at, self.over(token.at, *items), items)
            case _:
                self.fail(f"did not expect {token.text or 'the end'}", token.at)

    def named(self, token: _Token) -> Node:
        if token.text in CONSTANTS:
            return Literal(token.at, 1, CONSTANTS[token.text])
        if token.text in RESERVED or token.text == "in":
            self.fail(f"{token.text} is a word of the language", token.at)
        if self.take("("):
            given = self.list_until(")")
            return Call(token.at, self.over(token.at, *given), token.text, given)
        return Name(token.at, 1, token.text)


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            sign = text[at]
            words = _HINTS.get(sign, f"did not expect {sign if sign.isprintable() else repr(sign)}")
            raise ExpressionError(words, at + 1)
        if found.lastgroup != "space":
            yield _Token(str(found.lastgroup), found[0], at)
        at = found.end()
    yield _Token("end", "", at)


def _unquoted(token: _Token) -> str:
    quoted = token.text[1:] if token.kind == "raw" else token.text
    ends = 3 if quoted[:3] in ('"""', "'''") else 1
    inner = quoted[ends:-ends]
    if token.kind == "text":
        inner = _ESCAPE.sub(lambda found: _escaped(found, token.at), inner)
    if any("\ud800" <= letter <= "\udfff" for letter in inner):
        raise ExpressionError("half a character (surrogate) is no text", token.at + 1)
    return inner


def _escaped(found: re.Match[str], at: int) -> str:
    if found["one"] is not None:
        if found["one"] not in _SIMPLE:
            raise ExpressionError(f"unknown escape {found[0]}", at + 1)
        return _SIMPLE[found["one"]]
    code = int(found["octal"], 8) if found["octal"] else int(found["hex"][1:], 16)
    if code > 0x10FFFF:
        raise ExpressionError(f"no such character {found[0]}", at + 1)
    return chr(code)

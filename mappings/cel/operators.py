"""Operators to Python `ast` nodes, with the kinds on both sides checked.

Where the kinds are sure, Python's own operators do; else a function of operations.py.
"""

import ast
from dataclasses import dataclass

from mappings.cel.function import WORDS, Kind, common, differ, fits
from mappings.errors import ExpressionError

__all__ = ["NOTHING", "Code", "Operators", "lambda_"]

_OPERATORS = {
    "==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge", "in": "contained",
    "+": "add", "-": "sub", "*": "mul", "/": "div", "%": "mod",
}  # fmt: skip
_ADDED: dict[str, tuple[Kind, ...]] = {
    "+": ("text", "whole", "number", "list"), "-": ("whole", "number"), "*": ("whole", "number"),
    "/": ("whole", "number"), "%": ("whole",),
}  # fmt: skip
_ORDERED: tuple[Kind, ...] = ("text", "whole", "number", "bool")


@dataclass(frozen=True, slots=True)
class Code:
    """`sure`: never null. `safe`: never raises. `path`: a field, looked up."""

    tree: ast.expr
    kind: Kind = "any"
    sure: bool = False
    safe: bool = False
    literal: bool = False
    path: bool = False

    @property
    def truth(self) -> bool:
        """True or false, and nothing else."""
        return self.kind == "bool" and self.sure


NOTHING = Code(ast.Constant(None), safe=True)


def lambda_(names: list[str], body: ast.expr) -> ast.Lambda:
    arguments = [ast.arg(name) for name in names]
    return ast.Lambda(
        ast.arguments(
            posonlyargs=[], args=arguments, kwonlyargs=[], kw_defaults=[], defaults=[]
        ),
        body,
    )  # fmt: skip


class Operators:
    """One method an operator. `wrong`: what was found so far."""

    def __init__(self) -> None:
        self.wrong: list[ExpressionError] = []

    def fail(self, at: int, message: str) -> Code:
        """Notes a mistake and goes on, so that all of an expression's are found."""
        self.wrong.append(ExpressionError(message, at + 1))
        return NOTHING

    def call(self, at: int, name: str, *arguments: ast.expr) -> ast.expr:
        """Of an operation or function by its name in scope; errors in it are told to be there."""
        tree = ast.Call(ast.Name(name, ast.Load()), list(arguments), [])
        tree.lineno, tree.col_offset, tree.end_lineno, tree.end_col_offset = 1, at, 1, at + 1
        return tree

    def condition(self, at: int, code: Code, what: str) -> None:
        if not fits(code.kind, ("bool",)):
            self.fail(at, f"{what} needs true or false, not {WORDS[code.kind]}")

    def as_list(self, at: int, code: Code) -> Code:
        """A field that is used as a list: a missing one is []."""
        return Code(self.call(at, "listed", code.tree), code.kind, False, True)

    def negated(self, at: int, of: Code) -> Code:
        self.condition(at, of, "!")
        if of.truth:
            return Code(ast.UnaryOp(ast.Not(), of.tree), "bool", True, of.safe)
        return Code(self.call(at, "negate", of.tree), "bool", True)

    def minus(self, at: int, of: Code) -> Code:
        if not fits(of.kind, ("number",)):
            return self.fail(at, f"- cannot be used on {WORDS[of.kind]}")
        return Code(self.call(at, "minus", of.tree), of.kind, True)

    def between(self, sign: str, at: int, left: Code, right: Code) -> Code:
        """Any operator with two sides."""
        if sign in ("==", "!="):
            return self.equal(sign, at, left, right)
        if sign == "in":
            return self.contained(at, left, right)
        return (self.added if sign in _ADDED else self.ordered)(sign, at, left, right)

    def equal(self, sign: str, at: int, left: Code, right: Code) -> Code:
        if differ(left.kind, right.kind):
            words = f"{WORDS[left.kind]} is never equal to {WORDS[right.kind]}"
            return self.fail(at, words)
        safe = left.safe and right.safe
        if left.literal and not right.literal:
            left, right = right, left
        if right.literal and not left.literal and right.kind in ("text", "null", "bool"):
            # Text equals text only; null and the truth values are one object each.
            same = (ast.Eq(), ast.NotEq()) if right.kind == "text" else (ast.Is(), ast.IsNot())
            tree = ast.Compare(left.tree, [same[sign == "!="]], [right.tree])
            return Code(tree, "bool", True, safe)
        return Code(self.call(at, _OPERATORS[sign], left.tree, right.tree), "bool", True, safe)

    def contained(self, at: int, item: Code, items: Code) -> Code:
        if not fits(items.kind, ("list", "object")):
            return self.fail(at, f"in needs a list, not {WORDS[items.kind]}")
        if isinstance(items.tree, ast.List):
            written = [i.value for i in items.tree.elts if isinstance(i, ast.Constant)]
            if len(written) == len(items.tree.elts) and all(isinstance(w, str) for w in written):
                # Text equals text only, so Python may compare.
                known = ast.Tuple(items.tree.elts, ast.Load())
                return Code(ast.Compare(item.tree, [ast.In()], [known]), "bool", True, item.safe)
        if items.path and items.kind == "any":
            items = self.as_list(at, items)
        return Code(self.call(at, "contained", item.tree, items.tree), "bool", True)

    def added(self, sign: str, at: int, left: Code, right: Code) -> Code:
        allowed = _ADDED[sign]
        for code in (left, right):
            if not any(fits(code.kind, (a,)) for a in allowed) or code.kind == "null":
                return self.fail(at, f"{sign} cannot be used on {WORDS[code.kind]}")
        known: set[Kind] = {k for k in (left.kind, right.kind) if k != "any"}
        if len(known) == 2:
            first, second = WORDS[left.kind], WORDS[right.kind]
            hint = "; use string()" if sign == "+" and "text" in known else ""
            hint = hint or ("; use double() or int()" if known == {"whole", "number"} else "")
            return self.fail(at, f"{sign} cannot be used on {first} and {second}{hint}")
        kind = known.pop() if known else "any"
        return Code(self.call(at, _OPERATORS[sign], left.tree, right.tree), kind, True)

    def ordered(self, sign: str, at: int, left: Code, right: Code) -> Code:
        for code in (left, right):
            if not fits(code.kind, _ORDERED) or code.kind == "null":
                return self.fail(at, f"{sign} cannot be used on {WORDS[code.kind]}")
        if differ(left.kind, right.kind):
            words = f"{WORDS[left.kind]} and {WORDS[right.kind]}"
            return self.fail(at, f"{sign} cannot compare {words}")
        return Code(self.call(at, _OPERATORS[sign], left.tree, right.tree), "bool", True)

    def logic(self, sign: str, at: int, places: list[int], terms: list[Code]) -> Code:
        """`&&` and `||`. CEL's let any term decide, whatever others do: Python's may stand for
        them where nothing but the last term can fail."""
        for place, code in zip(places, terms, strict=True):
            self.condition(place, code, sign)
        checked = [self.checked(p, c) for p, c in zip(places, terms, strict=True)]
        *early, last = terms
        if all(code.truth and code.safe for code in early):
            operator = ast.Or() if sign == "||" else ast.And()
            return Code(ast.BoolOp(operator, checked), "bool", True, last.truth and last.safe)
        later = [lambda_([], tree) for tree in checked]
        return Code(self.call(at, "any_of" if sign == "||" else "all_of", *later), "bool", True)

    def checked(self, at: int, code: Code) -> ast.expr:
        return code.tree if code.truth else self.call(at, "truth", code.tree)

    def chosen(self, at: int, no_at: int, test: Code, yes: Code, no: Code) -> Code:
        """`test ? yes : no`"""
        self.condition(at, test, "?")
        if differ(yes.kind, no.kind):
            words = f"one side of : is {WORDS[yes.kind]}, the other {WORDS[no.kind]}"
            return self.fail(no_at, words)
        tree = ast.IfExp(self.checked(at, test), yes.tree, no.tree)
        safe = test.truth and test.safe and yes.safe and no.safe
        return Code(tree, common(yes.kind, no.kind), yes.sure and no.sure, safe)

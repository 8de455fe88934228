"""Kinds of value, and what a function says of itself."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["WORDS", "Function", "Kind", "common", "differ", "fits"]

Kind = Literal["text", "whole", "number", "bool", "list", "object", "null", "any"]
"""What an expression gives, as far as it is known; each may be null as well."""

WORDS: dict[Kind, str] = {
    "text": "text", "whole": "a whole number", "number": "a number", "bool": "true or false",
    "list": "a list", "object": "an object", "null": "null", "any": "a value",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Function:
    """What expressions may call. Pure; null in gives null out.

    `takes`: kinds that each argument may have. The last `optional` may be left out; `many`: the
    last may be repeated. `literal`: positions that must be written out; `bind` gets their values
    (a table instead of its name, where `table` is set) and gives what is called with the rest. It
    raises ValueError with words for what it cannot use.
    """

    name: str
    call: Callable[..., Any]
    takes: tuple[tuple[Kind, ...], ...]
    gives: Kind
    names: tuple[str, ...]
    optional: int = 0
    many: bool = False
    literal: tuple[int, ...] = ()
    bind: Callable[..., Callable[..., Any]] | None = None
    table: bool = False
    method: bool = False
    """Is called as `x.name(…)`, the way CEL's own are; `x` must not be null."""
    never_null: bool = False
    never_fails: bool = False

    @property
    def about(self) -> str:
        """First line of what its code says of itself."""
        return (self.call.__doc__ or "").strip().partition("\n")[0]

    @property
    def usage(self) -> str:
        """`truncate(text, length)`"""
        needed = len(self.names) - self.optional
        names = [n if i < needed else f"{n}?" for i, n in enumerate(self.names)]
        if self.many:
            names.append("…")
        if self.method:
            return f"{names[0]}.{self.name}({', '.join(names[1:])})"
        return f"{self.name}({', '.join(names)})"


def fits(kind: Kind, allowed: Iterable[Kind]) -> bool:
    """Whether a value of this kind may be one of the allowed; null may always be."""
    return kind in ("any", "null") or any(
        a in ("any", kind) or (a == "number" and kind == "whole") for a in allowed
    )


def common(left: Kind, right: Kind) -> Kind:
    """What both are; `any` where they differ or are not known."""
    if left == right or right == "null":
        return left
    if left == "null":
        return right
    return "number" if {left, right} <= {"whole", "number"} else "any"


def differ(left: Kind, right: Kind) -> bool:
    """Whether it is certain that they are of different kinds."""
    return "any" not in (left, right) and common(left, right) == "any"

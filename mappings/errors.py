"""What can be wrong with a mapping.

MappingInvalid      a document that cannot go live: every problem at once
ExpressionError     the text of one expression is no CEL of ours (never leaves the package)
EvaluationError     an expression has no value for one record
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["EvaluationError", "ExpressionError", "MappingInvalid", "Problem"]


class ExpressionError(Exception):
    """`column` counts from 1."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.message, self.column = message, column


class EvaluationError(Exception):
    """The text never holds a value of the record."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: in which field of the document, at which column (0: the field as a whole)."""

    document: str
    field: str
    message: str
    column: int = 0
    detail: str = ""
    """What was expected and what came, with the values of the document's own example: for who
    writes the document, not for logs."""
    place: tuple[str | int, ...] = ()
    """Keys that lead to it in the document; the nearest that there is."""

    def __str__(self) -> str:
        at = f", column {self.column}" if self.column else ""
        return f"{self.document}: {self.field}{at}: {self.message}"


class MappingInvalid(Exception):
    """A document that cannot go live. `problems` lists everything found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)

"""What can be wrong with a mapping.

MappingInvalid      a document that cannot go live: every problem at once
ExpressionError     one expression: message and column (raised inside, never leaves the package)
EvaluationError     one expression with one record
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["EvaluationError", "ExpressionError", "MappingInvalid", "Problem"]


class ExpressionError(Exception):
    """An expression that is no CEL of ours. `column` counts from 1."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.message, self.column = message, column


class EvaluationError(Exception):
    """A record for which an expression has no value. The text never holds a value."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: in which field of the document, at which column (0: the field as a whole)."""

    document: str
    field: str
    message: str
    column: int = 0

    def __str__(self) -> str:
        at = f", column {self.column}" if self.column else ""
        return f"{self.document}: {self.field}{at}: {self.message}"


class MappingInvalid(Exception):
    """A document that cannot go live. `problems` lists everything found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)

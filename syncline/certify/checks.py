"""The list of certification: every check with what it shows, in the order of the score card."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from syncline.certify.bench import Bench

__all__ = ["CHECKS", "Check", "check"]

Body = Callable[[Bench], Awaitable[None]]


@dataclass(frozen=True)
class Check:
    """One line of the list."""

    group: str
    """What it is about; lines of one group stand together."""
    shows: str
    """In the words of the score card."""
    run: Body

    @property
    def name(self) -> str:
        return self.run.__name__


CHECKS: list[Check] = []


def check(group: str, shows: str) -> Callable[[Body], Body]:
    """Add a function to the list."""

    def add(body: Body) -> Body:
        CHECKS.append(Check(group, shows, body))
        return body

    return add

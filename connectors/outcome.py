"""What can become of a row at a platform: a closed set.

`Written`, `Accepted`, `Unchanged`, `Parked`, `Unknown` and `Returned` leave the worker as fates of
a row. `Retry`, `Throttled` and `Halted` stay inside: the worker acts on them.
"""

from dataclasses import dataclass

__all__ = [
    "Accepted",
    "Halted",
    "Outcome",
    "Parked",
    "Retry",
    "Returned",
    "Throttled",
    "TooLarge",
    "Unchanged",
    "Unknown",
    "Written",
]


@dataclass(frozen=True, slots=True)
class Written:
    """The platform says that the row stands there now."""

    object_id: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """Taken without a verdict. `receipt` names the job to ask, or is empty where none comes."""

    receipt: str = ""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The platform held these values already."""

    object_id: str


@dataclass(frozen=True, slots=True)
class Parked:
    """This row was refused for what is in it; a repeat would be refused again."""

    code: str
    words: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Sent, no answer, and a repeat could do harm: to be read back, else parked."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class Returned:
    """Not tried; goes back to the person's state. `until_ms` 0: when the account opens."""

    reason: str
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Retry:
    """A passing fault. An attempt was spent; `wait_s` 0: the worker's own back-off."""

    why: str = ""
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Throttled:
    """A limit of the platform; no attempt was spent. `window`: which one, where it says."""

    wait_s: float | None = None
    window: str = ""


@dataclass(frozen=True, slots=True)
class Halted:
    """This account takes nothing until somebody acts: key refused, scope missing, unpaid."""

    why: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The request as a whole was too much: split it, and remember the size that worked."""

    why: str = ""


Outcome = (
    Written
    | Accepted
    | Unchanged
    | Parked
    | Unknown
    | Returned
    | Retry
    | Throttled
    | Halted
    | TooLarge
)

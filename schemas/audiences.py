"""Lists of objects that a sync keeps its destination to: parts of a new list on `control`, and on
`audiences` the list as it was given last."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Message

__all__ = ["AudienceMember", "AudiencePart", "Change"]


class Change(StrEnum):
    """What a new list says of an object, against the list before it."""

    joins = "join"
    stays = "stay"
    leaves = "leave"


class AudiencePart(Message):
    """Some ids of a new list, in its order: what the bulk run of the list hands out as records.

    Keyed by the run; all parts stand before its `run_start`, in one transaction with it.
    """

    run: str
    sync: str
    part: int = Field(description="From 0; parts of a run have no gaps.")
    change: Change = Change.joins
    object_ids: list[str] = Field(description="The source platform's own ids, at most 500.")


class AudienceMember(Message):
    """One object of the list that was given last: `audiences`, compacted; key `sync|object_id`.

    One that left stays, with `member` False, until its run has ended well: a tombstone then.
    """

    sync: str
    object_id: str
    member: bool = True
    run: str = Field(description="The run that handed out its last change.")
    since_ms: int = Field(description="When it was listed first, or left.")

"""What people ask for: `control`, keyed by sync or run; expanded by `runs` to `acts`, by person."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Message, PersonalBytes
from schemas.events import PlatformEvent

__all__ = ["Act", "ActKind", "Again", "Target", "Tick"]


class ActKind(StrEnum):
    run_start = "run_start"
    run_pause = "run_pause"
    run_resume = "run_resume"
    run_cancel = "run_cancel"
    sync_pause = "sync_pause"
    sync_resume = "sync_resume"
    activate = "activate"
    account_open = "account_open"
    fix = "fix"
    unfix = "unfix"
    release = "release"
    discard = "discard"
    account_close = "account_close"
    resend = "resend"
    forget = "forget"
    undo = "undo"
    unjoin = "unjoin"
    erase = "erase"


class Target(Message):
    """A parked record that an act is about; or, without `parked_id`, the person as such.

    undo: `row_id` names a record that was released, and `parked_id` is empty.
    unfix: `parked_id` may also be the object key of the source object that was mended.
    """

    parked_id: str
    person: str
    row_id: str = ""


class Act(Message):
    """One act of one person. A repeat with the same `act_id` changes nothing."""

    act_id: str
    kind: ActKind = ActKind.release
    sync: str = ""
    run: str = ""
    account: str = ""
    definition: str = Field(default="", description="activate: `kind:name@version`.")
    targets: list[Target] = []
    who: str = ""
    verified: bool = False
    when_ms: int
    why: str = ""
    values: PersonalBytes = Field(
        description="JSON object; fix: source field to its new value; run_start: options; forget: "
        "`target`, as `connection:object_type`.",
    )


class Again(Message):
    """An event that was parked before anybody decided it: whoever asked to release or discard it
    brings it along, as no table holds it. On `identities.answered` by object, where it was parked
    at admit; on `acts` by person, at shape. Done once for each parked record; the act itself, with
    the same id, is on `control`.
    """

    act_id: str
    kind: ActKind = ActKind.release
    parked_id: str
    sync: str = Field(default="", description="shape: the sync for which it is parked.")
    person: str = ""
    who: str = ""
    why: str = ""
    when_ms: int
    event: PlatformEvent


class Tick(Message):
    """Time, as a record: the only clock a step knows."""

    now_ms: int

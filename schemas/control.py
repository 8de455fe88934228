"""What people ask for: `control`, keyed by sync or run; expanded by `runs` to `acts`, by person."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Message, PersonalBytes

__all__ = ["Act", "ActKind", "Target", "Tick"]


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


class Target(Message):
    """A parked record that an act is about."""

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
        description="JSON object; fix: source field to its new value; run_start: options.",
    )


class Tick(Message):
    """Time, as a record: the only clock a step knows."""

    now_ms: int

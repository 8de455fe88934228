"""What became of rows: `outcomes.<platform>`, keyed by person; and whether accounts take work."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Message, PersonalText

__all__ = ["AccountState", "OutcomeKind", "RecordOutcome"]


class OutcomeKind(StrEnum):
    """The fates that leave a worker; `seen` is none, but the answer to a LookUp."""

    written = "written"
    accepted = "accepted"
    unchanged = "unchanged"
    parked = "parked"
    unknown = "unknown"
    returned = "returned"
    seen = "seen"


class RecordOutcome(Message):
    """The fate of one row. One whose `row_id` is not out at its person changes nothing."""

    row_id: str
    person: str
    connection: str = Field(description="The destination's connection.")
    object_type: str
    sync: str
    run: str = ""
    kind: OutcomeKind = OutcomeKind.unknown
    object_id: str = Field(default="", description="The object there; set when written or adopted.")
    receipt: str = Field(default="", description="Of an accepted job.")
    code: str = Field(
        default="", description="The platform's own error code, or ours in lower case."
    )
    field: str = Field(default="", description="Destination field that was refused, where named.")
    words: PersonalText = Field(
        default="",
        description="The platform's words, verbatim.",
    )
    until_ms: int = Field(default=0, description="Returned: not before; 0: when the account opens.")
    request_id: str = Field(default="", description="Which request carried it.")
    position: int = Field(default=-1, description="Position in that request, from 0.")
    attempts: int = 1
    at_ms: int = Field(description="When the worker knew.")
    seen: bytes | None = Field(
        default=None,
        json_schema_extra={"personal": True},
        description="seen: JSON object, what the fields hold there. None: nothing, see `code`: "
        "absent, ambiguous_match, matched_another.",
    )


class AccountState(Message):
    """Whether an account takes rows now. Written to every partition, when it changes."""

    account: str
    connection: str
    open: bool
    reason: str = ""
    until_ms: int = 0
    at_ms: int

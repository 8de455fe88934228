"""What is stuck until somebody decides: `parked`, compacted; a tombstone when settled. And what
people have mended since: `fixes`."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Message, PersonalBytes, PersonalText

__all__ = ["Fix", "ParkedRecord", "Stage"]


class Stage(StrEnum):
    intake = "intake"
    admit = "admit"
    shape = "shape"
    map = "map"
    validate = "validate"
    upload = "upload"
    decode = "decode"
    joining = "joining"


class ParkedRecord(Message):
    """One record that could not go on, with all that is needed to understand and mend it.

    Key and `parked_id`: `sync:person` where a person's state is owed (a newer refusal replaces an
    older one), the row id for facts, the event id at intake, `topic-partition-offset` for what
    cannot be decoded, the join's id where two persons may be one (release: they are; discard: they
    are not).
    """

    parked_id: str
    stage: Stage = Stage.shape
    sync: str = ""
    run: str = ""
    person: str = ""
    row_id: str = ""
    event_id: str = ""
    record_no: int = -1
    connection: str = Field(default="", description="Destination, or source at intake.")
    object_type: str = ""
    code: str = Field(default="", description="The platform's own error code, or ours.")
    field: str = ""
    words: PersonalText = Field(
        default="",
        description="The platform's words, verbatim.",
    )
    attempts: int = 1
    first_ms: int = 0
    last_ms: int = 0
    request_id: str = ""
    position: int = -1
    source: PersonalBytes = Field(
        description="JSON object of the source values, or the original bytes where undecodable.",
    )
    fields: PersonalBytes = Field(
        description="JSON object that was sent or would have been.",
    )


class Fix(Message):
    """A value that a person put in place of the source's: `fixes`, compacted; a tombstone when it
    was removed, or the source says something else by now.

    Key: `person|object key|field`.
    """

    person: str
    source: str = Field(description="Object key of the source object.")
    field: str
    act_id: str = ""
    who: str = ""
    why: str = ""
    when_ms: int
    was: PersonalBytes = Field(description="JSON: what the source says.")
    value: PersonalBytes = Field(description="JSON: what is taken instead.")

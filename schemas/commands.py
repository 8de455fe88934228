"""What a worker is asked to do: `commands.<platform>`, keyed by the platform's own account."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Message, PersonalBytes, PersonalText

__all__ = [
    "CheckJob",
    "Command",
    "FetchPages",
    "LookRow",
    "LookUp",
    "Priority",
    "ReadObjects",
    "Recall",
    "UploadBatch",
    "UploadRow",
]


class Priority(StrEnum):
    """Who goes first for a scarce quota. Bulk work never delays live work."""

    live = "live"
    released = "released"
    bulk = "bulk"
    replay = "replay"


class UploadRow(Message):
    """What one person's destination object shall hold."""

    row_id: str
    event_id: str = Field(description="The event that carries it.")
    person: str
    record_no: int = -1
    object_id: str = Field(
        default="", description="The object there, where already known; empty: the worker matches."
    )
    occurred_ms: int = Field(description="Source time of the newest value in it.")
    fields: PersonalBytes = Field(
        description="JSON object: destination field to value; null clears; absent is left alone.",
    )
    removal: str = Field(
        default="",
        description="archive, delete or erase: the object is taken away there, and `fields` only "
        "say how it is found where no `object_id` is known. Empty: it is written.",
    )


class UploadBatch(Message):
    """Rows of one chunk for one sync. The worker cuts its own requests, across batches."""

    account: str
    connection: str = Field(description="The destination's connection.")
    object_type: str
    sync: str
    run: str = ""
    priority: Priority = Priority.live
    decided_ms: int = Field(description="Time of the decision, as the log tells it.")
    rows: list[UploadRow]


class FetchPages(Message):
    """Read the next pages of a bulk run: events, journal entry and offset are one transaction."""

    account: str
    connection: str = Field(description="The source's connection.")
    object_type: str
    sync: str
    run: str
    cursor: str = Field(description="Opaque, from the last page; empty for the first.")
    record_no: int = Field(description="Number that the first record gets.")
    pages_max: int
    step: int = Field(description="Nth fetch command of the run; a repeat has the same number.")
    backfill: bool = Field(
        default=False,
        description="True: no run of a sync. What is read are changes like those of webhooks, "
        "marked as made up for; `run` is the name of the comparison that asks.",
    )
    since_ms: int = Field(
        default=0,
        description="With an empty cursor: only what changed since then, where the platform can.",
    )


class ReadObjects(Message):
    """Read whole objects because a thin event left a needed field unknown."""

    account: str
    connection: str
    object_type: str
    object_ids: list[str]
    fields: list[str]


class Recall(Message):
    """Give these rows back if they have not gone out: something newer for the person has come."""

    account: str
    connection: str
    row_ids: list[str]


class CheckJob(Message):
    """Ask for the verdicts of rows that are out in a job at the platform.

    Written by the worker in place of the commands that these rows came in, where others have waited
    for long enough behind them; also by a worker that hands its partition on.
    """

    account: str
    connection: str
    receipt: str = Field(description="The platform's name of the job.")
    rows: list[UploadRow]
    object_type: str = ""
    sync: str = ""
    run: str = ""
    priority: Priority = Priority.bulk
    decided_ms: int = 0
    since_ms: int = Field(default=0, description="When the job was handed over.")
    due_ms: int = Field(default=0, description="Not asked before.")


class LookRow(Message):
    """What is looked for, for one row."""

    row_id: str
    person: str
    object_id: str = Field(default="", description="The object there; empty: it is looked for.")
    value: PersonalText = Field(default="", description="What stands in `LookUp.field` there.")


class LookUp(Message):
    """Tell what stands at a destination, and change nothing: one outcome `seen` a row."""

    account: str
    connection: str
    object_type: str
    sync: str
    run: str = ""
    field: str = Field(default="", description="By which objects are looked for.")
    fields: list[str] = Field(description="What is to be told of each.")
    rows: list[LookRow]


Command = UploadBatch | FetchPages | ReadObjects | Recall | CheckJob | LookUp

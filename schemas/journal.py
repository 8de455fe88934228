"""What happened to everything: `journal`, keyed by run (or sync). No personal values."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Message

__all__ = ["FATES", "JournalEntry", "JournalKind", "RowNote", "Standing"]


class Standing(StrEnum):
    """Where a record stands for one sync: a fate (final for its cohort), or a named place."""

    written = "written"
    accepted = "accepted"
    unchanged = "unchanged"
    filtered = "filtered"
    duplicate = "duplicate"
    echo = "echo"
    stale = "stale"
    superseded = "superseded"
    parked = "parked"
    discarded = "discarded"
    cancelled = "cancelled"
    erased = "erased"
    in_transit = "in_transit"
    waiting = "waiting"
    out = "out"
    held = "held"


PLACES = frozenset({Standing.in_transit, Standing.waiting, Standing.out, Standing.held})
FATES = frozenset(Standing) - PLACES


class JournalKind(StrEnum):
    run_state = "run_state"
    page_fetched = "page_fetched"
    admitted = "admitted"
    decided = "decided"
    settled = "settled"
    act = "act"
    account_state = "account_state"
    parked = "parked"
    confirmed = "confirmed"
    join_proposed = "join_proposed"
    joined = "joined"
    join_undone = "join_undone"
    kept_apart = "kept_apart"


class RowNote(Message):
    """Where one record came to stand, and why."""

    row_id: str
    event_id: str
    person: str = ""
    record_no: int = -1
    standing: Standing = Standing.in_transit
    was: str = Field(
        default="",
        description="In `decided` entries: the standing before; empty: the record's first. "
        "Counters that subtract `was` and add `standing` close the balance.",
    )
    code: str = Field(
        default="", description="Reason in one word: ours, or the platform's own code."
    )
    field: str = ""
    reason: str = Field(default="", description="Reason in words, without personal values.")
    by: str = Field(default="", description="Superseded by this row; discarded by this person.")
    request_id: str = Field(default="", description="Request that carried it, where one did.")
    position: int = Field(default=-1, description="Position in that request, from 0.")
    attempts: int = Field(default=0, description="How often it was refused.")


class JournalEntry(Message):
    """One thing that happened. Which fields are filled depends on `kind`."""

    kind: JournalKind = JournalKind.act
    at_ms: int = Field(description="Time of the act as the log tells it, Unix milliseconds.")
    sync: str = ""
    run: str = ""
    connection: str = ""
    account: str = ""
    rows: list[RowNote] = []
    mapping: str = Field(default="", description="name@version#hash that decided.")
    # run_state; of joins: the person who moves, and the one to whom
    before: str = ""
    after: str = ""
    why: str = ""
    who: str = ""
    act_id: str = ""
    # page_fetched
    step: int = -1
    cursor: str = ""
    pages: int = 0
    records: int = 0
    last: bool = False
    total: int = Field(default=-1, description="Records that the source holds, where it says so.")
    # confirmed
    partition: int = Field(default=-1, description="Partition of persons that has done the act.")
    # settled
    request_id: str = ""
    request: str = Field(default="", description="Method and endpoint, without secrets.")
    status: int = 0
    took_ms: int = 0

"""What a bulk run looks like right now: `runs`, compacted, for the console and the command line."""

from pydantic import Field

from schemas.base import Message

__all__ = ["RunView"]


class RunView(Message):
    """One run as of `updated_ms`. Published on a tick after something has changed."""

    run: str
    sync: str
    state: str = Field(
        description="requested, running, pausing, paused, stuck, cancelling, "
        "cancelled or completed."
    )
    phase: str = Field(default="", description="Earliest stage that still has work.")
    headline: str = Field(default="", description="One sentence for people.")
    why: str = Field(default="", description="Why it is in this state.")
    who: str = ""
    counts: dict[str, int] = Field(default={}, description="Standing to number of records.")
    fetched: int = 0
    pages: int = 0
    expected: int = Field(default=0, description="Records at the source; 0: unknown.")
    in_transit: int = Field(default=0, description="Fetched and not decided yet.")
    batches: int = Field(default=0, description="Requests settled.")
    batches_about: int = Field(default=0, description="Requests in all, as far as known.")
    per_s: float = Field(default=0.0, description="Records that got a fate, a second, of late.")
    eta_s: int = Field(default=-1, description="Seconds until done at this rate; -1: unknown.")
    cursor: str = ""
    last: bool = Field(default=False, description="The last page has been fetched.")
    pins: dict[str, int] = Field(default={}, description="Definition to the version it holds.")
    started_ms: int = 0
    since_ms: int = Field(default=0, description="In this state since.")
    updated_ms: int

"""What a successor must know: `handover`, keyed by account, compacted."""

from pydantic import Field

from schemas.base import Message

__all__ = ["Intent", "Learned", "Lease"]


class Lease(Message):
    """Tokens taken before the first request that they pay for. Key `account:lease:group`."""

    account: str
    document: bytes = Field(description="JSON, as ratelimits.limiter writes and restores it.")


class Intent(Message):
    """Rows of a request whose repeat could do harm, or of a job, written before it starts."""

    account: str
    request_id: str
    row_ids: list[str]
    at_ms: int
    receipt: str = Field(default="", description="The platform's name of the job; empty: no job.")


class Learned(Message):
    """What an account taught us: batch sizes that worked."""

    account: str
    document: bytes

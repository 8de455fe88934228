"""The contract of a sender: what it promises, how it proves itself, how its body becomes events.

A sender is pure: no clock, no I/O, no state but its options and secrets. `verify` raises Refused
and nothing else; `parse` raises nothing: what makes no sense comes back as Unparseable.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import msgspec
from pydantic import BaseModel, SecretStr

from schemas.events import EventKind

__all__ = [
    "Event",
    "Part",
    "Refused",
    "Request",
    "Sender",
    "SenderSpec",
    "SenderType",
    "UnknownPlatform",
    "Unparseable",
    "matches",
    "source_time",
]

FUTURE_MS = 5 * 60 * 1000
"""A source time later than receipt by more than this is not believed."""


class UnknownPlatform(Exception):
    """No file in `senders/` has this name."""


class Refused(Exception):
    """A request that is not taken. The sender gets the status alone; the reason is for metrics.

    `reason` is one of a small fixed set of words a sender, never text out of the request. Status
    200: a check of our address that anybody could have made; answered well, and not kept.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass(frozen=True, slots=True)
class SenderSpec:
    """What a platform documents of its webhooks. Sources stand beside each figure."""

    platform: str
    options: type[BaseModel]
    """What an operator may say in `webhook.options` of the connection."""
    body_bytes_max: int
    """Larger bodies are answered 413, unread."""
    answer_within_s: float
    """The sender gives up and repeats after this."""
    kept_headers: tuple[str, ...] = ()
    """Request headers, in lower case, kept beside the raw body: what a later check of the signature
    needs. Never one that is itself a secret."""
    query_is_signed: bool = False
    """True: the query is part of the proof and kept with the path. Else it may hold a secret and is
    dropped."""
    secret_in_path: bool = False
    """True: the address has a secret after the connection's name; it is never kept."""
    answer: bytes = b""
    """Body of the good answer."""
    answer_type: str = ""
    cut: Callable[[bytes], bytes] | None = None
    """Takes a live secret out of a body, before anything else sees the body; never raises."""


class Request(NamedTuple):
    """A POST as the sender made it."""

    target: str
    """Path and query as they stood in the request line."""
    url: str
    """The public address that was called: how the sender knows us, and `target`."""
    rest: str
    """What follows the connection's name in the path, where `secret_in_path` allows it."""
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes
    received_ms: int
    method: str = "POST"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One fact in a body, in our words, before it gets its id. A struct: a hundred come at once."""

    identity: tuple[str, ...]
    """Identity fields that are not in `content`, as of a header; see schemas.ids."""
    content: bytes
    """All that it says, in a form that is the same for a first try and a repeat."""
    object_type: str
    object_id: str
    kind: EventKind
    platform_kind: str
    occurred_ms: int
    time_certain: bool
    changed: tuple[str, ...]
    related: tuple[tuple[str, str], ...]
    """Other objects that it speaks of, as type and id."""
    thin: bool
    values: bytes
    payload: bytes
    """Byte for byte."""
    account: str = ""
    """The platform's own id of the account it is about; empty: the connection's own."""


class Unparseable(msgspec.Struct, frozen=True, gc=False):
    """A part of a genuine body that no event could be made of."""

    position: int
    """Of the part in the body, from 0; -1: the body as a whole."""
    payload: bytes
    reason: str
    """Our words, never the sender's."""


Part = Event | Unparseable


class Sender(Protocol):
    """Speaks for one connection."""

    spec: ClassVar[SenderSpec]

    def verify(self, request: Request) -> None:
        """Returns where the request is genuine; else raises Refused. Constant time over secrets."""
        ...

    def parse(self, request: Request) -> list[Part]:
        """Every part of a genuine request's body, in its order. Never raises."""
        ...


class SenderType(Protocol):
    """How senders are made: `Sender(options, secrets)`; any of the secrets is good."""

    spec: ClassVar[SenderSpec]

    def __call__(self, options: BaseModel, secrets: Sequence[SecretStr]) -> Sender: ...


def matches(given: str, expected: Iterable[bytes]) -> bool:
    """Is `given` one of the expected proofs? Compares with every one, in constant time."""
    proof = given.encode("utf-8", "surrogateescape")
    found = False
    for candidate in expected:
        found |= hmac.compare_digest(proof, candidate)
    return found


def source_time(source_ms: int | None, received_ms: int) -> tuple[int, bool]:
    """What the sender says of the time, and when we received it -> (time in ms, is it certain).

    No time, one before 1970, or one from the future counts as the receipt.
    """
    if source_ms is None or not 0 < source_ms <= received_ms + FUTURE_MS:
        return received_ms, False
    return source_ms, True

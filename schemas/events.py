"""What happened at a platform: `events.<platform>`; with its person: `records.resolved`."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Message, PersonalBytes

__all__ = ["OURS", "EventKind", "Origin", "PlatformEvent", "ResolvedRecord"]


class EventKind(StrEnum):
    """What kind of fact it is, in one vocabulary for all platforms. Forgotten: a deletion for the
    sake of privacy. Joined and left: the audience of a sync, as a list says; ours, not a
    platform's."""

    created = "created"
    updated = "updated"
    deleted = "deleted"
    forgotten = "forgotten"
    merged = "merged"
    associated = "associated"
    subscribed = "subscribed"
    unsubscribed = "unsubscribed"
    bounced = "bounced"
    opened = "opened"
    clicked = "clicked"
    tracked = "tracked"
    joined = "joined"
    left = "left"
    other = "other"


OURS = frozenset({EventKind.joined, EventKind.left})
"""Kinds that no platform may tell."""


class Origin(StrEnum):
    """How we came to know of it."""

    webhook = "webhook"
    fetch = "fetch"
    read = "read"
    backfill = "backfill"
    replay = "replay"


class PlatformEvent(Message):
    """One fact at one platform, normalised. Routing fields first: a prefix can be read alone."""

    event_id: str = Field(description="Derived id, see schemas.ids; a repeat has the same.")
    connection: str = Field(description="Name of the connection it came through.")
    platform: str
    object_type: str = Field(description="The platform's own name: contact, Lead, member.")
    object_id: str = Field(description="The platform's own id; empty where the event has none.")
    kind: EventKind = EventKind.other
    origin: Origin = Origin.webhook
    run: str = Field(default="", description="The bulk run that fetched it; empty for live events.")
    record_no: int = Field(default=-1, description="Position in the run's fetch, from 0; else -1.")
    occurred_ms: int = Field(description="Time at the source, Unix milliseconds, UTC.")
    time_certain: bool = Field(
        default=True,
        description="False where the source gave no time, a coarse one, or the future.",
    )
    received_ms: int = Field(description="When we received it, Unix milliseconds, UTC.")
    platform_kind: str = Field(default="", description="The platform's own word for the kind.")
    changed: list[str] = Field(default=[], description="Fields that changed, where the event says.")
    thin: bool = Field(
        default=False, description="True: `values` holds only what changed, not the whole object."
    )
    related: list[str] = Field(
        default=[], description="Object keys it also speaks of: merged into it, associated with it."
    )
    trace: str = Field(default="", description="W3C traceparent.")
    values: PersonalBytes = Field(
        description="JSON object: field (the platform's own flat name) to value, as far as known.",
    )
    payload: PersonalBytes = Field(description="The event as it came, byte for byte.")

    @property
    def object_key(self) -> str:
        return f"{self.connection}:{self.object_type}:{self.object_id}"


class ResolvedRecord(Message):
    """An event that is no repeat, with the person (or object) whose state it touches."""

    person: str = Field(description="Key of the subject: stays the same when addresses change.")
    event: PlatformEvent

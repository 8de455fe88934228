"""Ids are derived from what they name, so a repeat of the same thing has the same id.

Each is a BLAKE2b-128 digest in lower-case hex (32 characters) over length-prefixed parts: no
choice of parts can be mistaken for another choice.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

__all__ = [
    "derive",
    "event_id",
    "fetched_event_id",
    "join_id",
    "object_key",
    "person_key",
    "row_id",
    "run_id",
    "stamp",
    "sync_of",
]


def derive(*parts: str | bytes) -> str:
    """32 hex characters over the parts, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


def event_id(connection: str, identity: Iterable[str], content: bytes) -> str:
    """Of a webhook's event: the sender's declared identity fields and the content.

    The content counts because senders reuse ids: the same identity with other content is a new
    event, not a repeat.
    """
    return derive("event", connection, *identity, content)


def fetched_event_id(run: str, object_key: str, content: bytes) -> str:
    """Of a fetched record: a page that is fetched again gives the same events."""
    return derive("fetched", run, object_key, content)


def object_key(connection: str, object_type: str, object_id: str) -> str:
    """Key of `events.<platform>`: one source object, all of its events on one partition."""
    return f"{connection}:{object_type}:{object_id}"


def person_key(object_key: str) -> str:
    """Of the person first seen as this object. Never made from an address: addresses change."""
    return derive("person", object_key)


def join_id(person: str, other: str) -> str:
    """Of the question whether two persons are one, whichever of them it was asked of."""
    return derive("join", *sorted((person, other)))


def stamp(at: datetime | None = None) -> str:
    """Of a run id: when it was asked for, or was due."""
    return (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%dT%H%M%S%f")[:-3]


def run_id(sync: str, stamp: str) -> str:
    """Of a bulk run: the sync and when it was asked for, `leads-20261125T190000123`."""
    assert "-" not in stamp
    return f"{sync}-{stamp}"


def sync_of(run: str) -> str:
    """The sync whose run it is."""
    return run.rpartition("-")[0]


def row_id(event_id: str, sync: str) -> str:
    """Of what one event owes the destination of one sync. Compared and deduplicated by this."""
    return derive("row", event_id, sync)

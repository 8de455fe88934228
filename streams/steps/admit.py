"""Is it new, and whose is it? `events.*` to `records.resolved`, by source object.

The person of an object is settled once, at its first event, and never changes by itself:

- no identifying key declared, or the whole object has none: the object is a person of its own;
- else the owner of its address, asked by a hop of its own (`identities.asked`), so that two first
  sightings at once still make one person;
- a thin event that does not tell the address: the whole object is asked for (`ReadObjects`), once;
  until it is there, or is known to be gone, all its events wait.

Meanwhile the object's events wait in its row, in order. An address that comes later, or changes, is
claimed for the person that the object has; where somebody else owns it, a join is proposed in the
row and nothing moves (docs/decisions/0003-rules.md).
"""

from collections.abc import Sequence

import msgspec

from schemas.events import EventKind, Origin, PlatformEvent, ResolvedRecord
from schemas.identity import AddressAnswered, AddressAsked, LinkClaim
from schemas.ids import person_key, row_id
from schemas.journal import JournalKind, RowNote, Standing
from schemas.parked import ParkedRecord, Stage
from schemas.topics import ASKED, RESOLVED
from streams.steps.catalog import Catalog
from streams.steps.outputs import Outputs
from streams.steps.rows import Link, pack

__all__ = ["admit", "claim", "enter", "full", "learn", "refuse", "seen"]

DAY_MS = 24 * 3_600_000
RECENT_DAYS = 8
RECENT_BYTES_MAX = 4_096
"""256 event ids; of the oldest day first, the oldest are forgotten."""
WAITING_MAX = 100
WAITING_BYTES_MAX = 400_000
ID_BYTES = 16


def admit(link: Link, event: PlatformEvent, catalog: Catalog, out: Outputs) -> Link:
    """One event of one source object -> its row after. A repeat is journalled and ends."""
    if seen(link, event):
        refuse(event, catalog, out, Standing.duplicate, "duplicate", "came before")
        return link
    return enter(link, event, catalog, out)


def enter(link: Link, event: PlatformEvent, catalog: Catalog, out: Outputs) -> Link:
    """An event that is no repeat: on to its person, or into the row until that is known."""
    identity = catalog.identity(event)
    if link.state == "linked":
        _pass_on(link, event, identity, out)
        return link
    if link.state == "reading" and event.origin is Origin.read:
        return _read_at_last(link, event, identity, catalog, out)
    blind = not identity and not catalog.readable(event.connection, event.object_type)
    alone = identity is None or blind or event.kind is EventKind.deleted
    if (alone or not (identity or event.thin)) and link.state == "new":
        return _linked(link, person_key(event.object_key), catalog, out, (event,))
    if full(link):
        words = f"{len(link.waiting)} events of this object wait for its address already"
        refuse(event, catalog, out, Standing.parked, "too_many_waiting", words)
        return link
    link.waiting.append(pack(event.model_dump()))
    if link.state == "new" and identity:
        link.state = "asking"
        _ask(link, identity, event, out)
    elif link.state == "new":
        link.state, link.asked_ms = "reading", event.received_ms
        _read(event, catalog, out)
    return link


def _read_at_last(
    link: Link, event: PlatformEvent, identity: str | None, catalog: Catalog, out: Outputs
) -> Link:
    """The whole object, which its events have waited for; or word that it is gone."""
    if link.person:
        return _linked(link, link.person, catalog, out, (event,))
    told = (catalog.identity(waited) for waited in _waited(link))
    identity = identity or next((known for known in told if known), None)
    if not identity:
        return _linked(link, person_key(event.object_key), catalog, out, (event,))
    link.waiting.append(pack(event.model_dump()))
    link.state = "asking"
    _ask(link, identity, event, out)
    return link


def full(link: Link) -> bool:
    """Whether as many events as a row may hold wait for their person."""
    sizes = [len(packed) for packed in link.waiting]
    return len(sizes) >= WAITING_MAX or sum(sizes) > WAITING_BYTES_MAX


def learn(link: Link, answered: AddressAnswered, catalog: Catalog, out: Outputs) -> Link:
    """The owner of an identity that this object asked for. A repeat changes nothing."""
    if link.state == "asking" and answered.identity == link.identity:
        return _linked(link, answered.person, catalog, out, ())
    if link.state == "linked" and answered.person != link.person:
        link.join = answered.person
    return link


def claim(link: Link, made: LinkClaim, catalog: Catalog, out: Outputs) -> Link:
    """We made or adopted this object ourselves: its events are this person's."""
    if link.state == "reading":
        link.person = made.person  # its events wait for the read that is under way
    elif link.state != "linked":
        return _linked(link, made.person, catalog, out, ())
    elif made.person != link.person:
        link.join = made.person
    return link


def refuse(
    event: PlatformEvent, catalog: Catalog, out: Outputs, standing: Standing, code: str, words: str
) -> None:  # fmt: skip
    """The event ends here, for every sync that wanted it."""
    for sync in catalog.wanted(event, {}):
        note = RowNote(
            row_id=row_id(event.event_id, sync), event_id=event.event_id,
            record_no=event.record_no, standing=standing, code=code, reason=words,
        )  # fmt: skip
        out.note(JournalKind.admitted, sync, event.run, "", note)
    if standing is Standing.parked:
        record = ParkedRecord(
            parked_id=event.event_id, stage=Stage.admit, run=event.run, event_id=event.event_id,
            record_no=event.record_no, connection=event.connection, object_type=event.object_type,
            code=code, words=words, first_ms=event.received_ms, last_ms=event.received_ms,
            source=event.values, fields=b"{}",
        )  # fmt: skip
        out.parked(event.event_id, record)


def seen(link: Link, event: PlatformEvent) -> bool:
    """Whether the id is known; from now on it is. Ids older than 8 days are forgotten."""
    mark = bytes.fromhex(event.event_id)
    assert len(mark) == ID_BYTES
    for ids in link.recent.values():
        at = ids.find(mark)
        while at >= 0:
            if at % ID_BYTES == 0:
                return True
            at = ids.find(mark, at + 1)
    today = event.received_ms // DAY_MS
    link.recent[today] = link.recent.get(today, b"") + mark
    newest = max(link.recent)
    for day in [d for d in link.recent if d <= newest - RECENT_DAYS]:
        del link.recent[day]
    while sum(map(len, link.recent.values())) > RECENT_BYTES_MAX:
        oldest = min(link.recent)
        link.recent[oldest] = link.recent[oldest][ID_BYTES:]
        if not link.recent[oldest]:
            del link.recent[oldest]
    return False


def _linked(
    link: Link, person: str, catalog: Catalog, out: Outputs, events: Sequence[PlatformEvent]
) -> Link:
    """From now on the object is this person's; what waited goes on, in order.

    What we read ourselves goes first: it completes the thin events that had to wait for it.
    """
    link.state, link.person = "linked", person
    waited, link.waiting = _waited(link), []
    for event in sorted((*waited, *events), key=lambda e: e.origin is not Origin.read):
        _pass_on(link, event, catalog.identity(event), out)
    return link


def _waited(link: Link) -> list[PlatformEvent]:
    return [PlatformEvent.model_validate(msgspec.msgpack.decode(packed)) for packed in link.waiting]


def _pass_on(link: Link, event: PlatformEvent, identity: str | None, out: Outputs) -> None:
    out.send(RESOLVED, link.person, ResolvedRecord(person=link.person, event=event))
    if identity and identity != link.identity:
        _ask(link, identity, event, out)


def _ask(link: Link, identity: str, event: PlatformEvent, out: Outputs) -> None:
    link.identity = identity
    proposed = link.person or person_key(event.object_key)
    asked = AddressAsked(identity=identity, object_key=event.object_key, proposed=proposed)
    out.send(ASKED, identity, asked)


def _read(event: PlatformEvent, catalog: Catalog, out: Outputs) -> None:
    connection = catalog.connections[event.connection]
    fields = catalog.reads(event.connection, event.object_type)
    out.read(
        connection.platform, connection.account, event.connection, event.object_type,
        event.object_id, fields,
    )  # fmt: skip

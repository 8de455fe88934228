"""Is it new, and whose is it? `events.*` to `records.resolved`, by source object.

The person of an object is settled once, at its first event, and never changes by itself:

- no identifying key declared, or the whole object has none: the object is a person of its own;
- else the owner of its address, asked by a hop of its own (`identities.asked`), so that two first
  sightings at once still make one person;
- a thin event that does not tell the address: the whole object is asked for (`ReadObjects`), once;
  until it is there, or is known to be gone, all its events wait.

Meanwhile the object's events wait in its row, in order. An address that comes later, or changes, is
claimed for the person that the object has; where somebody else owns it, the two persons may be one:
that goes to them as a `Join` (streams.steps.joins), and the object stays whose it is.

What an object was before (merged by its platform, or given another id) is the same person's: a new
object that says so asks its former self first.
"""

from collections.abc import Sequence

import msgspec

from schemas.events import EventKind, Origin, PlatformEvent, ResolvedRecord
from schemas.identity import AddressAnswered, AddressAsked, Join, LinkClaim, ObjectMerged
from schemas.ids import join_id, person_key, row_id
from schemas.journal import JournalKind, RowNote, Standing
from schemas.parked import ParkedRecord, Stage
from schemas.topics import ACTS, ANSWERED, ASKED, RESOLVED
from streams.steps.catalog import Catalog
from streams.steps.outputs import Outputs
from streams.steps.rows import Link, pack

__all__ = ["admit", "claim", "enter", "full", "learn", "merged", "refuse", "seen"]

DAY_MS = 24 * 3_600_000
RECENT_DAYS = 8
RECENT_BYTES_MAX = 4_096
"""256 event ids; of the oldest day first, the oldest are forgotten."""
WAITING_MAX = 100
WAITING_BYTES_MAX = 400_000
ID_BYTES = 16
WAS = "was:"
"""Before an object key: what an object asks its former self."""


def admit(link: Link, event: PlatformEvent, catalog: Catalog, out: Outputs) -> Link:
    """One event of one source object -> its row after. A repeat is journalled and ends."""
    if seen(link, event):
        refuse(event, catalog, out, Standing.duplicate, "duplicate", "came before")
        return link
    return enter(link, event, catalog, out)


def enter(
    link: Link, event: PlatformEvent, catalog: Catalog, out: Outputs, *, asked: bool = False
) -> Link:  # fmt: skip
    """An event that is no repeat: on to its person, or into the row until that is known.

    `asked`: what the object was before has been asked already, and was never seen."""
    identity = catalog.identity(event)
    if link.state == "linked":
        _pass_on(link, event, catalog, out)
        return link
    if link.state == "reading" and event.origin is Origin.read:
        return _read_at_last(link, event, identity, catalog, out)
    former = formerly(event) if link.state == "new" and not asked else ()
    if former:
        link.waiting.append(pack(event.model_dump()))
        link.state, link.identity = "asking", WAS + former[0]
        _ask_former(event, former[0], "", out)
        return link
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
        _ask(link, identity, event, catalog, out)
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
    _ask(link, identity, event, catalog, out)
    return link


def full(link: Link) -> bool:
    """Whether as many events as a row may hold wait for their person."""
    sizes = [len(packed) for packed in link.waiting]
    return len(sizes) >= WAITING_MAX or sum(sizes) > WAITING_BYTES_MAX


def learn(link: Link, answered: AddressAnswered, catalog: Catalog, out: Outputs) -> Link:
    """The owner of an identity that this object asked for. A repeat changes nothing."""
    key, declared = answered.object_key, catalog.identify(answered.object_key)
    if link.state == "asking" and answered.identity == link.identity:
        link = (
            _linked(link, answered.person, catalog, out, ())
            if answered.person
            else _stranger(link, catalog, out)
        )
    if link.state != "linked" or answered.identity.startswith(WAS):
        return link  # of a former self its own row speaks
    if answered.kept_from:
        words = f"{key} shows an address that such objects may share, and the other person owns"
        _propose(link, answered.kept_from, key, words, out, "never")
    else:
        words = f"{key} shows an identifying key that the other person owns"
        _propose(link, answered.person, key, words, out, declared.joins if declared else "never")
    return link


def _stranger(link: Link, catalog: Catalog, out: Outputs) -> Link:
    """Nobody ever saw what this object was before: it is met as any other."""
    waited, link.waiting = _waited(link), []
    link.state, link.identity = "new", ""
    for event in waited:
        link = enter(link, event, catalog, out, asked=True)
    return link


def claim(link: Link, made: LinkClaim, catalog: Catalog, out: Outputs) -> Link:
    """We made or adopted this object ourselves: its events are this person's. Where it has a person
    already and nothing but itself says so, the two are one; else they may be."""
    declared = catalog.identify(made.object_key)
    if link.state == "reading":
        link.person = made.person  # its events wait for the read that is under way
    elif link.state != "linked":
        return _linked(link, made.person, catalog, out, ())
    else:
        alone = link.person == person_key(made.object_key) and not link.identity
        how = "automatic" if alone or declared is None else declared.joins
        words = f"{made.object_key} was written for the other person"
        _propose(link, made.person, made.object_key, words, out, how)
    return link


def merged(link: Link, told: ObjectMerged, catalog: Catalog, out: Outputs) -> Link:
    """This object is another one now, or that one asks whose this was. A repeat changes nothing."""
    if link.state == "new" and told.person:
        link = _linked(link, told.person, catalog, out, ())
    if link.state == "linked":
        _tell_later_self(link, told, out)
    elif not told.person and (link.state == "new" or link.identity.startswith(WAS)):
        _answer(told, "", out)  # who asks its own former self waits for nobody else: no circle
    else:
        link.asked_by.append(pack(told.model_dump()))
    return link


def _tell_later_self(link: Link, told: ObjectMerged, out: Outputs) -> None:
    """Whose this object was; or, where both are known, that theirs are one person."""
    if not told.person:
        _answer(told, link.person, out)
        return
    join = Join(
        join_id=join_id(link.person, told.person), person=link.person, into=told.person,
        automatic=True, why=f"its platform has made {told.into} of {told.object_key}",
        by_object=told.into, gone=told.object_key, became=told.into, gone_ms=told.at_ms,
    )  # fmt: skip
    out.send(ACTS, link.person, join)


def _answer(told: ObjectMerged, person: str, out: Outputs) -> None:
    key = told.object_key
    answer = AddressAnswered(identity=WAS + key, object_key=told.into, person=person)
    out.send(ANSWERED, told.into, answer)


def _propose(
    link: Link, other: str, by_object: str, words: str, out: Outputs, how: str
) -> None:  # fmt: skip
    """`how`: Identify.joins. The same twice in a row is told once."""
    if other in (link.person, link.join):
        return
    link.join = other
    join = Join(
        join_id=join_id(link.person, other), person=link.person, into=other,
        automatic=how == "automatic", apart=how == "never", why=words, by_object=by_object,
    )  # fmt: skip
    out.send(ACTS, link.person, join)


def formerly(event: PlatformEvent) -> Sequence[str]:
    """Object keys that this event's object was before."""
    if event.kind is EventKind.merged or event.platform_kind == "upemail":
        return event.related
    return ()


def _ask_former(event: PlatformEvent, former: str, person: str, out: Outputs) -> None:
    told = ObjectMerged(
        object_key=former, into=event.object_key, person=person,
        at_ms=min(event.occurred_ms, event.received_ms),
    )  # fmt: skip
    out.send(ANSWERED, former, told)


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
        _pass_on(link, event, catalog, out)
    asked_by, link.asked_by = link.asked_by, []
    for packed in asked_by:
        told = ObjectMerged.model_validate(msgspec.msgpack.decode(packed))
        _tell_later_self(link, told, out)
    return link


def _waited(link: Link) -> list[PlatformEvent]:
    return [PlatformEvent.model_validate(msgspec.msgpack.decode(packed)) for packed in link.waiting]


def _pass_on(link: Link, event: PlatformEvent, catalog: Catalog, out: Outputs) -> None:
    out.send(RESOLVED, link.person, ResolvedRecord(person=link.person, event=event))
    for former in formerly(event):
        _ask_former(event, former, link.person, out)
    identity = catalog.identity(event)
    if identity and identity != link.identity:
        _ask(link, identity, event, catalog, out)


def _ask(link: Link, identity: str, event: PlatformEvent, catalog: Catalog, out: Outputs) -> None:
    link.identity = identity
    key, declared = event.object_key, catalog.identify(event.object_key)
    asked = AddressAsked(
        identity=identity, object_key=key, proposed=link.person or person_key(key),
        alone=key.rpartition(":")[0] if declared is not None and declared.shared else "",
    )  # fmt: skip
    out.send(ASKED, identity, asked)


def _read(event: PlatformEvent, catalog: Catalog, out: Outputs) -> None:
    connection = catalog.connections[event.connection]
    fields = catalog.reads(event.connection, event.object_type)
    out.read(
        connection.platform, connection.account, event.connection, event.object_type,
        event.object_id, fields,
    )  # fmt: skip

"""What must be true of a world, computed from its logs and platforms in the plainest way.

It shares no rule with the steps: it folds whole histories, with everything known, where the steps
see one message at a time. Each problem found is a sentence that begins with the promise it breaks.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from schemas import ids
from schemas.control import Act, ActKind
from schemas.definitions import ALL, Policy
from schemas.events import EventKind, Origin, PlatformEvent, ResolvedRecord
from schemas.identity import AddressAsked
from schemas.journal import FATES, JournalEntry, JournalKind, RowNote, Standing
from schemas.parked import ParkedRecord, Stage
from schemas.topics import ASKED, JOURNAL, PARKED, RESOLVED, events_of
from streams.steps.control import FINAL
from streams.steps.rows import Run
from tests.simulation.definitions import MAPPINGS, SYNCS
from tests.simulation.log import partition_of
from tests.simulation.persons import Persons, judge_joins
from tests.simulation.world import CREDIT, World

__all__ = ["judge"]

FUTURE_MS = 300_000
GIVEN_UP = {Standing.cancelled, Standing.discarded, Standing.parked, Standing.filtered}
"""What such a record asked for may be missing, or have been overtaken."""
WAITING = {Standing.waiting, Standing.held}
RULES = 10**15
CONSENT = "STATUS"
"""Field that an unsubscribe sets, whatever the mapping says."""
DECIDED = {"", "behind", "equal", "filter", "newer"}
"""What the journal first says of a record that needed all that is known of its object."""
SELF_EXPLAINING = {Standing.written, Standing.accepted, Standing.unchanged, Standing.out}


@dataclass
class Story:
    """One record for one sync: what the journal says of it."""

    event: PlatformEvent
    sync: str
    received: int = 0
    """How often."""
    notes: list[RowNote] = field(default_factory=list)
    last: RowNote | None = None
    fate: tuple[Standing, str] | None = None
    """Its own, or that of the record that carries it; and which that is."""


@dataclass
class Wish:
    """What one record would have its destination hold: field to (value, source time)."""

    row_id: str
    sync: str
    person: str
    source: str
    fields: dict[str, tuple[Any, int]] | None = None
    """None: the filter left it out, or our own checks refused it."""
    filtered: bool = False
    stale: bool = False


def judge(world: World, *, healed: bool) -> list[str]:
    """All problems; none: every promise is kept. `healed`: nothing may wait any more."""
    stories = _stories(world)
    persons = Persons(world)
    problems = [*_admitted(world), *_balance(world, stories), *_reasons(stories)]
    problems += _places(world, stories, healed=healed)
    problems += judge_joins(world, persons, healed=healed)
    problems += _order(world, persons)
    problems += [f"P6 {k}: read twice at a time" for w in world.workers for k in w.read_twice]
    problems += _ends(world)
    if healed:
        wishes = _wishes(world, stories, persons)
        problems += [*wishes.half, *_verdicts(stories, wishes, persons)]
        problems += _contents(world, stories, wishes, persons)
        problems += _truth(world, stories, persons)
        problems += _consent(world, stories, persons)
        problems += _lists(world, stories, persons)
        problems += _runs(world)
    return problems


# ---- P1 and P2: every event passes admit once, to one person


def _admitted(world: World) -> Iterator[str]:
    came: dict[str, list[str]] = defaultdict(list)
    reads: set[str] = set()
    for entry in world.log.all(events_of("hubspot")):
        event = _event(entry.message)
        if event.event_id not in came[event.object_key]:
            came[event.object_key].append(event.event_id)
        if event.origin is Origin.read:
            reads.add(event.event_id)
    went: dict[str, list[str]] = defaultdict(list)
    persons: dict[str, set[str]] = defaultdict(set)
    for entry in world.log.all(RESOLVED):
        record = entry.message
        assert isinstance(record, ResolvedRecord)
        went[record.event.object_key].append(record.event.event_id)
        persons[record.event.object_key].add(record.person)
    parked = {r.event_id for r in _parked(world).values() if r.stage in (Stage.admit, Stage.intake)}
    for key, events in came.items():
        if sorted(went[key]) != sorted(e for e in events if e not in parked):
            yield f"P1 {key}: {len(events)} events came, {len(went[key])} went on"
        told = [e for e in events if e not in parked and e not in reads]
        if [e for e in went[key] if e not in reads] != told:
            yield f"P3 {key}: events overtook each other in admit"
        if len(persons[key]) > 1:
            yield f"P2 {key}: its events went to {len(persons[key])} persons"
    yield from _addresses(world, persons)


def _addresses(world: World, persons: dict[str, set[str]]) -> Iterator[str]:
    """An object is the person's who owns the first address that it told."""
    owners: dict[str, str] = {}
    renamed: set[str] = set()
    told: dict[str, list[PlatformEvent]] = defaultdict(list)
    for entry in world.log.all(ASKED):
        asked = entry.message
        assert isinstance(asked, AddressAsked)
        owners.setdefault(asked.identity, asked.proposed)
    for entry in world.log.all(events_of("hubspot")):
        event = _event(entry.message)
        told[entry.key].append(event)
        if event.kind is EventKind.merged:
            renamed |= {entry.key, *event.related}  # those are who the others are
    for key, events in told.items():
        identity = "" if key in renamed else _first_address(world, events)
        if identity and persons[key] and persons[key] != {owners[identity]}:
            yield f"P2 {key}: is not the person who owns its address"


def _first_address(world: World, events: list[PlatformEvent]) -> str:
    """What decides whose an object is; empty: it was known before it told any address."""
    first = events[0]
    identity = world.catalog.identity(first) or ""
    if identity or not first.thin or first.kind is EventKind.deleted:
        return identity
    before: list[str] = []
    for event in events:
        identity = world.catalog.identity(event) or ""
        if event.origin is Origin.read:
            return identity or next((i for i in before if i), "")
        before.append(identity)
    return ""


# ---- P4 and P5: the journal alone


def _stories(world: World) -> dict[str, Story]:
    stories: dict[str, Story] = {}
    for entry in world.log.all(events_of("hubspot")):
        event = _event(entry.message)
        for sync in _wanted(world, event):
            row = _row_id(event.event_id, sync)
            story = stories.get(row)
            if story is None:
                story = stories[row] = Story(event, sync)
            story.received += 1
    return stories


def _balance(world: World, stories: dict[str, Story]) -> Iterator[str]:
    begun: Counter[str] = Counter()
    for entry, note in _notes(world):
        if note.code == "resent" and note.row_id not in stories:
            # a record that a join has made: it stands on no topic of events
            stories[note.row_id] = Story(_NO_EVENT, entry.sync, received=1)
        story = stories.get(note.row_id)
        if story is None or story.sync != entry.sync or story.event.run != entry.run:
            yield f"P4 the journal speaks of {note.row_id[:8]}, which nobody received"
            continue
        if not note.was:
            begun[note.row_id] += 1
        if note.standing is Standing.duplicate:
            continue
        before = story.last.standing.value if story.last else ""
        if note.was != before:
            yield f"P4 {note.row_id[:8]}: was {before or 'new'}, the journal says {note.was}"
        story.notes.append(note)
        story.last = note
    for row_id, story in stories.items():
        if begun[row_id] != story.received:
            times = f"received {story.received} times, begun {begun[row_id]} times"
            yield f"P4 {row_id[:8]}: {times}"


def _reasons(stories: dict[str, Story]) -> Iterator[str]:
    for row_id, story in stories.items():
        note = story.last
        if note is None:
            continue
        standing = note.standing
        told = note.code or note.reason
        if standing not in SELF_EXPLAINING and not told:
            yield f"P5 {row_id[:8]}: {standing.value} without a reason"
        if standing in (Standing.discarded, Standing.cancelled) and not note.by:
            yield f"P5 {row_id[:8]}: {standing.value} by nobody"
        if standing is Standing.superseded and note.by not in stories:
            yield f"P5 {row_id[:8]}: superseded by {note.by!r}, which does not exist"
        elif standing is Standing.superseded:
            fate, carrier = _fate(stories, row_id)
            run = stories[carrier].event.run
            if fate is Standing.cancelled and run != story.event.run:
                yield f"P7 {row_id[:8]}: went down with {run}, which is not its run"


def _places(world: World, stories: dict[str, Story], *, healed: bool) -> Iterator[str]:
    parked = {r.row_id for r in _parked(world).values() if r.row_id}
    for row_id, story in stories.items():
        note = story.last
        if note is None:
            yield f"P1 {row_id[:8]} ({story.sync} {story.event.run}): nothing became of it"
            continue
        if note.standing not in FATES and (healed or note.standing not in WAITING):
            yield f"P4 {row_id[:8]}: still {note.standing.value} {note.code}"
        if (note.standing is Standing.parked) != (row_id in parked) and note.code not in (
            "too_many_waiting",
        ):
            yield f"P5 {row_id[:8]}: {note.standing.value}, but parked topic says otherwise"


# ---- P2 and P3: what the destinations hold


def _order(world: World, persons: Persons) -> Iterator[str]:
    """A destination's field never goes back to what a person's only source object said before."""
    objects = persons.objects
    contacts = {c.key: c for p in world.portals.values() for c in p.contacts}
    for platform in world.platforms.values():
        for (kind, person, name), values in platform.ledger.items():
            if persons.touched(person) or len(objects[person]) != 1:
                continue
            contact = contacts[objects[person][0]]
            if contact.skewed:
                continue
            for sync in world.names:
                made = MAPPINGS[sync].made.get(name)
                target = (SYNCS[sync].destination_object, SYNCS[sync].source)
                if made is None or name == CONSENT or target != (kind, contact.portal):
                    continue
                told = [made[1](state.get(made[0])) for _, state in contact.history]
                plain = [v for v in values if not str(v).startswith("fixed-")]
                if not _in_order(plain, told):
                    yield f"P3 {contact.key} {name}: source {told}, destination took {values}"


def _in_order(taken: list[Any], told: list[Any]) -> bool:
    """Whether `taken` can be read off `told` from left to right."""
    rest = iter(told)
    return all(any(value == other for other in rest) for value in taken)


@dataclass
class Knowledge:
    """What one source object has said up to some point, and what a person put in its place."""

    fields: dict[str, tuple[Any, int]] = field(default_factory=dict)
    """Field to (value, source time)."""
    fixed: dict[str, Any] = field(default_factory=dict)
    """The last fix that was asked for; whether it was done is not known here."""


@dataclass
class Wishes:
    by_row: dict[str, Wish] = field(default_factory=dict)
    objects: dict[str, Knowledge] = field(default_factory=lambda: defaultdict(Knowledge))
    """What was known of each object in the end."""
    released: dict[str, list[dict[str, tuple[Any, int]]]] = field(default_factory=dict)
    """Rows that may have been decided anew, to what they asked for then."""
    later: dict[str, list[PlatformEvent]] = field(default_factory=lambda: defaultdict(list))
    """By object: records that wait until it is known whole."""
    doubted: set[str] = field(default_factory=set)
    """Persons of whom it was read what was in doubt: what was asked for then, only `_truth` can
    say."""
    reads: dict[str, list[str]] = field(default_factory=dict)
    """Connection to the fields that somebody looks at."""
    half: list[str] = field(default_factory=list)
    """Problems: records that were decided with half of their object known."""


def _wishes(world: World, stories: dict[str, Story], persons: Persons) -> Wishes:
    """What every record asked for, with all that was known when it was decided."""
    wishes = Wishes()
    for connection, names in world.followers.items():
        wishes.reads[connection] = sorted({"email"}.union(*(MAPPINGS[n].inputs for n in names)))
    history = next(agent.history for agent in world.agents if agent.name == "shape")
    # what came for somebody who had moved was sent on: it is decided where it came last
    last = {
        m.event.event_id: n for n, (_, m) in enumerate(history) if isinstance(m, ResolvedRecord)
    }
    for number, (_, message) in enumerate(history):
        if isinstance(message, ResolvedRecord) and last[message.event.event_id] == number:
            _record(world, stories, persons, wishes, message)
        elif isinstance(message, Act) and message.kind is ActKind.fix:
            for target in message.targets:
                if target.row_id in wishes.by_row:
                    source = wishes.by_row[target.row_id].source
                    wishes.objects[source].fixed = json.loads(message.values)
        elif isinstance(message, Act) and message.kind is ActKind.release:
            for target in message.targets:
                old = wishes.by_row.get(target.row_id)
                if old is None:
                    continue  # two persons are to be one, or a record that a join has made
                again = _mapped(old.sync, wishes.objects[old.source], _NO_EVENT, old.person)
                wishes.released.setdefault(old.row_id, []).append(again or {})
    return wishes


def _record(
    world: World, stories: dict[str, Story], persons: Persons, wishes: Wishes,
    message: ResolvedRecord,
) -> None:  # fmt: skip
    event = message.event
    key, person = event.object_key, persons.of(event.object_key)
    known = wishes.objects[key]
    reads = wishes.reads[event.connection]
    for wish in _wish(world, reads, known, event, person):
        wishes.by_row[wish.row_id] = wish
        first = stories[wish.row_id].notes[:1]
        code = first[0].code if first else ""
        unseen = MAPPINGS[wish.sync].inputs - known.fields.keys()
        plain = event.kind is EventKind.updated and SYNCS[wish.sync].audience is None
        if unseen and plain and code in DECIDED and key not in persons.gone:
            wishes.half.append(f"P3 {wish.row_id[:8]}: decided, and nobody has told {unseen}")
        if code in ("in_doubt", "merged") or event.kind is EventKind.merged:
            wishes.doubted.add(person)
        if code == "unknown_field":
            wishes.later[key].append(event)
    if len(known.fields) == len(wishes.reads[event.connection]):
        for waited in wishes.later.pop(key, ()):
            for wish in _wish(world, reads, known, waited, person, again=True):
                wishes.by_row[wish.row_id] = wish


def _wish(
    world: World, reads: list[str], known: Knowledge, event: PlatformEvent, person: str,
    *, again: bool = False,
) -> Iterator[Wish]:  # fmt: skip
    """`again`: what it told is known already, and by now the rest too."""
    followed = event.kind not in (EventKind.deleted, EventKind.merged)
    stale = False
    if followed and not again:
        at_ms = _at_ms(event)
        values: dict[str, Any] = _values(event.values)
        spoken = [f for f in reads if f in values or not event.thin]
        older = [f for f in spoken if f in known.fields and at_ms < known.fields[f][1]]
        stale = bool(spoken) and len(older) == len(spoken)
        for name in spoken:
            if name not in older:
                known.fields[name] = (values.get(name), at_ms)
    for sync in _wanted(world, event):
        row = _row_id(event.event_id, sync)
        wish = Wish(row, sync, person, event.object_key, stale=stale)
        if followed:
            wish.fields = _mapped(sync, known, event, person)
            wish.filtered = wish.fields is None and _is_filtered(sync, known.fields)
        yield wish


def _mapped(
    sync: str, known: Knowledge, event: PlatformEvent, person: str
) -> dict[str, tuple[Any, int]] | None:
    """The row, made of what the source says; where that gives none, of what people put there."""
    mapping = MAPPINGS[sync]
    said = {f: v for f, (v, _) in known.fields.items() if f in mapping.inputs}
    mended = {f: v for f, v in known.fixed.items() if f in mapping.inputs}
    for values in (said, {**said, **mended}):
        shaped = mapping.shape(values, event, person)
        if shaped.fields is not None and not shaped.errors:
            return {
                to: (value, known.fields[mapping.made[to][0]][1])
                for to, value in shaped.fields.items()
                if mapping.made[to][0] in known.fields
            }
    return None


def _rules(world: World, sync: str, name: str) -> bool:
    """Whether the source of a sync rules this field of its destination."""
    ruler = world.ruling.get(name, world.ruling.get(ALL, ""))
    return ruler == SYNCS[sync].source and SYNCS[sync].destination_object == "Lead"


def _above(world: World, sync: str, name: str, at_ms: int) -> int:
    """A time, above all others where the source rules."""
    return at_ms + (RULES if _rules(world, sync, name) else 0)


def _said(sync: str, known: Knowledge, person: str) -> dict[str, tuple[Any, int]] | None:
    """The row as the source alone has it, whatever people put in its place."""
    return _mapped(sync, Knowledge(known.fields), _NO_EVENT, person)


def _is_filtered(sync: str, known: dict[str, tuple[Any, int]]) -> bool:
    where = MAPPINGS[sync].where
    return bool(where) and known.get(where, (None, 0))[0] in (None, "", "no")


def _verdicts(stories: dict[str, Story], wishes: Wishes, persons: Persons) -> Iterator[str]:
    """The first word of the journal on each record is what the oracle would have said."""
    sources: dict[str, set[str]] = defaultdict(set)
    for wish in wishes.by_row.values():
        sources[wish.person].add(wish.source)
    for row_id, wish in wishes.by_row.items():
        told = [n for n in stories[row_id].notes if n.code not in ("unknown_field", "in_doubt")]
        if not told or wish.person in wishes.doubted:
            continue
        first = told[0]
        if first.code == "object_merged":
            if wish.source not in persons.gone:
                yield f"P5 {row_id[:8]}: nobody has merged its object"
            continue
        if stories[row_id].event.kind.value in SYNCS[wish.sync].kinds:
            continue  # a word on consent goes out whatever the filter says
        if wish.source in persons.gone:
            continue  # asked for itself, it says that it is gone, and no more
        listed = SYNCS[wish.sync].audience is not None  # whether they are on it: see `_lists`
        if first.standing is Standing.filtered and wish.fields is not None and not listed:
            yield f"P5 {row_id[:8]}: filtered, but the filter lets it pass"
        alone = len(sources[wish.person]) == 1 and not persons.touched(wish.person)
        if first.standing is Standing.stale and not wish.stale and alone:
            yield f"P5 {row_id[:8]}: stale, but it tells something new"
        if wish.filtered and not wish.stale and first.standing not in (
            Standing.filtered, Standing.cancelled,
        ):  # fmt: skip
            yield f"P5 {row_id[:8]}: {first.standing.value}, but the filter leaves it out"


def _contents(
    world: World, stories: dict[str, Story], wishes: Wishes, persons: Persons
) -> Iterator[str]:
    """A destination holds, per field, the newest that any record asked for and that was not given
    up; or something newer that was known when it was released."""
    asked: dict[tuple[str, str, str], list[tuple[int, int, Any, bool]]] = defaultdict(list)
    facts: Counter[str] = Counter()
    for seq, (row_id, wish) in enumerate(wishes.by_row.items()):
        sync = SYNCS[wish.sync]
        fate, carrier = _fate(stories, row_id)
        if fate is Standing.stale and carrier not in wishes.released:
            continue  # asked for nothing that another record does not ask for
        if sync.destination_object == "visit":
            if fate in (Standing.written, Standing.accepted, Standing.unchanged):
                facts[row_id] += 1
            continue
        for name, (value, at_ms) in (wish.fields or {}).items():
            given_up = fate in GIVEN_UP or carrier in wishes.released
            given_up |= value == "bad" and sync.policy is Policy.pass_
            key = (sync.destination_object, wish.person, name)
            asked[key].append((_above(world, wish.sync, name, at_ms), seq, value, given_up))
    for row_id, versions in wishes.released.items():
        wish = wishes.by_row[row_id]
        for name, (value, at_ms) in (pair for v in versions for pair in v.items()):
            kind = SYNCS[wish.sync].destination_object
            above = _above(world, wish.sync, name, at_ms)
            asked[kind, wish.person, name].append((above, -1, value, True))
    sources = {(w.person, w.sync): set[str]() for w in wishes.by_row.values()}
    for wish in wishes.by_row.values():
        sources[wish.person, wish.sync].add(wish.source)
    for (kind, person, name), rows in asked.items():
        if person in wishes.doubted or name == CONSENT or kind == "vip":
            continue  # what is owed to those of a list: see `_lists`
        platform = world.platforms["salesforce" if kind == "Lead" else "mailchimp"]
        held = platform.objects.get((kind, persons.held(world, kind, person)), {})
        kept = [r for r in rows if not r[3]]
        newest_ms = max((r[0] for r in kept), default=-1)
        says = [
            ((now[name][0], _above(world, sync, name, now[name][1])), mapped is said)
            for (who, sync), keys in sources.items()
            if who == person and SYNCS[sync].destination_object == kind
            for key in keys - persons.gone
            for said in [_said(sync, wishes.objects[key], person)]
            for mapped in (said, _mapped(sync, wishes.objects[key], _NO_EVENT, person))
            if name in (now := mapped or {})
        ]
        if persons.touched(person):
            # of two objects one is written on: with what their sources say, or anything newer;
            # where the filter or our checks leave that out by now, what stood there stays
            sure = [at_ms for (_, at_ms), unmended in says if unmended]
            if not sure:
                continue
            newest_ms = min(newest_ms, max(sure))
        # objects of one person that changed in the same millisecond: whichever
        allowed = [r[2] for r in kept if r[0] == newest_ms]
        allowed += [r[2] for r in rows if (r[3] or r[0] > newest_ms) and r[0] >= newest_ms]
        allowed += [value for (value, at_ms), _ in says if at_ms >= newest_ms]
        holds = held.get(name)
        if holds is not None and holds not in allowed:
            if not str(holds).startswith("fixed-"):
                yield f"P2 {kind} {person[:8]} {name}: holds {holds!r}, asked {allowed}"
        elif (
            holds is None
            and kept
            and None not in allowed
            and not (name == "PHONE" and "bad" in [r[2] for r in rows])
        ):
            # "bad" is refused, and by the policy *pass* everything older than it stays at home,
            # also where nothing stands because it was cleared before
            yield f"P1 {kind} {person[:8]} {name}: holds nothing, asked {allowed}"
    done = world.platforms["mailchimp"].facts
    for row_id in facts.keys() | done.keys():
        if (
            facts[row_id] != done.get(row_id, 0)
            and _fate(stories, row_id)[0] is not Standing.parked
        ):
            yield f"P2 fact {row_id[:8]}: counted {done.get(row_id, 0)}, has {facts[row_id]} fates"


def _truth(world: World, stories: dict[str, Story], persons: Persons) -> Iterator[str]:
    """In the end a destination holds what its source says: no matter what any step took for older.

    Of persons with one object (that still exists), or one that rules there, and of which nothing
    was ever refused; every change was told.
    """
    refused = {
        (story.event.object_key, story.sync)
        for story in stories.values()
        if any(n.standing in (Standing.parked, Standing.discarded) for n in story.notes)
    }
    told = {
        (s.event.object_key, s.sync)
        for s in stories.values()
        if not s.event.run and s.event.kind not in (EventKind.deleted, EventKind.merged)
    }
    for contact in (c for p in world.portals.values() for c in p.contacts):
        person = persons.of(contact.key) if contact.key in persons.home else ""
        mine = [key for key in persons.objects[person] if key not in persons.gone]
        here = [key for key in mine if key.startswith(f"{contact.portal}:")]
        if here != [contact.key] or contact.silent:
            continue
        for sync in world.followers[contact.portal]:
            kind = SYNCS[sync].destination_object
            inputs = MAPPINGS[sync].inputs
            seen = {f: v for f, v in contact.values.items() if f in inputs}
            shaped = MAPPINGS[sync].shape(seen, _NO_EVENT, person)
            wanted = None if shaped.errors or kind in ("visit", "vip") else shaped.fields
            there = [n for n in world.names if SYNCS[n].destination_object == kind]
            out_of_it = any((k, n) in refused for k in persons.objects[person] for n in there)
            if wanted is None or out_of_it or (contact.key, sync) not in told:
                continue
            platform = world.platforms["salesforce" if kind == "Lead" else "mailchimp"]
            held = platform.objects.get((kind, persons.held(world, kind, person)), {})
            for name, value in wanted.items():
                if (
                    name != CONSENT
                    and (mine == here or _rules(world, sync, name))
                    and held.get(name) != value
                    and not str(held.get(name)).startswith("fixed-")
                ):
                    yield f"P2 {contact.key} {name}: {held.get(name)!r}, the source says {value!r}"


def _consent(world: World, stories: dict[str, Story], persons: Persons) -> Iterator[str]:
    """Whoever said no last is not subscribed: no bulk run, release or resend has done it again."""
    if "letters" not in world.names:
        return
    sets = SYNCS["letters"].kinds
    given_up = {
        persons.of(story.event.object_key)
        for story in stories.values()
        if story.event.object_key in persons.home
        and any(n.standing is Standing.discarded for n in story.notes)
    }
    words: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for story in stories.values():
        event = story.event
        if event.kind.value in sets and event.object_key in persons.home:
            at_ms = min(event.occurred_ms, event.received_ms)
            words[persons.of(event.object_key)].append((at_ms, event.kind.value))
    for person, told in words.items():
        platform = world.platforms["mailchimp"]
        held = platform.objects.get(("subscriber", persons.held(world, "subscriber", person)), {})
        last = {kind for at_ms, kind in told if at_ms == max(told)[0]}
        wanted = {sets[kind][CONSENT] for kind in last}  # type: ignore[index]
        uncertain = person in given_up or persons.parted(world, *_ever(persons, person))
        if CONSENT in held and held[CONSENT] not in wanted and not uncertain:
            yield f"P2 {person[:8]}: is {held[CONSENT]!r}, but the last word was {wanted}"


def _lists(world: World, stories: dict[str, Story], persons: Persons) -> Iterator[str]:
    """Whoever is on the last list is there as a member, and as the source has them; whoever has
    left, as one who left; nobody else is there."""
    rows = world.run_rows()
    if any(getattr(rows.get(run), "state", "") != "completed" for run, *_ in world.lists):
        return
    refused = {
        story.event.object_key
        for story in stories.values()
        if story.sync == "vips"
        and any(n.standing in (Standing.parked, Standing.discarded) for n in story.notes)
    }
    now = set(world.lists[-1][1]) if world.lists else set[str]()
    ever = {key for _, on, _ in world.lists for key in on}
    for person, keys in persons.objects.items():
        if persons.touched(person) or not (refused | persons.gone).isdisjoint(keys):
            continue
        held = world.platforms["mailchimp"].objects.get(("vip", f"id-{person}"), {})
        wanted: set[str | None] = {"hot"}
        if now.isdisjoint(keys):
            wanted = {None} if ever.isdisjoint(keys) else {"cold", None}
        if held.get("RATING") not in wanted:
            yield f"P2 {person[:8]}: is {held.get('RATING')!r} on the list, not one of {wanted}"
        contacts = [c for c in world.portals["hub"].contacts if c.key in keys]
        if wanted == {"hot"} and len(contacts) == 1 and not contacts[0].silent:
            name = contacts[0].values["lastname"]
            if held.get("LNAME") != name:
                yield f"P2 {contacts[0].key}: {held.get('LNAME')!r}, the source says {name!r}"


def _ever(persons: Persons, person: str) -> set[str]:
    """A person, and all who gave objects to it."""
    return {person, *(persons.home[key] for key in persons.objects[person])}


_NO_EVENT = PlatformEvent(
    event_id="", connection="hub", platform="hubspot", object_type="contact", object_id="",
    occurred_ms=0, received_ms=0, values=b"{}", payload=b"",
)  # fmt: skip


def _fate(stories: dict[str, Story], row_id: str) -> tuple[Standing, str]:
    """Fate of a record, or of the one that carries it, and which that is."""
    carried: list[Story] = []
    for _ in range(len(stories)):
        story = stories[row_id]
        note = story.last
        assert note is not None
        if story.fate is None and note.standing is Standing.superseded:
            carried.append(story)
            row_id = note.by
            continue
        fate = story.fate or (note.standing, row_id)
        for other in carried:
            other.fate = fate
        return fate
    raise AssertionError("records supersede each other in a circle")


def _runs(world: World) -> Iterator[str]:
    begun: dict[str, Counter[str]] = defaultdict(Counter)
    for entry, note in _notes(world):
        if entry.run:
            begun[entry.run][note.standing.value] += 1
            if note.was:
                begun[entry.run][note.was] -= 1
    rows = world.run_rows()
    for name in world.runs:
        run = rows.get(name)
        if not isinstance(run, Run) or run.state not in FINAL:
            yield f"P1 {name}: {getattr(run, 'state', 'unknown')}, and nothing moves"
            continue
        counts = {s: n for s, n in run.counts.items() if n}
        if counts != {s: n for s, n in begun[name].items() if n}:
            yield f"P4 {name}: counts {counts}, the journal {dict(begun[name])}"
        if sum(counts.values()) != run.fetched:
            yield f"P4 {name}: fetched {run.fetched}, accounted for {sum(counts.values())}"


def _ends(world: World) -> Iterator[str]:
    """A run ends when its last record has its fate, and fetches on credit only."""
    for name in world.runs:
        fetched, fated, mended, last = 0, 0, 0, False
        for entry in world.log.entries[JOURNAL, partition_of(name)]:
            message = entry.message
            if not isinstance(message, JournalEntry) or message.run != name:
                continue
            for note in message.rows:
                fated += (note.standing in FATES) - (note.was in FATES)
                mended += note.was == "parked"
            if message.kind is JournalKind.page_fetched:
                if fetched - fated > CREDIT + mended:
                    yield f"P7 {name}: fetched on with {fetched - fated} records on their way"
                fetched, last = fetched + message.records, message.last
            if message.kind is JournalKind.run_state and message.after in FINAL:
                if not fetched - mended <= fated <= fetched:
                    yield f"P4 {name}: {message.after} with {fetched - fated} records on their way"
                if message.after == "completed" and not last:
                    yield f"P1 {name}: completed before its last page"


# ---- reading


def _wanted(world: World, event: PlatformEvent) -> list[str]:
    if event.run:
        return [ids.sync_of(event.run)]
    if event.origin is Origin.read:
        return []
    return world.followers[event.connection]


def _notes(world: World) -> Iterator[tuple[JournalEntry, RowNote]]:
    for entry in world.log.all(JOURNAL):
        message = entry.message
        assert isinstance(message, JournalEntry)
        if message.kind in (JournalKind.admitted, JournalKind.decided):
            for note in message.rows:
                yield message, note


def _parked(world: World) -> dict[str, ParkedRecord]:
    found: Iterable[tuple[str, Any]] = world.log.compacted(PARKED).items()
    return {k: m for k, m in found if isinstance(m, ParkedRecord)}


_row_id = lru_cache(20_000)(ids.row_id)
_values = lru_cache(2_000)(json.loads)


def _event(message: Any) -> PlatformEvent:
    assert isinstance(message, PlatformEvent)
    return message


def _at_ms(event: PlatformEvent) -> int:
    future = event.occurred_ms > event.received_ms + FUTURE_MS
    return event.received_ms if future else event.occurred_ms

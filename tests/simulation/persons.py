"""Who is one person with whom, read off the logs: `records.resolved` says whose an object is, the
journal says which persons were joined. And what must be true of joins as such.
"""

from collections import defaultdict
from collections.abc import Iterator

from schemas import ids
from schemas.events import EventKind, PlatformEvent, ResolvedRecord
from schemas.identity import AddressAsked
from schemas.journal import JournalKind
from schemas.parked import ParkedRecord, Stage
from schemas.topics import ASKED, PARKED, RESOLVED, events_of
from tests.simulation.world import World

__all__ = ["Persons", "judge_joins"]


class Persons:
    """Everybody in a world, in the end."""

    def __init__(self, world: World) -> None:
        self.home: dict[str, str] = {}
        """Object key to the person that it was given to at first."""
        for entry in world.log.all(RESOLVED):
            record = entry.message
            assert isinstance(record, ResolvedRecord)
            self.home[record.event.object_key] = record.person
        self.moved: dict[str, str] = {}
        """Person to the one whom they were joined to, in the order of the joins."""
        self.ever: set[str] = set()
        """Persons who were part of a join, also of one that was undone."""
        self.undone: set[str] = set()
        """Persons who were parted: by whomever they had come to be joined with meanwhile."""
        for _, entry in world.log.joined:
            self.ever |= {entry.before, entry.after}
            self.moved.pop(entry.before, None)
            if entry.kind is JournalKind.joined:
                self.moved[entry.before] = entry.after
            else:
                self.undone |= {entry.before, entry.after}
        self.objects: dict[str, list[str]] = defaultdict(list)
        """Person, as they are now, to their objects."""
        for key in self.home:
            self.objects[self.of(key)].append(key)
        self.gone = {c.key for p in world.portals.values() for c in p.contacts if c.gone}

    def root(self, person: str) -> str:
        """The person that somebody is now."""
        seen: set[str] = set()
        while person in self.moved:
            assert person not in seen, "persons have moved in a circle"
            seen.add(person)
            person = self.moved[person]
        return person

    def parted(self, world: World, *persons: str) -> bool:
        """Whether anybody has parted these, or those whom they were joined to, ever."""
        return any(
            person in world.kept
            or person in self.undone
            or (person in self.moved and self.parted(world, self.moved[person]))
            for person in persons
        )

    def of(self, object_key: str) -> str:
        return self.root(self.home[object_key])

    def touched(self, person: str) -> bool:
        """Whether a join, a merge or an undoing has been about any of their objects."""
        homes = {self.home[key] for key in self.objects[person]}
        merged = any(key in self.gone for key in self.objects[person])
        return merged or person in self.ever or not homes.isdisjoint(self.ever)

    def held(self, world: World, kind: str, person: str) -> str:
        """Object at a destination that is written for them: their own, or the first one brought.

        One that was made for somebody who has parted since is theirs again, whoever used it."""
        platform = world.platforms["salesforce" if kind == "Lead" else "mailchimp"]
        own = platform.used.get((kind, person), "")
        if self.root(own.removeprefix("id-")) != self.root(person):
            own = ""
        brought = (self.held(world, kind, p) for p, to in self.moved.items() if to == person)
        return own or next((object_id for object_id in brought if object_id), "")


def judge_joins(world: World, persons: Persons, *, healed: bool) -> Iterator[str]:
    """P2: whoever is one is one row, and stays so; whoever is not, is not."""
    joined: dict[str, int] = {}
    for at, entry in world.log.joined:
        if entry.kind is JournalKind.joined:
            joined[entry.before] = at
            if entry.after >= entry.before:
                yield f"P2 {entry.before[:8]}: moved to somebody with a larger key"
        else:
            joined.pop(entry.before, None)
    for platform in world.platforms.values():
        for at, person in platform.writes:
            if joined.get(person, at) < at:
                yield f"P2 {person[:8]}: written for after it had moved"
    if healed:
        yield from _proposals(world, persons)
        yield from _merged(world, persons)


def _proposals(world: World, persons: Persons) -> Iterator[str]:
    """Nothing is left undecided; where a connection says so, showing a key is enough."""
    for record in world.log.compacted(PARKED).values():
        if isinstance(record, ParkedRecord) and record.stage is Stage.joining:
            yield f"P8 {record.parked_id[:8]}: a join that was released is proposed still"
    owners: dict[str, str] = {}
    shown: list[tuple[str, str]] = []
    for entry in world.log.all(ASKED):
        asked = entry.message
        assert isinstance(asked, AddressAsked)
        owners.setdefault(asked.identity, asked.proposed)
        shown.append((asked.object_key, asked.identity))
    for key, identity in shown:
        declared = world.catalog.identify(key)
        if declared is None or declared.joins == "never" or key not in persons.home:
            continue
        person, owner = persons.home[key], owners[identity]
        if ids.join_id(person, owner) in world.parted:
            continue  # somebody said no
        apart = persons.root(person) != persons.root(owner)
        if apart and not persons.parted(world, person, owner):
            yield f"P2 {key}: shows a key of {owner[:8]}, and is not joined"


def _merged(world: World, persons: Persons) -> Iterator[str]:
    """What the platform has made one is one person's."""
    for entry in world.log.all(events_of("hubspot")):
        event = entry.message
        assert isinstance(event, PlatformEvent)
        if event.kind is not EventKind.merged or event.object_key not in persons.home:
            continue
        for former in event.related:
            if former not in persons.home:
                continue
            one, other = persons.home[event.object_key], persons.home[former]
            apart = persons.root(one) != persons.root(other)
            if apart and not persons.parted(world, one, other):
                yield f"P2 {former}: is {event.object_key} now, and still somebody else"

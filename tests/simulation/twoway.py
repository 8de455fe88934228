"""Two platforms that are source and destination of each other, and two behind one of them.

Contacts of `hub` and leads of `sales` are kept equal by two syncs; the contacts also become members
at `mail`, and those members at `post`: three syncs in a row. In some of the worlds Mailchimp is the
hub, in some it is the other side, and then it does not tell of what is written by its API. People
edit on both sides at once, and merge contacts; each platform tells every other change, late, twice
and in any order. In the end both sides hold the same, after few writes.
"""

import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from schemas import ids
from schemas.commands import ReadObjects, Recall, UploadBatch, UploadRow
from schemas.control import Tick
from schemas.definitions import Connection, Identify, Sync
from schemas.events import EventKind, Origin, PlatformEvent
from schemas.journal import JournalEntry, Standing
from schemas.outcomes import OutcomeKind, RecordOutcome
from schemas.topics import JOURNAL, TICKS, commands_of, events_of, outcomes_of
from streams.steps.catalog import Catalog, Flow
from streams.steps.outputs import Send
from streams.steps.rows import Person, unpack_person
from tests.simulation.agents import topology
from tests.simulation.definitions import Mapped, mapped, sync
from tests.simulation.log import PARTITIONS, Log

__all__ = ["TwoWay", "play_two_way"]


def _same(value: Any) -> Any:
    return value


def _upper(value: Any) -> Any:
    return str(value).upper() if value else None


def _identify(name: str) -> dict[str, Identify]:
    return {kind: Identify(field=name) for kind in ("contact", "Lead", "member")}


CONNECTIONS = {
    "hub": Connection(
        connection="hub", platform="hubspot", account="p1", identify=_identify("email")
    ),
    "sales": Connection(
        connection="sales", platform="salesforce", account="o1", identify=_identify("Email")
    ),
    "mail": Connection(
        connection="mail", platform="mailchimp", account="m1", identify=_identify("email")
    ),
    "post": Connection(connection="post", platform="mailchimp", account="m2"),
}
PLATFORMS = ("hubspot", "mailchimp", "salesforce")
HUB = {"hubspot": "mailchimp", "mailchimp": "hubspot"}
"""Who takes whose place where Mailchimp is the hub."""
SIDE = {"salesforce": "mailchimp", "mailchimp": "salesforce"}
"""The same, where it is the other side."""
KINDS = {"hub": "contact", "sales": "Lead", "mail": "member", "post": "member"}
PAIRS = {"email": "Email", "lastname": "LastName", "phone": "Phone", "company": "Company"}
EDITED = ("lastname", "phone", "company")
SYNCS = {
    "leads": sync("leads", "hub", "sales", "Lead", match="Email"),
    "back": Sync(
        sync="back", source="sales", source_object="Lead", destination="hub",
        destination_object="contact", mapping="back", match="email",
    ),
    "news": sync("news", "hub", "mail", "member"),
    "letters": Sync(
        sync="letters", source="mail", source_object="member", destination="post",
        destination_object="member", mapping="letters",
    ),
}  # fmt: skip
MAPPINGS: dict[str, Mapped] = {
    "leads": mapped(
        "leads@1", "Email", {d: (s, _upper if s == "lastname" else _same) for s, d in PAIRS.items()}
    ),
    "back": mapped("back@1", "email", {s: (d, _same) for s, d in PAIRS.items()}),
    "news": mapped("news@1", "email", {"email": ("email", _same), "LNAME": ("lastname", _same)}),
    "letters": mapped("letters@1", "email", {"email": ("email", _same), "NAME": ("LNAME", _same)}),
}


@dataclass
class Object:
    number: int
    values: dict[str, Any]
    changed_ms: int
    into: "Object | None" = None
    """That it was merged into."""

    def now(self) -> "Object":
        return self.into.now() if self.into else self


@dataclass
class Side:
    """One platform: objects with unique addresses, and what it has told of them."""

    name: str
    objects: list[Object] = field(default_factory=list)
    writes: int = 0
    """Of ours, that changed something."""
    workflow: str = ""
    """Field that the platform rewrites whenever it changes."""

    @property
    def address(self) -> str:
        return "Email" if self.name == "sales" else "email"

    def find(self, object_id: str, address: Any) -> Object | None:
        """By id, or by an address: also that of a contact that was merged, as at HubSpot."""
        if object_id:
            return self.objects[int(object_id)].now()
        held = [*self.living(), *self.objects]
        return next((o.now() for o in held if o.values.get(self.address) == address), None)

    def living(self) -> list[Object]:
        return [obj for obj in self.objects if obj.into is None]


class TwoWay:
    """One world, drawn from a seed."""

    def __init__(self, seed: int, **workflows: str) -> None:
        """`workflows`: side to the field that it rewrites whenever it changes."""
        self.draw = random.Random(zlib.crc32(b"two-way %d" % seed))
        self.now_ms = 10_000_000
        self.log = Log()
        swapped = self.draw.choice([{}, HUB, SIDE, SIDE])
        self.quiet = swapped is SIDE
        """The other side tells no writes of ours."""
        self.connections = {
            name: known.model_copy(update={"platform": swapped.get(known.platform, known.platform)})
            for name, known in CONNECTIONS.items()
        }
        self.catalog = Catalog(
            connections=self.connections, syncs={(n, 1): s for n, s in SYNCS.items()},
            active={f"{kind}:{n}": 1 for n in SYNCS for kind in ("sync", "mapping")},
            compiled=lambda name, *_: MAPPINGS.get(name),
            flows={
                f"{c}:{kind}": Flow(quiet=self.quiet and c == "sales") for c, kind in KINDS.items()
            },
        )  # fmt: skip
        self.agents = topology(self.log, self.catalog)
        self.sides = {name: Side(name) for name in CONNECTIONS}
        for name, what in workflows.items():
            self.sides[name].workflow = what
        self.due: list[tuple[int, PlatformEvent]] = []
        self.read: dict[tuple[str, int], int] = {}
        self.waiting: list[tuple[str, UploadBatch, UploadRow]] = []
        self.serial = self.edits = self.merges = 0
        for number in range(self.draw.randint(1, 3)):
            values = {"email": f"p{number}@x.io", "lastname": "lee", "phone": "1", "company": "a"}
            self.write("hub", "", values, by_us=False)
        if self.draw.random() < 0.5:  # one of them is there already
            self.write(
                "sales", "", {"Email": "p0@x.io", "LastName": "LEE", "Phone": "1", "Company": "a"},
                by_us=False,
            )  # fmt: skip

    def storm(self, actions: int) -> None:
        """Edits on both sides, while everything else goes on."""
        does = [self.edit, self.deliver, self.agent, self.work, self.merge]
        for action in self.draw.choices(does, (2, 5, 14, 6, 0.05), k=actions):
            self.now_ms += self.draw.randint(1, 40)
            action()

    def edit(self, side: str = "") -> tuple[str, Object, str, Any] | None:
        """A person changes one field -> what holds now."""
        name = side or self.draw.choice(["hub", "sales"])
        objects = self.sides[name].living()
        if not objects:
            return None
        obj, what = self.draw.choice(objects), self.draw.choice(EDITED)
        self.serial, self.edits = self.serial + 1, self.edits + 1
        mine = what if name == "hub" else PAIRS[what]
        value = f"{name}-{self.serial}" if self.draw.random() < 0.8 else f"again-{name}"
        self.write(name, str(obj.number), {mine: value}, by_us=False)
        return name, obj, what, value

    def merge(self) -> None:
        """Somebody merges two contacts: one of them is gone, some of its values stay."""
        living = self.sides["hub"].living()
        if len(living) < 2 or self.quiet:
            return
        obj, other = self.draw.sample(living, 2)
        self.merges += 1
        self.now_ms += 1
        other.into, obj.changed_ms = obj, self.now_ms
        for what in self.draw.sample(EDITED, 2):
            obj.values[what] = other.values.get(what)
        event = self.event("hub", obj, {}, thin=True, kind=EventKind.merged)
        event.related.append(ids.object_key("hub", KINDS["hub"], str(other.number)))
        self.due.append((self.now_ms + self.draw.choice([0, 5, 100, 800]), event))

    def write(self, name: str, object_id: str, fields: dict[str, Any], *, by_us: bool) -> Object:
        """One request at a platform, ours or a person's; it tells what has changed."""
        side = self.sides[name]
        obj = side.find(object_id, fields.get(side.address))
        fresh = obj is None
        if obj is None:
            obj = Object(len(side.objects), {}, 0)
            side.objects.append(obj)
        changes = {f: v for f, v in fields.items() if obj.values.get(f) != v}
        if not changes:
            return obj
        side.writes += by_us
        told = name != "post" and not (by_us and self.quiet and name == "sales")
        self._changed(name, obj, changes, whole=fresh, told=told)
        if side.workflow in changes:
            self._changed(name, obj, {side.workflow: f"wf-{self.now_ms}"}, whole=False, told=True)
        return obj

    def _changed(
        self, name: str, obj: Object, changes: dict[str, Any], *, whole: bool, told: bool
    ) -> None:
        self.now_ms += 1
        obj.values.update(changes)
        obj.changed_ms = self.now_ms
        if not told:
            return
        thin = not whole and self.draw.random() < 0.6
        event = self.event(name, obj, changes if thin else dict(obj.values), thin=thin)
        for _ in range(self.draw.choice([1, 1, 1, 2])):
            self.due.append((self.now_ms + self.draw.choice([0, 5, 100, 800]), event))

    def event(
        self, name: str, obj: Object, values: dict[str, Any], *, thin: bool = False,
        origin: Origin = Origin.webhook, kind: EventKind = EventKind.updated,
    ) -> PlatformEvent:  # fmt: skip
        document = json.dumps(values, sort_keys=True).encode()
        identity = [origin.value, kind.value, str(obj.number), str(obj.changed_ms)]
        return PlatformEvent(
            event_id=ids.event_id(name, identity, document), connection=name,
            platform=self.connections[name].platform, object_type=KINDS[name],
            object_id=str(obj.number), kind=kind, origin=origin, occurred_ms=obj.changed_ms,
            received_ms=self.now_ms, thin=thin, values=document, payload=document,
        )  # fmt: skip

    def deliver(self) -> None:
        ripe = [pair for pair in self.due if pair[0] <= self.now_ms]
        if ripe:
            pair = self.draw.choice(ripe)
            self.due.remove(pair)
            self._tell(pair[1])

    def _tell(self, event: PlatformEvent) -> None:
        event = event.model_copy(update={"received_ms": self.now_ms})
        self.log.commit([Send(events_of(event.platform), event.object_key, event)])

    def agent(self, crash: float = 0.05) -> bool:
        busy = [a for a in self.agents if a.unread]
        return bool(busy) and self.draw.choice(busy).step(self.draw, crash)

    def work(self) -> bool:
        """A worker takes a command, or carries one row out; now and then it only gives it back."""
        for platform in self.draw.sample(PLATFORMS, len(PLATFORMS)):
            topic = commands_of(platform)
            for partition in range(PARTITIONS):
                at = self.read.get((topic, partition), 0)
                entries = self.log.entries[topic, partition]
                if at < len(entries):
                    self.read[topic, partition] = at + 1
                    self._command(at, entries[at].message)
                    return True
        if not self.waiting:
            return False
        name, batch, row = self.waiting.pop(self.draw.randrange(len(self.waiting)))
        if self.draw.random() < 0.05:
            self._outcome(name, batch, row, OutcomeKind.returned, until_ms=self.now_ms)
            return True
        obj = self.write(name, row.object_id, json.loads(row.fields), by_us=True)
        if self.draw.random() < 0.05:  # died before its commit: the request is made again
            self.waiting.append((name, batch, row))
            return True
        self._outcome(name, batch, row, OutcomeKind.written, object_id=str(obj.number))
        return True

    def _command(self, offset: int, message: Any) -> None:
        match message:
            case UploadBatch():
                self.waiting += [(message.connection, message, row) for row in message.rows]
            case Recall():
                pass  # too late: it is out
            case ReadObjects():
                name = message.connection
                for number in message.object_ids:
                    obj = self.sides[name].objects[int(number)]
                    if obj.into is None:
                        event = self.event(name, obj, dict(obj.values), origin=Origin.read)
                    else:
                        event = self.event(
                            name, obj, {}, thin=True, origin=Origin.read, kind=EventKind.deleted
                        )
                    new = ids.derive("read", str(offset), event.event_id)
                    self._tell(event.model_copy(update={"event_id": new}))
            case _:
                raise TypeError(type(message).__name__)

    def _outcome(
        self, name: str, batch: UploadBatch, row: UploadRow, kind: OutcomeKind, **more: Any
    ) -> None:
        outcome = RecordOutcome(
            row_id=row.row_id, person=row.person, connection=name, object_type=batch.object_type,
            sync=batch.sync, kind=kind, at_ms=self.now_ms, **more,
        )  # fmt: skip
        topic = outcomes_of(self.connections[name].platform)
        self.log.commit([Send(topic, row.person, outcome)])

    def rest(self) -> None:
        """Until nothing moves any more, also when time has passed."""
        quiet = 0
        for _ in range(20_000):
            self.now_ms += 1
            if self.agent(0.0) or self.work():
                continue
            if self.due:
                self.now_ms = max(self.now_ms, min(at_ms for at_ms, _ in self.due))
                self.deliver()
            elif quiet == 3:
                return
            else:
                quiet, self.now_ms = quiet + 1, self.now_ms + 5_000
                self._tick()
        raise AssertionError("does not come to rest")

    def _tick(self) -> None:
        tick = Tick(now_ms=self.now_ms)
        self.log.commit(Send(TICKS, str(p), tick, p) for p in range(PARTITIONS))

    # ---- what must be true

    def unequal(self) -> Iterator[str]:
        """Both sides hold the same, and those behind them follow."""
        for obj in self.sides["hub"].living():
            who, last = obj.values["email"], obj.values.get("lastname")
            lead, member, reader = (self.written(obj, n) for n in ("sales", "mail", "post"))
            if lead is None or member is None or reader is None:
                yield f"P1 {who}: not everywhere"
                continue
            for name, theirs in PAIRS.items():
                mine, other = obj.values.get(name), lead.values.get(theirs)
                if str(mine).casefold() != str(other).casefold():
                    yield f"P2 {who} {name}: {mine!r} here, {other!r} there"
            if not last == member.values.get("LNAME") == reader.values.get("NAME"):
                yield f"P2 {who}: the chain does not flow"
        contacts, leads = (len(self.sides[n].objects) for n in ("hub", "sales"))
        if leads > contacts or (leads < contacts and not self.merges):
            yield f"P2 {contacts} contacts, {leads} leads"

    def written(self, obj: Object, name: str) -> Object | None:
        """The object of another side that is written for the person of a contact."""
        key = ids.object_key("hub", KINDS["hub"], str(obj.number))
        for person in self.persons():
            there = person.destinations.get(f"{name}:{KINDS[name]}")
            if key in person.sources and there is not None and there.object_id:
                return self.sides[name].objects[int(there.object_id)]
        return None

    def persons(self) -> list[Person]:
        return [
            unpack_person(row)
            for agent in self.agents
            if agent.name == "shape"
            for key, row in agent.rows.items()
            if not key.startswith("!")
        ]

    def standings(self) -> list[tuple[str, Standing, str]]:
        return [
            (e.message.sync, note.standing, note.code)
            for e in self.log.all(JOURNAL)
            if isinstance(e.message, JournalEntry)
            for note in e.message.rows
        ]


def play_two_way(seed: int) -> list[str]:
    """A storm, then one quiet edit on each side -> the promises that it breaks."""
    world = TwoWay(seed)
    world.storm(300)
    world.rest()
    problems = list(world.unequal())
    edits = world.edits
    # an edit goes to the other side and, a name, down the chain; what has met is written once more
    most = 4 * (edits + len(world.sides["hub"].objects) + 2 * world.merges)
    if (writes := sum(s.writes for s in world.sides.values())) > most:
        problems.append(f"P2 {writes} writes for {edits} edits")
    for side in ("hub", "sales"):
        living = world.sides["hub"].living()
        names = [obj.values["lastname"] for obj in living]
        done = world.edit(side)
        assert done is not None
        world.now_ms += 60_000
        world.rest()
        problems += world.unequal()
        _, obj, what, value = done
        held = obj.values[what if side == "hub" else PAIRS[what]]
        if held != value:
            problems.append(f"P3 {side} {what}: {value!r} was the last word, holds {held!r}")
        for before, obj in zip(names, living, strict=True):
            if obj.values["lastname"] not in (before, value):
                problems.append(f"P2 {obj.values['email']}: what we wrote for {before!r} came back")
    return problems

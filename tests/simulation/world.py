"""One simulated world: drawn from a seed, run to its end, then judged by the oracle."""

import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from schemas import ids
from schemas.audiences import AudiencePart, Change
from schemas.control import Act, ActKind, Target, Tick
from schemas.definitions import ALL
from schemas.events import EventKind, PlatformEvent
from schemas.parked import ParkedRecord
from schemas.topics import CONTROL, PARKED, RUNS, TICKS, events_of
from streams.steps.outputs import Send
from streams.steps.rows import unpack_run
from tests.simulation.agents import topology
from tests.simulation.definitions import SYNCS, catalog
from tests.simulation.log import PARTITIONS, Log, partition_of
from tests.simulation.source import GOOD_PHONES, PHONES, Portal
from tests.simulation.worker import ACCOUNTS, Platform, Worker

__all__ = ["World"]

CRASH = 0.08
CREDIT = 7
RULINGS: tuple[dict[str, str], ...] = (
    {}, {ALL: "hub"}, {ALL: "hub2"}, {"LastName": "hub2"}, {ALL: "hub", "LastName": "hub2"},
)  # fmt: skip
PART = 3
"""Ids of a list in one message."""
EVENTS = 300
"""That have arrived, or are under way, at least, before a world comes to rest."""
QUIET_MAX = 6_000
"""Steps in which a world without new work must come to rest."""


@dataclass(eq=False)
class Delivery:
    """A webhook under way."""

    event: PlatformEvent
    due_ms: int


@dataclass
class World:
    seed: int
    now_ms: int = 1_000_000
    deliveries: list[Delivery] = field(default_factory=list)
    received: list[PlatformEvent] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    acts: list[tuple[str, Act]] = field(default_factory=list)
    lists: list[tuple[str, list[str], list[str]]] = field(default_factory=list)
    """Runs that hand out a list: who is on it, and who has left."""
    cut: int = 0
    """Deaths of who hands a list out, in its middle."""
    parted: set[str] = field(default_factory=set)
    """Proposed joins that somebody said no to."""
    kept: set[str] = field(default_factory=set)
    """Persons whom somebody has parted."""
    crash: float = CRASH

    def __post_init__(self) -> None:
        self.draw = random.Random(zlib.crc32(b"world %d" % self.seed))
        names = ["leads", "news"]
        names += [n for n in ("leads2", "visits", "letters", "vips") if self.draw.random() < 0.6]
        joins = {n: self.draw.choice(["automatic", "ask", "never"]) for n in ("hub", "hub2")}
        self.ruling = self.draw.choice(RULINGS)
        self.catalog = catalog(*names, joins=joins, ruling=self.ruling)
        self.log = Log()
        self.agents = topology(self.log, self.catalog)
        tidy = self.draw.random() < 0.4  # nothing is refused, and nobody is twice in a portal
        phones = GOOD_PHONES if tidy else PHONES
        self.portals = {n: Portal(n, self.draw, phones) for n in ("hub", "hub2")}
        self.platforms = {n: Platform() for n in ("salesforce", "mailchimp")}
        self.workers = [
            Worker(n, p, self.log, self.platforms.get(n) or Platform(), self.portals, self.draw)
            for n in ("hubspot", "salesforce", "mailchimp")
            for p in range(PARTITIONS)
        ]
        emails = [f"person{n}@x.io" for n in range(self.draw.randint(4, 9))]
        for portal, most in (("hub", 12), ("hub2", 4)):
            for number in range(self.draw.randint(2, most)):
                email = self.draw.choice([*emails, None]) if self.draw.random() < 0.9 else None
                email = f"person{number}@x.io" if tidy else email
                self.portals[portal].create(email, self.now_ms)
        self.names = names
        self.followers = {
            connection: [n for n in sorted(names) if SYNCS[n].source == connection]
            for connection in self.portals
        }

    # ---- the life of it

    def live(self) -> None:
        """Changes, webhooks, runs, acts and deaths at random, until enough has arrived."""
        does: list[tuple[Callable[[], object], float]] = [
            (self._agent, 50), (self._worker, 22), (self._change, 18), (self._deliver, 28),
            (self._tick, 4), (self._operate, 4), (self._start_run, 1), (self._switch, 1),
            (self._merge, 0.7), (self._undo_join, 0.3), (self._consent, 1), (self._list, 1),
        ]  # fmt: skip
        actions, weights = zip(*does, strict=True)
        events = [self.log.entries[events_of("hubspot"), p] for p in range(PARTITIONS)]
        while sum(map(len, events)) + len(self.deliveries) < EVENTS:
            for action in self.draw.choices(actions, weights, k=50):
                self.now_ms += self.draw.randint(1, 30)
                action()

    def settle(self) -> None:
        """No new work: every message is delivered and read, nothing dies, until nothing moves.

        What is closed or paused stays so.
        """
        self.crash = 0.0
        for worker in self.workers:
            worker.generous = True
        for delivery in self.deliveries:
            self._receive(delivery.event)
        self.deliveries.clear()
        for _ in range(3):
            self._quiet()
            self._tick(5_000)
        self._quiet()

    def heal(self) -> None:
        """Everything opened and resumed; refusals end; what is parked is released."""
        for platform, (account, connection) in ACCOUNTS.items():
            worker = self._owner(platform, account)
            worker.closed[account] = ""
            worker.switch(account, connection, self.now_ms)
        for platform in self.platforms.values():
            platform.strict = False
        for sync in self.names:
            self._act(sync, ActKind.sync_resume, sync=sync)
        for run in self.runs:
            self._act(run, ActKind.run_resume, run=run, sync=ids.sync_of(run))
        self.settle()
        self._release([*self._parked().values()])
        self.settle()

    def _quiet(self) -> None:
        for _ in range(QUIET_MAX):
            busy = [a for a in self.agents if a.unread]
            workers = [w for w in self.workers if w.waiting()]
            if not busy and not workers:
                return
            self.now_ms += 1
            if busy and (not workers or self.draw.random() < 0.7):
                self.draw.choice(busy).step(self.draw, 0.0)
            else:
                self.draw.choice(workers).step(self.now_ms, 0.0)
        raise AssertionError("does not come to rest")

    # ---- what can happen

    def _agent(self) -> None:
        busy = [a for a in self.agents if a.unread]
        if not busy:
            return
        agent = self.draw.choice(busy)
        crashes = agent.crashes
        agent.step(self.draw, self.crash)
        if agent.name == "runs" and agent.crashes > crashes:
            rows = [unpack_run(agent.rows[run]) for run, *_ in self.lists if run in agent.rows]
            self.cut += any(0 < row.part < row.parts for row in rows)

    def _worker(self) -> None:
        busy = [w for w in self.workers if w.waiting()]
        if busy:
            self.draw.choice(busy).step(self.now_ms, self.crash)

    def _change(self) -> None:
        portal = self.portals[self.draw.choice(["hub", "hub", "hub2"])]
        contact = self.draw.choice([c for c in portal.contacts if not c.gone])
        changes = portal.change(contact, self.now_ms)
        event = portal.webhook(contact, changes)
        if self.draw.random() < 0.03:
            contact.silent = True
            event = portal.event(contact, {}, thin=True, kind=EventKind.deleted)
        self._tell(event)

    def _tell(self, event: PlatformEvent) -> None:
        """Soon, late, twice."""
        for _ in range(self.draw.choice([1, 1, 1, 1, 2])):
            due_ms = self.now_ms + self.draw.choice([0, 10, 50, 400])
            self.deliveries.append(Delivery(event, due_ms))

    def _merge(self) -> None:
        """Somebody merges two contacts of a portal."""
        portal = self.portals[self.draw.choice(["hub", "hub2"])]
        left = [c for c in portal.contacts if not c.gone]
        if len(left) > 2:
            contact, other = self.draw.sample(left, 2)
            portal.merge(contact, other, self.now_ms)
            self._tell(
                portal.event(contact, {}, thin=True, kind=EventKind.merged, related=[other.key])
            )

    def _consent(self) -> None:
        """A contact says no, or yes again, or cannot be reached."""
        portal = self.portals["hub"]
        contact = self.draw.choice([c for c in portal.contacts if not c.gone])
        contact.changed_ms = max(self.now_ms, contact.changed_ms + 1)
        kinds = (EventKind.unsubscribed, EventKind.bounced, EventKind.subscribed)
        self._tell(portal.event(contact, {}, thin=True, kind=self.draw.choice(kinds)))

    def _undo_join(self) -> None:
        """Somebody finds that two who were joined are not one."""
        if self.log.joined:
            _, entry = self.draw.choice(self.log.joined)
            self.kept |= {entry.before, entry.after}
            target = Target(parked_id="", person=entry.before)
            self._act(entry.before, ActKind.unjoin, targets=[target])

    def _deliver(self) -> None:
        due = [d for d in self.deliveries if d.due_ms <= self.now_ms]
        if due:
            delivery = self.draw.choice(due)
            self.deliveries.remove(delivery)
            self._receive(delivery.event)

    def _receive(self, event: PlatformEvent) -> None:
        event = event.model_copy(update={"received_ms": self.now_ms})
        self.received.append(event)
        self.log.commit([Send(events_of("hubspot"), event.object_key, event)])

    def _tick(self, more_ms: int = 0) -> None:
        self.now_ms += more_ms
        tick = Tick(now_ms=self.now_ms)
        self.log.commit(Send(TICKS, str(p), tick, p) for p in range(PARTITIONS))

    def _start_run(self) -> None:
        sync = self.draw.choice([n for n in self.names if SYNCS[n].audience is None])
        run = ids.run_id(sync, f"{self.now_ms}")
        if len(self.runs) - len(self.lists) < 3 and run not in self.runs:
            self.runs.append(run)
            self._act(run, ActKind.run_start, run=run, sync=sync, values=b'{"credit": %d}' % CREDIT)

    def _list(self) -> None:
        """Somebody gives a list of contacts: its parts, and the act that starts, at once."""
        if "vips" not in self.names or len(self.lists) == 3:
            return
        contacts = self.portals["hub"].contacts
        new = sorted(self.draw.sample(range(len(contacts)), self.draw.randint(1, len(contacts))))
        old = [int(key.rpartition(":")[2]) for key in self.lists[-1][1]] if self.lists else []
        run = ids.run_id("vips", f"{self.now_ms}")
        changes = {
            Change.joins: [n for n in new if n not in old],
            Change.stays: [n for n in new if n in old],
            Change.leaves: [n for n in old if n not in new],
        }
        parts = [
            (change, [str(n) for n in numbers[i : i + PART]])
            for change, numbers in changes.items()
            for i in range(0, len(numbers), PART)
        ]
        keys = [[contacts[n].key for n in numbers] for numbers in (new, changes[Change.leaves])]
        self.lists.append((run, keys[0], keys[1]))
        self.runs.append(run)
        given = [
            AudiencePart(run=run, sync="vips", part=n, change=change, object_ids=names)
            for n, (change, names) in enumerate(parts)
        ]
        options = json.dumps({"credit": CREDIT, "parts": len(parts)}).encode()
        self._act(
            run, ActKind.run_start, run=run, sync="vips", values=options,
            before=[Send(CONTROL, run, part) for part in given],
        )  # fmt: skip

    def _switch(self) -> None:
        """An account closes or opens at the worker that owns it."""
        platform = self.draw.choice(list(ACCOUNTS))
        account, connection = ACCOUNTS[platform]
        self._owner(platform, account).switch(account, connection, self.now_ms)

    def _owner(self, platform: str, account: str) -> Worker:
        partition = partition_of(account)
        return next(w for w in self.workers if (w.name, w.partition) == (platform, partition))

    def _operate(self) -> None:
        if self.acts and self.draw.random() < 0.15:
            key, act = self.draw.choice(self.acts)  # somebody pressed the button twice
            self.log.commit([Send(CONTROL, key, act)])
            return
        parked = list(self._parked().values())
        some = self.draw.sample(parked, min(len(parked), self.draw.randint(1, 3)))
        kinds = [ActKind.release, ActKind.release, ActKind.fix, ActKind.fix, ActKind.unfix,
                 ActKind.discard, ActKind.run_pause, ActKind.run_resume, ActKind.run_cancel,
                 ActKind.sync_pause, ActKind.sync_resume, ActKind.account_open]  # fmt: skip
        kind = self.draw.choice(kinds)
        match kind:
            case ActKind.release:
                self._release(some)
            case ActKind.fix | ActKind.unfix:
                values = json.dumps({"phone": f"fixed-{len(self.acts)}"}).encode()
                for record in some:
                    self._on_record(kind, record, values=values)
                self._release([r for r in some if self.draw.random() < 0.7])
            case ActKind.discard:
                for record in some[:1]:
                    self.parted.add(record.parked_id)
                    self._on_record(kind, record)
            case ActKind.run_pause | ActKind.run_resume | ActKind.run_cancel if self.runs:
                run = self.draw.choice(self.runs)
                self._act(run, kind, run=run, sync=ids.sync_of(run))
            case ActKind.sync_pause | ActKind.sync_resume:
                sync = self.draw.choice(self.names)
                self._act(sync, kind, sync=sync)
            case ActKind.account_open:
                account, _ = ACCOUNTS[self.draw.choice(list(ACCOUNTS))]
                self._act(account, kind, account=account)
            case _:
                pass  # there is no run yet

    def _release(self, records: list[ParkedRecord]) -> None:
        for record in records:
            self._on_record(ActKind.release, record)

    def _on_record(self, kind: ActKind, record: ParkedRecord, values: bytes = b"{}") -> None:
        if record.person:
            target = Target(parked_id=record.parked_id, person=record.person, row_id=record.row_id)
            self._act(record.sync, kind, sync=record.sync, targets=[target], values=values)

    def _act(
        self, key: str, kind: ActKind, *, run: str = "", sync: str = "",
        account: str = "", targets: list[Target] | None = None, values: bytes = b"{}",
        before: Sequence[Send] = (),
    ) -> None:  # fmt: skip
        act = Act(
            act_id=f"act-{len(self.acts)}", kind=kind, run=run, sync=sync, account=account,
            targets=targets or [],
            who="ops", when_ms=self.now_ms, why="because", values=values,
        )  # fmt: skip
        self.acts.append((key, act))
        self.log.commit([*before, Send(CONTROL, key, act)])

    def _parked(self) -> dict[str, ParkedRecord]:
        found = self.log.compacted(PARKED)
        return {k: m for k, m in found.items() if isinstance(m, ParkedRecord)}

    # ---- what can be asked of it

    def run_rows(self) -> dict[str, object]:
        """The rows of the table `runs`, by run."""
        return {
            key: unpack_run(data)
            for agent in self.agents
            if agent.name == "runs"
            for key, data in agent.rows.items()
            if key in self.runs
        }

    def views(self) -> dict[str, object]:
        return dict(self.log.compacted(RUNS))

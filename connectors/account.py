"""One account of a platform: the rows that wait for it, and the requests that carry them.

All of it runs in the event loop. A request is a task: it waits for its quota first and takes rows
then, so that what goes out is small and quick where the quota is free, and full where it is scarce.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

import structlog

from connectors import halting, jobs, matching, readback, references, uploads
from connectors.base import ObjectSpec
from connectors.gate import Gate
from connectors.handover import Inherited, Intended
from connectors.http import Trail, trail
from connectors.intents import Intents
from connectors.jobs import Jobs
from connectors.lanes import Item, Lane, Lanes, Place, Stage, Taken
from connectors.limits import Limits
from connectors.office import Client, Office
from connectors.outcome import Outcome, Parked, Returned, Unchanged, Unknown
from connectors.reading import Reader
from connectors.registry import Misconfigured
from connectors.rows import item_of
from connectors.settling import Request, Send, Settled, wall_ms
from ratelimits import registry
from schemas.commands import Priority
from schemas.ids import derive

__all__ = ["Account"]

log = structlog.get_logger("connectors")

IN_FLIGHT_MAX = 40
"""Requests at a time; HubSpot's 19 a second need 20 at a latency of one second, and Salesforce
takes 25 at once, which bulk rows may use alone."""
IN_FLIGHT_LIVE = 8
"""Of these only live rows may use: a slow bulk request keeps no change waiting."""
WAIT_MAX_S = 60.0
"""A row that could not go out for so long is given back to its person's state."""
ROWS_MAX = 10_000
"""Rows of one account in hand, if it is so slow that they would stand in the way of others."""
DRAIN_S = 20.0
"""So long may it need for the rows in hand."""
RATE_S = 5.0
PRIORITIES = tuple(Priority)
KILLED = "sent by a worker that was killed before the answer came"
Carry = Callable[..., Awaitable[None]]
LOOK_S = 0.5
BYTES_MAX = 4_000_000
"""Of a request, where the platform names no bound."""


class Account:
    """One account in one assignment of its partition."""

    def __init__(self, name: str, partition: int, office: Office, limits: Limits) -> None:
        self.name, self.partition, self.office, self.limits = name, partition, office, limits
        self.gate = Gate(name, office.breaker)
        self.lanes = Lanes()
        self.rows: dict[str, Item] = {}
        """By row id, in the order in which they came."""
        self.referred = references.Known()
        self.rows_max: dict[str, int] = {}
        """Learned: object type to the rows that a request may have."""
        self.small: dict[str, int] = {}
        """Those that time-outs made small, to full requests answered since."""
        self.jobs = Jobs(self)
        self.intents = Intents(self)
        self.connections: set[str] = set()
        self.readers: dict[tuple[str, str, tuple[str, ...]], Reader] = {}
        """By connection, object type and fields."""
        self._asking: dict[tuple[str, Priority], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests = 0
        self._began_s: dict[str, float] = {}
        """Quota group to when a request of it began to ask."""
        self._in_flight = 0
        self._watch: asyncio.Task[None] | None = None
        self._since_s = self._swept_s = office.now_s()
        self._fated = 0
        self.rate = 0.0
        """Rows that went out, a second, of late."""

    # ---- what comes in

    def inherit(self, inherited: Inherited) -> None:
        """What predecessors left, before the first command."""
        if lease := inherited.leases.get(self.name):
            try:
                self.limits.restore(lease)
            except ValueError as error:  # an older make's: worth a second of quota
                log.error("lease cannot be read", account=self.name, error=str(error))
        self.intents.inherit(inherited.intents.get(self.name, {}))
        halting.inherit(self, inherited.learned.get(self.name))

    def take(
        self, taken: Taken, rows: Sequence[dict[str, Any]], attempts: dict[str, int],
        waited_s: float,
    ) -> None:  # fmt: skip
        """The rows of an UploadBatch. Each gets its fate, now or later; `go` starts them."""
        for item in self._items(taken, rows, attempts, waited_s):
            if held := self.intents.of(item.row.row_id):
                self._sent_before(item, held)
            elif fate := self._at_once(item):
                self.settle(item, fate)
            elif item.row.removal and not item.row.object_id and not readback.seek(self, item):
                self.settle(item, Unchanged(""))  # nothing of it can be there
            else:
                if item.references:
                    references.fill(self, item)
                self.lanes.put(item, self.lane_of(item))

    def take_job(
        self, taken: Taken, rows: Sequence[dict[str, Any]], attempts: dict[str, int], receipt: str,
        since_ms: int, due_ms: int,
    ) -> None:  # fmt: skip
        """The rows of a CheckJob. Without a usable client they wait in their job all the same: it
        is asked once somebody has acted."""
        for item in self._items(taken, rows, attempts, 0.0):
            known = item.spec is not uploads.UNKNOWN_OBJECT
            if known and item.spec.job is None and item.spec.evidence != "job":
                readback.begin(self, item, Unknown("nobody here can ask about a job"))
            else:
                self.jobs.put(item, receipt, since_ms=since_ms, due_ms=due_ms)

    def _items(
        self, taken: Taken, rows: Sequence[dict[str, Any]], attempts: dict[str, int],
        waited_s: float,
    ) -> Iterator[Item]:  # fmt: skip
        self.connections.add(taken.connection)
        try:
            spec = self.office.client(taken.connection).spec.objects.get(taken.object_type)
        except Misconfigured as error:
            spec = None
            self.halt(str(error), misconfigured=True)
        since_s = self.office.now_s() - waited_s
        for item in self._made(rows, taken, spec or uploads.UNKNOWN_OBJECT):
            item.since_s, item.attempts = since_s, attempts.get(item.row.row_id, 0)
            self.rows[item.row.row_id] = item
            taken.items.append(item)
            yield item

    def _made(
        self, rows: Iterable[dict[str, Any]], taken: Taken, spec: ObjectSpec
    ) -> Iterator[Item]:
        target = f"{taken.connection}:{taken.object_type}"
        match_field = self.office.match_field(taken.sync)
        return (item_of(raw, taken, spec, target, match_field) for raw in rows)

    def known(self, item: Item, spec: ObjectSpec) -> None:
        """What a row is that is out, and was read while its connection could not be used."""
        if item.spec is uploads.UNKNOWN_OBJECT:
            [made] = self._made([item.raw], item.taken, spec)
            self.lanes.release(item)
            item.spec, item.match, item.keys = spec, made.match, made.keys
            self.lanes.hold(item)

    def _at_once(self, item: Item) -> Outcome | None:
        """The fate of a row that must not be tried."""
        if self.gate.shut:
            return Returned(self.gate.shut)
        if item.broken:
            return Parked("undecodable_fields", "the row's fields are no JSON object")
        if item.spec is uploads.UNKNOWN_OBJECT:
            return Parked("unknown_object", f"{self.office.platform} has no such object type here")
        if item.row.removal and item.row.removal not in item.spec.removals:
            return Parked("unknown_removal", f"{self.office.platform} cannot {item.row.removal} it")
        return None

    def _sent_before(self, item: Item, held: Intended) -> None:
        """By a worker that was killed before the answer came: never once more on a guess."""
        if held.receipt:
            self.jobs.put(item, held.receipt)
        else:
            readback.begin(self, item, Unknown(KILLED))

    def relimit(self, limits: registry.Limits) -> None:
        """Other figures hold from now on."""
        self.limits = self.limits.replaced(limits)
        for task in self._asking.values():
            task.cancel()  # asks again under the new figures

    def recall(self, row_id: str) -> bool:
        """Give a row back that has not gone out. False: it is not here, or out already.

        One that was never looked up there is hurried instead: it knows the person by the address
        under which the destination may have him already; what came since may know another one.
        """
        item = self.rows.get(row_id)
        if item is None or item.place is not Place.waiting:
            return False
        if not item.match:
            self.settle(item, Returned("recalled"))
        elif item.priority is not Priority.live:
            item.priority = Priority.live
            self.lanes.move(item, self.lane_of(item))
            self.go()
        return True

    def lane_of(self, item: Item) -> Lane:
        taken, spec = item.taken, item.spec
        if item.references:
            there = item.references[0]
            return Lane(
                spec.asking_quota, item.priority, Stage.refer, taken.connection,
                there.object_type, there.by, "",
            )  # fmt: skip
        if item.match:
            field = item.field or self.office.match_field(taken.sync)
            return Lane(
                spec.asking_quota, item.priority, Stage.match, taken.connection,
                taken.object_type, field, "",
            )  # fmt: skip
        return Lane(
            spec.write_quota, item.priority, Stage.write, taken.connection, taken.object_type, "",
            "" if item.row.removal else spec.together(item.row), item.row.removal,
        )  # fmt: skip

    # ---- requests

    def go(self) -> None:
        """Start whatever may start now."""
        if not self.gate.open(self.office.now_s()):
            self.watch_gate()
            return
        for turn in self.lanes.turns():
            most = IN_FLIGHT_MAX - (turn[1] is not Priority.live) * IN_FLIGHT_LIVE
            here = turn not in self._asking and self._in_flight + len(self._asking) < most
            if here and not all(map(self.jobs.gathers, self.lanes.of(*turn))):
                self._asking[turn] = self._spawn(self._turn(*turn))

    async def _turn(self, group: str, priority: Priority) -> None:
        """One request: its quota first, then the rows that are there by then."""
        try:
            await self._gather(group, priority)
            async with self.limits.permit(group, priority) as permit:
                self._asked(group, priority)
                open_ = self.gate.open(self.office.now_s())
                cut = self.lanes.cut(group, priority, self._most) if open_ else None
                if cut is None:
                    permit.unused()
                    return
                self._in_flight += 1
                try:
                    self.go()  # the next one may wait for its quota already
                    await self._carry(*cut, permit)
                finally:
                    self._in_flight -= 1
        finally:
            self._asked(group, priority)
            self.go()

    async def _gather(self, group: str, priority: Priority) -> None:
        """Where a quota is meant for a day, requests that are not full keep a distance: else a
        trickle of live rows, one a request, would have spent it by noon."""
        pace_s = self.limits.pace_s(group)
        wait_s = self._began_s.get(group, 0.0) + pace_s - self.office.now_s()
        if pace_s and wait_s > 0 and not self.lanes.full(group, priority, self._most):
            await asyncio.sleep(min(wait_s, pace_s))
        self._began_s[group] = self.office.now_s()

    def _asked(self, group: str, priority: Priority) -> None:
        if self._asking.get((group, priority)) is asyncio.current_task():
            del self._asking[group, priority]

    async def _again(self, lane: Lane, items: list[Item]) -> None:
        """A request with these very rows, which are out already: part of one that failed."""
        async with self.limits.permit(lane.group, lane.priority) as permit:
            if self.gate.held:
                permit.unused()
                self.give_back(items)
                return
            self._in_flight += 1
            try:
                await self._carry(lane, items, permit)
            finally:
                self._in_flight -= 1
        self.go()

    def split(self, lane: Lane, items: list[Item]) -> None:
        """Try the halves apart."""
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            self._spawn(self._again(lane, half))

    async def _carry(self, lane: Lane, items: list[Item], permit: Any) -> None:
        self._requests += 1
        ids = (items[0].row.row_id, items[-1].row.row_id, f"{wall_ms()}.{self._requests}")
        request = Request(derive("request", self.name, *ids), len(items))
        of = Trail(another=permit.another, answered=permit.answered)
        with trail(of):
            try:
                client = self.office.client(lane.connection)
                await self._how(client, lane, items)(self, client, lane, items, request, of)
                self.office.stats.requests[lane.stage.value, of.status // 100] += 1
                log.debug(
                    "request", platform=self.office.platform, account=self.name, name=of.name,
                    rows=request.rows, status=of.status, took_ms=of.took_ms,
                    request_id=request.request_id,
                )  # fmt: skip
            except Misconfigured as error:
                self.halt(str(error), misconfigured=True)
                self.give_back(items)
            except asyncio.CancelledError:
                for item in items:  # the assignment ends: nobody waits for their fate here
                    if item.place is Place.out:
                        self.withdraw(item)
                raise

    def _how(self, client: Client, lane: Lane, items: Sequence[Item]) -> Carry:
        if lane.stage is Stage.refer:
            return references.look_up
        if lane.stage is Stage.match:
            return matching.match
        job = len(items) > client.spec.objects[lane.object_type].batch_rows_max
        return jobs.upload if job and not lane.removal else uploads.upload

    def _most(self, lane: Lane) -> tuple[int, int]:
        """Rows and bytes that the next request of a lane may have; no rows: it waits for more."""
        objects = self.office.client(lane.connection).spec.objects
        # Referred to may be objects that we never write.
        spec = objects.get(lane.object_type) or self.lanes.first(lane).spec
        if lane.stage is not Stage.write:
            return spec.match_rows_max, spec.match_bytes_max
        if lane.removal:
            return spec.removals[lane.removal], spec.batch_bytes_max or BYTES_MAX
        if self.jobs.gathers(lane):
            return 0, 0
        if spec.job is not None and self.jobs.takes(spec.job, spec, lane):
            return spec.job.rows_max, spec.job.bytes_max
        rows_max = min(spec.batch_rows_max, self.rows_max.get(lane.object_type, 1 << 30))
        return rows_max, spec.batch_bytes_max or BYTES_MAX

    # ---- what becomes of rows

    def settle(
        self, item: Item, outcome: Outcome, request: Request | None = None, position: int = -1
    ) -> None:
        """A fate that leaves the worker."""
        if item.doubt and isinstance(outcome, Returned | Parked):
            outcome = Unknown(item.doubt)  # neither tells whether it was applied
        self.withdraw(item)
        self._fated += request is not None
        item.attempts += isinstance(outcome, Parked) and request is not None
        taken = item.taken
        taken.settled.append(Settled(item, outcome, request, position, wall_ms()))
        if key := self.intents.settled(item.row.row_id):
            taken.intents.append(key)
        self.office.fated(taken)

    def withdraw(self, item: Item) -> None:
        """The row is not here any more."""
        item.place = Place.gone
        self.lanes.release(item)
        if item.job is not None:
            item.job.items.pop(item, None)  # its name stays: whoever writes it again asks there
        if self.rows.get(item.row.row_id) is item:
            del self.rows[item.row.row_id]

    def back(self, items: Iterable[Item]) -> None:
        """To the head of their lanes; no attempt was spent."""
        for item in reversed(list(items)):
            self.lanes.release(item)
            self.lanes.put(item, self.lane_of(item), front=True)

    def later(self, items: Sequence[Item], wait_s: float) -> None:
        """Back to their lanes after a while; until then others of their identities may go."""
        for item in items:
            self.lanes.release(item)
            item.place = Place.waiting

        def again() -> None:
            self.back([item for item in items if item.place is Place.waiting])
            self.go()

        self.office.later(wait_s, again)

    def look_later(self, item: Item, wait_s: float) -> None:
        """Look for it after a while; nobody else of its identities goes before."""
        item.place = Place.out
        self.lanes.hold(item)

        def look() -> None:
            if item.place is Place.out:
                self.lanes.put(item, self.lane_of(item), front=True)
                self.go()

        self.office.later(wait_s, look)

    def give_back(self, items: Iterable[Item]) -> None:
        """To their persons' state, until the account opens. Of whom it is not known whether they
        were applied, wait here."""
        for item in list(items):
            if not item.doubt:
                self.settle(item, Returned(self.gate.shut))

    def sweep(self) -> None:
        """Give back what has waited for too long, and stop asking for what nobody needs."""
        now_s = self.office.now_s()
        if self.gate.held:  # rows that came back from requests which were out when it was closed
            self.give_back([i for i in self.rows.values() if i.place is Place.waiting])
        for item in list(self.rows.values()):
            if now_s - item.since_s < WAIT_MAX_S:
                break
            if item.place is Place.waiting and not item.doubt:
                reason, until_ms = self._why_waiting(item, now_s)
                self.settle(item, Returned(reason, until_ms))
        self._shed(now_s)
        self.lanes.prune()
        for turn, task in list(self._asking.items()):
            if not self.lanes.waits(*turn):
                task.cancel()
        self.go()

    def _shed(self, now_s: float) -> None:
        """Of a slow account the newest rows of the least urgent go back: what is unread behind
        them may be another account's."""
        passed_s = now_s - self._swept_s
        self.rate += (self._fated / passed_s - self.rate) * min(1.0, passed_s / RATE_S)
        self._swept_s, self._fated = now_s, 0
        here = len(self.rows) - self.jobs.rows  # those stand in nobody's way
        if here <= max(ROWS_MAX, self.rate * DRAIN_S) or now_s - self._since_s < RATE_S:
            return
        until_ms = _in(min(WAIT_MAX_S, ROWS_MAX / max(self.rate, 1.0)))
        waiting = [i for i in reversed(self.rows.values()) if i.place is Place.waiting]
        waiting.sort(key=lambda item: PRIORITIES.index(item.priority), reverse=True)
        for item in waiting[: here - ROWS_MAX]:
            self.settle(item, Returned("more waits for this account than it can take", until_ms))

    def _why_waiting(self, item: Item, now_s: float) -> tuple[str, int]:
        if self.gate.why:
            wait_s = max(5.0, self.gate.wait_s(now_s))
            return f"{self.office.platform} gives no good answer: {self.gate.why}", _in(wait_s)
        group = self.lane_of(item).group
        reason, wait_s = self.limits.why(group, item.priority)
        return reason, _in(max(2.0, wait_s))

    # ---- open and closed

    def halt(self, why: str, *, misconfigured: bool = False) -> None:
        """Nothing goes out until somebody acts. A repeat changes nothing."""
        halting.halt(self, why, misconfigured=misconfigured)

    def hold(self, why: str) -> None:
        """A person closes it: no request begins any more. A repeat changes nothing."""
        if not self.gate.held:
            log.warning("account closed", platform=self.office.platform, account=self.name, why=why)
            self.gate.held = why
            self.give_back([i for i in self.rows.values() if i.place is Place.waiting])

    def let_go(self) -> None:
        """A person opens it; whether it is halted as well, is asked then."""
        if self.gate.held:
            log.info("account not held", platform=self.office.platform, account=self.name)
            self.gate.held = ""
            self.go()

    def reopen(self, who: str) -> None:
        """Somebody acted, or a probe succeeded. A repeat changes nothing."""
        halting.reopen(self, who)

    def learned(self) -> Send:
        return halting.learned(self)

    def watch_gate(self) -> None:
        """See to it that somebody opens the gate when its time has come."""
        if not self.gate.stopping and (self._watch is None or self._watch.done()):
            self._watch = self._spawn(self._until_open())

    async def _until_open(self) -> None:
        """Wait; ask something cheap where that is needed; then go on."""
        while not self.gate.stopping:
            now_s = self.office.now_s()
            wait_s = self.gate.wait_s(now_s)
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, LOOK_S))  # the platform may answer somebody else
            elif self.gate.probes:
                if not self.gate.platform.turn(self.name, now_s):
                    await asyncio.sleep(LOOK_S)
                    continue
                await halting.probe(self)
            else:
                break
        self.go()

    async def opened(self) -> None:
        """Wait until requests may start."""
        while not self.gate.open(self.office.now_s()):
            self.watch_gate()
            await asyncio.sleep(0.1)

    # ---- ends

    def cut_off(self) -> None:
        """The account has another owner: nothing more is sent, no answer is waited for."""
        self.gate.platform.forget(self.name)
        self.gate.stopping = True
        for task in list(self._tasks):
            task.cancel()

    async def stop(self, wait_s: float) -> None:
        """Start nothing more; wait for what is out, then cut it off."""
        self.gate.stopping = True
        for task in self._asking.values():
            task.cancel()
        self.jobs.stop()
        if self._watch is not None:
            self._watch.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=wait_s)
        self.cut_off()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._spawn(work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.office.failed(error)

    @property
    def in_flight(self) -> int:
        return self._in_flight


def _in(wait_s: float) -> int:
    return wall_ms() + int(wait_s * 1000)

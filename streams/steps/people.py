"""One chunk of one partition of `people`, record by record.

```python
people = People(rows, catalog, partition)
for key, message in chunk:
    try:
        people.take(key, message)
    except Exception as error:      # a bug: that record is parked, the others go on
        people.park(key, message, error)
for send in people.close():
    ...
```
"""

from schemas.base import Message
from schemas.control import Act, Again, Tick
from schemas.events import ResolvedRecord
from schemas.identity import Join, Moved
from schemas.outcomes import AccountState, RecordOutcome
from streams.steps import facts
from streams.steps.acts import BROADCAST, act_on_all, act_on_person
from streams.steps.again import again_at_shape
from streams.steps.catalog import Catalog
from streams.steps.forgetting import catch_up
from streams.steps.joins import asked_to_join, go_on, here, take_in
from streams.steps.outputs import Outputs, Send
from streams.steps.rows import Account, Index, Person, pack, unpack_index, unpack_person
from streams.steps.sending import advance
from streams.steps.settle import settle
from streams.steps.shape import decide, park_unshaped
from streams.steps.work import Lanes, Rows, Work

__all__ = ["INDEX", "People"]

INDEX = "!index"
"""Key of the index row; those of lanes begin with `!lane|`. A person's key is hex: no clash."""
DRAIN_MAX = 500
"""Waiting persons looked at per tick or opening, in each partition."""
LOOKS_MAX = 20
"""Persons of a lane looked at in vain before it is left until the next tick."""


class People:
    """Takes every message that concerns persons; gives back what to send. Pure but for `rows`."""

    def __init__(self, rows: Rows, catalog: Catalog, partition: int) -> None:
        self.rows = rows
        data = rows.get(INDEX)
        index = unpack_index(data) if data else Index()
        self.work = Work(catalog, index, Lanes(rows, index), Outputs(), partition)

    def take(self, key: str, message: Message) -> None:
        """One message of records.resolved, outcomes.*, acts or ticks, in the order of its log.

        `key`: the record's. Raises on a bug only; then nothing of this message has happened.
        """
        work, index = self.work, self.work.index
        match message:
            case ResolvedRecord():
                index.now_ms = max(index.now_ms, message.event.received_ms)
                self._open(key)
                if here(work, message.person, message, message.event.object_key):
                    decide(work, message)
                self._save()
            case RecordOutcome():
                index.now_ms = max(index.now_ms, message.at_ms)
                self._open(message.person)
                settle(work, message)
                go_on(work)
                self._save()
            case Act() if message.kind in BROADCAST:
                act_on_all(work, message)
                work.out.keep()
                self._drain()
            case Act():
                index.now_ms = max(index.now_ms, message.when_ms)
                self._open(key)
                home = message.targets[0].person if message.targets else key
                if here(work, home, message):
                    act_on_person(work, message, home)
                    go_on(work)
                self._save()
            case Again():
                index.now_ms = max(index.now_ms, message.when_ms)
                self._open(key)
                if here(work, message.person or key, message, message.event.object_key):
                    again_at_shape(work, message)
                self._save()
            case Join():
                self._open(key)
                asked_to_join(work, message)
                go_on(work)
                self._save()
            case Moved():
                self._open(key)
                take_in(work, message)
                self._save()
            case AccountState():
                index.now_ms = max(index.now_ms, message.at_ms)
                account = Account(message.open, message.until_ms, message.reason)
                index.accounts[work.catalog.gate(message.connection)] = account
                self._drain()
            case Tick():
                index.now_ms = max(index.now_ms, message.now_ms)
                self._drain()
            case _:
                raise TypeError(f"{type(message).__name__} does not concern persons")

    def park(self, key: str, message: Message, error: Exception) -> None:
        """`take` threw for this message. A record is parked; anything else only a bug could break
        is raised again, as passing over it would lose what it says."""
        self.work.out.drop()
        if not isinstance(message, ResolvedRecord):
            raise error
        self.work.index.now_ms = max(self.work.index.now_ms, message.event.received_ms)
        self.work.key, self.work.person = key, Person()
        park_unshaped(self.work, message, "bug", f"{type(error).__name__} in a step")
        self.work.out.keep()

    def close(self) -> list[Send]:
        """Write the index and the lanes back -> all messages of the chunk."""
        self.work.lanes.save()
        self.rows.put(INDEX, pack(self.work.index))
        return self.work.out.close(self.work.index.now_ms)

    def _open(self, key: str) -> None:
        data = self.rows.get(key)
        self.work.key, self.work.person = key, unpack_person(data) if data else Person()
        catch_up(self.work.person, self.work.index.forgotten)

    def _save(self) -> None:
        person = self.work.person
        rest = person.mended or person.joins or person.erased_ms
        if person.sources or person.destinations or rest:
            self.rows.put(self.work.key, pack(person))
        self.work.out.keep()

    def _drain(self) -> None:
        """Let waiting persons go, live ones first, at most `DRAIN_MAX` in one go.

        A lane whose persons have been given back until later is left after a few looks; who was
        looked at goes to its end, so that each has its turn. So does a person at whom the step
        throws: a bug there holds up nobody else.
        """
        index, left = self.work.index, DRAIN_MAX
        for lane in sorted(index.lanes, key=lambda name: (not name.endswith("|"), name)):
            at_most, in_vain = min(left, index.lanes[lane].waiting), 0
            if self._closed(lane):
                continue
            while at_most and in_vain < LOOKS_MAX:
                at_most, left = at_most - 1, left - 1
                key = self.work.lanes.take(lane)
                try:
                    self._open(key)
                    in_vain = 0 if self._go_on(lane) else in_vain + 1
                    self._save()
                except Exception:  # noqa: BLE001 - what it waits for stands in the journal
                    self.work.out.drop()
                    self.work.lanes.join(lane, key)
                    in_vain += 1

    def _closed(self, lane: str) -> bool:
        """Whether nothing of this lane may go now."""
        index = self.work.index
        gate, sync, run = lane.rsplit("|", 2)
        mark = index.runs.get(run) if run else None
        if mark is not None and mark.state == "cancelled":
            return False  # what waits here gets its fate
        if gate in index.closed:
            return True
        account = index.accounts.get(gate)
        paused = sync in index.paused or (mark is not None and mark.state == "paused")
        return paused or (account is not None and not account.open)

    def _go_on(self, lane: str) -> bool:
        """Let the person's rows of this lane go on -> False: they wait in it again."""
        rows = [
            row
            for there in self.work.person.destinations.values()
            for row in (
                *(s.next for s in there.syncs.values()),
                *(f.row for f in there.facts.values()),
            )
            if row is not None and row.lane == lane
        ]
        for row in rows:
            row.lane = ""
        for there in self.work.person.destinations.values():
            advance(self.work, there)
            facts.advance(self.work, there)
        return not any(row.lane for row in rows)

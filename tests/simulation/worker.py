"""A worker and its platform: takes commands, honours the contract of outcomes, dies at any moment.

What it has done stands in the log only when its transaction commits; a death between the request
and the commit leaves a request that is made again.
"""

import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from schemas import ids
from schemas.commands import (
    FetchPages,
    LookUp,
    Priority,
    ReadObjects,
    Recall,
    UploadBatch,
    UploadRow,
)
from schemas.events import EventKind, Origin, PlatformEvent
from schemas.journal import JournalEntry, JournalKind
from schemas.outcomes import AccountState, OutcomeKind, RecordOutcome
from schemas.topics import JOURNAL, commands_of, events_of, outcomes_of
from streams.steps.outputs import Send
from tests.simulation.definitions import CONNECTIONS
from tests.simulation.log import PARTITIONS, Log
from tests.simulation.source import Portal

PAGE = 3
BATCH = 6


@dataclass
class Platform:
    """Objects of one destination, and every write that changed something."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """(object type, object id) to values."""
    used: dict[tuple[str, str], str] = field(default_factory=dict)
    """(object type, person) to the object that was written last for that person."""
    writes: list[tuple[int, str]] = field(default_factory=list)
    """Every request: transactions committed before it, and for whom it was."""
    ledger: dict[tuple[str, str, str], list[Any]] = field(default_factory=lambda: defaultdict(list))
    """(object type, person, field) to the values that it took, one after the other."""
    facts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Dedupe key to number of appends that counted."""
    strict: bool = True

    def write(self, kind: str, row: UploadRow, commits: int) -> str:
        """Upsert by id, else by a key of ours (the person) -> error code, or nothing. An equal
        repeat is no effect."""
        fields = json.loads(row.fields)
        self.writes.append((commits, row.person))
        if self.strict and "bad" in (fields.get("Phone"), fields.get("PHONE")):
            return "INVALID_PHONE"
        if kind == "visit":
            self.facts[row.row_id] = 1
            return ""
        object_id = row.object_id or f"id-{row.person}"
        self.used[kind, row.person] = object_id
        known = self.objects.setdefault((kind, object_id), {})
        for name, value in fields.items():
            if name not in known or known[name] != value:
                known[name] = value
                self.ledger[kind, row.person, name].append(value)
        return ""


@dataclass(eq=False)
class _Task:
    """One row in hand."""

    offset: int
    number: int
    batch: UploadBatch
    row: UploadRow


class Worker:
    """Owner of one partition of `commands.<platform>`."""

    def __init__(
        self, name: str, partition: int, log: Log, platform: Platform, portals: dict[str, Portal],
        draw: random.Random,
    ) -> None:  # fmt: skip
        self.name, self.partition, self.log = name, partition, log
        self.platform, self.portals, self.draw = platform, portals, draw
        self.topic = commands_of(name)
        self.commands = log.entries[self.topic, partition]
        self.done: set[tuple[int, int]] = set()
        """Committed: (offset, number of the row)."""
        self.read = 0
        """Read so far, since the last start."""
        self.tasks: list[_Task] = []
        self.closed: dict[str, str] = {}
        """Account to why."""
        self.verdicts: list[_Task] = []
        """Taken without a verdict: it comes late, or never."""
        self.answers: list[tuple[int, list[Send]]] = []
        """Offsets of reads, and what was read then and stands in no log yet."""
        self.read_twice: list[str] = []
        """Objects that were to be read while a read of them was under way."""
        self.requests = 0
        self.generous = False
        """Give nothing back, lose no answer: the end of a simulation."""

    def waiting(self) -> bool:
        return bool(self.tasks or self.verdicts or self.answers or self.read < len(self.commands))

    def crash(self) -> None:
        """Everything in memory is gone; from the first command that is not done, again."""
        self.read, self.tasks, self.verdicts, self.answers = 0, [], [], []

    def step(self, now_ms: int, crash: float) -> None:
        entries = self.commands
        if self.read < len(entries) and (not self.tasks or self.draw.random() < 0.5):
            offset, self.read = self.read, self.read + 1
            message = entries[offset].message
            assert message is not None
            self._command(offset, message, now_ms, crash)
        elif self.answers and (not self.tasks or self.draw.random() < 0.3):
            offset, sends = self.answers[0]  # in order: a page's entry names its number
            if self._commit(_received(sends, now_ms), {(offset, -1)}, crash):
                self.answers.pop(0)
        elif self.verdicts and self.draw.random() < 0.3:
            task = self.verdicts.pop(0)
            late = _outcome(task, self.draw.choice([OutcomeKind.written, OutcomeKind.parked]),
                            now_ms, object_id="late", code="LATE")  # fmt: skip
            self._commit([Send(outcomes_of(self.name), task.row.person, late)], set(), crash)
        elif self.tasks:
            self._work(now_ms, crash)

    def switch(self, account: str, connection: str, now_ms: int) -> None:
        """Close an open account or open a closed one, and tell every partition."""
        if account in self.closed:
            del self.closed[account]
        else:
            self.closed[account] = "invalid_token"
        self._announce(account, connection, now_ms)

    def _announce(self, account: str, connection: str, now_ms: int) -> None:
        state = AccountState(
            account=account, connection=connection, open=account not in self.closed,
            reason=self.closed.get(account, ""), at_ms=now_ms,
        )  # fmt: skip
        topic = outcomes_of(self.name)
        self.log.commit(Send(topic, account, state, p) for p in range(PARTITIONS))

    def _command(self, offset: int, message: Any, now_ms: int, crash: float) -> None:
        if (offset, -1) in self.done:
            return
        match message:
            case UploadBatch():
                self.tasks += [
                    _Task(offset, n, message, row)
                    for n, row in enumerate(message.rows)
                    if (offset, n) not in self.done
                ]
            case FetchPages():
                self.answers.append((offset, self._fetch(message, now_ms)))
            case ReadObjects():
                self.answers.append((offset, self._read_objects(offset, message)))
            case LookUp():
                self.answers.append((offset, self._look_up(message, now_ms)))
            case Recall():
                recalled = [t for t in self.tasks if t.row.row_id in message.row_ids]
                self._give_back(recalled, "recalled", 0, now_ms, crash)
            case _:
                raise TypeError(type(message).__name__)

    def _work(self, now_ms: int, crash: float) -> None:
        """One request, or rows that are given back."""
        first = self.draw.choice(self.tasks)
        if first.batch.account in self.closed:
            mine = [t for t in self.tasks if t.batch.account == first.batch.account]
            self._give_back(mine, self.closed[first.batch.account], 0, now_ms, crash)
            return
        if not self.generous and self.draw.random() < 0.05:
            until_ms = self.draw.choice([0, now_ms + 200])
            self._give_back([first], "quota", until_ms, now_ms, crash)
            return
        same = [t for t in self.tasks if _kind(t) == _kind(first)]
        chosen: dict[str, _Task] = {}
        for task in sorted(same, key=lambda t: tuple(Priority).index(t.batch.priority)):
            if len(chosen) < BATCH:
                chosen.setdefault(task.row.person, task)
        if self.draw.random() < crash / 2:
            self.crash()  # before the request
            return
        self.requests += 1
        request_id = f"{self.name}-{self.partition}-{self.requests}"
        sends: list[Send] = []
        runs: dict[tuple[str, str], int] = defaultdict(int)
        for position, task in enumerate(chosen.values()):
            code = self.platform.write(task.batch.object_type, task.row, self.log.commits)
            lost = not self.generous and not code and self.draw.random() < 0.03
            kind = self._verdict(code, lost)
            runs[task.batch.sync, task.batch.run] += 1
            object_id = task.row.object_id or f"id-{task.row.person}"
            outcome = _outcome(
                task, kind, now_ms, object_id=object_id if not code else "",
                code=code, field=_named(task.row) if code else "", request_id=request_id,
                words=f"Phone: bad ({task.row.person})" if code else "", position=position,
            )  # fmt: skip
            sends.append(Send(outcomes_of(self.name), task.row.person, outcome))
            if kind is OutcomeKind.accepted and self.draw.random() < 0.5:
                self.verdicts.append(task)
        for (sync, run), rows in runs.items():
            entry = JournalEntry(
                kind=JournalKind.settled, at_ms=now_ms, sync=sync, run=run, records=rows,
                request_id=request_id, request="POST /batch", status=200,
            )  # fmt: skip
            sends.append(Send(JOURNAL, run or sync, entry))
        self._settle(list(chosen.values()), sends, crash)

    def _verdict(self, code: str, lost: bool) -> OutcomeKind:
        if code:
            return OutcomeKind.parked
        if lost:
            return OutcomeKind.unknown
        kinds = (OutcomeKind.written, OutcomeKind.accepted, OutcomeKind.unchanged)
        return self.draw.choices(kinds, (7, 2, 1))[0]

    def _give_back(
        self, tasks: list[_Task], reason: str, until_ms: int, now_ms: int, crash: float
    ) -> None:
        sends = [
            Send(
                outcomes_of(self.name), t.row.person,
                _outcome(
                    t, OutcomeKind.returned, now_ms, code=reason, words=reason, until_ms=until_ms
                ),
            )
            for t in tasks
        ]  # fmt: skip
        self._settle(tasks, sends, crash)

    def _settle(self, tasks: list[_Task], sends: list[Send], crash: float) -> None:
        if self._commit(sends, {(t.offset, t.number) for t in tasks}, crash):
            self.tasks = [t for t in self.tasks if t not in tasks]

    def _commit(self, sends: list[Send], done: set[tuple[int, int]], crash: float) -> bool:
        """One transaction of outputs and offsets, or a death before it."""
        if self.draw.random() < crash:
            self.crash()
            return False
        self.log.commit(sends)
        self.done |= done
        return True

    def _fetch(self, command: FetchPages, now_ms: int) -> list[Send]:
        contacts = self.portals[command.connection].contacts
        start = int(command.cursor or 0)
        stop = min(len(contacts), start + PAGE * command.pages_max)
        numbers = list(range(start, stop))
        if numbers and start and self.draw.random() < 0.2:
            numbers.append(self.draw.randrange(start))  # one that moved while we were paging
        numbers = [n for n in numbers if not contacts[n].gone]
        events = [
            self.portals[command.connection].event(
                contacts[n], contacts[n].values, run=command.run,
                record_no=command.record_no + position, origin=Origin.fetch,
            )
            for position, n in enumerate(numbers)
        ]  # fmt: skip
        page = JournalEntry(
            kind=JournalKind.page_fetched, at_ms=now_ms, sync=command.sync, run=command.run,
            step=command.step, cursor=str(stop), pages=max(1, -(-len(numbers) // PAGE)),
            records=len(events), last=stop == len(contacts), total=len(contacts),
        )  # fmt: skip
        return [*map(_sent, events), Send(JOURNAL, command.run, page)]

    def _read_objects(self, offset: int, command: ReadObjects) -> list[Send]:
        """Each with an id of this very command: read again, the same is news to whoever asked."""
        portal = self.portals[command.connection]
        found = [portal.contacts[int(n)] for n in command.object_ids]
        under_way = {send.key for _, sends in self.answers for send in sends if _is_read(send)}
        self.read_twice += [c.key for c in found if c.key in under_way]
        name = f"read:{self.partition}:{offset}"
        events = [
            portal.event(c, {}, thin=True, origin=Origin.read, kind=EventKind.deleted)
            if c.gone
            else portal.event(c, c.values, origin=Origin.read)
            for c in found
        ]
        return [
            _sent(e.model_copy(update={"event_id": ids.derive(name, e.event_id)})) for e in events
        ]

    def _look_up(self, command: LookUp, now_ms: int) -> list[Send]:
        """What stands there as it is read; the answer may come when it is another by then."""
        sends: list[Send] = []
        for row in command.rows:
            there = self.platform.objects.get((command.object_type, row.object_id))
            outcome = RecordOutcome(
                row_id=row.row_id, person=row.person, connection=command.connection,
                object_type=command.object_type, sync=command.sync, run=command.run,
                kind=OutcomeKind.seen, at_ms=now_ms, code="absent" if there is None else "",
                seen=None if there is None else json.dumps(there).encode(),
            )  # fmt: skip
            sends.append(Send(outcomes_of(self.name), row.person, outcome))
        return sends


def _is_read(send: Send) -> bool:
    return isinstance(send.message, PlatformEvent) and send.message.origin is Origin.read


def _received(sends: list[Send], now_ms: int) -> list[Send]:
    """What was read before comes into the log now: changes may have overtaken it."""
    return [
        send._replace(message=send.message.model_copy(update={"received_ms": now_ms}))
        if isinstance(send.message, PlatformEvent)
        else send
        for send in sends
    ]


def _sent(event: PlatformEvent) -> Send:
    return Send(events_of(event.platform), event.object_key, event)


def _kind(task: _Task) -> tuple[str, str]:
    return task.batch.connection, task.batch.object_type


def _named(row: UploadRow) -> str:
    return "Phone" if "Phone" in json.loads(row.fields) else "PHONE"


def _outcome(task: _Task, kind: OutcomeKind, now_ms: int, **more: Any) -> RecordOutcome:
    return RecordOutcome(
        row_id=task.row.row_id, person=task.row.person, connection=task.batch.connection,
        object_type=task.batch.object_type, sync=task.batch.sync, run=task.batch.run, kind=kind,
        at_ms=now_ms, **more,
    )  # fmt: skip


ACCOUNTS = {
    "salesforce": (CONNECTIONS["sales"].account, "sales"),
    "mailchimp": (CONNECTIONS["mail"].account, "mail"),
}

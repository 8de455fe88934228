"""One platform's worker: commands in, requests out, outcomes back. The owner of its accounts.

It keeps no state that a crash could lose: offsets are the checkpoint, and they are committed in the
same transaction as the outcomes, journal entries and events that stand for them.
"""

import asyncio
import json
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog
from confluent_kafka import TopicPartition

from connectors import looking, reading
from connectors.account import Account
from connectors.breaker import Breaker
from connectors.commits import Commits
from connectors.directory import Directory
from connectors.exits import leave
from connectors.handover import Handover, Inherited, intent_key, lease_key
from connectors.intake import Intake, Record
from connectors.lanes import Place, Taken
from connectors.limits import Limits, limits_of
from connectors.office import Client
from connectors.partition import Partition
from connectors.registry import Misconfigured, connector_class
from connectors.settling import AGAIN, Send, wall_ms
from connectors.stats import Stats
from connectors.transactions import Transactions
from connectors.wire import Wire
from ratelimits import registry
from schemas.base import Message
from schemas.codec import Undecodable
from schemas.commands import (
    CheckJob,
    FetchPages,
    LookUp,
    Priority,
    ReadObjects,
    Recall,
    UploadBatch,
)
from schemas.handover import Intent, Lease
from schemas.journal import JournalKind
from schemas.parked import ParkedRecord, Stage
from schemas.topics import JOURNAL, PARKED, commands_of

__all__ = ["Worker"]

log = structlog.get_logger("connectors")

READS: dict[type[Message], Callable[..., Coroutine[Any, Any, None]]] = {
    FetchPages: reading.fetch, ReadObjects: reading.read, LookUp: looking.look_up
}  # fmt: skip
SWEEP_S = 0.5
SAMPLE_S = 0.1
FINISH_S = 4.0
"""What is out gets so long to come back when partitions or the process go."""


class Worker:
    """Implements `connectors.intake.Owner` and `connectors.office.Office`."""

    def __init__(
        self, platform: str, kafka: Mapping[str, Any], wire: Wire, directory: Directory,
        handover: Handover, slot: str, partitions: int,
    ) -> None:  # fmt: skip
        """`slot`: stable name of this process; two that run at once never share one."""
        self.platform, self.wire, self.partitions = platform, wire, partitions
        self.directory, self._handover = directory, handover
        self.topic = commands_of(platform)
        group = f"connectors.{platform}"
        self.intake = Intake(kafka, self.topic, group, f"{group}.{slot}", self)
        transactions = Transactions(kafka, f"{group}.{slot}", lambda: self.intake.generation)
        self.parts: dict[int, Partition] = {}
        self.accounts: dict[str, Account] = {}
        self.stats, self.breaker = Stats(), Breaker()
        self._epochs = 0
        self._commits = Commits(
            platform, transactions, wire, self.stats, self.parts, self._committed
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Raises KafkaException where Kafka is away."""
        await self._commits.start()
        self.directory.changed.append(self._definitions_changed)
        self.intake.start()
        for work in (self._commit_on(), self._sweep_on(), self._sample_on()):
            task = asyncio.create_task(work)
            task.add_done_callback(self._task_ended)
            self._tasks.append(task)

    async def stop(self) -> None:
        """Finish or hand back what is in hand; within about 8 s."""
        self.intake.pause(frozenset(self.parts))
        await self.hand_back(list(self.parts))
        await self.intake.stop()
        for task in self._tasks:
            task.cancel()
        self._commits.close()

    @property
    def ready(self) -> bool:
        """It is a member of its group and has begun, also where others own all partitions."""
        return self.intake.joined

    # ---- Owner: partitions

    def inherit(self, partition: int) -> Inherited:
        return self._handover.read(self.platform, partition)

    async def assigned(
        self, committed: Sequence[TopicPartition], inherited: Mapping[int, Any]
    ) -> None:
        for part in committed:
            self._epochs += 1
            number = part.partition
            self.parts[number] = Partition(
                number, self._epochs, part.offset, part.metadata or "", inherited[number]
            )
        log.info("assigned", platform=self.platform, partitions=sorted(self.parts))

    async def hand_back(self, partitions: Sequence[int]) -> None:
        """What is out may come back for a moment; what waits is left to the successor."""
        mine = [a for a in self.accounts.values() if a.partition in partitions]
        await asyncio.gather(*(account.stop(FINISH_S) for account in mine))
        for number in partitions:
            if (part := self.parts.get(number)) is not None:
                for taken in part.half_done():
                    self._write_again(part, taken, everything=True)
        await self._commits.commit()
        if self._commits.owes:  # what may be told only now
            await self._commits.commit()
        for account in mine:
            await account.limits.close()
        self._drop(partitions)
        log.info("handed back", platform=self.platform, partitions=sorted(partitions))

    def lost(self, partitions: Sequence[int]) -> None:
        """Somebody else owns them by now: nothing of ours may be written any more."""
        log.warning("lost", platform=self.platform, partitions=sorted(partitions))
        for account in self.accounts.values():
            if account.partition in partitions:
                account.cut_off()
        self._drop(partitions)

    def _drop(self, partitions: Sequence[int]) -> None:
        for number in partitions:
            self.parts.pop(number, None)
        self.accounts = {n: a for n, a in self.accounts.items() if a.partition not in partitions}
        self._pause()

    # ---- Owner: commands

    def take(self, records: Sequence[Record]) -> None:
        touched: dict[str, Account] = {}
        self._bound()
        for record in records:
            part = self.parts.get(record.partition)
            if part is not None and not part.defer(record):
                self._open(part, record, touched)
        for account in touched.values():
            account.go()
        self._pause()

    def _open(self, part: Partition, record: Record, touched: dict[str, Account]) -> None:
        if not part.stretch.take(record.offset):
            self._commits.skipped(part)
            return  # a predecessor has finished it
        taken = Taken(part.number, part.epoch, record.offset, self.now_s(), taken_ms=wall_ms())
        part.open[record.offset] = taken
        try:
            model, command = self.wire.codec.decode_dict(record.value)
        except Undecodable as error:
            self._undecodable(taken, record, str(error))
            return
        if model is Recall:
            for row_id in command["row_ids"]:
                self._recall(part, command["account"], row_id)
            self.done(taken)
            return
        if model not in (UploadBatch, FetchPages, ReadObjects, CheckJob, LookUp):
            self._undecodable(taken, record, f"{model.__name__} is no command")
            return
        taken.account, taken.connection = command["account"], command["connection"]
        taken.object_type = command.get("object_type", "")
        taken.sync, taken.run = command.get("sync", ""), command.get("run", "")
        account = self._account(part, taken)
        touched[account.name] = account
        if model in (UploadBatch, CheckJob):
            self._rows(part, account, taken, command, record)
        else:
            taken.value = record.value or b""
            taken.task = account.spawn(READS[model](account, taken, command))

    def _rows(
        self, part: Partition, account: Account, taken: Taken, command: dict[str, Any],
        record: Record,
    ) -> None:  # fmt: skip
        taken.priority = Priority(command["priority"])
        taken.decided_ms = command["decided_ms"]
        rows = command["rows"]
        taken.left = len(rows)
        attempts: dict[str, int] = {}
        waited_s = 0.0
        for name, value in record.headers or ():
            if name == AGAIN:
                said = json.loads(value)
                attempts, taken.taken_ms = said["attempts"], said["taken_ms"]
                waited_s = max(0.0, (wall_ms() - taken.taken_ms) / 1000)
        if not rows:
            self.done(taken)
            return
        part.hold(taken, record)
        self.stats.rows_in += len(rows)
        if receipt := command.get("receipt", ""):
            taken.job = True
            since_ms, due_ms = command["since_ms"], command["due_ms"]
            account.take_job(taken, rows, attempts, receipt, since_ms, due_ms)
        else:
            account.take(taken, rows, attempts, waited_s)
        if part.recalled:
            for row in rows:
                if part.recalled.pop(row["row_id"], 0):
                    account.recall(row["row_id"])

    def _recall(self, part: Partition, account: str, row_id: str) -> None:
        here = self.accounts.get(account)
        if here is None or not here.recall(row_id):
            part.remember_recall(row_id)  # it may just be on its way to the end of the partition

    def _account(self, part: Partition, taken: Taken) -> Account:
        account = self.accounts.get(taken.account)
        if account is None:
            account = Account(taken.account, part.number, self, self._limits(part, taken))
            self.accounts[taken.account] = account
            account.connections.add(taken.connection)
            account.inherit(part.inherited)
            if held := self.directory.held(self.platform, taken.account):
                account.hold(held)
        return account

    def _limits(self, part: Partition, taken: Taken) -> Limits:
        key = lease_key(self.platform, taken.account)

        async def write(document: str) -> None:
            """Only its owner may: a process that slept finds out before it sends."""
            if not self.intake.fresh:
                leave("slept longer than the session", platform=self.platform)
            lease = Lease(account=taken.account, document=document.encode())
            await self._handover.write(part.number, key, lease)

        return Limits(self._figures(taken.connection), write)

    def _figures(self, connection: str) -> registry.Limits:
        """The limits that hold for an account, by the first connection that we hear of."""
        spec = connector_class(self.platform).spec
        try:
            return limits_of(self.directory.connections.get(connection), spec)
        except (KeyError, ValueError) as error:
            log.error("quotas cannot be used", connection=connection, error=str(error))
            return limits_of(None, spec)

    def _undecodable(self, taken: Taken, record: Record, why: str) -> None:
        """Kept with its bytes, under the name of its place in the log."""
        name = f"{self.topic}-{record.partition}-{record.offset}"
        parked = ParkedRecord(
            parked_id=name, stage=Stage.decode, code="undecodable", words=why, first_ms=wall_ms(),
            last_ms=wall_ms(), source=record.value or b"", fields=b"{}",
        )  # fmt: skip
        taken.sends.append(Send(PARKED, self.wire.encode(parked), name))
        log.error("undecodable command", place=name, why=why)
        self.done(taken)

    # ---- Office

    def now_s(self) -> float:
        return time.monotonic()

    def client(self, connection: str) -> Client:
        client = self.directory.client(connection)
        if client.spec.platform != self.platform:
            raise Misconfigured(f"connection {connection} is no connection to {self.platform}")
        return client

    def refresh(self, connection: str) -> None:
        self.directory.forget(connection)

    def match_field(self, sync: str) -> str:
        return self.directory.match_field(sync)

    def fetch_fields(self, connection: str, object_type: str) -> tuple[str, ...]:
        return self.directory.fetch_fields(connection, object_type)

    def fated(self, taken: Taken) -> None:
        taken.left -= 1
        taken.first_s = taken.first_s or self.now_s()
        if taken.left == 0:
            self.done(taken)

    def done(self, taken: Taken) -> None:
        self._commits.done(taken)

    def _committed(self, finished: Sequence[Taken]) -> None:
        """Rows with durable fates are in hand no more, and their intents need not stand."""
        for taken in finished:
            part = self.parts.get(taken.partition)
            if part is not None and part.epoch == taken.epoch:
                part.rows -= taken.weight
            if (account := self.accounts.get(taken.account)) is not None:
                for key in taken.intents:
                    account.intents.kept(key)

    def also(self, sends: list[Send], partition: int) -> None:
        self._commits.also(sends, partition)

    async def intend(
        self, partition: int, account: str, request_id: str, rows: list[str], receipt: str = ""
    ) -> str:
        key = intent_key(self.platform, account, request_id)
        intent = Intent(
            account=account, request_id=request_id, row_ids=rows, at_ms=wall_ms(), receipt=receipt
        )
        await self._handover.write(partition, key, intent)
        return key

    def later(self, wait_s: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(wait_s, call)

    def failed(self, error: BaseException) -> None:
        """With the place, without the text: it may hold a row's values."""
        where = traceback.extract_tb(error.__traceback__)[-1:]
        places = [f"{frame.filename}:{frame.lineno}" for frame in where]
        leave("a task failed", platform=self.platform, error=type(error).__name__, where=places)

    # ---- now and then

    def _take_deferred(self) -> None:
        """The stretch has moved on: read what had no room."""
        touched: dict[str, Account] = {}
        self._bound()
        for part in list(self.parts.values()):
            for record in part.with_room():
                self._open(part, record, touched)
        for account in touched.values():
            account.go()
        self._pause()

    def _bound(self) -> None:
        rows_all = sum(part.rows for part in self.parts.values())
        for part in self.parts.values():
            part.bound(rows_all)

    def _pause(self) -> None:
        self.intake.pause(frozenset(n for n, part in self.parts.items() if part.deferred))

    async def _commit_on(self) -> None:
        while True:
            await self._commits.next()
            self._take_deferred()

    async def _sample_on(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            for account in self.accounts.values():
                account.limits.sample({group for group, _ in account.lanes.turns()})

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = self.now_s()
            for account in list(self.accounts.values()):
                account.sweep()
            for part in list(self.parts.values()):
                for taken in part.overdue(now_s):
                    self._write_again(part, taken, everything=False)

    def _write_again(self, part: Partition, taken: Taken, *, everything: bool) -> None:
        """What waits of a command goes to the end of the partition, so that the rest can be
        committed. `everything`: what is out is not waited for."""
        account = self.accounts[taken.account]
        if taken.task is not None:
            taken.task.cancel()
            taken.sends = [Send(self.topic, taken.value, taken.account, part.number)]
            self.done(taken)
            return
        fated = {id(settled.item) for settled in taken.settled}
        fated.update(id(item) for item in taken.again)
        for item in taken.items:
            if id(item) not in fated and (
                everything or item.place is Place.waiting or item.job is not None
            ):
                account.withdraw(item)
                taken.again.append(item)
                taken.left -= 1
        if taken.left == 0:
            self.done(taken)

    def _definitions_changed(self) -> None:
        """Whatever halted an account may be mended, or somebody says that it is."""
        for account in list(self.accounts.values()):
            self._switch(account)
            opened = self.directory.opened
            said_ms = max(
                opened.get(account.name, 0), opened.get(f"{self.platform}/{account.name}", 0)
            )
            if account.gate.halted and said_ms > account.gate.halted_ms:
                account.reopen("somebody said so")
            if account.gate.misconfigured and self._usable(account):
                account.reopen("its definition was mended")
            limits = self._figures(min(account.connections))
            if limits != account.limits.limiter.limits:
                account.relimit(limits)

    def _switch(self, account: Account) -> None:
        """Closed or opened by a person: done at once, and confirmed once in the journal."""
        held = self.directory.held(self.platform, account.name)
        if held == account.gate.held:
            return
        account.let_go()
        if held:
            account.hold(held)
        act = self.directory.switched[f"{self.platform}/{account.name}"]
        entry = self.wire.entry(
            JournalKind.confirmed, [], at_ms=wall_ms(), account=act.account, act_id=act.act_id,
            who=act.who, records=account.in_flight, why="connectors",
        )  # fmt: skip
        self.also([Send(JOURNAL, entry, act.account)], account.partition)

    def _usable(self, account: Account) -> bool:
        try:
            for connection in account.connections:
                self.client(connection)
        except Misconfigured:
            return False
        return True

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(error)

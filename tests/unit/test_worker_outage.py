"""A platform down for twenty minutes, an account halted, one slow: others keep their latency,
nothing is parked for it, and what waited goes out once there is an answer. In virtual time."""

import asyncio
import statistics
from collections import defaultdict
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from connectors import worker as module
from connectors.account import Account
from connectors.base import Answer, PlatformError
from connectors.handover import Inherited
from connectors.intake import Record
from connectors.outcome import Accepted, Outcome, Returned
from tests import virtual
from tests.unit.test_worker_memory import FIELDS, Intake, Transactions, worker_of

DOWN_S = 20 * 60
BACKLOG = 2_000
ANSWER_S = 0.2


class Http:
    """Segment, as one account meets it."""

    def __init__(self, *, status: int = 200, answer_s: float = ANSWER_S) -> None:
        self.status, self.answer_s, self.requests = status, answer_s, 0

    async def request(self, *_: Any, **__: Any) -> Answer:
        self.requests += 1
        await asyncio.sleep(self.answer_s)
        if self.status != 200:
            raise PlatformError(self.status, "no")
        return Answer(200, {}, b'{"success":true}')


class Desk:
    """A worker with these accounts, all on one partition."""

    def __init__(self, loop: virtual.VirtualLoop, accounts: dict[str, Http]) -> None:
        self.loop, self.sent, self.offset = loop, 0, 0
        self.worker = worker_of(loop, {"unlimited": True}, accounts)  # limits live in real time
        works = (self.worker._commit_on(), self.worker._sweep_on())
        self.tasks = [asyncio.ensure_future(work) for work in works]

    async def begin(self) -> None:
        await self.worker.assigned([TopicPartition("commands.segment", 0, 0)], {0: Inherited()})

    def send(self, account: str, rows: int = 1, priority: str = "live") -> None:
        numbers = range(self.sent, self.sent + rows)
        self.sent = numbers.stop
        command = self.worker.wire.batch({
            "account": account, "connection": account, "object_type": "track", "sync": "s",
            "run": "", "priority": priority, "decided_ms": 1,
            "rows": [
                {"row_id": f"{account}-{n}", "event_id": "e", "person": f"p{n}", "record_no": n,
                 "object_id": "", "occurred_ms": round(self.loop.time() * 1000), "removal": "",
                 "fields": FIELDS[:-1] + b',"event":"seen"}'}
                for n in numbers
            ],
        })  # fmt: skip
        self.worker.take([Record(0, self.offset, command, None)])
        self.offset += 1

    def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        for account in self.worker.accounts.values():
            account.cut_off()


def test_an_outage_of_twenty_minutes_costs_nobody_else_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "Intake", Intake)
    monkeypatch.setattr(module, "Transactions", Transactions)
    fates: dict[str, list[tuple[Outcome, float]]] = defaultdict(list)
    settle = Account.settle

    async def main(loop: virtual.VirtualLoop) -> None:
        def settled(self: Account, item: Any, outcome: Outcome, *others: Any) -> None:
            fates[self.name].append((outcome, loop.time() - item.row.occurred_ms / 1000))
            settle(self, item, outcome, *others)

        monkeypatch.setattr(Account, "settle", settled)
        down = Http(status=503)
        there = Desk(loop, {"down": down})
        here = Desk(loop, {"well": Http(), "halted": Http(status=401), "slow": Http(answer_s=5.0)})
        await asyncio.gather(there.begin(), here.begin())
        there.send("down", BACKLOG, "bulk")
        for name in ("halted", "slow"):
            here.send(name, BACKLOG, "bulk")
        for _ in range(DOWN_S):
            await asyncio.sleep(1)  # virtual: a second of the loop
            there.send("down")
            for name in ("well", "halted", "slow"):
                here.send(name)
        assert down.requests < DOWN_S / 10
        assert not any(isinstance(outcome, Accepted) for outcome, _ in fates["down"])
        down.status = 200
        for _ in range(60):
            there.send("down")
            await asyncio.sleep(1)  # virtual: a second of the loop
        for desk in (here, there):
            desk.end()
        taken = [took_s for outcome, took_s in fates["down"] if isinstance(outcome, Accepted)]
        assert len(taken) > 60 + 30  # what came since, and what had not been given back yet
        assert max(taken[-20:]) < 5 * ANSWER_S  # it is as if nothing had been

    virtual.run(main)
    kinds = {name: {type(outcome) for outcome, _ in told} for name, told in fates.items()}
    assert kinds["well"] == {Accepted}
    assert kinds["halted"] == {Returned}  # to its persons' state, until somebody acts
    assert kinds["down"] == kinds["slow"] | {Returned} == {Accepted, Returned}
    took_s = sorted(took_s for _, took_s in fates["well"])
    assert len(took_s) == DOWN_S
    assert statistics.median(took_s) < 2 * ANSWER_S
    assert took_s[-1] < 5 * ANSWER_S

"""A destination is closed within a second: by the partitions of persons, whatever waits there, and
by a worker, whatever it has in hand. On a busy machine the best of a few tries counts."""

import asyncio
import queue
import threading
import time
from typing import Any

from connectors.directory import FOLLOW_S, Directory
from connectors.outcome import Returned
from connectors.worker import Worker
from schemas import ids
from schemas.codec import Codec
from schemas.control import Act, ActKind
from schemas.events import ResolvedRecord
from schemas.journal import JournalEntry, JournalKind
from schemas.topics import commands_of
from streams.steps.people import People
from tests.simulation.definitions import catalog
from tests.unit.steps_kit import ANN, Rows, event
from tests.unit.test_account_closed import Desk

PERSONS = 300
WITHIN_S = 1.0
TRIES = 5


def act(kind: ActKind, account: str) -> Act:
    return Act(
        act_id=f"{kind}-{account}", kind=kind, account=account, who="eve", why="wrong list",
        when_ms=1_000, values=b"{}",
    )  # fmt: skip


def test_a_partition_closes_a_destination_at_once_and_spares_the_others() -> None:
    """Between one event and the next, with many persons waiting; each that is asked for waits."""
    rows, known = Rows(), catalog("leads", "news")

    def chunk(*messages: tuple[str, Any]) -> list[Any]:
        people = People(rows, known, 0)
        for key, message in messages:
            people.take(key, message)
        return people.close()

    def change(number: int, at_ms: int) -> tuple[str, ResolvedRecord]:
        who = ids.person_key(f"hub:contact:{number}")
        values = {**ANN, "email": f"p{number}@x.io", "phone": str(at_ms)}
        return who, ResolvedRecord(person=who, event=event(values, at_ms, number=number))

    chunk(("", act(ActKind.account_close, "mailchimp/m1")))
    chunk(*(change(n, 100) for n in range(PERSONS)))  # all of them wait for the one
    begun_s = time.perf_counter()
    sends = chunk(change(1, 200), ("", act(ActKind.account_close, "salesforce/o1")), change(2, 200))
    assert time.perf_counter() - begun_s < WITHIN_S
    confirmed = [s.message for s in sends if isinstance(s.message, JournalEntry)]
    assert [e.act_id for e in confirmed if e.kind is JournalKind.confirmed] == [
        "account_close-salesforce/o1"
    ]
    sent = [s for s in sends if s.topic == commands_of("salesforce")]
    assert sent == [], "both have a row out, and nothing new is sent"
    later = chunk(*(change(PERSONS + n, 300) for n in range(5)))
    assert [s for s in later if s.topic.startswith("commands.")] == []


class Control:
    """The topic `control` as a directory follows it."""

    def __init__(self) -> None:
        self.acts = queue.SimpleQueue[bytes]()
        self.looks = 0

    def poll(self) -> list[Any]:
        self.looks += 1
        found: list[Any] = []
        while not self.acts.empty():
            value = self.acts.get()
            found.append(type("Record", (), {"value": lambda _, value=value: value})())
        return found

    def refresh(self, timeout_s: float) -> bool:
        """Of definitions, of which none changes: as long as the real one waits."""
        time.sleep(timeout_s)
        return False

    def close(self) -> None:
        pass


class Wire:
    """Keeps what is journalled."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def entry(self, kind: JournalKind, notes: list[Any], **more: Any) -> bytes:
        self.entries.append({"kind": kind, **more})
        return b""


async def closed_after_s() -> float:
    """A worker with rows in hand; somebody closes their account -> how long until all are back."""
    desk, codec = Desk(), Codec.offline()
    control = Control()
    directory = Directory.__new__(Directory)
    directory._codec, directory._control, directory._definitions = codec, control, control  # type: ignore[assignment]
    directory.opened, directory.switched, directory.changed = {}, {}, []
    directory._stopping = threading.Event()
    worker = Worker.__new__(Worker)
    worker.platform, worker.directory, worker.wire = "mailchimp", directory, Wire()  # type: ignore[assignment]
    worker.also = lambda sends, partition: None  # type: ignore[method-assign]
    done = asyncio.Event()

    def changed() -> None:
        worker._switch(desk.account)
        if desk.account.gate.held:
            done.set()

    directory.changed.append(changed)
    directory.follow()
    try:
        waiting = desk.take(*range(1, 501))
        looks = control.looks
        begun_s = time.perf_counter()
        control.acts.put(codec.encode(act(ActKind.account_close, "mailchimp/a1")))
        async with asyncio.timeout(60):
            await done.wait()
        took_s = time.perf_counter() - begun_s
        assert control.looks - looks <= 2, "the next look finds it"
        assert len(waiting.settled) == 500
        assert all(isinstance(s.outcome, Returned) for s in waiting.settled)
        assert desk.account.in_flight == 0
        [said] = worker.wire.entries  # type: ignore[attr-defined]
        assert (said["why"], said["who"]) == ("connectors", "eve")
    finally:
        directory._stopping.set()
        await desk.account.stop(1.0)
    return took_s


def test_a_worker_closes_an_account_within_a_second() -> None:
    assert FOLLOW_S <= WITHIN_S / 4
    took_s: list[float] = []
    while not took_s or (min(took_s) >= WITHIN_S and len(took_s) < TRIES):
        took_s.append(asyncio.run(closed_after_s()))
    assert min(took_s) < WITHIN_S

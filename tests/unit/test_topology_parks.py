"""A record for which a step throws gets its fate in the journal, and harms no other (P4, P7)."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from schemas import ids
from schemas import topics as t
from schemas.base import Message
from schemas.codec import Codec
from schemas.control import Tick
from schemas.events import PlatformEvent, ResolvedRecord
from schemas.journal import JournalEntry, RowNote
from schemas.outcomes import OutcomeKind, RecordOutcome
from schemas.parked import ParkedRecord
from streams import topology
from streams.definitions import Catalogs
from streams.engine import EngineApp, EngineSettings, Record
from streams.engine.ledger import Ledger, Member, Part
from streams.engine.transport import Fetched
from streams.steps.links import Links
from streams.steps.people import People
from tests.simulation.definitions import catalog
from tests.unit.steps_kit import ANN, event

WHO = ids.person_key("hub:contact:1")
CODEC = Codec.offline()


class Stored:
    """What is committed: nothing."""

    def get(self, table: str, key: bytes) -> bytes | None:
        return None


class Worker:
    """The real agents on a real ledger; in place of Kafka, what is handed to `take`."""

    def __init__(self, folder: Path) -> None:
        settings = EngineSettings(
            group="streams", slot="0", bootstrap_servers="nowhere:1", data_dir=folder
        )
        catalogs = SimpleNamespace(now=catalog(), refresh=catalog)
        self.app: EngineApp = topology.build(settings, CODEC, cast(Catalogs, catalogs), 1)
        agents = {name: topics for name, (topics, _) in self.app._agents.items()}
        self.ledger = Ledger(agents, self.app._outputs, settings.record_bytes_max)
        sources = {(topic, 0): (0, "") for topics in agents.values() for topic in topics}
        self.ledger.open(Member(1, "me"), [Part(0, Stored())], sources, 0)
        room = asyncio.sleep
        self.app.engine = cast(
            Any, SimpleNamespace(ledger=self.ledger, room=lambda: room(0), note=lambda: None)
        )
        consumer = SimpleNamespace(settle=lambda _: None)
        self.app.faust = cast(Any, SimpleNamespace(consumer=consumer))

    def take(self, agent: str, topic: str, *messages: tuple[str, Message]) -> None:
        """One fetch of one topic."""
        start = self.ledger.cursors[agent, topic, 0]
        records = [
            Record(topic, 0, start + n, 1_000, key.encode(), CODEC.encode(message), ())
            for n, (key, message) in enumerate(messages)
        ]
        end = start + len(records)

        async def stream() -> Any:
            yield Fetched((topic, 0), start, end, records, self.ledger.turn)

        _, fun = self.app._agents[agent]
        asyncio.run(cast(Any, fun(self.app._chunks(agent, stream()))))
        assert self.ledger.cursors[agent, topic, 0] == end, "it goes on behind the bad record"

    def written(self, topic: str) -> list[Any]:
        values = [value for name, value, *_ in self.ledger.outputs if name == topic]
        return [None if v is None else CODEC.decode(v) for v in values]

    @property
    def notes(self) -> list[RowNote]:
        entries: list[JournalEntry] = self.written(t.JOURNAL)
        return [note for entry in entries for note in entry.rows]

    @property
    def parked(self) -> list[ParkedRecord]:
        return self.written(t.PARKED)


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


def throws_for(monkeypatch: pytest.MonkeyPatch, step: type, number: int) -> None:
    """The step has a bug that only the object of this number meets."""
    before = step.take

    def take(self: Any, key: str, message: Message) -> None:
        event = message.event if isinstance(message, ResolvedRecord) else message
        if getattr(event, "object_id", "") == str(number):
            raise ZeroDivisionError("ann@x.io must not be told")
        before(self, key, message)

    monkeypatch.setattr(step, "take", take)


def test_an_event_that_admit_cannot_decide_is_parked_for_every_sync(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = event(ANN, 100, number=1), event({**ANN, "email": "bo@x.io"}, 100, number=2)
    with monkeypatch.context() as patched:
        throws_for(patched, Links, 1)
        worker.take("admit", "events.hubspot", (bad.object_key, bad), (good.object_key, good))
    assert {(n.row_id, n.standing, n.code) for n in worker.notes} == {
        (ids.row_id(bad.event_id, sync), "parked", "bug") for sync in ("leads", "news")
    }
    [record] = worker.parked
    assert (record.parked_id, record.stage, record.source) == (bad.event_id, "admit", bad.values)
    assert record.words == "ZeroDivisionError in a step"
    assert len(worker.written(t.ASKED)) == 1, "the other one goes on"

    before = len(worker.notes)
    worker.take("admit", "events.hubspot", (bad.object_key, bad))
    assert [n.standing for n in worker.notes[before:]] == ["duplicate", "duplicate"]


def test_a_record_that_shape_cannot_decide_is_parked_for_every_sync(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    throws_for(monkeypatch, People, 1)
    bad, good = event(ANN, 100, number=1), event(ANN, 100, number=2)
    resolved = [(WHO, ResolvedRecord(person=WHO, event=e)) for e in (bad, good)]
    worker.take("shape", t.RESOLVED, *resolved)
    parked = {ids.row_id(bad.event_id, sync) for sync in ("leads", "news")}
    assert {n.row_id for n in worker.notes if n.standing == "parked"} == parked
    assert {p.parked_id for p in worker.parked} == parked
    assert {(p.stage, p.code, p.person) for p in worker.parked} == {("shape", "bug", WHO)}
    out = {n.row_id for n in worker.notes if n.standing == "out"}
    assert out == {ids.row_id(good.event_id, sync) for sync in ("leads", "news")}


def test_what_is_no_event_is_kept_with_its_bytes_and_its_place(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = RecordOutcome(
        row_id="r", person=WHO, connection="sales", object_type="Lead", sync="leads",
        kind=OutcomeKind.written, at_ms=1,
    )  # fmt: skip

    def take(self: Any, key: str, message: Message) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(People, "take", take)
    worker.take("shape", "outcomes.salesforce", (WHO, outcome))
    worker.take("shape", t.TICKS, ("0", Tick(now_ms=1)))
    [record] = worker.parked
    assert (record.parked_id, record.code) == ("outcomes.salesforce-0-0", "bug")
    assert CODEC.decode(record.source) == outcome
    assert worker.notes == []


def test_a_step_that_cannot_even_park_stops_nobody(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    throws_for(monkeypatch, Links, 1)

    def park(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Links, "park", park)
    bad: PlatformEvent = event(ANN, 100)
    worker.take("admit", "events.hubspot", (bad.object_key, bad))
    assert [p.parked_id for p in worker.parked] == ["events.hubspot-0-0"]

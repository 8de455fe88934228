"""The alarm around a checkpoint: a hung client ends the worker, a Kafka that is away does not."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.engine import EngineSettings
from streams.engine import worker as workers
from streams.engine.exits import boot_s
from streams.engine.ledger import Batch, Member, Part, Reader
from streams.engine.transaction import End
from streams.engine.worker import Engine


class Empty(Reader):
    def get(self, table: str, key: bytes, /) -> bytes | None:
        return None


class Held:
    """Transactions whose commit returns when it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.left: list[str] = []

    def commit(self, batch: Batch) -> End:
        assert self.free.wait(20)
        return End.COMMITTED

    def leave(self, why: str, **_: object) -> None:
        self.left.append(why)
        self.free.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held()
    monkeypatch.setattr(workers, "leave", held.leave)
    yield held
    held.free.set()


def working(held: Held, folder: Path) -> Engine:
    """A worker that has something to commit, and half a second of patience."""
    settings = EngineSettings(
        group="g", slot="0", bootstrap_servers="127.0.0.1:1", data_dir=folder, session_timeout_s=4
    )
    engine = Engine(settings, {"a": ["t"]}, [], [])
    engine.transactions = held  # type: ignore[assignment]
    engine._patience_s = 0.5
    engine.ledger.open(Member(1, "me"), [Part(0, Empty())], {("t", 0): (10, "")}, 0)
    chunk = engine.ledger.begin("a", ("t", 0), 10, 12, [], engine.ledger.turn)
    assert chunk is not None
    engine.ledger.done(chunk, {}, [])
    return engine


def test_a_client_that_hangs_while_kafka_answers_ends_the_worker(
    held: Held, tmp_path: Path
) -> None:
    async def run() -> None:
        engine = working(held, tmp_path)
        checkpoint = asyncio.create_task(engine.checkpoint())
        while not checkpoint.done():
            engine.heard_s = boot_s()
            await asyncio.sleep(0.05)
        await checkpoint

    asyncio.run(asyncio.wait_for(run(), 20))
    assert held.left == ["checkpoint takes too long"]


@pytest.mark.parametrize("heard_ago_s", [None, 60.0])
def test_kafka_away_does_not_end_the_worker(
    held: Held, tmp_path: Path, heard_ago_s: float | None
) -> None:
    async def run() -> None:
        engine = working(held, tmp_path)
        engine.heard_s = None if heard_ago_s is None else boot_s() - heard_ago_s
        asyncio.get_running_loop().call_later(2.5, held.free.set)  # two looks of the alarm
        await engine.checkpoint()
        assert engine.ledger.committed["t", 0] == (12, "")

    asyncio.run(asyncio.wait_for(run(), 20))
    assert held.left == []


def test_there_is_an_end_to_waiting_for_kafka(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "AWAY_S_MAX", 0.5)
    engine = working(held, tmp_path)
    asyncio.run(asyncio.wait_for(engine.checkpoint(), 20))
    assert held.left == ["Kafka is away for too long"]

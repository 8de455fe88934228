"""A worker with far more rows on the topic than may go holds a bounded number of them, and goes on
reading: what stands behind them may be another account's."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import msgspec
import psutil
import pytest
from confluent_kafka import TopicPartition
from pydantic import SecretStr

from connectors import worker as module
from connectors.handover import Inherited
from connectors.intake import POLL_S, Record
from connectors.partition import ROWS_MAX
from connectors.platforms.segment import Segment, SegmentConfig
from connectors.wire import Wire
from connectors.worker import Worker
from schemas.codec import Codec
from schemas.definitions import Connection
from tests import virtual

ROWS = 500
"""Of a command."""
COMMANDS = 18
"""Of one poll: as many as the consumer keeps, by their bytes."""
COMMIT_S = 2.0
"""Of each transaction: slower than rows are given back."""


class Intake:
    """The consumer: it remembers which partitions are paused."""

    fresh, generation = True, b""

    def __init__(self, *_: Any) -> None:
        self.paused: frozenset[int] = frozenset()

    def pause(self, partitions: frozenset[int]) -> None:
        self.paused = partitions


class Transactions:
    """They always succeed."""

    def __init__(self, *_: Any) -> None: ...

    def commit(self, due: Callable[[], tuple[Sequence[Any], Sequence[Any]]]) -> None:
        due()


class Slow:
    """The thread of the transactions."""

    def __init__(self, loop: virtual.VirtualLoop) -> None:
        self._loop = loop

    def submit(self, commit: Callable[..., None], due: Any) -> Future[None]:
        done = Future[None]()

        def end() -> None:
            commit(due)
            done.set_result(None)

        self._loop.call_later(COMMIT_S, end)
        return done


def worker_of(
    loop: virtual.VirtualLoop, quotas: dict[str, Any], accounts: Mapping[str, Any]
) -> Worker:
    """`accounts`: names, which are those of their connections too, to what they send with."""
    clients = {
        name: SimpleNamespace(
            spec=Segment.spec,
            connector=Segment(SegmentConfig(), {"write_key": SecretStr("k")}, http),
        )
        for name, http in accounts.items()
    }
    connections = {
        name: Connection(
            connection=name, platform="segment", account=name, quotas=quotas, secrets={}
        )
        for name in accounts
    }
    directory: Any = SimpleNamespace(
        connections=connections, client=clients.__getitem__, held=lambda *_: "",
        match_field=lambda sync: "", forget=lambda name: None,
    )  # fmt: skip

    async def write(*_: Any) -> None: ...

    made = Worker("segment", {}, Wire(Codec.offline()), directory, SimpleNamespace(write=write),  # type: ignore[arg-type]
                  "0", 1)  # fmt: skip
    made.now_s = loop.time
    made._commits._thread = Slow(loop)  # type: ignore[assignment]
    return made


FIELDS = msgspec.json.encode({"email": "ann@example.com", "name": "Ann"})


def command(wire: Wire, begin: int) -> bytes:
    rows = [
        {"row_id": f"row-{n}", "event_id": "e", "person": f"p{n}", "record_no": n,
         "object_id": "", "occurred_ms": 1, "fields": FIELDS, "removal": ""}
        for n in range(begin, begin + ROWS)
    ]  # fmt: skip
    return wire.batch({
        "account": "slow", "connection": "slow", "object_type": "identify", "sync": "s",
        "run": "s-1", "priority": "bulk", "decided_ms": 1, "rows": rows,
    })  # fmt: skip


QUARTERS = 4
WARM = 200_000
"""Rows after which a process has all the memory that it needs for those in hand."""
GROWTH_MAX = 1.02
"""Of the process's memory over the second half of the rows."""


@pytest.mark.parametrize(
    "rows", [60_000, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_rows_without_number_wait_and_few_are_held(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Intake", Intake)
    monkeypatch.setattr(module, "Transactions", Transactions)
    process, held_mb = psutil.Process(), list[float]()

    async def main(loop: virtual.VirtualLoop) -> int:
        worker = worker_of(
            loop, {"tracking": {"limit": 1, "window_s": 86_400}}, {"slow": SimpleNamespace()}
        )
        await worker.assigned([TopicPartition("commands.segment", 0, 0)], {0: Inherited()})
        works = [asyncio.ensure_future(w) for w in (worker._commit_on(), worker._sweep_on())]
        offset = most = 0
        stats = worker.stats
        while (done := stats.outcomes.total() + stats.rows_again) < rows - ROWS_MAX:
            intake: Any = worker.intake
            if not intake.paused and offset < rows // ROWS:
                more = range(offset, min(offset + COMMANDS, rows // ROWS))
                worker.take([Record(0, n, command(worker.wire, n * ROWS), None) for n in more])
                offset = more.stop
            most = max(most, stats.rows_in - done)
            quarter = len(held_mb) + 1
            if quarter < QUARTERS and stats.rows_in >= rows * quarter // QUARTERS:
                held_mb.append(process.memory_info().rss / 1e6)
            await asyncio.sleep(POLL_S)
        held_mb.append(process.memory_info().rss / 1e6)
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        for account in worker.accounts.values():
            account.cut_off()
        return most

    assert virtual.run(main) <= ROWS_MAX + ROWS
    print(f"MB after each quarter of {rows:,} rows:", [round(mb) for mb in held_mb])
    if rows > 2 * WARM:
        assert held_mb[-1] <= held_mb[QUARTERS // 2 - 1] * GROWTH_MAX

"""Rows that wait for quota go out together: in hardly more requests than the least possible."""

import asyncio
import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from connectors.base import ObjectSpec, Row, Spec
from connectors.commits import COMMIT_S
from connectors.intake import CHUNK
from connectors.lanes import Taken
from connectors.offsets import Stretch
from connectors.outcome import Outcome, Written
from ratelimits import registry
from ratelimits.limiter import Limiter
from schemas.commands import Priority
from tests import virtual
from tests.desk import Desk, row

BATCH = 100


class Nothing(BaseModel):
    """It needs no options."""


class Quick:
    """Answers after a moment, and counts."""

    spec: ClassVar[Spec] = Spec(
        platform="hubspot", config=Nothing, secrets=(), base_url="",
        objects={"contact": ObjectSpec(kind="state", repeat="safe", batch_rows_max=BATCH)},
    )  # fmt: skip

    def __init__(self, config: Any, secrets: Mapping[str, Any], http: Any) -> None:
        self.requests: list[int] = []
        self._draw = random.Random(7)

    async def upload_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        self.requests.append(len(rows))
        await asyncio.sleep(self._draw.uniform(0.1, 0.9))
        return [Written(row.row_id) for row in rows]


async def carried(loop: virtual.VirtualLoop, rows: int) -> list[int]:
    """Single live updates, each a command of its own, read as a worker reads them: while the
    quota is closed, and then as far as what is in hand leaves room -> rows of each request."""

    async def lease(document: str) -> None:
        await asyncio.sleep(0.01)

    desk = Desk(Quick, "http://127.0.0.1", {}, {}, "", registry.load("hubspot", "professional"))
    limiter = Limiter(desk.account.limits.limiter.limits, write_lease=lease, clock=loop.time,
                      wall=loop.time)  # fmt: skip
    desk.account.limits.limiter = limiter
    limiter.refused("write", 5.0)
    stretch, finished = Stretch(0), deque[int]()
    desk.fated = lambda taken: finished.append(taken.offset)
    sent = done = 0
    while done < rows:
        for _ in range(CHUNK):
            if sent == rows or not stretch.room(sent):
                break
            stretch.take(sent)
            taken = Taken(0, 1, sent, loop.time(), account="a1", connection="here", left=1,
                          object_type="contact", sync="all", priority=Priority.live)  # fmt: skip
            desk.account.take(taken, [row(sent, email=f"{sent}@example.com")], {}, 0.0)
            sent += 1
        desk.account.go()
        await asyncio.sleep(COMMIT_S)  # a transaction: what it covers makes room
        while finished:
            stretch.finish(finished.popleft())
            done += 1
    await desk.account.stop(0.0)
    await desk.http.close()
    assert not desk.errors
    return desk.connector.requests  # type: ignore[attr-defined]


@pytest.mark.parametrize("rows", [20_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_single_updates_that_wait_for_quota_go_out_in_few_requests(rows: int) -> None:
    requests = virtual.run(carried, rows)
    assert sum(requests) == rows
    assert len(requests) <= 1.05 * rows / BATCH

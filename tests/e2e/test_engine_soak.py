"""The engine's long matrix: `make soak`, about 25 minutes. What it found is kept in docs/soak.md.

Each storm ends in the same audit as the short tests, and adds its line to a summary that is
printed at the end of the run (`pytest -s` shows it at once).
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncline.stack import Stack
from tests.e2e.engine_storm import flapping, storm
from tests.e2e.engine_world import World

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

KILLS_MIN = 200
Line = tuple[str, int, int, int]
"""Storm, records, kills, workers that left by themselves."""


@pytest.fixture(scope="module")
def lines() -> Iterator[list[Line]]:
    found: list[Line] = []
    yield found
    for name, records, kills, left in found:
        print(f"\n| {name} | {records:,} | {kills} | {left} | 0 | 0 | 0 |", end="")
    print()


STORMS: dict[str, dict[str, object]] = {
    "one input": {"inputs": 1},
    "two inputs": {"inputs": 2},
    "two inputs, two agents on each": {"inputs": 2, "two_agents": True},
    "sleepers, one input": {"inputs": 1, "freeze": True},
    "sleepers, two inputs": {"inputs": 2, "freeze": True},
}


@pytest.mark.parametrize("name", STORMS)
def test_storm(
    fresh_stack: Callable[..., Stack], tmp_path: Path, lines: list[Line], name: str
) -> None:
    """Two workers under load; kills at random and at points, disks lost, places left empty."""
    job = dict(STORMS[name])
    freeze = bool(job.pop("freeze", False))
    stack = fresh_stack(registry=False)
    with World(stack.bootstrap_servers, tmp_path, seed=len(name), **job) as world:  # type: ignore[arg-type]
        storm(world, seconds=180, rate=700, freeze=freeze, pace=0.05)
        records = world.audit()
        lines.append((name, records, world.kills, world.left))


def test_flapping(fresh_stack: Callable[..., Stack], tmp_path: Path, lines: list[Line]) -> None:
    """Places taken and left every few seconds: rebalances meet restores."""
    stack = fresh_stack(registry=False)
    with World(stack.bootstrap_servers, tmp_path, inputs=2, seed=11) as world:
        flapping(world, seconds=120, rate=400)
        records = world.audit()
        lines.append(("flapping places", records, world.kills, world.left))


def test_broker_restarts(
    fresh_stack: Callable[..., Stack], tmp_path: Path, lines: list[Line]
) -> None:
    """Kafka killed, or stopped politely, six times under load; workers restarted as they leave."""
    stack = fresh_stack(registry=False)
    with World(stack.bootstrap_servers, tmp_path, inputs=2, seed=12) as world:
        workers = {slot: world.started(world.start(slot), 300) for slot in "01"}
        for n in range(6):
            world.feed(20_000)
            (stack.stop_broker if n % 2 else stack.kill_broker)()
            time.sleep(world.random.choice([0.5, 2, 8]))
            stack.restart_broker()
            deadline = time.monotonic() + 300
            while world.lag():
                assert time.monotonic() < deadline, "the group does not reach the end"
                for slot, worker in workers.items():
                    worker.may_leave = True
                    worker.expected.add(1)  # it was started while Kafka was not there yet
                    if worker.code is not None:
                        workers[slot] = world.start(slot)
                time.sleep(0.5)
        records = world.audit()
        lines.append(("broker restarts", records, world.kills, world.left))


def test_enough_was_killed(lines: list[Line]) -> None:
    """The storms above were storms."""
    assert sum(kills for _, _, kills, _ in lines) >= KILLS_MIN

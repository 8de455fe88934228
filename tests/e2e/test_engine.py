"""The engine on real Kafka: killed, frozen, robbed of partitions and disks, fed with bad records.

Each test ends in the same audit: nothing lost, nothing repeated for a read-committed reader, rows
equal to the fold of the source. `make soak` runs the long matrix (see test_engine_soak.py).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from syncline.stack import Stack
from tests.e2e.engine_storm import storm
from tests.e2e.engine_world import POINTS, World, read_all, wait


class HasKafka(Protocol):
    @property
    def bootstrap_servers(self) -> str: ...


@pytest.mark.parametrize("inputs", [1, 2])
def test_one_worker_takes_all_and_stops_in_time(
    stack: HasKafka, tmp_path: Path, inputs: int
) -> None:
    """The plain way: a backlog is worked off, and SIGTERM commits what is decided."""
    with World(stack.bootstrap_servers, tmp_path, inputs=inputs) as world:
        world.feed(5000)
        worker = world.started(world.start("0"))
        world.settle(30)
        world.feed(500)
        assert worker.terminate() < 10
        assert world.lag() in range(501 + 8)  # what it had begun is committed, or not begun
        world.start("0")
        world.settle(30)
        assert world.audit() == 5500


@pytest.mark.parametrize("inputs", [1, 2])
def test_killed_at_every_point(stack: HasKafka, tmp_path: Path, inputs: int) -> None:
    """SIGKILL at each step of a checkpoint and of a restore, every other time with a lost disk."""
    with World(stack.bootstrap_servers, tmp_path, inputs=inputs, two_agents=inputs == 2) as world:
        world.feed(1500)
        for n, point in enumerate(POINTS):
            if n % 2 or point == "restoring":
                world.wipe(world.workers[-1])
            world.feed(500)
            world.start("0", f"{point}:1:kill").process.wait(40)
        world.start("0")
        world.settle(40)
        world.audit()
        assert [worker.code for worker in world.workers] == [-9] * len(POINTS) + [0]


def test_storm_of_kills(stack: HasKafka, tmp_path: Path) -> None:
    """Two workers under load, killed at random and at points, disks lost, places left empty."""
    with World(stack.bootstrap_servers, tmp_path, inputs=2, seed=7) as world:
        kills = storm(world, seconds=40, rate=500)
        assert world.audit() > 5_000
        assert kills >= 5


def test_partition_taken_in_mid_chunk(stack: HasKafka, tmp_path: Path) -> None:
    """A second worker joins while the first waits inside a chunk: once it can finish in time, and
    once it cannot, and the chunk is decided by the new owner."""
    for wait_s, name in ((2.0, "finished"), (9.0, "dropped")):
        folder = tmp_path / name
        folder.mkdir()
        with World(stack.bootstrap_servers, folder, wait_s=wait_s) as world:
            first = world.started(world.start("0"))
            world.feed(400, values=[b"wait"])
            wait(lambda w=world: w.lag() > 0, 10, "the chunk is begun")
            second = world.start("1")
            world.feed(400)
            world.started(second)
            world.settle(60)
            assert first.code is None, first.tail()
            assert world.audit() == 800


def test_workers_join_while_a_backlog_is_worked_off(stack: HasKafka, tmp_path: Path) -> None:
    """Each takes its share at once, and the others hand it back."""
    with World(stack.bootstrap_servers, tmp_path, inputs=2, two_agents=True) as world:
        world.feed(60_000, keys=3000)
        for slot in "012":
            world.start(slot)
            time.sleep(1)
        for worker in world.workers:
            world.started(worker)
        world.settle(90)
        assert world.audit() == 60_000


def test_bad_records_are_parked_alone(stack: HasKafka, tmp_path: Path) -> None:
    """Records that raise, and records whose output is too large, are parked in their place, also
    when the worker is killed meanwhile; their neighbours are written."""
    with World(stack.bootstrap_servers, tmp_path, inputs=2, two_agents=True) as world:
        world.feed(2000, values=[b"poison", b"big"] * 20)
        world.start("0", "committed:1:kill").process.wait(30)
        world.start("0")
        world.settle(30)
        assert world.audit() == 2000


def test_frozen_worker_whose_place_was_taken(stack: HasKafka, tmp_path: Path) -> None:
    """SIGSTOP, another process in the same slot, SIGCONT: the old one writes nothing and leaves."""
    with World(stack.bootstrap_servers, tmp_path, seed=3) as world:
        world.start_feeding(500)
        old = world.started(world.start("0"))
        time.sleep(1)  # some load first
        old.freeze()
        new = world.started(world.start("0", data_dir=tmp_path / "other"))
        old.may_leave = True
        old.wake()
        wait(lambda: old.code is not None, 20, "the old worker leaves")
        assert old.code == 70, old.tail()
        world.stop_feeding()
        world.settle(40)
        assert new.code is None, new.tail()
        world.audit()


def test_frozen_while_it_joined_and_its_place_was_taken(stack: HasKafka, tmp_path: Path) -> None:
    """Its join is answered with "fenced", before it has ever had partitions: it leaves."""
    with World(stack.bootstrap_servers, tmp_path, session_timeout_s=60.0) as world:
        other = world.started(world.start("1"))
        other.freeze()  # so that no join is answered
        old = world.start("0")
        wait(lambda: world.member("0") != "", 60, "its join is with the broker")
        old.freeze()
        joined, old.may_leave = world.member("0"), True
        new = world.start("0", data_dir=tmp_path / "other")
        wait(lambda: world.member("0") != joined, 60, "another has its place")
        other.wake()
        world.started(new)
        old.wake()
        wait(lambda: old.code is not None, 20, "the old worker leaves")
        assert old.code == 70, old.tail()
        assert not old.has_taken
        world.feed(400)
        world.settle(40)
        assert [other.code, new.code] == [None, None], other.tail() + new.tail()
        assert world.audit() == 400


@pytest.mark.parametrize("point", ["offsets_sent", "delivered"])
def test_frozen_inside_a_transaction(stack: HasKafka, tmp_path: Path, point: str) -> None:
    """SIGSTOP in mid-transaction for longer than the session; the other worker takes over."""
    with World(stack.bootstrap_servers, tmp_path, seed=4) as world:
        other = world.started(world.start("1"))
        world.start_feeding(500)
        frozen = world.start("0", f"{point}:3:stop")
        frozen.may_leave = True
        wait(lambda: _state(frozen.process.pid) == "T", 40, "worker freezes at its point")
        time.sleep(8)  # longer than the session of 6 s
        frozen.wake()
        world.stop_feeding()
        world.settle(60)
        assert other.code is None, other.tail()
        world.audit()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_compacted_source(stack: HasKafka, tmp_path: Path) -> None:
    """A log with large holes, of aborted transactions and of compaction, is read to its end."""
    config = {"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01",
              "max.compaction.lag.ms": "1000"}  # fmt: skip
    with World(stack.bootstrap_servers, tmp_path, source_config=config) as world:
        world.start_feeding(3000, keys=40)
        time.sleep(4)
        world.stop_feeding()
        deadline = time.monotonic() + 60
        while len(read_all(stack.bootstrap_servers, world.inputs[0])) > 4000:
            assert time.monotonic() < deadline, "the broker has not compacted"
            world.feed(20, keys=40)  # a new segment, so that the one before can be cleaned
            time.sleep(0.5)
        world.compact_no_more()
        world.start("0", "committed:1:kill").process.wait(30)
        world.start("0")
        world.settle(30)
        world.audit()


def test_broker_restart(fresh_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """Kafka is killed under load, inside transactions, and comes back; then the same, politely, and
    for longer than a transaction lasts. The workers wait for it, and go on."""
    stack = fresh_stack(registry=False)
    with World(stack.bootstrap_servers, tmp_path, seed=5) as world:
        world.feed(20_000)
        workers = [world.started(world.start(slot)) for slot in "01"]
        for stop, away_s in ((stack.kill_broker, 1), (stack.stop_broker, 14)):
            stop()
            time.sleep(away_s)
            stack.restart_broker()
            world.feed(5_000)
            world.settle(90)
            assert [worker.code for worker in workers] == [None, None], [
                worker.tail() for worker in workers
            ]
        assert world.audit() == 30_000

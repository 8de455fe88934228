"""What an engine worker says, and with which exit code, when it cannot or must not work."""

from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic  # pyright: ignore[reportPrivateImportUsage]

from tests.e2e.engine_world import PARTITIONS, Worker, World, read_all, wait


class HasKafka(Protocol):
    @property
    def bootstrap_servers(self) -> str: ...


def refuses(worker: Worker, code: int, *words: str) -> None:
    worker.process.wait(60)
    assert worker.code == code, worker.tail()
    for word in words:
        assert word in worker.tail()


def test_a_missing_topic(stack: HasKafka, tmp_path: Path) -> None:
    with World(stack.bootstrap_servers, tmp_path) as world:
        world.job.inputs = [*world.inputs, "no-such-topic"]
        refuses(world.start("0"), 2, "missing topics: no-such-topic")


def test_inputs_with_other_numbers_of_partitions(stack: HasKafka, tmp_path: Path) -> None:
    with World(stack.bootstrap_servers, tmp_path) as world:
        odd = f"{world.name}.odd"
        world.admin.create_topics([NewTopic(odd, PARTITIONS + 1, 1)])[odd].result()
        world.job.inputs = [*world.inputs, odd]
        refuses(world.start("0"), 2, "one number of partitions", odd)


def test_a_topic_that_takes_less_than_the_limit(stack: HasKafka, tmp_path: Path) -> None:
    """Else a checkpoint with such a record would fail for ever."""
    with World(stack.bootstrap_servers, tmp_path) as world:
        small = f"{world.name}.small"
        topic = NewTopic(small, PARTITIONS, 1, config={"max.message.bytes": "50000"})
        world.admin.create_topics([topic])[small].result()
        world.job.output = small
        refuses(world.start("0"), 2, "max.message.bytes", f"{small} (50000)")


def test_kafka_away(stack: HasKafka, tmp_path: Path) -> None:
    with World(stack.bootstrap_servers, tmp_path) as world:
        world.job.bootstrap_servers = "127.0.0.1:1"
        refuses(world.start("0"), 1, "no answer from Kafka at 127.0.0.1:1")


def test_offsets_that_were_set_back_by_hand(stack: HasKafka, tmp_path: Path) -> None:
    """The rows would be of a later moment than the records: nothing may be decided on them."""
    with World(stack.bootstrap_servers, tmp_path) as world:
        world.feed(500)
        worker = world.started(world.start("0"))
        world.settle(30)
        worker.terminate()
        consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": world.name})
        back = [TopicPartition(world.inputs[0], p, 1) for p in range(PARTITIONS)]

        def is_set() -> bool:  # refused while the group still has its silent member
            try:
                consumer.commit(offsets=back, asynchronous=False)
            except Exception:  # noqa: BLE001 - whichever of several refusals
                return False
            return True

        wait(is_set, 30, "the group is empty", 0.5)
        consumer.close()
        refuses(world.start("0"), 70, "newer than the group", "reset by hand")
        world.wipe(worker)
        refuses(world.start("0"), 70, "newer than the group")  # the changelog knows it too


def test_records_deleted_before_they_were_read(stack: HasKafka, tmp_path: Path) -> None:
    with World(stack.bootstrap_servers, tmp_path) as world:
        world.feed(200)
        worker = world.started(world.start("0"))
        world.settle(30)
        worker.terminate()
        world.feed(400)
        gone = [TopicPartition(world.inputs[0], p, 100) for p in range(PARTITIONS)]
        for future in world.admin.delete_records(gone).values():
            future.result()
        refuses(world.start("0"), 70, "deleted before they were read", "first_kept=100")


def test_two_workers_with_one_data_dir(stack: HasKafka, tmp_path: Path) -> None:
    with World(stack.bootstrap_servers, tmp_path) as world:
        first = world.started(world.start("0"))
        refuses(world.start("1", data_dir=first.data_dir), 1, "another worker has")
        first.kill()
        world.started(world.start("1", data_dir=first.data_dir))


@pytest.mark.parametrize("slots", [1, 2])
def test_ticks_reach_each_partition_once_a_second(
    stack: HasKafka, tmp_path: Path, slots: int
) -> None:
    with World(stack.bootstrap_servers, tmp_path) as world:
        ticks = f"{world.name}.ticks"
        world.admin.create_topics([NewTopic(ticks, PARTITIONS, 1)])[ticks].result()
        world.job.ticks = ticks
        for slot in range(slots):
            world.started(world.start(str(slot)))

        def times() -> list[list[int]]:
            found: list[list[int]] = [[] for _ in range(PARTITIONS)]
            for message in read_all(stack.bootstrap_servers, ticks):
                assert message.key() == str(message.partition()).encode()
                found[message.partition() or 0].append(int(message.value() or b"0"))
            return found

        before = [len(part) for part in times()]
        wait(lambda: all(len(part) >= n + 3 for part, n in zip(times(), before, strict=True)), 15,
             "three more ticks on each partition")  # fmt: skip
        for part, n in zip(times(), before, strict=True):
            gaps = [after - at for at, after in zip(part[n:], part[n + 1 :], strict=False)]
            assert all(gap > 500 for gap in gaps), gaps

"""What the polling thread tells the worker when the group changes."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from confluent_kafka import TopicPartition

from connectors.intake import Intake


class _Group:
    """Stands for the client: the group's metadata of this moment."""

    def __init__(self) -> None:
        self.metadata = b"generation 1"

    def consumer_group_metadata(self) -> bytes:
        return self.metadata


class _Owner:
    """Remembers the generation in which it could commit what it hands back."""

    intake: Intake
    committed_in: bytes = b""

    async def hand_back(self, partitions: Sequence[int]) -> None:
        assert partitions == [1]
        self.committed_in = self.intake.generation


def test_what_is_handed_back_is_committed_in_the_generation_that_takes_it_away() -> None:
    """Joined, synced and told of it in one poll: the last poll's generation is refused by then, the
    worker would try in vain, leave, and its partitions would rest until its session ends."""
    owner: Any = _Owner()
    kafka = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
    intake = owner.intake = Intake(kafka, "commands.x", "connectors.x", "0", owner)
    group: Any = _Group()
    intake.consumer.close()
    intake.consumer = group
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        intake._loop = loop
        intake._look()
        group.metadata = b"generation 2"
        intake._on_revoke(group, [TopicPartition("commands.x", 1)])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
    assert owner.committed_in == b"generation 2"

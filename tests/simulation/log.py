"""Kafka in memory, as far as the rules depend on it: partitioned logs, and transactions."""

import zlib
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple, Protocol

from schemas.base import Message
from schemas.journal import JournalEntry, JournalKind
from streams.steps.outputs import Send

PARTITIONS = 3
JOINS = (JournalKind.joined, JournalKind.join_undone)


class Entry(NamedTuple):
    key: str
    message: Message | None


class Reader(Protocol):
    unread: int


class Log:
    """Topics as lists of entries; what is appended in one call is one transaction."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, int], list[Entry]] = defaultdict(list)
        self.readers: dict[tuple[str, int], list[Reader]] = defaultdict(list)
        """Who is told of what is appended to a partition."""
        self.commits = 0
        """Transactions so far."""
        self.joined: list[tuple[int, JournalEntry]] = []
        """What the journal says of joins, with the number of its transaction."""

    def commit(self, sends: Iterable[Send]) -> None:
        self.commits += 1
        for send in sends:
            message = send.message
            if isinstance(message, JournalEntry) and message.kind in JOINS:
                self.joined.append((self.commits, message))
            partition = partition_of(send.key) if send.partition is None else send.partition
            place = send.topic, partition
            self.entries[place].append(Entry(send.key, message))
            for reader in self.readers.get(place, ()):
                reader.unread += 1

    def all(self, topic: str) -> list[Entry]:
        """Every entry of a topic; in order within a partition, hence within a key."""
        return [e for p in range(PARTITIONS) for e in self.entries[topic, p]]

    def compacted(self, topic: str) -> dict[str, Message]:
        newest = {e.key: e.message for e in self.all(topic)}
        return {key: message for key, message in newest.items() if message is not None}


@lru_cache(10_000)
def partition_of(key: str) -> int:
    return zlib.crc32(key.encode()) % PARTITIONS


class Overlay:
    """Rows of one table partition as a chunk changes them; dropped when it does not commit."""

    def __init__(self, stored: dict[str, bytes]) -> None:
        self.stored = stored
        self.changed: dict[str, bytes | None] = {}

    def get(self, key: str) -> bytes | None:
        return self.changed[key] if key in self.changed else self.stored.get(key)

    def put(self, key: str, row: bytes | None) -> None:
        self.changed[key] = row

    def commit(self) -> None:
        for key, row in self.changed.items():
            if row is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = row

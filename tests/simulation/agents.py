"""The agents of the topology, moved by a scheduler: chunks that commit whole or not at all."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from schemas.base import Message
from schemas.topics import (
    ACTS,
    ANSWERED,
    ASKED,
    CONTROL,
    JOURNAL,
    PLATFORMS,
    RESOLVED,
    TICKS,
    events_of,
    outcomes_of,
)
from streams.steps.addresses import Addresses
from streams.steps.catalog import Catalog
from streams.steps.links import Links
from streams.steps.outputs import Send
from streams.steps.people import People
from streams.steps.runs import Runs
from tests.simulation.log import PARTITIONS, Entry, Log, Overlay

CHUNK_MAX = 8


class Chunk(Protocol):
    def take(self, key: str, message: Message) -> None: ...

    def close(self) -> list[Send]: ...


@dataclass
class Agent:
    """One agent in one partition: its inputs, its table, and how far it has committed."""

    name: str
    partition: int
    inputs: tuple[str, ...]
    start: Callable[[Overlay], Chunk]
    log: Log
    rows: dict[str, bytes] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    history: list[Entry] = field(default_factory=list)
    """Everything that the agents of this name have committed, in the order of their commits."""
    crashes: int = 0
    unread: int = 0
    """Entries of all inputs past what is committed."""

    def __post_init__(self) -> None:
        self.offsets = dict.fromkeys(self.inputs, 0)
        self.logs = [(topic, self.log.entries[topic, self.partition]) for topic in self.inputs]
        for topic in self.inputs:
            self.log.readers[topic, self.partition].append(self)

    def backlog(self) -> list[str]:
        """Topics with something to read."""
        offsets = self.offsets
        return [topic for topic, entries in self.logs if len(entries) > offsets[topic]]

    def step(self, draw: random.Random, crash: float) -> bool:
        """One chunk of one topic; with probability `crash` it dies before its commit. -> has run"""
        topics = self.backlog()
        if not topics:
            return False
        topic = draw.choice(topics)
        at = self.offsets[topic]
        entries = self.log.entries[topic, self.partition][at : at + draw.randint(1, CHUNK_MAX)]
        overlay = Overlay(self.rows)
        chunk = self.start(overlay)
        dies_at = draw.randrange(len(entries) + 1) if draw.random() < crash else -1
        for number, (key, message) in enumerate(entries):
            if number == dies_at:
                break
            assert message is not None
            chunk.take(key, message)
        if dies_at >= 0:
            self.crashes += 1
            return True
        self.log.commit(chunk.close())
        overlay.commit()
        self.offsets[topic] = at + len(entries)
        self.unread -= len(entries)
        self.history += entries
        return True


def topology(log: Log, catalog: Catalog) -> list[Agent]:
    """All agents in all partitions."""
    kinds: dict[str, tuple[tuple[str, ...], Callable[[Any, int], Chunk]]] = {
        "admit": (
            (*map(events_of, PLATFORMS), ANSWERED), lambda rows, p: Links(rows, catalog)
        ),
        "addresses": ((ASKED,), lambda rows, p: Addresses(rows)),
        "shape": (
            (RESOLVED, *map(outcomes_of, PLATFORMS), ACTS, TICKS),
            lambda rows, p: People(rows, catalog, p),
        ),
        "runs": ((JOURNAL, CONTROL, TICKS), lambda rows, p: Runs(rows, catalog, PARTITIONS)),
    }  # fmt: skip
    histories: dict[str, list[Entry]] = {name: [] for name in kinds}
    return [
        Agent(
            name, p, inputs, lambda rows, s=start, p=p: s(rows, p), log, history=histories[name]
        )
        for name, (inputs, start) in kinds.items()
        for p in range(PARTITIONS)
    ]  # fmt: skip

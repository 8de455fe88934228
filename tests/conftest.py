"""Fixtures for tests on real Kafka and a real registry."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from syncline.stack import Stack


@dataclass(frozen=True)
class Addresses:
    bootstrap_servers: str
    registry_url: str


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack | Addresses]:
    """One stack for the whole run. Tests share it: use topic and group names of your own.

    `KAFKA_BOOTSTRAP_SERVERS` and `SCHEMA_REGISTRY_URL` point the tests at another cluster,
    `SYNCLINE_TEST_STACK=docker` starts one with testcontainers.
    """
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield Addresses(os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["SCHEMA_REGISTRY_URL"])
        return
    with Stack.start() as running:
        yield running


@pytest.fixture
def fresh_stack() -> Iterator[Callable[..., Stack]]:
    """Makes stacks that a test may kill. Each costs 1 to 4 s and 350 MB."""
    started: list[Stack] = []

    def start(**options: object) -> Stack:
        started.append(Stack.start(**options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for running in started:
        running.stop()

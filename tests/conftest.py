"""Fixtures for tests on real Kafka and a real registry."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from syncline import jars
from syncline.progress import Teller
from syncline.stack import Stack


@dataclass(frozen=True)
class Addresses:
    bootstrap_servers: str
    registry_url: str


@pytest.fixture(scope="session")
def java_files(pytestconfig: pytest.Config) -> None:
    """Kafka and the registry in the cache; a first download is seen, also while output is held."""
    if jars.missing(jars.cache_dir()):
        capture = pytestconfig.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled(), Teller() as teller:  # type: ignore[union-attr]
            teller.say("\ndownloading Kafka and the registry (once)")
            jars.fetch(jars.cache_dir(), teller.progress)


@pytest.fixture(scope="session")
def stack(java_files: None) -> Iterator[Stack | Addresses]:
    """One stack for the whole run. Tests share it: use topic and group names of your own.

    `KAFKA_BOOTSTRAP_SERVERS` and `SCHEMA_REGISTRY_URL` point the tests at another cluster, such
    as that of `docker compose up`.
    """
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield Addresses(os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["SCHEMA_REGISTRY_URL"])
        return
    with Stack.start() as running:
        yield running


@pytest.fixture
def fresh_stack(java_files: None) -> Iterator[Callable[..., Stack]]:
    """Makes stacks that a test may kill. Each costs 1 to 4 s and 350 MB."""
    with ExitStack() as ends:

        def start(data_dir: Path | None = None, *, registry: bool = True) -> Stack:
            return ends.enter_context(Stack.start(data_dir, registry=registry))

        yield start

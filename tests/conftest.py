"""Fixtures for tests on real Kafka and a real registry."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from syncline import jars
from syncline.progress import Teller
from syncline.stack import Stack
from tests import containers
from tests.containers import Addresses

# The same examples each time, so that a red run tells of the change that made it red; `make soak`
# looks for new ones.
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=300, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


class TwoHalves(LoadScopeScheduling):
    """One worker for what is end to end, which waits more than it computes and shares one Kafka,
    and one for the rest, which takes the worker's own tests too: so both end at about one time."""

    def _split_scope(self, nodeid: str) -> str:
        end_to_end = nodeid.startswith("tests/e2e/") and "/test_worker." not in nodeid
        return "end to end" if end_to_end else "the rest"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoHalves:
    return TwoHalves(config, log)


@pytest.fixture(autouse=True)
def logs_as_ever() -> Iterator[None]:
    """A command that runs inside of a test sets up the logs of all tests after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def java_files(pytestconfig: pytest.Config) -> None:
    """Kafka and the registry in the cache; a first download is seen, also while output is held."""
    if jars.missing(jars.cache_dir()):
        capture = pytestconfig.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled(), Teller() as teller:  # type: ignore[union-attr]
            teller.say("\ndownloading Kafka and the registry (once)")
            jars.fetch(jars.cache_dir(), teller.progress)


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack | Addresses]:
    """One stack for the whole run. Tests share it: use topic and group names of your own.

    `KAFKA_BOOTSTRAP_SERVERS` and `SCHEMA_REGISTRY_URL` point the tests at another cluster, such
    as that of `docker compose up`; `SYNCLINE_TEST_STACK=containers` starts one in Docker. Tests
    that kill brokers have stacks of their own, which are always embedded.
    """
    wanted = os.environ.get("SYNCLINE_TEST_STACK", "embedded")
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield Addresses(os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["SCHEMA_REGISTRY_URL"])
    elif wanted == "containers":
        try:
            with containers.running() as addresses:
                yield addresses
        except containers.NoDocker as error:
            pytest.fail(str(error), pytrace=False)
    elif wanted == "embedded":
        request.getfixturevalue("java_files")
        with Stack.start() as running:
            yield running
    else:
        pytest.fail(f"SYNCLINE_TEST_STACK is embedded or containers, not {wanted}", pytrace=False)


@pytest.fixture
def fresh_stack(java_files: None) -> Iterator[Callable[..., Stack]]:
    """Makes stacks that a test may kill. Each costs 1 to 4 s and 350 MB."""
    with ExitStack() as ends:

        def start(data_dir: Path | None = None, *, registry: bool = True) -> Stack:
            return ends.enter_context(Stack.start(data_dir, registry=registry))

        yield start

"""The tests' stack in Docker: told what docker-compose.yml says. It cannot be started where these
tests run; what is handed to Docker, and what is said where there is none, can be seen."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.containers import NoDocker, Plan, compose_file, plans, running

ROOT = Path(__file__).parents[2]
PORTS = {"kafka": 41_001, "registry": 41_002, "postgres": 41_003}
WORDS = "SYNCLINE_TEST_STACK=containers needs Docker, and none answers"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return compose_file()


@pytest.fixture
def planned(compose: dict[str, Any]) -> dict[str, Plan]:
    return {plan.name: plan for plan in plans(compose, PORTS, {})}


def test_what_needs_another_comes_after_it(planned: dict[str, Plan]) -> None:
    assert list(planned) == ["postgres", "kafka", "registry"]


def test_containers_are_told_what_compose_tells_them(
    compose: dict[str, Any], planned: dict[str, Plan]
) -> None:
    for name, plan in planned.items():
        service = compose["services"][name]
        told = {k: v for k, v in service["environment"].items() if "${" not in v}
        different = {k for k, v in told.items() if plan.environment[k] != v}
        assert different == ({"KAFKA_ADVERTISED_LISTENERS"} if name == "kafka" else set())
        assert plan.environment.keys() == service["environment"].keys()
        assert plan.image == service["image"]
        assert service["ports"][0].endswith(f":{plan.port_inside}")
        assert plan.port_here == PORTS[name]


def test_kafka_names_the_port_that_it_has_here(planned: dict[str, Plan]) -> None:
    kafka = planned["kafka"]
    listeners = kafka.environment["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert listeners == ["HOST://127.0.0.1:41001", "PLAINTEXT://kafka:19092"]
    assert f"HOST://:{kafka.port_inside}" in kafka.environment["KAFKA_LISTENERS"]


def test_a_password_of_the_environment_reaches_both_ends(compose: dict[str, Any]) -> None:
    for given, wanted in (({}, "syncline"), ({"POSTGRES_PASSWORD": "other"}, "other")):
        planned = {plan.name: plan.environment for plan in plans(compose, PORTS, given)}
        assert planned["postgres"]["POSTGRES_PASSWORD"] == wanted
        assert planned["registry"]["APICURIO_DATASOURCE_PASSWORD"] == wanted


def test_docker_is_handed_the_plan(
    planned: dict[str, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the call that would make the container."""
    from testcontainers.core import container as library
    from testcontainers.core.config import testcontainers_config

    from tests import containers

    handed: dict[str, Any] = {}

    class Client:
        def __init__(self, **_: Any) -> None: ...

        def create(self, image: str, **options: Any) -> SimpleNamespace:
            handed.update(options, image=image)
            return SimpleNamespace(short_id="made")

        def start(self, made: SimpleNamespace) -> None:
            handed["started"] = made.short_id

    class Network:
        name = "net"

    monkeypatch.setattr(library, "DockerClient", Client)
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    plan = planned["kafka"]
    containers._container(plan, Network()).start()
    assert handed["started"] == "made"
    assert handed["image"] == plan.image
    assert handed["environment"] == plan.environment
    assert handed["ports"] == {"9092/tcp": ("127.0.0.1", 41_001)}
    assert (handed["hostname"], handed["network"]) == ("kafka", "net")
    assert list(handed["networking_config"]["net"]["Aliases"]) == ["kafka"]


def test_without_docker_it_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(NoDocker) as caught, running():
        pass
    assert str(caught.value).startswith(WORDS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [("containers", WORDS), ("contaners", "SYNCLINE_TEST_STACK is embedded or containers")],
)
def test_tests_that_need_a_stack_say_so_in_one_line(tmp_path: Path, wanted: str, says: str) -> None:
    """pytest of its own, with one of the end-to-end tests."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA", "SCHEMA", "PYTEST"))}
    own |= {"DOCKER_HOST": f"unix://{tmp_path}/nobody.sock", "SYNCLINE_TEST_STACK": wanted}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x",
         "tests/e2e/test_stack.py::test_a_record_and_a_schema_go_through"],
        cwd=ROOT, env=own, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    told = [line for line in done.stdout.splitlines() if says in line]
    assert told
    assert "Traceback" not in done.stdout

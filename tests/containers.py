"""Kafka and the registry in Docker, for whoever runs the tests where Docker is at hand.

`SYNCLINE_TEST_STACK=containers make test`. What the containers are told is read from
docker-compose.yml, so there is one place for it; only the ports on this machine are others.
"""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from ruamel.yaml import YAML

__all__ = ["Addresses", "NoDocker", "Plan", "compose_file", "plans", "running"]

LOCAL = "127.0.0.1"
SERVICES = ("postgres", "kafka", "registry")
"""In the order in which they need each other."""
REGISTRY_PATH = "/apis/ccompat/v7"
DOCKER = "unix:///var/run/docker.sock"
READY_S = 120.0
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


class NoDocker(Exception):
    """One line that says what to do."""


@dataclass(frozen=True)
class Addresses:
    bootstrap_servers: str
    registry_url: str


@dataclass(frozen=True)
class Plan:
    """One container. Its service's name is its host name for the others."""

    name: str
    image: str
    environment: Mapping[str, str]
    port_inside: int
    port_here: int
    ready: tuple[str, ...] = ()
    """Command within that succeeds when it is ready; none: it is asked from outside."""


def compose_file() -> dict[str, Any]:
    return YAML(typ="safe").load(Path(__file__).parents[1] / "docker-compose.yml")


def plans(
    compose: Mapping[str, Any], ports: Mapping[str, int], environment: Mapping[str, str]
) -> list[Plan]:
    """What to start, in order. `ports`: service to its port here; `environment`: what `${NAME:-…}`
    of the compose file is looked up in. Pure."""
    found: list[Plan] = []
    for name in SERVICES:
        service = compose["services"][name]
        told = {k: _filled(str(v), environment) for k, v in service["environment"].items()}
        inside = int(service["ports"][0].rpartition(":")[2])
        plan = Plan(name, service["image"], told, inside, ports[name])
        if name == "kafka":
            there = told["KAFKA_ADVERTISED_LISTENERS"]
            here = re.sub(rf"HOST://{re.escape(LOCAL)}:\d+", f"HOST://{LOCAL}:{ports[name]}", there)
            plan = replace(plan, environment={**told, "KAFKA_ADVERTISED_LISTENERS": here})
        if name == "postgres":  # its first server, which fills the folder, listens to no network
            ready = ("pg_isready", "-h", LOCAL, "-U", told["POSTGRES_USER"])
            plan = replace(plan, ready=ready)
        found.append(plan)
    return found


def _filled(text: str, environment: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda m: environment.get(m[1]) or m[2], text)


@contextmanager
def running() -> Iterator[Addresses]:
    """The set, while in here. Raises NoDocker where no Docker answers, TimeoutError where a
    container is not ready after two minutes."""
    _reach_docker()
    from testcontainers.core.network import Network

    ports = {name: _free_port() for name in SERVICES}
    with ExitStack() as ends:
        network = ends.enter_context(Network())
        for plan in plans(compose_file(), ports, os.environ):
            container = ends.enter_context(_container(plan, network))
            if plan.ready:
                command = list(plan.ready)
                _await(plan.name, lambda c=container, w=command: c.exec(w).exit_code == 0)
        there = Addresses(
            f"{LOCAL}:{ports['kafka']}", f"http://{LOCAL}:{ports['registry']}{REGISTRY_PATH}"
        )
        admin = AdminClient({"bootstrap.servers": there.bootstrap_servers, "log_level": 0})
        _await("kafka", lambda: bool(admin.list_topics(timeout=2).brokers))
        subjects = f"{there.registry_url}/subjects"
        _await("registry", lambda: httpx.get(subjects, timeout=2).status_code == 200)
        yield there


def _container(plan: Plan, network: Any) -> Any:
    from testcontainers.core.container import DockerContainer

    container = DockerContainer(plan.image, env=dict(plan.environment), hostname=plan.name)
    container.with_network(network).with_network_aliases(plan.name)
    # Docker takes (address, port) here too, and nothing of ours listens beyond this machine.
    container.ports[f"{plan.port_inside}/tcp"] = (LOCAL, plan.port_here)  # type: ignore[assignment]
    return container


def _reach_docker() -> None:
    """Asked first, as the Docker client leaves its socket open where nobody answers."""
    from testcontainers.core.docker_client import get_docker_host  # only where asked for

    where = urlsplit(get_docker_host() or DOCKER)
    try:
        if where.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(where.path)
        elif where.hostname and where.port:
            socket.create_connection((where.hostname, where.port), 5).close()
    except OSError as error:
        raise NoDocker(
            f"SYNCLINE_TEST_STACK=containers needs Docker, and none answers at {where.geturl()} "
            f"({error.strerror or error}): start it, or leave the variable out for the embedded "
            "stack"
        ) from None


def _await(name: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        with suppress(KafkaException, httpx.HTTPError):
            if ready():
                return
        time.sleep(0.2)
    raise TimeoutError(f"the container {name} was not ready after {READY_S:g} s")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((LOCAL, 0))
        return int(sock.getsockname()[1])

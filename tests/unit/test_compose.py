"""docker-compose.yml cannot be run where these tests run: it is held against the published schema
of the Compose Specification, and against what the embedded stack does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from syncline import embedded, jars

ROOT = Path(__file__).parents[2]
VERSION = re.compile(r":(?!latest$)v?\d+(\.\d+)*$")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return YAML(typ="safe").load(ROOT / "docker-compose.yml")


def _validator() -> Draft202012Validator:
    schema = json.loads((ROOT / "tests" / "fixtures" / "compose-spec.json").read_text())
    return Draft202012Validator(schema)


def test_it_is_a_compose_file(compose: dict[str, Any]) -> None:
    assert [error.message for error in _validator().iter_errors(compose)] == []


def test_the_schema_refuses_a_mistake(compose: dict[str, Any]) -> None:
    compose = {**compose, "services": {"kafka": {"image": "apache/kafka", "prots": ["9092:9092"]}}}
    assert not _validator().is_valid(compose)


def test_kafka_has_the_embedded_brokers_settings(compose: dict[str, Any]) -> None:
    environment = compose["services"]["kafka"]["environment"]
    wanted = {
        "KAFKA_" + name.upper().replace(".", "_"): value for name, value in embedded.BROKER.items()
    }
    ports = {"broker": 1, "controller": 2}
    depends_on_place = embedded.broker_properties(ports, Path()).keys() - embedded.BROKER.keys()
    placed = {"KAFKA_" + name.upper().replace(".", "_") for name in depends_on_place}
    assert {k: v for k, v in environment.items() if k not in placed} == wanted
    assert placed <= environment.keys()


def test_the_registry_has_the_embedded_ones_rules(compose: dict[str, Any]) -> None:
    environment = compose["services"]["registry"]["environment"]
    assert embedded.REGISTRY.items() <= environment.items()


def test_versions_are_pinned_and_the_embedded_ones(compose: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in compose["services"].items()}
    assert all(VERSION.search(image) for image in images.values()), images
    assert images["kafka"].split(":")[1] == jars.KAFKA.split(":")[2]
    assert images["registry"].split(":")[1] == jars.APICURIO.split(":")[2]


def test_nothing_listens_beyond_this_machine(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service["ports"]]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_everything_named_is_declared(compose: dict[str, Any]) -> None:
    services = compose["services"].values()
    volumes = {v.split(":")[0] for s in services for v in s.get("volumes", ())}
    configs = {c["source"] for s in services for c in s.get("configs", ())}
    needed = {name for s in services for name in s.get("depends_on", ())}
    assert volumes == compose["volumes"].keys()
    assert configs == compose["configs"].keys()
    assert needed <= compose["services"].keys()
    for config in compose["configs"].values():
        assert YAML(typ="safe").load(config["content"])

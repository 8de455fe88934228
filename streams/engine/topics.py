"""Topics as a worker needs them; checked before it joins, so that a mistake says what it is."""

import time
from collections.abc import Collection, Mapping

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
    TopicDescription,  # pyright: ignore[reportPrivateImportUsage]
)

from streams.engine.settings import EngineSettings

__all__ = ["CHANGELOG", "Unfit", "prepare"]

DAY_MS = 24 * 3600 * 1000
CHANGELOG: Mapping[str, str] = {
    "cleanup.policy": "compact",
    "delete.retention.ms": str(7 * DAY_MS),  # longer than a local copy may be old, see restore.py
    "min.cleanable.dirty.ratio": "0.2",  # else a restore reads twice what is there
    "segment.ms": str(DAY_MS),
}
WAIT_S = 30.0
PATIENCE_S = 10.0


class Unfit(Exception):
    """Topics are missing or do not fit together; the text says which and how."""


def prepare(
    settings: EngineSettings, inputs: Collection[str], outputs: Collection[str],
    tables: Collection[str],
) -> tuple[int, dict[str, str]]:  # fmt: skip
    """(partitions of every input, table -> id of its changelog topic). Makes missing changelogs.

    Raises Unfit; KafkaException where Kafka is away.
    """
    admin = AdminClient(settings.client())
    admin.list_topics(timeout=PATIENCE_S)  # the first word with Kafka: is it there at all?
    changelogs = {settings.changelog(table): table for table in tables}
    found = _describe(admin, {*inputs, *outputs, *changelogs})
    if missing := sorted(name for name in {*inputs, *outputs} if name not in found):
        raise Unfit(f"missing topics: {', '.join(missing)}")
    counts = {name: len(found[name].partitions) for name in inputs}
    if len(set(counts.values())) != 1:
        raise Unfit(f"topics that are read need one number of partitions, but have {counts}")
    count = next(iter(counts.values()))
    absent = [name for name in changelogs if name not in found]
    if absent:
        limit = str(settings.record_bytes_max + 1024)
        config = {**CHANGELOG, "max.message.bytes": limit}
        new = [NewTopic(name, count, settings.replication_factor, config=config) for name in absent]
        for future in admin.create_topics(new, operation_timeout=WAIT_S).values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another worker did
                    raise
        found |= _await(admin, absent)
    for name in changelogs:
        if len(found[name].partitions) != count:
            raise Unfit(f"{name} has {len(found[name].partitions)} partitions, inputs have {count}")
    _check_limits(admin, settings.record_bytes_max, {*outputs, *changelogs})
    return count, {table: str(found[name].topic_id) for name, table in changelogs.items()}


def _await(admin: AdminClient, names: Collection[str]) -> dict[str, TopicDescription]:
    """Of topics just made: the broker asked may not know them yet."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = _describe(admin, names)
        if len(found) == len(names):
            return found
        if time.monotonic() > deadline:
            raise Unfit(f"made, but not found: {', '.join(sorted(set(names) - set(found)))}")
        time.sleep(0.1)


def _describe(admin: AdminClient, names: Collection[str]) -> dict[str, TopicDescription]:
    found = {}
    for name, future in admin.describe_topics(
        TopicCollection(sorted(names)), request_timeout=WAIT_S
    ).items():
        try:
            found[name] = future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
    return found


def _check_limits(admin: AdminClient, limit: int, names: Collection[str]) -> None:
    """A record that its topic refuses would fail every checkpoint again, for ever."""
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in sorted(names)]
    if not resources:
        return
    small = []
    for resource, future in admin.describe_configs(resources, request_timeout=WAIT_S).items():
        allowed = int(future.result()["max.message.bytes"].value)
        if allowed < limit:
            small.append(f"{resource.name} ({allowed})")
    if small:
        raise Unfit(
            f"record_bytes_max is {limit}; max.message.bytes is smaller on {', '.join(small)}"
        )

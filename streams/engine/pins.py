"""Names that are not ours to use and are used all the same: checked before a worker starts."""

from importlib.metadata import version
from inspect import signature
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import TopicPartitionState
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from streams.engine.transaction import check_group_metadata

__all__ = ["check_pins"]

VERSIONS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}
NAMES: dict[type[Any], tuple[str, ...]] = {
    AIOKafkaConsumer: ("pause", "resume", "seek"),
    Fetcher: ("fetched_records",),
    PartitionRecords: ("_consumer_record", "_unpack_records"),
    GroupCoordinator: ("_send_req", "_do_heartbeat", "_push_error_to_user"),
    TopicPartitionState: ("position", "has_valid_position"),
    Recovery: ("_restart_recovery", "_slurp_changelogs", "_publish_stats", "on_rebalance"),
    Consumer: ("_drain_messages", "ack", "commit", "wait_empty", "perform_seek"),
    AIOKafkaConsumerThread: ("_create_worker_consumer", "_fetch_records", "call_thread"),
}


def check_pins() -> list[str]:
    """What does not fit; empty where all is well."""
    wrong = [
        f"{name} is {version(name)}, tested with {wanted}"
        for name, wanted in VERSIONS.items()
        if version(name) != wanted
    ]
    wrong += [
        f"{owner.__module__}.{owner.__name__} has no {name}"
        for owner, names in NAMES.items()
        for name in names
        if not hasattr(owner, name)
    ]
    if list(signature(PartitionRecords._consumer_record).parameters) != ["self", "tp", "record"]:
        wrong.append("aiokafka's PartitionRecords._consumer_record takes other arguments")
    if different := check_group_metadata():
        wrong.append(different)
    return wrong

"""The process: one worker a platform, in one event loop; start, follow, stop."""

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from confluent_kafka.admin import AdminClient

from connectors.admin import Admin
from connectors.base import Http
from connectors.directory import Directory
from connectors.handover import Handover
from connectors.http import HttpClient
from connectors.wire import Wire
from connectors.worker import Worker
from schemas.codec import Codec
from schemas.topics import HANDOVER, commands_of, outcomes_of

__all__ = ["ConnectorsConfig", "TopicsMissing", "run", "serve"]

log = structlog.get_logger("connectors")

STOP_S = 9.0


class TopicsMissing(Exception):
    """Kafka is there, our topics are not; the text says which."""


@dataclass(frozen=True)
class ConnectorsConfig:
    """What one process needs to know."""

    kafka: Mapping[str, Any]
    """librdkafka settings for any client."""
    platforms: Sequence[str]
    slot: str = "0"
    """Stable name of this process; two that run at once never share one."""
    host: str = "127.0.0.1"
    admin_port: int = 0
    client: Callable[[str], Http] = field(default=HttpClient)


def run(config: ConnectorsConfig, codec: Codec) -> None:
    """Serve until SIGTERM or SIGINT. Raises TopicsMissing, KafkaException, TimeoutError, OSError
    (admin port taken)."""
    asyncio.run(serve(config, codec))


async def serve(config: ConnectorsConfig, codec: Codec, stop: asyncio.Event | None = None) -> None:
    """The same in a running loop."""
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    partitions = await asyncio.to_thread(_partitions, config)
    directory = await asyncio.to_thread(Directory, config.kafka, codec, config.client)
    handover = Handover(config.kafka, codec)
    wire = Wire(codec)
    workers: dict[str, Worker] = {}
    admin = Admin(config.host, config.admin_port, workers)
    for platform in config.platforms:
        workers[platform] = Worker(
            platform, config.kafka, wire, directory, handover, config.slot, partitions[platform]
        )
    await asyncio.gather(*(worker.start() for worker in workers.values()))
    directory.follow()
    log.info("connectors run", platforms=list(workers), slot=config.slot, admin_port=admin.port)
    await stop.wait()
    log.info("connectors stop")
    try:
        async with asyncio.timeout(STOP_S):
            await asyncio.gather(*(worker.stop() for worker in workers.values()))
    except TimeoutError:
        log.warning("stopped before all was handed back; a successor does it again")
    handover.close()
    await directory.close()
    admin.close()


def _partitions(config: ConnectorsConfig) -> dict[str, int]:
    """Platform to the partitions of its outcomes. Blocking."""
    there = AdminClient(dict(config.kafka)).list_topics(timeout=15).topics
    wanted = {t for p in config.platforms for t in (commands_of(p), outcomes_of(p))} | {HANDOVER}
    if missing := sorted(wanted - there.keys()):
        raise TopicsMissing(
            f"topics are missing: {', '.join(missing)}; `syncline topics` makes them"
        )
    for platform in config.platforms:
        counts = {len(there[t].partitions) for t in (commands_of(platform), HANDOVER)}
        if len(counts) > 1:
            raise TopicsMissing(
                f"{commands_of(platform)} and {HANDOVER} differ in their number of partitions"
            )
    return {p: len(there[outcomes_of(p)].partitions) for p in config.platforms}

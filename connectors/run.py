"""The process: one worker a platform, in one event loop; start, follow, stop."""

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
import uvloop
from confluent_kafka.admin import AdminClient

from connectors.admin import Admin
from connectors.base import Http
from connectors.directory import Directory
from connectors.handover import Handover
from connectors.http import HttpClient
from connectors.wire import Wire
from connectors.worker import Worker
from schemas import collector
from schemas.codec import Codec
from schemas.kafka_log import KAFKA_LOG
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
    platforms: Sequence[str] = ()
    """None: those that the definitions name, also when they come to name more."""
    slot: str = "0"
    """Stable name of this process; two that run at once never share one."""
    host: str = "127.0.0.1"
    admin_port: int = 0
    client: Callable[[str], Http] = field(default=HttpClient)


def run(config: ConnectorsConfig, codec: Codec) -> None:
    """Serve until SIGTERM or SIGINT. Raises TopicsMissing, KafkaException, TimeoutError, OSError
    (admin port taken)."""
    uvloop.run(serve(config, codec))


async def serve(config: ConnectorsConfig, codec: Codec, stop: asyncio.Event | None = None) -> None:
    """The same in a running loop."""
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    directory = await asyncio.to_thread(Directory, config.kafka, codec, config.client)
    handover = Handover(config.kafka, codec)
    wire = Wire(codec)
    workers: dict[str, Worker] = {}
    admin = Admin(config.host, config.admin_port, workers)

    async def take_up() -> None:
        """Workers for the platforms that have none yet."""
        wanted = config.platforms or directory.platforms
        if not (more := [platform for platform in wanted if platform not in workers]):
            return
        partitions = await asyncio.to_thread(_partitions, config, more)
        for platform in more:
            workers[platform] = Worker(
                platform, config.kafka, wire, directory, handover, config.slot, partitions[platform]
            )
        await asyncio.gather(*(workers[platform].start() for platform in more))
        log.info("connectors run", platforms=more, slot=config.slot, admin_port=admin.port)

    await take_up()
    changed = asyncio.Event()
    directory.changed.append(changed.set)
    directory.follow()
    collector.calm()
    while not stop.is_set():
        await _first(stop, changed)
        changed.clear()
        await take_up()
    log.info("connectors stop")
    try:
        async with asyncio.timeout(STOP_S):
            await asyncio.gather(*(worker.stop() for worker in workers.values()))
    except TimeoutError:
        log.warning("stopped before all was handed back; a successor does it again")
    handover.close()
    await directory.close()
    admin.close()


async def _first(*events: asyncio.Event) -> None:
    """Until one of them is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _partitions(config: ConnectorsConfig, platforms: Sequence[str]) -> dict[str, int]:
    """Platform to the partitions of its outcomes. Blocking."""
    there = AdminClient({"logger": KAFKA_LOG, **config.kafka}).list_topics(timeout=15).topics
    wanted = {t for p in platforms for t in (commands_of(p), outcomes_of(p))} | {HANDOVER}
    if missing := sorted(wanted - there.keys()):
        raise TopicsMissing(
            f"topics are missing: {', '.join(missing)}; `syncline topics` makes them"
        )
    for platform in platforms:
        counts = {len(there[t].partitions) for t in (commands_of(platform), HANDOVER)}
        if len(counts) > 1:
            raise TopicsMissing(
                f"{commands_of(platform)} and {HANDOVER} differ in their number of partitions"
            )
    return {p: len(there[outcomes_of(p)].partitions) for p in platforms}

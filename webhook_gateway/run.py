"""The process: start, follow definitions, stop."""

import asyncio
import contextlib
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
import uvloop
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from schemas import collector, topics
from schemas.definitions import Definition
from schemas.follow import Definitions
from schemas.secrets import resolve
from webhook_gateway.admin import admin_server
from webhook_gateway.config import GatewayConfig
from webhook_gateway.edge import Edge
from webhook_gateway.guard import Networks
from webhook_gateway.hooks import Hooks
from webhook_gateway.publisher import Publisher
from webhook_gateway.registry import RegistryAway, codec_of
from webhook_gateway.routes import Misconfigured, Routes

__all__ = ["run"]

log = structlog.get_logger()

AWAY = (KafkaException, TimeoutError, RegistryAway, OSError)
Made = TypeVar("Made")

RETRY_S = 1.0
REFRESH_S = 0.5


class TopicsMissing(Exception):
    """Kafka is there, our topics are not."""


class NeverReady(Exception):
    """Kafka, the registry or the topics stayed away for `start_s`."""


def run(config: GatewayConfig) -> int:
    """Serve until SIGTERM or SIGINT; -> exit code: 0 stopped, 1 Kafka or the registry never
    came, 2 misconfigured. Raises OSError where a port is taken or a TLS file is no good, ValueError
    where a proxy is no network."""
    return uvloop.run(_serve(config))


async def _serve(config: GatewayConfig) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _allow_open_files(config.bounds.peers_max)

    secure = config.tls.context() if config.tls else None
    hooks = Hooks(config.bounds, proxies=Networks(config.proxies))
    hooks.edge = edge = Edge(hooks.handle, config.bounds)
    listener = _listen(config.host, config.port)
    port = listener.getsockname()[1]
    scheme = "https" if secure else "http"
    hooks.public_url = (config.public_url or f"{scheme}://{config.host}:{port}").rstrip("/")
    server = await loop.create_server(edge, sock=listener, backlog=1024, **_tls(secure, config))
    admin = await admin_server(hooks, config)
    log.info("gateway listens", port=port, admin_port=admin.addresses[0][1])

    follower = asyncio.create_task(_start(hooks, config))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({follower, stopping}, return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if follower.done():
        match follower.exception():
            case Misconfigured() as error:
                log.error(str(error))
                code = 2
            case NeverReady() as error:
                log.error(str(error))
                code = 1
            case None:
                await stopping
            case error:
                raise error
    follower.cancel()
    server.close()
    whole = await edge.drain(config.bounds.drain_s if code == 0 else 0)
    if hooks.publisher is not None:
        await hooks.publisher.close(1.0)
    await admin.cleanup()
    log.info("gateway stopped", drained=whole)
    return code


def _tls(secure: ssl.SSLContext | None, config: GatewayConfig) -> dict[str, Any]:
    """A hand-shake or a farewell that drags on is cut off like headers that do."""
    if secure is None:
        return {}
    wait_s = config.bounds.head_s
    return {"ssl": secure, "ssl_handshake_timeout": wait_s, "ssl_shutdown_timeout": 1.0}


def _listen(host: str, port: int) -> socket.socket:
    """SO_REUSEPORT: several gateways share a port, the kernel deals connections out to them."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.setblocking(False)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _allow_open_files(peers_max: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = peers_max + 256
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    else:
        log.warning("fewer open files than connections", allowed=hard, wanted=wanted)


async def _start(hooks: Hooks, config: GatewayConfig) -> None:
    """Ready the gateway, then hand definitions over to a thread that follows them.

    Raises Misconfigured, or NeverReady.
    """
    loop = asyncio.get_running_loop()
    publisher = Publisher(config.kafka, messages_max=config.bounds.queue_messages_max)
    routes, definitions = await _patiently(lambda: _read(config), config.start_s)
    active = definitions.active("connection").values()
    if wrong := routes.load(active):
        await publisher.close(0)
        raise wrong[0]
    hooks.routes, hooks.publisher = routes, publisher
    log.info("gateway serves", connections=sorted(routes.table))

    def reload(active: list[Definition]) -> None:
        for error in routes.load(active):
            log.error("kept as it was", error=str(error))
        log.info("gateway serves", connections=sorted(routes.table))

    def follow() -> None:
        said = ""
        while True:
            try:
                changed = definitions.refresh(REFRESH_S)
            except KafkaException as error:
                if (text := _name(error)) != said:
                    said = text
                    log.warning("definitions cannot be followed", why=text)
                threading.Event().wait(RETRY_S)
                continue
            if changed:
                with contextlib.suppress(RuntimeError):  # the loop has ended: so does the process
                    loop.call_soon_threadsafe(
                        reload, list(definitions.active("connection").values())
                    )

    collector.calm()
    threading.Thread(target=follow, name="definitions", daemon=True).start()


def _read(config: GatewayConfig) -> tuple[Routes, Definitions]:
    """Blocking. Raises one of AWAY, or TopicsMissing."""
    present = AdminClient(dict(config.kafka)).list_topics(timeout=5).topics
    if missing := sorted(_topics_written() - present.keys()):
        raise TopicsMissing(
            f"topics are missing: {', '.join(missing)}; `syncline topics` makes them"
        )
    codec = codec_of({"url": config.registry_url, **config.registry})
    certificates = config.tls is not None and config.tls.client_ca is not None
    routes = Routes(codec, resolve, certificates=certificates)
    return routes, Definitions(config.kafka, codec)


def _topics_written() -> set[str]:
    return {t.name for t in topics.TOPICS if "webhook_gateway" in t.writers} | {topics.DEFINITIONS}


async def _patiently(
    read: Callable[[], tuple[Routes, Definitions]], wait_s: float
) -> tuple[Routes, Definitions]:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + wait_s
    said = ""
    while True:
        try:
            return await _in_daemon(read)
        except (*AWAY, TopicsMissing) as error:
            if (text := _name(error)) != said:
                said = text
                log.warning("not ready", why=text)
            if loop.time() > deadline_s:
                raise NeverReady(f"gave up after {wait_s:g} s: {text}") from None
        await asyncio.sleep(RETRY_S)


async def _in_daemon(read: Callable[[], Made]) -> Made:
    """In a thread that nobody waits for: SIGTERM need not sit out a time-out of Kafka's."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Made] = loop.create_future()

    def work() -> None:
        try:
            made, error = read(), None
        except Exception as caught:  # noqa: BLE001 - the caller's to judge
            made, error = None, caught
        with contextlib.suppress(RuntimeError):  # the loop has ended: so does the process
            loop.call_soon_threadsafe(tell, made, error)

    def tell(made: Any, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(made)

    threading.Thread(target=work, daemon=True).start()
    return await future


def _name(error: Exception) -> str:
    if isinstance(error, KafkaException) and error.args:
        kafka: KafkaError = error.args[0]
        return f"Kafka: {kafka.str()}"
    if isinstance(error, TopicsMissing):
        return str(error)
    if isinstance(error, RegistryAway):
        return f"schema registry: {error}"
    return f"{type(error).__name__}: {error}"

"""The gateway's edge over real sockets, with Kafka played: what its unit tests share."""

import asyncio
import hashlib
import json
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from schemas.codec import Codec
from schemas.definitions import Definition
from webhook_gateway.config import Bounds
from webhook_gateway.edge import Edge
from webhook_gateway.hooks import Hooks
from webhook_gateway.publisher import Record, Unconfirmed
from webhook_gateway.routes import Routes

SECRET = "secret"
BODY = b'[{"subscriptionType":"contact.creation","objectId":1,"portalId":33}]'
BOUNDS = Bounds(peers_max=20, requests_max=3, bytes_max=100_000, head_s=0.5, idle_s=1.0)


@dataclass
class Memory:
    """Stands for Kafka: keeps records, confirms them when told to."""

    refuses: str = ""
    room: int = 50_000
    error: str = ""
    held: bool = False
    records: list[Record] = field(default_factory=list)
    offered: list[Record] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def publish(self, records: Sequence[Record], wait_s: float) -> asyncio.Future[None]:
        assert 0 < wait_s <= 10
        self.records.extend(records)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.error:
            future.set_exception(Unconfirmed(self.error))
        elif self.held:
            self.waiting.append(future)
        else:
            future.set_result(None)
        return future

    def confirm(self) -> None:
        self.held = False
        for future in self.waiting:
            future.set_result(None)

    def offer(self, record: Record) -> None:
        self.offered.append(record)


@dataclass
class World:
    hooks: Hooks
    edge: Edge
    kafka: Memory
    server: asyncio.Server
    port: int
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(
        self, secure: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=secure)
        self.writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        self.server.close()
        await self.edge.drain(0)
        for writer in self.writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def ask(
        self, data: bytes, *, until_closed: bool = False, secure: ssl.SSLContext | None = None
    ) -> tuple[int, bytes]:
        """-> (status, everything of the answer). `until_closed`: the server must hang up."""
        reader, writer = await self.connect(secure)
        writer.write(data)
        answer = await asyncio.wait_for(answer_of(reader), 5)
        if until_closed:
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        return int(answer.split()[1]), answer

    @property
    def stats(self) -> Any:
        assert self.hooks.routes is not None
        return self.hooks.routes.table["hub"].stats


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.startswith(b"Content-Length")
    )
    return head + await reader.readexactly(length)


def post(
    body: bytes = BODY, *, path: str = "/hooks/hub", secret: str = SECRET, **headers: str
) -> bytes:
    proof = hashlib.sha256(secret.encode() + body).hexdigest()
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: h\r\nX-HubSpot-Signature: {proof}\r\n"
        f"X-HubSpot-Signature-Version: v1\r\n{extra}"
    )
    if "Transfer_Encoding" not in headers and "Content_Length" not in headers:
        head += f"Content-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def definition(name: str, *, webhook: dict[str, Any] | None = None, **fields: Any) -> Definition:
    document = {
        "connection": name,
        "platform": "hubspot",
        "account": "33",
        "webhook": {"secret": "env:SECRET", **(webhook or {})},
    } | fields
    return Definition(
        kind="connection", name=name, version=1, document=json.dumps(document), applied_ms=1
    )


async def world_of(
    *definitions: Definition, bounds: Bounds = BOUNDS, secure: ssl.SSLContext | None = None
) -> World:
    routes = Routes(Codec.offline(), lambda _: SecretStr(SECRET))
    assert not routes.load(definitions)
    kafka = Memory()
    hooks = Hooks(bounds, "https://hooks.example.com")
    hooks.edge = edge = Edge(hooks.handle, bounds)
    hooks.routes, hooks.publisher = routes, kafka  # type: ignore[assignment]
    server = await asyncio.get_running_loop().create_server(edge, "127.0.0.1", 0, ssl=secure)
    return World(hooks, edge, kafka, server, server.sockets[0].getsockname()[1])


async def until(true: Callable[[], Any]) -> None:
    """What the other side of a socket does has no event of ours to wait for."""
    deadline_s = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)

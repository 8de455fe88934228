"""The HTTP edge: aiohttp's low-level server, bounded in time and number. Knows nothing of webhooks.

Answers are bytes made once. A peer that is slow with its headers, or idle for long, is let go;
where there are too many, the one that has been quiet longest goes.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast

import structlog
from aiohttp.web import BaseRequest, Server, StreamResponse
from aiohttp.web_protocol import RequestHandler

from webhook_gateway.config import Bounds

__all__ = ["Answer", "Edge", "Handler", "answer", "is_whole"]

log = structlog.get_logger()

SWEEP_S = 1.0
UNREAD_S = 10.0
"""A peer that sends and does not read our answers is let go after this."""
HEADERS_MAX = 64
HEADER_BYTES_MAX = 8190  # each; also the longest request line

Handler = Callable[[BaseRequest], Awaitable["Answer"]]


class Answer:
    """A whole HTTP answer. What aiohttp asks of a response, and no more."""

    __slots__ = ("data", "keep_alive", "status")

    def __init__(self, status: int, data: bytes, *, keep_alive: bool) -> None:
        self.status, self.data, self.keep_alive = status, data, keep_alive

    async def prepare(self, request: BaseRequest) -> None:
        if (transport := request.transport) is None:
            raise ConnectionResetError("the peer is gone")
        transport.write(self.data)
        peer = cast("Peer", request.protocol)
        if peer.is_paused:
            await peer.read_at_last()

    async def write_eof(self) -> None:
        """All is written by `prepare`."""


@lru_cache(maxsize=256)  # the answers that exist, each kept alive or closing
def answer(
    status: int,
    body: bytes = b"",
    content_type: str = "text/plain",
    retry_after_s: int = 0,
    *,
    keep_alive: bool = True,
    head: bool = False,
) -> Answer:
    """Says nothing of who we are. `head`: the answer to a HEAD request has no body."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(body)}"]
    if body:
        lines.append(f"Content-Type: {content_type}")
    if retry_after_s:
        lines.append(f"Retry-After: {retry_after_s}")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD, POST")
    if not keep_alive:
        lines.append("Connection: close")
    data = "\r\n".join([*lines, "", ""]).encode() + (b"" if head else body)
    return Answer(status, data, keep_alive=keep_alive)


def is_whole(request: BaseRequest) -> None:
    """The body has been read: from here on its peer waits for us, and is not let go for another."""
    cast("Peer", request.protocol).reading = False


class Peer(RequestHandler):
    """One TCP connection. `head_s`: since when it owes us the rest of a request's headers;
    `reading`: it may owe us the rest of a body; `surplus`: there is no room for it."""

    __slots__ = ("busy", "head_s", "quiet_s", "reading", "surplus")

    def __init__(self, edge: "Edge", *, surplus: bool, **options: Any) -> None:
        super().__init__(edge, **options)
        self.busy = self.reading = False
        self.surplus = surplus
        self.head_s: float | None = None
        self.quiet_s = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.surplus:
            cast("asyncio.Transport", transport).abort()
        else:
            super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self.surplus:
            super().connection_lost(exc)

    @property
    def is_paused(self) -> bool:
        """More is written than the peer has read."""
        return self._paused

    async def read_at_last(self) -> None:
        """Until it has read. Raises ConnectionResetError where it does not: it is let go."""
        try:
            async with asyncio.timeout(UNREAD_S):
                await self._drain_helper()
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()  # a mere close would wait until all is read
            raise ConnectionResetError("the peer does not read") from None

    def data_received(self, data: bytes) -> None:
        if self.head_s is None and not self.busy:
            self.head_s = self._loop.time()
        super().data_received(data)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp asks for it after every piece of a body, also where nothing has been paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        """In place of aiohttp's page, which tells a stranger what we run and what went wrong."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and exc is not None:
            frames = traceback.extract_tb(exc.__traceback__)
            where = [f"{f.filename}:{f.lineno}" for f in frames[-3:]]
            log.error("a request failed", error=type(exc).__name__, where=where)
        return cast("StreamResponse", answer(status, keep_alive=False))


class Edge(Server):
    """All peers of one listening socket."""

    def __init__(self, handler: Handler, bounds: Bounds) -> None:
        self._inner, self._bounds = handler, bounds
        self.draining = False
        super().__init__(self._handle, request_factory=self._request)  # pyright: ignore[reportArgumentType]  # an Answer is all the response it needs
        self._sweeper = self._loop.create_task(self._sweep())

    def __call__(self) -> RequestHandler:
        full = len(self._connections) >= self._bounds.peers_max
        return Peer(
            self,
            surplus=full and not self._let_go_quietest(),
            loop=self._loop,
            keepalive_timeout=self._bounds.idle_s,
            access_log=None,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            lingering_time=1.0,
            auto_decompress=False,
        )

    def _request(
        self, message: Any, payload: Any, peer: Peer, writer: Any, task: "asyncio.Task[None]"
    ) -> BaseRequest:
        """The headers are whole: the peer is busy from here until its answer is written."""
        peer.busy, peer.reading, peer.head_s, peer.quiet_s = True, True, None, self._loop.time()
        return BaseRequest(message, payload, peer, writer, task, self._loop)

    async def _handle(self, request: BaseRequest) -> Answer:
        peer = cast("Peer", request.protocol)
        try:
            return await self._inner(request)
        finally:
            peer.busy, peer.reading, peer.quiet_s = False, False, self._loop.time()

    def _let_go_quietest(self) -> bool:
        """Of all that do not wait for us; -> whether there was one."""
        waiting = [p for p in map(_peer, self.connections) if p.reading or not p.busy]
        if waiting:
            min(waiting, key=lambda peer: peer.quiet_s).force_close()
        return bool(waiting)

    async def _sweep(self) -> None:
        """Once a second: who has been at the headers of one request for too long."""
        while True:
            await asyncio.sleep(SWEEP_S)
            oldest_s = self._loop.time() - self._bounds.head_s
            for peer in self.connections:
                head_s = cast("Peer", peer).head_s
                if head_s is not None and head_s < oldest_s:
                    peer.force_close()

    async def drain(self, wait_s: float) -> bool:
        """Let what is under way end, headers that have begun included; -> whether all of it did.

        Close the listening socket first.
        """
        self.draining = True
        deadline_s = self._loop.time() + wait_s
        while under_way := [p for p in map(_peer, self.connections) if p.busy or p.head_s]:
            self._close_idle()
            if self._loop.time() > deadline_s:
                break
            await asyncio.sleep(0.02)
        self._sweeper.cancel()
        await self.shutdown(0.1)
        return not under_way

    def _close_idle(self) -> None:
        for peer in map(_peer, self.connections):
            if not peer.busy and peer.head_s is None:
                peer.force_close()


def _peer(handler: RequestHandler) -> Peer:
    return cast("Peer", handler)

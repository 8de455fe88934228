"""The HTTP edge: a protocol of asyncio around llhttp, bounded in time and number. Knows nothing of
webhooks.

Requests of a peer are answered in their order, by one task while it has any. A peer that is slow
with its headers, or idle for long, is let go; where there are too many, the one that has been quiet
longest goes.
"""

import asyncio
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import structlog
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from webhook_gateway.config import Bounds
from webhook_gateway.http import Answer, Headers, Incoming, answer

__all__ = ["Edge", "Handler", "Peer"]

log = structlog.get_logger()

SWEEP_S = 1.0
UNREAD_S = 10.0
"""A peer that sends and does not read our answers is let go after this."""
LINGER_S = 1.0
"""After a last answer what still comes is thrown away for so long: hanging up on somebody who is
sending would take the answer from him."""
HEADERS_MAX = 64
HEADER_BYTES_MAX = 8190  # each; also the longest request line
HEAD_BYTES_MAX = HEADERS_MAX * HEADER_BYTES_MAX
PIPELINED_MAX = 256
"""Requests of one peer that wait behind another of it."""
UNREAD_MAX = 256 * 1024
"""Bytes of a body that nobody has taken; beyond, its peer has to wait."""

Handler = Callable[[Incoming], Awaitable[Answer]]


class Excessive(HttpParserError):
    """More, or longer, headers than anybody needs; or what nobody may ask of us."""


class Peer(asyncio.Protocol):
    """One TCP connection. `head_s`: since when it owes us the rest of a request's headers;
    `reading`: it may owe us the rest of a body."""

    __slots__ = (
        "_ended", "_header_count", "_headers", "_incoming", "_loop", "_moved", "_parser", "_paused",
        "_queue", "_since_bytes", "_target", "_task", "_unread", "edge", "head_s", "quiet_s",
        "reading", "transport",
    )  # fmt: skip

    def __init__(self, edge: "Edge") -> None:
        self.edge, self._loop = edge, edge.loop
        self.transport: asyncio.Transport | None = None
        self._parser = HttpRequestParser(self)
        self._target, self._headers, self._header_count = b"", Headers(), 0
        self._queue: deque[Incoming | None] = deque()  # None: what is no HTTP
        self._incoming: Incoming | None = None  # of which the body is still coming
        self._task: asyncio.Task[None] | None = None
        self._unread: asyncio.Future[None] | None = None  # until it has read our answers
        self._ended = False  # nothing more is taken of it
        self._paused = self._moved = self.reading = False
        self._since_bytes = 0  # that came since a header section or piece of a body was whole
        self.head_s: float | None = None
        self.quiet_s = self._loop.time()

    @property
    def busy(self) -> bool:
        """It waits for an answer."""
        return self._task is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if not self.edge.admits(self):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport, self._ended = None, True
        self.edge.peers.discard(self)
        self._queue.clear()
        self._break_off()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._moved = False
        try:
            self._feed(data)
            self._count(len(data))
        except HttpParserError:  # an exception of ours, too, comes as one
            self._ended, self.head_s = True, None
            if self._incoming is None:
                self._queue.append(None)
            self._break_off()  # whoever reads the body answers
        if self._task is None:
            if self._queue:
                self._task = self._loop.create_task(self._serve())
        elif self._queue:
            self._pause()
        else:
            self.flow()

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = self._not_upgraded() + data[upgrade.args[0] :]
            else:
                return

    def _not_upgraded(self) -> bytes:
        """For a request that wants to go on with another protocol, as some clients ask of anybody:
        its head, to be read once more as if it had not asked. The parser takes it to be whole."""
        asked = self._queue.pop()
        assert asked is not None
        if asked.method == "CONNECT":
            raise Excessive
        lines = [f"{name}: {value}" for name, value in asked.headers.items() if name != "upgrade"]
        head = [f"{asked.method} {asked.target} HTTP/{self._parser.get_http_version()}", *lines]
        return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape")

    def _count(self, count: int) -> None:
        """What drips without end, and where nothing else bounds it: a header, a chunk's size."""
        self._since_bytes = 0 if self._moved else self._since_bytes + count
        if self._since_bytes > HEAD_BYTES_MAX:
            raise Excessive

    def eof_received(self) -> bool:
        """Who sends no more may still read. (TLS has no such half of a farewell.)"""
        self._ended, self.head_s = True, None
        self._break_off()
        return self.busy and self.transport is not None and self.transport.can_write_eof()

    def pause_writing(self) -> None:
        self._unread = self._loop.create_future()

    def resume_writing(self) -> None:
        unread, self._unread = self._unread, None
        if unread is not None and not unread.done():
            unread.set_result(None)

    # What the parser finds.

    def on_message_begin(self) -> None:
        self._moved, self.head_s = True, self._loop.time()
        self._target, self._headers, self._header_count = b"", Headers(), 0

    def on_url(self, piece: bytes) -> None:
        self._target += piece
        if len(self._target) > HEADER_BYTES_MAX:
            raise Excessive

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        if len(name) + len(value) > HEADER_BYTES_MAX or self._header_count >= HEADERS_MAX:
            raise Excessive
        self._header_count += 1
        if self._incoming is not None:
            return  # after the body: nobody here reads those
        key = name.decode("latin-1").lower()
        text = value.decode("utf-8", "surrogateescape").strip(" \t")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        if len(self._queue) >= PIPELINED_MAX:
            raise Excessive
        self._moved, self.head_s, self.quiet_s = True, None, self._loop.time()
        self._incoming = Incoming(
            self,
            self._parser.get_method().decode(),
            self._target.decode("utf-8", "surrogateescape"),
            self._headers,
            self._parser.should_keep_alive(),
        )
        self._queue.append(self._incoming)

    def on_body(self, piece: bytes) -> None:
        assert self._incoming is not None
        self._moved = True
        self._incoming.came(piece)

    def on_message_complete(self) -> None:
        assert self._incoming is not None
        self._moved = True
        self._incoming.ended()
        self._incoming = None

    # What becomes of it.

    async def _serve(self) -> None:
        try:
            await self._answer_all()
        finally:
            self._task, self.quiet_s = None, self._loop.time()
        if self.head_s is not None:
            self.head_s = self.quiet_s  # what it sent meanwhile may not have been read
        self.flow()

    async def _answer_all(self) -> None:
        while self._queue:
            incoming = self._queue.popleft()
            self.reading = True
            told = await self._answer_to(incoming)
            self.reading = False
            if self.transport is None:
                break
            self.transport.write(told.data)
            if self._unread is not None:
                await self._until_read(self._unread)
            if not told.keep_alive or (self._ended and not self._queue):
                self._hang_up()
                break

    async def _answer_to(self, incoming: Incoming | None) -> Answer:
        if incoming is None:
            return answer(400, keep_alive=False)
        try:
            return await self.edge.handler(incoming)
        except Exception as error:  # noqa: BLE001 - a fault of ours costs this request
            frames = traceback.extract_tb(error.__traceback__)
            where = [f"{f.filename}:{f.lineno}" for f in frames[-3:]]
            log.error("a request failed", error=type(error).__name__, where=where)
            return answer(500, keep_alive=False)

    async def _until_read(self, unread: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout(UNREAD_S):
                await unread
        except TimeoutError:
            self.let_go()

    def flow(self) -> None:
        """Read on, unless more has come of a body than was taken."""
        if self._incoming is not None and self._incoming.unread > UNREAD_MAX:
            self._pause()
        elif self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()

    def _pause(self) -> None:
        if not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def _break_off(self) -> None:
        if self._incoming is not None:
            self._incoming.broke_off()
            self._incoming = None

    def _hang_up(self) -> None:
        """After a last answer."""
        self._queue.clear()
        if self.transport is None:
            return
        if self._incoming is None:
            self.close()
            return
        self._ended = True
        if self.transport.can_write_eof():
            with suppress(OSError):  # it has gone meanwhile
                self.transport.write_eof()
        self._loop.call_later(LINGER_S, self.close)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def close(self) -> None:
        """What is written goes out first."""
        self._ended = True
        if self.transport is not None:
            self.transport.close()
            if self.transport.get_write_buffer_size():
                self._loop.call_later(UNREAD_S, self.let_go)

    def let_go(self) -> None:
        """At once."""
        self._ended = True
        if self.transport is not None:
            self.transport.abort()


class Edge:
    """All peers of one listening socket: `loop.create_server(edge, …)`."""

    def __init__(self, handler: Handler, bounds: Bounds) -> None:
        self.handler, self._bounds = handler, bounds
        self.loop = asyncio.get_running_loop()
        self.peers: set[Peer] = set()
        self.draining = False
        self._sweeper = self.loop.create_task(self._sweep())

    def __call__(self) -> Peer:
        return Peer(self)

    def admits(self, peer: Peer) -> bool:
        if len(self.peers) >= self._bounds.peers_max and not self._let_go_quietest():
            return False
        self.peers.add(peer)
        return True

    def _let_go_quietest(self) -> bool:
        """Of all that do not wait for us; -> whether there was one."""
        waiting = [p for p in self.peers if p.reading or not p.busy]
        if waiting:
            quietest = min(waiting, key=lambda peer: peer.quiet_s)
            self.peers.discard(quietest)
            quietest.close()
        return bool(waiting)

    async def _sweep(self) -> None:
        """Once a second: who has been at the headers of one request, or idle, for too long."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = self.loop.time()
            for peer in [p for p in self.peers if not p.busy]:
                if peer.head_s is None:
                    late = now_s - peer.quiet_s > self._bounds.idle_s
                else:
                    late = now_s - peer.head_s > self._bounds.head_s
                if late:
                    peer.close()

    async def drain(self, wait_s: float) -> bool:
        """Let what is under way end, headers that have begun included; -> whether all of it did.

        Close the listening socket first.
        """
        self.draining = True
        deadline_s = self.loop.time() + wait_s
        while under_way := [p for p in self.peers if p.busy or p.head_s is not None]:
            for peer in self.peers.difference(under_way):
                peer.close()
            if self.loop.time() > deadline_s:
                break
            await asyncio.sleep(0.02)
        self._sweeper.cancel()
        for peer in [*self.peers]:
            peer.close()
        return not under_way

"""What is answered to whom: bounds, then proof, then Kafka, then 2xx. Never the other way round."""

import asyncio
import os
import re
import time
from dataclasses import dataclass, field

import structlog
from aiohttp.client_exceptions import ClientError
from aiohttp.web import BaseRequest, RequestPayloadError

from webhook_gateway import intake
from webhook_gateway.config import Bounds
from webhook_gateway.edge import Answer, Edge, answer
from webhook_gateway.publisher import Publisher, Unconfirmed
from webhook_gateway.routes import Route, Routes
from webhook_gateway.senders.base import Part, Refused, Request, SenderSpec, Unparseable

__all__ = ["Hooks"]

log = structlog.get_logger()

PATH = "/hooks/"
READ_S_MAX = 10.0
CONFIRM_S_MAX = 10.0
ANSWER_MARGIN_S = 0.8
"""We say 503 so long before the sender would give up."""
RETRY_AFTER_S = 2
TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(slots=True)
class Hooks:
    """The handler of the public port. `routes` and `publisher` come when Kafka has been read."""

    bounds: Bounds
    public_url: str = ""
    routes: Routes | None = None
    publisher: Publisher | None = None
    edge: Edge | None = None
    bytes_in_hand: int = field(default=0, init=False)

    def not_ready(self) -> str:
        """Why no webhook can be taken now; empty where they can."""
        if self.edge is not None and self.edge.draining:
            return "stopping"
        if self.routes is None or self.publisher is None:
            return "starting"
        return self.publisher.refuses

    async def handle(self, request: BaseRequest) -> Answer:
        """GET and HEAD of a hook are senders' checks of the address: 200, whoever asks."""
        target, method = request.raw_path, request.method
        path = target.partition("?")[0]
        if path.startswith(PATH) and method == "POST":
            return await self._hook(request, target, path)
        if method not in ("GET", "HEAD"):
            status, body = (405, b"") if path.startswith(PATH) else (404, b"")
        elif path.startswith(PATH):
            status, body = 200, b""
        elif path == "/healthz":
            status, body = 200, b"alive\n"
        elif path == "/readyz":
            reason = self.not_ready()
            status, body = (503, f"{reason}\n".encode()) if reason else (200, b"ready\n")
        else:
            status, body = 404, b""
        return self._answer(request, status, body)

    async def _hook(self, request: BaseRequest, target: str, path: str) -> Answer:
        if self.routes is None or self.publisher is None:
            return self._later(request)
        name, _, rest = path[len(PATH) :].partition("/")
        route = self.routes.table.get(name)
        if reason := self.publisher.refuses:
            if route is not None:
                route.stats.refuse(503, reason)
            return self._later(request)
        if route is None or (rest and not route.sender.spec.secret_in_path):
            return self._answer(request, 401)  # as a wrong signature: who is here is not told
        try:
            with _InHand(self, route) as in_hand:
                return await self._take(request, route, self.publisher, target, rest, in_hand)
        except Refused as refused:
            route.stats.refuse(refused.status, refused.reason)
            if refused.status == 503:
                return self._later(request)
            return self._answer(request, refused.status)

    async def _take(
        self,
        request: BaseRequest,
        route: Route,
        publisher: Publisher,
        target: str,
        rest: str,
        in_hand: "_InHand",
    ) -> Answer:
        """Raises Refused."""
        began_s = time.monotonic()
        spec = route.sender.spec
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(415, "content encoding")
        body = await _body(request, spec, in_hand)
        if spec.cut is not None:
            body = spec.cut(body)
        received_ms = time.time_ns() // 1_000_000
        url = self.public_url + target
        asked = Request(target, url, rest, request.headers, body, received_ms)
        try:
            route.sender.verify(asked)
        except Refused as refused:
            if refused.status != 200:
                self._quarantine(route, publisher, asked, refused.reason)
            raise
        read_s = time.monotonic()
        wait_s = min(spec.answer_within_s - ANSWER_MARGIN_S, CONFIRM_S_MAX) - (read_s - began_s)
        try:
            confirmed, events, parked = _publish(route, publisher, asked, wait_s)
            await confirmed
        except Unconfirmed as error:
            raise Refused(503, str(error)) from None
        route.stats.confirmed(len(body), events, parked, time.monotonic() - read_s)
        return self._answer(request, 200, spec.answer, spec.answer_type)

    def _quarantine(self, route: Route, publisher: Publisher, asked: Request, reason: str) -> None:
        """A bucket of bytes per connection: a flood of forgeries fills no disk."""
        if not route.stats.spend_quarantine(
            len(asked.body) + 1024,
            time.monotonic(),
            self.bounds.quarantine_bytes_s,
            self.bounds.quarantine_burst_bytes,
        ):
            return
        connection = route.connection.connection
        for record in intake.quarantined(route.sender.spec, connection, asked, reason):
            publisher.offer(record)

    def _answer(
        self, request: BaseRequest, status: int, body: bytes = b"", content_type: str = "text/plain"
    ) -> Answer:
        return answer(
            status,
            body,
            content_type,
            keep_alive=self._keep(request),
            head=request.method == "HEAD",
        )

    def _later(self, request: BaseRequest) -> Answer:
        return answer(503, retry_after_s=RETRY_AFTER_S, keep_alive=self._keep(request))

    def _keep(self, request: BaseRequest) -> bool:
        """Not where the peer wants to go, we do, or part of the body was not read."""
        return (
            request.keep_alive
            and request.content.is_eof()
            and not (self.edge is not None and self.edge.draining)
        )


class _InHand:
    """One request's share of the bounds; given back however it ends."""

    __slots__ = ("bytes", "hooks", "stats")

    def __init__(self, hooks: Hooks, route: Route) -> None:
        self.hooks, self.stats, self.bytes = hooks, route.stats, 0

    def __enter__(self) -> "_InHand":
        """Raises Refused."""
        if self.stats.in_hand >= self.hooks.bounds.requests_max:
            raise Refused(503, "too many requests in hand")
        self.stats.in_hand += 1
        return self

    def add(self, count: int) -> None:
        """So many more bytes. Raises Refused where that is too much; one never has it all."""
        bound = self.hooks.bounds.bytes_max
        if (
            self.hooks.bytes_in_hand + count > bound
            or self.stats.bytes_in_hand + count > bound // 2
        ):
            raise Refused(503, "too many bytes in hand")
        self.bytes += count
        self.stats.bytes_in_hand += count
        self.hooks.bytes_in_hand += count

    def __exit__(self, *_: object) -> None:
        self.stats.in_hand -= 1
        self.stats.bytes_in_hand -= self.bytes
        self.hooks.bytes_in_hand -= self.bytes


async def _body(request: BaseRequest, spec: SenderSpec, in_hand: _InHand) -> bytes:
    """The whole body, bounded before it is read: in size, in time, and in sum. Raises Refused."""
    length, content = request.content_length, request.content
    if (length or 0) > spec.body_bytes_max:
        raise Refused(413, "body too large")
    in_hand.add(length or 0)
    try:
        if content.is_eof():
            body = content.read_nowait()
            if length is None:
                in_hand.add(len(body))
            return body
        if request.transport and request.headers.get("Expect", "").lower() == "100-continue":
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        pieces: list[bytes] = []
        async with asyncio.timeout(min(spec.answer_within_s, READ_S_MAX)):
            while piece := await content.readany():
                pieces.append(piece)
                if length is None:
                    in_hand.add(len(piece))
                    if in_hand.bytes > spec.body_bytes_max:
                        raise Refused(413, "body too large")
        return b"".join(pieces)
    except TimeoutError:
        raise Refused(408, "body slow") from None
    except (ClientError, ConnectionError, RequestPayloadError):
        raise Refused(400, "body broken off") from None


def _publish(
    route: Route, publisher: Publisher, asked: Request, wait_s: float
) -> tuple[asyncio.Future[None], int, int]:
    """-> (when it is confirmed, number of events, number of parts parked). Raises Unconfirmed.

    A function of its own, so that nothing but the body is held while Kafka is waited for.
    """
    trace = _trace(asked.headers.get("traceparent"))
    parts = _parts(route, asked)
    records, parked = intake.records(
        route.sender.spec,
        route.connection.connection,
        route.encoder_of,
        route.codec,
        asked,
        parts,
        trace,
    )
    return publisher.publish(records, wait_s), len(parts) - parked, parked


def _parts(route: Route, asked: Request) -> list[Part]:
    """What a genuine request says. A fault of ours in reading it sends nobody away and loses
    nothing: the body is parked whole, to be taken up again once the fault is mended."""
    try:
        return route.sender.parse(asked)
    except Exception as error:  # noqa: BLE001 - a sender promises to raise nothing at all
        log.error("a sender failed", sender=route.connection.platform, error=type(error).__name__)
        return [Unparseable(-1, asked.body, f"our sender failed: {type(error).__name__}")]


def _trace(given: str | None) -> str:
    """The sender's own W3C traceparent where it has a good one, else a new one."""
    if given is not None and TRACEPARENT.fullmatch(given):
        return given
    fresh = os.urandom(24).hex()
    return f"00-{fresh[:32]}-{fresh[32:]}-01"

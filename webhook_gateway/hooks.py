"""What is answered to whom: bounds, then proof, then Kafka, then 2xx. Never the other way round."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import getrandbits

import structlog
from aiohttp.web import BaseRequest

from webhook_gateway import intake
from webhook_gateway.config import Bounds
from webhook_gateway.edge import Answer, Edge, answer, is_whole
from webhook_gateway.guard import Networks, caller
from webhook_gateway.held import Held, InHand, body_of
from webhook_gateway.publisher import Publisher, Unconfirmed
from webhook_gateway.routes import Route, Routes
from webhook_gateway.seen import Seen
from webhook_gateway.senders.base import Part, Refused, Request, Unparseable

__all__ = ["Hooks"]

log = structlog.get_logger()

PATH = "/hooks/"
CONFIRM_S_MAX = 10.0
ANSWER_MARGIN_S = 0.8
"""We say 503 so long before the sender would give up."""
RETRY_AFTER_S = 2
HANDS_MAX = 1 << 30
TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(slots=True)
class Hooks:
    """The handler of the public port. `routes` and `publisher` come when Kafka has been read."""

    bounds: Bounds
    public_url: str = ""
    proxies: Networks = field(default_factory=lambda: Networks(()))
    """Proxies of ours: whom they name in X-Forwarded-For is who calls."""
    routes: Routes | None = None
    publisher: Publisher | None = None
    edge: Edge | None = None
    seen: Seen = field(default_factory=Seen, init=False)
    held: Held = field(init=False)
    strangers: int = field(default=0, init=False)
    """POSTs to names that no connection has."""

    def __post_init__(self) -> None:
        self.held = Held(self.bounds.bytes_max)

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
            self.strangers += 1
            return self._answer(request, 401)  # as a wrong signature: who is here is not told
        hands_max = min(self.bounds.requests_max, route.bounds.in_hand_max or HANDS_MAX)
        try:
            self._guard(request, route)
            with InHand(self.held, route.stats, hands_max, _closing(request)) as in_hand:
                return await self._take(request, route, self.publisher, target, rest, in_hand)
        except Refused as refused:
            route.stats.refuse(refused.status, refused.reason)
            if refused.status == 503:
                return self._later(request)
            return self._answer(request, refused.status)

    def _guard(self, request: BaseRequest, route: Route) -> None:
        """Raises Refused, before anything of the body is read."""
        guard, transport = route.guard, request.transport
        if not (guard.asks_address or guard.asks_certificate):
            return
        if transport is None:  # who has gone meanwhile cannot show who it was
            raise Refused(401, "caller gone")
        if guard.asks_address:
            peer = transport.get_extra_info("peername") or ("",)
            forwarded = request.headers.getall("X-Forwarded-For", ())
            if guard.refuses_address(caller(str(peer[0]), forwarded, self.proxies)):
                raise Refused(401, "address not allowed")
        if guard.asks_certificate and guard.refuses_certificate(
            transport.get_extra_info("peercert")
        ):
            raise Refused(401, "client certificate")

    async def _take(
        self,
        request: BaseRequest,
        route: Route,
        publisher: Publisher,
        target: str,
        rest: str,
        in_hand: InHand,
    ) -> Answer:
        """Raises Refused."""
        began_s = time.monotonic()
        spec = route.sender.spec
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused(415, "content encoding")
        body = await body_of(request, in_hand, route.body_bytes_max, spec.answer_within_s)
        is_whole(request)
        in_hand.whole()
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
        rate_s = route.bounds.requests_s
        if rate_s and not route.stats.requests.spend(1, read_s, rate_s, route.bounds.burst):
            raise Refused(503, "over its rate")
        wait_s = min(spec.answer_within_s - ANSWER_MARGIN_S, CONFIRM_S_MAX) - (read_s - began_s)
        signatures = [asked.headers.get(name) for name in route.signature_headers]
        name = self.seen.name(route.connection.connection, target, signatures, body)
        again = name in self.seen
        try:
            events, parked = await _published(route, publisher, asked, wait_s, again=again)
        except Unconfirmed as error:
            raise Refused(503, str(error)) from None
        self.seen.add(name)
        route.stats.repeated += again
        route.stats.confirmed(len(body), events, parked, time.monotonic() - read_s)
        return self._answer(request, 200, spec.answer, spec.answer_type)

    def _quarantine(self, route: Route, publisher: Publisher, asked: Request, reason: str) -> None:
        """A bucket of bytes per connection: a flood of forgeries fills no disk."""
        if not route.stats.quarantine.spend(
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


async def _published(
    route: Route, publisher: Publisher, asked: Request, wait_s: float, *, again: bool
) -> tuple[int, int]:
    """-> (number of events, number of parts parked), all on Kafka. Raises Unconfirmed."""
    confirmed, count, events, parked = _publish(route, publisher, asked, wait_s, again)
    route.stats.messages_in_hand += count
    try:
        await confirmed
    finally:
        route.stats.messages_in_hand -= count
    return events, parked


def _publish(
    route: Route, publisher: Publisher, asked: Request, wait_s: float, again: bool
) -> tuple[asyncio.Future[None], int, int, int]:
    """-> (when it is confirmed, number of records, of events, of parts parked). Raises Unconfirmed.

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
    if again:
        records[0].headers.append(("repeat", "1"))
    # As with bytes: a connection may hold as many as are free.
    if route.stats.messages_in_hand + len(records) > publisher.room - len(records):
        raise Unconfirmed("too many messages in hand")
    return publisher.publish(records, wait_s), len(records), len(parts) - parked, parked


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
    fresh = f"{getrandbits(192):048x}"
    return f"00-{fresh[:32]}-{fresh[32:]}-01"


def _closing(request: BaseRequest) -> Callable[[], None]:
    return request.protocol.force_close

"""What the simulated platforms share: an HTTP server, arrival, quotas, faults, the admin paths.

A platform is a table of routes to plain functions `(call) -> Answer`. They neither wait nor know
of HTTP connections, so one call's work is never seen half done. The order at each request:

1. arrival: the head is read; the clock is taken
2. whose is it: an unknown sender is refused and counts in no window
3. quotas: every window of the call, or the platform's refusal (quotas.py says when a token counts)
4. faults that come before the work
5. the body, the work
6. faults that come after it; a place among requests at once is free just before the answer leaves
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

from simulators import admin, faults, quotas
from simulators.store import Store
from simulators.webhooks import Outbox, Target

BODY_BYTES_MAX = 16 * 1024 * 1024
LINE_BYTES_MAX = 64 * 1024  # each platform has a limit of its own below this one
JSON = "application/json;charset=utf-8"

_encode = msgspec.json.Encoder().encode


class Answer:
    """What goes back. `body` is bytes, or a value that becomes JSON."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.body: bytes = (
            body if isinstance(body, bytes) else _encode(body) if body is not None else b""
        )
        self.headers = {"Content-Type": JSON, **(headers or {})}


class Refused(Exception):
    """Ends the work on a call with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Call:
    """One request, as the platforms see it. `number` counts from 1; 0 is a person's act."""

    __slots__ = ("at_ms", "body", "dry", "headers", "method", "number", "path", "query", "struck")

    def __init__(
        self, number: int, at_ms: int, method: str = "", path: str = "", query: str = ""
    ) -> None:
        self.number, self.at_ms = number, at_ms
        self.method, self.path, self.query = method, path, query
        self.headers: Mapping[str, str] = {}
        self.body = b""
        self.struck = faults.NONE
        self.dry = False

    def params(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))


class Clock:
    """Seconds since the epoch that only go forward."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._offset


Handler = Callable[..., Answer]
T = TypeVar("T")
Source = Iterable[T] | Callable[[], Iterable[T]]
"""Objects that are there from the beginning; a function can be asked again at a reset."""


def each(source: Source[T]) -> Iterable[T]:
    return source() if callable(source) else source


class Platform:
    """One simulated platform on one port."""

    name: ClassVar[str]
    routes: ClassVar[list[tuple[str, str, str]]]  # method, pattern of the whole path, function

    def __init__(
        self,
        stores: Mapping[str, Store],
        windows: Iterable[quotas.Window],
        *,
        seed: int = 0,
        quota: Mapping[str, str] | None = None,
        script: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.stores, self.seed = stores, seed
        self.store = next(iter(stores.values()))  # the main type of object
        self.clock = Clock()
        self.windows = {window.name: window for window in windows}
        for window, setting in (quota or {}).items():
            if window not in self.windows:
                raise ValueError(f"{self.name} has no window {window!r}, but {list(self.windows)}")
            quotas.change(self.windows[window], setting)
        self.script = faults.Script(seed)
        self.script.add(script)
        self.statuses: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.requests = self.running = 0
        self.started_ms = int(self.clock.now() * 1000)
        self._routes: list[tuple[str, re.Pattern[str], Handler]] = [
            (method, re.compile(pattern), getattr(self, function))
            for method, pattern, function in self.routes
        ]

    # -- what a platform says

    def recognise(self, call: Call) -> None:
        """Raises Refused where the sender is unknown."""
        raise NotImplementedError

    def limits(self, call: Call) -> list[quotas.Window]:
        """The windows that this call takes a token of; the first full one gives the refusal."""
        raise NotImplementedError

    def cost(self, call: Call) -> int:
        """Tokens that this call takes of windows that weigh."""
        return 1

    def over_limit(self, policy: str, now: float, *, bare: bool = False) -> Answer:
        """The refusal for a window, or for what a fault named."""
        raise NotImplementedError

    def not_found(self, call: Call) -> Answer:
        raise NotImplementedError

    def too_large(self, call: Call) -> Answer:
        return Answer(413, b"<html><body>413 Request Entity Too Large</body></html>",
                      {"Content-Type": "text/html"})  # fmt: skip

    def malformed(self, call: Call, problem: Exception) -> Answer:
        """The body is not JSON, or not of the right shape."""
        raise NotImplementedError

    def with_limits(self, call: Call, answer: Answer, now: float) -> None:
        """Adds the headers that tell what is left."""

    def done(self, call: Call) -> None:
        """The call is over; its answer is about to leave, or never will."""

    def expire_tokens(self) -> None:
        """Refuse every token given out so far."""

    def act(self, call: Call, acts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Changes as a person makes them in the platform's own screens -> one result per act."""
        raise NotImplementedError

    def outbox(self) -> Outbox | None:
        """Where webhooks leave, of a platform that sends them here."""
        return None

    def fill(self) -> None:
        """The objects that are there before anybody comes."""

    def refilled(self) -> None:
        """The stores have been filled from a file."""

    async def start(self) -> None:
        """Called in the running loop before the first request."""

    async def stop(self) -> None: ...

    # -- what the admin paths ask

    def perform(self, acts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Acts of a person, now."""
        return self.act(Call(0, int(self.clock.now() * 1000)), acts)

    async def aim(self, target: Target | None) -> None:
        """Webhooks go there from now on. Raises ValueError where the platform sends none."""
        if (outbox := self.outbox()) is None:
            raise ValueError(f"{self.name} sends no webhooks here")
        await outbox.aim(target)

    def renew(self, token: str) -> None:
        """A fresh token in place of one that expired."""
        raise ValueError(f"{self.name} gives out tokens itself")

    def reset(self) -> None:
        """The first contents, an empty ledger, counters at zero."""
        for store in self.stores.values():
            store.clear()
        self.statuses.clear()
        self.rows.clear()
        self.fill()

    def stats(self) -> dict[str, Any]:
        now = self.clock.now()
        outbox = self.outbox()
        sender = outbox.sender if outbox is not None else None
        return {
            "platform": self.name,
            "started_ms": self.started_ms,
            "now_ms": int(now * 1000),
            "requests": self.requests,
            "running": self.running,
            "statuses": dict(self.statuses),
            "rows": dict(self.rows),
            "windows": {name: w.summary(now) for name, w in self.windows.items()},
            "quota_refusals": sum(w.refused for w in self.windows.values()),
            "quota_overspends": sum(w.overspends for w in self.windows.values()),
            "faults": self.script.report(),
            "webhook": sender and {**sender.counts, "unsettled": sender.unsettled},
        }

    # -- serving

    @asynccontextmanager
    async def serve(self, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[str]:
        """Serves while the block lasts -> base URL, `http://127.0.0.1:41234`. Port 0: any."""
        server = Server(
            self._serve,
            request_factory=_request,
            access_log=None,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            lingering_time=0.0,
        )
        await self.start()
        listening = await asyncio.get_running_loop().create_server(server, host, port, backlog=512)
        try:
            yield f"http://{host}:{listening.sockets[0].getsockname()[1]}"
        finally:
            listening.close()
            await server.shutdown(1.0)
            await listening.wait_closed()
            await self.stop()

    async def _serve(self, request: BaseRequest) -> StreamResponse:
        path = request.rel_url.raw_path
        if path.startswith("/_sim/"):
            return await admin.answer(self, request)
        now = self.clock.now()
        self.requests += 1
        call = Call(
            self.requests, int(now * 1000), request.method, path, request.rel_url.raw_query_string
        )
        call.headers = request.headers
        self.running += 1
        taken: list[quotas.Window] = []
        try:
            response = await self._work(request, call, now, taken)
        finally:
            self.running -= 1
            self.done(call)
            for window in taken:
                window.release(now, self.clock.now())
        self.statuses[f"{call.method} {response.status}"] += 1
        return response

    async def _work(
        self, request: BaseRequest, call: Call, now: float, taken: list[quotas.Window]
    ) -> StreamResponse:
        try:
            self.recognise(call)
        except Refused as refused:
            return _response(refused.answer)
        windows = self.limits(call)
        if (full := quotas.admit(windows, now, self.cost(call))) is not None:
            answer = self.over_limit(full.name, now)
            self.with_limits(call, answer, now)
            return _response(answer)
        taken.extend(windows)
        struck = call.struck = self.script.strike(call.method, call.path)
        if struck is not faults.NONE:
            if "expire_token" in struck:
                self.expire_tokens()
                try:
                    self.recognise(call)
                except Refused as refused:
                    return _response(refused.answer)
            if wait_s := struck.delay_s("delay"):
                await asyncio.sleep(wait_s)
            if fault := struck.first("lose_before", "status", "throttle"):
                return self._failed(request, fault, now)
            call.dry = "no_effect" in struck
        try:
            call.body = await request.read()
            answer = self.answer(call)
        except HTTPRequestEntityTooLarge:
            answer = self.too_large(call)
        except ConnectionResetError:  # whoever asked is gone, in the middle of the body
            return _response(Answer(400, b""))
        self.with_limits(call, answer, now)
        if struck is not faults.NONE:
            if fault := struck.first("lose_after", "status_after"):
                return self._failed(request, fault, now)
            if "truncate" in struck or "slow_body" in struck:
                return await _in_pieces(
                    request, answer, struck.delay_s("slow_body"), whole="truncate" not in struck
                )
        return _response(answer)

    def answer(self, call: Call) -> Answer:
        """The work of one call, without waiting."""
        try:
            for method, pattern, function in self._routes:
                if method == call.method and (match := pattern.fullmatch(call.path)):
                    return function(call, *match.groups())
        except Refused as refused:
            return refused.answer
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            return self.malformed(call, error)
        return self.not_found(call)

    def _failed(self, request: BaseRequest, fault: faults.Fault, now: float) -> StreamResponse:
        match fault.action:
            case "throttle":
                answer = self.over_limit(fault.policy, now, bare=fault.bare)
                answer.headers.update(fault.headers)
                return _response(answer)
            case "status" | "status_after":
                text = isinstance(fault.body, str)
                body = fault.body.encode() if text else fault.body
                kind = {"Content-Type": "text/html"} if text else {}
                return _response(Answer(fault.status, body, {**kind, **fault.headers}))
            case _:
                _hang_up(request)
                return Response()


def _request(
    message: RawRequestMessage, payload: Any, protocol: Any, writer: Any, task: Any
) -> BaseRequest:
    loop = asyncio.get_running_loop()
    return BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=BODY_BYTES_MAX
    )


def _response(answer: Answer) -> Response:
    return Response(status=answer.status, body=answer.body, headers=answer.headers)


def _hang_up(request: BaseRequest) -> None:
    if request.transport is not None:
        request.transport.close()


async def _in_pieces(
    request: BaseRequest, answer: Answer, over_s: float, *, whole: bool
) -> StreamResponse:
    response = StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    body = answer.body if whole else answer.body[: len(answer.body) // 2]
    starts = range(0, len(body), max(1, -(-len(body) // 10)))
    for start in starts:
        await asyncio.sleep(over_s / len(starts))
        await response.write(body[start : start + starts.step])
    if not whole:
        _hang_up(request)
        raise ConnectionResetError("cut on request")
    await response.write_eof()
    return response

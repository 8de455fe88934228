"""What connectors send with: one pooled HTTP client per connection, bounded in time and size.

It never retries and never logs: neither addresses nor headers nor bodies leave it, as any of them
may hold a secret or a person. What a request was is told to the `Trail` of whoever asked for it.
"""

import asyncio
import contextvars
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import msgspec

from connectors.base import Answer, PlatformError

__all__ = ["Call", "HttpClient", "Trail", "told", "trail"]

CONNECT_S = 5.0
ANSWER_S = 60.0
"""For a whole answer. Platforms give up earlier: the slowest documented time-out is 100 s at
HubSpot's edge, after which the fate is unknown to them too."""
ANSWER_BYTES_MAX = 64 * 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024
CONNECTIONS_MAX = 64
LIFE_S = 5.0
"""An idle connection that is older may have been closed by the other side without our knowing."""

PERSONAL = re.compile(r"/(?:[0-9a-fA-F]{32,}|[^/]*(?:@|%40)[^/]*)(?=/|$)")

# It logs every address at INFO, secrets in its query included.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request that was made. `path` without query; `status` 0: no answer."""

    method: str
    path: str
    status: int
    took_ms: int
    headers: Mapping[str, str]
    sent: bool

    @property
    def name(self) -> str:
        """Method and endpoint. Addresses in it, and their hashes, are left out."""
        return f"{self.method} {PERSONAL.sub('/{id}', self.path)}"


async def _nothing() -> None: ...


@dataclass(slots=True)
class Trail:
    """What was asked of the platform on behalf of one batch or read.

    `another` is awaited before every request but the first: it pays for it.
    """

    another: Callable[[], Awaitable[None]] = _nothing
    answered: Callable[[Call], None] = lambda call: None
    calls: list[Call] = field(default_factory=list)
    started: int = 0

    @property
    def name(self) -> str:
        """Of the last request: logins come first."""
        return self.calls[-1].name if self.calls else ""

    @property
    def status(self) -> int:
        return self.calls[-1].status if self.calls else 0

    @property
    def took_ms(self) -> int:
        return sum(call.took_ms for call in self.calls)

    @property
    def unanswered(self) -> bool:
        """Something was sent that may have been applied, and no good answer came."""
        return any(c.sent and (c.status == 0 or c.status >= 500) for c in self.calls)


_current: contextvars.ContextVar[Trail | None] = contextvars.ContextVar("trail", default=None)


@contextmanager
def trail(of: Trail):
    """Requests made inside are noted there."""
    token = _current.set(of)
    try:
        yield of
    finally:
        _current.reset(token)


def told(limits: Mapping[str, str]) -> None:
    """What the body of the last answer said of limits, by names that the registry has as headers:
    for the limiter of whoever made the request."""
    of = _current.get()
    if of is not None and of.calls:
        of.answered(replace(of.calls[-1], headers=limits))


class HttpClient:
    """`connectors.base.Http` for one connection."""

    def __init__(
        self,
        base_url: str,
        hosts: Mapping[str, str] | None = None,
        *,
        answer_s: float = ANSWER_S,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> None:
        """`hosts`: other addresses of the same platform, by the names that requests use."""
        self._answer_s, self._bytes_max = answer_s, bytes_max
        self._hosts = dict(hosts or {})
        self._origins = {_origin(httpx2.URL(url)) for url in (base_url, *self._hosts.values())}
        self._client = httpx2.AsyncClient(
            base_url=base_url,
            timeout=httpx2.Timeout(answer_s, connect=CONNECT_S),
            limits=httpx2.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=CONNECTIONS_MAX,
                keepalive_expiry=LIFE_S,
            ),
            follow_redirects=False,  # a redirect would carry the key to another address
            headers={"user-agent": "syncline", "accept": "application/json"},
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        host: str = "",
    ) -> Answer:
        """Raises PlatformError for every answer that is not 2xx, and for none (`status` 0).

        `host`: one of `hosts`; another name, or none, is the base address. An absolute `path` must
        lead to one of these, else ValueError: our key goes along with every request.
        """
        path = self._hosts.get(host, "") + path
        all_headers = dict(headers or {})
        if json is not None:
            content = msgspec.json.encode(json)
            all_headers.setdefault("content-type", "application/json")
        request = self._client.build_request(
            method, path, params=params, content=content, data=form, headers=all_headers
        )
        if _origin(request.url) not in self._origins:
            raise ValueError(f"{method}: an address outside of the connection's own hosts")
        of = _current.get() or Trail()
        if of.started:
            await of.another()
        of.started += 1
        begun_s = time.monotonic()
        status, sent = 0, True
        answer_headers: Mapping[str, str] = {}
        body: bytes | str = b""
        try:
            async with asyncio.timeout(self._answer_s):
                response = await self._client.send(request, stream=True)
                try:
                    body = await self._body(response)
                finally:
                    await response.aclose()
            status, answer_headers = response.status_code, dict(response.headers)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            sent, body = False, type(error).__name__
        except (httpx2.HTTPError, TimeoutError) as error:
            body = type(error).__name__  # its text may hold the address
        finally:
            took_ms = int((time.monotonic() - begun_s) * 1000)
            call = Call(method, request.url.path, status, took_ms, answer_headers, sent)
            of.calls.append(call)
            of.answered(call)
        if 200 <= status < 300 and isinstance(body, bytes):
            return Answer(status, answer_headers, body)
        raise PlatformError(status, _decoded(body), answer_headers, sent)

    async def _body(self, response: httpx2.Response) -> bytes | str:
        """Text where the answer was too large, or was cut short for being an error."""
        good = 200 <= response.status_code < 300
        bytes_max = self._bytes_max if good else ERROR_BYTES_MAX
        parts: list[bytes] = []
        size = 0
        async for part in response.aiter_bytes():
            parts.append(part)
            size += len(part)
            if size > bytes_max:
                if good:
                    return f"the answer is larger than {bytes_max} bytes"
                return b"".join(parts)[:bytes_max].decode(errors="replace")
        return b"".join(parts)

    async def close(self) -> None:
        await self._client.aclose()


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _decoded(body: bytes | str) -> Any:
    if isinstance(body, str):
        return body
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode(errors="replace")

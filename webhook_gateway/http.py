"""HTTP/1.1 as the edge needs it: requests as they were sent, answers as bytes made once."""

import asyncio
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from webhook_gateway.edge import Peer

__all__ = ["Answer", "BrokenOff", "Headers", "Incoming", "answer", "new_answer"]


class BrokenOff(Exception):
    """The peer went, or sent what is no HTTP, in the middle of a body."""


class Headers(dict[str, str]):
    """Asked by names in any case. What came more than once has all its values, commas between."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())


class Incoming:
    """A request whose headers are there; its body may still be coming. One reader at a time."""

    __slots__ = (
        "_broken", "_pieces", "_waiter", "headers", "keep_alive", "method", "peer", "target",
        "unread", "whole",
    )  # fmt: skip

    def __init__(
        self, peer: "Peer", method: str, target: str, headers: Headers, keep_alive: bool
    ) -> None:
        self.peer, self.method, self.target = peer, method, target
        self.headers, self.keep_alive = headers, keep_alive
        self.whole = self._broken = False
        self.unread = 0
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None

    def came(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.unread += len(piece)
        self._wake()

    def ended(self) -> None:
        self.whole = True
        self._wake()

    def broke_off(self) -> None:
        self._broken = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def read(self) -> bytes:
        """What has come and was not read."""
        pieces, self._pieces, self.unread = self._pieces, [], 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def more(self) -> bytes:
        """As `read`, once there is something; empty at the end. Raises BrokenOff."""
        while not (self._pieces or self.whole):
            if self._broken:
                raise BrokenOff
            self.peer.flow()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.read()


class Answer(NamedTuple):
    """A whole HTTP answer."""

    data: bytes
    keep_alive: bool


def new_answer(
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
    return Answer(data, keep_alive)


answer = lru_cache(maxsize=256)(new_answer)
"""For the answers that come again and again, each kept alive or closing."""

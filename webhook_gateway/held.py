"""Bodies in hand, bounded in size, in time and in sum, and the hands themselves.

A connection may hold as many bytes as are free: alone half of all, and always something is left
for the others. Anybody can begin a body and not end it, so whoever has been at one for longest
makes room for the next; what is whole is never let go for it.
"""

import asyncio
import time
from collections.abc import Callable

from aiohttp.client_exceptions import ClientError
from aiohttp.web import BaseRequest, RequestPayloadError

from webhook_gateway.senders.base import Refused
from webhook_gateway.stats import Stats

__all__ = ["Held", "InHand", "body_of"]

READ_S_MAX = 10.0
READER_S_MIN = 1.0
"""Whoever reads for less than this is not let go."""


class Held:
    """All bodies of one process. `bytes` counts what has come of them."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max, self.bytes = bytes_max, 0
        self._readers: dict[InHand, None] = {}

    def fits(self, stats: Stats, count: int) -> bool:
        """With so many more the connection has no more than what is then free."""
        return stats.bytes_in_hand + count <= self.bytes_max - (self.bytes + count)

    def reads(self, one: "InHand") -> None:
        self._readers[one] = None

    def reads_no_more(self, one: "InHand") -> None:
        self._readers.pop(one, None)

    def make_room(self, one: "InHand", count: int) -> None:
        """Raises Refused where it cannot be had."""
        if self.fits(one.stats, count):
            return
        latest_s = time.monotonic() - READER_S_MIN
        for reader in [*self._readers]:
            if reader.began_s > latest_s:
                break
            if reader is not one:
                reader.let_go()
                if self.fits(one.stats, count):
                    return
        raise Refused(503, "too many bytes in hand")


class InHand:
    """One request's share of the bounds; given back however it ends.

    `hang_up` closes its TCP connection.
    """

    __slots__ = ("began_s", "bytes", "hands_max", "hang_up", "has_hand", "held", "stats")

    def __init__(
        self, held: Held, stats: Stats, hands_max: int, hang_up: Callable[[], None]
    ) -> None:
        self.held, self.stats, self.hands_max, self.hang_up = held, stats, hands_max, hang_up
        self.bytes, self.has_hand, self.began_s = 0, False, time.monotonic()

    def __enter__(self) -> "InHand":
        self.held.reads(self)
        return self

    def add(self, count: int) -> None:
        """So many more bytes have come. Raises Refused where that is too much."""
        self.held.make_room(self, count)
        self.bytes += count
        self.stats.bytes_in_hand += count
        self.held.bytes += count

    def whole(self) -> None:
        """The body is there: from here on it takes a hand. Raises Refused."""
        self.held.reads_no_more(self)
        if self.stats.in_hand >= self.hands_max:
            raise Refused(503, "too many requests in hand")
        self.has_hand = True
        self.stats.in_hand += 1

    def let_go(self) -> None:
        self._give_back()
        self.hang_up()

    def _give_back(self) -> None:
        self.held.reads_no_more(self)
        self.stats.bytes_in_hand -= self.bytes
        self.held.bytes -= self.bytes
        self.bytes = 0

    def __exit__(self, *_: object) -> None:
        self.stats.in_hand -= self.has_hand
        self._give_back()


async def body_of(request: BaseRequest, in_hand: InHand, bytes_max: int, within_s: float) -> bytes:
    """The whole body. Raises Refused."""
    content = request.content
    if content.is_eof():
        body = content.read_nowait()
        if len(body) > bytes_max:
            raise Refused(413, "body too large")
        in_hand.add(len(body))
        return body
    length = request.content_length or 0
    if length > bytes_max:
        raise Refused(413, "body too large")
    in_hand.held.make_room(in_hand, length)  # else there is no use in reading it
    if request.transport and request.headers.get("Expect", "").lower() == "100-continue":
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout(min(within_s, READ_S_MAX)):
            while piece := await content.readany():
                pieces.append(piece)
                in_hand.add(len(piece))
                if in_hand.bytes > bytes_max:
                    raise Refused(413, "body too large")
        return b"".join(pieces)
    except TimeoutError:
        raise Refused(408, "body slow") from None
    except (ClientError, ConnectionError, RequestPayloadError):
        raise Refused(400, "body broken off") from None

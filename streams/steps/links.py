"""One chunk of one partition of `links`, record by record; used like `people.People`."""

import contextlib

import msgspec

from schemas.base import Message
from schemas.control import Again
from schemas.events import PlatformEvent
from schemas.identity import AddressAnswered, LinkClaim, ObjectMerged
from schemas.journal import Standing
from streams.steps.admit import admit, claim, learn, merged, refuse, seen
from streams.steps.again import again_at_admit
from streams.steps.catalog import Catalog
from streams.steps.outputs import Outputs, Send
from streams.steps.rows import Link, pack, unpack_link
from streams.steps.work import Rows

__all__ = ["Links"]


class Links:
    """Takes events and answers, by source object; gives back what to send."""

    def __init__(self, rows: Rows, catalog: Catalog) -> None:
        self.rows, self.catalog = rows, catalog
        self.out = Outputs()
        self.now_ms = 0

    def take(self, key: str, message: Message) -> None:
        """One message of events.* or identities.answered. Raises on a bug only; then nothing of
        this message has happened."""
        data = self.rows.get(key)
        link = unpack_link(data) if data else Link()
        match message:
            case PlatformEvent():
                assert key == message.object_key
                self.now_ms = max(self.now_ms, message.received_ms)
                link = admit(link, message, self.catalog, self.out)
            case AddressAnswered():
                link = learn(link, message, self.catalog, self.out)
            case LinkClaim():
                link = claim(link, message, self.catalog, self.out)
            case ObjectMerged():
                link = merged(link, message, self.catalog, self.out)
            case Again():
                self.now_ms = max(self.now_ms, message.when_ms)
                link = again_at_admit(link, message, self.catalog, self.out)
            case _:
                raise TypeError(f"{type(message).__name__} does not concern source objects")
        self.rows.put(key, pack(link))
        self.out.keep()

    def park(self, key: str, message: Message, error: Exception) -> None:
        """`take` threw for this message. An event is parked, and a repeat of it is a duplicate;
        anything else is raised again."""
        self.out.drop()
        if not isinstance(message, PlatformEvent):
            raise error
        self.now_ms = max(self.now_ms, message.received_ms)
        words = f"{type(error).__name__} in a step"
        refuse(message, self.catalog, self.out, Standing.parked, "bug", words)
        self.out.keep()
        with contextlib.suppress(msgspec.DecodeError):  # a row that is broken stays as it is
            data = self.rows.get(key)
            link = unpack_link(data) if data else Link()
            seen(link, message)
            self.rows.put(key, pack(link))

    def close(self) -> list[Send]:
        """All messages of the chunk."""
        return self.out.close(self.now_ms)

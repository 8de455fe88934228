"""Segment (Twilio): webhook destinations, classic and actions.

Body     JSON: one event; or, from the actions destination with batching on, a list of up to 4,000;
         page "Webhooks (Actions) Destination" (2025-11), package @segment/action-destinations 3.497
Answer   2xx within 5 s; repeated for 4 h after 5xx, 408, 410, 429 or silence; **any other 4xx loses
         the event**
Proof    hex HMAC-SHA1 over the JSON text of the event; of a list only the first element is signed
Repeats  are told by `messageId`, which `delete` may lack; a list may be cut otherwise the next time
Traps    order by `timestamp`, which is corrected, not by `sentAt`; the classic sample of `alias`
         has keys with blanks
"""

import hmac
import json
import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, Field, SecretStr

from schemas.events import EventKind
from webhook_gateway.senders.base import Refused, Request, SenderSpec, matches
from webhook_gateway.senders.declared import Declared, Events, Found, Subject

FIRST_BYTES_MAX = 512 * 1024  # 32 KB are documented; looked at before anything is proven
LIST = re.compile(rb"\s*+\[\s*+")
USER = "userId|User ID|anonymousId"


class SegmentWebhooks(BaseModel, frozen=True, extra="forbid"):
    """What an operator says about Segment's webhooks. The secret is the destination's own."""

    lists: Literal["take", "refuse"] = Field(
        default="take",
        description="Lists are proven by their first event alone, as Segment signs them: whoever "
        "has seen one signed event could add others. `refuse` where batching is off.",
    )


class Sender(Declared):
    """One webhook destination."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="segment",
        options=SegmentWebhooks,
        body_bytes_max=16
        * 1024
        * 1024,  # 1,000 events by default, 32 KB at most each, most far less
        answer_within_s=5.0,
        kept_headers=("content-type", "user-agent", "x-signature"),
    )
    events = Events(
        kinds={
            "identify": EventKind.updated,
            "alias": EventKind.merged,
            "group": EventKind.associated,
            "delete": EventKind.deleted,
            "track": EventKind.tracked,
            "page": EventKind.tracked,
            "screen": EventKind.tracked,
        },
        objects=(Subject(type="user", id=USER),),
        time="timestamp|originalTimestamp",
        values=("traits", "properties", "event", "userId", "anonymousId", "groupId"),
        repeats=("receivedAt", "sentAt"),
    )

    def __init__(self, options: SegmentWebhooks, secrets: Sequence[SecretStr]) -> None:
        super().__init__(options, secrets)
        self._lists = options.lists == "take"

    def verify(self, request: Request) -> None:
        given = request.headers.get("x-signature")
        if given is None:
            raise Refused(401, "no signature")
        signed = [request.body]
        if self._lists and (first := _first(request.body)):
            signed.append(first)
        if not self._lists and request.body.lstrip()[:1] == b"[":
            raise Refused(401, "a list of events")
        good = False
        for text in signed:
            expected = (hmac.digest(s, text, "sha1").hex().encode() for s in self._secrets)
            good |= matches(given.lower() if given.isascii() else given, expected)
        if not good:
            raise Refused(401, "signature wrong")

    def related(self, word: str, found: Found) -> tuple[tuple[str, str], ...]:
        match word:
            case "group":
                other = ("group", found.text("groupId"))
            case "alias":
                other = ("user", found.text("previousId|Previous ID"))
            case _:
                both = "userId" in found.fields and found.text("userId")
                other = ("user", found.text("anonymousId") if both else "")
        return (other,) if other[1] else ()


# Of any number or text: only where the value ends is asked for.
_value = json.JSONDecoder(parse_int=str, parse_float=str, strict=False).raw_decode


def _first(body: bytes) -> bytes:
    """The first event's own text, byte for byte; empty: no list, or nothing whole in it."""
    if (opening := LIST.match(body)) is None:
        return b""
    start = opening.end()
    text = body[start : start + FIRST_BYTES_MAX].decode("latin-1")  # a character a byte
    try:
        return body[start : start + _value(text)[1]]
    except (ValueError, RecursionError):
        return b""

"""Raw requests through today's normaliser, and how that differs from what is on the topics. Pure.

A request makes the same ids whenever it is read, so what it made then and what it makes now can be
laid side by side, and what is missing can be published without making anything double.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas import ids, topics
from schemas.codec import Codec
from schemas.events import Origin, PlatformEvent
from schemas.parked import ParkedRecord
from webhook_gateway import intake
from webhook_gateway.encode import EventEncoder
from webhook_gateway.publisher import Record
from webhook_gateway.routes import Route
from webhook_gateway.senders.base import Event, Part, Refused, Request, Unparseable

__all__ = ["Difference", "Made", "Piece", "Raw", "assembled", "compared", "normalised", "proven"]

COMPARED = (
    "connection", "object_type", "object_id", "kind", "platform_kind", "occurred_ms",
    "time_certain", "changed", "thin", "related", "values",
)  # fmt: skip


class Piece(NamedTuple):
    """One record of `intake.<platform>` or `quarantine`."""

    place: str
    """topic-partition-offset."""
    connection: str
    headers: Mapping[str, str]
    body: bytes


class Raw(NamedTuple):
    """One request as it was received."""

    place: str
    """Of its first piece."""
    connection: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def received_ms(self) -> int:
        return int(self.headers.get("received_ms", "0"))

    @property
    def trace(self) -> str:
        """Its own; a refused request had none, and gets one that is always the same."""
        if given := self.headers.get("traceparent", ""):
            return given
        made = ids.derive("trace", self.place)
        return f"00-{made}-{made[:16]}-01"

    def request(self, public_url: str) -> Request:
        target = self.headers.get("path", "")
        http = {
            name.removeprefix("http."): value
            for name, value in self.headers.items()
            if name.startswith("http.")
        }
        url = public_url + target
        method = self.headers.get("method", "POST")
        return Request(target, url, "", http, self.body, self.received_ms, method)


def assembled(pieces: Iterable[Piece]) -> Iterator[Raw | Piece]:
    """Requests in their order; one that was cut is whole again where its last piece stands. A piece
    whose neighbours are not among those given comes back as it is, at the end."""
    begun: dict[str, list[Piece]] = {}
    for piece in pieces:
        if not (part := piece.headers.get("part")):
            yield Raw(piece.place, piece.connection, piece.headers, piece.body)
            continue
        number, _, count = part.partition("/")
        together = begun.setdefault(piece.headers.get("request", ""), [])
        if int(number) == 1:
            together.clear()  # a request that came twice, byte for byte, has one name
        together.append(piece)
        if len(together) == int(count):
            del begun[piece.headers.get("request", "")]
            first = together[0]
            body = b"".join(p.body for p in together)
            yield Raw(first.place, first.connection, first.headers, body)
    for together in begun.values():
        yield from together


class Made(NamedTuple):
    """What one request comes to today."""

    raw: Raw
    events: dict[str, tuple[PlatformEvent, Record]]
    """By event id, with the record that would be published."""
    refused: dict[str, ParkedRecord]
    """By parked id: parts of which no event can be made."""
    records: list[Record]
    """Everything, as the gateway would publish it if the request came now."""
    outgrown: frozenset[str]
    """Ids under which parts of it may have been parked that are events today."""


def replaying(codec: Codec, encoders: intake.Encoders) -> intake.Encoders:
    """The same, marking events as replayed."""

    def encoder_of(account: str) -> EventEncoder | None:
        found = encoders(account)
        if found is None:
            return None
        return EventEncoder(codec, found.connection, found.platform, Origin.replay)

    return encoder_of


def normalised(route: Route, raw: Raw, public_url: str = "") -> Made:
    """Run it through the sender that serves its connection now."""
    asked = raw.request(public_url)
    parts = _parts(route, asked)
    name = route.connection.connection
    records, _ = intake.records(
        route.sender.spec,
        name,
        replaying(route.codec, route.encoder_of),
        route.codec,
        asked,
        parts,
        raw.trace,
    )
    events: dict[str, tuple[PlatformEvent, Record]] = {}
    refused: dict[str, ParkedRecord] = {}
    for record in records:
        if record.topic == topics.PARKED:
            parked = route.codec.decode_as(ParkedRecord, record.value)
            refused[parked.parked_id] = parked
        elif record.topic == topics.events_of(route.connection.platform):
            event = route.codec.decode_as(PlatformEvent, record.value)
            events[event.event_id] = event, record
    outgrown = _outgrown(name, asked.body, parts) - refused.keys()
    return Made(raw, events, refused, records, outgrown)


def _parts(route: Route, asked: Request) -> Sequence[Part]:
    try:
        return route.sender.parse(asked)
    except Exception as error:  # noqa: BLE001 - as the gateway itself takes it
        return [Unparseable(-1, asked.body, f"our sender failed: {type(error).__name__}")]


def _outgrown(connection: str, body: bytes, parts: Sequence[Part]) -> frozenset[str]:
    events = [p for p in parts if isinstance(p, Event)]
    found = {ids.event_id(connection, (), p.payload) for p in events}
    found |= {ids.event_id(connection, p.identity, p.content) for p in events}
    if events or not parts:
        found.add(ids.event_id(connection, (), body))  # parked as a whole then
    return frozenset(found)


def proven(route: Route, raw: Raw, public_url: str) -> str:
    """Why a refused request is still refused with today's secrets; empty where it is genuine. A
    proof that was itself a secret is not kept: such a request stays refused."""
    try:
        route.sender.verify(raw.request(public_url))
    except Refused as refused:
        return refused.reason
    return ""


@dataclass
class Difference:
    """What the chosen requests made then, and what they make now."""

    requests: int = 0
    same: int = 0
    missing: list[tuple[str, PlatformEvent, Record]] = field(default_factory=list)
    """Place of the request and event: made today, not on the topic."""
    changed: list[tuple[str, PlatformEvent, list[str]]] = field(default_factory=list)
    """The same event under the same id, and the fields that it says otherwise today."""
    gone: list[PlatformEvent] = field(default_factory=list)
    """On the topic, and made of these requests no more."""
    refused: list[tuple[str, ParkedRecord]] = field(default_factory=list)
    """Parts of which no event can be made today."""
    settled: list[str] = field(default_factory=list)
    """Parked ids of parts that are events today."""


def compared(
    made: Iterable[Made],
    events: Mapping[str, PlatformEvent],
    parked: Mapping[str, ParkedRecord],
) -> Difference:
    """`events`: by id, those on the topic that bear an id or a trace of what was made; `parked`:
    what is parked now."""
    out = Difference()
    ours: set[str] = set()
    traces: set[tuple[str, int]] = set()
    for one in made:
        out.requests += 1
        traces.add((one.raw.trace, one.raw.received_ms))
        for event_id, (event, record) in one.events.items():
            if event_id in ours:  # a repeat of another among them
                continue
            ours.add(event_id)
            if (there := events.get(event_id)) is None:
                out.missing.append((one.raw.place, event, record))
            elif other := [n for n in COMPARED if getattr(there, n) != getattr(event, n)]:
                out.changed.append((one.raw.place, event, other))
            else:
                out.same += 1
        out.refused += [(one.raw.place, p) for p in one.refused.values()]
        out.settled += [i for i in sorted(one.outgrown) if i in parked and i not in out.settled]
    out.gone = [
        e for i, e in events.items() if i not in ours and (e.trace, e.received_ms) in traces
    ]
    return out

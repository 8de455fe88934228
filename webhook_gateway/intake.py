"""One genuine request to the records it makes. Pure.

On `intake.<platform>` the body as it came; on `events.<platform>` one event a part; on `parked`
each part of which nothing could be made, alone, with its bytes and position.
"""

from collections.abc import Callable, Sequence

from schemas import ids, topics
from schemas.codec import Codec
from schemas.parked import ParkedRecord, Stage
from webhook_gateway.encode import EventEncoder, Headers, Message
from webhook_gateway.publisher import Record
from webhook_gateway.senders.base import Event, Part, Request, SenderSpec, Unparseable

__all__ = ["Encoders", "quarantined", "raw_records", "records"]

VALUE_BYTES_MAX = 900_000
"""Room below the client's 1,000,000 for key, headers and the batch around them."""

Encoders = Callable[[str], EventEncoder | None]
"""The platform's account id to the encoder of the connection whose it is; None: nobody's here."""


def records(
    spec: SenderSpec,
    connection: str,
    encoders: Encoders,
    codec: Codec,
    request: Request,
    parts: Sequence[Part],
    trace: str,
) -> tuple[list[Record], int]:
    """-> (all records of the request, how many of its parts are parked)."""
    out = raw_records(topics.intake_of(spec.platform), spec, connection, request, "accepted", trace)
    topic = topics.events_of(spec.platform)
    message_of: dict[str, Callable[[Event], Message] | None] = {}  # by account
    parked = 0
    for position, part in enumerate(parts):
        if isinstance(part, Unparseable):
            refusal = part.reason
        else:
            account = part.account
            if account not in message_of:
                encoder = encoders(account)
                message_of[account] = encoder and encoder.messages(request.received_ms, trace)
            if (made_of := message_of[account]) is None:
                refusal = "of an account that is no connection here"
            else:
                try:
                    key, value, headers = made_of(part)
                except Exception as error:  # noqa: BLE001 - a sender's fault costs its event alone
                    refusal = f"cannot be encoded: {type(error).__name__}"
                    part = Unparseable(position, part.payload, refusal)
                else:
                    if len(value) <= VALUE_BYTES_MAX:
                        out.append(Record(topic, key, value, headers))
                        continue
                    refusal = f"larger than {VALUE_BYTES_MAX} bytes; whole on the intake topic"
        parked += 1
        out.append(_parked(codec, connection, part, position, refusal, request.received_ms, trace))
    return out, parked


def _parked(
    codec: Codec,
    connection: str,
    part: Part,
    position: int,
    reason: str,
    received_ms: int,
    trace: str,
) -> Record:
    identity, content, object_type = (), part.payload, ""
    if isinstance(part, Event):
        identity, content, object_type = part.identity, part.content, part.object_type
    else:
        position = part.position
    event_id = ids.event_id(connection, identity, content)
    source = part.payload if len(part.payload) <= VALUE_BYTES_MAX else b""
    record = ParkedRecord(
        parked_id=event_id,
        stage=Stage.intake,
        event_id=event_id,
        connection=connection,
        object_type=object_type,
        code="intake",
        words=reason,
        first_ms=received_ms,
        last_ms=received_ms,
        position=position,
        source=source,
        fields=b"{}",
    )
    return Record(topics.PARKED, event_id, codec.encode(record), [("traceparent", trace)])


def quarantined(spec: SenderSpec, connection: str, request: Request, reason: str) -> list[Record]:
    """A refused request of a known connection, for the day a wrong secret is put right."""
    return raw_records(topics.QUARANTINE, spec, connection, request, reason, "")


def raw_records(
    topic: str, spec: SenderSpec, connection: str, request: Request, verdict: str, trace: str
) -> list[Record]:
    """The body as it came, with what a later check of the signature needs beside it.

    A body over Kafka's message size is cut; `part` then says `1/3`, and the pieces of one request
    share `request`.
    """
    path = request.target if spec.query_is_signed else request.target.partition("?")[0]
    if spec.secret_in_path:
        path = path.removesuffix(request.rest)
    headers: Headers = [
        ("platform", spec.platform),
        ("method", request.method),
        ("path", path.encode("utf-8", "surrogateescape")),
        ("verdict", verdict),
        ("received_ms", str(request.received_ms)),
    ]
    if trace:
        headers.append(("traceparent", trace))
    for name in spec.kept_headers:
        if (value := request.headers.get(name)) is not None:
            headers.append((f"http.{name}", value.encode("utf-8", "surrogateescape")))
    body = request.body
    if len(body) <= VALUE_BYTES_MAX:
        return [Record(topic, connection, body, headers)]
    pieces = [body[n : n + VALUE_BYTES_MAX] for n in range(0, len(body), VALUE_BYTES_MAX)]
    headers.append(("request", ids.derive("request", connection, str(request.received_ms), body)))
    return [
        Record(topic, connection, piece, [*headers, ("part", f"{n}/{len(pieces)}")])
        for n, piece in enumerate(pieces, 1)
    ]

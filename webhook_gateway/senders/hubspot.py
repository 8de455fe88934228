"""HubSpot: webhooks of one app, for one portal or several.

Body     a JSON array of up to 100 events, of mixed types and portals; page "Webhooks" (2025-01)
Answer   any 2xx within 5 s; anything else is sent again, up to 10 times in 24 h
Proof    v1, v2: hex SHA-256; v3: base64 HMAC-SHA256 over method, address, body and time; page
         "Validating requests", and HubSpot's own client package (hubspot-api-nodejs 13.5)
Repeats  differ in `attemptNumber` alone; `eventId` is not unique, so it never stands alone
Traps    numbers may be strings; `objectId`, `subscriptionId` may be missing; the type may stand
         under `eventType`; only the changed property is told, never the record; a sensitive value
         reads REDACTED; a privacy deletion is told as a deletion, too
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET
from pydantic import BaseModel, Field, SecretStr

from schemas.events import EventKind
from webhook_gateway.senders.base import (
    Event,
    Part,
    Refused,
    Request,
    SenderSpec,
    Unparseable,
    matches,
    source_time,
)
from webhook_gateway.senders.elements import UNDECODABLE, Elements
from webhook_gateway.senders.reading import canonical, json_bytes, text

TIMESTAMP_WINDOW_MS = 300_000  # page "Validating requests": older than five minutes is refused
EVENTS_MAX = 1_000  # documented are 100; room for a change of theirs, still a bound
REDACTED = "REDACTED"  # stands for a sensitive property's value, page "Webhooks"

# What v3 decodes before signing, and no more (signature.ts of the client package). Once: %253A
# stays %253A, and %20 %26 %3D %25 %23 stay as they are.
DECODED = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$",
    "%27": "'", "%28": "(", "%29": ")", "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip
DECODABLE = re.compile("|".join(DECODED), re.IGNORECASE)

# Generic subscriptions (`object.*`) name the type by number; the same objects come by name too.
OBJECT_TYPES = {
    "0-1": "contact", "0-2": "company", "0-3": "deal", "0-5": "ticket", "0-7": "product",
    "0-8": "line_item",
}  # fmt: skip

KINDS = {
    "creation": EventKind.created,
    "restore": EventKind.created,  # it is there again
    "propertyChange": EventKind.updated,
    "deletion": EventKind.deleted,
    "privacyDeletion": EventKind.forgotten,
    "merge": EventKind.merged,
    "associationChange": EventKind.associated,
}  # newMessage and whatever comes later: other

Related = tuple[tuple[str, str], ...]


class HubSpotWebhooks(BaseModel, frozen=True, extra="forbid"):
    """What an operator may say about HubSpot's webhooks. The secret is the app's client secret."""

    signatures: frozenset[Literal["v1", "v2", "v3"]] = Field(
        default=frozenset({"v1", "v2", "v3"}),
        description="Which signatures are taken; v3 alone also bounds the age of a request.",
    )
    other_portals: Literal["park", "take"] = Field(
        default="park",
        description="Events of a portal that is no connection here: park them, or take them as if "
        "they were of this connection's portal.",
    )


class Sender:
    """One app's webhooks."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="hubspot",
        options=HubSpotWebhooks,
        body_bytes_max=8 * 1024 * 1024,  # 100 events of a value of 65,536 characters, rounded up
        answer_within_s=5.0,  # page "Webhooks": for the whole batch
        kept_headers=(
            "content-type",
            "user-agent",
            "x-hubspot-signature",
            "x-hubspot-signature-version",
            "x-hubspot-signature-v3",
            "x-hubspot-request-timestamp",
        ),
        query_is_signed=True,
    )

    def __init__(self, options: HubSpotWebhooks, secrets: Sequence[SecretStr]) -> None:
        self.options = options
        self._secrets = tuple(s.get_secret_value().encode() for s in secrets)

    def verify(self, request: Request) -> None:
        """The newest signature that is there decides; an older one beside it changes nothing."""
        headers = request.headers
        given = headers.get("x-hubspot-signature-v3")
        if in_v3 := given is not None:
            version = "v3"
        elif (given := headers.get("x-hubspot-signature")) is not None:
            version = headers.get("x-hubspot-signature-version", "v1")
        else:
            raise Refused(401, "no signature")
        if version not in self.options.signatures or (version == "v3") is not in_v3:
            raise Refused(401, "signature version not taken")
        match version:
            case "v3":
                stamp = headers.get("x-hubspot-request-timestamp", "")
                _within_window(stamp, request.received_ms)
                expected = (_v3(secret, request, stamp) for secret in self._secrets)
            case "v2":
                expected = (_v2(secret, request) for secret in self._secrets)
            case _:
                expected = (_v1(secret, request) for secret in self._secrets)
        if not matches(given, expected):
            raise Refused(401, "signature wrong")

    def parse(self, request: Request) -> list[Part]:
        body, received_ms = request.body, request.received_ms
        several = self.options.other_portals == "park"
        try:
            documented = _documented(body)
            payloads = _payloads(body)
        except UNDECODABLE:
            pass  # not as documented throughout: each by itself
        else:
            return [
                _part(n, bytes(payload), fields, _encoded(fields), received_ms, several)
                for n, (payload, fields) in enumerate(zip(payloads, documented, strict=True))
            ]
        alone = body.lstrip()[:1] == b"{"  # one event without its array
        elements = [body.strip()] if alone else _elements.split(body)
        if elements is None:
            return [Unparseable(-1, body, f"not a JSON array of at most {EVENTS_MAX} events")]
        return [_alone(n, element, received_ms, several) for n, element in enumerate(elements)]


def _within_window(stamp: str, received_ms: int) -> None:
    """Both ways: HubSpot's package refuses old ones only, a clock ahead would open it for ever."""
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 16):
        raise Refused(401, "timestamp missing")
    if abs(received_ms - int(stamp)) > TIMESTAMP_WINDOW_MS:
        raise Refused(401, "timestamp outside five minutes")


def _v1(secret: bytes, request: Request) -> bytes:
    return hashlib.sha256(secret + request.body).hexdigest().encode()


def _v2(secret: bytes, request: Request) -> bytes:
    head = f"{request.method}{request.url}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(secret + head + request.body).hexdigest().encode()


def _v3(secret: bytes, request: Request, stamp: str) -> bytes:
    url = request.url
    if "%" in url:
        url = DECODABLE.sub(lambda m: DECODED[m[0].upper()], url)
    head = f"{request.method}{url}".encode("utf-8", "surrogateescape")
    mac = hmac.digest(secret, head + request.body + stamp.encode(), "sha256")
    return base64.b64encode(mac)


class _Fields(msgspec.Struct, gc=False, rename="camel"):
    """What is read of an event. In the order of its names there, which is that of `canonical`."""

    app_id: Any = UNSET
    association_category: Any = UNSET
    association_type: Any = UNSET
    association_type_id: Any = UNSET
    attempt_number: Any = UNSET
    change_flag: Any = UNSET
    change_source: Any = UNSET
    event_id: Any = UNSET
    event_type: Any = UNSET
    from_object_id: Any = UNSET
    from_object_type_id: Any = UNSET
    is_primary_association: Any = UNSET
    is_sensitive: Any = UNSET
    merged_object_ids: Any = UNSET
    message_id: Any = UNSET
    message_type: Any = UNSET
    new_object_id: Any = UNSET
    number_of_properties_moved: Any = UNSET
    object_id: Any = UNSET
    object_type_id: Any = UNSET
    occurred_at: Any = UNSET
    portal_id: Any = UNSET
    primary_object_id: Any = UNSET
    property_name: Any = UNSET
    property_value: Any = UNSET
    source_id: Any = UNSET
    subscription_id: Any = UNSET
    subscription_type: Any = UNSET
    to_object_id: Any = UNSET
    to_object_type_id: Any = UNSET


class _Documented(_Fields, gc=False, rename="camel", forbid_unknown_fields=True):
    """An event that has no other field: decoded and encoded in half the time of a dictionary."""


_elements = Elements(EVENTS_MAX)
_fields = msgspec.json.Decoder(dict[str, Any]).decode
_documented = msgspec.json.Decoder(
    Annotated[list[_Documented], msgspec.Meta(max_length=EVENTS_MAX)]
).decode
_payloads = msgspec.json.Decoder(list[msgspec.Raw]).decode
_struct_bytes = msgspec.json.Encoder(order="deterministic").encode


def _encoded(fields: _Documented) -> bytes:
    """The same bytes as `canonical` of its dictionary, without all that a repeat differs in."""
    fields.attempt_number = UNSET
    return _struct_bytes(fields)


@lru_cache(maxsize=1024)  # what an app may subscribe to is a short list, but the sender writes it
def _subscription(name: str) -> tuple[str, str, EventKind]:
    word, _, verb = name.partition(".")
    return word, verb, KINDS.get(verb, EventKind.other)


def _alone(position: int, payload: bytes, received_ms: int, several: bool) -> Part:
    """One element of an array, of which others may be broken, or which has unknown fields."""
    try:
        told = _fields(payload)
    except UNDECODABLE:
        return Unparseable(position, payload, "not a JSON object")
    fields = msgspec.convert(told, _Fields)
    told.pop("attemptNumber", None)
    return _part(position, payload, fields, canonical(told), received_ms, several)


def _part(
    position: int, payload: bytes, fields: _Fields, content: bytes, received_ms: int, several: bool
) -> Part:
    """One element of the array -> an event, or why it is none.

    `content`: all of it in one form. `several`: it may be of another portal than the connection's.
    """
    subscription = fields.subscription_type or fields.event_type
    if type(subscription) is not str:
        return Unparseable(position, payload, "no subscriptionType")
    word, verb, kind = _subscription(subscription)
    object_type, object_id, related = word, text(fields.object_id), ()
    if word == "object":
        object_type = _object_type(text(fields.object_type_id) or text(fields.from_object_type_id))
    if kind is EventKind.merged:
        object_id, related = _merged(object_type, fields)
    elif kind is EventKind.associated:
        object_id, related = text(fields.from_object_id), _associated(fields)
    occurred_ms, certain = source_time(_number(fields.occurred_at), received_ms)
    changed, values = _change(fields) if verb == "propertyChange" else ((), b"{}")
    return Event(
        (),  # the fields of its identity are all in the content
        content,
        object_type,
        object_id,
        kind,
        subscription,
        occurred_ms,
        certain,
        changed,
        related,
        True,
        values,
        payload,
        text(fields.portal_id) if several else "",
    )


def _object_type(type_id: str) -> str:
    """`contact.creation`, and `object.creation` of type 0-1, speak of the same contact."""
    return OBJECT_TYPES.get(type_id, type_id) or "object"


def _merged(object_type: str, fields: _Fields) -> tuple[str, Related]:
    """-> (the object that remains, the others). It is a new one in some cases."""
    gone = fields.merged_object_ids
    named = [fields.new_object_id, fields.primary_object_id, fields.object_id]
    ids = dict.fromkeys(map(text, [*named, *(gone if isinstance(gone, list) else ())]))
    winner, *others = [i for i in ids if i not in ("", "0")] or [""]
    return winner, tuple((object_type, other) for other in others)


def _associated(fields: _Fields) -> Related:
    """The far side."""
    far_id = text(fields.to_object_id)
    named = text(fields.association_type).lower().partition("_to_")[2]
    return ((named or _object_type(text(fields.to_object_type_id)), far_id),) if far_id else ()


def _change(fields: _Fields) -> tuple[tuple[str, ...], bytes]:
    """-> (names of what changed, the new values as JSON). A value that is kept from us is not told:
    the field is then named as changed, without a value."""
    name, value = fields.property_name, fields.property_value
    if type(name) is not str:
        return (), b"{}"
    if value is UNSET or value == REDACTED:
        return (name,), b"{}"
    return (name,), json_bytes({name: value})


def _number(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    return value if type(value) is int else None

"""Mandrill (Mailchimp Transactional): webhooks of one account.

Body     a form with one field, `mandrill_events`: the text of a JSON array of up to 1,000 events;
         help page "Webhook format"
Answer   200 and nothing else; repeated up to 20 times in 5 to 8 h, then the webhook is switched off
         and, before, a batch that fails holds back the ones behind it
Proof    base64 HMAC-SHA1 over the address as typed in the account, then each field's name and
         value, sorted by name; page "Authenticating webhook requests". No time in it
Repeats  may be cut into other batches; `_id` is the message's, shared by all of its events
Traps    a new address is checked by HEAD, else by an empty array signed with a key that all know;
         the value that is signed has `\\/` in it, which a decoder would lose
"""

import base64
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
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
)
from webhook_gateway.senders.elements import UNDECODABLE, Elements
from webhook_gateway.senders.forms import fields
from webhook_gateway.senders.reading import canonical, find, json_bytes, text, when

EVENTS_MAX = 2_000  # documented are 1,000
CHECK_KEY = b"test-webhook"  # page "Authenticating webhook requests": the key is not known yet

KINDS = {
    "open": EventKind.opened,
    "click": EventKind.clicked,
    "hard_bounce": EventKind.bounced,
    "soft_bounce": EventKind.bounced,
    "unsub": EventKind.unsubscribed,
    "spam": EventKind.unsubscribed,  # whoever complains wants no more
    "send": EventKind.tracked,
    "deferral": EventKind.tracked,
    "delivered": EventKind.tracked,
    "reject": EventKind.tracked,
    "inbound": EventKind.tracked,
}
LIST_KINDS = {"add": EventKind.created, "change": EventKind.updated, "remove": EventKind.deleted}


class MandrillWebhooks(BaseModel, frozen=True, extra="forbid"):
    """What an operator says about Mandrill's webhooks. The secret is the webhook's key."""

    address: str = Field(
        default="",
        description="The address exactly as typed in Mandrill, which signs it; only where it "
        "differs from the gateway's public one, as with `user:password@` in it.",
    )


class Sender:
    """One webhook of an account."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="mandrill",
        options=MandrillWebhooks,
        body_bytes_max=16 * 1024 * 1024,  # inbound mails with attachments, several in a batch
        answer_within_s=10.0,  # not documented; what other senders of mail events allow
        kept_headers=("content-type", "user-agent", "x-mandrill-signature"),
        query_is_signed=True,
    )

    def __init__(self, options: MandrillWebhooks, secrets: Sequence[SecretStr]) -> None:
        self.options = options
        self._secrets = tuple(s.get_secret_value().encode() for s in secrets)

    def verify(self, request: Request) -> None:
        given = request.headers.get("x-mandrill-signature")
        if given is None:
            raise Refused(401, "no signature")
        pairs = fields(request.body) or []
        address = self.options.address or request.url
        signed = address.encode("utf-8", "surrogateescape") + b"".join(
            name.encode() + value for name, value in sorted(pairs)
        )
        if matches(given, (_signature(key, signed) for key in self._secrets)):
            return
        empty = [v for n, v in pairs if n == "mandrill_events"] == [b"[]"]
        if empty and matches(given, (_signature(CHECK_KEY, signed),)):
            raise Refused(200, "address check")
        raise Refused(401, "signature wrong")

    def parse(self, request: Request) -> list[Part]:
        values = [v for n, v in fields(request.body) or () if n == "mandrill_events"]
        elements = _elements.split(values[0]) if len(values) == 1 else None
        if elements is None:
            why = f"no mandrill_events with a JSON array of at most {EVENTS_MAX} events"
            return [Unparseable(-1, request.body, why)]
        return [_part(n, element, request.received_ms) for n, element in enumerate(elements)]


_elements = Elements(EVENTS_MAX)
_fields = msgspec.json.Decoder(dict[str, Any]).decode


def _signature(key: bytes, signed: bytes) -> bytes:
    return base64.b64encode(hmac.digest(key, signed, "sha1"))


def _part(position: int, payload: bytes, received_ms: int) -> Part:
    try:
        found = _fields(payload)
        content = canonical(found)
    except UNDECODABLE:
        return Unparseable(position, payload, "not a JSON object")
    kind = found.get("event")
    if isinstance(kind, str) and kind:
        object_type, object_id = _message(kind, found)
        known = KINDS.get(kind, EventKind.other)
    elif isinstance(kind := found.get("type"), str) and kind:  # a change of a list: no `event`
        action = text(found.get("action"))
        object_type, object_id = kind, _address(found)
        known, kind = LIST_KINDS.get(action, EventKind.other), f"{kind}.{action}".rstrip(".")
    else:
        return Unparseable(position, payload, "neither event nor type")
    occurred_ms, certain = when(found.get("ts"), received_ms)
    return Event(
        (),  # the message's id, the kind and the time are in the content
        content,
        object_type,
        object_id,
        known,
        kind,
        occurred_ms,
        certain,
        (),
        (),
        False,
        json_bytes(_values(found)),
        payload,
    )


def _message(kind: str, found: Mapping[str, Any]) -> tuple[str, str]:
    """-> (type, id). Old events have the id inside the message alone; inbound ones a mail's own."""
    object_id = text(found.get("_id")) or text(find(found, "msg._id"))
    if kind == "inbound":
        return "inbound", object_id or text(find(found, "msg.headers.Message-Id"))
    return "message", object_id


def _address(found: Mapping[str, Any]) -> str:
    return text(find(found, "reject.email")) or text(find(found, "entry.email"))


def _values(found: Mapping[str, Any]) -> dict[str, Any]:
    """The event's own fields, and those of its message or list entry."""
    values = {n: v for n, v in found.items() if n not in ("msg", "reject", "entry")}
    for inner in ("msg", "reject", "entry"):
        if isinstance(found.get(inner), Mapping):
            values |= {f"{inner}.{n}": v for n, v in found[inner].items() if n != "raw_msg"}
    return values

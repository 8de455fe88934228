"""Mailchimp Marketing: webhooks of one audience.

Body     a form with brackets, one event; pages "Sync audience data with webhooks" (read 2026-08),
         fields of other kinds than subscribe and unsubscribe as captured by others
Answer   200 within 10 s; repeated for about 75 min, then lost; 410 would switch the webhook off
Proof    a secret in the address; or, where signing is on, `t=<s>,v1=<hex>`: HMAC-SHA256 over
         `t.body`, good for 300 s, several `v1` while a secret is rotated
Repeats  have no id: an event is named by all of its fields
Traps    a GET checks the address; `fired_at` has no zone; `id` is not the id of API paths, that is
         the MD5 of the lower-cased address; kinds other than (un)subscribe lack id, email or list
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, Field, SecretStr

from schemas.events import EventKind
from webhook_gateway.senders.base import Event, Part, Request, SenderSpec, Unparseable
from webhook_gateway.senders.forms import fields, named
from webhook_gateway.senders.proofs import SharedSecret, Signature
from webhook_gateway.senders.reading import canonical, json_bytes, when

SIGNATURE = Signature(
    header="x-mailchimp-signature",
    signed="{timestamp}.{body}",
    prefix="v1=",
    separator=",",
    timestamp="t=",
    window_s=300,  # page "Sync audience data with webhooks"
)
ADDRESS = SharedSecret(header="")

KINDS = {
    "subscribe": EventKind.subscribed,
    "unsubscribe": EventKind.unsubscribed,
    "profile": EventKind.updated,
    "upemail": EventKind.updated,
    "cleaned": EventKind.bounced,
}  # campaign and whatever comes later: other

STATUS = {"subscribe": "subscribed", "unsubscribe": "unsubscribed", "cleaned": "cleaned"}

# The webhook's word for what the API calls otherwise; the other names are the same.
NAMES = {"email": "email_address", "new_email": "email_address", "id": "unique_email_id",
         "new_id": "unique_email_id"}  # fmt: skip


class MailchimpWebhooks(BaseModel, frozen=True, extra="forbid"):
    """What an operator says about Mailchimp's webhooks. The secret: signing secret, or address."""

    proof: Literal["either", "signature", "address"] = Field(
        default="either",
        description="`signature` once the webhook is made with signing on; `either` takes a "
        "signature where there is one, else the secret in the address.",
    )


class Sender:
    """One audience's webhooks."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="mailchimp",
        options=MailchimpWebhooks,
        body_bytes_max=1024 * 1024,  # one member; merge fields hold some hundred bytes each
        answer_within_s=10.0,
        kept_headers=("content-type", "user-agent", "x-mailchimp-signature"),
        secret_in_path=True,
    )

    def __init__(self, options: MailchimpWebhooks, secrets: Sequence[SecretStr]) -> None:
        self.options = options
        self._secrets = tuple(s.get_secret_value().encode() for s in secrets)

    def verify(self, request: Request) -> None:
        """A signature that is there decides: a good address beside a wrong one changes nothing."""
        signed = SIGNATURE.header in request.headers
        if self.options.proof == "signature" or (signed and self.options.proof == "either"):
            SIGNATURE.check(request, self._secrets)
        else:
            ADDRESS.check(request, self._secrets)

    def parse(self, request: Request) -> list[Part]:
        pairs = fields(request.body)
        if pairs is None:
            return [Unparseable(-1, request.body, "no form")]
        found = named(pairs)
        kind = found.get("type")
        if not kind:
            return [Unparseable(0, request.body, "no type")]
        data = {n.removeprefix("data."): v for n, v in found.items() if n.startswith("data.")}
        occurred_ms, certain = when(found.get("fired_at"), request.received_ms)
        object_type, object_id, related = _object(kind, data)
        return [
            Event(
                (),  # the fields of its identity are all in the content
                canonical(found),
                object_type,
                object_id,
                KINDS.get(kind, EventKind.other),
                kind,
                occurred_ms,
                certain,
                ("email_address",) if kind == "upemail" else (),
                related,
                True,  # tags, status and more are not told
                json_bytes(_values(kind, data)),
                request.body,
            )
        ]


def address_hash(address: str) -> str:
    """A member's id in Mailchimp's API: MD5 of the lower-cased address."""
    return hashlib.md5(address.lower().encode(), usedforsecurity=False).hexdigest()


def _object(kind: str, data: Mapping[str, str]) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """-> (type, id, other objects). A member whose address changes has another id from then on."""
    if kind == "campaign":
        return "campaign", data.get("id", ""), ()
    address = data.get("new_email") or data.get("email") or data.get("merges.EMAIL", "")
    old = data.get("old_email", "")
    related = (("member", address_hash(old)),) if old else ()
    return "member", address_hash(address) if address else "", related


def _values(kind: str, data: Mapping[str, str]) -> dict[str, str]:
    """By the names of the API, as a read of the member has them."""
    values: dict[str, str] = {}
    for name, value in data.items():
        if name.startswith("merges."):
            values[f"merge_fields.{name[7:]}"] = value
        elif name == "old_email":
            continue
        else:
            values[name if kind == "campaign" else NAMES.get(name, name)] = value
    if kind in STATUS:
        values["status"] = STATUS[kind]
    return values

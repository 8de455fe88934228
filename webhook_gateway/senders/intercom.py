"""Intercom: webhook topics of one app.

Body     JSON, one notification; page "Webhooks" and its models
Answer   2xx within 5 s (seen, not documented), better within 0.5 s; repeated once after a minute,
         then lost; 1,000 failures in a row pause the webhook
Proof    X-Hub-Signature, `sha1=` and hex HMAC-SHA1 over the body
Repeats  have the same `id`; what tells of the delivery differs
Traps    a `ping` without id checks the address; times are in seconds
"""

from typing import ClassVar

from schemas.events import EventKind
from webhook_gateway.senders.base import SenderSpec
from webhook_gateway.senders.declared import Declared, Events, NoOptions, Subject
from webhook_gateway.senders.proofs import Signature

# By the last word of the topic; where that would mislead, by the whole of it.
KINDS = {
    "created": EventKind.created,
    "updated": EventKind.updated,
    "added_email": EventKind.updated,
    "signed_up": EventKind.updated,
    "deleted": EventKind.deleted,
    "archived": EventKind.deleted,
    "merged": EventKind.merged,
    "attached": EventKind.associated,
    "detached": EventKind.associated,
    "subscribed": EventKind.subscribed,
    "unsubscribed": EventKind.unsubscribed,
    "contact.tag.created": EventKind.updated,  # of the contact: it has one tag more
    "contact.tag.deleted": EventKind.updated,
    "contact.lead.tag.created": EventKind.updated,
    "contact.lead.tag.deleted": EventKind.updated,
    "contact.user.tag.created": EventKind.updated,
    "contact.user.tag.deleted": EventKind.updated,
    "user.tag.created": EventKind.updated,
    "user.tag.deleted": EventKind.updated,
    "event.created": EventKind.tracked,
}


class Sender(Declared):
    """One app's notifications. The secret is the app's client secret."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="intercom",
        options=NoOptions,
        body_bytes_max=4 * 1024 * 1024,  # conversations come with their parts
        answer_within_s=5.0,
        kept_headers=("content-type", "user-agent", "x-hub-signature"),
    )
    proof = Signature(header="x-hub-signature", hash="sha1", prefix="sha1=")
    events = Events(
        kind=("topic",),
        kinds=KINDS,
        checks=frozenset({"ping"}),
        objects=(
            Subject(type="contact", id="data.item.contact.id"),  # a tag of a contact
            Subject(type="{data.item.type}", id="data.item.id"),
        ),
        related=(Subject(type="company", id="data.item.company.id"),),
        time="created_at",
        values=("data.item",),
        repeats=("delivery_attempts", "delivery_status", "delivered_at", "first_sent_at"),
    )

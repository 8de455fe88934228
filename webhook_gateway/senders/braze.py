"""Braze: Currents, through the connector for HTTP endpoints of one's own.

Body     JSON, `events` with any number of events; page "Braze Currents"
Answer   2xx; else repeated, and after 5 days of failing switched off
Proof    none: a fixed bearer token, or a secret in the address
Repeats  have the event's `id`
Traps    `time` is in seconds; some receivers saw lists around the object, and `null`; webhooks of a
         campaign or canvas are written by a user and are another thing: `generic`
"""

from typing import ClassVar

from schemas.events import EventKind
from webhook_gateway.senders.base import SenderSpec
from webhook_gateway.senders.declared import Declared, Events, Found, NoOptions, Subject
from webhook_gateway.senders.proofs import SharedSecret

# By the last word of `users.messages.email.Open`.
KINDS = {
    "Open": EventKind.opened,
    "MachineOpen": EventKind.other,
    "Impression": EventKind.opened,
    "Click": EventKind.clicked,
    "ShortLinkClick": EventKind.clicked,
    "Bounce": EventKind.bounced,
    "SoftBounce": EventKind.bounced,
    "DeliveryFailure": EventKind.bounced,
    "Rejection": EventKind.bounced,
    "Unsubscribe": EventKind.unsubscribed,
    "MarkAsSpam": EventKind.unsubscribed,  # whoever complains wants no more
} | dict.fromkeys(
    ("Send", "Delivery", "Deferral", "CarrierSend", "InboundReceive", "Conversion", "Enter", "Exit",
     "CustomEvent", "Purchase", "SessionStart", "SessionEnd", "Install", "Location", "Read"),
    EventKind.tracked,
)  # fmt: skip

STATES = {"Subscribed": EventKind.subscribed, "Unsubscribed": EventKind.unsubscribed}


class Sender(Declared):
    """One Currents connector. The secret is its bearer token."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="braze",
        options=NoOptions,
        body_bytes_max=16 * 1024 * 1024,  # not documented; events of up to 900 KB each are sent
        answer_within_s=5.0,  # not documented; what the impatient ones allow
        kept_headers=("content-type", "user-agent"),
        secret_in_path=True,
    )
    proof = SharedSecret()
    events = Events(
        many="events",
        kind=("event_type",),
        kinds=KINDS,
        objects=(Subject(type="user", id="user.external_user_id|user.user_id"),),
        time="time",
        values=("properties", "user"),
    )

    def kind_of(self, word: str, found: Found) -> EventKind:
        """A change of a subscription says in its properties which way it went."""
        if word.endswith("StateChange"):
            status = found.text("properties.subscription_status").capitalize()
            return STATES.get(status, EventKind.updated)
        return super().kind_of(word, found)

"""Iterable: system webhooks of one project.

Body     JSON, one event; help page 208013936 and as captured by others
Answer   2xx; else repeated, on a timetable that is not documented
Proof    none: a fixed Authorization header, another header of one's own, or a secret in the address
Repeats  have no id: an event is named by all of its fields
Traps    `createdAt` has blanks where ISO 8601 has none; (un)subscriptions have no message id, and
         lists that may be empty; older samples have the kind under `eventTitle`
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field, SecretStr

from schemas.events import EventKind
from webhook_gateway.senders.base import SenderSpec
from webhook_gateway.senders.declared import Declared, Events, Subject
from webhook_gateway.senders.proofs import SharedSecret

KINDS = {
    "emailOpen": EventKind.opened,
    "emailClick": EventKind.clicked,
    "emailBounce": EventKind.bounced,
    "emailComplaint": EventKind.unsubscribed,  # whoever complains wants no more
    "emailSubscribe": EventKind.subscribed,
    "emailUnSubscribe": EventKind.unsubscribed,
    "hostedUnsubscribeClick": EventKind.clicked,
    "smsBounce": EventKind.bounced,
    "smsClick": EventKind.clicked,
    "pushOpen": EventKind.opened,
    "pushBounce": EventKind.bounced,
    "webPushClick": EventKind.clicked,
    "inAppOpen": EventKind.opened,
    "inAppClick": EventKind.clicked,
} | dict.fromkeys(
    ("emailSend", "emailSendSkip", "smsSend", "smsSendSkip", "smsReceived", "pushSend",
     "pushSendSkip", "webPushSend", "webPushSendSkip", "inAppSend", "inAppSendSkip",
     "inAppDelivery", "purchase", "customEvent", "journeyExit"),
    EventKind.tracked,
)  # fmt: skip


class IterableWebhooks(BaseModel, frozen=True, extra="forbid"):
    """What an operator says about Iterable's webhooks. The secret is the header's value."""

    header: str = Field(
        default="authorization", description="Header that holds the secret, as typed in Iterable."
    )


class Sender(Declared):
    """One system webhook."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="iterable",
        options=IterableWebhooks,
        body_bytes_max=1024 * 1024,
        answer_within_s=5.0,  # not documented; what the impatient ones allow
        kept_headers=("content-type", "user-agent"),
        secret_in_path=True,
    )
    events = Events(
        kind=("eventName|eventTitle",),
        kinds=KINDS,
        objects=(Subject(type="user", id="userId|email"),),
        time="dataFields.createdAt|createdAt",
        values=("dataFields", "email", "userId"),
    )

    def __init__(self, options: IterableWebhooks, secrets: Sequence[SecretStr]) -> None:
        super().__init__(options, secrets)
        self.proof = SharedSecret(header=options.header)

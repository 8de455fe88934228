"""Klaviyo: system webhooks of one account. (Webhooks of a flow are another thing: `generic`.)

Body     JSON, `data` with any number of events, `meta` about the request; page "Working with system
         webhooks" (read 2026-08)
Answer   not documented; for flows 2xx, else up to 17 tries within 24 h, page "Webhook status codes"
Proof    hex HMAC-SHA256 over body and the text of Klaviyo-Timestamp, which is an HTTP date; no
         published vector; no documented window, so ours
Repeats  `external_id` names the event
Traps    Klaviyo-Webhook-Id is not signed and has to be the body's own; a custom metric is a topic
"""

from typing import Any, ClassVar

import msgspec
from pydantic import BaseModel, Field

from schemas.events import EventKind
from webhook_gateway.senders.base import Refused, Request, SenderSpec
from webhook_gateway.senders.declared import Declared, Events, Subject
from webhook_gateway.senders.elements import UNDECODABLE, member
from webhook_gateway.senders.proofs import Signature
from webhook_gateway.senders.reading import find, text

KINDS = {
    "bounced_email": EventKind.bounced,
    "dropped_email": EventKind.bounced,
    "email_bounced": EventKind.bounced,
    "clicked_email": EventKind.clicked,
    "email_clicked": EventKind.clicked,
    "opened_email": EventKind.opened,
    "email_opened": EventKind.opened,
    "received_email": EventKind.tracked,
    "email_delivered": EventKind.tracked,
    "marked_email_as_spam": EventKind.unsubscribed,
    "subscribed_to_email_marketing": EventKind.subscribed,
    "unsubscribed_from_email_marketing": EventKind.unsubscribed,
    "manually_suppressed_from_email_marketing": EventKind.unsubscribed,
    "manually_unsuppressed_from_email_marketing": EventKind.other,  # may be mailed is not wants to
    "updated_email_preferences": EventKind.updated,
    "subscribed_to_list": EventKind.subscribed,
    "unsubscribed_from_list": EventKind.unsubscribed,
    "sent_sms": EventKind.tracked,
    "received_sms": EventKind.tracked,
    "clicked_sms": EventKind.clicked,
    "failed_to_deliver_sms": EventKind.bounced,
    "subscribed_to_sms_marketing": EventKind.subscribed,
    "unsubscribed_from_sms_marketing": EventKind.unsubscribed,
    "received_push": EventKind.tracked,
    "bounced_push": EventKind.bounced,
    "opened_push": EventKind.opened,
}


class KlaviyoWebhooks(BaseModel, frozen=True, extra="forbid"):
    """What an operator says about Klaviyo's webhooks. The secret is the webhook's own."""

    window_s: int = Field(
        default=300, ge=1, description="A request signed longer ago than this is refused."
    )


class Sender(Declared):
    """One webhook of an account."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="klaviyo",
        options=KlaviyoWebhooks,
        body_bytes_max=8 * 1024 * 1024,  # an event has up to 400 properties
        answer_within_s=5.0,  # not documented; what the impatient ones allow
        kept_headers=(
            "content-type",
            "user-agent",
            "klaviyo-signature",
            "klaviyo-timestamp",
            "klaviyo-webhook-id",
        ),
    )
    events = Events(
        many="data",
        kind=("topic",),
        kinds=KINDS,
        objects=(
            Subject(
                type="profile",
                id="payload.data.relationships.profile.data.id"
                "|payload.relationships.profile.data.id",
            ),
        ),
        time="payload.data.attributes.datetime|payload.data.attributes.timestamp"
        "|payload.attributes.datetime|payload.attributes.timestamp",
        values=("payload.data.attributes.event_properties|payload.attributes.event_properties",),
    )

    def __init__(self, options: KlaviyoWebhooks, secrets: Any) -> None:
        super().__init__(options, secrets)
        self.proof = Signature(
            header="klaviyo-signature",
            signed="{body}{timestamp}",
            timestamp="klaviyo-timestamp",
            window_s=options.window_s,
        )

    def verify(self, request: Request) -> None:
        super().verify(request)
        given = request.headers.get("klaviyo-webhook-id")
        own = _webhook_id(request.body)
        if given is not None and own and given != own:
            raise Refused(401, "webhook id wrong")


def _webhook_id(body: bytes) -> str:
    try:
        return text(
            find(msgspec.json.decode(member(body, "meta") or b"null"), "klaviyo_webhook_id")
        )
    except UNDECODABLE:
        return ""

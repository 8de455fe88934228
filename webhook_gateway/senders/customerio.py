"""Customer.io: reporting webhooks of one workspace.

Body     JSON, one event; page "Reporting webhooks"
Answer   2xx within 4 s; repeated for 7 days, and **a webhook that fails holds back all later ones**
Proof    hex HMAC-SHA256 over `v0:`, X-CIO-Timestamp, `:` and the body; no window is documented, and
         whether a repeat is signed anew is not known
Repeats  have the same `event_id`
Traps    `timestamp` is in seconds, in some samples a text; one bad event must not be refused
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field, SecretStr

from schemas.events import EventKind
from webhook_gateway.senders.base import SenderSpec
from webhook_gateway.senders.declared import Declared, Events, Subject
from webhook_gateway.senders.proofs import Signature

# By metric, whatever was sent: email, push, sms, slack, webhook, in_app; the rest is `tracked`.
KINDS = {
    "opened": EventKind.opened,
    "clicked": EventKind.clicked,
    "bounced": EventKind.bounced,
    "dropped": EventKind.bounced,
    "undeliverable": EventKind.bounced,
    "spammed": EventKind.unsubscribed,  # whoever complains wants no more
    "unsubscribed": EventKind.unsubscribed,
    "subscribed": EventKind.subscribed,
    "cio_subscription_preferences_changed": EventKind.updated,
} | dict.fromkeys(
    ("drafted", "attempted", "sent", "delivered", "converted", "deferred", "failed"),
    EventKind.tracked,
)


class CustomerIoWebhooks(BaseModel, frozen=True, extra="forbid"):
    """What an operator says about Customer.io's webhooks. The secret is the signing key."""

    window_s: int = Field(
        default=300,
        ge=1,
        description="A request signed longer ago than this is refused. Up to 604800 (7 days) where "
        "repeats turn out to come with their first signature.",
    )


class Sender(Declared):
    """One reporting webhook."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="customerio",
        options=CustomerIoWebhooks,
        body_bytes_max=1024 * 1024,
        answer_within_s=4.0,
        kept_headers=("content-type", "user-agent", "x-cio-signature", "x-cio-timestamp"),
    )
    events = Events(
        kind=("object_type", "metric"),
        kinds=KINDS,
        objects=(
            Subject(
                type="customer",
                id="data.customer_id|data.identifiers.id|data.identifiers.cio_id",
            ),
        ),
        time="timestamp",
        values=("data", "data.identifiers"),
    )

    def __init__(self, options: CustomerIoWebhooks, secrets: Sequence[SecretStr]) -> None:
        super().__init__(options, secrets)
        self.proof = Signature(
            header="x-cio-signature",
            signed="v0:{timestamp}:{body}",
            timestamp="x-cio-timestamp",
            window_s=options.window_s,
        )

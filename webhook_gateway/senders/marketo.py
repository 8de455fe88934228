"""Adobe Marketo Engage: webhooks as flow steps of trigger campaigns.

Body     whatever a user's template says, one lead a call; page "Webhooks" (2025-05). This sender
         reads JSON and forms. A template that fills in all that it looks for, encoded as JSON:
         {"id": {{lead.Id}}, "event": "updated", "campaign": {{campaign.id}},
          "time": {{system.dateTime}}, "fields": {"email": {{lead.Email Address}}}}
Answer   2xx within 30 s; **never repeated**: what is not taken is lost, so read the changes as well
Proof    none: a fixed header, or a secret in the address
Repeats  there are none; an event is named by all of its fields
Traps    tokens that are inserted without encoding break the body: it is parked as it came; a
         webhook that is set to GET carries nothing and is taken for a check of the address
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field, SecretStr

from schemas.events import EventKind
from webhook_gateway.senders.base import SenderSpec
from webhook_gateway.senders.declared import Declared, Events, Subject
from webhook_gateway.senders.proofs import SharedSecret


class MarketoWebhooks(BaseModel, frozen=True, extra="forbid"):
    """What an operator says about Marketo's webhooks. The secret is the header's value."""

    header: str = Field(
        default="authorization",
        description="Header that holds the secret, from the webhook's custom headers.",
    )
    kind: str = Field(default="event|type", description="Where the template says what happened.")
    lead: str = Field(default="id|leadId|lead_id|lead.id", description="Where it says which lead.")
    time: str = Field(default="time|timestamp|occurred_at", description="Where it says when.")
    fields: str = Field(default="fields|lead", description="Where it has the lead's fields.")


class Sender(Declared):
    """The webhooks of one instance that use one address."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="marketo",
        options=MarketoWebhooks,
        body_bytes_max=1024 * 1024,
        answer_within_s=30.0,
        kept_headers=("content-type", "user-agent"),
        secret_in_path=True,
    )

    def __init__(self, options: MarketoWebhooks, secrets: Sequence[SecretStr]) -> None:
        super().__init__(options, secrets)
        self.proof = SharedSecret(header=options.header)
        self.events = Events(
            body="either",
            kind=(options.kind,),
            kind_default="updated",  # a campaign found the lead worth telling of
            kinds={kind.value: kind for kind in EventKind},
            objects=(Subject(type="lead", id=options.lead),),
            time=options.time,
            values=(options.fields,),
        )

"""ActiveCampaign: webhooks of one account.

Body     a form with brackets, one event; page "Webhooks", and as captured by others
Answer   2xx; **never repeated**, and bulk imports tell of nothing: read the changes as well; 410
         would switch the webhook off
Proof    none: a secret in the address
Repeats  there are none; an event is named by all of its fields
Traps    `contact[fields]` is keyed by number; several choices are one text, parted by `||`
"""

from typing import ClassVar

from schemas.events import EventKind
from webhook_gateway.senders.base import SenderSpec
from webhook_gateway.senders.declared import Declared, Events, NoOptions, Subject
from webhook_gateway.senders.proofs import SharedSecret

KINDS = {
    "subscribe": EventKind.subscribed,
    "unsubscribe": EventKind.unsubscribed,
    "sms_unsub": EventKind.unsubscribed,
    "bounce": EventKind.bounced,
    "open": EventKind.opened,
    "click": EventKind.clicked,
    "sent": EventKind.tracked,
    "forward": EventKind.tracked,
    "share": EventKind.tracked,
    "reply": EventKind.tracked,
    "sms_sent": EventKind.tracked,
    "sms_reply": EventKind.tracked,
    "contact_add": EventKind.created,
    "update": EventKind.updated,
    "contact_update": EventKind.updated,
    "contact_delete": EventKind.deleted,
    "contact_tag_added": EventKind.updated,
    "contact_tag_removed": EventKind.updated,
    "deal_add": EventKind.created,
    "deal_update": EventKind.updated,
    "deal_delete": EventKind.deleted,
    "account_add": EventKind.created,
    "account_update": EventKind.updated,
    "account_delete": EventKind.deleted,
    "account_contact_add": EventKind.associated,
    "account_contact_update": EventKind.associated,
    "account_contact_delete": EventKind.associated,
    "list_add": EventKind.created,
}  # notes, tasks, stages, pipelines and whatever comes later: other


class Sender(Declared):
    """One webhook of an account."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="activecampaign",
        options=NoOptions,
        body_bytes_max=1024 * 1024,
        answer_within_s=5.0,  # not documented; what the impatient ones allow
        kept_headers=("content-type", "user-agent"),
        secret_in_path=True,
    )
    proof = SharedSecret(header="")
    events = Events(
        body="form",
        kinds=KINDS,
        objects=(
            Subject(type="deal", id="deal.id"),
            Subject(type="account", id="account.id"),
            Subject(type="list", id="list.id"),
            Subject(type="contact", id="contact.id"),
        ),
        related=(Subject(type="contact", id="contact.id"),),
        time="date_time",
        values=("contact", "account", "deal"),
    )

"""Any sender of JSON or forms that is declared in its connection instead of in a file of its own.

Body     JSON: an event, a list of events, or an object with one inside; or a form
Answer   200 within 5 s: what the impatient ones allow
Proof    a declared signature, a shared secret, or the preset `standard_webhooks` (the default)
Repeats  are told by declared paths; what differs in a repeat can be declared as well

Standard Webhooks 1.0: https://github.com/standard-webhooks/standard-webhooks (read 2026-11)
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, Field, SecretStr

from schemas.events import OURS, EventKind
from webhook_gateway.senders.base import SenderSpec
from webhook_gateway.senders.declared import Declared, Events, Subject, spec_of
from webhook_gateway.senders.proofs import STANDARD_WEBHOOKS, AnyProof

PRESET = Events(
    id=("header:webhook-id",),
    kind=("type",),
    kinds={kind.value: kind for kind in EventKind if kind not in OURS},
    objects=(Subject(type="{kind}", id="data.id"),),
    time="timestamp",
    values=("data",),
)


class GenericWebhooks(BaseModel, frozen=True, extra="forbid"):
    """What an operator declares of a sender that is not known here."""

    proof: Literal["standard_webhooks"] | AnyProof = Field(
        default="standard_webhooks", description="How its requests prove themselves."
    )
    events: Events = Field(
        default=PRESET,
        description="Where the events are in its bodies; default: as Standard Webhooks advises.",
    )


class Sender(Declared):
    """One declared sender."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="generic",
        options=GenericWebhooks,
        body_bytes_max=4 * 1024 * 1024,
        answer_within_s=5.0,
        kept_headers=("content-type", "user-agent"),
    )

    def __init__(self, options: GenericWebhooks, secrets: Sequence[SecretStr]) -> None:
        super().__init__(options, secrets)
        self.events = options.events
        declared = options.proof
        self.proof = STANDARD_WEBHOOKS if declared == "standard_webhooks" else declared
        self.spec = spec_of(self.spec, self.proof)  # pyright: ignore[reportAttributeAccessIssue]  # of this connection, instead of the platform's

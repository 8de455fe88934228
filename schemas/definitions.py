"""What people configure: connections, syncs, mappings. A folder of YAML, then `definitions`.

On the topic each is a `Definition`: the document as JSON under `kind:name@version`, immutable, and
a pointer `kind:name` to the active version. Secrets are references, never values.
"""

from enum import StrEnum
from ipaddress import ip_network
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.base import Message

__all__ = ["Connection", "Definition", "Identify", "Policy", "Sync", "Webhook", "WebhookBounds"]


class Definition(Message):
    """A versioned document; or, with an empty `document`, the pointer to the active version."""

    kind: str = Field(description="connection, sync, mapping or fields.")
    name: str
    version: int
    document: str = Field(default="", description="JSON.")
    hash: str = ""
    applied_ms: int
    applied_by: str = ""


class Config(BaseModel):
    """A YAML file: closed, so that a misspelt key is an error with its line."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class Policy(StrEnum):
    """What becomes of later changes of a person after a refusal."""

    merge = "merge"
    hold = "hold"
    pass_ = "pass"  # noqa: S105 - a policy, not a password


class Identify(Config):
    """Which key says that two objects are one person."""

    field: str = Field(description="Source field, by the platform's own name, e.g. `email`.")
    normalise: Literal["email", "email_case", "email_plus", "text"] = Field(
        default="email",
        description="`email`: in small letters. `email_case`: only the domain is. `email_plus`: as "
        "`email`, without `+` and what follows it in the mailbox. `text`: as it is, not compared "
        "with addresses.",
    )
    shared: bool = Field(
        default=False,
        description="Two of these objects with one address stay two persons (a family, an office).",
    )
    joins: Literal["automatic", "ask", "never"] = Field(
        default="ask",
        description="An object of one person shows the key of another: join the two, ask, or not.",
    )


def _network(text: str) -> str:
    return str(ip_network(text, strict=False))


class WebhookBounds(Config):
    """What one connection may take of the gateway; beyond it the answer is 503."""

    body_bytes_max: int | None = Field(
        default=None, ge=1, description="Lower than what the platform documents, where you know it."
    )
    requests_s: float | None = Field(
        default=None, gt=0, description="Genuine requests a second, on average. Empty: any number."
    )
    burst: int = Field(default=100, ge=1, description="Requests at once above that average.")
    in_hand_max: int | None = Field(
        default=None, ge=1, description="Requests that wait for Kafka at a time."
    )


class Webhook(Config):
    """How webhooks of this connection prove themselves."""

    secret: str = Field(description="Reference: `env:NAME` or `file:PATH`.")
    previous_secret: str = Field(default="", description="Second secret during a rotation.")
    options: dict[str, Any] = Field(default={}, description="What the sender's file declares.")
    bounds: WebhookBounds = WebhookBounds()
    allow_from: list[Annotated[str, AfterValidator(_network)]] = Field(
        default=[],
        description="Addresses or networks that may send: `192.0.2.0/24`. Empty: any.",
    )
    client_names: list[str] = Field(
        default=[],
        description="Mutual TLS: names, one of which the client certificate must bear (subject CN "
        "or DNS name); `*`: any certificate of the gateway's client authority. Empty: none asked.",
    )


class Connection(Config):
    """One account at one platform."""

    connection: str = Field(
        description="Name; part of the webhook address.", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$"
    )
    platform: str
    account: str = Field(description="The platform's own id of the account: portal, organisation.")
    base_url: str = Field(default="", description="Only where it differs from the platform's own.")
    tier: str = Field(default="", description="Account tier, as in ratelimits/registry.")
    secrets: dict[str, str] = Field(default={}, description="Name to reference: `env:…`, `file:…`.")
    options: dict[str, Any] = Field(default={}, description="What the connector declares.")
    webhook: Webhook | None = None
    identify: dict[str, Identify] = Field(
        default={},
        description="Object type to its identifying key; without one the object is itself.",
    )
    quotas: dict[str, Any] = Field(default={}, description="Overrides of the registry's figures.")


AnsweredKind = Literal["subscribed", "unsubscribed", "bounced", "deleted"]


class Sync(Config):
    """A standing order: from, to, mapping, policy."""

    sync: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    source: str = Field(description="Connection.")
    source_object: str
    destination: str = Field(description="Connection.")
    destination_object: str
    mapping: str = Field(description="Name of the mapping document.")
    match: str = Field(
        default="", description="Destination field by which people already there are found."
    )
    policy: Policy = Policy.merge
    live: bool = Field(default=True, description="Follow webhooks too, not only bulk runs.")
    kinds: dict[AnsweredKind, dict[str, Any]] = Field(
        default={},
        description="What such an event sets at the destination, by field. Whoever unsubscribed or "
        "bounced keeps what that sets, in every row, until a later `subscribed`. A kind that is "
        "not named changes nothing.",
    )

"""What people configure: connections, syncs, mappings. A folder of YAML, then `definitions`.

On the topic each is a `Definition`: the document as JSON under `kind:name@version`, immutable, and
a pointer `kind:name` to the active version. Secrets are references, never values.
"""

from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.base import Message

__all__ = [
    "ALL",
    "ERASE",
    "REMOVING",
    "Audience",
    "Connection",
    "Definition",
    "Hook",
    "Identify",
    "ListSource",
    "Policy",
    "Schedule",
    "Sync",
    "Webhook",
    "WebhookBounds",
]

ALL = "*"
"""All fields that are not named."""


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


ERASE = "erase"
"""What `archive` and `delete` leave is gone, too: for good."""
REMOVING = ("deleted", "forgotten")
"""Kinds that may take an object away."""

AnsweredKind = Literal["subscribed", "unsubscribed", "bounced", "deleted", "forgotten"]


def _web_address(text: str) -> str:
    """https, or plain http to this machine: what is sent there may not be read on the way."""
    parts = urlsplit(text)
    if not parts.hostname or parts.username or parts.fragment:
        raise ValueError("is no address: https://host/path")
    if parts.scheme == "https" or (parts.scheme == "http" and _here(parts.hostname)):
        return text
    raise ValueError("must begin with https://")


def _here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


WebAddress = Annotated[str, AfterValidator(_web_address)]


class Schedule(Config):
    """When bulk runs of a sync begin by themselves."""

    cron: str = Field(description="Minute, hour, day, month, weekday: `30 6 * * mon-fri`.")
    zone: str = Field(default="UTC", description="Time zone: `Europe/Berlin`.")
    missed: Literal["latest", "skip"] = Field(
        default="latest",
        description="What becomes of a time that passed while nothing ran, or while the run before "
        "was still going: `latest` makes up for the newest one of them, `skip` for none that is "
        "more than 5 minutes old.",
    )


class ListSource(Config):
    """Where the list of an audience is fetched, each time that its schedule says."""

    url: WebAddress = Field(description="GET gives the list: one id a line, or a table.")
    secret: str = Field(default="", description="Bearer token: `env:NAME` or `file:PATH`.")
    column: str = Field(default="", description="Of a table with a heading: the one of the ids.")
    leaves_max: float = Field(
        default=0.5, ge=0, le=1,
        description="Share of the last list that may leave. More is not done, and told.",
    )  # fmt: skip


class Hook(Config):
    """Who is told. Delivered from the journal, in order, at least once, with the same `webhook-id`
    each time."""

    url: WebAddress | None = Field(default=None, description="Empty: one line in the log.")
    secret: str = Field(
        default="", description="Signs it as Standard Webhooks say: reference to `whsec_…`."
    )
    form: Literal["event", "chat", "email"] = Field(
        default="event",
        description="event: JSON with all fields; chat: `{text}`, as incoming webhooks of chat "
        "programs take it; email: `{from, to, subject, text}`, as mail services take it.",
    )
    headers: dict[str, str] = Field(
        default={}, description="HTTP header to the reference of its value."
    )
    sender: str = Field(default="", description="email: the address it is from.")
    to: list[str] = Field(default=[], description="email: the addresses it is for.")


class Audience(Config):
    """A sync for the objects of a list only: `syncline audience put` gives the list."""

    joined: dict[str, Any] = Field(
        default={}, description="What every row of a member carries, by destination field."
    )
    left: dict[str, Any] = Field(
        default={},
        description="What is set at the destination when an object has left the list. Empty: "
        "nothing is sent, and what stands there stays.",
    )
    list: ListSource | None = Field(
        default=None, description="Where the list is fetched. Empty: people give it."
    )


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
    ruling: str | dict[str, str] = Field(
        default="",
        description="Connection that rules where several feed this destination: its values stand, "
        "whatever the time of others. One for all fields, or by destination field; `*` is all that "
        "are not named. Empty: the newest counts.",
    )
    live: bool = Field(default=True, description="Follow webhooks too, not only bulk runs.")
    kinds: dict[AnsweredKind, str | dict[str, Any]] = Field(
        default={},
        description="What such an event sets at the destination, by field; or, of `deleted` and "
        "`forgotten`, what becomes of the object there: `archive`, `delete` or `erase`, as the "
        "platform can. Whoever unsubscribed or bounced keeps what that sets, in every row, until a "
        "later `subscribed`; whoever was forgotten (deleted for the sake of privacy) is never sent "
        "anywhere again. A kind that is not named changes nothing.",
    )
    audience: Audience | None = Field(
        default=None, description="Only objects on a list are sent. Empty: all are."
    )
    schedule: Schedule | None = Field(
        default=None, description="Bulk runs that begin by themselves."
    )
    on_state_change: list[Hook] = Field(
        default=[], description="Told when a run of the sync changes its state."
    )
    on_error: list[Hook] = Field(
        default=[],
        description="Told when records are refused, a run is stuck, or a scheduled one cannot "
        "begin: what comes within half a minute is one message.",
    )

    @property
    def rulers(self) -> dict[str, str]:
        """`ruling` by field."""
        if isinstance(self.ruling, str):
            return {ALL: self.ruling} if self.ruling else {}
        return self.ruling

"""Which connections are served, and how: definitions and secrets made ready for the hot path."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from pydantic import SecretStr, ValidationError

from schemas.codec import Codec
from schemas.definitions import Connection, Definition, Webhook, WebhookBounds
from schemas.secrets import SecretMissing
from webhook_gateway.encode import EventEncoder
from webhook_gateway.guard import Guard
from webhook_gateway.senders import sender_type
from webhook_gateway.senders.base import Sender, UnknownPlatform
from webhook_gateway.stats import Stats

__all__ = ["Misconfigured", "Route", "Routes", "build"]

log = structlog.get_logger()

Resolve = Callable[[str], SecretStr]


class Misconfigured(Exception):
    """A connection cannot be served as it is defined. The text names it and says why."""


@dataclass(slots=True)
class Route:
    """One connection, ready to serve."""

    connection: Connection
    sender: Sender
    encoder: EventEncoder
    codec: Codec
    secrets: tuple[SecretStr, ...] = field(repr=False)
    stats: Stats
    bounds: WebhookBounds
    guard: Guard
    body_bytes_max: int
    signature_headers: tuple[str, ...]
    """Those that sign the body, whole or in part."""
    peers: Mapping[str, EventEncoder] = field(default_factory=dict)
    """Account id to encoder: this connection and others whose webhooks the same secret proves."""

    def encoder_of(self, account: str) -> EventEncoder | None:
        return self.encoder if not account else self.peers.get(account)


def build(
    connection: Connection, webhook: Webhook, codec: Codec, resolve: Resolve, *, certificates: bool
) -> Route:
    """`certificates`: whether clients are asked for one at all. Raises Misconfigured, also for a
    secret that is missing."""
    name = connection.connection
    if webhook.client_names and not certificates:
        raise Misconfigured(
            f"connection {name}: webhook.client_names needs a gateway with --tls-client-ca"
        )
    try:
        kind = sender_type(connection.platform)
        options = kind.spec.options.model_validate(_resolved(webhook.options, resolve))
        references = [r for r in (webhook.secret, webhook.previous_secret) if r]
        secrets = tuple(resolve(reference) for reference in references)
    except UnknownPlatform:
        raise Misconfigured(
            f"connection {name}: webhooks of {connection.platform!r} are not known here"
        ) from None
    except ValidationError as error:
        where = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
        raise Misconfigured(f"connection {name}: webhook.options: {where}") from None
    except SecretMissing as error:
        raise Misconfigured(f"connection {name}: {error}") from None
    sender = kind(options, secrets)
    bytes_max = sender.spec.body_bytes_max
    return Route(
        connection=connection,
        sender=sender,
        encoder=EventEncoder(codec, name, connection.platform),
        codec=codec,
        secrets=secrets,
        stats=Stats(),
        bounds=webhook.bounds,
        guard=Guard(webhook.allow_from, webhook.client_names),
        body_bytes_max=min(bytes_max, webhook.bounds.body_bytes_max or bytes_max),
        signature_headers=tuple(h for h in sender.spec.kept_headers if "signature" in h.lower()),
    )


def _resolved(options: Mapping[str, Any], resolve: Resolve) -> dict[str, Any]:
    """An option may be a reference too, as an account's id is that differs between environments.

    Raises SecretMissing.
    """
    return {
        name: resolve(value).get_secret_value()
        if isinstance(value, str) and value.startswith(("env:", "file:"))
        else value
        for name, value in options.items()
    }


class Routes:
    """Name to route. `load` swaps the whole table at once; requests under way keep their own."""

    def __init__(self, codec: Codec, resolve: Resolve, *, certificates: bool = True) -> None:
        self.codec, self._resolve, self._certificates = codec, resolve, certificates
        self.table: dict[str, Route] = {}

    def load(self, definitions: Iterable[Definition]) -> list[Misconfigured]:
        """Serve these connections; -> what is wrong with some of them.

        One that was good before is served on as it was; counters go on in any case.
        """
        table: dict[str, Route] = {}
        wrong: list[Misconfigured] = []
        for definition in definitions:
            try:
                document = msgspec.json.decode(definition.document)
                connection = Connection.model_validate(document)
                if connection.webhook is None:
                    continue
                route = build(
                    connection,
                    connection.webhook,
                    self.codec,
                    self._resolve,
                    certificates=self._certificates,
                )
            except (Misconfigured, ValidationError, msgspec.DecodeError) as error:
                wrong.append(
                    error
                    if isinstance(error, Misconfigured)
                    else Misconfigured(f"connection {definition.name}: not a valid document")
                )
                if (old := self.table.get(definition.name)) is not None:
                    table[definition.name] = old
                continue
            if (old := self.table.get(definition.name)) is not None:
                route.stats = old.stats
            table[definition.name] = route
        for route in table.values():
            route.peers = _peers(route, table.values())
        self.table = table
        return wrong


def _peers(route: Route, others: Iterable[Route]) -> dict[str, EventEncoder]:
    """One app of a platform serves several accounts and signs for all of them with one secret."""
    values = {s.get_secret_value() for s in route.secrets}
    return {
        other.connection.account: other.encoder
        for other in others
        if other.connection.platform == route.connection.platform
        and not values.isdisjoint(s.get_secret_value() for s in other.secrets)
    } | {route.connection.account: route.encoder}

"""Platform name to connector class, and a connection's definition to a working connector."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from connectors.base import Connector, Http
from connectors.http import HttpClient
from connectors.oauth import Secrets
from schemas.definitions import Connection
from schemas.secrets import SecretMissing, resolve
from schemas.yamlfile import ConfigInvalid

__all__ = ["CONNECTORS", "Misconfigured", "build", "connector_class", "platforms", "register"]

DESCRIPTIONS = Path(__file__).with_name("platforms")
"""Each `<name>.yaml` there is a platform without code."""

CONNECTORS: dict[str, str | Path | type[Connector]] = {
    **{path.stem: path for path in sorted(DESCRIPTIONS.glob("*.yaml"))},
    "ga4": "connectors.platforms.ga4:GA4",
    "hubspot": "connectors.platforms.hubspot:HubSpot",
    "mailchimp": "connectors.platforms.mailchimp:Mailchimp",
    "salesforce": "connectors.platforms.salesforce:Salesforce",
    "segment": "connectors.platforms.segment:Segment",
}
"""Imported or read when needed: a worker for one platform does not load the others."""


class Misconfigured(Exception):
    """A connection that cannot be worked with; the text says why, without secrets."""


def platforms() -> list[str]:
    return sorted(CONNECTORS)


def register(platform: str, connector: type[Connector]) -> None:
    """Add a connector that is not part of this package."""
    CONNECTORS[platform] = connector


def connector_class(platform: str) -> type[Connector]:
    """Raises Misconfigured for a platform that nobody wrote, or whose description is wrong."""
    known = CONNECTORS.get(platform)
    if known is None:
        raise Misconfigured(f"unknown platform {platform!r}; known: {', '.join(platforms())}")
    if isinstance(known, str):
        module, _, name = known.partition(":")
        known = CONNECTORS[platform] = getattr(importlib.import_module(module), name)
    elif isinstance(known, Path):
        known = CONNECTORS[platform] = _described(known)
    return known


def _described(path: Path) -> type[Connector]:
    declared = importlib.import_module("connectors.declared")
    try:
        return declared.declared(declared.load(path))
    except ConfigInvalid as error:
        raise Misconfigured(str(error)) from None


def build(
    connection: Connection, client: Callable[..., Http] = HttpClient
) -> tuple[Connector, Http]:
    """The connector of a connection, and the client that it sends with (the caller closes it).

    Reads the secrets anew. Raises Misconfigured: unknown platform, wrong options, no address, a
    secret that is not there.
    """
    name = connection.connection
    make: Any = connector_class(connection.platform)
    spec = make.spec
    try:
        config = spec.config.model_validate(connection.options)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Misconfigured(f"connection {name}: options.{where}: {first['msg']}") from None
    base_url = connection.base_url or spec.base_url.format(**config.model_dump())
    if not base_url.startswith(("https://", "http://")):
        raise Misconfigured(f"connection {name}: base_url is missing or no http(s) address")
    secrets: dict[str, SecretStr] = {}
    for secret in spec.wanted(connection.secrets):
        reference = connection.secrets.get(secret)
        if reference is None:
            raise Misconfigured(f"connection {name}: secret {secret!r} is not given")
        try:
            secrets[secret] = resolve(reference)
        except SecretMissing as error:
            raise Misconfigured(f"connection {name}: {error}") from None
    hosts = {} if connection.base_url else spec.hosts
    http = client(base_url, hosts) if hosts else client(base_url)
    return make(config, Secrets(secrets, connection.secrets), http), http

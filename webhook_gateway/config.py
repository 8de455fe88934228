"""What a gateway process is told. Bounds have defaults that fit a small machine."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["Bounds", "GatewayConfig", "Tls", "told", "untold"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """Everything that could grow has one. Beyond: 503 with Retry-After, or the peer is let go."""

    peers_max: int = 4096
    """Open TCP connections; one more lets the one go that has been idle longest."""
    requests_max: int = 512
    """POSTs of one connection that wait for Kafka."""
    bytes_max: int = 32 * MIB
    """Body bytes in hand; one connection may have as many as are free, so alone half of it."""
    queue_messages_max: int = 50_000
    """Messages that Kafka has not confirmed; of one connection, as with bytes."""
    head_s: float = 10.0
    """From a request's first byte to the end of its headers."""
    idle_s: float = 75.0
    """A connection without a request is closed; longer than the usual proxy keeps one (60 s)."""
    drain_s: float = 7.5
    """After SIGTERM, for what is under way; with Kafka's flush and the rest under 10 s."""
    quarantine_bytes_s: int = 16 * 1024
    """Refused bodies kept per connection, on average; at most 10 GB in the topic's seven days."""
    quarantine_burst_bytes: int = 16 * MIB


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. With a client authority clients may show a certificate that it signed; which
    connections ask for one, and in whose name, their definitions say."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer. Raises OSError, ssl.SSLError among them, for files that are no good."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """`kafka` is a librdkafka client configuration: bootstrap.servers, TLS, SASL."""

    kafka: Mapping[str, Any]
    registry_url: str
    registry: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further settings of the registry's client: a login, certificates."""
    public_url: str = ""
    """Address under which senders know us, as they sign it; empty: http://host:port."""
    host: str = "127.0.0.1"
    port: int = 8080
    """0 picks a free one."""
    proxies: Sequence[str] = ()
    """Networks of proxies in front of us, whose X-Forwarded-For is believed."""
    tls: Tls | None = None
    """None: plain HTTP, as behind a proxy that ends TLS."""
    admin_host: str = "127.0.0.1"
    admin_port: int = 9090
    start_s: float = 60.0
    """How long Kafka, the registry and the topics may be missing at start."""
    log_level: str = "info"
    bounds: Bounds = field(default_factory=Bounds)


def told(config: GatewayConfig) -> bytes:
    """As another process can be told; passwords are in it."""
    return msgspec.json.encode(config, enc_hook=str)


def untold(data: bytes) -> GatewayConfig:
    return msgspec.json.decode(data, type=GatewayConfig, dec_hook=lambda kind, value: kind(value))

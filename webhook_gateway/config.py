"""What a gateway process is told. Bounds have defaults that fit a small machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Bounds", "GatewayConfig"]

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """Everything that could grow has one. Beyond: 503 with Retry-After, or the peer is let go."""

    peers_max: int = 4096
    """Open TCP connections; one more lets the one go that has been idle longest."""
    requests_max: int = 512
    """POSTs in hand of one connection."""
    bytes_max: int = 32 * MIB
    """Body bytes in hand of all connections; one connection may have half of it."""
    queue_messages_max: int = 50_000
    """Messages that Kafka has not confirmed."""
    head_s: float = 10.0
    """From a request's first byte to the end of its headers."""
    idle_s: float = 75.0
    """A connection without a request is closed; longer than the usual proxy keeps one (60 s)."""
    drain_s: float = 9.0
    """After SIGTERM, for what is under way."""
    quarantine_bytes_s: int = 16 * 1024
    """Refused bodies kept per connection, on average; at most 10 GB in the topic's seven days."""
    quarantine_burst_bytes: int = 16 * MIB


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """`kafka` is a librdkafka client configuration: bootstrap.servers, TLS, SASL."""

    kafka: Mapping[str, Any]
    registry_url: str
    public_url: str = ""
    """Address under which senders know us, as they sign it; empty: http://host:port."""
    host: str = "127.0.0.1"
    port: int = 8080
    """0 picks a free one."""
    admin_host: str = "127.0.0.1"
    admin_port: int = 9090
    start_s: float = 60.0
    """How long Kafka, the registry and the topics may be missing at start."""
    bounds: Bounds = field(default_factory=Bounds)

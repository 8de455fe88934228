"""librdkafka's words for TLS and SASL -> Faust's, for the one client that is aiokafka."""

import ssl
from collections.abc import Mapping
from typing import Any

import faust

__all__ = ["Unsupported", "credentials"]

MECHANISMS = frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})
"""What both clients speak with a name and a password."""


class Unsupported(ValueError):
    """A setting that one of the two clients cannot follow."""


def credentials(kafka: Mapping[str, Any]) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """None: no TLS, no SASL. Raises Unsupported; OSError where a certificate cannot be read."""
    protocol = str(kafka.get("security.protocol", "PLAINTEXT")).upper()
    if protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
        raise Unsupported(f"security.protocol: {protocol}")
    context = _context(kafka) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL"):
        mechanism = str(kafka.get("sasl.mechanism") or kafka.get("sasl.mechanisms") or "PLAIN")
        if mechanism not in MECHANISMS:
            raise Unsupported(f"sasl.mechanism: {mechanism}; takes {', '.join(sorted(MECHANISMS))}")
        return faust.SASLCredentials(
            mechanism=mechanism, username=kafka.get("sasl.username"),
            password=kafka.get("sasl.password"), ssl_context=context,
        )  # fmt: skip
    return faust.SSLCredentials(context) if context else None


def _context(kafka: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=kafka.get("ssl.ca.location"))
    if str(kafka.get("ssl.endpoint.identification.algorithm", "https")) == "none":
        context.check_hostname = False
    if certificate := kafka.get("ssl.certificate.location"):
        context.load_cert_chain(
            certificate, kafka.get("ssl.key.location"), kafka.get("ssl.key.password")
        )
    return context

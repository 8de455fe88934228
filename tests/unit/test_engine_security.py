"""One set of Kafka settings for two clients: what librdkafka is told, aiokafka does too."""

import ssl
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from streams.engine.security import Unsupported, credentials


def test_nothing_set_is_plain_text() -> None:
    assert credentials({}) is None
    assert credentials({"security.protocol": "plaintext"}) is None


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "sasl_ssl"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_name_and_a_password(protocol: str, mechanism: str) -> None:
    auth: Any = credentials_to_aiokafka_auth(
        credentials(
            {"security.protocol": protocol, "sasl.mechanism": mechanism, "sasl.username": "u",
             "sasl.password": "p"}
        )
    )  # fmt: skip
    assert auth["security_protocol"] == protocol.upper()
    assert auth["sasl_mechanism"] == mechanism
    assert (auth["sasl_plain_username"], auth["sasl_plain_password"]) == ("u", "p")
    assert (auth["ssl_context"] is not None) == protocol.upper().endswith("SSL")


def test_tls_checks_the_broker_s_name_unless_told_not_to() -> None:
    auth: Any = credentials_to_aiokafka_auth(credentials({"security.protocol": "SSL"}))
    assert auth["security_protocol"] == "SSL"
    assert auth["ssl_context"].check_hostname
    assert auth["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    loose = {"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "none"}
    auth = credentials_to_aiokafka_auth(credentials(loose))
    assert not auth["ssl_context"].check_hostname
    assert auth["ssl_context"].verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    "kafka",
    [
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"},
        {"security.protocol": "KERBEROS"},
    ],
)
def test_what_one_client_cannot_do_is_refused(kafka: dict[str, str]) -> None:
    with pytest.raises(Unsupported):
        credentials(kafka)


def test_a_certificate_that_is_not_there() -> None:
    with pytest.raises(OSError):
        credentials({"security.protocol": "SSL", "ssl.ca.location": "/nowhere.pem"})

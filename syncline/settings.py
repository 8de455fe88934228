"""Settings from the environment: `SYNCLINE_*`, and two names that everybody knows from Kafka."""

from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings"]

SECRET_WORDS = ("password", "secret", "sasl_jaas", "key_pem")


class Settings(BaseSettings):
    """What every process reads. `syncline doctor` lists all with their values."""

    model_config = SettingsConfigDict(
        env_prefix="SYNCLINE_", env_nested_delimiter="__", frozen=True, populate_by_name=True
    )

    bootstrap_servers: str = Field(
        default="",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "SYNCLINE_BOOTSTRAP_SERVERS"),
        description="Kafka brokers, host:port, separated by commas. Empty: the embedded stack.",
    )
    registry_url: str = Field(
        default="",
        validation_alias=AliasChoices("SCHEMA_REGISTRY_URL", "SYNCLINE_REGISTRY_URL"),
        description="Schema registry with the Confluent API. Empty: the embedded one.",
    )
    kafka: dict[str, str] = Field(
        default={},
        description="Any librdkafka client setting, dots as underscores: "
        "SYNCLINE_KAFKA__SECURITY_PROTOCOL=SASL_SSL, SYNCLINE_KAFKA__SASL_PASSWORD=…",
    )
    data: Path = Field(
        default=Path(".syncline"), description="Folder for the embedded stack and local tables."
    )
    partitions: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Partitions of every topic that feeds a table. Fixed for a cluster's life.",
    )
    replication: int = Field(default=1, ge=1, description="Copies of every topic; 3 in production.")
    slot: str = Field(
        default="0",
        pattern=r"^[a-z0-9-]{1,40}$",
        description="Stable name of this process among its kind: its static membership, its "
        "transactional id and its data folder hang on it. Two running processes never share one.",
    )
    log_level: str = Field(default="info", pattern=r"^(debug|info|warning|error)$")

    def kafka_config(self) -> dict[str, Any]:
        """For any confluent-kafka client: where, and TLS/SASL as given."""
        own = {k.lower().replace("_", "."): v for k, v in self.kafka.items()}
        return {"bootstrap.servers": self.bootstrap_servers, **own}

    def shown(self) -> dict[str, str]:
        """Variable to value, secrets as `(secret)`."""
        out: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name == "kafka":
                for key, text in value.items():
                    secret = any(w in key.lower() for w in SECRET_WORDS)
                    out[f"SYNCLINE_KAFKA__{key.upper()}"] = "(secret)" if secret else text
                continue
            secret = isinstance(value, SecretStr)
            out[_variable(name)] = "(secret)" if secret else str(value)
        return out


def _variable(name: str) -> str:
    known = {"bootstrap_servers": "KAFKA_BOOTSTRAP_SERVERS", "registry_url": "SCHEMA_REGISTRY_URL"}
    return known.get(name, f"SYNCLINE_{name.upper()}")

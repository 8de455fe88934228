"""Settings from the environment: `SYNCLINE_*`, and two names that everybody knows from Kafka.

Client settings pass through under their own names: `SYNCLINE_KAFKA__SASL_MECHANISM` is librdkafka's
`sasl.mechanism`, `SYNCLINE_REGISTRY__BASIC_AUTH_USER_INFO` is `basic.auth.user.info`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from syncline.errors import Misused

__all__ = ["Settings", "environment"]

KAFKA, REGISTRY = "SYNCLINE_KAFKA__", "SYNCLINE_REGISTRY__"
SECRET = re.compile(r"password|secret|token|\.key|pem|user\.info|jaas|config", re.IGNORECASE)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set while in here; afterwards as they were."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _passed_on(prefix: str) -> dict[str, SecretStr]:
    """As they stand: a password of digits stays a text."""
    return {
        name.removeprefix(prefix).lower().replace("_", "."): SecretStr(value)
        for name, value in os.environ.items()
        if name.startswith(prefix)
    }


class Settings(BaseSettings):
    """What every process reads. `syncline doctor` lists all with their values."""

    model_config = SettingsConfigDict(env_prefix="SYNCLINE_", frozen=True, populate_by_name=True)

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
    kafka: dict[str, SecretStr] = Field(
        default_factory=lambda: _passed_on(KAFKA),
        validation_alias="SYNCLINE_KAFKA",
        description="Any librdkafka client setting, dots as underscores: "
        f"{KAFKA}SECURITY_PROTOCOL=SASL_SSL, {KAFKA}SASL_PASSWORD=…",
    )
    registry: dict[str, SecretStr] = Field(
        default_factory=lambda: _passed_on(REGISTRY),
        validation_alias="SYNCLINE_REGISTRY",
        description="The registry client's settings in the same way: "
        f"{REGISTRY}BASIC_AUTH_USER_INFO=user:password",
    )
    kafka_config_file: Path | None = Field(
        default=None,
        description="File with librdkafka client settings, one `name=value` a line, # for "
        "comments: keeps passwords out of the environment.",
    )
    data: Path = Field(
        default=Path(".syncline"), description="Folder for the embedded stack and local tables."
    )
    cache_dir: Path | None = Field(
        default=None,
        description="Folder for downloaded files. Empty: syncline in the user's cache folder.",
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
    identity_key: SecretStr = Field(
        default=SecretStr(""),
        max_length=64,  # of blake2b
        description="Key under which addresses are hashed, at most 64 ASCII characters. Set it "
        "before the first event and never change it: without it who knows an address can "
        "recompute its hash.",
    )
    log_level: str = Field(
        default="info",
        pattern=r"^(debug|info|warning|error)$",
        description="debug, info, warning or error.",
    )

    def kafka_config(self) -> dict[str, Any]:
        """For any confluent-kafka client: where, and TLS/SASL as given.

        Raises Misused where the file with settings cannot be read.
        """
        own = {name: value.get_secret_value() for name, value in self.kafka.items()}
        # librdkafka waits up to 10 s between tries by default: as long as a session, so that a
        # broker that is back after 3 s would still cost a rebalance.
        defaults = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 1000}
        where = {"bootstrap.servers": self.bootstrap_servers}
        return {**defaults, **where, **self._from_file(), **own}

    def registry_config(self) -> dict[str, str]:
        """For confluent-kafka's SchemaRegistryClient."""
        own = {name: value.get_secret_value() for name, value in self.registry.items()}
        return {"url": self.registry_url, **own}

    def shown(self) -> dict[str, str]:
        """Variable to value, secrets as `(secret)`."""
        out = {
            _variable(name): _plain(getattr(self, name))
            for name in type(self).model_fields
            if name not in ("kafka", "registry")
        }
        for prefix, passed_on in ((KAFKA, self.kafka), (REGISTRY, self.registry)):
            for name, value in sorted(passed_on.items()):
                text = "(secret)" if SECRET.search(name) else value.get_secret_value()
                out[prefix + name.upper().replace(".", "_")] = text
        return out

    @classmethod
    def described(cls) -> dict[str, str]:
        """Variable to what it is for."""
        return {
            {"kafka": f"{KAFKA}…", "registry": f"{REGISTRY}…"}.get(name, _variable(name)): (
                field.description or ""
            )
            for name, field in cls.model_fields.items()
        }

    def _from_file(self) -> dict[str, str]:
        if self.kafka_config_file is None:
            return {}
        try:
            text = self.kafka_config_file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Misused(f"SYNCLINE_KAFKA_CONFIG_FILE: {error}") from error
        found: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            name, equals, value = line.partition("=")
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not equals or not name.strip():
                raise Misused(f"{self.kafka_config_file}:{number}: not a `name=value` line")
            found[name.strip()] = value.strip()
        return found


def _plain(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "(secret)" if value.get_secret_value() else ""
    return "" if value is None else str(value)


def _variable(name: str) -> str:
    known = {"bootstrap_servers": "KAFKA_BOOTSTRAP_SERVERS", "registry_url": "SCHEMA_REGISTRY_URL"}
    return known.get(name, f"SYNCLINE_{name.upper()}")

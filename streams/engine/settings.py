"""What a worker is told when it starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from schemas.kafka_log import KAFKA_LOG

__all__ = ["EngineSettings"]


class EngineSettings(BaseModel, frozen=True):
    """Settings of one worker process. Two workers differ in `slot` and `data_dir` only."""

    group: str = Field(
        pattern=r"^[a-zA-Z0-9._-]{1,150}$",
        description="Consumer group; also begins the names of changelogs and transactional ids.",
    )
    slot: str = Field(
        pattern=r"^[a-zA-Z0-9._-]{1,60}$",
        description="Stable name of this worker's place, such as `0`. Never in use twice at a time;"
        " whoever takes it over throws the one before out.",
    )
    bootstrap_servers: str = Field(description="Kafka brokers, `host:port`, separated by commas.")
    data_dir: Path = Field(description="Local copies of tables; may be lost at any time.")
    kafka: Mapping[str, Any] = Field(
        default={},
        repr=False,
        description="Further librdkafka settings: `security.protocol`, `sasl.*`, `ssl.*`.",
    )
    checkpoint_s: float = Field(
        default=0.05, gt=0, le=5, description="Longest wait of a decision for its checkpoint."
    )
    checkpoint_rows_max: int = Field(
        default=20_000, ge=100, description="Rows and outputs at which a checkpoint is due at once."
    )
    chunk_records_max: int = Field(
        default=2_000, ge=1, description="Most records handed over together."
    )
    chunk_bytes_max: int = Field(
        default=4 << 20, ge=1 << 16, description="Most bytes of one partition fetched together."
    )
    record_bytes_max: int = Field(
        default=900_000,
        ge=10_000,
        description="Largest record that is written; at most `max.message.bytes` of every topic.",
    )
    session_timeout_s: float = Field(
        default=10,
        ge=1,
        description="Silence after which the group gives a worker's partitions away.",
    )
    transaction_timeout_s: float = Field(
        default=10, ge=1, description="Open transaction that the broker ends of itself."
    )
    fetch_wait_s: float = Field(
        default=0.02, gt=0, description="Longest wait of the broker for records."
    )
    revoke_wait_s: float = Field(
        default=5,
        gt=0,
        description="Longest wait for a chunk in hand when partitions are taken away.",
    )
    replication_factor: int = Field(
        default=1, ge=1, description="Copies of each changelog; 3 in earnest."
    )
    block_cache_bytes: int = Field(
        default=64 << 20,
        ge=1 << 20,
        description="Memory for blocks read from disk, of all partitions.",
    )
    write_buffer_bytes: int = Field(
        default=8 << 20,
        ge=1 << 20,
        description="Memory for rows not yet on disk, per partition, twice.",
    )

    @property
    def transactional_id(self) -> str:
        return f"{self.group}-{self.slot}"

    def client(self, **more: Any) -> dict[str, Any]:
        """librdkafka configuration of one client."""
        own = {
            "bootstrap.servers": self.bootstrap_servers,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,  # else up to 10 s after a broker is back
            "log_level": 3,  # errors only
            "logger": KAFKA_LOG,
        }
        return {**own, **self.kafka, **more}

    def changelog(self, table: str) -> str:
        return f"{self.group}-{table}-changelog"

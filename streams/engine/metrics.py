"""What a worker counts, under `syncline_engine_*`."""

from prometheus_client import Counter, Gauge, Histogram

from streams.engine.ledger import Batch

__all__ = ["committed"]

RECORDS = Counter("syncline_engine_records", "Records decided and committed")
OUTPUTS = Counter("syncline_engine_outputs", "Records written to topics, without changelogs")
ROWS = Counter("syncline_engine_rows", "Changed rows written to changelogs and disk")
PARKED = Counter("syncline_engine_parked", "Records that an agent could not decide", ["agent"])
GONE = Counter("syncline_engine_checkpoints_refused", "Checkpoints dropped with their partitions")
CHECKPOINT_S = Histogram(
    "syncline_engine_checkpoint_seconds", "Duration of one checkpoint",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)  # fmt: skip
RESTORED_ROWS = Counter("syncline_engine_restored_rows", "Rows read from changelogs")
PARTITIONS = Gauge("syncline_engine_partitions", "Partitions owned and restored")
LAG = Gauge("syncline_engine_lag", "Offsets not yet decided", ["topic", "partition"])


def committed(batch: Batch, seconds: float) -> None:
    RECORDS.inc(batch.records)
    OUTPUTS.inc(len(batch.outputs))
    ROWS.inc(batch.changed)
    CHECKPOINT_S.observe(seconds)

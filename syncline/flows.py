"""What a destination carries, from its quotas: the credit of bulk runs rests on it."""

from typing import Any

from connectors.base import ObjectSpec, Spec
from ratelimits import registry
from schemas.definitions import Connection

__all__ = ["flow"]


def flow(connection: Connection, spec: Spec, kind: ObjectSpec) -> dict[str, Any]:
    """Rows a second (0: not limited), rows of a full batch, pages of one fetch command."""
    limits = registry.load(connection.platform, connection.tier, connection.quotas)
    return {
        "rows_per_s": round(limits.rows_per_s(kind.write_quota, kind.batch_rows_max), 1),
        "batch_rows": kind.batch_rows_max,
        "fetch_pages_max": spec.fetch_pages_max,
    }

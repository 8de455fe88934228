"""What streams must know of a destination: what it carries, from its quotas, on which the credit of
bulk runs rests; and whether a row names its object itself."""

from typing import Any

from connectors.base import ObjectSpec, Spec
from ratelimits import registry
from schemas.definitions import Connection

__all__ = ["flow"]


def flow(connection: Connection, spec: Spec, kind: ObjectSpec) -> dict[str, Any]:
    """Rows a second (0: not limited), rows of a full batch, pages of one fetch command, the
    field by which each row names its object (empty: it is found by an id or a key of ours),
    whether it may tell nothing of what we write, and rows of a full job where jobs spare calls of a
    day's quota."""
    limits = registry.load(connection.platform, connection.tier, connection.quotas)
    by_day = any(limits.quotas[w].long for w in limits.groups.get(kind.write_quota, ()))
    return {
        "rows_per_s": round(limits.rows_per_s(kind.write_quota, kind.batch_rows_max), 1),
        "batch_rows": kind.batch_rows_max,
        "fetch_pages_max": spec.fetch_pages_max,
        "identity": kind.identity_field,
        "quiet": kind.quiet,
        "job_rows": kind.job.rows_max if kind.job and by_day else 0,
    }

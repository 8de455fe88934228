"""Limits are data: `ratelimits/registry/<platform>.json`, with source and date of each figure."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ratelimits.bucket import Kind, Quota

__all__ = [
    "BatchEntry", "HeaderRule", "Limits", "Override", "RefusalForm", "Registry", "WindowEntry",
    "load", "read", "schema", "tiers",
]  # fmt: skip

FOLDER = Path(__file__).with_name("registry")


class _Closed(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class _Sourced(_Closed):
    note: str = ""
    source: str = Field(pattern=r"^https://", description="Page that gives the figure.")
    read_on: str = Field(pattern=r"^\d{4}-\d\d-\d\d$", description="When that page was read.")


class WindowEntry(_Sourced):
    """One window of one platform."""

    kind: Kind = Field(
        description="moving: so many in any `window_s` (86,400: rolling 24 h); day: so many until "
        "midnight in `zone`; slots: so many requests at once."
    )
    window_s: float = Field(default=0, ge=0, description="Length of a moving window.")
    zone: str = Field(default="UTC", description="Of a calendar day's midnight.")
    limit: dict[str, int | None] = Field(
        description="Account tier to limit, null for none; `default` for all others."
    )
    weighted: bool = Field(default=False, description="Requests spend their cost, not one each.")
    scope: Literal["account", "app", "key", "endpoint"] = "account"
    slow_s: float = Field(
        default=0, description="slots: only requests that last longer count at the platform."
    )
    shared: bool = Field(default=True, description="Other applications spend from it too.")
    names: list[str] = Field(default=[], description="What the platform calls it in a refusal.")

    @model_validator(mode="after")
    def _whole(self) -> "WindowEntry":
        if (self.kind == "moving") != (self.window_s > 0):
            raise ValueError("a moving window has a length, and only that")
        if "default" not in self.limit or any(n is not None and n < 1 for n in self.limit.values()):
            raise ValueError("a limit has a default, and none is below 1")
        return self


class BatchEntry(_Sourced):
    """How much one request may carry."""

    rows_max: int = Field(ge=1)
    body_bytes_max: int | None = None
    row_bytes_max: int | None = None


class HeaderRule(_Closed):
    """Which header of an answer tells what is left of a window."""

    window: str
    header: str = Field(pattern=r"^[a-z0-9-]+$", description="In lower case.")
    form: Literal["number", "used/total"] = "number"
    key: str = Field(default="", description="used/total: `api-usage` in `api-usage=18/5000`.")


class RefusalForm(_Closed):
    """What an answer looks like by which a limit refuses a request."""

    status: int
    where: dict[str, str] = Field(
        default={},
        description="Key (or path: a.0.b) of the JSON body, of its first element, to text within.",
    )
    json_body: bool | None = Field(default=None, description="false: the body is no JSON.")
    window: str = Field(default="", description="The window that was full; empty: it is not said.")
    wait_header: str = Field(
        default="retry-after",
        pattern=r"^[a-z0-9-]+$",
        description="Header, in lower case, that says how long to wait: seconds or a date.",
    )
    wait_body_ms: str = Field(
        default="", description="Where the JSON body says it in milliseconds: `errors.0.data.ms`."
    )


class Registry(_Closed):
    """All quotas of a platform."""

    platform: str
    windows: dict[str, WindowEntry]
    groups: dict[str, list[str]] = Field(description="Group of endpoints to the windows it spends.")
    costs: dict[str, int] = Field(
        default={},
        description="Group to what a request of it spends from weighted windows; 1 where not said.",
    )
    batches: dict[str, BatchEntry] = Field(default={}, description="Call to what it may carry.")
    headers: list[HeaderRule] = []
    refusals: list[RefusalForm] = Field(default=[], description="The first that fits decides.")
    retry_after_max_s: float = Field(default=3600, description="A longer wait is not believed.")

    @model_validator(mode="after")
    def _names(self) -> "Registry":
        named = {n for names in self.groups.values() for n in names}
        named |= {h.window for h in self.headers} | {r.window for r in self.refusals if r.window}
        unknown = named - set(self.windows)
        if unknown:
            raise ValueError(f"no window {', '.join(sorted(unknown))}")
        if unknown := set(self.costs) - set(self.groups):
            raise ValueError(f"no group {', '.join(sorted(unknown))}")
        if any(cost < 1 for cost in self.costs.values()):
            raise ValueError("no cost is below 1")
        return self


class Override(_Closed):
    """What a connection says of one window. Nothing said: as the registry has it."""

    limit: int | None = Field(default=None, ge=0, description="0: no such limit.")
    window_s: float | None = Field(default=None, gt=0)
    zone: str | None = None

    @model_validator(mode="after")
    def _known(self) -> "Override":
        try:
            ZoneInfo(self.zone or "UTC")
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"no time zone {self.zone}") from None
        return self


class Limits(_Closed):
    """The quotas of one account: tier chosen, overrides applied."""

    platform: str
    quotas: dict[str, Quota]
    groups: dict[str, list[str]]
    headers: list[HeaderRule]
    retry_after_max_s: float
    refusals: list[RefusalForm] = []
    names: dict[str, str] = Field(default={}, description="The platform's name to the window's.")
    costs: dict[str, int] = {}

    def rows_per_s(self, group: str, batch_rows: int, latency_s: float = 0.3) -> float:
        """What a group carries with full batches, in steady state; 0: no limit known."""
        rates: list[float] = []
        for name in self.groups.get(group, ()):
            quota = self.quotas[name]
            # A day's quota may be spent as fast as the others allow; it only ends some day.
            if not quota.long:
                window_s = latency_s if quota.kind == "slots" else quota.window_s
                rates.append(quota.limit * batch_rows / window_s)
        return min(rates, default=0.0)


def read(platform: str) -> Registry:
    """The registry's page of a platform. Raises FileNotFoundError for one that has none."""
    return Registry.model_validate_json((FOLDER / f"{platform}.json").read_bytes())


def tiers(platform: str) -> list[str]:
    """Account tiers that a connection may name. Raises FileNotFoundError as `read`."""
    named = {tier for window in read(platform).windows.values() for tier in window.limit}
    return sorted(named - {"default"})


def load(
    platform: str,
    tier: str = "",
    overrides: Mapping[str, Any] | None = None,
    scale: float = 1.0,
) -> Limits:
    """Quotas of an account.

    `overrides`: window to another limit (0: none) or to the fields of `Override`; `unlimited: true`
    takes all away, `scale: n` is `scale`, which multiplies limits, not requests at once: a day's
    work in minutes. Raises KeyError for an unknown window, FileNotFoundError for an unknown
    platform, ValidationError (a ValueError) for values that make no sense.
    """
    registry = read(platform)
    chosen = dict(overrides or {})
    everything_off = bool(chosen.pop("unlimited", False))
    scale *= float(chosen.pop("scale", 1.0))
    if not 0 < scale < float("inf"):
        raise ValueError(f"limits cannot be scaled by {scale}")
    unknown = set(chosen) - set(registry.windows)
    if unknown:
        known = ", ".join(registry.windows)
        raise KeyError(f"{platform} has no quota {', '.join(sorted(unknown))}; it has {known}")
    quotas: dict[str, Quota] = {}
    for name, entry in registry.windows.items():
        quota = _quota(name, entry, tier, _override(chosen.get(name)), scale)
        if quota is not None and not everything_off:
            quotas[name] = quota
    return Limits(
        platform=platform,
        quotas=quotas,
        groups={g: [n for n in names if n in quotas] for g, names in registry.groups.items()},
        headers=[h for h in registry.headers if h.window in quotas],
        retry_after_max_s=registry.retry_after_max_s,
        refusals=registry.refusals,
        costs=registry.costs,
        names={said: name for name, entry in registry.windows.items() for said in entry.names},
    )


def _override(said: Any) -> Override:
    if said is None or isinstance(said, Mapping):
        return Override.model_validate(said or {})
    return Override.model_validate({"limit": said})


def _quota(name: str, entry: WindowEntry, tier: str, own: Override, scale: float) -> Quota | None:
    """None where there is no such limit."""
    limit = entry.limit.get(tier, entry.limit["default"]) if own.limit is None else own.limit
    if not limit:
        return None
    if entry.kind != "slots":
        limit = max(1, round(limit * scale))
    window_s = entry.window_s if own.window_s is None else own.window_s
    return Quota(name, entry.kind, limit, window_s, own.zone or entry.zone, entry.weighted)


def schema() -> str:
    """JSON Schema of a registry file, for editors; kept in `registry.schema.json`."""
    return json.dumps(Registry.model_json_schema(), indent=2) + "\n"

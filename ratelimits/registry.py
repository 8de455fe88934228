"""Limits are data: `ratelimits/registry/<platform>.json`, with source and date of each figure."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ratelimits.bucket import Quota

__all__ = ["HeaderRule", "Limits", "Registry", "WindowEntry", "load", "schema"]

FOLDER = Path(__file__).with_name("registry")


class _Closed(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class WindowEntry(_Closed):
    """One window of one platform."""

    kind: Literal["moving", "day", "slots"]
    window_s: float = Field(default=0, description="Length of a moving window.")
    zone: str = Field(default="UTC", description="Of a calendar day's midnight.")
    limit: dict[str, int] = Field(description="Account tier to limit; `default` for all others.")
    scope: Literal["account", "app", "key", "endpoint"] = "account"
    slow_s: float = Field(
        default=0, description="slots: only requests that last longer count at the platform."
    )
    shared: bool = Field(default=True, description="Other applications spend from it too.")
    note: str = ""
    source: str
    read_on: str


class HeaderRule(_Closed):
    """Which header of an answer tells what is left of a window."""

    window: str
    header: str
    form: Literal["number", "used/total"] = "number"
    key: str = Field(default="", description="used/total: `api-usage` in `api-usage=18/5000`.")


class Registry(_Closed):
    """All quotas of a platform."""

    platform: str
    windows: dict[str, WindowEntry]
    groups: dict[str, list[str]] = Field(description="Group of endpoints to the windows it spends.")
    headers: list[HeaderRule] = []
    retry_after_max_s: float = Field(default=3600, description="A longer wait is not believed.")


class Limits(_Closed):
    """The quotas of one account: tier chosen, overrides applied."""

    platform: str
    quotas: dict[str, Quota]
    groups: dict[str, list[str]]
    headers: list[HeaderRule]
    retry_after_max_s: float

    def rows_per_s(self, group: str, batch_rows: int, latency_s: float = 0.3) -> float:
        """What a group carries with full batches, in steady state; 0: no limit known."""
        rates: list[float] = []
        for name in self.groups.get(group, ()):
            quota = self.quotas[name]
            window_s = {"slots": latency_s, "day": 86_400.0}.get(quota.kind, quota.window_s)
            # A day's quota may be spent as fast as the others allow; it only ends some day.
            if quota.kind != "day" and window_s < 3_600:
                rates.append(quota.limit * batch_rows / window_s)
        return min(rates, default=0.0)


def load(platform: str, tier: str = "", overrides: Mapping[str, Any] | None = None) -> Limits:
    """Quotas of an account. `overrides`: window to another limit, 0 for none, or `window_s`.

    Raises KeyError for an unknown window, FileNotFoundError for an unknown platform.
    """
    registry = Registry.model_validate_json((FOLDER / f"{platform}.json").read_text())
    chosen = dict(overrides or {})
    everything_off = chosen.pop("unlimited", False)
    unknown = set(chosen) - set(registry.windows)
    if unknown:
        known = ", ".join(registry.windows)
        raise KeyError(f"{platform} has no quota {', '.join(sorted(unknown))}; it has {known}")
    quotas: dict[str, Quota] = {}
    for name, entry in registry.windows.items():
        limit = entry.limit.get(tier, entry.limit["default"])
        own = chosen.get(name, limit)
        window_s = entry.window_s
        if isinstance(own, Mapping):
            window_s, own = own.get("window_s", window_s), own.get("limit", limit)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not everything_off and own:
            quotas[name] = Quota(name, entry.kind, int(own), float(window_s), entry.zone)  # pyright: ignore[reportUnknownArgumentType]
    return Limits(
        platform=platform,
        quotas=quotas,
        groups={g: [n for n in names if n in quotas] for g, names in registry.groups.items()},
        headers=[h for h in registry.headers if h.window in quotas],
        retry_after_max_s=registry.retry_after_max_s,
    )


def schema() -> str:
    """JSON Schema of a registry file, for editors; kept in `registry.schema.json`."""
    return json.dumps(Registry.model_json_schema(), indent=2) + "\n"

"""What one worker did, counted: plain numbers on the hot path, Prometheus' form when asked."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connectors.lanes import Place, Taken
from schemas.commands import Priority

if TYPE_CHECKING:
    from connectors.account import Account
    from connectors.worker import Worker

__all__ = ["Stats", "exposition", "status"]


class Stats:
    """Since the process started. Only the loop's thread touches it."""

    def __init__(self) -> None:
        self.rows_in = 0
        self.rows_again = 0
        self.outcomes: Counter[str] = Counter()
        self.requests: Counter[tuple[str, int]] = Counter()
        """(stage, hundreds of the status)"""
        self.commits = 0
        self.commit_s = 0.0

    def committed(self, commands: Sequence[Taken], took_s: float) -> None:
        self.commits += 1
        self.commit_s += took_s
        for taken in commands:
            self.rows_again += len(taken.again)
            kinds = Counter(type(settled.outcome) for settled in taken.settled)
            for kind, rows in kinds.items():
                self.outcomes[kind.__name__.lower()] += rows


def status(workers: Mapping[str, "Worker"]) -> dict[str, Any]:
    """What `/status` says: platform to its accounts, each with rows that wait and quotas."""
    return {
        platform: {
            "partitions": sorted(worker.parts),
            "outcomes": dict(worker.stats.outcomes),
            "accounts": {name: _account(a) for name, a in sorted(worker.accounts.items())},
        }
        for platform, worker in workers.items()
    }


def _account(account: "Account") -> dict[str, Any]:
    waiting = {priority.value: 0 for priority in Priority}
    for item in account.rows.values():
        if item.place is Place.waiting:
            waiting[item.priority.value] += 1
    gate = account.gate
    return {
        "open": not gate.shut,
        "why": gate.held or gate.halted or gate.why,
        "waiting": waiting,
        "out": sum(item.place is Place.out for item in account.rows.values()),
        "requests_in_flight": account.in_flight,
        "rows_per_s": account.rate,
        "quota_tokens_spent": account.limits.spent(),
        "quota_use": {
            group: use
            for group in account.limits.limiter.limits.groups
            if (use := account.limits.limiter.use(group)) is not None
        },
        "quotas": [
            {
                "window": view.window,
                "limit": view.limit,
                "figure": view.figure,
                "left": view.left,
                "used_by_us": view.used_by_us,
                "used_by_others": view.used_by_others,
                "resets_s": view.resets_s if view.resets_s < 1e9 else None,
                "closed_s": view.closed_s,
                "waiting": view.waiting,
            }
            for view in account.limits.views()
        ],
        "rows_max": account.rows_max,
    }


class _Collector(Collector):
    def __init__(self, workers: Mapping[str, "Worker"]) -> None:
        self.workers = workers

    def collect(self) -> Iterator[Metric]:
        outcomes = CounterMetricFamily(
            "connectors_outcomes", "Rows by fate, committed.", labels=["platform", "kind"]
        )
        rows = CounterMetricFamily("connectors_rows", "Rows read.", labels=["platform"])
        again = CounterMetricFamily(
            "connectors_rows_again", "Rows written to the end again.", labels=["platform"]
        )
        requests = CounterMetricFamily(
            "connectors_requests", "Requests.", labels=["platform", "stage", "status"]
        )
        commits = CounterMetricFamily("connectors_commits", "Transactions.", labels=["platform"])
        commit_s = CounterMetricFamily(
            "connectors_commit_seconds", "Time in transactions.", labels=["platform"]
        )
        names = ["platform", "account"]
        waiting = GaugeMetricFamily(
            "connectors_waiting_rows", "Rows that wait.", labels=[*names, "priority"]
        )
        open_ = GaugeMetricFamily("connectors_account_open", "1: it takes rows.", labels=names)
        left = GaugeMetricFamily(
            "connectors_quota_left", "Tokens that could be spent now.", labels=[*names, "window"]
        )
        for platform, worker in self.workers.items():
            stats = worker.stats
            rows.add_metric([platform], stats.rows_in)
            again.add_metric([platform], stats.rows_again)
            commits.add_metric([platform], stats.commits)
            commit_s.add_metric([platform], stats.commit_s)
            for kind, count in stats.outcomes.items():
                outcomes.add_metric([platform, kind], count)
            for (stage, hundreds), count in stats.requests.items():
                requests.add_metric([platform, stage, f"{hundreds}xx"], count)
            for name, account in worker.accounts.items():
                seen = _account(account)
                open_.add_metric([platform, name], float(seen["open"]))
                for priority, count in seen["waiting"].items():
                    waiting.add_metric([platform, name, priority], count)
                for quota in seen["quotas"]:
                    left.add_metric([platform, name, quota["window"]], quota["left"])
        yield from (outcomes, rows, again, requests, commits, commit_s, waiting, open_, left)


def exposition(workers: Mapping[str, "Worker"]) -> bytes:
    """The page `/metrics`."""
    registry = CollectorRegistry()
    registry.register(_Collector(workers))
    return generate_latest(registry)

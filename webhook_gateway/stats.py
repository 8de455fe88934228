"""What happened, counted: plain numbers on the hot path, Prometheus' form when somebody asks."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

__all__ = ["Bucket", "Stats", "exposition"]

CONFIRM_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Bucket:
    """What was spent lately: it runs out at a rate, and never holds more than it may."""

    __slots__ = ("at_s", "spent")

    def __init__(self) -> None:
        self.spent, self.at_s = 0.0, 0.0

    def spend(self, cost: float, now_s: float, rate_s: float, burst: float) -> bool:
        """Take `cost`, where it is there. Rate and burst may change from call to call."""
        spent = max(0.0, self.spent - (now_s - self.at_s) * rate_s)
        fits = spent + cost <= burst
        self.spent, self.at_s = spent + cost * fits, now_s
        return fits


class Stats:
    """Of one connection, since the process started. Only the loop's thread touches it."""

    __slots__ = (
        "accepted", "body_bytes", "bytes_in_hand", "confirm_buckets", "confirm_sum_s", "events",
        "in_hand", "messages_in_hand", "parked", "quarantine", "refused", "repeated", "requests",
    )  # fmt: skip

    def __init__(self) -> None:
        self.accepted = self.events = self.parked = self.body_bytes = 0
        self.repeated = 0
        self.in_hand = self.bytes_in_hand = self.messages_in_hand = 0
        self.refused: dict[tuple[int, str], int] = {}
        self.confirm_buckets = [0] * (len(CONFIRM_S) + 1)
        self.confirm_sum_s = 0.0
        self.quarantine, self.requests = Bucket(), Bucket()

    def confirmed(self, body_bytes: int, events: int, parked: int, took_s: float) -> None:
        self.accepted += 1
        self.body_bytes += body_bytes
        self.events += events
        self.parked += parked
        self.confirm_buckets[bisect_left(CONFIRM_S, took_s)] += 1
        self.confirm_sum_s += took_s

    def refuse(self, status: int, reason: str) -> None:
        """`reason` is one of a fixed set of words."""
        self.refused[status, reason] = self.refused.get((status, reason), 0) + 1


class _Collector(Collector):
    def __init__(
        self, stats: Mapping[str, Stats], gauges: Mapping[str, float], strangers: int
    ) -> None:
        self.stats, self.gauges, self.strangers = stats, gauges, strangers

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        refused = CounterMetricFamily(
            "syncline_gateway_refused_requests",
            "Requests not taken.",
            labels=["connection", "status", "reason"],
        )
        confirm = HistogramMetricFamily(
            "syncline_gateway_confirm_seconds",
            "From the whole body to Kafka's word.",
            labels=["connection"],
        )
        for name, s in self.stats.items():
            for (status, reason), count in s.refused.items():
                refused.add_metric([name, str(status), reason], count)
            total, buckets = 0, []
            for bound, count in zip((*map(str, CONFIRM_S), "+Inf"), s.confirm_buckets, strict=True):
                total += count
                buckets.append((bound, total))
            confirm.add_metric([name], buckets, s.confirm_sum_s)
        yield refused
        yield confirm
        yield CounterMetricFamily(
            "syncline_gateway_unknown_requests",
            "POSTs to names that no connection has.",
            value=self.strangers,
        )
        for name, value in self.gauges.items():
            yield GaugeMetricFamily(f"syncline_gateway_{name}", name.replace("_", " "), value=value)

    def _counters(self) -> Iterator[Metric]:
        counted: tuple[tuple[str, str, Callable[[Stats], float]], ...] = (
            ("accepted_requests", "Answered 2xx: on Kafka.", lambda s: s.accepted),
            ("events", "Events published.", lambda s: s.events),
            ("parked_parts", "Parts of which no event could be made.", lambda s: s.parked),
            ("body_bytes", "Bytes of accepted bodies.", lambda s: s.body_bytes),
            ("repeated_requests", "Accepted, and the very same as before.", lambda s: s.repeated),
        )
        for name, about, value in counted:
            family = CounterMetricFamily(f"syncline_gateway_{name}", about, labels=["connection"])
            for connection, s in self.stats.items():
                family.add_metric([connection], value(s))
            yield family
        in_hand = GaugeMetricFamily(
            "syncline_gateway_in_hand", "POSTs in hand.", labels=["connection"]
        )
        for connection, s in self.stats.items():
            in_hand.add_metric([connection], s.in_hand)
        yield in_hand


def exposition(stats: Mapping[str, Stats], gauges: Mapping[str, float], strangers: int) -> bytes:
    """The page `/metrics`."""
    registry = CollectorRegistry()
    registry.register(_Collector(stats, gauges, strangers))
    return generate_latest(registry)

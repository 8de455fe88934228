"""What the demo found, by what the source and the platforms hold and not by our own counters."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from audit.balance import Balance, total
from mappings.document import MappingDocument, load
from schemas.parked import ParkedRecord
from schemas.yamlfile import load_yaml
from syncline import report
from syncline.platforms import EXAMPLE, Simulators

__all__ = ["SAMPLE_S", "Findings", "broken", "contacts", "mended_address", "told"]

SAMPLE_S = 0.1
CALM_MS = (5_000, 15_000)
"""So long before and after an accident changes are not calm."""
SALESFORCE = {
    "Title": "jobtitle",
    "Company": "company",
    "LastName": "lastname",
    "City": "city",
    "Email": "email",
}
MAILCHIMP = {"COMPANY": "company", "LNAME": "lastname", "email_address": "email"}
WINDOWS = {"hubspot": ("ten_seconds", 10.0)}
"""The window of each platform that binds, with its seconds. Salesforce has only a day's, and
Mailchimp's ten connections hold nobody up where answers take milliseconds."""


@dataclass(frozen=True)
class Findings:
    """What the report is made of. `samples`: at which time which platforms had work that waited;
    `refused`: parked before anybody mended anything; `parked`: at the end."""

    seed: int
    contacts: int
    fast: bool
    sims: Simulators
    changes: list[report.Change]
    kills: list[dict[str, Any]]
    samples: list[tuple[float, dict[str, bool]]]
    refused: list[ParkedRecord]
    mended: int
    parked: list[ParkedRecord]
    closed: Balance
    ended_ms: int
    bulk_s: float
    wall_s: float
    memory_max: int

    def is_calm(self, change: report.Change) -> bool:
        """Nothing was killed around the time at which it was made."""
        return not any(-CALM_MS[0] < change.at_ms - k["at_ms"] < CALM_MS[1] for k in self.kills)


def contacts(sims: Simulators) -> Iterator[report.Contact]:
    """Of the source, as they stand now."""
    for held in sims.lines("hubspot", "contents"):
        yield report.Contact(held["id"], held["values"], held["changed_ms"])


def told(found: Findings) -> dict[str, Any]:
    """The report. Reads everything that the platforms hold."""
    people = list(contacts(found.sims))
    parked = found.parked
    destinations: dict[str, Any] = {}
    disorder: list[str] = []
    latencies: list[int] = []
    calm: list[int] = []
    for sync, platform, mapping, address, twins in (
        ("leads", "salesforce", "hubspot_contact_to_salesforce_lead", "Email", SALESFORCE),
        ("newsletter", "mailchimp", "hubspot_contact_to_mailchimp_member", "email_address",
         MAILCHIMP),
    ):  # fmt: skip
        document = load(load_yaml(EXAMPLE / f"mappings/{mapping}.yaml", MappingDocument))
        owed = frozenset(_address(p) for p in parked if p.sync == sync)
        held = [
            report.Held(h["id"], str(h["values"].get(address, "")).lower(), h["values"])
            for h in found.sims.lines(platform, "contents")
            if not h["archived"]
        ]
        mended = _mended(found, sync)
        verdict = report.compare(
            people, [h for h in held if h.address not in mended], document, owed | mended
        )
        effects = found.sims.get(platform, "effects")
        writes = [
            report.Write(e["id"], name, pair[1], e["at_ms"])
            for e in found.sims.lines(platform, "ledger", updates_only="true")
            for name, pair in e.get("changes", {}).items()
        ]
        disorder += report.disorder(found.changes, writes, twins)
        latencies += report.latencies_ms(found.changes, writes, twins)
        calm += report.latencies_ms(filter(found.is_calm, found.changes), writes, twins)
        destinations[platform] = {
            "expected": verdict.expected,
            "present": verdict.present,
            "mended": sum(h.address in mended for h in held),
            "missing": len(verdict.missing),
            "wrong_fields": len(verdict.wrong_fields),
            "persons_twice": len(verdict.persons_twice) + len(verdict.strangers),
            "duplicate_effects": effects["returns"] + effects["twice_total"],
            "examples": (verdict.missing + verdict.wrong_fields + verdict.persons_twice
                         + verdict.strangers)[:10],
        }  # fmt: skip
    stats = {p: found.sims.get(p, "stats") for p in found.sims.urls}
    windows = [w for s in stats.values() for w in s["windows"].values()]
    latencies.sort()
    calm.sort()
    everything = total(found.closed.lines())
    return {
        "contacts": len(people),
        "seed": found.seed,
        "fast": found.fast,
        "destinations": destinations,
        "parked": {
            "refused": len(found.refused),
            "mended": found.mended,
            "left": len(parked),
            "without_reason": sum(not (p.code and p.words) for p in parked),
            "by_code": _count(f"{p.sync}: {p.code}" for p in found.refused),
        },
        "balance_difference": found.closed.difference,
        "balance_open": everything.open,
        "balance": dict(everything.standings),
        "order_violations": len(disorder),
        "quota_refusals": sum(w["refused"] for w in windows),
        "quota_overspends": sum(w["overspends"] for w in windows),
        "quota_use": _quota_use(found),
        "kills": [{**kill, "silence_s": _silence_s(found, kill["at_ms"])} for kill in found.kills],
        "live_changes": len(found.changes),
        "latency_ms": {
            "p50": _percentile(latencies, 0.5), "p95": _percentile(latencies, 0.95),
            "measured": len(latencies), "p95_calm": _percentile(calm, 0.95),
        },
        "contacts_per_s": round(found.contacts / found.bulk_s, 1),
        "bulk_s": round(found.bulk_s, 1),
        "wall_s": round(found.wall_s, 1),
        "memory_bytes_max": found.memory_max,
    }  # fmt: skip


def _mended(found: Findings, sync: str) -> frozenset[str]:
    """Addresses of persons whose refused value was mended by hand, the old and the new ones:
    what they hold there is what the source does not say."""
    if sync != "leads":
        return frozenset()
    owed = {p.parked_id for p in found.parked}
    done = [p for p in found.refused if p.sync == sync and p.parked_id not in owed]
    return frozenset(a for p in done for a in (_address(p), mended_address(p)))


def _silence_s(found: Findings, at_ms: int) -> float:
    """The longest time without a write at any destination, in the half minute after a kill."""
    until_ms = min(at_ms + 30_000, found.ended_ms)
    writes = [at_ms, until_ms]
    for platform in ("salesforce", "mailchimp"):
        for entry in found.sims.lines(platform, "ledger", since_ms=str(at_ms)):
            if entry["at_ms"] > until_ms:
                break
            writes.append(entry["at_ms"])
    writes.sort()
    gaps = (later - sooner for sooner, later in itertools.pairwise(writes))
    return round(max(gaps, default=0) / 1000, 1)


def _quota_use(found: Findings) -> dict[str, Any]:
    """Tokens spent ÷ tokens that could have been spent, while work waited at the worker.

    Counted are stretches of at least one window: in a shorter one the quota held nobody up, work
    only was on its way when the worker was looked at.
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    for (at, waits), (after, _) in zip(found.samples, found.samples[1:], strict=False):
        for platform, waiting in waits.items():
            if waiting:
                mine = spans.setdefault(platform, [])
                if mine and at - mine[-1][1] < 2 * SAMPLE_S:
                    mine[-1] = (mine[-1][0], after)
                else:
                    mine.append((at, after))
    use: dict[str, Any] = {}
    for platform, (window, window_s) in ({} if found.fast else WINDOWS).items():
        long = [[a * 1000, b * 1000] for a, b in spans.get(platform, ()) if b - a >= window_s]
        if long:
            use[platform] = found.sims.post(platform, "use", {"window": window, "spans": long})
    return use


def broken(told: dict[str, Any]) -> list[str]:
    """The promises that a report shows broken; empty: all kept."""
    wrong = [
        f"{platform}: {count} {name.replace('_', ' ')}"
        for platform, there in told["destinations"].items()
        for name in ("missing", "wrong_fields", "persons_twice", "duplicate_effects")
        if (count := there[name])
    ]
    wrong += [
        f"{told[name]} {name.replace('_', ' ')}"
        for name in ("balance_difference", "balance_open", "order_violations", "quota_refusals",
                     "quota_overspends")
        if told[name]
    ]  # fmt: skip
    arrived = told["destinations"]["salesforce"]["mended"]
    if arrived != told["parked"]["mended"]:
        wrong.append(f"{told['parked']['mended'] - arrived} mended records did not arrive")
    if told["parked"]["without_reason"]:
        wrong.append(f"{told['parked']['without_reason']} parked records without a reason")
    return wrong


def _address(record: ParkedRecord) -> str:
    return str(json.loads(record.source).get("email") or "").strip().lower()


def mended_address(record: ParkedRecord) -> str:
    return f"mended.{record.record_no}@example.com"


def _count(names: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _percentile(values: Sequence[int], share: float) -> int | None:
    return values[min(len(values) - 1, int(share * len(values)))] if values else None

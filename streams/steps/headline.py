"""One sentence about a run, in the words people know; and its phase, derived from the counters."""

from collections.abc import Mapping

from schemas.journal import FATES, Standing
from schemas.runs import RunView
from streams.steps.rows import Run

__all__ = ["eta_s", "fated", "headline", "in_transit", "phase", "rate_per_s", "view"]

WORDS = {
    "requested": "requested, about to start",
    "pausing": "pausing: what is under way is finished first",
    "paused": "paused",
    "cancelling": "cancelling: what is under way is finished first",
    "cancelled": "cancelled",
}


def fated(run: Run) -> int:
    """Records that have a fate."""
    return sum(n for standing, n in run.counts.items() if standing in FATES)


def in_transit(run: Run) -> int:
    """Records fetched that no step has decided yet."""
    return run.fetched - sum(run.counts.values())


def phase(run: Run) -> str:
    """Earliest stage that still has work. A fetch that waits for credit has none."""
    out, waiting = run.counts.get(Standing.out, 0), run.counts.get(Standing.waiting, 0)
    decided = sum(run.counts.values())
    if run.state == "completed" or run.state == "cancelled":
        return "done"
    if run.fetched == decided and not out and not waiting and not run.last:
        return "fetching"
    if in_transit(run) and not out and not waiting and not run.batches:
        return "validating" if decided else "mapping"
    if run.last and not in_transit(run) and not waiting and run.batch_sum >= run.departed:
        return "settling"
    return "uploading"


def batches_about(run: Run) -> int:
    """Requests in all, by the size of those so far; 0: not known."""
    size = run.batch_sum / run.batches if run.batches else run.batch_rows
    whole = run.fetched if run.last else max(run.expected, run.fetched)
    left = max(0, whole - fated(run))
    known = run.last or run.expected
    return run.batches + -(-left // max(1, round(size))) if known else 0


def headline(run: Run, destination: str) -> str:
    """`uploading batch 451 of about 500 to salesforce; 3 parked; not stuck. Batch 450, record 45001
    refused 3 times: INVALID_EMAIL_ADDRESS`"""
    parts = [_doing(run, destination)]
    parked = run.counts.get(Standing.parked, 0)
    if parked:
        parts.append(f"{parked:,} parked")
    if run.released:
        parts.append(f"{run.released:,} of them released since")
    waiting = run.counts.get(Standing.waiting, 0)
    if waiting and run.waits_for:
        parts.append(f"{waiting:,} waiting ({run.waits_for})")
    if run.state == "stuck":
        parts.append(f"stuck at {run.where}: {run.why}")
    elif run.state == "running":
        parts.append("not stuck")
    sentence = "; ".join(parts)
    if run.refusals:
        sentence += f". {_refused(run)}"
    return sentence


def view(run: Run, destination: str) -> RunView:
    """The run as the console and the command line show it."""
    return RunView(
        run=run.run, sync=run.sync, state=run.state, phase=phase(run),
        headline=headline(run, destination), why=run.why, who=run.who,
        counts={s: n for s, n in sorted(run.counts.items()) if n}, fetched=run.fetched,
        pages=run.pages, expected=run.expected, in_transit=in_transit(run), batches=run.batches,
        batches_about=batches_about(run), per_s=round(rate_per_s(run), 1), eta_s=eta_s(run),
        cursor=run.cursor, last=run.last, pins=_plain(run.pins), started_ms=run.started_ms,
        since_ms=run.since_ms, updated_ms=run.now_ms,
    )  # fmt: skip


def rate_per_s(run: Run) -> float:
    """Records that got a fate, a second, over the samples kept."""
    if len(run.samples) < 2:
        return 0.0
    (from_ms, before), (to_ms, after) = run.samples[0], run.samples[-1]
    return max(0.0, (after - before) * 1_000 / (to_ms - from_ms)) if to_ms > from_ms else 0.0


def eta_s(run: Run) -> int:
    """Seconds until done at the rate of late; -1: unknown."""
    rate = rate_per_s(run)
    if not rate or not (run.last or run.expected):
        return -1
    whole = run.fetched if run.last else max(run.expected, run.fetched)
    return round(max(0, whole - fated(run)) / rate)


def _doing(run: Run, destination: str) -> str:
    if run.state in WORDS:
        return WORDS[run.state]
    if run.state == "completed":
        return f"completed, {run.fetched:,} records"
    stage = phase(run)
    if stage == "fetching":
        trouble = f" ({run.trouble})" if run.trouble else ""
        return f"fetching page {run.pages + 1:,}{trouble}"
    if stage != "uploading":
        return stage
    about = batches_about(run)
    number = min(run.batches + 1, about) if about else run.batches + 1
    of = f" of about {about:,}" if about else ""
    return f"uploading batch {number:,}{of} to {destination}"


def _refused(run: Run) -> str:
    last = run.refusals[-1]
    times = f" {last.times} times" if last.times > 1 else ""
    batch = f"Batch {last.batch}, record" if last.batch else "Record"
    return f"{batch} {last.record_no} refused{times}: {last.code}"


def _plain(pins: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(pins.items()))

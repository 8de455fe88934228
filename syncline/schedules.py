"""When a bulk run begins by itself. Pure: times come in, what is due comes out.

A run's id is made of its sync and the time at which it was due, so that starting it once more,
after a crash or by a second scheduler, starts nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from schemas import ids
from schemas.definitions import Schedule

__all__ = ["Due", "due", "mistake", "newest_due", "next_due", "wait_for"]

GRACE = timedelta(minutes=5)
FIELDS = 5
ENDED = frozenset(("completed", "cancelled"))


@dataclass(frozen=True)
class Due:
    """A run that is to begin now."""

    run: str
    at: datetime
    late: bool
    """Later than usual: nothing ran when it was due, or the run before was still going."""


def mistake(schedule: Schedule) -> tuple[str, str] | None:
    """-> (key, what is wrong with it), or None."""
    try:
        ZoneInfo(schedule.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "zone", f"there is no time zone {schedule.zone}"
    if len(schedule.cron.split()) != FIELDS:
        return "cron", "wants five fields: minute, hour, day, month, weekday"
    try:
        next_due(schedule, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        return "cron", str(error)
    except StopIteration:
        return "cron", "is never due"
    return None


def next_due(schedule: Schedule, after: datetime) -> datetime:
    """The first time after that one, in UTC."""
    return _at(next(CronSim(schedule.cron, after.astimezone(ZoneInfo(schedule.zone)))))


def newest_due(schedule: Schedule, now: datetime) -> datetime:
    """The last time that is not later than now, in UTC."""
    edge = now.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
    zone = ZoneInfo(schedule.zone)
    at = _at(next(CronSim(schedule.cron, edge.astimezone(zone), reverse=True)))
    while (later := next_due(schedule, at)) <= now:  # the hour that a clock goes through twice
        at = later
    return at


def due(
    sync: str, schedule: Schedule, since: datetime, now: datetime, runs: Mapping[str, str]
) -> Due | None:
    """What is to begin now. `since`: when the schedule was applied; nothing is made up for what
    was before. `runs`: run id to state, those of this sync that are known."""
    at = newest_due(schedule, now)
    run = ids.run_id(sync, ids.stamp(at))
    late = now - at > GRACE
    if at <= since or run in runs or (late and schedule.missed == "skip"):
        return None
    return Due(run, at, late)


def wait_for(runs: Mapping[str, str], *, paused: bool) -> str:
    """Why nothing begins now though it is due; empty: nothing is in its way."""
    if paused:
        return "the sync is paused"
    going = sorted(run for run, state in runs.items() if state not in ENDED)
    return f"{going[0]} is still {runs[going[0]]}" if going else ""


def _at(moment: datetime) -> datetime:
    return moment.astimezone(UTC)

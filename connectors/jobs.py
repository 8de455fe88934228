"""Rows that are out in a job at the platform, whose verdicts come later.

A job is opened and given its rows, and nothing happens to them yet. Then its name stands on
`handover` beside the ids of its rows, and only then it is started: whoever comes after a kill asks
that job what became of them, and sends none of them again. Where a job holds up other commands its
rows are written to the end of the partition as a `CheckJob`.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import structlog

from connectors import uploads
from connectors.base import JobConnector, JobSpec, ObjectSpec, PlatformError
from connectors.http import Trail, trail
from connectors.lanes import Item, Lane, Place, Stage
from connectors.office import Client
from connectors.outcome import Halted, Outcome, Retry, Throttled, Unknown
from connectors.registry import Misconfigured
from connectors.settling import Request, wall_ms
from ratelimits.limiter import NoLease
from schemas.commands import Priority
from schemas.ids import derive

if TYPE_CHECKING:
    from connectors.account import Account

__all__ = ["AT_ONCE_MAX", "Job", "Jobs", "poll_s", "upload", "worth"]

log = structlog.get_logger("connectors")

AT_ONCE_MAX = 10
"""Jobs of one account: of the least size, so many hold all rows that a partition has in hand."""
SCARCE = 0.5
"""With less than this part of a day's calls left, a job is taken for sparing some."""
LARGE = 5
"""With calls to spare only so many times the least size: requests answer sooner."""
GATHER_S = 30.0
"""So long do bulk rows wait for more of them where calls are scarce: sent as they come, those of a
run would never be enough for a job."""
GATHER_PART = 0.5
"""Of a job's most rows: with so many it goes, and the next ones gather while it is out."""
POLL_MIN_S, POLL_MAX_S = 2.0, 60.0
POLL_PART = 0.5
"""Of a job's age: asking costs calls, and a job that took long takes longer."""
GIVE_UP_S = 86_400.0


def worth(spec: JobSpec, rows_max: int, waiting: int, part_left: float) -> bool:
    """Whether rows that wait go as a job. `rows_max`: of a plain request; `part_left`: of the
    scarcest quota that is meant for a day, 0 to 1."""
    spares = -(-min(waiting, spec.rows_max) // rows_max) > spec.calls
    if waiting < spec.rows_min or not spares:
        return False
    return part_left < SCARCE or waiting >= LARGE * spec.rows_min


def poll_s(age_s: float) -> float:
    """How long to wait before a job of this age is asked about again."""
    return min(POLL_MAX_S, max(POLL_MIN_S, POLL_PART * age_s))


@dataclass(eq=False)
class Job:
    """One job, and those of its rows that are in hand here."""

    receipt: str
    connection: str
    object_type: str
    request: Request
    since_ms: int
    due_s: float
    items: dict[Item, None] = field(default_factory=dict)

    def out(self) -> list[Item]:
        """Rows that still wait for their verdict here: others have it, or were handed on."""
        out = [i for i in self.items if i.job is self and i.place is Place.out]
        self.items = dict.fromkeys(out)
        return out


class Jobs:
    """Of one account."""

    def __init__(self, account: "Account") -> None:
        self.account = account
        self.running: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def gathers(self, lane: Lane) -> bool:
        """Whether the rows of a lane, too few for a job as yet, wait for more of them."""
        lanes, first = self.account.lanes, self.account.lanes.first(lane)
        job = first.spec.job
        return (
            job is not None
            and lane.stage is Stage.write
            and not lane.removal
            and lane.priority in (Priority.bulk, Priority.replay)
            and lanes.waiting(lane) < GATHER_PART * job.rows_max
            and job.takes(first.row)
            and self.account.office.now_s() - first.since_s < GATHER_S
            and self.account.limits.part_left(lane.group) < SCARCE
        )

    def takes(self, job: JobSpec, spec: ObjectSpec, lane: Lane) -> bool:
        """Whether the rows that wait in a lane go as one."""
        lanes, waiting = self.account.lanes, self.account.lanes.waiting(lane)
        return (
            waiting >= job.rows_min
            and lane.priority in (Priority.bulk, Priority.replay)
            and len(self.running) < AT_ONCE_MAX
            and job.takes(lanes.first(lane).row)
            and worth(job, spec.batch_rows_max, waiting, self.account.limits.part_left(lane.group))
        )

    def put(
        self, item: Item, receipt: str, *, request: Request | None = None, since_ms: int = 0,
        due_ms: int = 0,
    ) -> None:  # fmt: skip
        """This row is out in that job: it is asked about until each of its rows has its fate."""
        taken, now_ms = item.taken, wall_ms()
        job = self.running.get(receipt)
        if job is None:
            request_id = derive("request", self.account.name, receipt)
            due_s = self.account.office.now_s() + max(0.0, (due_ms - now_ms) / 1000)
            job = self.running[receipt] = Job(
                receipt, taken.connection, taken.object_type,
                request or Request(request_id, 0, f"job {receipt}"), since_ms or now_ms, due_s,
            )  # fmt: skip
            task = self.account.spawn(self._watch(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        job.items[item] = None
        job.request.rows = max(job.request.rows, len(job.items))
        item.job, item.place = job, Place.out
        self.account.lanes.hold(item)

    @property
    def rows(self) -> int:
        """How many are out in jobs."""
        return sum(len(job.items) for job in self.running.values())

    def stop(self) -> None:
        """Nobody is asked any more: whoever owns the account next goes on."""
        for task in self._tasks:
            task.cancel()

    async def _watch(self, job: Job) -> None:
        account, office = self.account, self.account.office
        try:
            while items := job.out():
                wait_s = job.due_s - office.now_s()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                    continue
                await account.opened()
                outcomes = await self._ask(job, items)
                age_s = (wall_ms() - job.since_ms) / 1000
                if outcomes is None and age_s > GIVE_UP_S:
                    outcomes = uploads.alike(Unknown("the job does not end"), items)
                if outcomes is None:
                    job.due_s = office.now_s() + poll_s(age_s)
                else:
                    self._settle(job, items, outcomes)
        finally:
            if self.running.get(job.receipt) is job:
                del self.running[job.receipt]

    async def _ask(self, job: Job, items: Sequence[Item]) -> list[Outcome] | None:
        """A verdict a row, or None: ask again later."""
        account, now_s = self.account, self.account.office.now_s
        try:
            client = account.office.client(job.connection)
            connector = cast(JobConnector, client.connector)
            spec = client.spec.objects[job.object_type]
        except Misconfigured as error:
            account.halt(str(error), misconfigured=True)
            return None
        except KeyError:
            return uploads.alike(Unknown("no such object type here"), items)
        for item in items:
            account.known(item, spec)
        quota = spec.job_quota
        try:
            async with account.limits.permit(quota, Priority.bulk) as permit:
                with trail(Trail(another=permit.another, answered=permit.answered)) as of:
                    rows = [item.row for item in items]
                    outcomes = await connector.check_job(job.object_type, job.receipt, rows)
        except Exception as error:  # noqa: BLE001 - whatever a connector throws must not end the worker
            outcome = _said(connector, error)
        else:
            account.gate.answered(now_s())
            job.request.status, job.request.took_ms = of.status, of.took_ms
            if outcomes is None or len(outcomes) == len(items):
                return outcomes
            outcome = Retry(f"{len(outcomes)} verdicts for {len(items)} rows")
        match outcome:
            case Throttled(wait_s, window):
                account.limits.throttled(quota, wait_s, window)
            case Halted(why):
                account.halt(why)
            case Retry(why):
                account.gate.failed(now_s(), why)
            case _:  # it knows no such job, or says nothing of it any more
                return uploads.alike(Unknown("nothing is known of the job any more"), items)
        return None

    def _settle(self, job: Job, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        account = self.account
        for position, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
            if item.job is not job or item.place is not Place.out:
                continue  # handed on meanwhile: asked anew by whoever reads it
            item.job = None
            if isinstance(outcome, Retry):
                account.intents.void(item.row.row_id)  # the job has left it alone
            uploads.row(account, account.lane_of(item), item, outcome, job.request, position)
        account.gate.wrote()
        account.go()


def _said(connector: JobConnector, error: Exception) -> Outcome:
    """Of whatever a connector threw. Raises NoLease as it is: nothing may start then."""
    if isinstance(error, PlatformError):
        return connector.handle_error(error)
    if isinstance(error, NoLease):
        raise error
    name = type(error).__name__
    log.error("connector failed", platform=connector.spec.platform, error=name)
    return Retry(f"connector failed: {name}")


async def upload(
    account: "Account", client: Client, lane: Lane, items: list[Item], request: Request, of: Trail
) -> None:
    """Hand these rows over in one job, and have it watched."""
    connector, office = cast(JobConnector, client.connector), account.office
    spec = client.spec.objects[lane.object_type].job
    receipt, outcome = "", None
    try:
        async with AsyncExitStack() as paid:
            if spec is not None and spec.quota:  # besides what the lane has paid
                await paid.enter_async_context(account.limits.permit(spec.quota, lane.priority))
            receipt = await connector.open_job(lane.object_type, [item.row for item in items])
    except Exception as error:  # noqa: BLE001 - whatever a connector throws must not end the worker
        outcome = _said(connector, error)
    else:
        await account.intents.make(items, request, receipt)
        try:
            await connector.start_job(receipt)
        except Exception as error:  # noqa: BLE001 - as above
            outcome = _said(connector, error)
    if outcome is not None and not (receipt and isinstance(outcome, Retry)):
        # Nothing was started, or it was refused. (Started without an answer: the job will tell.)
        for item in items:
            account.intents.void(item.row.row_id)
        uploads.judge(account, connector, lane, items, uploads.alike(outcome, items), request, of)
        return
    if outcome is None:
        account.gate.answered(office.now_s())
    request.name, request.status, request.took_ms = of.name, of.status, of.took_ms
    for item in items:
        account.jobs.put(item, receipt, request=request, since_ms=wall_ms())
    log.info("job started", platform=office.platform, account=account.name, job=receipt,
             rows=len(items))  # fmt: skip

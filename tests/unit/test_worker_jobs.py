"""Rows in jobs: Salesforce's Bulk API against its simulator, through the worker's own account."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from connectors import jobs
from connectors.base import Row
from connectors.jobs import AT_ONCE_MAX, LARGE, POLL_MAX_S, POLL_MIN_S, poll_s, worth
from connectors.outcome import Outcome, Parked, Written
from connectors.platforms.salesforce import Salesforce
from connectors.platforms.salesforce_bulk import BULK, carries, records, sheet, words
from schemas.commands import Priority
from simulators import Salesforce as Organisation
from tests.desk import Desk, desk, row, until

SECRETS = {"client_id": "salesforce-client", "client_secret": "salesforce-secret"}
ENOUGH = 250
"""So many rows go as a job of `Small` although calls are not scarce."""
GATHERED = 200
"""With so many a job of `Small` goes at once where calls are scarce."""
SCARCE = {"sforce-limit-info": "api-usage=70000/100000"}


class Small(Salesforce):
    """The same with smaller requests and jobs."""

    spec = replace(
        Salesforce.spec,
        objects={
            "Lead": replace(
                Salesforce.spec.objects["Lead"],
                batch_rows_max=20,
                job=replace(BULK, rows_min=ENOUGH // LARGE, rows_max=GATHERED * 2),
            )
        },
    )


@asynccontextmanager
async def organisation(job_s: float = 0.3) -> AsyncIterator[tuple[Organisation, Desk]]:
    there = Organisation(job_s=job_s, quota={"day": "off", "long": "off"})
    async with there.serve() as url, desk(Small, url, secrets=SECRETS) as office:
        yield there, office


def lead(number: int, **fields: Any) -> dict[str, Any]:
    names = {"Email": f"{number}@example.com", "LastName": f"L{number}", "Company": "ACME"}
    return row(number, **{**names, **fields})


def kinds(fates: dict[str, Outcome]) -> Counter[str]:
    return Counter(type(fate).__name__ for fate in fates.values())


# ---- decisions


def test_a_job_is_taken_for_many_rows_where_calls_are_scarce_and_for_very_many_always() -> None:
    assert not worth(BULK, 200, 1_999, 0.1)
    assert worth(BULK, 200, 2_000, 0.1)
    assert not worth(BULK, 200, 2_000, 0.9)
    assert not worth(BULK, 200, 9_999, 1.0)
    assert worth(BULK, 200, 10_000, 1.0)
    assert not worth(BULK, 2_000, 2_000, 0.1)  # it would cost more calls than it spares


def test_a_job_is_asked_about_less_and_less_often() -> None:
    assert poll_s(0) == POLL_MIN_S
    assert poll_s(20) == 10
    assert poll_s(1e6) == POLL_MAX_S


def test_a_sheet_says_what_is_set_what_is_cleared_and_what_is_left_alone() -> None:
    fields = [
        {"Email": 'say "hi", all\nof you', "HasOptedOutOfEmail": True, "Rating": None},
        {"Email": "b@x.io", "NumberOfEmployees": 7, "LastName": ""},
    ]
    rows = [(Row(f"r{n}", f"p{n}", "", f), f) for n, f in enumerate(fields)]
    (first, second) = records(sheet(rows, "Key__c", by_id=False))
    assert first == {
        "Key__c": "p0", "Email": 'say "hi", all\nof you', "HasOptedOutOfEmail": "true",
        "Rating": "#N/A", "NumberOfEmployees": "", "LastName": "",
    }  # fmt: skip
    assert second["LastName"] == "#N/A"
    assert (second["NumberOfEmployees"], second["Rating"]) == ("7", "")
    known = [(Row("r", "p", "00Q1", {"A": 1}), {"A": 1})]
    assert records(sheet(known, "Key__c", by_id=True)) == [{"Id": "00Q1", "Key__c": "p", "A": "1"}]


@pytest.mark.parametrize("value", ["#N/A", ["a"], {"Name": "ACME"}])
def test_what_a_sheet_cannot_say_goes_by_request(value: Any) -> None:
    assert not carries(Row("r", "p", "", {"A": value}))
    assert carries(Row("r", "p", "", {"A": "a", "B": None, "C": 1.5, "D": False}))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("REQUIRED_FIELD_MISSING:Required fields are missing: [Name]:Name --",
         ("REQUIRED_FIELD_MISSING", "Required fields are missing: [Name]", "Name")),
        ("INVALID_EMAIL_ADDRESS:Email: invalid email address: a:b@:Email, Phone --",
         ("INVALID_EMAIL_ADDRESS", "Email: invalid email address: a:b@", "Email")),
        ("UNABLE_TO_LOCK_ROW:unable to obtain exclusive access:--",
         ("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access", "")),
        ("something else", ("something else", "something else", "")),
    ],
)  # fmt: skip
def test_words_of_a_refused_row(said: str, expected: tuple[str, str, str]) -> None:
    assert words(said) == expected


# ---- the whole way


async def test_many_rows_go_as_one_job_and_each_has_its_own_verdict() -> None:
    async with organisation() as (there, office):
        rows = [lead(n) for n in range(ENOUGH)]
        rows[17] = lead(17, Email="broken@")
        rows[140] = lead(140, LastName=None)
        office.upload(rows, "Lead")
        fates = await office.settled()
        assert kinds(fates) == {"Written": ENOUGH - 2, "Parked": 2}
        refused = fates["row-17"]
        assert isinstance(refused, Parked)
        assert (refused.code, refused.field) == ("INVALID_EMAIL_ADDRESS", "Email")
        written = fates["row-42"]
        assert isinstance(written, Written)
        assert there.store.objects[written.object_id].values["LastName"] == "L42"
        assert set(office.twice.values()) == {1}
        assert office.intents == {}
        assert there.requests < 15


async def test_what_is_left_of_the_day_decides() -> None:
    """Fewer rows go as a job once more than half of the day's calls is spent, also by others."""
    async with organisation() as (there, office):
        office.upload([lead(n) for n in range(ENOUGH - 50)], "Lead")
        await office.settled()
        assert there.bulk.jobs == {}
        office.account.limits.limiter.observe("api", SCARCE)
        assert office.account.limits.part_left("api") < 0.31
        office.upload([lead(n, Title="x") for n in range(ENOUGH - 50)], "Lead")
        assert kinds(await office.settled()) == {"Written": ENOUGH - 50}
        assert len(there.bulk.jobs) == 1


async def test_where_calls_are_scarce_bulk_rows_wait_for_one_another() -> None:
    """A run's rows come a few at a time: each sent at once, they would never be a job."""
    async with organisation() as (there, office):
        office.account.limits.limiter.observe("api", SCARCE)
        for begin in range(0, GATHERED, 25):
            assert there.requests == 0
            office.upload([lead(n) for n in range(begin, begin + 25)], "Lead")
            await asyncio.sleep(0.05)
        assert kinds(await office.settled()) == {"Written": GATHERED}
        assert there.bulk.stats()["rows"] == GATHERED


async def test_few_rows_do_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "GATHER_S", 0.5)
    async with organisation() as (there, office):
        office.account.limits.limiter.observe("api", SCARCE)
        office.upload([lead(n) for n in range(30)], "Lead")
        office.upload([lead(30)], "Lead", Priority.live)
        await until(lambda: there.store.objects)
        await asyncio.sleep(0.5)
        office.account.sweep()
        assert kinds(await office.settled()) == {"Written": 31}
        assert there.store.numbered[0].values["LastName"] == "L30", "who is live goes first"
        assert there.bulk.jobs == {}


async def test_live_rows_and_few_rows_wait_for_no_job() -> None:
    async with organisation() as (there, office):
        office.upload([lead(n) for n in range(300)], "Lead", Priority.live)
        office.upload([lead(n) for n in range(300, 340)], "Lead")
        await office.settled()
        assert there.bulk.jobs == {}


async def test_what_a_sheet_cannot_say_is_written_all_the_same() -> None:
    async with organisation() as (there, office):
        odd = lead(ENOUGH, FirstName="#N/A")
        office.upload([*(lead(n) for n in range(ENOUGH)), odd], "Lead")
        fates = await office.settled()
        there_is = fates[f"row-{ENOUGH}"]
        assert isinstance(there_is, Written)
        assert there.store.objects[there_is.object_id].values["FirstName"] == "#N/A"
        assert len(there.bulk.jobs) == 1


@pytest.mark.parametrize("moment", ["before it starts", "while it runs", "after it is done"])
async def test_whoever_comes_after_a_kill_asks_the_job_and_sends_nothing_again(
    moment: str,
) -> None:
    async with organisation(job_s=1.0) as (there, office):
        began = asyncio.Event()
        office.begun = lambda receipt: began.set()
        office.upload([lead(n) for n in range(ENOUGH)], "Lead")
        await asyncio.wait_for(began.wait(), 30)
        if moment != "before it starts":
            (job,) = there.bulk.jobs.values()
            await until(lambda: job.state != "Open")
            if moment == "after it is done":
                await until(lambda: job.due_ms < there.clock.now() * 1000)
        await office.kill()
        assert kinds(await office.settled()) == {"Written": ENOUGH}
        assert len(there.bulk.jobs) == 1
        assert there.store.effects()["created"] == ENOUGH
        assert there.store.effects()["twice_total"] == 0
        assert office.intents == {}


async def test_a_job_whose_start_was_not_answered_is_asked_and_not_made_twice() -> None:
    async with organisation() as (there, office):
        fault = {"method": "PATCH", "path": "/jobs/ingest", "count": 1}
        there.script.add([{**fault, "action": "lose_after"}, {**fault, "action": "lose_before"}])
        office.upload([lead(n) for n in range(ENOUGH)], "Lead")
        assert kinds(await office.settled()) == {"Written": ENOUGH}
        assert len(there.bulk.jobs) == 1


async def test_rows_whose_sheet_was_lost_go_in_another_job() -> None:
    async with organisation() as (there, office):
        there.script.add(
            [{"method": "PUT", "path": "/batches", "count": 1, "action": "lose_after"}]
        )
        office.upload([lead(n) for n in range(ENOUGH)], "Lead")
        assert kinds(await office.settled()) == {"Written": ENOUGH}
        states = Counter(job.state for job in there.bulk.jobs.values())
        assert states == {"Aborted": 1, "JobComplete": 1}
        assert there.store.effects()["created"] == ENOUGH


@pytest.mark.parametrize("call", ["open_job", "start_job"])
async def test_an_answer_that_makes_no_sense_ends_no_worker(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 2xx without an id, say. Nothing was opened, or the job itself is asked whether it runs."""
    async with organisation() as (there, office):
        ask, odd = getattr(office.connector, call), [KeyError("id")]

        async def asked(*given: Any) -> Any:
            if odd:
                raise odd.pop()
            return await ask(*given)

        monkeypatch.setattr(office.connector, call, asked)
        office.upload([lead(n) for n in range(ENOUGH)], "Lead")
        assert kinds(await office.settled()) == {"Written": ENOUGH}
        assert len(there.bulk.jobs) == 1


async def test_rows_that_a_job_left_alone_and_rows_that_were_locked_go_again() -> None:
    async with organisation() as (there, office):
        refuse = {"field": "Email", "in": ["7@example.com"]}
        there.script.add([
            {"method": "PATCH", "path": "/jobs/ingest", "count": 1, "action": "refuse_rows",
             "rows": refuse, "code": "UNABLE_TO_LOCK_ROW", "message": "busy"},
        ])  # fmt: skip
        office.upload([lead(n) for n in range(ENOUGH)], "Lead")
        assert kinds(await office.settled()) == {"Written": ENOUGH}
        assert there.statuses["PATCH 200"] == 2  # the start, and one row by request


async def test_rows_handed_on_are_asked_about_under_the_same_job() -> None:
    async with organisation(job_s=1.5) as (there, office):
        began = asyncio.Event()
        office.begun = lambda receipt: began.set()
        office.upload([lead(n) for n in range(ENOUGH)], "Lead")
        await asyncio.wait_for(began.wait(), 30)
        await until(lambda: office.account.jobs.running)
        office.hand_on()
        (job,) = office.account.jobs.running.values()
        assert (office.account.jobs.rows, job.request.rows) == (ENOUGH, ENOUGH)
        assert len(office.account.jobs.running) <= AT_ONCE_MAX
        assert kinds(await office.settled()) == {"Written": ENOUGH}
        assert set(office.twice.values()) == {1}
        assert len(there.bulk.jobs) == 1
        assert office.intents == {}


async def test_a_job_that_nobody_knows_any_more_sends_its_rows_again() -> None:
    """By our key: what stands there already is updated."""
    async with organisation(job_s=1.0) as (there, office):
        office.upload([lead(n) for n in range(ENOUGH)], "Lead")
        await until(lambda: office.account.jobs.running)
        there.bulk.jobs.clear()
        assert kinds(await office.settled(90)) == {"Written": ENOUGH}
        assert there.store.effects()["created"] == ENOUGH


async def test_a_job_that_fails_as_a_whole_parks_its_rows_with_the_platform_s_words() -> None:
    """A column that is no field: nothing was written. Rows go again, by request too, and there
    each is told what is wrong with it."""
    async with organisation() as (there, office):
        office.upload([lead(n, Nonsense__c="x") for n in range(ENOUGH)], "Lead")
        fates = await office.settled(90)
        assert kinds(fates) == {"Parked": ENOUGH}
        words = [fate.words for fate in fates.values() if isinstance(fate, Parked)]
        assert all("Nonsense__c" in said for said in words)
        assert there.store.effects()["created"] == 0
        assert office.intents == {}


async def test_a_key_that_is_refused_while_a_job_runs_costs_no_verdict() -> None:
    async with organisation(job_s=0.5) as (there, office):
        office.upload([lead(n) for n in range(ENOUGH)], "Lead")
        await until(lambda: office.account.jobs.running)
        fault = {"path": "/jobs/ingest/", "method": "GET", "count": 1, "action": "status"}
        refusal = [{"message": "API disabled", "errorCode": "API_DISABLED_FOR_ORG"}]
        there.script.add([{**fault, "status": 403, "body": refusal}])
        await until(lambda: office.account.gate.halted)
        assert office.fates == {}
        office.account.reopen("somebody said so")
        assert kinds(await office.settled()) == {"Written": ENOUGH}
        assert len(there.bulk.jobs) == 1


async def test_a_quota_that_is_used_up_while_a_job_runs_is_waited_for() -> None:
    async with organisation(job_s=0.2) as (there, office):
        fault = {"path": "/jobs/ingest/", "method": "GET", "count": 2, "action": "throttle"}
        there.script.add([{**fault, "policy": "long"}])
        office.upload([lead(n) for n in range(ENOUGH)], "Lead")
        assert kinds(await office.settled(90)) == {"Written": ENOUGH}
        assert len(there.bulk.jobs) == 1


@pytest.mark.soak
async def test_a_hundred_thousand_rows_by_few_calls_through_five_kills() -> None:
    """The real sizes, with most of the day's calls spent."""
    there = Organisation(job_s=1.0, quota={"day": "off", "long": "off"})
    draw, count, wave = random.Random(1), 100_000, 20_000
    async with there.serve() as url, desk(Salesforce, url, secrets=SECRETS) as office:
        for begin in range(0, count, wave):
            office.account.limits.limiter.observe("api", SCARCE)
            office.upload([lead(n) for n in range(begin, begin + wave)], "Lead")
            await asyncio.sleep(draw.uniform(0.2, 3.0))
            await office.kill()
            await office.settled(200)
        assert kinds(office.fates) == {"Written": count}
        effects = there.store.effects()
    assert (effects["created"], effects["twice_total"]) == (count, 0)
    rows = there.bulk.stats()["rows"]
    assert rows > 0.9 * count
    assert there.requests < 0.5 * count / 200  # by requests alone it would be 500

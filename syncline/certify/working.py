"""What the worker makes of a platform's answers: batches that shrink, accounts that halt."""

import asyncio
import math

import httpx2

from connectors.outcome import Parked, Returned, Unknown
from syncline.certify.bench import Bench, NotHere
from syncline.certify.checks import check
from syncline.certify.desk import Between, Desk
from syncline.certify.failing import SECRET

GROUP = "the worker"
ROWS_MAX = 64
MARK = b"person9@"


def _batch(bench: Bench) -> int:
    """Rows of one request, a power of two."""
    size = min(ROWS_MAX, bench.spec.batch_rows_max)
    if size < 16:
        raise NotHere(f"{size} row{'s' * (size > 1)} a request: nothing to split")
    return 2 ** int(math.log2(size))


@check(GROUP, "a batch refused as a whole for one row: found in 2·log2(n) requests")
async def one_bad_row_is_found_by_halving(bench: Bench) -> None:
    size = _batch(bench)
    between = Between(bench, lambda body: httpx2.Response(418) if MARK in body else None)
    async with Desk(bench, between.client) as desk:
        fates = await desk.upload(bench.place.rows(size))
    parked = [row_id for row_id, fate in fates.items() if isinstance(fate, Parked)]
    assert parked == ["row-9"]
    assert {type(fate) for row_id, fate in fates.items() if row_id != "row-9"} == {bench.good}
    assert bench.effects["created"] == size - 1
    assert between.calls - 1 <= 2 * math.log2(size), f"{between.calls} requests for {size} rows"


async def _shrinks(bench: Bench, told: httpx2.Response | type[httpx2.ReadTimeout]) -> None:
    size = _batch(bench)
    between = Between(bench, lambda body: told if body.count(b"@example.com") > size // 4 else None)
    async with Desk(bench, between.client) as desk:
        fates = await desk.upload(bench.place.rows(size))
        assert {type(fate) for fate in fates.values()} == {bench.good}
        assert len(fates) == size
        learned = desk.account.rows_max.get(bench.place.object_type)
        assert learned, "no size is remembered"
        assert learned <= size // 4 * 2
        assert any(b"rows_max" in (send.value or b"") for send in desk.sends), "not on handover"
        before, through = between.calls, len(between.passed)
        more = [bench.place.row(n) for n in range(100, 100 + size)]
        again = await desk.upload(more)
        assert {type(fate) for fate in again.values()} == {bench.good}
        refused = (between.calls - before) - (len(between.passed) - through)
        assert refused <= 1, f"{refused} requests of the next {size} rows were too large again"


@check(GROUP, "413 splits the batch, and the size is remembered")
async def too_large_splits_and_is_remembered(bench: Bench) -> None:
    await _shrinks(bench, httpx2.Response(413, text="<html>413</html>"))


@check(GROUP, "time-outs of large batches split them, and the size is remembered")
async def time_outs_split_and_are_remembered(bench: Bench) -> None:
    if bench.spec.repeat == "unsafe":
        raise NotHere("a request without an answer is never sent again")
    await _shrinks(bench, httpx2.ReadTimeout)


@check(GROUP, "a lost answer where a repeat could do harm: read back or unknown, rows noted before")
async def a_lost_answer_is_unknown_where_a_repeat_could_do_harm(bench: Bench) -> None:
    if bench.spec.repeat != "unsafe":
        words = {"safe": "a repeat is safe", "by_key": "a repeat is told by its key"}
        raise NotHere(words[bench.spec.repeat])
    rows = bench.one(2)
    bench.strike("lose_after")
    async with Desk(bench) as desk:
        fates = await desk.upload(rows)
        assert set(desk.intended) == {row.row_id for row in rows}, "noted before they are sent"
    assert {type(fate) for fate in fates.values()} <= {Unknown, bench.good}
    assert bench.effects["created"] == len(rows), "made once, whoever asks"


@check(GROUP, "people who are there already are found before the first write, and not made twice")
async def who_is_there_is_matched_first(bench: Bench) -> None:
    place = bench.place
    if "keys" not in place.reads:
        raise NotHere("it cannot be asked for objects by a field; its own identity decides")
    there = bench.place.seeded()
    async with there.serve() as url:
        bench.url = url
        async with Desk(bench) as desk:
            row = place.row(1, "Found", address=str(there.store.numbered[3].values[place.address]))
            fates = await desk.upload([row, place.row(2)])
    assert {type(fate) for fate in fates.values()} == {bench.good}
    effects = there.store.effects()
    assert effects["created"] == 1, "only the one who was not there"


@check(GROUP, "a refused key halts its account and nobody else's")
async def a_halted_account_halts_nobody_else(bench: Bench) -> None:
    rows, wrong = bench.one(3), dict.fromkeys(bench.place.secrets, SECRET)
    async with Desk(bench) as desk:
        halted = desk.open("wrong", wrong)
        bad, fine = await asyncio.gather(desk.upload(rows, halted), desk.upload(bench.one(3)))
        assert {type(fate) for fate in bad.values()} == {Returned}, bad
        assert {type(fate) for fate in fine.values()} == {bench.good}
        assert halted.gate.halted
        assert not desk.account.gate.shut
        assert SECRET not in halted.gate.halted


@check(GROUP, "no secret and no address in what the worker writes of a row's way")
async def nothing_secret_or_personal_in_the_journal(bench: Bench) -> None:
    """A success, a refusal with the platform's own words, a lost answer, a refused key."""
    place = bench.place
    async with Desk(bench) as desk:
        taken = await desk.command([place.row(0), place.bad(1)])
        rows = [settled.item.row for settled in taken.settled]
        wrong = desk.open("wrong", dict.fromkeys(place.secrets, SECRET))
        halted = await desk.command([place.row(2)], wrong)
        told = desk.journal(taken) + desk.journal(halted)
        everything = desk.written(taken) + desk.written(halted)
    assert len(rows) == 2
    hidden = [v for k, v in place.secrets.items() if not k.endswith("_id")]
    for word in (*hidden, SECRET):
        assert word.encode() not in everything, "a secret on a topic"
    for row in rows:
        assert str(row.fields[place.address]).encode() not in told, "an address in the journal"

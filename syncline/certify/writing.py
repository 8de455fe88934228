"""What becomes of rows: one outcome each, whatever the answer looks like."""

import asyncio
from typing import cast

from msgspec.structs import replace

from connectors.base import JobConnector, RemovingConnector, Row
from connectors.outcome import Accepted, Parked, Retry, Written
from syncline.certify.bench import Bench, NotHere, kinds, same_for_all, short
from syncline.certify.checks import check

GROUP = "writing"


@check(GROUP, "a full batch: one outcome a row, each its own")
async def a_full_batch_has_one_outcome_a_row(bench: Bench) -> None:
    size, place = bench.spec.batch_rows_max, bench.place
    rows = [place.row(n, f"Name{n}") for n in range(size)]
    outcomes = await bench.upload(rows)
    assert kinds(outcomes) == [bench.good] * size
    for n in range(0, size, max(1, size // 20)):
        values = bench.values_of(outcomes[n], rows[n])
        assert f"person{n}@example.com" in values.values()
        assert f"Name{n}" in values.values()
    assert bench.effects["created"] == size


@check(GROUP, "a bad row spares its neighbours, and is parked with the platform's words")
async def a_bad_row_spares_its_neighbours(bench: Bench) -> None:
    place = bench.place
    outcomes = await bench.upload([place.row(0), place.bad(1), place.row(2), place.bad(3)])
    assert kinds(outcomes) == [bench.good, Parked, bench.good, Parked]
    refused = outcomes[1]
    assert isinstance(refused, Parked)
    assert refused.code
    assert refused.words
    assert bench.effects["created"] == 2


@check(GROUP, "a rule of the account's own: the row parks, with the field where it is named")
async def a_row_refused_by_a_rule_of_theirs_names_the_field(bench: Bench) -> None:
    rows = {"field": bench.place.address, "in": ["person1@example.com"]}
    fault = {"rows": rows, "code": "OWN_RULE", "message": "not here", "count": None}
    bench.strike("refuse_rows", **fault)
    outcomes = await bench.upload(bench.place.rows(3))
    assert kinds(outcomes) == [bench.good, Parked, bench.good]
    assert isinstance(outcomes[1], Parked)
    assert outcomes[1].field == bench.place.refusal_field
    assert "not here" in outcomes[1].words or not bench.place.says


@check(GROUP, "results in another order: each row has its own verdict")
async def answers_in_another_order(bench: Bench) -> None:
    place = bench.place
    if place.ordered:
        raise NotHere("results stand in the order of the rows, by the platform's promise")
    if bench.spec.batch_rows_max == 1:
        raise NotHere("one row a request")
    bench.strike("shuffle")
    rows = [place.row(n, f"Name{n}") for n in range(40)]
    rows[7] = place.bad(7)
    outcomes = await bench.upload(rows)
    assert bench.fired() == 1
    assert isinstance(outcomes[7], Parked)
    for n, outcome in enumerate(outcomes):
        if n != 7:
            assert f"Name{n}" in bench.values_of(outcome, rows[n]).values()


async def _passed_over(bench: Bench, share: float) -> None:
    if bench.place.unseen:
        raise NotHere("the platform answers only for rows that it refuses")
    rows = [bench.place.row(n, f"Name{n}") for n in range(30)]
    bench.strike("drop_results", share=share, count=None)
    first = await bench.upload(rows)
    assert len(first) == 30
    assert set(kinds(first)) <= {bench.good, Retry}
    assert Retry in kinds(first)
    for n, outcome in enumerate(first):
        if not isinstance(outcome, Retry):
            assert f"Name{n}" in bench.values_of(outcome, rows[n]).values()
    bench.platform.script.clear()
    assert kinds(await bench.resend(rows)) == [bench.good] * 30
    assert bench.effects["created"] == 30


@check(GROUP, "rows missing from the answer: not taken for written, nor for another's")
async def rows_that_the_answer_passes_over_are_tried_again(bench: Bench) -> None:
    await _passed_over(bench, 0.4)


@check(GROUP, "an answer without any result: no row is taken for written")
async def an_answer_without_results_is_no_success(bench: Bench) -> None:
    await _passed_over(bench, 1.0)


@check(GROUP, "a 2xx with nothing written: a repeat mends it")
async def a_success_that_wrote_nothing_is_mended_by_a_repeat(bench: Bench) -> None:
    bench.strike("no_effect", count=None)
    assert len(await bench.upload(bench.place.rows(3))) == 3
    assert bench.effects["objects"] == 0
    bench.platform.script.clear()
    assert kinds(await bench.upload(bench.place.rows(3))) == [bench.good] * 3
    assert bench.effects["created"] == 3


@check(GROUP, "no verdict ever (`evidence: none`): told as accepted, never as written")
async def what_is_never_proven_is_not_called_written(bench: Bench) -> None:
    if bench.spec.evidence != "none":
        raise NotHere("the platform says of each row what became of it")
    assert kinds(await bench.upload(bench.place.rows(2))) == [Accepted] * 2


@check(GROUP, "verdicts that come later (jobs): each row its own, however often it is asked")
async def a_job_tells_of_each_row(bench: Bench) -> None:
    if bench.spec.job is None:
        raise NotHere("it has no jobs")
    kind, place, connector = (
        bench.place.object_type,
        bench.place,
        cast(JobConnector, bench.connector),
    )
    rows = [place.row(0), place.bad(1), place.row(2), place.row(3)]
    receipt = await connector.open_job(kind, rows)
    assert bench.effects["created"] == 0
    await connector.start_job(receipt)
    await connector.start_job(receipt)
    outcomes = await connector.check_job(kind, receipt, rows)
    while outcomes is None:  # as long as a check may take
        await asyncio.sleep(0.2)
        outcomes = await connector.check_job(kind, receipt, rows)
    assert kinds(outcomes) == [bench.good, Parked, bench.good, bench.good]
    assert await connector.check_job(kind, receipt, rows) == outcomes
    assert await connector.check_job(kind, receipt, rows[2:]) == outcomes[2:]
    assert bench.effects["created"] == 3


@check(GROUP, "taken away (`removals`): one outcome a row; a lost answer is repeated in peace")
async def what_is_removed_is_gone_and_stays_so(bench: Bench) -> None:
    if not bench.spec.removals:
        raise NotHere("nothing is taken away there")
    kind, store = bench.place.object_type, bench.platform.store
    connector = cast(RemovingConnector, bench.connector)
    for step, (how, rows_max) in enumerate(bench.spec.removals.items()):
        rows = [bench.place.row(10 * step + n) for n in range(min(rows_max, 3))]
        written = await bench.upload(rows)
        ids = [outcome.object_id for outcome in written if isinstance(outcome, Written)]
        others = sum(1 for _ in store.alive()) - len(ids)
        gone = [
            replace(row, object_id=object_id, removal=how)
            for row, object_id in zip(rows, ids, strict=True)
        ]
        bench.platform.script.add([{"path": ".", "action": "lose_after", "count": 1}])
        lost = await connector.remove_batch(kind, gone)
        assert isinstance(same_for_all(lost, len(gone)), Retry)
        assert not {obj.id for obj in store.alive()} & set(ids)
        changes = bench.effects["changed"]
        assert await connector.remove_batch(kind, gone) == written
        assert bench.effects["changed"] == changes
        assert sum(1 for _ in store.alive()) == others


@check(GROUP, "a repeat changes nothing")
async def a_repeat_changes_nothing(bench: Bench) -> None:
    first = await bench.upload(bench.place.rows(5))
    assert await bench.resend(bench.place.rows(5)) == first
    effects = bench.effects
    assert (effects["created"], effects["changed"]) == (5, 0)
    assert effects["twice_total"] == 0


@check(GROUP, "a change changes one field")
async def a_change_changes_one_field(bench: Bench) -> None:
    await bench.upload(bench.place.rows(2))
    await bench.resend(bench.place.rows(2, "Bea"))
    entries = list(bench.platform.store.entries(updates_only=True))
    name = short(bench.place.first_name)
    assert [entry["changes"] for entry in entries] == [{name: ["Ann", "Bea"]}] * 2


@check(GROUP, "an empty value clears the field")
async def none_clears(bench: Bench) -> None:
    row, name = bench.place.row(0), bench.place.first_name
    (before,) = await bench.upload([row])
    cleared = Row(row.row_id, row.person, "", {**row.fields, name: None})
    assert await bench.resend([cleared]) == [before]
    assert short(name) not in bench.values_of(before, row)


@check(GROUP, "who is there already is adopted and gets our key, never made twice")
async def by_id_the_object_itself_is_updated_and_gets_our_key(bench: Bench) -> None:
    place = bench.place
    async with bench.settled() as (there, connector):
        obj = there.store.numbered[3]
        address = str(obj.values[place.address])
        row = place.row(1, "Adopted", object_id=obj.id, address=address)
        (outcome,) = await connector.upload_batch(place.object_type, [row])
        assert outcome == (Accepted() if bench.good is Accepted else Written(obj.id))
        assert obj.values[short(place.first_name)] == "Adopted"
        assert there.store.effects()["created"] == 0
        if place.key:
            assert obj.values[place.key] == row.person
        if place.key and bench.spec.repeat == "safe":
            plain = place.row(1, "ByKey", address=address)
            assert await connector.upload_batch(place.object_type, [plain]) == [Written(obj.id)]
            assert obj.values[place.first_name] == "ByKey"
            assert there.store.effects()["created"] == 0


@check(GROUP, "updates by id and upserts share a request only where the platform can")
async def updates_by_id_and_upserts_do_not_share_a_request(bench: Bench) -> None:
    together, place = bench.spec.together, bench.place
    assert together(place.row(1)) == together(place.row(2))
    other = place.row(3, object_id="0" * 32)
    assert (together(place.row(1)) == together(other)) == place.one_way

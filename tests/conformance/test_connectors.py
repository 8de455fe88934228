"""Habits of single platforms, and our quotas against what each simulator counts.

What all platforms have in common is in `test_contract.py`.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import msgspec
import pytest

from connectors import registry
from connectors.base import ByIds, ByKeys, Changes, Fetch, JobConnector, Row
from connectors.jobs import LARGE
from connectors.outcome import Parked, Retry, Unknown, Written
from connectors.platforms.mailchimp import address_hash
from ratelimits.books import price
from ratelimits.bucket import Quota
from ratelimits.registry import load
from schemas.commands import LookRow, Priority
from simulators import HubSpot, Mailchimp, declared
from simulators.quotas import Calendar, Concurrent, Rolling, Window
from syncline.certify.bench import Bench, kinds, same_for_all
from syncline.certify.places import DECLARED, PLACES
from tests.desk import desk, row, until
from tests.unit.test_looking import Desk as Looking


@pytest.fixture
async def bench(name: str) -> AsyncIterator[Bench]:
    async with Bench(name, PLACES[name]) as there:
        yield there


@pytest.mark.parametrize("name", ["salesforce", "marketo"])
async def test_an_expired_token_is_renewed_once(bench: Bench) -> None:
    """However many requests find it expired."""
    rows, platform = bench.place.rows, bench.platform
    assert kinds(await bench.upload(rows(2))) == [Written] * 2
    platform.expire_tokens()
    platform.script.add([{"path": bench.place.logins, "action": "delay", "ms": 20}])
    both = await asyncio.gather(bench.upload(rows(2, "Bea")), bench.upload([bench.place.row(5)]))
    assert [kinds(outcomes) for outcomes in both] == [[Written] * 2, [Written]]
    assert 1 <= bench.fired() <= 2  # logins
    bench.strike("expire_token", count=None)
    assert isinstance(same_for_all(await bench.upload(rows(2)), 2), Retry)


@pytest.mark.parametrize("name", ["mailchimp"])
async def test_a_new_address_renames_the_member(bench: Bench) -> None:
    """PUT on the old address's hash; lost and repeated it is still one member."""
    platform = bench.platform
    assert isinstance(platform, Mailchimp)
    old, new = address_hash("person0@example.com"), address_hash("new@example.com")
    await bench.upload([bench.place.row(0)])
    bench.strike("lose_after", method="PUT")
    moved = bench.place.row(0, object_id=old, address="New@example.com")
    assert kinds(await bench.upload([moved])) == [Retry]
    assert await bench.upload([moved]) == [Written(new)]
    assert [obj.id for obj in platform.store.alive()] == [new]
    assert platform.store.objects[new].values["email_address"] == "New@example.com"
    assert bench.effects["created"] == 1


@pytest.mark.parametrize("name", ["mailchimp"])
async def test_a_new_address_that_is_a_member_is_taken_up(bench: Bench) -> None:
    """As after a merge: both were one person's. The member at the old address stays as it is."""
    old, new = address_hash("person0@example.com"), address_hash("person1@example.com")
    await bench.upload(bench.place.rows(2))
    moved = bench.place.row(0, "Bea", object_id=old, address="person1@example.com")
    assert await bench.upload([moved]) == [Written(new)]
    objects = bench.platform.store.objects
    assert objects[new].values["FNAME"] == "Bea"
    assert objects[old].values["email_address"] == "person0@example.com"


@pytest.mark.parametrize("name", ["mailchimp"])
async def test_a_refused_merge_field_is_named_as_rows_name_it(bench: Bench) -> None:
    """So that it is known what was refused, and the same is not sent again."""
    rows = {"field": "FNAME", "matches": "^Bea$"}
    bench.strike("refuse_rows", rows=rows, code="ERROR_GENERIC", message="no")
    [refused] = await bench.upload([bench.place.row(0, "Bea")])
    assert refused == Parked("ERROR_GENERIC", "no", "merge_fields.FNAME")


@pytest.mark.parametrize("name", ["mailchimp"])
async def test_who_left_is_not_subscribed_again(bench: Bench) -> None:
    await bench.upload([bench.place.row(0)])
    bench.platform.perform([{"kind": "unsubscribe", "email": "person0@example.com"}])
    await bench.upload([bench.place.row(0, "Bea")])
    (member,) = bench.platform.store.alive()
    assert (member.values["status"], member.values["FNAME"]) == ("unsubscribed", "Bea")


@pytest.mark.parametrize("name", ["mailchimp"])
@pytest.mark.parametrize("replaces", [False, True])
async def test_tags_are_added_or_become_those_of_the_row(name: str, replaces: bool) -> None:
    """A rename takes them along; a row without tags leaves them alone."""
    place = PLACES[name]
    place = replace(place, options={**place.options, "replace_tags": replaces})

    def tagged(*tags: str, **more: str) -> Row:
        row = place.row(0, **more)
        return Row(row.row_id, row.person, row.object_id, {**row.fields, "tags": list(tags)})

    async with Bench(name, place) as bench:
        platform = bench.platform
        assert isinstance(platform, Mailchimp)
        (first,) = await bench.upload([tagged("a", "b")])
        assert isinstance(first, Written)
        assert platform.tags[first.object_id] == ["a", "b"]
        await bench.upload([tagged("c")])
        now = ["c"] if replaces else ["a", "b", "c"]
        assert platform.tags[first.object_id] == now
        await bench.upload([place.row(0, "Bea")])
        assert platform.tags[first.object_id] == now
        moved = tagged("d", object_id=first.object_id, address="new@example.com")
        (second,) = await bench.upload([moved])
        new, tags = address_hash("new@example.com"), ["d"] if replaces else [*now, "d"]
        assert (second, platform.tags) == (Written(new), {new: tags})
        page = await bench.connector.fetch_records(ByIds("member", (new,)))
        assert msgspec.json.decode(page.records[0].values)["tags"] == tags
    together = bench.spec.together
    assert together(tagged("a")) != together(place.row(1))


@pytest.mark.parametrize("name", ["mailchimp"])
async def test_very_many_members_go_in_one_batch_of_operations(bench: Bench) -> None:
    """1,200 in three calls: each has its verdict, also where a whole call fails."""
    connector, platform = cast(JobConnector, bench.connector), bench.platform
    assert isinstance(platform, Mailchimp)
    rows = [bench.place.bad(n) if n == 700 else bench.place.row(n) for n in range(1_200)]
    receipt = await connector.open_job("member", rows)
    assert await connector.check_job("member", receipt, rows) is None
    (batch,) = platform.batches.batches.values()
    assert len(batch.operations) == 3
    batch.operations[2].path = "/lists/nobodys"
    batch.due_ms = 0
    outcomes = await connector.check_job("member", receipt, rows)
    assert outcomes is not None
    assert kinds(outcomes[:1_000]) == [*[Written] * 700, Parked, *[Written] * 299]
    assert kinds(outcomes[1_000:]) == [Retry] * 200
    assert bench.effects["created"] == 999
    assert platform.requests == 4  # hand over, ask twice, the archive


@pytest.mark.parametrize("moment", ["", "it runs"])
async def test_the_worker_sends_many_members_as_one_batch(moment: str) -> None:
    """Killed while it runs, the successor asks that batch, and sends nothing again."""
    plain, place, begun = (
        registry.connector_class("mailchimp"),
        PLACES["mailchimp"],
        asyncio.Event(),
    )
    member = plain.spec.objects["member"]
    assert member.job is not None
    member = replace(member, batch_rows_max=20, job=replace(member.job, rows_min=250 // LARGE))
    small = type("Small", (plain,), {"spec": replace(plain.spec, objects={"member": member})})
    people = [row(n, **(place.bad(n) if n == 70 else place.row(n)).fields) for n in range(250)]
    there = Mailchimp(job_s=1.0 if moment else 0.2)
    async with (
        there.serve() as url,
        desk(small, url, options=place.options, secrets=place.secrets) as office,
    ):
        office.begun = lambda receipt: begun.set()
        office.upload(people, "member")
        if moment:
            async with asyncio.timeout(20):
                await begun.wait()
            await office.kill()
        fates = await office.settled()
        assert office.intents == {}
    assert isinstance(fates.pop("row-70"), Parked)
    assert set(kinds([*fates.values()])) == {Written}
    assert len(there.batches.batches) == 1
    assert there.store.effects()["created"] == 249
    assert there.requests < 10


@pytest.mark.parametrize("name", ["mailchimp"])
async def test_a_batch_whose_results_cannot_be_had_leaves_its_rows_unknown(bench: Bench) -> None:
    """Gone, somewhere else (our key goes nowhere else), or no archive."""
    connector, platform = cast(JobConnector, bench.connector), bench.platform
    assert isinstance(platform, Mailchimp)
    rows = bench.place.rows(2)
    gone = await connector.check_job("member", "nobodys", rows)
    assert gone is not None
    assert kinds(gone) == [Unknown] * 2
    for body in (
        {"id": "b", "status": "finished", "response_body_url": "https://example.com/b.tar.gz"},
        {"id": "b", "status": "finished", "response_body_url": f"{bench.url}/results/x"},
    ):
        platform.script.clear()
        platform.script.add(
            [{"path": "/batches/b", "action": "status", "status": 200, "body": body}]
        )
        platform.script.add([{"path": "/results/", "action": "status", "status": 200, "body": "?"}])
        lost = await connector.check_job("member", "b", rows)
        assert lost is not None
        assert kinds(lost) == [Unknown] * 2


@pytest.mark.parametrize("name", ["mailchimp"])
async def test_audiences_are_read_and_never_written(bench: Bench) -> None:
    page = await bench.connector.fetch_records(Changes("audience", ""))
    (audience,) = page.records
    assert (audience.object_id, page.last) == ("a1b2c3d4e5", True)
    assert msgspec.json.decode(audience.values)["name"] == "Newsletter"
    again = await bench.connector.fetch_records(ByIds("audience", ("a1b2c3d4e5",)))
    assert again.records == [audience]
    assert kinds(await bench.connector.upload_batch("audience", bench.place.rows(1))) == [Parked]


@pytest.mark.parametrize("name", ["hubspot"])
async def test_an_object_that_was_deleted_parks_its_row_only(bench: Bench) -> None:
    assert isinstance(bench.platform, HubSpot)
    written = await bench.upload(bench.place.rows(2))
    ids = [outcome.object_id for outcome in written if isinstance(outcome, Written)]
    bench.platform.perform([{"delete": ids[0]}])
    rows = [bench.place.row(n, "Bea", object_id=object_id) for n, object_id in enumerate(ids)]
    assert kinds(await bench.upload(rows)) == [Parked, Written]


@pytest.mark.parametrize("name", ["salesforce"])
async def test_accounts_are_looked_up_by_company(bench: Bench) -> None:
    """As a LookUp does it: one question for all names, in any case, awkward ones too; of two with
    one name none is guessed, and one that carries another's key is told."""
    names = ["ACME", "O'Neill & Söhne", "Twin", "twin"]
    made = [Row(f"a{n}", f"company-{n}", "", {"Name": name}) for n, name in enumerate(names)]
    written = await bench.connector.upload_batch("Account", made)
    ids = [outcome.object_id for outcome in written if isinstance(outcome, Written)]
    asked = bench.platform.requests
    there = Looking()
    there.connector = bench.connector
    there.spec.objects["Account"] = registry.connector_class("salesforce").spec.objects["Account"]
    rows = [
        LookRow(row_id=f"r{n}", person=f"company-{person}", value=value)
        for n, (person, value) in enumerate(
            [(0, "acme"), (1, names[1]), (9, "Twin"), (8, "Nobody"), (7, "ACME")]
        )
    ]
    told = await there.asked("Account", "Name", rows)
    assert bench.platform.requests == asked + 1
    assert [told[f"r{n}"].object_id for n in (0, 1)] == ids[:2]
    assert [told[f"r{n}"].code for n in (2, 3, 4)] == [
        "ambiguous_match", "absent", "matched_another",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["salesforce"])
async def test_two_hundred_addresses_are_one_question(bench: Bench) -> None:
    """With signs that take three bytes in an address line; longer ones take as many as they need,
    and nobody is left out."""
    rows = bench.place.rows(3)
    await bench.upload(rows)
    there = [str(row.fields["Email"]) for row in rows]
    for sign, questions in (("+", 1), (20 * "'", 3), (20 * "日", 4)):
        asked = [f"person.{n:03}{sign}@example.com" for n in range(197)]
        before = bench.platform.requests
        values = (there[0], *asked[:90], there[1], *asked[90:], there[2])
        page = await bench.connector.fetch_records(ByKeys("Lead", "Email", values))
        assert sorted(record.key for record in page.records) == sorted(there)
        assert bench.platform.requests - before == questions


# --- two readings of the same page ---------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DECLARED))
async def test_our_quotas_are_no_looser_than_what_the_platform_counts(name: str) -> None:
    """Every window that a request spends at the simulator, which was written by itself, is held by
    one of ours that is as strict."""
    place = PLACES[name]
    spec = registry.connector_class(name).spec.objects[place.object_type]
    platform = declared(name)([{**place.row(n).fields, **_named(name, n)} for n in range(2)])
    limits = load(name)
    there = platform.store.numbered[0].id
    wanted: list[tuple[str, Fetch | list[Row]]] = [(spec.write_quota, [place.row(7)])]
    wanted += [(spec.write_quota, [place.row(0, object_id=there)])]
    reads: dict[str, Fetch] = {
        "changes": Changes(place.object_type, ""),
        "ids": ByIds(place.object_type, (there,)),
        "keys": ByKeys(place.object_type, place.address, ("person0@example.com",)),
    }
    for read, request in reads.items():
        group = spec.match_quota if read == "keys" and spec.match_quota else spec.read_quota
        wanted += [(group, request)] if read in place.reads else []
    async with platform.serve() as url, Bench(name, place).connect(url) as connector:
        for group, what in wanted:
            before = {window.name: window.spent for window in platform.windows.values()}
            if isinstance(what, list):
                await connector.upload_batch(place.object_type, what)
            else:
                await connector.fetch_records(what)
            spent = {w: w.spent - before[w.name] for w in platform.windows.values()}
            assert any(spent.values()), (group, what)
            ours = [limits.quotas[n] for n in limits.groups[group]]
            for window in (w for w, tokens in spent.items() if tokens):
                held = [quota for quota in ours if _as_strict(quota, window)]
                cost = limits.costs.get(group, 1)
                assert any(price(quota, cost) >= spent[window] for quota in held), (
                    group, window.name, spent[window],
                )  # fmt: skip


def _named(name: str, n: int) -> dict[str, str]:
    """What the platform takes as the id, where it takes one of ours."""
    field = {"customerio": "id", "braze": "external_id", "iterable": "userId"}.get(name)
    return {field: f"seeded-{n}"} if field else {}


def _as_strict(ours: Quota, theirs: Window) -> bool:
    assert theirs.limit is not None
    if ours.limit > theirs.limit:
        return False
    match theirs:
        case Concurrent():
            return ours.kind == "slots"
        case Calendar() if theirs.window_s == 86_400:
            return ours.kind == "day" and ours.zone == str(theirs.zone or "UTC")
        case Rolling():
            return ours.kind == "moving" and ours.window_s >= theirs.window_s
        case _:
            return False


async def test_a_day_of_tokens_is_spent_to_the_last_and_not_beyond() -> None:
    """Pipedrive's requests cost tokens: 5 a write, 20 a search. Of 130, which its own side counts
    too, two persons who are there are found and updated and 16 made; the others wait."""
    place = PLACES["pipedrive"]
    there = declared("pipedrive")(
        [{"name": "Old", "email": f"person{n}@example.com"} for n in range(2)],
        quota={"tokens": "130"},
    )
    make = registry.connector_class("pipedrive")
    limits = load("pipedrive", overrides={"tokens": 130})
    async with (
        there.serve() as url,
        desk(make, url, match="email", limits=limits, secrets=place.secrets) as office,
    ):
        people = [row(n, **place.row(n).fields) for n in range(40)]
        office.upload(people[:2], "person", Priority.live)
        await office.settled()
        assert there.windows["tokens"].spent == 2 * (20 + 5)
        office.match = ""
        office.upload(people[2:], "person", Priority.live)  # of bulk work a part is kept for them
        said = "quota write used up: tokens"
        await until(lambda: office.account.limits.why("write", Priority.live)[0] == said)
        await until(lambda: there.running == 0)
    assert there.windows["tokens"].spent == 130
    assert there.store.effects()["created"] == 16
    stats = there.stats()
    assert (stats["quota_overspends"], stats["quota_refusals"]) == (0, 0)

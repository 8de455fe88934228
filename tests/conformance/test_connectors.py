"""Habits of single platforms, and our quotas against what each simulator counts.

What all platforms have in common is in `test_contract.py`.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from connectors import registry
from connectors.base import ByIds, ByKeys, Changes, Fetch, Row
from connectors.outcome import Parked, Retry, Written
from connectors.platforms.mailchimp import address_hash
from ratelimits.bucket import Quota
from ratelimits.registry import load
from simulators import HubSpot, Mailchimp, declared
from simulators.quotas import Calendar, Concurrent, Rolling, Window
from syncline.certify.bench import Bench, kinds, same_for_all
from syncline.certify.places import DECLARED, PLACES


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


@pytest.mark.parametrize("name", ["hubspot"])
async def test_an_object_that_was_deleted_parks_its_row_only(bench: Bench) -> None:
    assert isinstance(bench.platform, HubSpot)
    written = await bench.upload(bench.place.rows(2))
    ids = [outcome.object_id for outcome in written if isinstance(outcome, Written)]
    bench.platform.perform([{"delete": ids[0]}])
    rows = [bench.place.row(n, "Bea", object_id=object_id) for n, object_id in enumerate(ids)]
    assert kinds(await bench.upload(rows)) == [Parked, Written]


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
            spent = [w for w in platform.windows.values() if w.spent > before[w.name]]
            assert spent, (group, what)
            ours = [limits.quotas[n] for n in limits.groups[group]]
            for window in spent:
                assert any(_as_strict(quota, window) for quota in ours), (group, window.name)


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

"""Every connector keeps the contract of `connectors/base.py`, seen against its fake platform."""

import asyncio
import copy
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from connectors import registry
from connectors.base import (
    ByIds,
    ByKeys,
    Changes,
    Connector,
    Fetch,
    FieldsOf,
    ObjectSpec,
    Page,
    PlatformError,
    Row,
)
from connectors.outcome import (
    Accepted,
    Halted,
    Outcome,
    Parked,
    Retry,
    Throttled,
    TooLarge,
    Written,
)
from connectors.platforms.mailchimp import address_hash
from ratelimits.bucket import Quota
from ratelimits.registry import load
from schemas.definitions import Connection
from simulators import HubSpot, Mailchimp, Platform, declared
from simulators.quotas import Calendar, Concurrent, Rolling, Window
from tests.conformance.platforms import DECLARED, PLACES, Place

ALL = sorted(PLACES)
PAGES_MAX = 50
SECRET = "tell-nobody-us1"


def test_every_platform_is_under_test() -> None:
    assert registry.platforms() == ALL


@pytest.fixture(params=ALL)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def place(name: str) -> Place:
    return PLACES[name]


Connect = Callable[..., Any]


@pytest.fixture
def connect(name: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """A connector as a worker builds it, from a connection's definition and the environment."""

    @asynccontextmanager
    async def open_(url: str, **secrets: str) -> AsyncIterator[Connector]:
        for secret, value in {**place.secrets, **secrets}.items():
            monkeypatch.setenv(f"TEST_{secret.upper()}", value)
        connection = Connection(
            connection="here",
            platform=name,
            account="1",
            base_url=url,
            secrets={secret: f"env:TEST_{secret.upper()}" for secret in place.secrets},
            options=dict(place.options),
        )
        connector, http = registry.build(connection)
        try:
            yield connector
        finally:
            await http.close()  # type: ignore[attr-defined]

    return open_


@pytest.fixture
async def platform(place: Place) -> Platform:
    return place.empty()


@pytest.fixture
async def connector(platform: Platform, connect: Connect) -> AsyncIterator[Connector]:
    async with platform.serve() as url, connect(url) as connected:
        yield connected


@pytest.fixture
async def settled(place: Place, connect: Connect) -> AsyncIterator[tuple[Platform, Connector]]:
    """A platform that holds ten people already, and its connector."""
    there = place.seeded()
    async with there.serve() as url, connect(url) as connected:
        yield there, connected


Upload = Callable[[list[Row]], Awaitable[list[Outcome]]]


@pytest.fixture
def spec(name: str, place: Place) -> ObjectSpec:
    return registry.connector_class(name).spec.objects[place.object_type]


@pytest.fixture
def good(spec: ObjectSpec) -> type[Outcome]:
    """What a row that was taken is told: Accepted, where the platform gives no verdict."""
    return Accepted if spec.evidence == "none" else Written


def batches(rows: list[Row], spec: ObjectSpec) -> list[list[Row]]:
    size = spec.batch_rows_max
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@pytest.fixture
def upload(connector: Connector, place: Place, spec: ObjectSpec) -> Upload:
    """In as many requests as the platform needs."""

    async def send(rows: list[Row]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for part in batches(rows, spec):
            outcomes += await connector.upload_batch(place.object_type, part)
        return outcomes

    return send


@pytest.fixture
def resend(connector: Connector, place: Place, spec: ObjectSpec, upload: Upload) -> Upload:
    """Rows that went out before, as the worker sends them again: where a repeat could do harm, only
    after it has looked who is there."""

    async def send(rows: list[Row]) -> list[Outcome]:
        if spec.repeat != "unsafe":
            return await upload(rows)
        found: list[Row] = []
        for row in rows:
            address = str(row.fields[place.address])
            asked = ByKeys(place.object_type, place.address, (address,))
            ids = [record.object_id for record in (await connector.fetch_records(asked)).records]
            found.append(Row(row.row_id, row.person, "".join(ids), row.fields))
        return await upload(found)

    return send


@pytest.fixture
def one(place: Place, spec: ObjectSpec) -> Callable[..., list[Row]]:
    """Rows of one request: as many as asked for, or as fit."""
    return lambda count, *name: place.rows(min(count, spec.batch_rows_max), *name)


def strike(platform: Platform, place: Place, action: str, **fault: Any) -> None:
    """From now on writes go wrong in this way, once unless told."""
    platform.script.add([{"path": place.write, "count": 1, "action": action, **fault}])


def fired(platform: Platform) -> int:
    return sum(fault["fired"] for fault in platform.script.report())


def values_of(platform: Platform, outcome: Outcome, place: Place, row: Row) -> dict[str, Any]:
    """What stands there for a row: by the id that we were told, else by the row's address."""
    assert isinstance(outcome, Written | Accepted), outcome
    if isinstance(outcome, Written):
        return platform.store.objects[outcome.object_id].values
    address = row.fields[place.address]
    (obj,) = (o for o in platform.store.alive() if o.values.get(place.address) == address)
    return obj.values


def kinds(outcomes: list[Outcome]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


# --- writing -------------------------------------------------------------------------------------


async def test_a_full_batch_has_one_outcome_a_row(
    platform: Platform, spec: ObjectSpec, place: Place, upload: Upload, good: type[Outcome]
) -> None:
    size = spec.batch_rows_max
    rows = [place.row(n, f"Name{n}") for n in range(size)]
    outcomes = await upload(rows)
    assert kinds(outcomes) == [good] * size
    for n in range(0, size, max(1, size // 20)):  # each row's verdict is its own
        values = values_of(platform, outcomes[n], place, rows[n])
        assert f"person{n}@example.com" in values.values()
        assert f"Name{n}" in values.values()
    assert platform.store.effects()["created"] == size


async def test_a_bad_row_spares_its_neighbours(
    platform: Platform, place: Place, upload: Upload, good: type[Outcome]
) -> None:
    outcomes = await upload([place.row(0), place.bad(1), place.row(2), place.bad(3)])
    assert kinds(outcomes) == [good, Parked, good, Parked]
    refused = outcomes[1]
    assert isinstance(refused, Parked)
    assert refused.code
    assert refused.words
    assert platform.store.effects()["created"] == 2


async def test_a_row_refused_by_a_rule_of_theirs_names_the_field(
    platform: Platform, place: Place, upload: Upload, good: type[Outcome]
) -> None:
    rows = {"field": place.address, "in": ["person1@example.com"]}
    fault = {"rows": rows, "code": "OWN_RULE", "message": "not here", "count": None}
    strike(platform, place, "refuse_rows", **fault)
    outcomes = await upload(place.rows(3))
    assert kinds(outcomes) == [good, Parked, good]
    assert isinstance(outcomes[1], Parked)
    assert outcomes[1].field == place.refusal_field
    assert "not here" in outcomes[1].words or not place.says


async def test_answers_in_another_order(
    platform: Platform, place: Place, upload: Upload, spec: ObjectSpec
) -> None:
    if place.ordered or spec.batch_rows_max == 1:
        pytest.skip("the platform promises the order of the rows, or takes one a request")
    strike(platform, place, "shuffle")
    rows = [place.row(n, f"Name{n}") for n in range(40)]
    rows[7] = place.bad(7)
    outcomes = await upload(rows)
    assert fired(platform) == 1
    assert isinstance(outcomes[7], Parked)
    for n, outcome in enumerate(outcomes):
        if n != 7:
            assert f"Name{n}" in values_of(platform, outcome, place, rows[n]).values()


@pytest.mark.parametrize("share", [0.4, 1.0])
async def test_rows_that_the_answer_passes_over_are_tried_again(
    platform: Platform,
    place: Place,
    upload: Upload,
    resend: Upload,
    share: float,
    good: type[Outcome],
) -> None:
    """A 2xx with neither result nor error for a row is no success, nor is it another row's."""
    if place.unseen:
        pytest.skip("the platform answers only for rows that it refuses")
    rows = [place.row(n, f"Name{n}") for n in range(30)]
    strike(platform, place, "drop_results", share=share, count=None)
    first = await upload(rows)
    assert len(first) == 30
    assert set(kinds(first)) <= {good, Retry}
    assert Retry in kinds(first)
    for n, outcome in enumerate(first):
        if not isinstance(outcome, Retry):
            assert f"Name{n}" in values_of(platform, outcome, place, rows[n]).values()
    platform.script.clear()
    assert kinds(await resend(rows)) == [good] * 30
    assert platform.store.effects()["created"] == 30


async def test_a_success_that_wrote_nothing_is_mended_by_a_repeat(
    platform: Platform, place: Place, upload: Upload, good: type[Outcome]
) -> None:
    strike(platform, place, "no_effect", count=None)
    assert len(await upload(place.rows(3))) == 3
    assert platform.store.effects()["objects"] == 0
    platform.script.clear()
    assert kinds(await upload(place.rows(3))) == [good] * 3
    assert platform.store.effects()["created"] == 3


async def test_a_repeat_changes_nothing(
    platform: Platform, place: Place, upload: Upload, resend: Upload
) -> None:
    first = await upload(place.rows(5))
    assert await resend(place.rows(5)) == first
    effects = platform.store.effects()
    assert (effects["created"], effects["changed"]) == (5, 0)
    assert effects["twice_total"] == 0


async def test_a_change_changes_one_field(
    platform: Platform, place: Place, upload: Upload, resend: Upload
) -> None:
    await upload(place.rows(2))
    await resend(place.rows(2, "Bea"))
    entries = list(platform.store.entries(updates_only=True))
    short = place.first_name.rpartition(".")[2]
    assert [entry["changes"] for entry in entries] == [{short: ["Ann", "Bea"]}] * 2


async def test_none_clears(
    platform: Platform, place: Place, upload: Upload, resend: Upload
) -> None:
    row = place.row(0)
    (before,) = await upload([row])
    cleared = Row(row.row_id, row.person, "", {**row.fields, place.first_name: None})
    assert await resend([cleared]) == [before]
    assert place.first_name.rpartition(".")[2] not in values_of(platform, before, place, row)


async def test_by_id_the_object_itself_is_updated_and_gets_our_key(
    settled: tuple[Platform, Connector], place: Place, spec: ObjectSpec, good: type[Outcome]
) -> None:
    """An object that was found by its address: adopted, never made twice."""
    there, connector = settled
    obj = there.store.numbered[3]
    address = str(obj.values[place.address])
    row = place.row(1, "Adopted", object_id=obj.id, address=address)
    (outcome,) = await connector.upload_batch(place.object_type, [row])
    assert outcome == (Accepted() if good is Accepted else Written(obj.id))
    assert obj.values[place.first_name.rpartition(".")[2]] == "Adopted"
    assert there.store.effects()["created"] == 0
    if place.key:
        assert obj.values[place.key] == row.person
    if place.key and spec.repeat == "safe":
        plain = place.row(1, "ByKey", address=address)
        assert await connector.upload_batch(place.object_type, [plain]) == [Written(obj.id)]
        assert obj.values[place.first_name] == "ByKey"
        assert there.store.effects()["created"] == 0


def test_updates_by_id_and_upserts_do_not_share_a_request(name: str, place: Place) -> None:
    together = registry.connector_class(name).spec.objects[place.object_type].together
    assert together(place.row(1)) == together(place.row(2))
    other = place.row(3, object_id="0" * 32)
    assert (together(place.row(1)) == together(other)) == place.one_way


# --- failures ------------------------------------------------------------------------------------


def same_for_all(outcomes: list[Outcome], count: int) -> Outcome:
    """The very same object, which tells the worker that no single row is to blame."""
    assert len(outcomes) == count
    assert all(outcome is outcomes[0] for outcome in outcomes)
    return outcomes[0]


@pytest.mark.parametrize("action", ["lose_after", "status_after", "truncate"])
async def test_a_lost_answer_and_a_repeat_are_one_effect(
    platform: Platform, place: Place, upload: Upload, resend: Upload,
    one: Callable[..., list[Row]],
    good: type[Outcome], action: str,
) -> None:  # fmt: skip
    rows = one(4)
    strike(platform, place, action)
    assert isinstance(same_for_all(await upload(rows), len(rows)), Retry)
    # It was written, we just do not know.
    assert platform.store.effects()["created"] == len(rows)
    assert kinds(await resend(rows)) == [good] * len(rows)
    effects = platform.store.effects()
    assert (effects["created"], effects["changed"], effects["twice_total"]) == (len(rows), 0, 0)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_their_faults_pass(
    platform: Platform, place: Place, upload: Upload, one: Callable[..., list[Row]],
    good: type[Outcome], status: int,
) -> None:  # fmt: skip
    rows = one(3)
    strike(platform, place, "status", status=status, body="<html>oops</html>")
    assert isinstance(same_for_all(await upload(rows), len(rows)), Retry)
    assert kinds(await upload(rows)) == [good] * len(rows)


async def test_a_success_of_somebody_in_between_is_none(
    platform: Platform, place: Place, upload: Upload, one: Callable[..., list[Row]]
) -> None:
    rows = one(3)
    strike(platform, place, "status", status=200, body="<html>maintenance</html>")
    assert isinstance(same_for_all(await upload(rows), len(rows)), Retry)
    strike(platform, place, "status", status=200, body={"status": "fine"})
    assert isinstance(same_for_all(await upload(rows), len(rows)), Retry)


async def test_too_much_costs_no_attempt(
    platform: Platform, place: Place, upload: Upload, one: Callable[..., list[Row]]
) -> None:
    rows = one(2)
    for throttle in place.throttles:
        strike(platform, place, "throttle", **throttle)
        outcome = same_for_all(await upload(rows), len(rows))
        assert isinstance(outcome, Throttled), (throttle, outcome)
        wait = throttle.get("headers", {}).get("Retry-After")
        assert wait is None or outcome.wait_s == float(wait)
        if policy := throttle.get("policy"):
            assert outcome.window == policy
    assert fired(platform) == len(place.throttles)
    assert platform.store.effects()["objects"] == 0


async def test_too_large_is_told_apart(
    platform: Platform, place: Place, upload: Upload, one: Callable[..., list[Row]]
) -> None:
    rows = one(2)
    strike(platform, place, "status", status=413, body="<html>413</html>")
    assert isinstance(same_for_all(await upload(rows), len(rows)), TooLarge)


async def test_an_unknown_refusal_parks_and_does_not_loop(
    platform: Platform, place: Place, upload: Upload, one: Callable[..., list[Row]]
) -> None:
    rows = one(2)
    strike(platform, place, "status", status=418, body="teapot")
    assert isinstance(same_for_all(await upload(rows), len(rows)), Parked)


async def test_a_refused_key_halts(
    platform: Platform, place: Place, connect: Connect, one: Callable[..., list[Row]]
) -> None:
    rows, wrong = one(2), dict.fromkeys(place.secrets, SECRET)
    async with platform.serve() as url, connect(url, **wrong) as connector:
        outcomes = await connector.upload_batch(place.object_type, rows)
        outcome = same_for_all(outcomes, len(rows))
    assert isinstance(outcome, Halted)
    assert SECRET not in repr(outcome)
    assert platform.store.effects()["objects"] == 0


def something(place: Place) -> Fetch:
    """A read that the platform has."""
    if "changes" in place.reads:
        return Changes(place.object_type, "")
    return FieldsOf(place.object_type)


async def test_nobody_there_is_known_to_have_sent_nothing(
    place: Place, connect: Connect, one: Callable[..., list[Row]]
) -> None:
    rows = one(2)
    with socket.socket() as taken:  # bound and not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        async with connect(f"http://127.0.0.1:{taken.getsockname()[1]}") as connector:
            outcomes = await connector.upload_batch(place.object_type, rows)
            assert isinstance(same_for_all(outcomes, len(rows)), Retry)
            with pytest.raises(PlatformError) as caught:
                await connector.fetch_records(something(place))
    assert (caught.value.status, caught.value.sent) == (0, False)


async def test_a_lost_answer_may_have_been_sent(
    platform: Platform, connector: Connector, place: Place
) -> None:
    platform.script.add([{"method": place.read_method, "action": "lose_before", "count": 1}])
    with pytest.raises(PlatformError) as caught:
        await connector.fetch_records(something(place))
    assert (caught.value.status, caught.value.sent) == (0, True)


# --- reading -------------------------------------------------------------------------------------


def needs(place: Place, read: str) -> None:
    if read not in place.reads:
        pytest.skip(f"the platform has no such read: {read}")


async def pages(connector: Connector, place: Place, cursor: str = "") -> list[Page]:
    """All pages from a cursor on, three records each."""
    read: list[Page] = []
    for _ in range(PAGES_MAX):
        asked = Changes(place.object_type, cursor, (place.address,), rows_max=3)
        page = await connector.fetch_records(asked)
        read.append(page)
        if page.last:
            return read
        assert page.cursor != cursor
        cursor = page.cursor
    raise AssertionError(f"no end after {PAGES_MAX} pages")


def records(read: list[Page]) -> dict[str, Any]:
    return {r.object_id: msgspec.json.decode(r.values) for page in read for r in page.records}


async def test_any_cursor_resumes(settled: tuple[Platform, Connector], place: Place) -> None:
    """All of them changed in the same moment: no page boundary may lose one."""
    needs(place, "changes")
    there, connector = settled
    read = await pages(connector, place)
    assert all(len(page.records) <= 3 for page in read)
    whole = records(read)
    assert set(whole) == set(there.store.objects)
    for done in range(1, len(read)):
        rest = await pages(connector, place, read[done - 1].cursor)
        assert {**records(read[:done]), **records(rest)} == whole
        again = await pages(connector, place, read[done - 1].cursor)
        assert [p.records for p in again] == [p.records for p in rest]


async def test_found_by_id(settled: tuple[Platform, Connector], place: Place) -> None:
    needs(place, "ids")
    there, connector = settled
    obj = there.store.numbered[4]
    page = await connector.fetch_records(ByIds(place.object_type, (obj.id,), (place.address,)))
    (found,) = page.records
    assert (found.object_id, page.last) == (obj.id, True)
    assert msgspec.json.decode(found.values)[place.address] == obj.values[place.address]


async def test_found_by_key(settled: tuple[Platform, Connector], place: Place) -> None:
    """Whoever is there is found whatever the case of the address; who is not, is not."""
    needs(place, "keys")
    there, connector = settled
    wanted = ["seeded2@example.com", "SEEDED5@example.com", "nobody@example.com"]
    asked = [wanted] if place.matches else [[one] for one in wanted]
    fields = (place.key,) if place.key else ()
    found: dict[str, str] = {}
    for values in asked:
        request = ByKeys(place.object_type, place.address, tuple(values), fields)
        page = await connector.fetch_records(request)
        assert page.last
        found |= {record.key: record.object_id for record in page.records}
    ids = [obj.id for obj in there.store.numbered]
    assert found == {"seeded2@example.com": ids[2], "SEEDED5@example.com": ids[5]}


@pytest.mark.parametrize("letter", ["a", "'", "é", "日"])
async def test_as_many_keys_as_the_spec_allows(
    settled: tuple[Platform, Connector], place: Place, letter: str
) -> None:
    """The bounds that the worker fills to the brim fit into one request of the platform."""
    needs(place, "keys")
    if not place.matches:
        pytest.skip("one address a call; its spec says that rows need no matching")
    _, connector = settled
    spec = connector.spec.objects[place.object_type]
    size = spec.match_bytes_max // spec.match_rows_max
    values: list[str] = []
    for n in range(spec.match_rows_max):
        tail = f"{n}@x.io"
        values.append(letter * ((size - len(tail)) // len(letter.encode())) + tail)
    assert sum(len(value.encode()) for value in values) <= spec.match_bytes_max
    request = ByKeys(place.object_type, place.address, tuple(values), (place.key,))
    assert not (await connector.fetch_records(request)).records


async def test_the_live_field_list(connector: Connector, place: Place) -> None:
    page = await connector.fetch_records(FieldsOf(place.object_type))
    names = {record.object_id for record in page.records}
    assert place.first_name.rpartition(".")[2] in names


# --- what a spec promises ------------------------------------------------------------------------


def test_quotas_are_in_the_registry(name: str) -> None:
    limits = load(name)
    for spec in registry.connector_class(name).spec.objects.values():
        for group in {spec.write_quota, spec.read_quota, spec.match_quota or spec.read_quota}:
            assert limits.groups[group], group
            assert set(limits.groups[group]) <= set(limits.quotas)


def test_what_is_fetchable_is_an_object(name: str) -> None:
    spec = registry.connector_class(name).spec
    assert spec.platform == name
    assert spec.fetchable <= set(spec.objects)


def test_mapping_is_pure(connector: Connector, place: Place) -> None:
    row = place.row(1)
    before = copy.deepcopy(row)
    assert connector.map_fields(place.object_type, row) == connector.map_fields(
        place.object_type, row
    )
    assert row == before


async def test_nothing_secret_or_personal_in_logs(
    platform: Platform, place: Place, spec: ObjectSpec, connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """At the loudest level, over a success, refusals, a lost answer and a read by address."""
    caplog.set_level(logging.DEBUG)
    async with platform.serve() as url, connect(url) as connector:
        for action in ("", "lose_after", "status"):
            if action:
                strike(platform, place, action)
            for rows in batches([place.row(0), place.bad(1)], spec):
                await connector.upload_batch(place.object_type, rows)
        if "keys" in place.reads:
            request = ByKeys(place.object_type, place.address, ("person0@example.com",))
            await connector.fetch_records(request)
    told = caplog.text.replace("%40", "@")
    hidden = [value for key, value in place.secrets.items() if not key.endswith("_id")]
    for word in (*hidden, "person0@example.com", "broken1@", "Bearer ", "Basic "):
        assert word not in told


# --- habits of single platforms ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["salesforce", "marketo"])
async def test_an_expired_token_is_renewed_once(
    platform: Platform, connector: Connector, place: Place, upload: Upload
) -> None:
    assert kinds(await upload(place.rows(2))) == [Written] * 2
    platform.expire_tokens()
    platform.script.add([{"path": "/oauth/token|/oauth2/token", "action": "delay", "ms": 20}])
    both = await asyncio.gather(upload(place.rows(2, "Bea")), upload([place.row(5)]))
    assert [kinds(outcomes) for outcomes in both] == [[Written] * 2, [Written]]
    assert 1 <= fired(platform) <= 2  # logins
    strike(platform, place, "expire_token")
    assert kinds(await upload(place.rows(2, "Cis"))) == [Written] * 2
    strike(platform, place, "expire_token", count=None)  # and never good again
    assert isinstance(same_for_all(await upload(place.rows(2)), 2), Retry)


@pytest.mark.parametrize("name", ["mailchimp"])
async def test_a_new_address_renames_the_member(
    platform: Platform, place: Place, upload: Upload
) -> None:
    """PUT on the old address's hash; lost and repeated it is still one member."""
    assert isinstance(platform, Mailchimp)
    old, new = address_hash("person0@example.com"), address_hash("new@example.com")
    await upload([place.row(0)])
    strike(platform, place, "lose_after", method="PUT")
    moved = place.row(0, object_id=old, address="New@example.com")
    assert kinds(await upload([moved])) == [Retry]
    assert await upload([moved]) == [Written(new)]
    assert [obj.id for obj in platform.store.alive()] == [new]
    assert platform.store.objects[new].values["email_address"] == "New@example.com"
    assert platform.store.effects()["created"] == 1


@pytest.mark.parametrize("name", ["mailchimp"])
async def test_who_left_is_not_subscribed_again(
    platform: Platform, place: Place, upload: Upload
) -> None:
    await upload([place.row(0)])
    platform.perform([{"kind": "unsubscribe", "email": "person0@example.com"}])
    await upload([place.row(0, "Bea")])
    (member,) = platform.store.alive()
    assert (member.values["status"], member.values["FNAME"]) == ("unsubscribed", "Bea")


@pytest.mark.parametrize("name", ["hubspot"])
async def test_an_object_that_was_deleted_parks_its_row_only(
    platform: Platform, place: Place, upload: Upload
) -> None:
    assert isinstance(platform, HubSpot)
    written = await upload(place.rows(2))
    ids = [outcome.object_id for outcome in written if isinstance(outcome, Written)]
    platform.perform([{"delete": ids[0]}])
    rows = [place.row(n, "Bea", object_id=object_id) for n, object_id in enumerate(ids)]
    assert kinds(await upload(rows)) == [Parked, Written]


# --- two readings of the same page ---------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DECLARED))
async def test_our_quotas_are_no_looser_than_what_the_platform_counts(
    name: str, place: Place, spec: ObjectSpec, connect: Connect
) -> None:
    """Every window that a request spends at the simulator, which was written by itself, is held by
    one of ours that is as strict."""
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
    async with platform.serve() as url, connect(url) as connector:
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

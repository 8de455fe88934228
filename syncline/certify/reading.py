"""What can be asked for: pages that resume anywhere, objects by id and by key, the live fields."""

from typing import Any

import msgspec

from connectors.base import ByIds, ByKeys, Changes, Connector, Count, FieldsOf, Page, Row
from connectors.outcome import Parked
from syncline.certify.bench import Bench, NotHere, short
from syncline.certify.checks import check
from syncline.certify.desk import Desk
from syncline.certify.places import SEEDED, Place

GROUP = "reading"
PAGES_MAX = 50
ROWS_MAX = 3


def _needs(place: Place, read: str, words: str) -> None:
    if read not in place.reads:
        raise NotHere(words)


async def _pages(connector: Connector, place: Place, cursor: str = "") -> list[Page]:
    """All pages from a cursor on, three records each."""
    read: list[Page] = []
    for _ in range(PAGES_MAX):
        asked = Changes(place.object_type, cursor, (place.address,), rows_max=ROWS_MAX)
        page = await connector.fetch_records(asked)
        read.append(page)
        if page.last:
            return read
        assert page.cursor != cursor
        cursor = page.cursor
    raise AssertionError(f"no end after {PAGES_MAX} pages")


def _records(read: list[Page]) -> dict[str, Any]:
    return {r.object_id: msgspec.json.decode(r.values) for page in read for r in page.records}


@check(GROUP, "equal timestamps: no border of a page loses an object")
async def a_moment_with_many_changes_is_read_whole(bench: Bench) -> None:
    """All ten were changed in the same millisecond."""
    _needs(bench.place, "changes", "it cannot be listed")
    async with bench.settled() as (there, connector):
        read = await _pages(connector, bench.place)
        assert all(len(page.records) <= ROWS_MAX for page in read)
        assert set(_records(read)) == set(there.store.objects)


@check(GROUP, "any checkpoint resumes, and reads the same again")
async def any_cursor_resumes(bench: Bench) -> None:
    _needs(bench.place, "changes", "it cannot be listed")
    async with bench.settled() as (_, connector):
        read = await _pages(connector, bench.place)
        whole = _records(read)
        for done in range(1, len(read)):
            rest = await _pages(connector, bench.place, read[done - 1].cursor)
            assert {**_records(read[:done]), **_records(rest)} == whole
            again = await _pages(connector, bench.place, read[done - 1].cursor)
            assert [p.records for p in again] == [p.records for p in rest]


@check(GROUP, "objects by id")
async def found_by_id(bench: Bench) -> None:
    place = bench.place
    _needs(place, "ids", "it cannot be asked for objects by id")
    async with bench.settled() as (there, connector):
        most = connector.spec.objects[place.object_type].read_rows_max
        wanted = {obj.id: obj.values[place.address] for obj in there.store.numbered[4 : 4 + most]}
        page = await connector.fetch_records(
            ByIds(place.object_type, tuple(wanted), (place.address,))
        )
        found = {r.object_id: msgspec.json.decode(r.values)[place.address] for r in page.records}
        assert (found, page.last) == (wanted, True), "an object without an answer counts as gone"


@check(GROUP, "who is there is found by the address, in any case; who is not, is not")
async def found_by_key(bench: Bench) -> None:
    place = bench.place
    _needs(place, "keys", "it cannot be asked for objects by a field")
    async with bench.settled() as (there, connector):
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


@check(GROUP, "as many keys in one question as the spec allows, of any letters")
async def as_many_keys_as_the_spec_allows(bench: Bench) -> None:
    place, spec = bench.place, bench.spec
    _needs(place, "keys", "it cannot be asked for objects by a field")
    if not place.matches:
        raise NotHere("one address a question; its spec says that rows need no matching")
    size = spec.match_bytes_max // spec.match_rows_max
    async with bench.settled() as (_, connector):
        for letter in ("a", "'", "é", "日"):
            values: list[str] = []
            for n in range(spec.match_rows_max):
                tail = f"{n}@x.io"
                values.append(letter * ((size - len(tail)) // len(letter.encode())) + tail)
            assert sum(len(value.encode()) for value in values) <= spec.match_bytes_max
            request = ByKeys(place.object_type, place.address, tuple(values), (place.key,))
            assert not (await connector.fetch_records(request)).records


@check(GROUP, "how many objects there are")
async def a_platform_tells_how_many_it_holds(bench: Bench) -> None:
    if not bench.spec.count_quota:
        raise NotHere("it cannot be asked how many objects it has")
    async with bench.settled() as (_, connector):
        page = await connector.fetch_records(Count(bench.place.object_type))
    assert page.total == SEEDED


@check("schema", "the live list of fields")
async def the_live_field_list(bench: Bench) -> None:
    page = await bench.connector.fetch_records(FieldsOf(bench.place.object_type))
    names = {record.object_id for record in page.records}
    assert {bench.place.first_name, short(bench.place.first_name)} & names


@check("schema", "a field that is gone: its row parks or the field is passed over; nothing halts")
async def a_field_that_is_gone_concerns_its_row_alone(bench: Bench) -> None:
    """Somebody deleted a field that a mapping still writes. Through the worker, as a platform may
    refuse the whole request for it."""
    place, plain = bench.place, bench.place.row(1)
    changed = Row(plain.row_id, plain.person, "", {**plain.fields, "syncline_gone": "x"})
    async with Desk(bench) as desk:
        fates = await desk.upload([place.row(0), changed, place.row(2)])
        assert not desk.account.gate.shut, desk.account.gate.shut
    assert type(fates["row-0"]) is type(fates["row-2"]) is bench.good
    assert isinstance(fates["row-1"], Parked | bench.good), fates["row-1"]

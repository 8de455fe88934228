"""The same list against a real account, in a namespace of its own that is erased afterwards.

What needs a platform that misbehaves on request cannot be shown here, and each such line says so.
Rows are few, addresses are of one run, and there is a pause between requests' worth of work.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec

from connectors import registry
from connectors.base import (
    Answer,
    ByIds,
    ByKeys,
    Changes,
    Connector,
    Count,
    Found,
    Http,
    Row,
)
from connectors.http import HttpClient
from connectors.outcome import Accepted, Halted, Outcome, Parked, Written
from schemas.definitions import Connection
from syncline.certify.bench import Bench, NotHere, kinds, same_for_all, short
from syncline.certify.failing import SECRET
from syncline.certify.places import Place

__all__ = ["AS_THEY_ARE", "CANNOT", "LIVE", "Live"]

CANNOT = "cannot be provoked on the real platform"
AS_THEY_ARE = frozenset(
    {
        "what_is_never_proven_is_not_called_written",
        "updates_by_id_and_upserts_do_not_share_a_request",
        "the_live_field_list",
        "mapping_is_pure",
        "quotas_are_in_the_registry",
        "what_is_fetchable_is_an_object",
        "a_webhook_with_its_proof_is_taken_and_no_other",
        "a_changed_byte_breaks_the_signature",
        "samples_become_events",
    }
)
"""Checks that need no misbehaviour: run like against a simulated platform."""
ROWS_MAX = 10
SEEN_S = 60.0
"""Platforms index what they took within seconds, mostly."""
LOOK_S = 2.0


class _Heard(HttpClient):
    """Remembers with which headers the connector asked: erasing is asked with the same."""

    headers: dict[str, str]

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        self.headers = {}

    async def request(self, method: str, path: str, **more: Any) -> Answer:
        if sent := more.get("headers"):
            self.headers = dict(sent)
        return await super().request(method, path, **more)


class Live(Bench):
    """`async with Live(name, place, connection, run, domain) as bench`. `run` names the namespace:
    people are `syncline-certify-RUN-N@DOMAIN`."""

    def __init__(
        self, name: str, place: Place, connection: Connection, run: str, domain: str
    ) -> None:
        key = f"syncline-certify-{run}-{{n}}"
        options = connection.options
        super().__init__(
            name,
            replace(place, people=f"{key}@{domain}", persons=key, options=options),
        )
        self.given, self.run = connection, run
        self.made: dict[str, None] = {}
        """Ids of what stands there because of us."""

    async def __aenter__(self) -> "Live":
        self.url = self.given.base_url
        self.connector = await self._ends.enter_async_context(self.connect(self.url, _Heard))
        return self

    def __getattr__(self, name: str) -> Any:
        if name == "platform":  # what only a simulated one has: its ledger, its faults
            raise NotHere(CANNOT)
        raise AttributeError(name)

    @asynccontextmanager
    async def connect(
        self, url: str, client: Callable[[str], Http] = HttpClient, instead: Any = None
    ) -> AsyncIterator[Connector]:
        made = self.given
        with self.secrets(instead=instead):
            if instead:
                wrong = self.connection(url).secrets
                made = made.model_copy(update={"secrets": wrong})
            connector, http = registry.build(made, client)
        if isinstance(http, _Heard):  # erases at the end, when the connector is done
            self.heard = http
        try:
            yield connector
        finally:
            if not isinstance(http, _Heard):
                await http.close()  # type: ignore[attr-defined]

    async def upload(self, rows: list[Row]) -> list[Outcome]:
        outcomes = await super().upload(rows)
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, Written):
                self.made[outcome.object_id] = None
            elif isinstance(outcome, Accepted):
                self.made[str(row.fields.get(self.spec.identity_field) or row.person)] = None
        return outcomes

    async def seen(self, row: Row, object_id: str, wanted: Callable[[Found], bool]) -> None:
        """Waits until the object reads so. Raises TimeoutError; NotHere where none can be read."""
        place, fields = self.place, (self.place.address, self.place.first_name)
        if "ids" in place.reads and object_id:
            asked: Any = ByIds(place.object_type, (object_id,), fields)
        elif "keys" in place.reads:
            address = str(row.fields[place.address])
            asked = ByKeys(place.object_type, place.address, (address,), fields)
        else:
            raise NotHere("it cannot be read back")
        async with asyncio.timeout(SEEN_S):
            while True:
                records = (await self.connector.fetch_records(asked)).records
                if len(records) == 1 and wanted(records[0]):
                    return
                await asyncio.sleep(LOOK_S)

    async def erase(self) -> None:
        """Take away what was made. Raises PlatformError; NotHere where nobody has read how."""
        if not self.made:
            return
        if self.place.erase is None:
            raise NotHere(f"erase by hand: {', '.join(self.made)}")
        method, path, body = self.place.erase
        for object_id in list(self.made):
            filled = path.format(id=quote(object_id, safe=""), **self.given.options)
            await self.heard.request(
                method, filled, json=_with_id(body, object_id), headers=self.heard.headers
            )
            del self.made[object_id]

    async def __aexit__(self, *error: Any) -> None:
        await super().__aexit__(*error)
        if hasattr(self, "heard"):
            await self.heard.close()


def _with_id(body: Any, object_id: str) -> Any:
    """A template with `{id}` in it."""
    if isinstance(body, dict):
        return {key: _with_id(value, object_id) for key, value in body.items()}
    if isinstance(body, list):
        return [_with_id(value, object_id) for value in body]
    return object_id if body == "{id}" else body


def _id(outcome: Outcome) -> str:
    return outcome.object_id if isinstance(outcome, Written) else ""


async def _batch(bench: Live) -> None:
    rows = bench.place.rows(min(ROWS_MAX, bench.spec.batch_rows_max))
    assert kinds(await bench.upload(rows)) == [bench.good] * len(rows)


async def _bad_row(bench: Live) -> None:
    place = bench.place
    outcomes = await bench.upload([place.row(0), place.bad(1), place.row(2)])
    assert kinds(outcomes) == [bench.good, Parked, bench.good]
    refused = outcomes[1]
    assert isinstance(refused, Parked)
    assert refused.code


async def _repeat(bench: Live) -> None:
    rows = bench.place.rows(2)
    first = await bench.upload(rows)
    await bench.seen(rows[0], _id(first[0]), lambda _: True)
    assert await bench.resend(rows) == first
    await bench.seen(rows[0], _id(first[0]), lambda _: True)


def _named(bench: Live, name: str | None) -> Callable[[Found], bool]:
    def wanted(found: Found) -> bool:
        values: dict[str, Any] = msgspec.json.decode(found.values)
        field = bench.place.first_name
        there = values.get(field, values.get(short(field)))
        return (there or None) == name

    return wanted


async def _change(bench: Live) -> None:
    rows = bench.place.rows(1)
    (before,) = await bench.upload(rows)
    await bench.seen(rows[0], _id(before), lambda _: True)
    await bench.resend(bench.place.rows(1, "Bea"))
    await bench.seen(rows[0], _id(before), _named(bench, "Bea"))


async def _clear(bench: Live) -> None:
    row = bench.place.row(0)
    (before,) = await bench.upload([row])
    await bench.seen(row, _id(before), lambda _: True)
    cleared = Row(row.row_id, row.person, "", {**row.fields, bench.place.first_name: None})
    await bench.resend([cleared])
    await bench.seen(row, _id(before), _named(bench, None))


async def _adopt(bench: Live) -> None:
    (before,) = await bench.upload([bench.place.row(3)])
    if not isinstance(before, Written):
        raise NotHere("it says of no object which it is")
    row = bench.place.row(3, "Adopted", object_id=before.object_id)
    assert await bench.upload([row]) == [before]


async def _resumes(bench: Live) -> None:
    place = bench.place
    if "changes" not in place.reads:
        raise NotHere("it cannot be listed")

    async def page(cursor: str) -> tuple[Sequence[str], str]:
        read = await bench.connector.fetch_records(
            Changes(place.object_type, cursor, (place.address,), rows_max=3)
        )
        return [record.object_id for record in read.records], "" if read.last else read.cursor

    _, cursor = await page("")
    if not cursor:
        raise NotHere("there is no second page in this account")
    second, after = await page(cursor)  # may overlap: a moment is no border everywhere
    assert second
    assert after != cursor
    assert await page(cursor) == (second, after)


async def _by_id(bench: Live) -> None:
    if "ids" not in bench.place.reads:
        raise NotHere("it cannot be asked for objects by id")
    row = bench.place.row(4)
    (outcome,) = await bench.upload([row])
    await bench.seen(row, _id(outcome) or row.person, lambda found: bool(found.object_id))


async def _by_key(bench: Live) -> None:
    place = bench.place
    if "keys" not in place.reads:
        raise NotHere("it cannot be asked for objects by a field")
    row = place.row(5)
    await bench.upload([row])
    await bench.seen(row, "", lambda found: found.key == row.fields[place.address])


async def _count(bench: Live) -> None:
    if not bench.spec.count_quota:
        raise NotHere("it cannot be asked how many objects it has")
    assert (await bench.connector.fetch_records(Count(bench.place.object_type))).total >= 0


async def _gone(bench: Live) -> None:
    plain = bench.place.row(1)
    changed = Row(plain.row_id, plain.person, "", {**plain.fields, "syncline_gone": "x"})
    (outcome,) = await bench.upload([changed])
    assert isinstance(outcome, Parked | bench.good), outcome


async def _refused_key(bench: Live) -> None:
    rows, wrong = bench.one(1), dict.fromkeys(bench.place.secrets, SECRET)
    async with bench.connect(bench.url, instead=wrong) as connector:
        outcomes = await connector.upload_batch(bench.place.object_type, rows)
    outcome = same_for_all(outcomes, len(rows))
    assert isinstance(outcome, Halted), outcome
    assert SECRET not in repr(outcome)


LIVE: dict[str, Callable[[Live], Any]] = {
    "a_full_batch_has_one_outcome_a_row": _batch,
    "a_bad_row_spares_its_neighbours": _bad_row,
    "a_repeat_changes_nothing": _repeat,
    "a_change_changes_one_field": _change,
    "none_clears": _clear,
    "by_id_the_object_itself_is_updated_and_gets_our_key": _adopt,
    "any_cursor_resumes": _resumes,
    "found_by_id": _by_id,
    "found_by_key": _by_key,
    "a_platform_tells_how_many_it_holds": _count,
    "a_field_that_is_gone_concerns_its_row_alone": _gone,
    "a_refused_key_halts": _refused_key,
}
"""Checks of the list that a real platform can be asked for, in this form."""

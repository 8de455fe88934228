"""Reads from a platform: pages of a bulk run, and single objects that a thin event left unknown.

What is read becomes events like any other. The events of one command, its journal entry and its
offset are one transaction: a command that is done again after a crash leaves nothing twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog

from connectors.base import ByIds, Changes, Count, Fetch, Found, ObjectSpec, Page, PlatformError
from connectors.http import Trail, trail
from connectors.lanes import Taken
from connectors.office import Client
from connectors.outcome import Halted, Outcome, Parked, Retry, Throttled, TooLarge
from connectors.registry import Misconfigured
from connectors.settling import Send, wall_ms
from connectors.wire import Wire, event_headers
from ratelimits.limiter import NoLease
from schemas import ids
from schemas.commands import Priority
from schemas.events import EventKind, Origin
from schemas.journal import JournalKind, Standing
from schemas.topics import JOURNAL, events_of

if TYPE_CHECKING:
    from connectors.account import Account

__all__ = ["RETRY_S", "Reader", "ask", "fetch", "read"]

log = structlog.get_logger("connectors")

RECORDS_MAX = 2_000
"""Of one transaction; a page that is begun is always taken whole."""
BYTES_MAX = 8_000_000
RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)


T = TypeVar("T")


class Fetched(NamedTuple):
    """What one FetchPages has read."""

    pages: list[Page]
    cursor: str
    """Where the next page begins."""
    last: bool
    total: int = -1
    """Records of the source, as far as it tells."""


async def fetch(account: "Account", taken: Taken, command: dict[str, Any]) -> None:
    """A FetchPages: tried until it succeeds; a run that waits for it says so by itself."""

    async def once(client: Client) -> Fetched:
        return await _pages(account, client, taken, command)

    fetched = await _until_it_works(account, taken, once, Client.changes_quota)
    office = account.office
    taken.sends = list(_fetched(office.platform, taken, command, fetched, office.wire))
    office.done(taken)


def _read_quota(client: Client, spec: ObjectSpec) -> str:
    return spec.read_quota


async def _until_it_works(
    account: "Account", taken: Taken, once: Callable[[Client], Awaitable[T]],
    quota: Callable[[Client, ObjectSpec], str],
) -> T:  # fmt: skip
    """Repeat a read, with waits; a halted account waits until it opens. `quota`: the group that it
    is paid from."""
    tries = 0
    while True:
        await account.opened()
        try:
            client = account.office.client(taken.connection)
        except Misconfigured as error:
            account.halt(str(error))
            continue
        try:
            return await once(client)
        except PlatformError as error:
            outcome = client.connector.handle_error(error)
        except NoLease:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a connector throws must not end the worker
            outcome = Retry(f"connector failed: {type(error).__name__}")
        group = quota(client, client.spec.objects[taken.object_type])
        await _failed(account, group, taken, outcome, tries)
        tries += not isinstance(outcome, Throttled)


async def _pages(
    account: "Account", client: Client, taken: Taken, command: dict[str, Any]
) -> Fetched:
    """Up to `pages_max` pages. An error after the first ends the command early: what was read
    counts."""
    spec = client.spec.objects[taken.object_type]
    fields = account.office.fetch_fields(taken.connection, taken.object_type)
    quota = client.changes_quota(spec)
    pages: list[Page] = []
    cursor, records, size, total = command["cursor"], 0, 0, -1
    for _ in range(max(1, command["pages_max"])):
        try:
            asked = Changes(taken.object_type, cursor, fields, since_ms=command["since_ms"])
            page = await ask(account, client, asked, quota, Priority.bulk)
        except PlatformError:
            if pages:
                return Fetched(pages, cursor, False, total)
            raise
        account.gate.answered(account.office.now_s())
        pages.append(page)
        cursor, total = page.cursor, max(total, page.total)
        if len(pages) == 1 and not command["cursor"] and total < 0 and spec.count_quota:
            total = await _count(account, client, taken.object_type, spec.count_quota)
        records += len(page.records)
        size += sum(len(r.payload) + len(r.values) for r in page.records)
        if page.last:
            return Fetched(pages, cursor, True, total)
        if records >= RECORDS_MAX or size >= BYTES_MAX:
            break
    return Fetched(pages, cursor, False, total)


async def _count(account: "Account", client: Client, object_type: str, quota: str) -> int:
    """Once a run, for `batch 451 of about 500`: nothing depends on it, so it may fail."""
    try:
        return (await ask(account, client, Count(object_type), quota, Priority.bulk)).total
    except NoLease:
        raise
    except Exception:  # noqa: BLE001 - whatever a connector throws
        return -1


async def ask(
    account: "Account", client: Client, request: Fetch, quota: str, priority: Priority
) -> Page:
    """One read, paid for. Raises NoLease, and whatever the connector throws."""
    async with account.limits.permit(quota, priority) as permit:
        with trail(Trail(another=permit.another, answered=permit.answered)):
            return await client.connector.fetch_records(request)


def _fetched(
    platform: str, taken: Taken, command: dict[str, Any], fetched: Fetched, wire: Wire
) -> Iterator[Send]:
    """The events of these pages and their journal entry.

    Of a backfill: changes of no run, each with the same id however often it is compared.
    """
    run, record_no, now_ms = taken.run, command["record_no"], wall_ms()
    backfill = command["backfill"]
    notes: list[dict[str, Any]] = []
    for page in fetched.pages:
        for found in page.records:
            key = ids.object_key(taken.connection, taken.object_type, found.object_id)
            event_id = ids.fetched_event_id("" if backfill else run, key, found.payload)
            yield _event(
                platform, taken, found, key, event_id,
                Origin.backfill if backfill else Origin.fetch, "" if backfill else run,
                -1 if backfill else record_no, now_ms, wire,
            )  # fmt: skip
            notes.append(
                {
                    "row_id": ids.row_id(event_id, taken.sync),
                    "event_id": event_id,
                    "record_no": record_no,
                    "standing": Standing.in_transit.value,
                }
            )
            record_no += 1
    entry = wire.entry(
        JournalKind.page_fetched, notes, at_ms=now_ms, sync=taken.sync, run=run,
        connection=taken.connection, account=taken.account, step=command["step"],
        cursor=fetched.cursor, pages=len(fetched.pages), records=len(notes), last=fetched.last,
        total=fetched.total,
    )  # fmt: skip
    yield Send(JOURNAL, entry, run or taken.sync)


def _event(
    platform: str, taken: Taken, found: Found, key: str, event_id: str, origin: Origin,
    run: str, record_no: int, now_ms: int, wire: Wire,
) -> Send:  # fmt: skip
    kind = EventKind.deleted if found.archived else EventKind.updated
    value = wire.event(
        {
            "event_id": event_id,
            "connection": taken.connection,
            "platform": platform,
            "object_type": taken.object_type,
            "object_id": found.object_id,
            "kind": kind.value,
            "origin": origin.value,
            "run": run,
            "record_no": record_no,
            "occurred_ms": found.occurred_ms or now_ms,
            "time_certain": found.occurred_ms > 0,
            "received_ms": now_ms,
            "values": found.values,
            "payload": found.payload,
        }
    )
    headers = event_headers(platform, taken.connection, event_id, origin.value, found.occurred_ms)
    return Send(events_of(platform), value, key, -1, headers)


@dataclass(eq=False)
class Wanted:
    """The objects that one ReadObjects asks for."""

    taken: Taken
    left: dict[str, None]
    """Ids that have no answer yet, in order."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Reader:
    """Everything that is asked of one connection about one type of object and the same fields.

    Live changes ask for one object each. While they wait for the quota they gather here, and go
    out in full calls.
    """

    def __init__(self, account: "Account", object_type: str, fields: tuple[str, ...]) -> None:
        self.account, self.object_type, self.fields = account, object_type, fields
        self.wanted: dict[Wanted, None] = {}
        self.rows_max = 0
        """Learned from refusals; 0: as many as the platform says."""
        self._task: asyncio.Task[None] | None = None

    def add(self, wanted: Wanted) -> None:
        self.wanted[wanted] = None
        if self._task is None or self._task.done():
            self._task = self.account.spawn(self._run())

    async def _run(self) -> None:
        account = self.account
        while self.wanted:
            taken = next(iter(self.wanted)).taken
            asked, page = await _until_it_works(account, taken, self._once, _read_quota)
            if asked:
                account.gate.answered(account.office.now_s())
            here = {found.object_id: found for found in page.records}
            for wanted, mine in asked.items():
                if wanted not in self.wanted:
                    continue  # handed on while the call was under way: it is asked anew
                wanted.taken.sends += _read(
                    account.office.platform, wanted.taken, mine, here, account.office.wire
                )
                for name in mine:
                    del wanted.left[name]
                if not wanted.left:
                    del self.wanted[wanted]
                    wanted.answered.set()

    async def _once(self, client: Client) -> tuple[dict[Wanted, list[str]], Page]:
        """One call, and for whom it was begun: who asks while it is under way may know of a newer
        change. A refusal as a whole is halved until the id to blame stands alone."""
        spec = client.spec.objects[self.object_type]
        while True:
            names: list[str] = []
            asked: dict[Wanted, list[str]] = {}
            try:
                async with self.account.limits.permit(spec.read_quota, Priority.live) as permit:
                    names, asked = self._part(self.rows_max or spec.read_rows_max)
                    if not names:  # whoever asked has been handed on meanwhile
                        permit.unused()
                        return {}, Page([])
                    with trail(Trail(another=permit.another, answered=permit.answered)):
                        page = await client.connector.fetch_records(
                            ByIds(self.object_type, tuple(names), self.fields)
                        )
            except PlatformError as error:
                if not isinstance(client.connector.handle_error(error), Parked | TooLarge):
                    raise
                if len(names) == 1:
                    return asked, Page([])  # this very id is refused: it names nothing
                self.rows_max = len(names) // 2
            else:
                if self.rows_max:
                    self.rows_max = min(spec.read_rows_max, 2 * self.rows_max)
                return asked, page

    def _part(self, rows_max: int) -> tuple[list[str], dict[Wanted, list[str]]]:
        """The next ids, oldest first, and whose they are."""
        ids = dict.fromkeys(name for wanted in self.wanted for name in wanted.left)
        names = dict.fromkeys(islice(ids, rows_max))
        asked = {
            wanted: mine
            for wanted in self.wanted
            if (mine := [name for name in wanted.left if name in names])
        }
        return list(names), asked


async def read(account: "Account", taken: Taken, command: dict[str, Any]) -> None:
    """A ReadObjects: tried until it succeeds. An object that is not there any more is told as
    deleted, so that nobody waits for it."""
    fields = tuple(command["fields"])
    key = (taken.connection, taken.object_type, fields)
    reader = account.readers.setdefault(key, Reader(account, taken.object_type, fields))
    wanted = Wanted(taken, dict.fromkeys(command["object_ids"]))
    if wanted.left:
        reader.add(wanted)
        try:
            await wanted.answered.wait()
        finally:
            reader.wanted.pop(wanted, None)
    account.office.done(taken)


def _read(
    platform: str, taken: Taken, asked: Sequence[str], here: Mapping[str, Found], wire: Wire
) -> Iterator[Send]:
    """Events with ids of this very command: the same content read again later is news to whoever
    asked for it."""
    now_ms = wall_ms()
    for object_id in asked:
        found = here.get(object_id) or Found(object_id, b"{}", b"", archived=True)
        key = ids.object_key(taken.connection, taken.object_type, object_id)
        name = f"read:{platform}:{taken.partition}:{taken.offset}"
        event_id = ids.fetched_event_id(name, key, found.payload)
        yield _event(platform, taken, found, key, event_id, Origin.read, "", -1, now_ms, wire)


async def _failed(
    account: "Account", group: str, taken: Taken, outcome: Outcome, tries: int
) -> None:
    """Act on it, and wait before the next try."""
    if not isinstance(outcome, Retry):
        account.gate.heard(account.office.now_s())
    match outcome:
        case Throttled(wait_s, window):
            account.limits.throttled(group, wait_s, window)
            return
        case Halted(why):
            account.halt(why)
            return
        case Retry(why):
            account.gate.failed(account.office.now_s(), why)
        case Parked(code, words):
            why = f"{code}: {words}"[:300]
        case _:
            why = type(outcome).__name__
    log.warning(
        "read failed", platform=account.office.platform, account=account.name, tries=tries + 1
    )
    if tries == 0:
        _say(account, taken, why)
    await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])


def _say(account: "Account", taken: Taken, why: str) -> None:
    """Into the journal, so that whoever asks why nothing moves finds it there."""
    if not taken.run:
        return
    entry = account.office.wire.entry(
        JournalKind.account_state, [], at_ms=wall_ms(), sync=taken.sync, run=taken.run,
        connection=taken.connection, account=taken.account, why=f"fetch failed: {why}",
    )  # fmt: skip
    account.office.also([Send(JOURNAL, entry, taken.run)], account.partition)

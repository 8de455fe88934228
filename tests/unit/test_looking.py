"""A worker tells what stands at a destination: each row is answered, or given back, by name."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from connectors import reading
from connectors.account import Account
from connectors.base import ByIds, Fetch, Found, ObjectSpec, Page, PlatformError
from connectors.lanes import Taken
from connectors.looking import look_up
from connectors.outcome import Halted, Outcome, Parked, Retry, Throttled
from connectors.wire import Wire
from schemas.codec import Codec
from schemas.commands import LookRow, LookUp
from schemas.outcomes import RecordOutcome

THING = ObjectSpec("state", "safe", 100, key_field="our_key", read_rows_max=2, match_rows_max=2)


class Connector:
    """Holds objects; refuses as the test says."""

    config = None

    def __init__(self, things: dict[str, dict[str, Any]]) -> None:
        self.things = things
        self.calls: list[Fetch] = []
        self.errors: list[int] = []
        self.bad = ""
        """A value for which a whole request is refused."""
        self.most = 100
        """Objects that one answer holds."""

    async def fetch_records(self, request: Any) -> Page:
        self.calls.append(request)
        if self.errors:
            raise PlatformError(self.errors.pop(0))
        wanted: Sequence[str] = request.ids if isinstance(request, ByIds) else request.values
        if self.bad in wanted:
            raise PlatformError(400)
        found = [
            Found(name, json.dumps(v).encode(), b"", key="" if isinstance(request, ByIds) else k)
            for name, v in self.things.items()
            if (k := name if isinstance(request, ByIds) else str(v.get("email"))) in wanted
        ]
        return Page(found[: self.most], last=len(found) <= self.most)

    def handle_error(self, error: PlatformError) -> Outcome:
        match error.status:
            case 429:
                return Throttled(1.0)
            case 401:
                return Halted("key refused")
            case 400:
                return Parked("BAD")
            case _:
                return Retry("down")


class Desk:
    """What looking needs of an account."""

    def __init__(self, things: dict[str, dict[str, Any]] | None = None) -> None:
        self.connector: Any = Connector(things or {})
        self.spec = SimpleNamespace(objects={"thing": THING})
        self.told: list[str] = []
        """What the gate was told, in order."""
        self.gate = SimpleNamespace(
            shut="",
            answered=lambda now_s: self.told.append("answered"),
            failed=lambda now_s, why: self.told.append(why),
            heard=lambda now_s: self.told.append("heard"),
        )
        self.throttled: list[float] = []
        self.limits = SimpleNamespace(
            permit=self._permit,
            throttled=lambda group, wait_s, window: self.throttled.append(wait_s),
        )
        codec = Codec.offline()
        self.codec = codec
        self.office = SimpleNamespace(
            platform="tiny", wire=Wire(codec), client=lambda name: self, now_s=lambda: 0.0,
            done=lambda taken: None,
        )  # fmt: skip

    def key_field(self, spec: ObjectSpec) -> str:
        return spec.key_field

    def halt(self, why: str) -> None:
        self.gate.shut = why

    @asynccontextmanager
    async def _permit(self, group: str, priority: Any) -> AsyncIterator[Any]:
        nothing: Callable[..., Any] = lambda *_: None  # noqa: E731
        yield SimpleNamespace(another=nothing, answered=nothing)

    def look(self, *rows: LookRow, field: str = "email") -> dict[str, RecordOutcome]:
        return asyncio.run(self.asked("thing", field, rows, "phone"))

    async def asked(
        self, kind: str, field: str, rows: Sequence[LookRow], *fields: str
    ) -> dict[str, RecordOutcome]:
        command = LookUp(
            account="a", connection="c", object_type=kind, sync="s", field=field,
            fields=list(fields), rows=list(rows),
        )  # fmt: skip
        taken = Taken(0, 1, 7, 0.0, account="a", connection="c", object_type=kind, sync="s")
        await look_up(cast(Account, self), taken, command.model_dump())
        made = [self.codec.decode_as(RecordOutcome, send.value) for send in taken.sends]
        return {outcome.row_id: outcome for outcome in made}


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RETRY_S", (0.02, 0.04))


def by_id(number: int) -> LookRow:
    return LookRow(row_id=f"r{number}", person=f"p{number}", object_id=f"o{number}")


def by_value(number: int) -> LookRow:
    return LookRow(row_id=f"r{number}", person=f"p{number}", value=f"{number}@x.io")


def told(outcome: RecordOutcome) -> tuple[str, str, Any]:
    seen = None if outcome.seen is None else json.loads(outcome.seen).get("phone")
    return outcome.kind.value, outcome.code, seen


def test_what_stands_there_is_told_by_id_in_calls_of_the_platforms_size() -> None:
    desk = Desk({f"o{n}": {"phone": str(n)} for n in (1, 2, 3)})
    found = desk.look(*(by_id(n) for n in (1, 2, 3, 4)))
    assert [told(found[f"r{n}"]) for n in (1, 2, 3, 4)] == [
        ("seen", "", "1"), ("seen", "", "2"), ("seen", "", "3"), ("seen", "absent", None),
    ]  # fmt: skip
    assert [len(call.ids) for call in desk.connector.calls if isinstance(call, ByIds)] == [2, 2]


def test_what_is_looked_for_is_found_as_a_first_write_would_find_it() -> None:
    desk = Desk({
        "o1": {"email": "1@x.io", "phone": "1"},
        "o2": {"email": "2@x.io"}, "o3": {"email": "2@x.io"},
        "o4": {"email": "3@x.io", "our_key": "another"},
        "o5": {"email": "4@x.io", "our_key": "p4", "phone": "4"}, "o6": {"email": "4@x.io"},
    })  # fmt: skip
    found = desk.look(*(by_value(n) for n in (1, 2, 3, 4, 5)))
    assert [told(found[f"r{n}"]) for n in (1, 2, 3, 4, 5)] == [
        ("seen", "", "1"), ("seen", "ambiguous_match", None), ("seen", "matched_another", None),
        ("seen", "", "4"), ("seen", "absent", None),
    ]  # fmt: skip
    assert found["r4"].object_id == "o5"


def test_one_bad_value_spares_its_neighbours() -> None:
    desk = Desk({"o1": {"phone": "1"}})
    desk.connector.bad = "o2"
    found = desk.look(by_id(1), by_id(2))
    assert told(found["r1"]) == ("seen", "", "1")
    assert told(found["r2"]) == ("seen", "cannot_be_read", None)


def test_a_fault_is_tried_again_and_then_told() -> None:
    desk = Desk({"o1": {"phone": "1"}})
    desk.connector.errors = [500, 429, 500]
    assert told(desk.look(by_id(1))["r1"]) == ("seen", "", "1")
    assert desk.throttled == [1.0]
    assert desk.told == ["down", "heard", "down", "answered"]
    desk.connector.errors = [500] * 3
    began_s = time.monotonic()
    assert told(desk.look(by_id(1))["r1"]) == ("seen", "cannot_be_read", None)
    assert time.monotonic() - began_s > 0.05  # what is down has a moment to come back


def test_more_people_than_one_answer_holds_are_asked_for_in_parts() -> None:
    desk = Desk({f"o{n}": {"email": f"{n}@x.io", "phone": str(n)} for n in (1, 2)})
    desk.connector.most = 1
    found = desk.look(by_value(1), by_value(2))
    assert [told(found[f"r{n}"]) for n in (1, 2)] == [("seen", "", "1"), ("seen", "", "2")]


@pytest.mark.parametrize("halts", ["before", "meanwhile"])
def test_a_closed_account_gives_its_rows_back(halts: str) -> None:
    desk = Desk({"o1": {"phone": "1"}})
    if halts == "before":
        desk.gate.shut = "closed by eve"
    else:
        desk.connector.errors = [401]
    found = desk.look(by_id(1), by_value(2))
    assert {o.kind.value for o in found.values()} == {"returned"}
    assert {o.words for o in found.values()} == {desk.gate.shut}

"""The kill switch in the worker: closed by a person, no request begins and every row goes back."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from connectors.account import Account
from connectors.base import ObjectSpec, Spec
from connectors.breaker import Breaker
from connectors.directory import Directory
from connectors.lanes import Taken
from connectors.limits import Limits, limits_of
from connectors.office import Office
from connectors.outcome import Returned
from connectors.platforms.mailchimp import Mailchimp
from schemas.codec import Codec
from schemas.commands import Priority
from schemas.control import Act, ActKind

SPEC: Spec = Mailchimp.spec
MEMBER: ObjectSpec = SPEC.objects["member"]
CLOSED = "closed by eve: wrong list"


class Desk:
    """Whatever an account needs of its worker; a request would fail the test."""

    platform, partitions = "mailchimp", 1

    def __init__(self) -> None:
        async def write(document: str) -> None:
            raise AssertionError("no quota may be asked for")

        self.fates, self.breaker = 0, Breaker()
        self.account = Account("a1", 0, cast(Office, self), Limits(limits_of(None, SPEC), write))

    def now_s(self) -> float:
        return time.monotonic()

    def client(self, connection: str) -> Any:
        return SimpleNamespace(spec=SPEC)

    def match_field(self, sync: str) -> str:
        return ""

    def fated(self, taken: Taken) -> None:
        self.fates += 1

    def take(self, *numbers: int) -> Taken:
        """A command with these rows."""
        taken = Taken(0, 1, numbers[0], 0.0, priority=Priority.live)
        taken.connection, taken.object_type, taken.sync = "mail", "member", "news"
        fields = msgspec.json.encode({"email_address": "ann@x.io"})
        rows = [
            {"row_id": f"r{n}", "event_id": f"e{n}", "person": f"p{n}", "record_no": n,
             "object_id": f"o{n}", "occurred_ms": 1, "fields": fields, "removal": ""}
            for n in numbers
        ]  # fmt: skip
        self.account.take(taken, rows, {}, 0.0)
        return taken


def test_what_waits_goes_back_at_once_and_so_does_what_still_comes() -> None:
    async def closed() -> None:
        desk = Desk()
        waiting = desk.take(1, 2)
        assert waiting.settled == []
        desk.account.hold(CLOSED)
        desk.account.hold(CLOSED)
        assert [s.outcome for s in waiting.settled] == [Returned(CLOSED)] * 2
        assert [s.outcome for s in desk.take(3).settled] == [Returned(CLOSED)]
        desk.account.go()
        desk.account.sweep()
        await asyncio.sleep(0)
        assert desk.fates == 3
        assert desk.account.in_flight == 0
        await desk.account.stop(1.0)

    asyncio.run(closed())


def test_a_halt_that_ends_meanwhile_opens_nothing() -> None:
    async def closed() -> None:
        desk = Desk()
        desk.account.hold(CLOSED)
        desk.account.gate.halt(desk.now_s(), 1, "key refused")
        desk.account.gate.reopen(desk.now_s())
        assert not desk.account.gate.open(desk.now_s())
        desk.account.let_go()
        assert desk.account.gate.open(desk.now_s())
        await desk.account.stop(1.0)

    asyncio.run(closed())


def test_the_last_act_says_whether_an_account_is_closed() -> None:
    directory, codec = Directory.__new__(Directory), Codec.offline()
    directory._codec, directory.opened, directory.switched = codec, {}, {}

    def act(kind: ActKind, account: str, why: str = "") -> None:
        told = Act(
            act_id=kind, kind=kind, account=account, who="eve", why=why, when_ms=1, values=b"{}"
        )
        directory._note_act(codec.encode(told))

    assert directory.held("mailchimp", "a1") == ""
    act(ActKind.account_close, "mailchimp/a1", "wrong list")
    act(ActKind.account_close, "salesforce/a2")
    assert directory.held("mailchimp", "a1") == CLOSED
    assert directory.held("salesforce", "a2") == "closed by eve"
    assert directory.held("salesforce", "a1") == "", "another platform's account of that name"
    act(ActKind.account_open, "mailchimp/a1")
    assert directory.held("mailchimp", "a1") == ""

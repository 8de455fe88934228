"""What a worker makes of the group's answers: it goes on, or it leaves; it never just waits."""

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest

from streams.engine import transport
from streams.engine.exits import boot_s
from streams.engine.transport import EngineThread

OK, REBALANCING, UNKNOWN_MEMBER, FENCED = 0, 27, 25, 82
SESSION_S = 6.0


class Left(BaseException):
    """The worker would have ended here."""


@pytest.fixture(autouse=True)
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def leave(why: str, **_: object) -> None:
        found.append(why)
        raise Left(why)

    monkeypatch.setattr(transport, "leave", leave)
    return found


class Coordinator:
    """aiokafka's, as far as the engine touches it."""

    def __init__(self, code: int, task: Coroutine[Any, Any, None]) -> None:
        self.code = code
        self._coordination_task = asyncio.ensure_future(task)

    async def _send_req(self, request: object) -> object:
        return SimpleNamespace(error_code=self.code)

    async def _push_error_to_user(self, error: Exception) -> None:
        raise AssertionError


async def nothing() -> None:
    """A coordination that ended as it should."""


def watched(code: int, *, heard_s: float | None = None, task: Any = None) -> Any:
    coordinator = Coordinator(code, task or nothing())
    thread: Any = EngineThread.__new__(EngineThread)
    settings = SimpleNamespace(session_timeout_s=SESSION_S)
    thread.engine = SimpleNamespace(heard_s=heard_s, settings=settings, is_silent=heard_s is None)
    thread._called_s, thread._patience_s = None, 20.0
    thread._ensure_consumer = lambda: SimpleNamespace(_coordinator=coordinator)
    thread._watch_membership()
    return coordinator, thread.engine


def request(kind: type) -> Any:
    return object.__new__(kind)


@pytest.mark.parametrize(
    ("kind", "code", "leaves"),
    [
        (HeartbeatRequest, OK, False),
        (HeartbeatRequest, REBALANCING, False),
        (HeartbeatRequest, UNKNOWN_MEMBER, True),
        (HeartbeatRequest, FENCED, True),
        (JoinGroupRequest, OK, False),
        (JoinGroupRequest, UNKNOWN_MEMBER, False),  # the place is empty: aiokafka joins anew
        (JoinGroupRequest, FENCED, True),
        (SyncGroupRequest, REBALANCING, False),
        (SyncGroupRequest, UNKNOWN_MEMBER, False),
        (SyncGroupRequest, FENCED, True),
    ],
)
def test_answers(kind: type, code: int, leaves: bool, left: list[str]) -> None:
    async def run() -> None:
        coordinator, _ = watched(code)
        answer = await coordinator._send_req(request(kind))
        assert answer.error_code == code

    if leaves:
        with pytest.raises(Left):
            asyncio.run(run())
        assert "place" in left[0]
    else:
        asyncio.run(run())
        assert left == []


@pytest.mark.parametrize(("ago_s", "leaves"), [(SESSION_S - 1, False), (SESSION_S + 1, True)])
def test_who_slept_through_a_session_does_not_join_again(ago_s: float, leaves: bool) -> None:
    """It would throw out whoever has its place by now."""

    async def run() -> None:
        coordinator, _ = watched(OK, heard_s=boot_s() - ago_s)
        await coordinator._send_req(request(JoinGroupRequest))

    if leaves:
        with pytest.raises(Left, match="session"):
            asyncio.run(run())
    else:
        asyncio.run(run())


def test_only_a_heartbeat_that_was_answered_is_heard() -> None:
    async def run(code: int) -> float | None:
        coordinator, engine = watched(code)
        await coordinator._send_req(request(HeartbeatRequest))
        return engine.heard_s

    assert asyncio.run(run(OK)) is not None
    assert asyncio.run(run(16)) is None  # not the coordinator


def test_an_error_that_nobody_would_ask_for() -> None:
    async def run() -> None:
        coordinator, _ = watched(OK)
        await coordinator._push_error_to_user(GroupAuthorizationFailedError("g"))

    with pytest.raises(Left, match="no way back into the group"):
        asyncio.run(run())


def test_a_coordination_that_ended_by_an_error(left: list[str]) -> None:
    async def bad() -> None:
        raise KeyError("a bug in the client")

    async def run() -> None:
        watched(OK, task=bad())
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(run())  # the loop logs what its callback raises
    assert left == ["no way back into the group"]

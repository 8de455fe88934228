"""Who is told what, how, and what happens when nobody listens: against a real HTTP server."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from schemas.definitions import Hook, Sync
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from syncline.hooks import delivery
from syncline.hooks.bodies import body, signed, words
from syncline.hooks.delivery import Delivery, calling
from syncline.hooks.notices import Notice, hooks_of, merged, notices

SECRET = "whsec_" + base64.b64encode(b"who tells what happens here").decode()
RUN = "leads-20260101T000000000"


def entry(kind: JournalKind, **more: Any) -> JournalEntry:
    return JournalEntry(kind=kind, at_ms=1_700_000_000_000, sync="leads", run=RUN, **more)


def moved(after: str, why: str = "asked") -> JournalEntry:
    return entry(JournalKind.run_state, before="running", after=after, why=why, who="eve")


def refused(*codes: str, was: str = "out") -> JournalEntry:
    notes = [
        RowNote(
            row_id=str(n), event_id=str(n), record_no=n, standing=Standing.parked, code=code,
            field="Phone", was=was,
        )
        for n, code in enumerate(codes)
    ]  # fmt: skip
    return entry(JournalKind.decided, rows=notes)


def told(*entries: JournalEntry) -> list[Notice]:
    return [n for at, e in enumerate(entries) for n in notices(e, (0, at))]


# ---- what is told


def test_a_run_that_changes_its_state_is_told() -> None:
    [notice] = told(moved("completed", "every record has a fate"))
    assert (notice.kind, notice.type) == ("state_change", "run.completed")
    assert words(notice)[0] == (
        f"leads: {RUN}: running → completed by eve (every record has a fate)"
    )


def test_a_stuck_run_is_an_error_too() -> None:
    assert [(n.kind, n.type) for n in told(moved("stuck"))] == [
        ("state_change", "run.stuck"), ("error", "run.stuck"),
    ]  # fmt: skip


def test_refusals_are_counted_by_cause_and_told_once_each() -> None:
    assert [(n.data["code"], n.data["records"]) for n in told(refused("A", "B", "A"))] == [
        ("A", 2), ("B", 1),
    ]  # fmt: skip
    assert told(refused("A", was="parked")) == []  # a fix: it was refused before


def test_errors_of_one_cause_are_one_notice_at_the_place_of_the_first() -> None:
    one, two = told(refused("A", "A"), refused("A"))
    both = merged(one, two)
    assert (both.data["records"], both.place) == (3, (0, 0))
    assert words(both)[0] == f"leads: {RUN}: 3 records refused: A (Phone)"


def test_a_scheduled_run_that_cannot_begin_and_a_fetch_that_fails_are_errors() -> None:
    cannot = entry(JournalKind.act, after="run_start", who="scheduler", why="refused: HTTP 503")
    fails = entry(JournalKind.account_state, why="fetch failed: HTTP 500")
    assert [words(n)[0] for n in told(cannot, fails)] == [
        f"leads: {RUN} cannot begin: HTTP 503",
        f"leads: {RUN} is in trouble: fetch failed: HTTP 500",
    ]
    assert told(entry(JournalKind.act, after="run_pause", why="refused: no")) == []


def test_hooks_are_found_by_sync_and_keep_their_name() -> None:
    hook = Hook(url="https://x.example/", secret="env:ONE")
    sync = Sync(
        sync="leads", source="a", source_object="contact", destination="b",
        destination_object="Lead", mapping="m", on_error=[hook], on_state_change=[hook, Hook()],
    )  # fmt: skip
    names = hooks_of({"leads": sync})
    assert len(names) == 3
    turned = sync.model_copy(update={"on_error": [hook.model_copy(update={"secret": "env:TWO"})]})
    assert hooks_of({"leads": turned}).keys() == names.keys()


# ---- how


def test_the_signature_is_that_of_the_standard() -> None:
    # The example of the Standard Webhooks specification.
    secret = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    with pytest.raises(ValueError, match="no base64"):
        signed(SecretStr("whsec_?"), "m", 1, b"")


def test_chat_and_email_have_their_own_bodies() -> None:
    [notice] = told(refused("BAD"))
    chat = json.loads(body(Hook(form="chat"), notice))
    assert list(chat) == ["text"]
    assert "1 record refused: BAD (Phone)" in chat["text"]
    mail = Hook(form="email", sender="a@x.example", to=["b@x.example"])
    sent = json.loads(body(mail, notice))
    assert (sent["from"], sent["to"]) == ("a@x.example", ["b@x.example"])
    assert sent["subject"].startswith("[Syncline] leads: ")
    assert "syncline parked list --sync leads --code BAD" in sent["text"]


# ---- delivered


class Desk:
    """An HTTP server that answers as the test says, and a hook that calls it."""

    def __init__(self, port: int, client: httpx.AsyncClient) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        """Status codes to come; then 204."""
        self.retry_after = ""
        self.url, self.client = f"http://127.0.0.1:{port}/hook", client
        self.task: asyncio.Task[None] | None = None

    def hook(self, **more: Any) -> Delivery:
        hook = Hook(**{"url": self.url, "secret": "env:HOOK_SECRET", **more})
        made = Delivery("h1", "leads", hook, self.client, again_s=(0.01, 0.01), together_s=0.05)
        self.task = asyncio.create_task(made.run())
        return made

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not true():  # noqa: ASYNC110 - it has a bound
                await asyncio.sleep(0.005)

    async def answer(self, request: web.Request) -> web.Response:
        self.calls.append((dict(request.headers), await request.read()))
        status = self.answers.pop(0) if self.answers else 204
        return web.Response(status=status, headers={"retry-after": self.retry_after})


@pytest_asyncio.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    app = web.Application()
    runner = web.AppRunner(app)
    async with calling() as client:
        made = Desk(0, client)
        app.router.add_post("/hook", made.answer)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        made.url = f"http://127.0.0.1:{port}/hook"
        yield made
        if made.task is not None:
            made.task.cancel()
    await runner.cleanup()


async def test_a_notice_is_signed_so_that_the_official_package_takes_it(desk: Desk) -> None:
    hook = desk.hook()
    hook.take(told(moved("completed"))[0])
    await desk.until(lambda: hook.waiting == 0)
    [(headers, content)] = desk.calls
    seen = Webhook(SECRET).verify(content, {k.lower(): v for k, v in headers.items()})
    assert seen["type"] == "run.completed"
    assert seen["data"]["run"] == RUN


async def test_what_fails_is_tried_again_with_the_same_id_and_in_order(desk: Desk) -> None:
    desk.answers = [500, 503]
    desk.retry_after = "0"
    hook = desk.hook()
    for notice in told(moved("pausing"), moved("paused")):
        hook.take(notice)
    await desk.until(lambda: hook.waiting == 0)
    types = [json.loads(content)["type"] for _, content in desk.calls]
    assert types == ["run.pausing"] * 3 + ["run.paused"]
    assert len({h["webhook-id"] for h, _ in desk.calls[:3]}) == 1
    assert desk.calls[2][0]["webhook-id"] != desk.calls[3][0]["webhook-id"]


@pytest.mark.parametrize(("answers", "calls"), [([500] * 9, 3), ([410], 1)])
async def test_tries_are_bounded_and_what_is_given_up_holds_up_nothing(
    desk: Desk, answers: list[int], calls: int
) -> None:
    desk.answers = answers[:calls]
    hook = desk.hook()
    hook.take(told(moved("pausing"))[0])
    await desk.until(lambda: hook.waiting == 0)
    assert len(desk.calls) == calls
    hook.take(told(moved("paused"))[0])
    await desk.until(lambda: hook.waiting == 0)
    assert json.loads(desk.calls[-1][1])["type"] == "run.paused"


async def test_what_is_not_told_yet_holds_its_place(desk: Desk) -> None:
    hook = desk.hook()
    assert hook.floor({0: 9, 1: 4}) == {0: 9, 1: 4}
    first, second = told(refused("A"), refused("A"))
    hook.take(first)
    hook.take(second)
    assert hook.waiting == 1  # together
    assert hook.floor({0: 9, 1: 4}) == {0: 0, 1: 4}
    await desk.until(lambda: hook.waiting == 0)
    assert hook.floor({0: 9, 1: 4}) == {0: 9, 1: 4}
    assert json.loads(desk.calls[0][1])["data"]["records"] == 2


async def test_a_tell_that_was_cut_off_is_told_by_the_next(desk: Desk) -> None:
    desk.answers = [500] * 3
    hook = desk.hook()
    hook._again_s = (60.0,)  # so that it is cut off between two tries
    hook.take(told(moved("paused"))[0])
    await desk.until(lambda: len(desk.calls) == 1)
    assert desk.task is not None
    desk.task.cancel()
    await asyncio.wait([desk.task])
    assert hook.floor({0: 5}) == {0: 0}


async def test_only_so_many_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "WAITING_MAX", 3)
    hook = desk.hook()
    for number in range(5):
        hook.take(told(*[moved("paused")] * (number + 1))[-1])
    assert hook.waiting == 3
    assert hook.floor({0: 9}) == {0: 2}  # the oldest two are given up


async def test_a_secret_that_is_missing_is_a_try_that_failed(desk: Desk) -> None:
    hook = desk.hook(secret="", headers={"Authorization": "env:NO_SUCH_VARIABLE"})
    hook.take(told(moved("paused"))[0])
    await desk.until(lambda: hook.waiting == 0)
    assert desk.calls == []


async def test_a_slow_answer_counts_within_the_time_that_is_told() -> None:
    """Nothing of the client's own ends a try before its bound does, nor queues it behind others."""
    async with calling() as client:
        assert client.timeout == httpx.Timeout(None)
        assert client._transport._pool._max_connections > 1_000_000  # type: ignore[attr-defined]

"""Lists, schedules and hooks on real Kafka, with a streams worker and a hooks process as people run
them; the worker of the destination is played by the test."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest
from standardwebhooks.webhooks import Webhook
from typer.testing import CliRunner

from audit.read import control_acts
from schemas import ids, topics
from schemas.base import Message
from schemas.commands import FetchPages, LookUp
from schemas.control import ActKind
from schemas.events import Origin
from schemas.follow import Follower
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from schemas.outcomes import OutcomeKind, RecordOutcome
from syncline import cluster
from syncline.cli import app
from syncline.scheduler import Scheduler
from syncline.settings import Settings
from syncline.stack import Stack
from tests.e2e.test_command_acts import CONTACT, EXAMPLE, ROOT, Desk, until

M = TypeVar("M", bound=Message)
SECRET = "whsec_" + base64.b64encode(b"who tells what happens here").decode()


class Listener(BaseHTTPRequestHandler):
    """Takes hooks; gives a list."""

    told: dict[str, dict[str, Any]]
    members: bytes

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {k.lower(): v for k, v in self.headers.items()}
        self.told[headers["webhook-id"]] = Webhook(SECRET).verify(body, headers)
        self._answer(204, b"")

    def do_GET(self) -> None:
        proven = self.headers["authorization"] == "Bearer for lists"
        self._answer(200 if proven else 401, type(self).members if proven else b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class World(Desk):
    """The desk with a listener, and a hooks process that can be killed."""

    def __init__(self, stack: Stack, folder: Path, told: dict[str, dict[str, Any]]) -> None:
        super().__init__(stack, folder)
        self.told, self.folder = told, folder
        self.followers: dict[str, Follower] = {}
        self.unread: dict[str, list[Any]] = {}
        self.hooks = self.begin_hooks()

    def begin_hooks(self) -> subprocess.Popen[bytes]:
        log = self.folder / "hooks.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "syncline", "hooks"],
                stdout=out, stderr=out, cwd=ROOT, env=os.environ,
            )  # fmt: skip
        running = log.read_text().count("hooks run")
        until(lambda: log.read_text().count("hooks run") > running or process.poll(), "hooks run")
        assert process.poll() is None, log.read_text()
        return process

    def close(self) -> None:
        for follower in self.followers.values():
            follower.close()
        self.hooks.kill()
        self.hooks.wait()
        super().close()

    def state(self, run: str) -> str:
        views = json.loads(self.command("run", "list", "--json"))
        return next((view["state"] for view in views if view["run"] == run), "")

    def asked(self, platform: str, kind: type[M]) -> M:
        """The next command of this kind; others before it are passed over."""
        waiting = self.unread.setdefault(platform, [])

        def came() -> bool:
            records = self.commands_of(platform).read_to_end()
            waiting.extend(self.codec.decode(record.value()) for record in records)
            while waiting and not isinstance(waiting[0], kind):
                waiting.pop(0)
            return bool(waiting)

        until(came, f"a {kind.__name__} for {platform}")
        message = waiting.pop(0)
        assert isinstance(message, kind)
        return message

    def commands_of(self, platform: str) -> Follower:
        if platform not in self.followers:
            self.followers[platform] = Follower(self.kafka, topics.commands_of(platform))
        return self.followers[platform]

    def tell(self, look: LookUp, *stands: dict[str, Any] | None) -> None:
        """What stands there, of each row that was asked for."""
        platform = "mailchimp" if look.connection == "mailchimp" else "salesforce"
        for row, values in zip(look.rows, stands, strict=True):
            outcome = RecordOutcome(
                row_id=row.row_id, person=row.person, connection=look.connection,
                object_type=look.object_type, sync=look.sync, run=look.run, kind=OutcomeKind.seen,
                code="absent" if values is None else "", at_ms=time.time_ns() // 1_000_000,
                seen=None if values is None else json.dumps(values).encode(),
            )  # fmt: skip
            self.send(topics.outcomes_of(platform), row.person, outcome)

    def types(self, run: str) -> list[str]:
        return [t["type"] for t in self.told.values() if t["data"]["run"] == run]

    def answer_all(self, count: int) -> list[dict[str, Any]]:
        """Each row that goes out is written -> their fields."""
        sent: list[dict[str, Any]] = []
        while len(sent) < count:
            row = self.row()
            self.written(row)
            sent.append(json.loads(row.fields))
        return sent


@pytest.fixture(scope="module")
def desk(java_files: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("kinds")
    config = shutil.copytree(EXAMPLE, folder / "config")
    with (config / "syncs" / "newsletter.yaml").open("a") as file:
        file.write("live: false\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    Listener.told, Listener.members = {}, b""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with (config / "syncs" / "leads.yaml").open("a") as file:
        file.write(
            "schedule: {cron: 0 6 * * *, zone: Europe/Berlin}\n"
            "audience:\n  joined: {Rating: Hot}\n  left: {Rating: Cold}\n"
            f"  list: {{url: '{url}/ids', secret: env:LIST_TOKEN, column: id}}\n"
            f"on_state_change:\n- {{url: '{url}/hook', secret: env:HOOK_SECRET}}\n"
            f"on_error:\n- {{url: '{url}/hook', secret: env:HOOK_SECRET}}\n"
        )
    with Stack.start() as stack, pytest.MonkeyPatch.context() as patched:
        patched.setenv("KAFKA_BOOTSTRAP_SERVERS", stack.bootstrap_servers)
        patched.setenv("SCHEMA_REGISTRY_URL", stack.registry_url)
        patched.setenv("SYNCLINE_DATA", str(folder))
        patched.setenv("HOOK_SECRET", SECRET)
        patched.setenv("LIST_TOKEN", "for lists")
        done = CliRunner().invoke(app, ["apply", str(config), "--yes"])
        assert done.exit_code == 0, f"{done.output} {done.exception!r}"
        there = World(stack, folder, Listener.told)
        try:
            yield there
        finally:
            there.close()
            server.shutdown()
            server.server_close()


def put(desk: World, names: list[str], *more: str) -> str:
    """Give `leads` a list -> what the command says."""
    file = desk.folder / "ids.txt"
    file.write_text("\n".join(names))
    return desk.command("audience", "put", "leads", str(file), "--wait", "0", *more)


def test_a_list_brings_its_destination_to_it_and_everyone_has_a_fate(desk: World) -> None:
    """Nobody is sent before the list; who joins, stays and leaves each end in the balance."""
    for number in (1, 2, 3):
        event = desk.event(number, {**CONTACT, "email": f"p{number}@acme.example"})
        desk.until_told(ids.row_id(event.event_id, "leads"), "filtered")
    first = put(desk, ["1", "2"])
    assert "leads: 2 join, 0 leave, 0 unchanged" in first
    assert [fields["Rating"] for fields in desk.answer_all(2)] == ["Hot", "Hot"]

    run = put(desk, ["2", "3"], "--yes").split()[-1]
    sent = {fields["Email"]: fields for fields in desk.answer_all(2)}
    assert sent["p1@acme.example"] == {"Email": "p1@acme.example", "Rating": "Cold"}
    assert sent["p3@acme.example"]["Rating"] == "Hot"

    def balanced() -> dict[str, int]:
        told = json.loads(desk.command("balance", "--run", run, "--json"))
        assert told["difference"] == 0
        [line] = told["lines"]
        return line["standings"] if not line["open"] else {}

    assert until(balanced, "every record has a fate") == {"written": 2, "unchanged": 1}
    assert desk.command("audience", "show", "leads", "--members").split() == ["2", "3"]
    assert "there is no sync other" in desk.command("audience", "show", "other", code=1)


def test_a_hooks_process_that_is_killed_leaves_nothing_out(desk: World) -> None:
    desk.hooks.send_signal(signal.SIGKILL)
    desk.hooks.wait()
    run = put(desk, ["2", "3"]).split()[-1]
    until(lambda: desk.state(run) == "completed", "the run ends")
    desk.hooks = desk.begin_hooks()
    until(lambda: "run.completed" in desk.types(run), "its end is told")
    assert desk.types(run) == ["run.running", "run.completed"]


def test_what_is_due_begins_once_whoever_begins_it(desk: World) -> None:
    """Two schedulers, one after the other; before that a list that may not be fetched."""
    settings = cluster.located(Settings())
    due = (datetime.now(UTC) + timedelta(days=2)).replace(hour=12)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LIST_TOKEN", "another")
        wrong = Scheduler(settings, desk.codec, lambda: due)
        assert wrong.step() == []
        wrong.close()
    until(
        lambda: [t for t in desk.told.values() if "HTTP 401" in t["data"].get("why", "")],
        "it is told that the list cannot be fetched",
    )
    Listener.members = b"name;id\nAnn;2\nBea;3\n"
    begun: list[str] = []
    for _ in range(2):
        scheduler = Scheduler(settings, desk.codec, lambda: due)
        begun += scheduler.step() + scheduler.step()
        scheduler.close()
    [run] = begun
    assert run.startswith(due.strftime("leads-%Y%m%dT"))
    until(lambda: desk.state(run) == "completed", "the run ends")
    starts = [act for act in control_acts(desk.kafka, desk.codec) if act.run == run]
    assert [act.kind for act in starts] == [ActKind.run_start]
    assert starts[0].who == "scheduler"


def test_a_release_is_taken_back_field_by_field(desk: World) -> None:
    """What stood there is read before the release, and read once more before it is put back."""
    event = desk.event(4, {**CONTACT, "email": "p4@acme.example"})
    desk.until_told(ids.row_id(event.event_id, "leads"), "filtered")
    put(desk, ["2", "3", "4"])
    [first] = desk.answer_all(1)
    assert first["Company"] == "ACME"
    desk.event(4, {**CONTACT, "email": "p4@acme.example", "company": "Bad", "lastname": "Ng"})
    row = desk.row()
    desk.answer(row, OutcomeKind.parked, code="BAD", field="Company", words="no")
    desk.until_told(row.row_id, "parked")
    [group] = json.loads(desk.command("parked", "list", "--json"))
    desk.command(
        "parked", "fix", "--group", group["group"], "--set", "company=Good", "--release",
        "--wait", "0",
    )  # fmt: skip
    desk.tell(desk.asked("salesforce", LookUp), {"Company": "By sales", "LastName": "Lee"})
    mended = desk.row()
    assert json.loads(mended.fields)["Company"] == "Good"
    desk.written(mended)

    [one] = json.loads(desk.command("parked", "released", "--json"))
    assert (one["row_id"], one["standing"]) == (row.row_id, "written")
    asked = desk.command("parked", "undo", one["row_id"], "--why", "wrong", "--wait", "0")
    assert "undo: asked for 1 records" in asked
    desk.tell(desk.asked("salesforce", LookUp), {"Company": "Good", "LastName": "By marketing"})
    back = desk.row()
    fields = json.loads(back.fields)
    assert fields["Company"] == "By sales"
    assert "LastName" not in fields
    desk.written(back)
    assert json.loads(desk.command("balance", "--sync", "leads", "--json"))["difference"] == 0


def test_a_preview_says_what_a_run_would_do_and_sends_nothing(desk: World) -> None:
    command = [sys.executable, "-m", "syncline", "run", "preview", "newsletter", "--json"]
    shown = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=os.environ)
    fetch = desk.asked("hubspot", FetchPages)
    notes: list[RowNote] = []
    for number, email in enumerate(("n0@acme.example", "n1@acme.example", "")):
        values = json.dumps({**CONTACT, "email": email}).encode()
        event = desk.made(50 + number, values).model_copy(
            update={"run": fetch.run, "record_no": number, "origin": Origin.fetch}
        )
        desk.send(topics.events_of("hubspot"), event.object_key, event)
        row_id = ids.row_id(event.event_id, "newsletter")
        notes.append(RowNote(row_id=row_id, event_id=event.event_id, standing=Standing.in_transit))
    page = JournalEntry(
        kind=JournalKind.page_fetched, at_ms=time.time_ns() // 1_000_000, sync="newsletter",
        run=fetch.run, step=fetch.step, pages=1, records=3, last=True, rows=notes,
    )  # fmt: skip
    desk.send(topics.JOURNAL, fetch.run, page)
    asked = 0
    while asked < 2:  # in one message or two, as they come into chunks
        look = desk.asked("mailchimp", LookUp)
        asked += len(look.rows)
        there = {"email_address": "n1@acme.example", "status_if_new": "subscribed"}
        desk.tell(look, *(there if r.value.startswith("n1") else None for r in look.rows))
    out, _ = shown.communicate(timeout=120)
    said = json.loads(out)
    assert said["counts"] == {
        "would be created": 1, "would be updated": 1, "would be left out": 1
    }  # fmt: skip
    assert said["state"] == "completed"
    assert shown.returncode == 0
    told = json.loads(desk.command("balance", "--run", said["run"], "--json"))
    assert told["lines"][0]["standings"] == {"filtered": 3}

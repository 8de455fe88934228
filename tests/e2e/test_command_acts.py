"""What people press, on real Kafka and a real streams worker: from a refusal to the last fate.

The worker of the destination is played by the test: it reads commands and says what became of
rows. Everything else is as people run it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from schemas import ids, topics
from schemas.base import Message
from schemas.codec import Codec, Undecodable
from schemas.commands import UploadBatch, UploadRow
from schemas.events import PlatformEvent
from schemas.follow import Follower
from schemas.journal import JournalEntry
from schemas.outcomes import OutcomeKind, RecordOutcome
from syncline.cli import app
from syncline.errors import Failed
from syncline.stack import Stack

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "hubspot-to-salesforce-and-mailchimp"
WAIT_S = 120.0
CONTACT = {
    "email": "ann@acme", "firstname": "Ann", "lastname": " Lee ", "company": "ACME",
    "country": "DE", "hs_analytics_source": "",
}  # fmt: skip


def until(true: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (value := true()):
        assert time.monotonic() < deadline, f"not within {WAIT_S:g} s: {what}"
        time.sleep(0.05)
    return value


class Desk:
    """A cluster with the example applied, a streams worker, and a person at a terminal."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.codec = Codec.from_registry(stack.registry_url)
        self.kafka = {"bootstrap.servers": stack.bootstrap_servers}
        self.log = folder / "streams.log"
        self.commands = Follower(self.kafka, topics.commands_of("salesforce"))
        self.journal = Follower(self.kafka, topics.JOURNAL)
        self.rows: list[tuple[str, UploadRow]] = []
        """(sync, row) as they were commanded, and not answered yet."""
        self.standing: dict[str, str] = {}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "syncline", "streams"],
                stdout=out, stderr=out, cwd=ROOT, env=os.environ,
            )  # fmt: skip

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.commands.close()
        self.journal.close()

    def command(self, *args: str, code: int = 0) -> str:
        """A command as typed -> what it prints."""
        done = CliRunner().invoke(app, list(args))
        if isinstance(done.exception, Failed):
            assert done.exception.exit_code == code, f"{args}: {done.exception}"
            return done.output + str(done.exception)
        assert done.exit_code == code, f"{args}: {done.output} {done.exception!r}"
        return done.output

    def send(self, topic: str, key: str, message: Message | bytes) -> None:
        producer = Producer({**self.kafka, "partitioner": "murmur2_random"})
        value = message if isinstance(message, bytes) else self.codec.encode(message)
        producer.produce(topic, value, key)
        assert producer.flush(30) == 0

    def made(self, number: int, document: bytes) -> PlatformEvent:
        now_ms = time.time_ns() // 1_000_000
        return PlatformEvent(
            event_id=ids.event_id("hubspot", [str(number)], document), connection="hubspot",
            platform="hubspot", object_type="contact", object_id=str(number), occurred_ms=now_ms,
            received_ms=now_ms, values=document, payload=document,
        )  # fmt: skip

    def event(self, number: int, values: dict[str, Any]) -> PlatformEvent:
        event = self.made(number, json.dumps(values).encode())
        self.send(topics.events_of("hubspot"), event.object_key, event)
        return event

    def row(self) -> UploadRow:
        """The next that goes out to Salesforce."""

        def commanded() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            for record in self.commands.read_to_end():
                batch = self.codec.decode(record.value())
                if isinstance(batch, UploadBatch):
                    self.rows += ((batch.sync, row) for row in batch.rows)
            return bool(self.rows)

        until(commanded, "a row goes out")
        return self.rows.pop(0)[1]

    def no_row(self) -> bool:
        return not any(
            isinstance(self.codec.decode(record.value()), UploadBatch)
            for record in self.commands.read_to_end()
        )

    def answer(self, row: UploadRow, kind: OutcomeKind, **more: Any) -> None:
        outcome = RecordOutcome(
            row_id=row.row_id, person=row.person, connection="salesforce", object_type="Lead",
            sync="leads", kind=kind, at_ms=time.time_ns() // 1_000_000, **more,
        )  # fmt: skip
        self.send(topics.outcomes_of("salesforce"), row.person, outcome)

    def written(self, row: UploadRow, object_id: str = "00Q1") -> None:
        self.answer(row, OutcomeKind.written, object_id=object_id)
        self.until_told(row.row_id, "written")

    def until_told(self, row_id: str, standing: str) -> None:
        def told() -> bool:
            for record in self.journal.read_to_end():
                try:
                    entry = self.codec.decode(record.value())
                except Undecodable:
                    continue
                if isinstance(entry, JournalEntry):
                    self.standing |= {n.row_id: n.standing.value for n in entry.rows}
            return self.standing.get(row_id) == standing

        until(told, f"{row_id} is {standing}")


@pytest.fixture(scope="module")
def desk(java_files: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One for all tests here, as a cluster of its own costs seconds; each leaves nothing parked."""
    folder = tmp_path_factory.mktemp("acts")
    with Stack.start() as stack, pytest.MonkeyPatch.context() as patched:
        patched.setenv("KAFKA_BOOTSTRAP_SERVERS", stack.bootstrap_servers)
        patched.setenv("SCHEMA_REGISTRY_URL", stack.registry_url)
        patched.setenv("SYNCLINE_DATA", str(folder))
        assert CliRunner().invoke(app, ["apply", str(EXAMPLE), "--yes"]).exit_code == 0
        there = Desk(stack, folder)
        try:
            yield there
        finally:
            there.close()


def test_from_a_refusal_to_the_last_fate(desk: Desk) -> None:
    """Refused, tried, mended, released into a closed account, opened, unmended, sent again."""
    desk.event(1, CONTACT)
    row = desk.row()
    desk.answer(row, OutcomeKind.parked, code="INVALID_EMAIL_ADDRESS", field="Email", words="no")
    desk.until_told(row.row_id, "parked")

    [group] = json.loads(desk.command("parked", "list", "--json"))
    assert (group["records"], group["code"], group["value"]) == (1, "INVALID_EMAIL_ADDRESS", "a@a")
    of = ["--group", group["group"]]
    assert "as it was when it was refused" in desk.command("parked", "test", *of, code=1)
    fix = ["--rule", "email=record.email + '.example'", "--rule", "lastname=trim"]
    assert "1 of 1 would be sent" in desk.command("parked", "test", *of, *fix)
    assert desk.no_row(), "nothing is sent by a test"

    assert "salesforce/00D5g000004abcD: closed in" in desk.command(
        "account", "close", "salesforce", "--why", "wrong list"
    )
    said = desk.command("parked", "fix", *of, *fix, "--release", "--why", "typo")
    assert "1 waiting for closed_by_hand (closed by" in said
    assert "settled" not in said
    assert desk.no_row()
    balance = json.loads(desk.command("balance", "--json"))
    assert balance["overdue"] == []
    assert [w["records"] for w in balance["waits"] if "wrong list" in w["for"]] == [1]
    assert "wrong list" in desk.command("account", "list", "--json")

    desk.command("account", "open", "00D5g000004abcD")
    mended = desk.row()
    assert json.loads(mended.fields)["Email"] == "ann@acme.example"
    desk.written(mended)
    assert json.loads(desk.command("parked", "list", "--json")) == []

    fixes = {f["field"]: f for f in json.loads(desk.command("parked", "fixes", "--json"))}
    assert (fixes["email"]["was"], fixes["email"]["value"]) == ("ann@acme", "ann@acme.example")
    assert fixes["lastname"]["why"] == "typo"
    desk.command("parked", "unfix", fixes["email"]["id"], "--resend", "--wait", "1")
    again = desk.row()
    assert json.loads(again.fields)["Email"] == "ann@acme"
    assert json.loads(again.fields)["Company"] == "ACME", "all goes out, equal or not"
    desk.written(again)
    assert [f["field"] for f in json.loads(desk.command("parked", "fixes", "--json"))] == [
        "lastname"
    ]
    assert json.loads(desk.command("balance", "--sync", "leads", "--json"))["difference"] == 0


def test_a_paused_sync_holds_its_rows_and_a_person_can_be_sent_again(desk: Desk) -> None:
    event = desk.event(2, {**CONTACT, "email": "bea@acme.example"})
    desk.written(desk.row())
    assert "leads: paused in" in desk.command("sync", "pause", "leads", "--why", "new list")
    assert "new list" in desk.command("sync", "list", "--json")
    said = desk.command("resend", "bea@acme.example", "--sync", "leads", "--why", "restored")
    assert "1 waiting for sync_paused (paused by" in said
    assert desk.no_row()
    desk.command("sync", "resume", "leads")
    row = desk.row()
    assert json.loads(row.fields)["Email"] == "bea@acme.example"
    assert row.event_id != event.event_id
    desk.written(row)
    assert "nobody is known by" in desk.command("resend", "bo@acme.example", code=1)
    assert "is joined to nobody" in desk.command("unjoin", "bea@acme.example", code=1)
    assert "nobody is known by" in desk.command("unjoin", "bo@acme.example", code=1)
    assert "there is no sync nobody" in desk.command("sync", "pause", "nobody", code=1)
    assert "there is no account nobody" in desk.command("account", "close", "nobody", code=1)


def test_two_who_may_be_one_are_joined_by_a_word_and_parted_by_another(desk: Desk) -> None:
    """The second contact takes the address of the first. Nothing is joined until somebody says so;
    what was said of the two is then said of one, and of two again after the undoing."""
    desk.command("sync", "pause", "newsletter", "--why", "one destination is enough")
    cara = {**CONTACT, "email": "cara@acme.example", "firstname": "Cara"}
    lee = {**CONTACT, "email": "lee@acme.example", "firstname": "C."}
    people: list[str] = []
    for number, values in ((21, cara), (22, lee)):
        desk.event(number, values)
        row = desk.row()
        desk.written(row, f"00Q{number}")
        people.append(row.person)
    desk.event(22, {**lee, "email": "cara@acme.example"})
    [proposed] = until(
        lambda: json.loads(desk.command("parked", "list", "--records", "--json")), "it is proposed"
    )
    assert proposed["code"] == "join_proposed"
    assert all(person in proposed["words"] for person in people)
    changed = desk.row()
    assert (changed.object_id, changed.fields) == ("00Q22", b'{"Email":"cara@acme.example"}')

    said = desk.command("parked", "release", proposed["parked_id"], "--why", "her second address")
    assert "1 proposed joins: one person as soon as nothing of the one who moves is out" in said
    assert desk.no_row(), "a row of theirs is out"
    desk.written(changed, "00Q22")
    one = desk.row()
    assert one.person == min(people), "whose key is less stays"
    assert json.loads(one.fields) == {"FirstName": "C.", "Email": "cara@acme.example"}
    desk.written(one, one.object_id)
    assert json.loads(desk.command("parked", "list", "--json")) == []

    desk.command("unjoin", max(people), "--why", "two of them after all")
    parted = [desk.row(), desk.row()]
    said_of = {row.person: json.loads(row.fields)["FirstName"] for row in parted}
    assert said_of == {people[0]: "Cara", people[1]: "C."}, "each whole, as its contact says"
    for row in parted:
        desk.written(row, row.object_id)
    desk.command("sync", "resume", "newsletter")


def test_what_no_table_holds_is_given_up_or_taken_in_again(desk: Desk) -> None:
    """Bytes that are no message: taken in again they are parked again, given up they are gone."""
    desk.send(topics.events_of("hubspot"), "hubspot:contact:3", b"no message")

    def parked() -> list[dict[str, Any]]:
        return json.loads(desk.command("parked", "list", "--records", "--json"))

    [record] = until(parked, "it is parked")
    assert (record["stage"], record["code"]) == ("decode", "undecodable")
    desk.command("parked", "release", record["parked_id"], "--why", "schema restored")
    [again] = until(
        lambda: [r for r in parked() if r["parked_id"] != record["parked_id"]], "parked again"
    )
    until(lambda: len(parked()) == 1, "the first is off the list")
    desk.command("parked", "discard", again["parked_id"], "--why", "rubbish")
    until(lambda: parked() == [], "the list is empty")

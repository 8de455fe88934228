"""`syncline tail`: which records are told, in which words, and that memory has a bound."""

from typing import Any

import pytest

from schemas import topics
from schemas.base import Message
from schemas.events import EventKind, Origin, PlatformEvent
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from schemas.parked import ParkedRecord, Stage
from syncline import tailing
from syncline.errors import Misused
from syncline.since import parse_span
from syncline.tailing import Arrived, Line, Tail

TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def arrived(topic: str, message: Message | None = None, key: str = "", **headers: str) -> Arrived:
    return Arrived(topic, 0, 7, 1_700_000_000_123, key, headers, 612, message)


def event(event_id: str = "e1", connection: str = "hub", **fields: Any) -> PlatformEvent:
    return PlatformEvent(
        event_id=event_id, connection=connection, platform="hubspot", object_type="contact",
        object_id="1", kind=EventKind.updated, occurred_ms=1, received_ms=2, trace=TRACE,
        platform_kind="contact.propertyChange", changed=["email"],
        values=b'{"email":"ada@example.com"}', payload=b"{}", **fields,
    )  # fmt: skip


def note(event_id: str = "e1", **fields: Any) -> JournalEntry:
    row = RowNote(row_id="r1", event_id=event_id, **({"standing": Standing.written} | fields))
    return JournalEntry(kind=JournalKind.settled, at_ms=3, sync="leads", rows=[row])


def told(tail: Tail, *records: Arrived) -> list[Line]:
    return [line for record in records for line in tail.take(record)]


def test_a_request_its_event_and_where_its_rows_stand() -> None:
    lines = told(
        Tail("hub"),
        arrived("intake.hubspot", key="hub", verdict="accepted", traceparent=TRACE),
        arrived("events.hubspot", event()),
        arrived("journal", note(standing=Standing.waiting, code="API_DISABLED")),
        arrived("journal", note()),
    )
    assert [(line.what, line.about) for line in lines] == [
        ("request", "612 bytes"),
        ("event", "contact:1 contact.propertyChange (email)"),
        ("waiting", "contact:1 leads: API_DISABLED"),
        ("written", "contact:1 leads"),
    ]
    assert str(lines[0]) == "22:13:20.123 request    612 bytes  [intake.hubspot-0-7]"
    assert lines[0].plain()["trace"] == lines[1].plain()["trace"] == "a" * 32


def test_no_other_connections() -> None:
    assert not told(
        Tail("hub"),
        arrived("intake.hubspot", key="other"),
        arrived("quarantine", key="other"),
        arrived("events.hubspot", event(connection="other")),
        arrived("journal", note()),
        arrived("parked", ParkedRecord(
            parked_id="p", stage=Stage.intake, connection="other", source=b"", fields=b"{}")),
        arrived("parked", key="p"),
    )  # fmt: skip


def test_what_is_said_before_the_event_is_read_waits_for_it() -> None:
    tail = Tail("hub")
    assert not told(tail, arrived("journal", note()))
    assert [line.what for line in told(tail, arrived("events.hubspot", event()))] == [
        "event",
        "written",
    ]


def test_a_refused_request_tells_why() -> None:
    [line] = told(Tail("hub"), arrived("quarantine", key="hub", verdict="signature wrong"))
    assert (line.what, line.about) == ("refused", "612 bytes: signature wrong")


def test_a_parked_part_and_its_end() -> None:
    tail = Tail("hub")
    record = ParkedRecord(
        parked_id="p1", stage=Stage.intake, connection="hub", position=2, code="intake",
        words="no subscriptionType", source=b"{}", fields=b"{}",
    )  # fmt: skip
    lines = told(tail, arrived("parked", record, "p1"), arrived("parked", key="p1"))
    assert [(line.what, line.about) for line in lines] == [
        ("parked", "part 2: no subscriptionType"),
        ("settled", "p1 (intake)"),
    ]
    assert not told(tail, arrived("parked", key="p1"))  # once


def test_a_later_refusal_is_told_without_personal_values_unless_asked() -> None:
    record = ParkedRecord(
        parked_id="leads:person", stage=Stage.upload, sync="leads", event_id="e1",
        code="INVALID_EMAIL", field="Email", words="ada@example is no address", source=b"{}",
        fields=b"{}",
    )  # fmt: skip
    records = [arrived("events.hubspot", event()), arrived("parked", record, "leads:person")]
    quiet = told(Tail("hub"), *records)
    assert quiet[1].about == "contact:1 leads at upload: INVALID_EMAIL Email"
    assert "ada" not in str(quiet) + str([line.plain() for line in quiet])
    loud = told(Tail("hub", values=True), *records)
    assert '{"email": "ada@example.com"}' in loud[0].about
    assert loud[1].about.endswith("ada@example is no address")


def test_how_it_came_is_told_where_it_is_no_webhook() -> None:
    [line] = told(Tail("hub"), arrived("events.hubspot", event(origin=Origin.replay)))
    assert line.about.endswith("(email), by replay")


def test_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "KNOWN_MAX", 5)
    tail = Tail("hub")
    for number in range(20):
        told(tail, arrived("events.hubspot", event(f"e{number}")))
        told(tail, arrived("journal", note(f"other{number}")))
        told(tail, *[arrived("journal", note("hot"))] * 3)
    assert (len(tail._objects), len(tail._early)) == (5, 5)
    assert len(tail._early["hot"]) == 10
    assert not told(tail, arrived("journal", note("e1")))  # too long ago
    assert [line.what for line in told(tail, arrived("journal", note("e19")))] == ["written"]


def test_all_topics_exist() -> None:
    known = {t.name for t in topics.TOPICS}
    assert set(tailing.topics_of("hubspot")) <= known


@pytest.mark.parametrize(
    ("text", "ms"), [("90s", 90_000), ("10m", 600_000), ("6h", 21_600_000), ("2d", 172_800_000)]
)
def test_spans_of_time(text: str, ms: int) -> None:
    assert parse_span(text) == ms


@pytest.mark.parametrize("text", ["", "m", "10", "1.5h", "-3m", "٣m", "9999999999d", "10 m"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(Misused):
        parse_span(text)

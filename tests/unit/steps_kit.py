"""What tests of steps share: rows in memory, events, and a chunk in one call."""

import json
from typing import Any

from schemas import ids
from schemas.base import Message
from schemas.commands import UploadBatch, UploadRow
from schemas.control import Act, ActKind, Target
from schemas.events import PlatformEvent, ResolvedRecord
from schemas.journal import JournalEntry, RowNote
from schemas.outcomes import AccountState, OutcomeKind, RecordOutcome
from schemas.parked import ParkedRecord
from streams.steps.catalog import Catalog
from streams.steps.outputs import Send
from streams.steps.people import INDEX, People
from streams.steps.rows import Index, Person, unpack_index, unpack_person
from tests.simulation.definitions import catalog

ANN = {"email": "ann@x.io", "lastname": "lee", "phone": "1", "company": "acme", "optin": "yes"}


class Rows(dict[str, bytes]):
    """A table partition in memory."""

    def put(self, key: str, row: bytes | None) -> None:
        if row is None:
            self.pop(key, None)
        else:
            self[key] = row


def event(
    values: dict[str, Any], at_ms: int, *, number: int = 1, source: str = "hub", **more: Any
) -> PlatformEvent:
    document = json.dumps(values).encode()
    name = [str(number), str(at_ms), more.get("run", ""), str(more.get("kind", ""))]
    return PlatformEvent(**{
        "event_id": ids.event_id(source, name, document), "connection": source,
        "platform": "hubspot", "object_type": "contact", "object_id": str(number),
        "occurred_ms": at_ms, "received_ms": at_ms, "values": document, "payload": document, **more,
    })  # fmt: skip


class Desk:
    """One partition of persons. Each call is a chunk; what came of it stays in the attributes."""

    def __init__(self, *syncs: str, catalog_: Catalog | None = None) -> None:
        self.rows = Rows()
        self.catalog = catalog_ or catalog(*(syncs or ("leads",)))
        self.sends: list[Send] = []
        self.who = ids.person_key("hub:contact:1")

    def take(self, *messages: Message, key: str = "") -> "Desk":
        people = People(self.rows, self.catalog, 0)
        for message in messages:
            people.take(key or self.who, message)
        self.sends = people.close()
        return self

    def event(self, values: dict[str, Any], at_ms: int, **more: Any) -> "Desk":
        record = ResolvedRecord(person=self.who, event=event(values, at_ms, **more))
        return self.take(record)

    def outcome(self, kind: OutcomeKind, row: UploadRow, **more: Any) -> "Desk":
        told: dict[str, Any] = {
            "row_id": row.row_id, "person": row.person, "connection": "sales",
            "object_type": "Lead", "sync": "leads", "kind": kind, "at_ms": 9_000,
        }  # fmt: skip
        return self.take(RecordOutcome(**{**told, **more}))

    def written(self, row: UploadRow) -> "Desk":
        return self.outcome(OutcomeKind.written, row, object_id="00Q1")

    def account(self, *, open: bool, at_ms: int = 5_000) -> "Desk":  # noqa: A002
        state = AccountState(
            account="o1", connection="sales", open=open, reason="" if open else "unpaid",
            at_ms=at_ms,
        )  # fmt: skip
        return self.take(state)

    def act(self, kind: ActKind, **more: Any) -> "Desk":
        told: dict[str, Any] = {
            "act_id": f"{kind.value}-{len(self.sends)}-{more}", "kind": kind, "who": "eve",
            "why": "asked", "when_ms": 9_500, "values": b"{}",
        }  # fmt: skip
        return self.take(Act(**{**told, **more}))

    def target(self, parked: ParkedRecord) -> list[Target]:
        return [Target(parked_id=parked.parked_id, person=self.who, row_id=parked.row_id)]

    # ---- what came of it

    @property
    def uploads(self) -> list[UploadBatch]:
        return [s.message for s in self.sends if isinstance(s.message, UploadBatch)]

    @property
    def out(self) -> list[UploadRow]:
        return [row for batch in self.uploads for row in batch.rows]

    @property
    def row(self) -> UploadRow:
        [row] = self.out
        return row

    @property
    def sent(self) -> dict[str, Any]:
        """Fields of the one row that went out."""
        return json.loads(self.row.fields)

    @property
    def journal(self) -> list[JournalEntry]:
        return [s.message for s in self.sends if isinstance(s.message, JournalEntry)]

    @property
    def notes(self) -> list[RowNote]:
        return [note for entry in self.journal for note in entry.rows]

    @property
    def told(self) -> list[str]:
        """Standings, in the order of the journal."""
        return [note.standing.value for note in self.notes]

    @property
    def parked(self) -> dict[str, ParkedRecord | None]:
        return {s.key: s.message for s in self.sends if s.topic == "parked"}  # type: ignore[misc]

    @property
    def person(self) -> Person:
        return unpack_person(self.rows[self.who])

    @property
    def index(self) -> Index:
        return unpack_index(self.rows[INDEX])

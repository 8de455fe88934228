"""What steps send, and how the decisions of one chunk become few messages."""

from typing import Any, NamedTuple, TypeVar

from schemas.base import Message
from schemas.commands import (
    LookRow,
    LookUp,
    Priority,
    ReadObjects,
    Recall,
    UploadBatch,
    UploadRow,
)
from schemas.journal import JournalEntry, JournalKind, RowNote
from schemas.parked import ParkedRecord
from schemas.topics import JOURNAL, PARKED, commands_of
from streams.steps.catalog import Plan

__all__ = ["PRIORITIES", "Outputs", "Send"]

PRIORITIES = (Priority.live, Priority.released, Priority.bulk, Priority.replay)
BATCH_ROWS_MAX = 500
BATCH_BYTES_MAX = 400_000
"""Both keep a message well below the brokers' customary limit of 1 MB."""
NOTES_MAX = 2_000
READ_IDS_MAX = 500
RECALLS_MAX = 1_000


T = TypeVar("T")


class Send(NamedTuple):
    """One message to write. `message` None: a tombstone."""

    topic: str
    key: str
    message: Message | None
    partition: int | None = None
    """Where it is not to be derived from the key."""


class _Batch:
    """Rows of one kind, on their way to one message."""

    __slots__ = ("byte_count", "plan", "rank", "rows", "run")

    def __init__(self, plan: Plan, run: str, rank: int) -> None:
        self.plan, self.run, self.rank = plan, run, rank
        self.rows: list[UploadRow] = []
        self.byte_count = 0


class Outputs:
    """Collects what the steps of one chunk decide; `close` turns it into messages.

    What a step says is staged until `keep`: the outputs of a step that throws are dropped with its
    row. Messages come out in a fixed order, so the same chunk always gives the same messages.
    """

    def __init__(self) -> None:
        self.sends: list[Send] = []
        self._staged: list[tuple[Any, ...]] = []
        self._batches: dict[tuple[str, str, int], _Batch] = {}
        self._full: list[_Batch] = []
        self._notes: dict[tuple[JournalKind, str, str, str], list[RowNote]] = {}
        self._parked: dict[str, ParkedRecord | None] = {}
        self._recalls: dict[tuple[str, str, str], list[str]] = {}
        self._reads: dict[tuple[str, str, str, str, frozenset[str]], dict[str, None]] = {}
        self._looks: dict[tuple[str, str, str, tuple[str, ...]], tuple[Plan, list[LookRow]]] = {}

    def send(
        self, topic: str, key: str, message: Message | None, partition: int | None = None
    ) -> None:
        self._staged.append((self.sends.append, Send(topic, key, message, partition)))

    def row(self, plan: Plan, run: str, rank: int, row: UploadRow) -> None:
        """One row for the destination of `plan`."""
        self._staged.append((self._row, plan, run, rank, row))

    def note(self, kind: JournalKind, sync: str, run: str, mapping: str, note: RowNote) -> None:
        """Where a record came to stand."""
        self._staged.append((self._note, (kind, sync, run, mapping), note))

    def parked(self, parked_id: str, record: ParkedRecord | None) -> None:
        """A parked record, or None where it is settled. The last word of a chunk counts."""
        self._staged.append((self._parked.__setitem__, parked_id, record))

    def recall(self, plan: Plan, row_id: str) -> None:
        """Ask for a row back that has not gone out yet."""
        self._staged.append((self._recall, (plan.platform, plan.account, plan.destination), row_id))

    def read(
        self, platform: str, account: str, connection: str, object_type: str, object_id: str,
        fields: frozenset[str],
    ) -> None:  # fmt: skip
        """Ask for a whole object; equal asks of a chunk are one."""
        key = (platform, account, connection, object_type, fields)
        self._staged.append((self._read, key, object_id))

    def look(
        self, plan: Plan, run: str, field: str, fields: tuple[str, ...], row: LookRow
    ) -> None:  # fmt: skip
        """Ask what a destination holds in these fields. `field`: by which it is looked for."""
        self._staged.append((self._look, (plan.sync, run, field, fields), plan, row))

    def keep(self) -> None:
        """The step ended well: what it said counts."""
        for staged in self._staged:
            staged[0](*staged[1:])
        self._staged.clear()

    def drop(self) -> None:
        """The step threw: what it said does not count."""
        self._staged.clear()

    def _row(self, plan: Plan, run: str, rank: int, row: UploadRow) -> None:
        key = (plan.sync, run, rank)
        batch = self._batches.get(key)
        if batch is None or batch.plan is not plan:
            if batch is not None:
                self._full.append(batch)
            batch = self._batches[key] = _Batch(plan, run, rank)
        batch.rows.append(row)
        batch.byte_count += len(row.fields) + 300  # ids and times of a row
        if len(batch.rows) >= BATCH_ROWS_MAX or batch.byte_count >= BATCH_BYTES_MAX:
            self._full.append(self._batches.pop(key))

    def _note(self, key: tuple[JournalKind, str, str, str], note: RowNote) -> None:
        self._notes.setdefault(key, []).append(note)

    def _recall(self, key: tuple[str, str, str], row_id: str) -> None:
        self._recalls.setdefault(key, []).append(row_id)

    def _read(self, key: tuple[str, str, str, str, frozenset[str]], object_id: str) -> None:
        self._reads.setdefault(key, {})[object_id] = None

    def _look(
        self, key: tuple[str, str, str, tuple[str, ...]], plan: Plan, row: LookRow
    ) -> None:  # fmt: skip
        self._looks.setdefault(key, (plan, []))[1].append(row)

    def close(self, at_ms: int) -> list[Send]:
        """All messages of the chunk. `at_ms`: the latest time that its records told."""
        self.keep()
        sends = self.sends
        for batch in (*self._full, *self._batches.values()):
            sends.append(_upload(batch, at_ms))
        for (platform, account, connection), ids in self._recalls.items():
            for part in _parts(ids, RECALLS_MAX):
                recall = Recall(account=account, connection=connection, row_ids=part)
                sends.append(Send(commands_of(platform), account, recall))
        for (platform, account, connection, kind, fields), ids in self._reads.items():
            for part in _parts(list(ids), READ_IDS_MAX):
                read = ReadObjects(
                    account=account, connection=connection, object_type=kind, object_ids=part,
                    fields=sorted(fields),
                )  # fmt: skip
                sends.append(Send(commands_of(platform), account, read))
        for (sync, run, field, fields), (plan, rows) in self._looks.items():
            for part in _parts(rows, READ_IDS_MAX):
                look = LookUp(
                    account=plan.account, connection=plan.destination, sync=sync, run=run,
                    object_type=plan.destination_object, field=field, fields=list(fields),
                    rows=part,
                )  # fmt: skip
                sends.append(Send(commands_of(plan.platform), plan.account, look))
        for parked_id, record in self._parked.items():
            sends.append(Send(PARKED, parked_id, record))
        for (kind, sync, run, mapping), notes in self._notes.items():
            for part in _parts(notes, NOTES_MAX):
                entry = JournalEntry(
                    kind=kind, at_ms=at_ms, sync=sync, run=run, rows=part, mapping=mapping
                )
                sends.append(Send(JOURNAL, run or sync, entry))
        return sends


def _upload(batch: _Batch, at_ms: int) -> Send:
    plan = batch.plan
    message = UploadBatch(
        account=plan.account,
        connection=plan.destination,
        object_type=plan.destination_object,
        sync=plan.sync,
        run=batch.run,
        priority=PRIORITIES[batch.rank],
        decided_ms=at_ms,
        rows=batch.rows,
    )
    return Send(commands_of(plan.platform), plan.account, message)


def _parts(items: list[T], size: int) -> list[list[T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]

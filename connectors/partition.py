"""One assigned partition: what of it is in hand, what is done, what has to wait outside."""

from collections import OrderedDict, deque
from collections.abc import Iterator

from connectors.handover import Inherited
from connectors.intake import Record
from connectors.lanes import Taken
from connectors.offsets import Stretch

__all__ = ["HOLD_S", "Partition"]

HOLD_S = 3.0
"""So long may rows of a command wait while others of it have their fate already: then they are
written to the end of the partition, and the outcomes of the others go out."""
READ_HOLD_S = 30.0
"""The same for a read that is under way, since to begin it anew costs quota; and for a question
about a job, which has been written there before."""
ROWS_MAX = 20_000
"""Rows in hand; more is left unread. Above the credit of several bulk runs (5,000 each), so that
live rows behind them are read."""
ROWS_ALL_MAX = 40_000
"""Of all partitions, about 100 MB; with more in hand each may still have ROWS_LEAST."""
ROWS_LEAST = 1_000
ROW_BYTES = 1_000
"""A row that has more counts for several."""
RECALLED_MAX = 10_000


class Partition:
    """In one assignment, which has a number of its own."""

    def __init__(
        self, number: int, epoch: int, offset: int, metadata: str, inherited: Inherited
    ) -> None:
        self.number, self.epoch, self.inherited = number, epoch, inherited
        self.stretch = Stretch(offset, metadata)
        self.open: dict[int, Taken] = {}
        """Commands in hand, by offset, in order."""
        self.deferred: deque[Record] = deque()
        """Read already, and without room."""
        self.recalled: OrderedDict[str, int] = OrderedDict()
        """Row ids that a Recall named and that were not here."""
        self.rows = 0
        """Rows in hand, until their fates are committed; see `hold`."""
        self.rows_max = ROWS_MAX
        self.skipped = False
        """The checkpoint has moved by messages that a predecessor had finished."""

    def defer(self, record: Record) -> bool:
        """True: no room for it now, it is kept for later."""
        if self.deferred or not self._room(record.offset):
            self.deferred.append(record)
            return True
        return False

    def with_room(self) -> Iterator[Record]:
        while self.deferred and self._room(self.deferred[0].offset):
            yield self.deferred.popleft()

    def _room(self, offset: int) -> bool:
        return self.stretch.room(offset) and self.rows < self.rows_max

    def hold(self, taken: Taken, record: Record) -> None:
        """The rows of a command are in hand. Each counts for one, or for its KB where it has more:
        what is bounded is memory."""
        taken.weight = max(taken.left, len(record.value or b"") // ROW_BYTES)
        self.rows += taken.weight

    def bound(self, rows_all: int) -> None:
        """How many rows it may have in hand, when all partitions together have so many."""
        self.rows_max = ROWS_MAX if rows_all < ROWS_ALL_MAX else ROWS_LEAST

    def remember_recall(self, row_id: str) -> None:
        self.recalled[row_id] = 1
        if len(self.recalled) > RECALLED_MAX:
            self.recalled.popitem(last=False)

    def half_done(self) -> list[Taken]:
        """Commands of which some rows have their fate."""
        return [taken for taken in self.open.values() if taken.settled]

    def overdue(self, now_s: float) -> list[Taken]:
        """Commands whose outcomes must not wait any longer, and the one that keeps all others
        from being read."""
        due = [t for t in self.open.values() if t.first_s and now_s - t.first_s > HOLD_S]
        if self.deferred and self.open:
            head = next(iter(self.open.values()))
            hold_s = READ_HOLD_S if head.task is not None or head.job else HOLD_S
            if not head.first_s and now_s - head.since_s > hold_s:
                due.append(head)
        return due

"""Rows that were about to be sent where a repeat could do harm, or in a job: on `handover`.

An intent stands from before the request until the fates of all its rows are durable. A successor
finds it there: it neither sends these rows again nor forgets them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from connectors.handover import Intended
from connectors.lanes import Item
from connectors.settling import Request, Send
from schemas.topics import HANDOVER

if TYPE_CHECKING:
    from connectors.account import Account

__all__ = ["Intents"]


class Intents:
    """Of one account."""

    def __init__(self, account: "Account") -> None:
        self._account = account
        self._rows: dict[str, Intended] = {}
        """By row id: ours, and those of predecessors."""
        self._left: Counter[str] = Counter()
        """Key of an intent to rows whose fates are not durable yet."""

    def inherit(self, rows: Mapping[str, Intended]) -> None:
        """What predecessors left."""
        self._rows.update(rows)
        self._left.update(held.key for held in rows.values())

    def of(self, row_id: str) -> Intended | None:
        return self._rows.get(row_id)

    async def make(self, items: Sequence[Item], request: Request, receipt: str = "") -> None:
        """Durable that these rows are about to be sent. Raises KafkaException."""
        account, ids = self._account, [item.row.row_id for item in items]
        key = await account.office.intend(
            account.partition, account.name, request.request_id, ids, receipt
        )
        self._left[key] += len(ids)
        for row_id in ids:
            self.void(row_id)  # an earlier one: the new one stands for the row
            self._rows[row_id] = Intended(key, receipt)

    def settled(self, row_id: str) -> str:
        """The row has its fate -> key of the intent that stands until this is durable; or empty."""
        held = self._rows.pop(row_id, None)
        return held.key if held else ""

    def void(self, row_id: str) -> None:
        """The row was not sent after all, or the platform is known to have left it alone."""
        if key := self.settled(row_id):
            self.kept(key)

    def kept(self, key: str) -> None:
        """The fate of one of its rows is durable."""
        self._left[key] -= 1
        if self._left[key] <= 0:
            del self._left[key]
            partition = self._account.partition
            self._account.office.also([Send(HANDOVER, None, key, partition)], partition)

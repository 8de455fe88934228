"""Give a sync a new list of objects: read it, hold it against the last, and hand it over.

All that a list changes is one Kafka transaction: its parts, the act that starts its run, and what
the list is from now on. Killed at any moment it has happened, or nothing has. Two who give lists
for one sync at once: the one who began first is refused.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from confluent_kafka import KafkaException, Producer

from audit.read import latest
from schemas import topics
from schemas.audiences import AudienceMember, AudiencePart, Change
from schemas.base import Message
from schemas.codec import Codec
from schemas.control import Act, ActKind
from schemas.journal import Standing
from schemas.kafka_log import KAFKA_LOG
from schemas.runs import RunView
from schemas.transactions import insist
from syncline import acts
from syncline.errors import Failed, Misused
from syncline.settings import Settings

__all__ = [
    "LIST_BYTES_MAX",
    "Difference",
    "Hand",
    "List",
    "difference",
    "differs",
    "members_of",
    "read_list",
]

IDS_MAX = 2_000_000
LIST_BYTES_MAX = 256 << 20
ID_CHARS_MAX = 200
PART_IDS = 500
TRANSACTION_S = 60
WELL = frozenset((
    Standing.written, Standing.accepted, Standing.unchanged, Standing.filtered, Standing.stale,
    Standing.superseded, Standing.echo,
))  # fmt: skip
"""Fates after which somebody who left has left for good."""


@dataclass(frozen=True)
class List:
    """Ids in the order given, each once."""

    object_ids: tuple[str, ...]
    repeats: int = 0
    """How often an id was named again."""


@dataclass(frozen=True)
class Difference:
    """A new list against what was given before."""

    joins: tuple[str, ...]
    stays: tuple[str, ...]
    leaves: tuple[str, ...]
    gone: tuple[str, ...] = field(default=())
    """Left earlier, and their run has ended well: nothing is kept of them any more."""

    @property
    def share(self) -> float:
        """Of the last list that leaves: more than half is a slip, more often than not."""
        before = len(self.leaves) + len(self.stays)
        return len(self.leaves) / before if before else 0.0

    def __str__(self) -> str:
        return (
            f"{len(self.joins):,} join, {len(self.leaves):,} leave, {len(self.stays):,} unchanged"
        )

    def parts(self, run: str, sync: str) -> Iterator[AudiencePart]:
        """All records of the run: the list in its order, then who left."""
        number = 0
        for change, names in (
            (Change.joins, self.joins), (Change.stays, self.stays), (Change.leaves, self.leaves)
        ):  # fmt: skip
            rest = iter(names)
            while part := list(islice(rest, PART_IDS)):
                yield AudiencePart(run=run, sync=sync, part=number, change=change, object_ids=part)
                number += 1


def read_list(data: bytes, column: str = "") -> List:
    """One id a line; or a table with a heading, comma, semicolon or tab between its columns, and
    the ids in one of them. Raises Misused with the line of the mistake."""
    if len(data) > LIST_BYTES_MAX:
        raise Misused(f"a list has at most {LIST_BYTES_MAX >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Misused(f"the list is no UTF-8: byte {error.start}") from None
    found: dict[str, None] = {}
    count = 0
    for number, name in _column(text, column) if column else enumerate(text.splitlines(), 1):
        name = name.strip()
        if not name:
            continue
        if len(name) > ID_CHARS_MAX or not name.isprintable():
            raise Misused(f"line {number}: is no id")
        count += 1
        found[name] = None
        if len(found) > IDS_MAX:
            raise Misused(f"a list has at most {IDS_MAX:,} ids")
    return List(tuple(found), count - len(found))


def _column(text: str, column: str) -> Iterator[tuple[int, str]]:
    heading = text.partition("\n")[0]
    separator = max(",;\t", key=heading.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = next(rows, [])
    if column not in names:
        raise Misused(f"the list has no column {column}; it has: {', '.join(names)}")
    place = names.index(column)
    for row in rows:
        yield rows.line_num, row[place] if place < len(row) else ""


def difference(
    new: Iterable[str], last: Mapping[str, AudienceMember], runs: Mapping[str, RunView]
) -> Difference:
    """Pure. `last`: by object id. Who left, and whose run did not end well, leaves once more."""
    listed = dict.fromkeys(new)
    left = [m for name, m in last.items() if not m.member and name not in listed]
    gone = {m.object_id for m in left if _ended_well(runs.get(m.run))}
    return Difference(
        joins=tuple(n for n in listed if n not in last or not last[n].member),
        stays=tuple(n for n in listed if n in last and last[n].member),
        leaves=(
            *(n for n, m in last.items() if m.member and n not in listed),
            *(m.object_id for m in left if m.object_id not in gone),
        ),
        gone=tuple(sorted(gone)),
    )


def _ended_well(view: RunView | None) -> bool:
    if view is None or view.state != "completed":
        return False
    return all(Standing(s) in WELL for s, n in view.counts.items() if n > 0)


def members_of(settings: Settings, codec: Codec, sync: str) -> dict[str, AudienceMember]:
    """The last list of a sync by object id, in the order in which they came; with those who left
    and may have to leave again."""
    found = latest(settings.kafka_config(), codec, topics.AUDIENCES, AudienceMember)
    return {m.object_id: m for m in found.values() if m.sync == sync}


def differs(settings: Settings, codec: Codec, sync: str, new: List) -> Difference:
    """A new list against the last, as it is now: for a question, which takes nobody's hand away."""
    views = latest(settings.kafka_config(), codec, topics.RUNS, RunView)
    return difference(new.object_ids, members_of(settings, codec, sync), views)


class Hand:
    """The one hand that may give a sync a list: `with Hand(settings, codec, sync) as hand:`.

    Whoever held it before is refused from then on; what they had not finished never happens.
    """

    def __init__(self, settings: Settings, codec: Codec, sync: str) -> None:
        """Raises KafkaException where Kafka is away."""
        self._settings, self._codec, self.sync = settings, codec, sync
        self._producer = Producer(
            {
                "logger": KAFKA_LOG,
                **settings.kafka_config(),
                "partitioner": "murmur2_random",
                "transactional.id": f"syncline-audience-{sync}",
                "transaction.timeout.ms": TRANSACTION_S * 1000,
                "linger.ms": 20,
            }
        )
        insist(self._producer.init_transactions, 10.0, wait_s=TRANSACTION_S)

    def differs(self, new: List) -> Difference:
        """The new list against the last: read now, and true until `put` is done or refused."""
        return differs(self._settings, self._codec, self.sync, new)

    def put(
        self, change: Difference, run: str, why: str, *, act_id: str = "", who: str = ""
    ) -> None:
        """Make it the list, and start the run that brings it to the destination. Raises Failed
        where somebody else gave a list meanwhile, or Kafka did not take it: then nothing has
        happened; and where Kafka was away for so long that nobody knows."""
        start = acts.act(
            ActKind.run_start, sync=self.sync, run=run, values=_options(change), why=why,
            act_id=act_id, who=who,
        )  # fmt: skip
        try:
            self._producer.begin_transaction()
            for topic, key, message in self._records(change, start):
                self._produce(topic, key, message)
            insist(self._producer.commit_transaction, 10.0, wait_s=TRANSACTION_S)
        except KafkaException as error:
            if error.args[0].fatal():
                raise Failed(
                    f"{self.sync}: somebody else gave a list meanwhile; nothing of this one is done"
                ) from None
            if not error.args[0].txn_requires_abort():
                raise Failed(
                    f"Kafka did not say whether it took the list: see `syncline audience show "
                    f"{self.sync}`, then put it again: {error}"
                ) from None
            insist(self._producer.abort_transaction, 10.0, wait_s=TRANSACTION_S)
            raise Failed(f"Kafka did not take the list, nothing is done: {error}") from None

    def _records(self, change: Difference, start: Act) -> Iterator[tuple[str, str, Message | None]]:
        now_ms, run = start.when_ms, start.run
        for part in change.parts(run, self.sync):
            yield topics.CONTROL, run, part
        yield topics.CONTROL, run, start
        for names, member in ((change.joins, True), (change.leaves, False)):
            for name in names:
                yield (
                    topics.AUDIENCES,
                    _key(self.sync, name),
                    AudienceMember(
                        sync=self.sync, object_id=name, member=member, run=run, since_ms=now_ms
                    ),
                )
        for name in change.gone:
            yield topics.AUDIENCES, _key(self.sync, name), None

    def _produce(self, topic: str, key: str, message: Message | None) -> None:
        value = None if message is None else self._codec.encode(message)
        while True:
            try:
                self._producer.produce(topic, value, key.encode())
                break
            except BufferError:  # ends: what is not taken fails after its delivery time-out
                self._producer.poll(0.1)
        self._producer.poll(0)


def _options(change: Difference) -> dict[str, Any]:
    """Of the act that starts the run."""
    sizes = [len(names) for names in (change.joins, change.stays, change.leaves)]
    joins, stays, leaves = sizes
    return {
        "parts": sum(-(-size // PART_IDS) for size in sizes), "expected": sum(sizes),
        "joins": joins, "stays": stays, "leaves": leaves,
    }  # fmt: skip


def _key(sync: str, object_id: str) -> str:
    return f"{sync}|{object_id}"

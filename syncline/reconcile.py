"""Compare a source with what is known of it, and make up for what never came.

Senders drop events, or tell several changes as one. The worker reads what has changed, under the
connection's quota like everything else, and writes it as changes of its own kind (`backfill`).
What was known is decided as stale, unchanged or a repeat; anything else had been missed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from schemas import topics
from schemas.base import Message
from schemas.codec import Codec
from schemas.commands import FetchPages
from schemas.events import Origin, PlatformEvent
from schemas.follow import Definitions
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from syncline import acts
from syncline.errors import Failed, Misused
from syncline.settings import Settings
from syncline.since import Since, decoded

__all__ = ["Compared", "Missed", "reconcile"]

PAGES = 20
"""Asked for at a time: a live change waits for no more than these."""
POLL_S = 0.2
KNOWN = frozenset(
    {Standing.duplicate, Standing.stale, Standing.unchanged, Standing.filtered, Standing.echo}
)
"""What was known already, or is nothing to a sync."""


@dataclass
class Missed:
    """A change of which no webhook had told."""

    event_id: str
    object_id: str
    occurred_ms: int
    syncs: dict[str, str] = field(default_factory=dict)
    """Sync to where its row stands."""


@dataclass
class Compared:
    """What one comparison has seen so far. Feed it the records of `events.*` and `journal`."""

    connection: str
    object_type: str
    name: str
    syncs: frozenset[str]
    """That follow such objects: each decides every change once."""
    read: int = 0
    step: int = 0
    cursor: str = ""
    last: bool = False
    trouble: str = ""
    _told: dict[str, Missed] = field(default_factory=dict)
    _notes: dict[str, dict[str, RowNote]] = field(default_factory=dict)
    """Event id to sync to where it came to stand."""
    _listed: dict[str, None] = field(default_factory=dict)
    """Event ids in the order of reading."""
    _open: set[str] = field(default_factory=set)

    def take(self, message: Message) -> None:
        match message:
            case PlatformEvent(origin=Origin.backfill, connection=self.connection):
                known = Missed(message.event_id, message.object_id, message.occurred_ms)
                self._told[message.event_id] = known
            case JournalEntry(kind=JournalKind.page_fetched, run=self.name) if (
                message.step == self.step + 1
            ):
                self.step, self.cursor, self.last = message.step, message.cursor, message.last
                self.read += message.records
                for note in message.rows:
                    self._listed[note.event_id] = None
                    self._look(note.event_id)
            case JournalEntry(kind=JournalKind.admitted | JournalKind.decided):
                if message.sync in self.syncs:
                    for note in message.rows:
                        self._notes.setdefault(note.event_id, {})[message.sync] = note
                        self._look(note.event_id)
            case JournalEntry(kind=JournalKind.account_state, run=self.name):
                self.trouble = message.why
            case _:
                pass

    def _look(self, event_id: str) -> None:
        """Whether a change that was read has the word of every sync."""
        if len(self._notes.get(event_id, ())) >= len(self.syncs):
            self._open.discard(event_id)
        elif event_id in self._listed:
            self._open.add(event_id)

    @property
    def undecided(self) -> int:
        """Changes that were read and have no word of every sync yet."""
        return len(self._open)

    def missed(self) -> list[Missed]:
        """In the order of reading. Standings are those of now: rows may still be out."""
        found: list[Missed] = []
        for event_id in self._listed:
            notes = self._notes.get(event_id, {})
            news = {s: n.standing.value for s, n in notes.items() if n.standing not in KNOWN}
            if news and (told := self._told.get(event_id)):
                told.syncs = news
                found.append(told)
        return found


def reconcile(
    settings: Settings, codec: Codec, connection: str, object_type: str, since_ms: int,
    wait_s: float, progress: Callable[[Compared], None] = lambda _: None,
) -> Compared:  # fmt: skip
    """Read everything that changed since then, and wait until each change is decided.

    `wait_s`: without any progress; then Failed is raised, and what was read stays made up for. A
    repeat finds the same changes under the same ids. Raises Misused for a connection that is not
    defined, or whose objects no sync follows.
    """
    platform, account, syncs = _meant(settings, codec, connection, object_type)
    name = f"reconcile-{connection}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    compared = Compared(connection, object_type, name, syncs)
    follower = Since(settings.kafka_config(), [topics.events_of(platform), topics.JOURNAL], None)
    try:
        asked, moved_s, before = 0, time.monotonic(), (-1, -1)
        while not (compared.last and not compared.undecided):
            if asked == compared.step and not compared.last:
                asked += 1
                command = FetchPages(
                    account=account, connection=connection, object_type=object_type, sync="",
                    run=name, cursor=compared.cursor, record_no=0, pages_max=PAGES, step=asked,
                    backfill=True, since_ms=since_ms,
                )  # fmt: skip
                acts.publish(settings, [(topics.commands_of(platform), account, command)], codec)
            for message in decoded(follower.poll(POLL_S), codec):
                compared.take(message)
            if before != (now := (compared.read, compared.undecided)):
                before, moved_s = now, time.monotonic()
                progress(compared)
            if time.monotonic() - moved_s > wait_s:
                raise Failed(_stuck(compared, wait_s))
    finally:
        follower.close()
    return compared


def _meant(
    settings: Settings, codec: Codec, connection: str, object_type: str
) -> tuple[str, str, frozenset[str]]:
    """-> (platform, account, the syncs that follow such objects). Raises Misused."""
    definitions = Definitions(settings.kafka_config(), codec)
    try:
        found = definitions.connections().get(connection)
        syncs = definitions.syncs()
    finally:
        definitions.close()
    if found is None:
        raise Misused(f"there is no connection {connection}")
    mine = [s for s in syncs.values() if s.source == connection]
    names = frozenset(s.sync for s in mine if s.source_object == object_type)
    if not names:
        kinds = ", ".join(sorted({s.source_object for s in mine})) or "nothing"
        raise Misused(f"no sync follows {object_type} of {connection}: they follow {kinds}")
    return found.platform, found.account, names


def _stuck(compared: Compared, wait_s: float) -> str:
    why = f" ({compared.trouble})" if compared.trouble else ""
    if not compared.last:
        return (
            f"read {compared.read:,}, then nothing for {wait_s:g} s{why}: is a connectors worker "
            f"running, and the account open? `syncline account list` tells"
        )
    return (
        f"all {compared.read:,} read; {compared.undecided:,} not decided for {wait_s:g} s: is a "
        f"streams worker running?"
    )

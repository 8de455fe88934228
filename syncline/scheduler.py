"""The process that begins scheduled runs: `syncline scheduler`.

It keeps nothing. What is due follows from the definitions, the clock and the runs that there are;
a run's id and its act's are made of sync and due time, so whatever is done twice happens once.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event

import httpx
import structlog
from confluent_kafka import KafkaException

from audit.read import Log
from schemas import ids, topics
from schemas.codec import Codec
from schemas.control import Act, ActKind
from schemas.definitions import ListSource, Sync
from schemas.follow import Definitions
from schemas.journal import JournalEntry, JournalKind
from schemas.runs import RunView
from schemas.secrets import SecretMissing, resolve
from syncline import acts, audiences, schedules
from syncline.errors import Failed, Misused
from syncline.schedules import Due
from syncline.settings import Settings

__all__ = ["Scheduler", "fetch_list"]

log = structlog.get_logger("scheduler")

WHO = "scheduler"
LOOK_S = 1.0
AGAIN_S = 60.0
"""After a list could not be fetched."""
FETCH_S = httpx.Timeout(30.0, connect=10.0)
FETCH_MAX_S = 300.0
"""A list that trickles holds up everybody's schedule."""


class Scheduler:
    """Follows definitions, runs and pauses; `step` begins what is due."""

    def __init__(
        self, settings: Settings, codec: Codec, clock: Callable[[], datetime] | None = None
    ) -> None:
        """Raises KafkaException or TimeoutError where Kafka is away."""
        self._settings, self._codec = settings, codec
        self._clock = clock or (lambda: datetime.now(UTC))
        kafka = settings.kafka_config()
        self._definitions = Definitions(kafka, codec)
        self._known = self._scheduled()
        self._log = Log(kafka, codec, [topics.RUNS, topics.CONTROL])
        self._runs: dict[str, dict[str, str]] = {}
        """Sync to run to state."""
        self._held: dict[str, Act] = {}
        """Sync to the newest act that paused or resumed it."""
        self._told: dict[str, str] = {}
        """Run to what was said of it last."""
        self._not_before_s: dict[str, float] = {}

    def run(self, stop: Event) -> None:
        """Until `stop` is set."""
        log.info("scheduler runs", syncs=sorted(self._known))
        while not stop.wait(LOOK_S):
            try:
                self.step()
            except (KafkaException, TimeoutError) as error:  # what is due then is due later too
                log.warning("Kafka does not answer", why=str(error))
        log.info("scheduler stops")

    def close(self) -> None:
        self._definitions.close()
        self._log.close()

    def step(self) -> list[str]:
        """Take in what is new, begin what is due -> the runs that were begun."""
        if self._definitions.refresh():
            self._known = self._scheduled()
        self._catch_up()
        now, begun = self._clock(), list[str]()
        for name, (sync, since) in self._known.items():
            assert sync.schedule is not None
            runs = self._runs.setdefault(name, {})
            found = schedules.due(name, sync.schedule, since, now, runs)
            if found is None:
                continue
            in_the_way = schedules.wait_for(runs, paused=self._is_paused(name))
            if in_the_way:
                self._say(found, f"due, and waits: {in_the_way}")
            elif time.monotonic() >= self._not_before_s.get(found.run, 0.0) and self._begin(
                sync, found
            ):
                runs[found.run] = "requested"
                begun.append(found.run)
        return begun

    def _scheduled(self) -> dict[str, tuple[Sync, datetime]]:
        """Syncs with a schedule, and since when."""
        return {
            name: (sync, datetime.fromtimestamp(definition.applied_ms / 1000, UTC))
            for name, definition in self._definitions.active("sync").items()
            if (sync := Sync.model_validate_json(definition.document)).schedule is not None
        }

    def _is_paused(self, sync: str) -> bool:
        act = self._held.get(sync)
        return act is not None and act.kind is ActKind.sync_pause

    def _catch_up(self) -> None:
        for *_, message in self._log.read_to_end():
            self._take(message)

    def _take(self, message: object) -> None:
        match message:
            case RunView():
                self._runs.setdefault(message.sync, {})[message.run] = message.state
            case Act(kind=ActKind.run_start):
                self._runs.setdefault(message.sync, {}).setdefault(message.run, "requested")
            case Act(kind=ActKind.sync_pause | ActKind.sync_resume):
                before = self._held.get(message.sync)
                if before is None or message.when_ms >= before.when_ms:
                    self._held[message.sync] = message
            case _:
                pass

    def _begin(self, sync: Sync, found: Due) -> bool:
        """Whether it has begun; if not, it has been told why, and is tried again in a minute."""
        why = f"scheduled for {found.at.isoformat()}" + (", made up for" if found.late else "")
        source = sync.audience.list if sync.audience is not None else None
        try:
            if source is None:
                act = acts.act(
                    ActKind.run_start, sync=sync.sync, run=found.run, why=why,
                    act_id=ids.derive("scheduled", found.run), who=WHO,
                )  # fmt: skip
                acts.ask(self._settings, self._codec, [act])
            else:
                self._put(sync.sync, source, found, why)
        except (Failed, Misused) as error:
            self._not_before_s[found.run] = time.monotonic() + AGAIN_S
            if self._say(found, f"cannot begin: {error}"):
                self._journal(sync.sync, found.run, str(error))
            return False
        log.info("begun", run=found.run, late=found.late)
        return True

    def _put(self, sync: str, source: ListSource, found: Due, why: str) -> None:
        """Raises Failed or Misused, in words without values."""
        new = audiences.read_list(fetch_list(source), source.column)
        # Before taking the hand from somebody who may be putting the list that is asked for here.
        _bounded(audiences.differs(self._settings, self._codec, sync, new), sync, source)
        hand = audiences.Hand(self._settings, self._codec, sync)
        self._catch_up()  # nobody else can put it from here on: has somebody before?
        if found.run in self._runs.get(sync, {}):
            return
        change = hand.differs(new)
        _bounded(change, sync, source)
        hand.put(change, found.run, why, act_id=ids.derive("scheduled", found.run), who=WHO)

    def _say(self, found: Due, words: str) -> bool:
        """Log it, once for each thing that there is to say -> whether it is new."""
        if self._told.get(found.run) == words:
            return False
        self._told = {**dict(list(self._told.items())[-99:]), found.run: words}
        log.warning(words, run=found.run)
        return True

    def _journal(self, sync: str, run: str, why: str) -> None:
        entry = JournalEntry(
            kind=JournalKind.act, at_ms=time.time_ns() // 1_000_000, sync=sync, run=run, who=WHO,
            after=ActKind.run_start.value, why=f"refused: {why}",
        )  # fmt: skip
        acts.publish(self._settings, [(topics.JOURNAL, run, entry)], self._codec)


def _bounded(change: audiences.Difference, sync: str, source: ListSource) -> None:
    """Raises Failed where more leave than may."""
    if change.share > source.leaves_max:
        raise Failed(
            f"{change}: more would leave than leaves_max says; if it is meant: "
            f"`syncline audience put {sync} FILE --yes`"
        )


def fetch_list(source: ListSource) -> bytes:
    """The list as its address gives it, at most one byte more than a list may have. No redirects
    are followed. Raises Failed."""
    headers = {}
    try:
        if source.secret:
            headers["Authorization"] = f"Bearer {resolve(source.secret).get_secret_value()}"
        with httpx.stream("GET", source.url, headers=headers, timeout=FETCH_S) as answer:
            if answer.status_code != httpx.codes.OK:
                raise Failed(f"the list cannot be fetched: HTTP {answer.status_code}")
            data = bytearray()
            deadline = time.monotonic() + FETCH_MAX_S
            for chunk in answer.iter_bytes():
                if time.monotonic() > deadline:
                    raise Failed(f"the list cannot be fetched within {FETCH_MAX_S:g} s")
                data += chunk
                if len(data) > audiences.LIST_BYTES_MAX:
                    break
            return bytes(data)
    except SecretMissing as error:
        raise Failed(f"the list cannot be fetched: {error}") from None
    except httpx.HTTPError as error:
        raise Failed(f"the list cannot be fetched: {type(error).__name__}") from None

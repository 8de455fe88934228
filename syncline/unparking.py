"""Release or discard what is parked, wherever it was parked, and say where each record stands then.

What a person's state holds is released by an act alone. What was parked before anybody decided it
is in no table: it is read from its topic and brought along.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import typer
from confluent_kafka import Message as Record

from audit.answers import Answers, Place
from schemas import ids, topics
from schemas.base import Message
from schemas.codec import Codec, Undecodable
from schemas.control import Act, ActKind, Again, Target
from schemas.events import PlatformEvent
from schemas.follow import Definitions
from schemas.parked import Fix, ParkedRecord, Stage
from syncline import acts, cluster
from syncline.errors import Failed
from syncline.mending import parts, target_of
from syncline.settings import Settings
from syncline.since import At, Since, parse_place
from syncline.watching import Watch

__all__ = ["Asked", "ask", "fix_id", "places", "resend", "settled", "tell", "unfix"]

UNDECIDED = ("bug", "no_definition")
"""Codes under which an event is parked at shape before it was decided."""
JOIN_ANSWERS = {
    ActKind.release: "one person as soon as nothing of the one who moves is out (`syncline who`)",
    ActKind.discard: "they stay two",
}
EARLIER_MS = 3_600_000
"""Clocks of processes and brokers may differ by so much at most."""
FORGOTTEN_DAYS = 90
SHOWN = 20


@dataclass
class Asked:
    """What was asked for, and of what one can wait to hear."""

    rows: list[str] = field(default_factory=list[str])
    """Row ids of the records, where they are known."""
    events: set[str] = field(default_factory=set[str])
    """Event ids whose rows are known only when somebody has decided them."""
    confirmations: int = 0
    """To expect, one for each person or object."""
    by_place: int = 0
    """Messages that are no event: taken in again, or given up."""
    joins: int = 0
    """Proposed joins, which have no rows of their own."""
    answer: str = ""
    """What becomes of them."""
    left: dict[str, str] = field(default_factory=dict[str, str])
    """Parked id to why nothing was asked for it."""


def ask(
    settings: Settings, codec: Codec, watch: Watch, kind: ActKind, records: Sequence[ParkedRecord],
    why: str,
) -> Asked:  # fmt: skip
    """`kind`: release or discard. One act for each sync and stage. Raises Failed."""
    asked = Asked(answer=JOIN_ANSWERS[kind])
    by_stage: dict[tuple[str, str], list[ParkedRecord]] = defaultdict(list)
    for record in records:
        by_stage[record.sync, _way(record)].append(record)
    made: list[Act] = []
    more: list[tuple[str, str, Message]] = []
    for (sync, way), group in by_stage.items():
        if way == "intake" and kind is ActKind.release:
            words = "a part of a webhook: `syncline replay intake --parked ID`"
            asked.left |= {r.parked_id: words for r in group}
            continue
        if way == "decode" and kind is ActKind.release:
            group = _copied(settings, group, asked)
        for targets in parts([target_of(r) for r in group]):
            stage = {"stage": way} if way else None
            act = acts.act(kind, sync=sync, targets=targets, values=stage, why=why)
            made.append(act)
            if way in ("admit", "shape"):
                wanted = {t.parked_id for t in targets}
                of_act = [r for r in group if r.parked_id in wanted]
                more += _brought(settings, codec, act, of_act, way, asked)
            elif way:
                asked.by_place += len(targets)
            else:
                rows = [t.row_id for t in targets if t.row_id]
                asked.rows += rows
                asked.joins += len(targets) - len(rows)
                asked.confirmations += len({t.person for t in targets})
    watch.ask(made, more)
    return asked


def places(answers: Answers, asked: Asked) -> Counter[Place]:
    """Where the records stand, as far as the journal has told."""
    found = answers.places(_rows(answers, asked))
    missing = Place("asked")
    if answers.confirmed >= asked.confirmations and missing in found:
        found[Place("gone")] = found.pop(missing)
    return found


def _way(record: ParkedRecord) -> str:
    """Where it was parked; empty: in the state of a person."""
    if record.stage in (Stage.decode, Stage.intake, Stage.admit):
        return str(record.stage)
    return "shape" if record.stage is Stage.shape and record.code in UNDECIDED else ""


def _brought(
    settings: Settings, codec: Codec, act: Act, records: Sequence[ParkedRecord], way: str,
    asked: Asked,
) -> list[tuple[str, str, Message]]:  # fmt: skip
    """Each with its event, to where it was parked."""
    events = _events(settings, codec, records)
    found: list[tuple[str, str, Message]] = []
    for record in records:
        event = events.get(record.event_id)
        if event is None:
            asked.left[record.parked_id] = (
                f"its event is not on its topic any more: kept for {FORGOTTEN_DAYS} days"
            )
            continue
        again = Again(
            act_id=act.act_id, kind=act.kind, parked_id=record.parked_id, sync=record.sync,
            person=record.person, who=act.who, why=act.why, when_ms=act.when_ms, event=event,
        )  # fmt: skip
        asked.confirmations += 1
        if way == "admit":
            asked.events.add(event.event_id)
            found.append((topics.ANSWERED, event.object_key, again))
        else:
            asked.rows.append(record.row_id or ids.row_id(record.event_id, record.sync))
            found.append((topics.ACTS, record.person, again))
    return found


def _events(
    settings: Settings, codec: Codec, records: Sequence[ParkedRecord]
) -> dict[str, PlatformEvent]:
    """Event id to the event, of those that are on their topics still."""
    kafka = settings.kafka_config()
    definitions = Definitions(kafka, codec)
    connections = definitions.connections()
    definitions.close()
    wanted = {r.event_id for r in records}
    platforms = {c.platform for r in records if (c := connections.get(r.connection))}
    found: dict[str, PlatformEvent] = {}
    for platform in sorted(platforms):
        since_ms = min(r.first_ms for r in records) - EARLIER_MS
        log = Since(kafka, topics.events_of(platform), max(0, since_ms))
        try:
            for record in log.read_to_end():
                try:
                    event = codec.decode(record.value())
                except Undecodable:
                    continue
                if isinstance(event, PlatformEvent) and event.event_id in wanted:
                    found[event.event_id] = event
                    if len(found) == len(wanted):
                        return found
        finally:
            log.close()
    return found


def _copied(
    settings: Settings, records: Sequence[ParkedRecord], asked: Asked
) -> list[ParkedRecord]:
    """Written once more as they are, where they were -> those that could be."""
    known = {topic.name for topic in topics.topics_of(cluster.platforms(settings))}
    copies: list[Record] = []
    done: list[ParkedRecord] = []
    for record in records:
        topic, partition, offset = parse_place(record.parked_id)
        copy = _at(settings, topic, partition, offset) if topic in known else None
        if copy is None:
            asked.left[record.parked_id] = "its topic does not hold it any more"
        else:
            copies.append(copy)
            done.append(record)
    acts.write_again(settings, copies)
    return done


def _at(settings: Settings, topic: str, partition: int, offset: int) -> Record | None:
    log = At(settings.kafka_config(), topic, partition, offset)
    try:
        record = next(log.read_to_end(), None)
    finally:
        log.close()
    return record if record is not None and record.offset() == offset else None


def settled(answers: Answers, asked: Asked) -> bool:
    """Whether nothing will change of itself within seconds."""
    if answers.confirmed < asked.confirmations:
        return False
    rows = _rows(answers, asked)
    return answers.settled([r for r in rows if answers.place(r).standing != "asked"])


def _rows(answers: Answers, asked: Asked) -> list[str]:
    return list(dict.fromkeys([*asked.rows, *answers.rows_of(asked.events)]))


def tell(answers: Answers, asked: Asked, *, waited: bool) -> None:
    """For a person at a terminal: where the records stand. Raises Failed where some were refused
    again."""
    for parked_id, why in list(asked.left.items())[:SHOWN]:
        typer.echo(f"  {parked_id}: left as it is: {why}", err=True)
    found = places(answers, asked)
    lines = [f"{n:,} {place}" for place, n in sorted(found.items())]
    if asked.joins:
        lines.append(f"{asked.joins:,} proposed joins: {asked.answer}")
    if asked.by_place:
        lines.append(f"{asked.by_place:,} taken off the list")
    if waited:
        print("; ".join(lines) or "nothing to do")
        for why in sorted(answers.whys):
            typer.echo(f"  not done: {why}", err=True)
    if any(place.standing == "parked" for place in found):
        raise Failed("some were refused again: `syncline parked list`")


def resend(persons: Iterable[str], sync: str, why: str) -> list[Act]:
    """Acts that send persons again, for all their syncs or one."""
    targets = [Target(parked_id="", person=p) for p in sorted(set(persons))]
    return [acts.act(ActKind.resend, sync=sync, targets=[t], why=why) for t in targets]


def unfix(fix: Fix, why: str) -> Act:
    target = Target(parked_id=fix.source, person=fix.person)
    return acts.act(ActKind.unfix, targets=[target], values={fix.field: None}, why=why)


def fix_id(fix: Fix) -> str:
    """Short enough to type; the same at any time."""
    return ids.derive("fix", fix.person, fix.source, fix.field)[:10]

"""Raw requests read from the topics, and what they lack there published. For `replay intake`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from confluent_kafka import KafkaError, Message, Producer

from schemas import topics
from schemas.codec import Codec, Undecodable
from schemas.events import PlatformEvent
from schemas.follow import Follower
from schemas.parked import ParkedRecord
from syncline.commands.tail import headers_of
from syncline.errors import Failed, Misused
from syncline.settings import Settings
from syncline.since import At, Since, parse_place
from webhook_gateway.encode import Headers
from webhook_gateway.publisher import SETTINGS
from webhook_gateway.replay import Difference, Made, Piece, Raw, assembled, normalised, proven
from webhook_gateway.routes import Route

__all__ = ["Choice", "events_of", "made_of", "publish"]

BYTES_MAX = 256 * 1024 * 1024
"""Of everything that the chosen requests make: it is held while it is compared."""
FLUSH_S = 60.0
SLACK_MS = 60_000
"""An event stands on its topic about when its request was received, never much before."""


@dataclass(frozen=True)
class Choice:
    """Which raw requests."""

    connection: str
    platform: str
    quarantine: bool
    from_ms: int
    until_ms: int
    place: str = ""

    @property
    def topic(self) -> str:
        return topics.QUARANTINE if self.quarantine else topics.intake_of(self.platform)

    def takes(self, raw: Raw) -> bool:
        return self.from_ms <= raw.received_ms <= self.until_ms


def made_of(
    settings: Settings, choice: Choice, route: Route, public_url: str, limit: int
) -> tuple[list[Made], dict[str, int], int]:
    """-> (what each request makes, refusals counted by reason, pieces without their neighbours)."""
    made: list[Made] = []
    unproven: dict[str, int] = {}
    loose = held = 0
    for found in islice(_chosen(settings, choice), limit + 1):
        if isinstance(found, Piece):
            loose += 1
            continue
        if choice.quarantine and (why := proven(route, found, public_url)):
            unproven[why] = unproven.get(why, 0) + 1
            continue
        one = normalised(route, found, public_url)
        held += len(found.body) + sum(len(r.value) for r in one.records)
        made.append(one)
        if held > BYTES_MAX or len(made) > limit:
            raise Failed(f"more than {limit} requests or {BYTES_MAX >> 20} MiB: choose fewer")
    return made, unproven, loose


def _chosen(settings: Settings, choice: Choice) -> Iterator[Raw | Piece]:
    config = settings.kafka_config()
    if choice.place:
        topic, partition, offset = parse_place(choice.place)
        if topic != choice.topic:
            raise Misused(f"{choice.place} is not on {choice.topic}")
        follower: Follower = At(config, topic, partition, offset)
    else:
        follower = Since(config, choice.topic, choice.from_ms)
    try:
        for found in assembled(_pieces(follower, choice)):
            if choice.place and found.place != choice.place:
                raise Failed(f"{choice.place} is no beginning of a request of {choice.connection}")
            if choice.place or isinstance(found, Piece) or choice.takes(found):
                yield found
            if choice.place:
                return
    finally:
        follower.close()


def _pieces(follower: Follower, choice: Choice) -> Iterator[Piece]:
    for record in follower.read_to_end():
        if (record.key() or b"").decode(errors="replace") != choice.connection:
            continue
        place = f"{record.topic()}-{record.partition()}-{record.offset()}"
        yield Piece(place, choice.connection, headers_of(record), record.value() or b"")


def events_of(
    settings: Settings, codec: Codec, choice: Choice, made: list[Made]
) -> dict[str, PlatformEvent]:
    """Those on the topic that bear an id or a trace of what was made; of repeats the newest."""
    if not made:
        return {}
    wanted = {i for one in made for i in one.events}
    traces = {one.raw.trace for one in made}
    first_ms = min(one.raw.received_ms for one in made)
    topic = topics.events_of(choice.platform)
    follower = Since(settings.kafka_config(), topic, first_ms - SLACK_MS)
    found: dict[str, PlatformEvent] = {}
    try:
        for record in follower.read_to_end():
            headers = headers_of(record)
            if headers.get("ce_id") in wanted or headers.get("traceparent") in traces:
                try:
                    event = codec.decode_as(PlatformEvent, record.value())
                except Undecodable:
                    continue
                found[event.event_id] = event
    finally:
        follower.close()
    return found


def publish(
    settings: Settings,
    difference: Difference,
    made: Sequence[Made],
    parked: Mapping[str, ParkedRecord],
    *,
    quarantine: bool,
) -> int:
    """-> events published. First the events, then the end of what was parked.

    Of a request out of the quarantine everything is written that the gateway would have written.
    Raises Failed where Kafka did not take all of it: a repeat goes on.
    """
    missing = {event.event_id for _, event, _ in difference.missing}
    records: list[Written] = [record for _, _, record in difference.missing]
    if quarantine:
        lacking = [
            one for one in made if missing & one.events.keys() or one.refused.keys() - parked.keys()
        ]
        records = [record for one in lacking for record in one.records]
    _send(settings, records)
    _send(settings, [(topics.PARKED, parked_id, None, []) for parked_id in difference.settled])
    return len(missing)


Written = tuple[str, str, bytes | None, Headers]


def _send(settings: Settings, records: Sequence[Written]) -> None:
    if not records:
        return
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer({**settings.kafka_config(), **SETTINGS})
    for topic, key, value, headers in records:
        while True:
            try:
                producer.produce(topic, value, key, headers=headers, on_delivery=delivered)
                break
            except BufferError:  # ends: what is not taken fails after its delivery time-out
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(FLUSH_S)
    if failed or left:
        raise Failed(f"Kafka did not take {len(failed) + left} of {len(records)}: run it again")

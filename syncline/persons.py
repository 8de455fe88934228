"""One person, as somebody at a terminal names them: found, and acted on."""

import re
from collections.abc import Sequence

from audit import story
from audit.read import Log
from schemas import topics
from schemas.codec import Codec
from schemas.control import Act
from syncline import cluster, unparking
from syncline.errors import Failed, Misused
from syncline.settings import Settings
from syncline.watching import Watch

__all__ = ["ask", "key_of"]

ROWS_S = 3.0
"""What was done is confirmed in the same transaction as its rows are told, but these stand in other
partitions of the journal, and may be read a moment later."""
PERSON = re.compile(r"[0-9a-f]{32}")


def key_of(settings: Settings, codec: Codec, asked: str) -> str:
    """The person of a key, an object key or an address. Anything but a key is looked for in what
    has arrived: slow on a large log. Raises Failed where nobody is known by it, Misused where
    several are."""
    if PERSON.fullmatch(asked):
        return asked
    names = [*map(topics.events_of, cluster.platforms(settings)), topics.RESOLVED]
    log = Log(settings.kafka_config(), codec, names)
    meant = story.find(log.read_to_end(), asked, whole_person=True)
    log.close()
    if not meant.persons:
        raise Failed(f"nobody is known by {asked}")
    if len(meant.persons) > 1:
        raise Misused(f"{asked} is more than one person: say {', '.join(sorted(meant.persons))}")
    return meant.persons.pop()


def ask(
    watch: Watch, made: Sequence[Act], asked: unparking.Asked, wait_s: float, nothing: str
) -> None:
    """Ask for it and wait for what comes of it. Raises Failed where nobody answers, and with
    `nothing` where there was nothing to do."""
    watch.ask(made)
    heard = watch.until(lambda answers: unparking.settled(answers, asked), wait_s)
    if not heard and not watch.answers.confirmed:
        raise Failed(f"no answer within {wait_s:g} s: is a streams worker running?")
    if not watch.answers.done:
        raise Failed(nothing)
    if asked.events and not watch.answers.rows_of(asked.events):
        watch.until(lambda answers: bool(answers.rows_of(asked.events)), ROWS_S)
        watch.until(lambda answers: unparking.settled(answers, asked), wait_s)

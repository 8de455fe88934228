"""`syncline resend`."""

import re
from typing import Annotated

import typer

from audit import story
from audit.read import Log
from schemas import topics
from schemas.codec import Codec
from syncline import cluster, unparking
from syncline.errors import Failed, Misused
from syncline.settings import Settings
from syncline.watching import Watch

app = typer.Typer()

PERSON = re.compile(r"[0-9a-f]{32}")


@app.command()
def resend(
    person: Annotated[str, typer.Argument(help="A person's key, an object key, or an address.")],
    sync: Annotated[str, typer.Option(help="Only for this sync, also if it never came by.")] = "",
    why: Annotated[str, typer.Option(help="Reason, kept in the journal.")] = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait until it is done.")] = 30.0,
) -> None:
    """Send all that is known of one person again now, before bulk work, whether it is equal to what
    was written last or not. What is newer at the destination stays, and no fact is repeated."""
    with cluster.connected() as (settings, codec):
        key = person if PERSON.fullmatch(person) else _found(settings, codec, person)
        with Watch(settings, codec) as watch:
            made = unparking.resend([key], sync, why)
            asked = unparking.Asked(confirmations=1, events={a.act_id for a in made})
            watch.ask(made)
            heard = watch.until(lambda answers: unparking.settled(answers, asked), wait)
            if not heard and not watch.answers.confirmed:
                raise Failed(f"no answer within {wait:g} s: is a streams worker running?")
            if not watch.answers.done:
                raise Failed(f"nothing is known of {person} that a sync would send")
            unparking.tell(watch.answers, asked, waited=True)


def _found(settings: Settings, codec: Codec, asked: str) -> str:
    """Reads what has arrived: slow on a large log. Raises Failed, Misused."""
    names = [*map(topics.events_of, cluster.platforms(settings)), topics.RESOLVED]
    log = Log(settings.kafka_config(), codec, names)
    meant = story.find(log.read_to_end(), asked, whole_person=True)
    log.close()
    if not meant.persons:
        raise Failed(f"nobody is known by {asked}")
    if len(meant.persons) > 1:
        raise Misused(f"{asked} is more than one person: say {', '.join(sorted(meant.persons))}")
    return meant.persons.pop()

"""`syncline unjoin`."""

import re
from typing import Annotated

import typer

from audit import story
from audit.read import Log
from schemas import topics
from schemas.control import ActKind, Target
from syncline import acts, cluster, unparking
from syncline.errors import Failed, Misused
from syncline.watching import Watch

app = typer.Typer()

PERSON = re.compile(r"[0-9a-f]{32}")


@app.command()
def unjoin(
    person: Annotated[
        str, typer.Argument(help="The person who was joined to another: its key, or an object key.")
    ],
    why: Annotated[str, typer.Option(help="Reason, kept in the journal.")] = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait until it is heard.")] = 30.0,
) -> None:
    """Give a person who was joined to another its own objects back, at the source and at the
    destinations, and send both again, what is parked of them too. Done when nothing of the two is
    out. They are not joined again by the same key."""
    with cluster.connected() as (settings, codec):
        key = person
        if not PERSON.fullmatch(person):
            names = [*map(topics.events_of, topics.PLATFORMS), topics.RESOLVED]
            log = Log(settings.kafka_config(), codec, names)
            persons = story.find(log.read_to_end(), person).persons
            log.close()
            if len(persons) != 1:
                raise Misused(f"{person} names {len(persons)} persons: give a person's key")
            [key] = persons
        with Watch(settings, codec) as watch:
            act = acts.act(ActKind.unjoin, targets=[Target(parked_id="", person=key)], why=why)
            asked = unparking.Asked(confirmations=1)
            watch.ask([act])
            heard = watch.until(lambda answers: unparking.settled(answers, asked), wait)
            if not heard and not watch.answers.confirmed:
                raise Failed(f"no answer within {wait:g} s: is a streams worker running?")
            if not watch.answers.done:
                raise Failed(f"{key} is joined to nobody")
            print(f"{key} has its own row again as soon as nothing of it is out")

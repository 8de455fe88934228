"""`syncline resend`."""

from typing import Annotated

import typer

from syncline import cluster, persons, unparking
from syncline.watching import Watch

app = typer.Typer()


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
        key = persons.key_of(settings, codec, person)
        with Watch(settings, codec) as watch:
            made = unparking.resend([key], sync, why)
            asked = unparking.Asked(confirmations=1, events={a.act_id for a in made})
            nothing = f"nothing is known of {person} that a sync would send"
            persons.ask(watch, made, asked, wait, nothing)
            unparking.tell(watch.answers, asked, waited=True)

"""`syncline unjoin`."""

from typing import Annotated

import typer

from schemas.control import ActKind, Target
from syncline import acts, cluster, persons, unparking
from syncline.options import Why
from syncline.watching import Watch

app = typer.Typer()


@app.command()
def unjoin(
    person: Annotated[
        str, typer.Argument(help="The person who was joined to another: its key, or an object key.")
    ],
    why: Why = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait until it is heard.")] = 30.0,
) -> None:
    """Give a person who was joined to another its own objects back, at the source and at the
    destinations, and send both again, what is parked of them too. Done when nothing of the two is
    out. They are not joined again by the same key."""
    with cluster.connected() as (settings, codec):
        key = persons.key_of(settings, codec, person)
        act = acts.act(ActKind.unjoin, targets=[Target(parked_id="", person=key)], why=why)
        with Watch(settings, codec) as watch:
            asked = unparking.Asked(confirmations=1)
            persons.ask(watch, [act], asked, wait, f"{key} is joined to nobody")
        print(f"{key} has its own row again as soon as nothing of it is out")

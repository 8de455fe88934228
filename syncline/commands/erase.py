"""`syncline erase`."""

from typing import Annotated

import typer

from schemas.control import ActKind, Target
from syncline import acts, cluster, persons, unparking
from syncline.options import Why
from syncline.watching import Watch

app = typer.Typer()


@app.command()
def erase(
    person: Annotated[str, typer.Argument(help="A person's key, an object key, or an address.")],
    why: Why = "",
    yes: Annotated[bool, typer.Option(help="Do not ask: it cannot be taken back.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait until it is done.")] = 30.0,
) -> None:
    """Forget a person, as if a source had told a privacy deletion. Each sync does what it says in
    `kinds: forgotten`; nothing goes out of them again, and their values leave the tables. The
    source itself is left as it is."""
    with cluster.connected() as (settings, codec):
        key = persons.key_of(settings, codec, person)
        if not yes and not typer.confirm(f"forget {key} for good?"):
            raise typer.Exit(1)
        act = acts.act(ActKind.erase, targets=[Target(parked_id="", person=key)], why=why)
        with Watch(settings, codec) as watch:
            asked = unparking.Asked(confirmations=1, events={act.act_id})
            persons.ask(watch, [act], asked, wait, f"nothing is known of {person}")
            unparking.tell(watch.answers, asked, waited=True)

"""`syncline who`."""

from typing import Annotated

import typer

from syncline import cluster
from syncline.commands import explain
from syncline.errors import Failed

app = typer.Typer()


@app.command()
def who(
    address: Annotated[str, typer.Argument(help="An e-mail address, or an object or person key.")],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Who is behind an address: the person, its objects, and everything that was done for it."""
    with cluster.connected() as (settings, codec):
        meant, lines = explain.tell(settings, codec, address, whole_person=True)
    if not meant:
        raise Failed(f"nobody is known by {address}")
    if json_:
        print(
            cluster.as_json({
                "persons": sorted(meant.persons),
                "objects": sorted(meant.objects),
                "story": [{"at_ms": i.at_ms, "what": i.what, "place": i.place} for i in lines],
            })
        )  # fmt: skip
        return
    print("persons:", ", ".join(sorted(meant.persons)) or "not known yet")
    print("objects:", ", ".join(sorted(meant.objects)))
    explain.show(lines, json=False)

"""`syncline topics`."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from schemas.topics import TOPICS
from syncline import cluster
from syncline.settings import Settings

app = typer.Typer(
    help="The topics: who writes, who reads, how long they are kept.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """All topics on one page. Needs no cluster."""
    if json:
        print(cluster.as_json([_plain(t) for t in TOPICS]))
        return
    table = Table("topic", "key", "kept", "written by", "read by")
    for topic in TOPICS:
        kept = "newest of each key" if topic.kept_s is None else f"{topic.kept_s // 86400} d"
        table.add_row(topic.name, topic.key, kept, topic.writers, topic.readers)
    Console().print(table)


@app.command()
def create() -> None:
    """Create what is missing in the cluster, and register the schemas. A repeat changes nothing."""
    created = cluster.create_topics(cluster.located(Settings()))
    print(f"created {len(created)} topics" if created else "all topics are there")


@app.command()
def describe(name: str, json: Json = False) -> None:
    """One topic: what is on it."""
    found = next((t for t in TOPICS if t.name == name), None)
    if found is None:
        raise typer.BadParameter(f"no topic {name}; `syncline topics list` shows all")
    plain = _plain(found)
    print(cluster.as_json(plain) if json else "\n".join(f"{k:10} {v}" for k, v in plain.items()))


def _plain(topic: object) -> dict[str, object]:
    fields = {k: getattr(topic, k) for k in topic.__dataclass_fields__}  # type: ignore[attr-defined]
    return {**fields, "values": [m.__name__ for m in fields["values"]]}

"""`syncline topics`."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from connectors.registry import platforms
from schemas.follow import Definitions
from schemas.topics import TOPICS, Topic, of_platform, topics_of
from syncline import cluster
from syncline.options import Json
from syncline.settings import Settings

app = typer.Typer(
    help="The topics: who writes, who reads, how long they are kept.", no_args_is_help=True
)


@app.command("list")
def list_(json: Json = False) -> None:
    """All topics that every cluster has, on one page. Needs no cluster.

    A platform that only a configuration names has four like those of HubSpot.
    """
    if json:
        print(cluster.as_json([_plain(t) for t in TOPICS]))
        return
    table = Table()
    table.add_column("topic", no_wrap=True)
    for name in ("key", "kept", "written by", "read by"):
        table.add_column(name, overflow="fold")
    for topic in TOPICS:
        table.add_row(topic.name, topic.key, _kept(topic), topic.writers, topic.readers)
    Console().print(table)


@app.command()
def create(json: Json = False) -> None:
    """Create what is missing in the cluster, and register the schemas. A repeat changes nothing."""
    settings = cluster.located(Settings())
    created = cluster.create_topics(settings)
    definitions = Definitions(settings.kafka_config(), cluster.codec(settings))
    created += cluster.create_topics(settings, topics_of(definitions.platforms()), schemas=False)
    definitions.close()
    if json:
        print(cluster.as_json({"created": created}))
    else:
        print(f"created {len(created)} topics" if created else "all topics are there")


@app.command()
def describe(name: Annotated[str, typer.Argument(help="Its name.")], json: Json = False) -> None:
    """One topic: what is on it. Needs no cluster."""
    platform = name.partition(".")[2]
    known = (*TOPICS, *(of_platform(platform) if platform in platforms() else ()))
    found = next((t for t in known if t.name == name), None)
    if found is None:
        raise typer.BadParameter(f"no topic {name}; `syncline topics list` shows all")
    plain = _plain(found)
    if json:
        print(cluster.as_json(plain))
        return
    for key, value in plain.items():
        text = _kept(found) if key == "kept_s" else value
        if isinstance(value, list):
            text = ", ".join(value) or "bytes"
        elif isinstance(value, dict):
            text = ", ".join(f"{k}={v}" for k, v in value.items())
        print(f"{key.removesuffix('_s'):10} {text}")


def _kept(topic: Topic) -> str:
    return "newest of each key" if topic.kept_s is None else f"{topic.kept_s // 86400} d"


def _plain(topic: Topic) -> dict[str, Any]:
    values = [message.__name__ for message in topic.values]
    return {**asdict(topic), "values": values, "settings": cluster.topic_config(topic)}

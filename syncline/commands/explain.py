"""`syncline explain`."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from audit import story
from audit.read import Log
from schemas import topics
from schemas.codec import Codec
from syncline import cluster
from syncline.errors import Failed
from syncline.settings import Settings

app = typer.Typer()


@app.command()
def explain(
    record: Annotated[
        str,
        typer.Argument(help="RUN:RECORD_NO, or a row, event, parked, object or person id."),
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What arrived, what was decided and why, what the platform said: the story of one record."""
    with cluster.connected() as (settings, codec):
        meant, lines = tell(settings, codec, record)
    if not meant:
        raise Failed(f"nothing is known of {record}")
    show(lines, json_)


def tell(
    settings: Settings, codec: Codec, asked: str, *, whole_person: bool = False
) -> tuple[story.Meant, list[story.Line]]:
    """Reads every topic that says something of records: slow on a large log."""
    platforms = cluster.platforms(settings)
    names = [
        *(f(p) for f in (topics.events_of, topics.commands_of, topics.outcomes_of)
          for p in platforms),
        topics.RESOLVED, topics.CONTROL, topics.JOURNAL, topics.PARKED,
    ]  # fmt: skip
    log = Log(settings.kafka_config(), codec, names)
    held = story.everything(log)
    log.close()
    meant = story.find(held, asked, whole_person=whole_person)
    # Twice: rows are learnt from the journal, and outcomes stand on topics read before it.
    story.story(held, meant)
    return meant, story.story(held, meant)


def show(lines: list[story.Line], json: bool) -> None:
    if json:
        rows = [{"at_ms": line.at_ms, "place": line.place, "what": line.what} for line in lines]
        print(cluster.as_json(rows))
        return
    for line in lines:
        at = datetime.fromtimestamp(line.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        print(f"{at}  {line.what}  [{line.place}]")

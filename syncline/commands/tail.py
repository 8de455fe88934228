"""`syncline tail`."""

import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer
from confluent_kafka import Message as Record

from schemas import topics
from schemas.codec import Codec, Undecodable
from schemas.follow import Definitions
from syncline import cluster
from syncline.errors import Failed
from syncline.settings import Settings
from syncline.since import Since, parse_span
from syncline.tailing import Arrived, Line, Tail, topics_of

app = typer.Typer()

POLL_S = 0.2


@app.command()
def tail(
    connection: Annotated[str, typer.Argument(help="Name of the connection.")],
    since: Annotated[
        str, typer.Option(help="Begin so long ago: 90s, 10m, 6h, 2d. Empty: now.")
    ] = "",
    for_: Annotated[
        float, typer.Option("--for", metavar="SECONDS", min=0, help="End then; 0: at Ctrl-C.")
    ] = 0,
    count: Annotated[int, typer.Option(min=0, help="End after so many lines; 0: never.")] = 0,
    values: Annotated[
        bool, typer.Option("--values", help="Tell what the fields hold: personal data.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """What arrives for a connection, live, and what becomes of it: events, parked parts, refused
    requests, and where each row stands. Ctrl-C ends it."""
    with cluster.connected() as (settings, codec):
        platform = platform_of(settings, codec, connection)
        since_ms = time.time_ns() // 1_000_000 - parse_span(since) if since else None
        follower = Since(settings.kafka_config(), topics_of(platform), since_ms)
        try:
            if not json_:
                print(f"{connection} ({platform}): Ctrl-C ends", flush=True)
            lines = _lines(follower, codec, Tail(connection, values=values), for_)
            for line in islice(lines, count or None):
                print(json.dumps(line.plain()) if json_ else line, flush=True)
        except KeyboardInterrupt:
            return
        except BrokenPipeError:  # `| head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            follower.close()


def platform_of(settings: Settings, codec: Codec, connection: str) -> str:
    """Raises Failed where there is no such connection."""
    definitions = Definitions(settings.kafka_config(), codec)
    found = definitions.connections()
    definitions.close()
    if connection not in found:
        there = ", ".join(sorted(found)) or "none"
        raise Failed(f"no connection {connection}; there are: {there}")
    return found[connection].platform


def _lines(follower: Since, codec: Codec, watched: Tail, for_s: float) -> Iterator[Line]:
    deadline = time.monotonic() + for_s
    while not for_s or time.monotonic() < deadline:
        lines = [
            line
            for record in follower.poll(POLL_S)
            if (arrived := arrived_from(record, codec)) is not None
            for line in watched.take(arrived)
        ]
        yield from sorted(lines, key=lambda line: line.at_ms)


def arrived_from(record: Record, codec: Codec) -> Arrived | None:
    """None: what cannot be decoded."""
    topic, value = record.topic() or "", record.value()
    raw = topic == topics.QUARANTINE or topic.startswith(topics.intake_of(""))
    try:
        message = None if raw or value is None else codec.decode(value)
    except Undecodable:
        return None
    return Arrived(
        topic,
        record.partition() or 0,
        record.offset() or 0,
        record.timestamp()[1],
        (record.key() or b"").decode(errors="replace"),
        headers_of(record),
        len(value or b""),
        message,
    )


def headers_of(record: Record) -> dict[str, str]:
    """Bytes that are no text survive as surrogates."""
    return {
        name: value if isinstance(value, str) else (value or b"").decode(errors="surrogateescape")
        for name, value in record.headers() or []
    }

"""`syncline replay`."""

import time
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from audit.read import parked_records
from schemas.codec import Codec
from schemas.events import PlatformEvent
from schemas.follow import Definitions
from schemas.parked import ParkedRecord, Stage
from schemas.secrets import SecretMissing, resolve
from syncline import cluster
from syncline.errors import Failed, Misused
from syncline.rerun import Choice, events_of, made_of, publish
from syncline.settings import Settings
from syncline.since import parse_span
from webhook_gateway.replay import Difference, compared
from webhook_gateway.routes import Route, Routes

app = typer.Typer(help="Run what was received through today's code again.", no_args_is_help=True)

SHOWN = 20


@app.callback()
def _group() -> None:
    """Keeps `intake` a word of its own."""


@app.command()
def intake(
    connection: Annotated[
        str, typer.Argument(help="Name of the connection; not needed with --parked.")
    ] = "",
    since: Annotated[str, typer.Option(help="Requests received since: 90s, 10m, 6h, 2d ago.")] = "",
    until: Annotated[str, typer.Option(help="And not later than so long ago.")] = "0s",
    parked: Annotated[
        str, typer.Option(metavar="ID", help="The request of which this part was parked.")
    ] = "",
    at: Annotated[
        str, typer.Option(metavar="PLACE", help="One request: TOPIC-PARTITION-OFFSET.")
    ] = "",
    quarantine: Annotated[
        bool,
        typer.Option(
            "--quarantine", help="Refused requests, that a secret put right since may prove."
        ),
    ] = False,
    public_url: Annotated[
        str,
        typer.Option(
            envvar="SYNCLINE_PUBLIC_URL", help="As the gateway was told; for --quarantine."
        ),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Requests at most.")] = 10_000,
    yes: Annotated[
        bool, typer.Option("--yes", help="Publish the events that are missing.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run raw requests through today's normaliser; show what would differ from the topics.

    With --yes the events that are missing are published, under the ids that they would have had and
    marked `origin: replay`, and parts that were parked and are events now are settled. What is on
    the topic stays as it is. A repeat publishes nothing.
    """
    if sum(map(bool, (since, parked, at))) != 1:
        raise Misused("choose requests by one of --since, --parked and --at")
    with cluster.connected() as (settings, codec):
        there = parked_records(settings.kafka_config(), codec)
        now_ms = time.time_ns() // 1_000_000
        if parked:
            connection, from_ms, until_ms = _of_parked(there, parked)
        else:
            from_ms = now_ms - parse_span(since) if since else 0
            until_ms = now_ms - parse_span(until)
        route = _route(settings, codec, connection, proofs=quarantine)
        choice = Choice(
            connection, route.connection.platform, quarantine, from_ms, until_ms, place=at
        )
        made, unproven, pieces = made_of(settings, choice, route, public_url, limit)
        difference = compared(made, events_of(settings, codec, choice, made), there)
        published = 0
        if yes:
            published = publish(settings, difference, made, there, quarantine=quarantine)
    _show(difference, unproven, pieces, published, yes, json_)


def _of_parked(there: dict[str, ParkedRecord], parked_id: str) -> tuple[str, int, int]:
    record = there.get(parked_id)
    if record is None or record.stage is not Stage.intake:
        raise Failed(f"{parked_id} is not parked at intake; `syncline parked list` shows all")
    return record.connection, record.first_ms, record.first_ms


def _route(settings: Settings, codec: Codec, connection: str, *, proofs: bool) -> Route:
    """As the gateway serves the connection. Where nothing is proven, secrets that this shell does
    not have are not needed: the same reference means the same secret."""

    def resolved(reference: str) -> SecretStr:
        try:
            return resolve(reference)
        except SecretMissing:
            if proofs:
                raise
            return SecretStr(reference)

    definitions = Definitions(settings.kafka_config(), codec)
    routes = Routes(codec, resolved)
    wrong = routes.load(definitions.active("connection").values())
    definitions.close()
    if (route := routes.table.get(connection)) is not None:
        return route
    for error in wrong:
        if f"connection {connection}:" in str(error):
            raise Misused(str(error))
    there = ", ".join(sorted(routes.table)) or "none"
    raise Misused(f"no connection {connection!r} that receives webhooks; there are: {there}")


def _show(
    d: Difference, unproven: dict[str, int], loose: int, published: int, yes: bool, json: bool
) -> None:
    if json:
        print(cluster.as_json(_plain(d, unproven, loose, published)))
        return
    print(f"{d.requests} requests: {d.same} events as they are on the topic")
    for why, count in sorted(unproven.items()):
        print(f"{count} requests are still refused: {why}")
    if loose:
        print(f"{loose} pieces of requests that begin or end outside of what was chosen")
    _lines("missing, would be published" if not yes else "missing, published", [
        f"{_about(event)}  [{place}]" for place, event, _ in d.missing
    ])  # fmt: skip
    _lines("otherwise today, left as they are: the steps take the same id for a repeat", [
        f"{_about(event)}: {', '.join(fields)}  [{place}]" for place, event, fields in d.changed
    ])  # fmt: skip
    _lines("on the topic, not made of these requests today", [_about(e) for e in d.gone])
    _lines("parts of which no event can be made", [
        f"part {p.position}: {p.words}  [{place}]" for place, p in d.refused
    ])  # fmt: skip
    _lines("parked, now events" + (": settled" if yes else ", would be settled"), d.settled)
    if not yes and (d.missing or d.settled):
        print("nothing was published: say --yes")


def _lines(about: str, lines: list[str]) -> None:
    if not lines:
        return
    print(f"{len(lines)} {about}")
    for line in lines[:SHOWN]:
        print(f"  {line}")
    if len(lines) > SHOWN:
        print(f"  and {len(lines) - SHOWN} more; --json shows all")


def _about(event: PlatformEvent) -> str:
    return f"{event.object_key} {event.platform_kind or event.kind} {event.event_id}"


def _plain(d: Difference, unproven: dict[str, int], loose: int, published: int) -> dict[str, Any]:
    """No values of persons."""
    return {
        "requests": d.requests,
        "still_refused": unproven,
        "loose_pieces": loose,
        "same": d.same,
        "missing": [{"event": _named(e), "place": place} for place, e, _ in d.missing],
        "changed": [{"event": _named(e), "place": p, "fields": f} for p, e, f in d.changed],
        "gone": [_named(e) for e in d.gone],
        "refused": [
            {"parked_id": p.parked_id, "position": p.position, "why": p.words, "place": place}
            for place, p in d.refused
        ],
        "settled": d.settled,
        "published": published,
    }


def _named(event: PlatformEvent) -> dict[str, str]:
    return {
        "event_id": event.event_id,
        "object": event.object_key,
        "kind": event.platform_kind or str(event.kind),
    }

"""`syncline parked`: see, mend and release what is stuck."""

import json
import time
from collections import Counter
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from audit.causes import cause_of, causes
from audit.read import latest
from schemas import topics
from schemas.codec import Codec
from schemas.control import ActKind
from schemas.journal import JournalEntry
from schemas.parked import Fix, ParkedRecord
from streams.definitions import Catalogs
from syncline import acts, cluster, undoing, unparking
from syncline.errors import Failed, Misused
from syncline.mending import Mend, Tried, grouped, parse, tried
from syncline.options import Json, Why
from syncline.selecting import Selection, selecting
from syncline.settings import Settings
from syncline.since import Since, decoded, parse_span
from syncline.watching import Watch

app = typer.Typer(
    help="What is stuck: list, show, test, fix, release, undo, discard.", no_args_is_help=True
)

SHOWN = 20
All = Annotated[bool, typer.Option("--all", help="All that the other options select.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait until it has happened; 0: do not.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="FIELD=VALUE, a field of the source. May be repeated."),
]
Rule = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        help="FIELD=EXPRESSION over `record`, as in mappings, or the name of a function: "
        "lifecyclestage=trim. May be repeated.",
    ),
]


@app.command("list")
def list_(
    sync: Annotated[str, typer.Option(help="Only this sync.")] = "",
    code: Annotated[str, typer.Option(help="Only this code.")] = "",
    field: Annotated[str, typer.Option(help="Only where this field was refused.")] = "",
    group: Annotated[str, typer.Option(help="Only this group.")] = "",
    records: Annotated[bool, typer.Option("--records", help="One line a record.")] = False,
    json_: Json = False,
) -> None:
    """Parked records by cause, the largest group first; with --group or --records each of them."""
    with cluster.connected() as (settings, codec):
        found = Selection(None, sync, code, field, group).any(settings, codec)
    if records or group:
        _print_records(found, json_)
    else:
        _print_causes(found, json_)


def _print_causes(found: list[ParkedRecord], json_: bool) -> None:
    groups = [
        {
            "group": cause.group, "records": len(of), "sync": cause.sync, "stage": cause.stage,
            "code": cause.code, "field": cause.field, "value": cause.pattern,
            "words": of[0].words, "since_ms": of[0].first_ms,
        }
        for cause, of in causes(found).items()
    ]  # fmt: skip
    if json_:
        print(cluster.as_json(groups))
        return
    columns = ("group", "records", "sync", "stage", "code", "field", "value", "words")
    table = Table(*columns[:-1], "the platform's words (of one of them)")
    for g in groups:
        table.add_row(*(str(g[name]) for name in columns))
    Console().print(table)
    print(f"{len(found):,} parked in {len(groups)} groups")


def _print_records(found: list[ParkedRecord], json_: bool) -> None:
    if json_:
        print(cluster.as_json([plain(r) for r in found]))
        return
    table = Table("id", "code", "field", "tries", "the platform's words")
    for r in found:
        table.add_row(r.parked_id, r.code, r.field, str(r.attempts), r.words)
    Console().print(table)
    print(f"{len(found):,} parked")


@app.command()
def show(parked_id: str, json_: Json = False) -> None:
    """One parked record with everything that is known of it."""
    with cluster.connected() as (settings, codec):
        [record] = Selection([parked_id]).any(settings, codec)
    out = plain(record)
    print(cluster.as_json(out) if json_ else "\n".join(f"{k:12} {v}" for k, v in out.items()))


@app.command("test")
@selecting
def try_(
    chosen: Selection,
    set_: Set = None,
    rule: Rule = None,
    json_: Json = False,
) -> None:
    """What a fix would do: mapped and validated as a release would, and nothing is sent.

    Without --set and --rule: what a release as it is would do, after a new mapping version, say.
    Exit 1 where it would not help all of them.
    """
    mend = parse(set_ or [], rule or [])
    with cluster.connected() as (settings, codec):
        records = chosen.of(settings, codec)
        results = _tried(settings, codec, records, mend)
    helped = sum(not r.why for r in results)
    if json_:
        print(cluster.as_json([
            {"parked_id": r.parked_id, "ok": not r.why, "why": r.why, "changed": r.changed,
             "fields": dict(r.fields)}
            for r in results
        ]))  # fmt: skip
    else:
        for r in [r for r in results if not r.why][:3]:
            print(f"  {r.parked_id}: " + ", ".join(f"{f}: {r.fields[f]!r}" for f in r.changed))
        whys = Counter(r.why for r in results if r.why)
        for why, count in whys.most_common(SHOWN):
            print(f"  {count:,} would not be helped: {why}")
        print(f"{helped:,} of {len(results):,} would be sent with these values; nothing was sent")
    if helped < len(results):
        raise typer.Exit(1)


@app.command()
@selecting
def fix(
    chosen: Selection,
    set_: Set = None,
    rule: Rule = None,
    release_too: Annotated[
        bool, typer.Option("--release", help="And release them at once.")
    ] = False,
    why: Why = "",
    wait: Wait = 30.0,
) -> None:
    """Put other values in place of the source's. They apply as long as the source still says
    what it said; `release` sends the record with them. `parked test` shows first what they do."""
    mend = parse(set_ or [], rule or [])
    if not mend:
        raise Misused("nothing to fix: give at least one --set FIELD=VALUE or --rule FIELD=…")
    with cluster.connected() as (settings, codec):
        records = chosen.of(settings, codec)
        groups, left = grouped(records, mend)
        for parked_id, words in list(left.items())[:SHOWN]:
            typer.echo(f"  {parked_id}: left as it is: {words}", err=True)
        fixed = {t.parked_id for _, _, targets in groups for t in targets}
        if not fixed:
            raise Failed("nothing was fixed")
        made = [
            acts.act(ActKind.fix, sync=s, targets=targets, values=values, why=why)
            for s, values, targets in groups
        ]
        with Watch(settings, codec) as watch:
            watch.ask(made)
            print(f"fix: asked for {len(fixed):,} records")
            if release_too:
                mended = [r for r in records if r.parked_id in fixed]
                _settle(settings, codec, watch, ActKind.release, mended, why, wait)


@app.command()
@selecting
def release(
    chosen: Selection,
    why: Why = "",
    wait: Wait = 30.0,
) -> None:
    """Send parked records again, with their fixes, before bulk work; say where each stands then."""
    with cluster.connected() as (settings, codec), Watch(settings, codec) as watch:
        records = chosen.of(settings, codec)
        _settle(settings, codec, watch, ActKind.release, records, why, wait)


@app.command()
@selecting
def discard(
    chosen: Selection,
    why: Why = "",
    wait: Wait = 30.0,
) -> None:
    """Give parked records up; the reason is kept for ever."""
    if not why:
        raise Misused("say why: --why 'test record of the agency'")
    with cluster.connected() as (settings, codec), Watch(settings, codec) as watch:
        records = chosen.of(settings, codec)
        _settle(settings, codec, watch, ActKind.discard, records, why, wait)


def _settle(
    settings: Settings, codec: Codec, watch: Watch, kind: ActKind, chosen: list[ParkedRecord],
    why: str, wait_s: float,
) -> None:  # fmt: skip
    """Ask, and wait until every record has its fate or waits for something that has a name."""
    asked = unparking.ask(settings, codec, watch, kind, chosen, why)
    print(f"{kind.value}: asked for {len(chosen) - len(asked.left):,} records")
    if wait_s and (asked.rows or asked.confirmations):
        watch.until(lambda answers: unparking.settled(answers, asked), wait_s)
    unparking.tell(watch.answers, asked, waited=bool(wait_s))


@app.command()
def released(
    since: Annotated[str, typer.Option(help="Of so long: 90m, 6h, 2d.")] = "1d",
    json_: Json = False,
) -> None:
    """Records that somebody has released, and where each stands now: for `parked undo`."""
    with cluster.connected() as (settings, codec):
        found = _released(settings, codec, since)
    if json_:
        print(cluster.as_json([r.__dict__ for r in found]))
        return
    table = Table("id", "sync", "record", "who", "why", "stands")
    for r in found:
        record = f"{r.run}:{r.record_no}" if r.run else r.row_id
        table.add_row(r.row_id, r.sync, record, r.who, r.why, r.standing)
    Console().print(table)
    print(f"{len(found):,} released, {sum(r.can_be_undone for r in found):,} of them written")


@app.command()
def undo(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids, as `parked released` shows.")
    ] = None,
    since: Annotated[str, typer.Option(help="Released within: 90m, 6h, 2d.")] = "1d",
    sync: Annotated[str, typer.Option(help="Only this sync.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="All of that time.")] = False,
    why: Why = "",
    wait: Wait = 30.0,
) -> None:
    """Put back what stood at the destination just before a release.

    It is read there first: a field that holds something else by now is left as it is. What is put
    back stays until the source says something new. What a release has made is not taken away.
    """
    if not ids and not all_:
        raise Misused("name records by id, as `parked released` shows, or say --all")
    with cluster.connected() as (settings, codec):
        there = _released(settings, codec, since)
        known = {r.row_id for r in there}
        if missing := [i for i in ids or [] if i not in known]:
            raise Failed(f"not released within {since}: {', '.join(missing)}")
        chosen = [
            r for r in there
            if (not ids or r.row_id in ids) and sync in ("", r.sync) and r.can_be_undone
        ]  # fmt: skip
        if not chosen:
            raise Failed("none of them is written: `syncline parked released` shows how they stand")
        made, rows = undoing.asked(chosen, why)
        asked = unparking.Asked(rows=rows, confirmations=len({(r.sync, r.person) for r in chosen}))
        with Watch(settings, codec) as watch:
            watch.ask(made)
            print(f"undo: asked for {len(chosen):,} records")
            if wait:
                watch.until(lambda answers: unparking.settled(answers, asked), wait)
            unparking.tell(watch.answers, asked, waited=bool(wait))


def _released(settings: Settings, codec: Codec, since: str) -> list[undoing.Released]:
    from_ms = time.time_ns() // 1_000_000 - parse_span(since)
    log = Since(settings.kafka_config(), topics.JOURNAL, from_ms)
    try:
        messages = decoded(log.read_to_end(), codec)
        return undoing.released(m for m in messages if isinstance(m, JournalEntry))
    finally:
        log.close()


@app.command()
def fixes(json_: Json = False) -> None:
    """Values that people have put in place and that still apply, the oldest first."""
    with cluster.connected() as (settings, codec):
        there = _fixes(settings, codec)
    if json_:
        print(cluster.as_json([_plain_fix(name, f) for name, f in there.items()]))
        return
    table = Table("id", "object", "field", "the source says", "taken instead", "who", "why")
    for name, f in there.items():
        table.add_row(
            name, f.source, f.field, f.was.decode(), f.value.decode(), f.who, f.why
        )  # fmt: skip
    Console().print(table)
    print(f"{len(there):,} fixes apply")


@app.command()
def unfix(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids, as `parked fixes` shows.")] = None,
    field: Annotated[str, typer.Option(help="Only fixes of this field of the source.")] = "",
    all_: All = False,
    resend: Annotated[
        bool, typer.Option("--resend", help="And send what the source says at once.")
    ] = False,
    why: Why = "",
    wait: Wait = 30.0,
) -> None:
    """Let the source speak for itself again. Without --resend from its next change on."""
    if not ids and not all_:
        raise Misused("name fixes by id, or say --all (with --field)")
    with cluster.connected() as (settings, codec), Watch(settings, codec) as watch:
        there = _fixes(settings, codec)
        if missing := [i for i in ids or [] if i not in there]:
            raise Failed(f"no such fix: {', '.join(missing)}; `syncline parked fixes` shows all")
        chosen = [there[i] for i in ids] if ids else list(there.values())
        chosen = [f for f in chosen if not field or f.field == field]
        if not chosen:
            raise Failed("no fix matches; `syncline parked fixes` shows all")
        made = [unparking.unfix(f, why) for f in chosen]
        if resend:
            made += unparking.resend([f.person for f in chosen], "", why)
        asked = unparking.Asked(confirmations=len(made), events={a.act_id for a in made})
        watch.ask(made)
        watch.until(lambda answers: unparking.settled(answers, asked), wait)
        print(f"unfix: {len(chosen):,} fixes removed")
        if resend:
            unparking.tell(watch.answers, asked, waited=bool(wait))


def _tried(
    settings: Settings, codec: Codec, records: list[ParkedRecord], mend: Mend
) -> list[Tried]:
    """Each with the versions that are active, as a release takes them, and the fixes that apply."""
    kafka = settings.kafka_config()
    catalog = Catalogs(kafka, codec, b"").now
    standing: dict[str, dict[str, Any]] = {}
    for f in latest(kafka, codec, topics.FIXES, Fix).values():
        standing.setdefault(f.person, {})[f.field] = json.loads(f.value)
    results: list[Tried] = []
    for record in records:
        plan = catalog.plan(record.sync, {})
        source = catalog.connections.get(plan.source) if plan else None
        platform = source.platform if source else ""
        results.append(tried(record, mend, plan, platform, standing.get(record.person, {})))
    return results


def _fixes(settings: Settings, codec: Codec) -> dict[str, Fix]:
    """By a short name that a person can type."""
    found = latest(settings.kafka_config(), codec, topics.FIXES, Fix).values()
    ordered = sorted(found, key=lambda f: (f.when_ms, f.person, f.field))
    return {unparking.fix_id(f): f for f in ordered}


def _plain_fix(name: str, fix: Fix) -> dict[str, Any]:
    out = fix.model_dump(mode="python")
    return {"id": name, **out, "was": json.loads(fix.was), "value": json.loads(fix.value)}


def plain(record: ParkedRecord) -> dict[str, Any]:
    """For people and for --json: bytes as the JSON that they hold, where they hold any."""
    out = record.model_dump(mode="python")
    for name in ("source", "fields"):
        try:
            out[name] = json.loads(out[name])
        except ValueError:
            out[name] = out[name].decode(errors="replace")
    return out | {"group": cause_of(record).group}

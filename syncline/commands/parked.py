"""`syncline parked`: see, fix and release what is stuck."""

import json
import time
from collections import defaultdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from audit.read import parked_records
from schemas.codec import Codec
from schemas.control import ActKind, Target
from schemas.parked import ParkedRecord
from syncline import acts, cluster
from syncline.errors import Failed, Misused
from syncline.settings import Settings

app = typer.Typer(help="What is stuck: list, show, fix, release, discard.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Sync = Annotated[str, typer.Option(help="Only this sync.")]
Code = Annotated[str, typer.Option(help="Only this code, e.g. INVALID_EMAIL_ADDRESS.")]
Field = Annotated[str, typer.Option(help="Only where this destination field was refused.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids, as `parked list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="All that the other options select.")]
Why = Annotated[str, typer.Option(help="Reason, kept in the journal.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait until it has happened; 0: do not.")]


@app.command("list")
def list_(
    sync: Sync = "",
    code: Code = "",
    field: Field = "",
    group: Annotated[bool, typer.Option("--group", help="One line a cause.")] = False,
    json_: Json = False,
) -> None:
    """Parked records, the oldest first; with --group one line for each cause."""
    with cluster.connected() as (settings, codec):
        records = _selected(settings, codec, None, sync, code, field)
    if group:
        causes = _causes(records)
        if json_:
            print(cluster.as_json(causes))
            return
        table = Table(
            "records", "sync", "stage", "code", "field", "the platform's words (one of them)"
        )
        for c in causes:
            table.add_row(
                str(c["records"]), c["sync"], c["stage"], c["code"], c["field"], c["words"]
            )
        Console().print(table)
        return
    if json_:
        print(cluster.as_json([plain(r) for r in records]))
        return
    table = Table("id", "code", "field", "tries", "the platform's words")
    for r in records:
        table.add_row(r.parked_id, r.code, r.field, str(r.attempts), r.words)
    Console().print(table)
    print(f"{len(records)} parked")


@app.command()
def show(parked_id: str, json_: Json = False) -> None:
    """One parked record with everything that is known of it."""
    with cluster.connected() as (settings, codec):
        [record] = _selected(settings, codec, [parked_id], "", "", "")
    out = plain(record)
    print(cluster.as_json(out) if json_ else "\n".join(f"{k:12} {v}" for k, v in out.items()))


@app.command()
def fix(
    ids: Ids = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE, a field of the source. May be repeated."),
    ] = None,
    sync: Sync = "",
    code: Code = "",
    field: Field = "",
    all_: All = False,
    release_too: Annotated[
        bool, typer.Option("--release", help="And release them at once.")
    ] = False,
    why: Why = "",
    wait: Wait = 30.0,
) -> None:
    """Put other values in place of the source's. They apply as long as the source still says
    what it said; `release` sends the record with them."""
    values = dict(_pair(text) for text in set_ or [])
    if not values:
        raise Misused("nothing to fix: give at least one --set FIELD=VALUE")
    kinds = [ActKind.fix, *([ActKind.release] if release_too else [])]
    _act(kinds, ids, sync, code, field, all_, why, wait if release_too else 0, values)


@app.command()
def release(
    ids: Ids = None,
    sync: Sync = "",
    code: Code = "",
    field: Field = "",
    all_: All = False,
    why: Why = "",
    wait: Wait = 30.0,
) -> None:
    """Send parked records again, with their fixes, before bulk work."""
    _act([ActKind.release], ids, sync, code, field, all_, why, wait)


@app.command()
def discard(
    ids: Ids = None,
    sync: Sync = "",
    code: Code = "",
    field: Field = "",
    all_: All = False,
    why: Why = "",
    wait: Wait = 30.0,
) -> None:
    """Give parked records up; the reason is kept for ever."""
    if not why:
        raise Misused("say why: --why 'test record of the agency'")
    _act([ActKind.discard], ids, sync, code, field, all_, why, wait)


def _act(
    kinds: list[ActKind],
    ids: list[str] | None,
    sync: str,
    code: str,
    field: str,
    all_: bool,
    why: str,
    wait_s: float,
    values: dict[str, Any] | None = None,
) -> None:
    if not ids and not all_:
        raise Misused("name records by id, or say --all (with --sync, --code, --field)")
    with cluster.connected() as (settings, codec):
        records = _selected(settings, codec, ids, sync, code, field)
        if not records:
            raise Failed("no parked record matches; `syncline parked list` shows all")
        by_sync: dict[str, list[Target]] = defaultdict(list)
        for r in records:
            target = Target(parked_id=r.parked_id, person=r.person, row_id=r.row_id)
            by_sync[r.sync].append(target)
        for kind in kinds:
            acts.ask(
                settings,
                codec,
                [
                    acts.act(
                        kind, sync=s, targets=targets, why=why,
                        values=values if kind is ActKind.fix else None,
                    )
                    for s, targets in by_sync.items()
                ],
            )  # fmt: skip
        words = " and ".join(str(k) for k in kinds)
        print(f"{words}: asked for {len(records)} records")
        if wait_s:
            _report(settings, codec, records, wait_s)


def _report(settings: Settings, codec: Codec, records: list[ParkedRecord], wait_s: float) -> None:
    """Until none of them is parked as it was: settled, or parked anew with a later time."""
    before = {r.parked_id: (r.attempts, r.last_ms, r.row_id) for r in records}
    deadline = time.monotonic() + wait_s
    while True:
        now = parked_records(settings.kafka_config(), codec)
        again = [
            r for i, old in before.items()
            if (r := now.get(i)) and (r.attempts, r.last_ms, r.row_id) != old
        ]  # fmt: skip
        left = [i for i, old in before.items() if i in now and now[i] not in again]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    print(
        f"{len(before) - len(again) - len(left)} settled, "
        f"{len(again)} refused again, {len(left)} wait"
    )
    for r in again[:10]:
        print(f"  {r.parked_id}: {r.code} {r.field}: {r.words}")
    if again:
        raise Failed("some were refused again")


def _selected(
    settings: Settings, codec: Codec, ids: list[str] | None, sync: str, code: str, field: str
) -> list[ParkedRecord]:
    there = parked_records(settings.kafka_config(), codec)
    missing = [i for i in ids or [] if i not in there]
    if missing:
        raise Failed(f"not parked: {', '.join(missing)}")
    found = [there[i] for i in ids] if ids else list(there.values())
    found = [
        r for r in found
        if (not sync or r.sync == sync) and (not code or r.code == code)
        and (not field or r.field == field)
    ]  # fmt: skip
    return sorted(found, key=lambda r: (r.first_ms, r.parked_id))


def _causes(records: list[ParkedRecord]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, ...], list[ParkedRecord]] = defaultdict(list)
    for r in records:
        groups[r.sync, str(r.stage), r.code, r.field].append(r)
    causes = [
        {
            "records": len(group), "sync": sync, "stage": stage, "code": code, "field": field,
            "words": group[0].words,
        }
        for (sync, stage, code, field), group in groups.items()
    ]  # fmt: skip
    return sorted(causes, key=lambda c: -c["records"])


def plain(record: ParkedRecord) -> dict[str, Any]:
    """For people and for --json: bytes as the JSON that they hold, where they hold any."""
    out = record.model_dump(mode="python")
    for name in ("source", "fields"):
        try:
            out[name] = json.loads(out[name])
        except ValueError:
            out[name] = out[name].decode(errors="replace")
    return out


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise Misused(f"--set wants FIELD=VALUE, not {text!r}")
    return name, value

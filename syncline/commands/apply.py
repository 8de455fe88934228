"""`syncline apply FOLDER`."""

import hashlib
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from connectors.registry import connector_class
from mappings.fields import FieldList
from schemas import topics
from schemas.codec import Codec
from schemas.control import ActKind
from schemas.definitions import Connection, Definition
from schemas.follow import Definitions
from schemas.topics import Topic
from schemas.yamlfile import ConfigInvalid
from syncline import acts, cluster, flows
from syncline.config import (
    Configuration,
    check_fields,
    load_folder,
    missing_secrets,
    receives_only,
)
from syncline.errors import Failed, Misused
from syncline.settings import Settings

app = typer.Typer()

BEGIN_ANEW = (
    "Streams workers begin anew by themselves, within seconds, to read its topics; "
    "connectors workers take it up as they run."
)


@app.command()
def apply(
    folder: Annotated[Path, typer.Argument(help="Folder with connections/, syncs/, mappings/.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only show what would change.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a configuration folder the active one. Shows what changes first."""
    try:
        wanted = load_folder(folder)
    except ConfigInvalid as error:
        raise Misused(str(error)) from None
    with cluster.connected() as (settings, codec):
        cluster.create_topics(settings, topics_needed(wanted), schemas=False)
        there = Definitions(settings.kafka_config(), codec)
        if problems := misfits(wanted, there):
            raise Misused("\n".join(problems))
        changes = difference(wanted, there)
        for line in missing_secrets(wanted.connections, wanted.syncs):
            typer.echo(f"note: {line} in this shell; the processes need it", err=True)
        if json_:
            print(
                cluster.as_json([{k: c[k] for k in ("what", "change", "version")} for c in changes])
            )
        else:
            for c in changes:
                print(f"{c['change']:9} {c['what']}@{c['version']}  {', '.join(c['fields'])}")
        news = [c for c in changes if c["change"] != "unchanged"]
        more = sorted(carried(wanted) - set(there.platforms()))
        if check or not news:
            print("nothing to do") if not news and not json_ else None
            return
        if not yes and not typer.confirm(f"apply {len(news)} changes?"):
            raise Failed("nothing was applied")
        publish(settings, codec, news)
        if not json_:
            print(f"applied {len(news)} changes")
            if more:
                print(f"new here: {', '.join(more)}. {BEGIN_ANEW}")


def misfits(wanted: Configuration, there: Definitions) -> list[str]:
    """What field lists that the cluster has, and the folder lacks, say against its mappings."""
    known = {
        name: FieldList.model_validate_json(d.document)
        for name, d in there.active("fields").items()
    }
    return list(check_fields(wanted, {**known, **wanted.fields}))


def difference(wanted: Configuration, there: Definitions) -> list[dict[str, Any]]:
    """What applying would do, one entry a definition; what the cluster has and the folder lacks
    stays as it is."""
    documents = [(k, n, d.model_dump(mode="json", by_alias=True)) for k, n, d in wanted.documents()]
    documents += [("flow", n, traits(c)) for n, c in wanted.connections.items()]
    changes: list[dict[str, Any]] = []
    for kind, name, document in documents:
        text = json.dumps(document, sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        old = there.active(kind).get(name)
        before = json.loads(old.document) if old else {}
        same = old is not None and old.hash == digest
        newest = max(
            (d.version for d in there.all() if (d.kind, d.name) == (kind, name)), default=0
        )
        version = int(document.get("version", 0)) if kind == "mapping" else newest + 1
        if not same and there.version(kind, name, version):
            raise Misused(
                f"{kind} {name}@{version} is published already with other content: "
                f"give the new one a higher version"
            )
        fields = [k for k in sorted({*before, *document}) if before.get(k) != document.get(k)]
        changes.append(
            {
                "kind": kind, "name": name, "what": f"{kind}:{name}", "text": text, "hash": digest,
                "change": "unchanged" if same else "changed" if old else "new",
                "version": old.version if same and old else version,
                "fields": fields if old and not same else [],
            }
        )  # fmt: skip
    return changes


def carried(wanted: Configuration) -> set[str]:
    """Platforms that are read or written, not only heard."""
    return {c.platform for c in wanted.connections.values() if not receives_only(c)}


def topics_needed(wanted: Configuration) -> list[Topic]:
    """Topics of all platforms that are named: only what receives needs fewer."""
    full = carried(wanted)
    heard = {c.platform for c in wanted.connections.values()} - full
    return [
        *(topic for name in sorted(full) for topic in topics.of_platform(name)),
        *(topic for name in sorted(heard) for topic in topics.received_from(name)),
    ]


def traits(connection: Connection) -> dict[str, Any]:
    """What streams must know of a platform: which objects are facts, and what it carries."""
    if receives_only(connection):
        return {"platform": connection.platform, "facts": [], "flows": {}}
    spec = connector_class(connection.platform).spec
    return {
        "platform": connection.platform,
        "facts": sorted(n for n, o in spec.objects.items() if o.kind == "fact"),
        "flows": {name: flows.flow(connection, spec, o) for name, o in spec.objects.items()},
    }


def publish(settings: Settings, codec: Codec, changes: list[dict[str, Any]]) -> None:
    """Documents first, pointers after them, then acts that bring the versions into the log."""
    now_ms = time.time_ns() // 1_000_000
    who = acts.act(ActKind.activate).who
    common = {"applied_ms": now_ms, "applied_by": who}
    documents = [
        Definition(
            kind=c["kind"], name=c["name"], version=c["version"], document=c["text"],
            hash=c["hash"], **common,
        )
        for c in changes
    ]  # fmt: skip
    pointers = [
        Definition(kind=c["kind"], name=c["name"], version=c["version"], **common) for c in changes
    ]
    records = [(topics.DEFINITIONS, f"{d.kind}:{d.name}@{d.version}", d) for d in documents]
    records += [(topics.DEFINITIONS, f"{d.kind}:{d.name}", d) for d in pointers]
    acts.publish(settings, records, codec)
    acts.ask(
        settings,
        codec,
        [
            acts.act(ActKind.activate, sync=c["name"], definition=f"{c['what']}@{c['version']}")
            for c in changes
        ],
    )

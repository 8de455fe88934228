"""A configuration folder: `connections/`, `syncs/`, `mappings/`, `fields/`, one YAML file each.

Read and checked whole before anything is applied: every mistake is named with file and line.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from connectors.registry import CONNECTORS, connector_class
from mappings.document import MappingDocument, load
from mappings.errors import MappingInvalid
from mappings.fields import FieldList, check_row
from ratelimits import registry as quotas
from schemas.definitions import ALL, REMOVING, Connection, Sync
from schemas.secrets import SecretMissing, is_reference, resolve
from schemas.yamlfile import ConfigInvalid, Lines, read_yaml, validated
from syncline import schedules
from webhook_gateway.senders import platforms as senders
from webhook_gateway.senders import sender_type

__all__ = ["Configuration", "check_fields", "load_folder", "missing_secrets", "receives_only"]

KINDS: dict[str, tuple[str, type[BaseModel], str]] = {
    "connections": ("connection", Connection, "connection"),
    "syncs": ("sync", Sync, "sync"),
    "mappings": ("mapping", MappingDocument, "mapping"),
    "fields": ("fields", FieldList, ""),
}
"""Folder to kind of definition, its model, and the key that names it."""


@dataclass
class Configuration:
    """What a folder says, checked. `documents`: (kind, name) to plain data."""

    connections: dict[str, Connection] = field(default_factory=dict)
    syncs: dict[str, Sync] = field(default_factory=dict)
    mappings: dict[str, MappingDocument] = field(default_factory=dict)
    fields: dict[str, FieldList] = field(default_factory=dict)
    lines: dict[tuple[str, str], Lines] = field(default_factory=dict)

    def documents(self) -> Iterator[tuple[str, str, BaseModel]]:
        """Kind, name and document, in an order in which nothing refers to what comes later."""
        for kind, group in (
            ("connection", self.connections),
            ("fields", self.fields),
            ("mapping", self.mappings),
            ("sync", self.syncs),
        ):
            for name, document in group.items():
                yield kind, name, document


def load_folder(folder: Path) -> Configuration:
    """Raises ConfigInvalid with every mistake found."""
    if not folder.is_dir():
        raise ConfigInvalid([f"{folder}: is no folder"])
    found, problems = Configuration(), list[str]()
    for name, (kind, model, key) in KINDS.items():
        group: dict[str, Any] = getattr(found, name)
        for path in sorted((folder / name).glob("*.y*ml")):
            try:
                data, lines = read_yaml(path)
                document = validated(data, lines, model)
            except ConfigInvalid as error:
                problems += error.problems
                continue
            title = getattr(document, key) if key else _listed(path.stem, found.connections)
            if not title:
                problems.append(f"{path}:1: must be called CONNECTION_OBJECT{path.suffix}")
            elif title in group:
                problems.append(lines.problem((key,), f"{title} is defined twice"))
            group[title] = document
            found.lines[kind, title] = lines
    if not found.connections and not problems:
        problems.append(f"{folder}: holds no connections/*.yaml")
    # Each looks at what the one before has found right.
    for check in (_check_connections, _check_syncs, _check_sides, _check_mappings):
        if not problems:
            problems += check(found)
    if problems:
        raise ConfigInvalid(problems)
    return found


def _listed(stem: str, connections: Iterable[str]) -> str:
    """`hubspot_contact` -> `hubspot:contact`; empty where it begins with no connection's name."""
    names = [name for name in connections if stem.startswith(f"{name}_")]
    name = max(names, key=len, default="")
    return f"{name}:{stem[len(name) + 1 :]}" if name else ""


def receives_only(connection: Connection) -> bool:
    """Whether it takes webhooks and no more: it needs no credentials, and no sync can use it."""
    return connection.webhook is not None and (
        connection.platform not in CONNECTORS or not connection.secrets
    )


def _check_connections(found: Configuration) -> Iterator[str]:
    for name, connection in found.connections.items():
        lines = found.lines["connection", name]
        if connection.platform not in {*CONNECTORS, *senders()}:
            known = ", ".join(sorted({*CONNECTORS, *senders()}))
            yield lines.problem(("platform",), f"unknown; known are {known}")
            continue
        yield from _check_webhook(connection, lines)
        if receives_only(connection):
            continue
        if connection.platform not in CONNECTORS:
            yield lines.problem(("webhook",), f"is missing: {connection.platform} only sends")
            continue
        spec = connector_class(connection.platform).spec
        try:
            validated(dict(connection.options), lines, spec.config, ("options",))
        except ConfigInvalid as error:
            yield from error.problems
        for secret in sorted(set(spec.wanted(connection.secrets)) - set(connection.secrets)):
            yield lines.problem(
                ("secrets",), f"{secret} is missing: {secret}: env:NAME or file:PATH"
            )
        if not (spec.base_url or connection.base_url):
            yield lines.problem(
                ("base_url",), f"is missing: {connection.platform} has no common one"
            )
        yield from _check_quotas(connection, lines)


def _check_webhook(connection: Connection, lines: Lines) -> Iterator[str]:
    if connection.webhook is None:
        return
    if connection.platform not in senders():
        yield lines.problem(("webhook",), f"{connection.platform} sends none")
        return
    options = sender_type(connection.platform).spec.options
    try:
        validated(dict(connection.webhook.options), lines, options, ("webhook", "options"))
    except ConfigInvalid as error:
        yield from error.problems


def _check_quotas(connection: Connection, lines: Lines) -> Iterator[str]:
    """A slip here would not stop anything: it would only be another limit than was meant."""
    try:
        tiers = quotas.tiers(connection.platform)
    except FileNotFoundError:  # a platform without limits
        return
    if connection.tier and connection.tier not in tiers:
        yield lines.problem(("tier",), f"unknown; {connection.platform} has {', '.join(tiers)}")
    for name, override in connection.quotas.items():
        try:
            quotas.load(connection.platform, connection.tier, {name: override})
        except KeyError as error:
            yield lines.problem(("quotas", name), str(error.args[0]))
        except (ValueError, TypeError) as error:
            yield lines.problem(("quotas", name), _first_words(error))


def _first_words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return str(error)


def _check_syncs(found: Configuration) -> Iterator[str]:
    for name, sync in found.syncs.items():
        lines = found.lines["sync", name]
        for end in ("source", "destination"):
            connection = found.connections.get(getattr(sync, end))
            if connection is None:
                yield lines.problem((end,), f"there is no connection {getattr(sync, end)}")
                continue
            if receives_only(connection):
                words = f"{connection.connection} only receives webhooks: it has no `secrets`"
                yield lines.problem((end,), words)
                continue
            spec = connector_class(connection.platform).spec
            kind = getattr(sync, f"{end}_object")
            if kind not in spec.objects:
                known = ", ".join(sorted(spec.objects))
                yield lines.problem((f"{end}_object",), f"{connection.platform} has {known}")
            elif end == "destination" and not sync.match and _needs_match(spec.objects[kind]):
                yield lines.problem(
                    ("match",), "is missing: the field by which people already there are found"
                )
        yield from _check_kinds(found, sync, lines)
        yield from _check_when(found, sync, lines)
        if sync.mapping not in found.mappings:
            yield lines.problem(("mapping",), f"there is no mapping {sync.mapping}")


def _check_kinds(found: Configuration, sync: Sync, lines: Lines) -> Iterator[str]:
    """What takes an object away must be something that its platform can do."""
    connection = found.connections.get(sync.destination)
    if connection is None or receives_only(connection):
        return
    spec = connector_class(connection.platform).spec.objects.get(sync.destination_object)
    for kind, how in sync.kinds.items():
        if isinstance(how, dict) or spec is None:
            continue
        if kind not in REMOVING:
            words = f"sets fields by name; only {' and '.join(REMOVING)} take an object away"
            yield lines.problem(("kinds", kind), words)
        elif how not in spec.removals:
            can = ", ".join(spec.removals) or "nothing: name the fields that it sets"
            words = f"{connection.platform} {sync.destination_object} can {can}"
            yield lines.problem(("kinds", kind), words)


def _check_when(found: Configuration, sync: Sync, lines: Lines) -> Iterator[str]:
    """For whom, when, and who is told."""
    if sync.schedule is not None and (wrong := schedules.mistake(sync.schedule)):
        yield lines.problem(("schedule", wrong[0]), wrong[1])
    if sync.audience is not None:
        if not _is_state(found, sync):
            words = f"{sync.destination_object} is appended once: nobody can leave"
            yield lines.problem(("audience",), words)
        if sync.audience.list is not None and sync.schedule is None:
            yield lines.problem(("audience", "list"), "is fetched when the `schedule` says: say it")
    for key in ("on_state_change", "on_error"):
        for number, hook in enumerate(getattr(sync, key)):
            if hook.form == "email" and not (hook.url and hook.sender and hook.to):
                yield lines.problem((key, number), "email wants url, sender and to")


def _is_state(found: Configuration, sync: Sync) -> bool:
    """Unless it is known to be a fact."""
    connection = found.connections.get(sync.destination)
    if connection is None or receives_only(connection):
        return True
    spec = connector_class(connection.platform).spec.objects.get(sync.destination_object)
    return spec is None or spec.kind == "state"


def _check_sides(found: Configuration) -> Iterator[str]:
    """A mapping says itself between what it leads."""
    for name, sync in found.syncs.items():
        document = found.mappings[sync.mapping]
        for end, side in (("source", document.from_), ("destination", document.to)):
            platform = found.connections[getattr(sync, end)].platform
            meant = (platform, getattr(sync, f"{end}_object"))
            if side.platform not in ("any", platform) or side.object not in ("any", meant[1]):
                words = (
                    f"{sync.mapping} is for {side.platform} {side.object}, not {' '.join(meant)}"
                )
                yield found.lines["sync", name].problem(("mapping",), words)
        yield from _check_ruling(found, sync)


def _check_ruling(found: Configuration, sync: Sync) -> Iterator[str]:
    """Who rules must feed the destination, with the fields in question."""
    written: dict[str, set[str]] = {}
    for other in found.syncs.values():
        if (other.destination, other.destination_object) == (
            sync.destination, sync.destination_object,
        ):  # fmt: skip
            written.setdefault(other.source, set()).update(found.mappings[other.mapping].fields)
    for name, connection in sync.rulers.items():
        where = ("ruling",) if isinstance(sync.ruling, str) else ("ruling", name)
        if connection not in written:
            words = f"no sync from {connection} leads here: {', '.join(sorted(written))} can rule"
            yield found.lines["sync", sync.sync].problem(where, words)
        elif name != ALL and name not in written[connection]:
            words = f"{connection} writes no such field: no mapping of its syncs has it"
            yield found.lines["sync", sync.sync].problem(where, words)


def _needs_match(spec: Any) -> bool:
    return spec.kind == "state" and not spec.identity_field


def _check_mappings(found: Configuration) -> Iterator[str]:
    yield from check_fields(found, found.fields)


def check_fields(found: Configuration, known: Mapping[str, FieldList]) -> Iterator[str]:
    """Mistakes in mappings, for each pair of ends that a sync joins by one. `known`: field lists by
    `connection:object`; where one is missing, any name is taken."""
    for name, document in found.mappings.items():
        lines = found.lines["mapping", name]
        told = dict[str, None]()
        for source, destination in _ends(found, name):
            try:
                load(document, known.get(source), known.get(destination))
            except MappingInvalid as error:
                for problem in error.problems:
                    told[f"{lines.path}:{lines.of(problem.place)}: {problem}"] = None
        yield from told
    for name, sync in found.syncs.items():
        target = f"{sync.destination}:{sync.destination_object}"
        if sync.audience is None or target not in known:
            continue
        for key in ("joined", "left"):
            sets: dict[str, Any] = getattr(sync.audience, key)
            for wrong in check_row(sets, known[target].by_name(), creating=False):
                where = ("audience", key, wrong.field)
                yield found.lines["sync", name].problem(where, wrong.message)


def _ends(found: Configuration, mapping: str) -> list[tuple[str, str]]:
    """(source, destination), each `connection:object`; where no sync uses it, one of nothing."""
    pairs = {
        (f"{s.source}:{s.source_object}", f"{s.destination}:{s.destination_object}")
        for s in found.syncs.values()
        if s.mapping == mapping
    }
    return sorted(pairs) or [("", "")]


def missing_secrets(
    connections: Mapping[str, Connection], syncs: Mapping[str, Sync] | None = None
) -> list[str]:
    """References that lead nowhere in this process's environment, one line each."""
    wanted: list[tuple[str, list[str]]] = []
    for name, connection in connections.items():
        references = [*connection.secrets.values()]
        if (webhook := connection.webhook) is not None:
            references += [r for r in (webhook.secret, webhook.previous_secret) if r]
            references += filter(is_reference, webhook.options.values())
        wanted.append((f"connection {name}", references))
    for name, sync in (syncs or {}).items():
        source = sync.audience.list if sync.audience is not None else None
        references = [source.secret] if source is not None else []
        for hook in (*sync.on_state_change, *sync.on_error):
            references += [hook.secret, *hook.headers.values()]
        wanted.append((f"sync {name}", [r for r in references if r]))
    problems: list[str] = []
    for who, references in wanted:
        for reference in references:
            try:
                resolve(reference)
            except SecretMissing as error:
                problems.append(f"{who}: {error}")
    return problems

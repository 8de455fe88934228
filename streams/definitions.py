"""The definitions topic as steps see it: a `Catalog`, made anew when something was applied."""

import json
from collections.abc import Mapping
from typing import Any

import structlog

from mappings.document import Compiled, MappingDocument, load
from mappings.errors import MappingInvalid
from mappings.fields import FieldList
from schemas.codec import Codec
from schemas.definitions import Sync
from schemas.follow import Definitions
from streams.steps.catalog import Catalog, Flow, MappingDoc
from streams.steps.mapped import Checked

__all__ = ["Catalogs"]

log = structlog.get_logger("streams.definitions")


class Catalogs:
    """The newest catalog. Reads the topic whole at the start; `refresh` takes in what is new."""

    def __init__(self, kafka: Mapping[str, Any], codec: Codec, identity_key: bytes) -> None:
        self._definitions = Definitions(kafka, codec)
        self._identity_key = identity_key
        self._compiled: dict[tuple[str, int, str, int], MappingDoc | None] = {}
        self.now = self._make()

    @property
    def platforms(self) -> tuple[str, ...]:
        """Those that are read or written."""
        return self._definitions.platforms()

    def refresh(self) -> Catalog:
        """Read to the end of the topic: what was applied before this call is in the answer."""
        if self._definitions.catch_up():
            self.now = self._make()
        return self.now

    def _make(self) -> Catalog:
        there = self._definitions
        syncs = {
            (d.name, d.version): Sync.model_validate_json(d.document)
            for d in there.all()
            if d.kind == "sync"
        }
        active = {
            f"{kind}:{name}": d.version
            for kind in ("sync", "mapping", "fields")
            for name, d in there.active(kind).items()
        }
        traits = {name: json.loads(d.document) for name, d in there.active("flow").items()}
        return Catalog(
            connections=there.connections(),
            syncs=syncs,
            active=active,
            compiled=self._compile,
            facts=frozenset((t["platform"], o) for t in traits.values() for o in t["facts"]),
            flows={
                f"{name}:{kind}": Flow(**flow)
                for name, t in traits.items()
                for kind, flow in t["flows"].items()
            },
            identity_key=self._identity_key,
        )

    def _compile(self, name: str, version: int, target: str, fields: int) -> MappingDoc | None:
        """Compiled once a version. One that does not compile is treated as unknown: `apply`
        refuses such, so it was written by another release."""
        key = (name, version, target, fields)
        if key not in self._compiled:
            self._compiled[key] = self._load(name, version, target, fields)
        return self._compiled[key]

    def _load(self, name: str, version: int, target: str, fields: int) -> MappingDoc | None:
        document = self._definitions.version("mapping", name, version)
        listed = self._definitions.version("fields", target, fields) if fields else None
        if document is None:
            return None
        return compiled(document.document, listed.document if listed else "")


def compiled(document: str, listed: str) -> MappingDoc | None:
    """A mapping with its destination's field list, both JSON; an empty list: anything is taken.

    `apply` refuses a mapping that does not fit. One whose destination was changed since still maps:
    each row is held against the list, and what does not fit is parked with the field's name. None
    where it does not compile at all.
    """
    mapping = MappingDocument.model_validate_json(document)
    known = FieldList.model_validate_json(listed) if listed else None
    done = _fitted(mapping, known) if known else None
    done = done or _fitted(mapping, None)
    return Checked(done, known, "email" if "email" in done.reads else "") if done else None


def _fitted(mapping: MappingDocument, known: FieldList | None) -> Compiled | None:
    try:
        return load(mapping, destination=known)
    except MappingInvalid as error:
        words = "mapping does not fit its destination" if known else "mapping does not compile"
        log.error(words, mapping=f"{mapping.mapping}@{mapping.version}", why=str(error))
        return None

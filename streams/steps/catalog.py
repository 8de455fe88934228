"""The definitions as steps see them: a snapshot, handed to every step.

Versions: a record is decided with the version that is active at its point of the log (`pins`, kept
in the index row of its partition and for each run); what no pin names has the version that the
pointer in `definitions` names.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from schemas.definitions import ALL, Audience, Connection, Identify, Policy, Sync
from schemas.events import Origin, PlatformEvent
from schemas.ids import sync_of
from streams.steps.values import Ruling

__all__ = ["Catalog", "FieldError", "Flow", "MappingDoc", "Pins", "Plan", "Shaped"]

Pins = Mapping[str, int]
"""`kind:name` to version."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """Why a record cannot become a row. `words` may hold personal data, `code` does not."""

    stage: Literal["map", "validate"]
    field: str
    code: str
    words: str


@dataclass(frozen=True, slots=True)
class Shaped:
    """What a mapping made of a record. `fields` None: the filter left it out, `why` says which."""

    fields: dict[str, Any] | None
    errors: tuple[FieldError, ...] = ()
    why: str = ""


class MappingDoc(Protocol):
    """A compiled mapping with the destination's field list: record to row, pure."""

    @property
    def title(self) -> str:
        """`name@version#hash`, for the lineage."""
        ...

    @property
    def key(self) -> str:
        """Destination field that identifies the row there; empty: none."""
        ...

    @property
    def reads(self) -> Mapping[str, frozenset[str]]:
        """Destination field to the source fields that it is made of."""
        ...

    @property
    def inputs(self) -> frozenset[str]:
        """All source fields that it looks at, the filter's included."""
        ...

    def shape(self, values: Mapping[str, Any], event: PlatformEvent, person: str) -> Shaped:
        """Filter, map, validate. `values`: every field of `inputs`, missing ones None."""
        ...


CREDIT_MAX = 5_000


@dataclass(frozen=True, slots=True)
class Flow:
    """What a destination carries, for the credit of bulk runs, and wants in every row."""

    rows_per_s: float = 0.0
    """0: no limit is known."""
    batch_rows: int = 100
    fetch_pages_max: int = 5
    identity: str = ""
    """Field by which each row names its object there; empty: an id or a key of ours does."""
    job_rows: int = 0
    """Of a job of the platform, which spares calls where a day's are scarce; 0: there is none."""
    quiet: bool = False
    """It may tell nothing of what is written by its API."""

    def credit(self) -> int:
        """Records that may be on their way at once: 30 s worth, at least two batches; or what fills
        a job, half of it out while the other half gathers."""
        if self.job_rows:
            return self.job_rows
        if not self.rows_per_s:
            return CREDIT_MAX
        return int(min(CREDIT_MAX, max(2 * self.batch_rows, 30 * self.rows_per_s)))


@dataclass(frozen=True, slots=True)
class Plan:
    """One sync at certain versions, ready to decide with."""

    sync: str
    source: str
    source_object: str
    destination: str
    """Connection."""
    destination_object: str
    target: str
    """`connection:object_type`, key of the destination in a person's row."""
    platform: str
    account: str
    gate: str
    """`platform/account`: what opens and closes."""
    live: bool
    fact: bool
    policy: Policy
    mapping: MappingDoc
    always: frozenset[str]
    """Destination fields that go with every row: the worker needs them to find the object."""
    rules: Ruling
    """Where its source rules at the destination."""
    claims: bool
    """Some sync reads from the destination's objects: admit must know whose they are."""
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """Kind of event to what it sets at the destination."""
    removals: Mapping[str, str] = field(default_factory=dict[str, str])
    """Kind of event to what becomes of the object there: archive, delete or erase."""
    audience: Audience | None = None
    """What a list sets there, where only the objects on it are sent."""
    match: str = ""
    """Destination field by which people already there are found."""
    identity: str = ""
    """Destination field that no row may lack, also where the object is known (`Flow.identity`)."""


@dataclass(slots=True)
class Catalog:
    """A snapshot of the definitions. Never changed after it was made, but for its own caches."""

    connections: Mapping[str, Connection]
    syncs: Mapping[tuple[str, int], Sync]
    active: Pins
    """Versions that the pointers name."""
    compiled: Callable[[str, int, str, int], MappingDoc | None]
    """(mapping, version, field list `connection:object_type`, version) to the compiled mapping;
    None where the mapping is unknown. A field list version of 0 stands for none."""
    facts: frozenset[tuple[str, str]] = frozenset()
    """(platform, object type) of what is appended, not upserted."""
    flows: Mapping[str, Flow] = field(default_factory=dict[str, Flow])
    """By `connection:object_type`."""
    identity_key: bytes = b""
    """At most 64 bytes."""
    _plans: dict[tuple[str, int, int, int], Plan | None] = field(
        default_factory=dict[tuple[str, int, int, int], "Plan | None"]
    )
    _reads: dict[tuple[str, str], frozenset[str]] = field(
        default_factory=dict[tuple[str, str], frozenset[str]]
    )
    _scopes: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    _targets: set[str] | None = None

    def names(self) -> Iterable[str]:
        """All syncs, sorted."""
        return sorted({name for name, _ in self.syncs})

    def plan(self, sync: str, pins: Pins) -> Plan | None:
        """The sync as pinned; None where it, or its mapping, is not known here."""
        version = self._version(f"sync:{sync}", pins)
        document = self.syncs.get((sync, version))
        if document is None:
            return None
        target = f"{document.destination}:{document.destination_object}"
        mapping = self._version(f"mapping:{document.mapping}", pins)
        fields = self._version(f"fields:{target}", pins)
        key = (sync, version, mapping, fields)
        if key not in self._plans:
            self._plans[key] = self._plan(document, mapping, target, fields)
        return self._plans[key]

    def pins_of(self, sync: str, pins: Pins) -> dict[str, int]:
        """The versions that a run of this sync holds on to, as they are active now."""
        version = self._version(f"sync:{sync}", pins)
        document = self.syncs.get((sync, version))
        if document is None:
            return {}
        target = f"{document.destination}:{document.destination_object}"
        names = (f"sync:{sync}", f"mapping:{document.mapping}", f"fields:{target}")
        return {name: v for name in names if (v := self._version(name, pins))}

    def live(self, connection: str, object_type: str, pins: Pins) -> tuple[Plan, ...]:
        """The syncs that follow live events of these objects, by name."""
        return tuple(
            plan
            for name in self.names()
            if (plan := self.plan(name, pins)) is not None
            and plan.live
            and plan.source == connection
            and plan.source_object == object_type
        )

    def wanted(self, event: PlatformEvent, pins: Pins) -> tuple[str, ...]:
        """Names of the syncs that this event is decided for: the units of the balance.

        What we asked for ourselves (`read`) is no record of its own: it completes others.
        """
        if event.run:
            return (sync_of(event.run),)
        if event.origin is Origin.read:
            return ()
        return tuple(p.sync for p in self.live(event.connection, event.object_type, pins))

    def reads(self, connection: str, object_type: str) -> frozenset[str]:
        """Source fields worth remembering: those that any version of any sync looks at."""
        key = (connection, object_type)
        if key not in self._reads:
            self._reads[key] = frozenset[str]().union(*self._inputs(connection, object_type))
        return self._reads[key]

    def scope(self, connection: str, object_type: str) -> int:
        """A number for what `reads` gives: another set of fields has another one."""
        key = (connection, object_type)
        if key not in self._scopes:
            names = "\0".join(sorted(self.reads(connection, object_type)))
            self._scopes[key] = zlib.crc32(names.encode())
        return self._scopes[key]

    def readable(self, connection: str, object_type: str) -> bool:
        """Whether single objects can be asked for: their connector knows them, as no facts."""
        known = self.connections.get(connection)
        there = known is not None and f"{connection}:{object_type}" in self.flows
        return there and known is not None and (known.platform, object_type) not in self.facts

    def written_to(self, target: str) -> bool:
        """Whether some sync leads to `connection:object_type`."""
        if self._targets is None:
            known = self.syncs.values()
            self._targets = {f"{s.destination}:{s.destination_object}" for s in known}
        return target in self._targets

    def quiet(self, connection: str, object_type: str) -> bool:
        """Whether these objects may tell nothing of what we write to them, and can be read."""
        flow = self.flows.get(f"{connection}:{object_type}")
        return flow is not None and flow.quiet and self.readable(connection, object_type)

    def identity(self, event: PlatformEvent) -> str | None:
        """Keyed hash of the event's identifying key.

        None: its connection declares none for these objects; "": the event does not tell it.
        """
        connection = self.connections.get(event.connection)
        identify = connection.identify.get(event.object_type) if connection else None
        if identify is None or not event.object_id:
            return None
        return self._hash(identify, _text(msgspec.json.decode(event.values), identify.field))

    def shown(self, object_key: str, values: Mapping[str, Any]) -> str:
        """Keyed hash of the identifying key among an object's values. Empty: there is none, or it
        may be several persons' (`shared`)."""
        identify = self.identify(object_key)
        if identify is None or identify.shared:
            return ""
        return self._hash(identify, _text(values, identify.field))

    def _hash(self, identify: Identify, value: str) -> str:
        if not value:
            return ""
        kind = "text" if identify.normalise == "text" else "email"
        name = f"{kind}:{normal(value, identify.normalise)}".encode()
        return hashlib.blake2b(name, key=self.identity_key, digest_size=16).hexdigest()

    def identify(self, object_key: str) -> Identify | None:
        """What identifies the objects of this kind, if their connection declares it."""
        name, object_type, _ = object_key.split(":", 2)
        connection = self.connections.get(name)
        return connection.identify.get(object_type) if connection else None

    def gate(self, connection: str) -> str:
        """`platform/account` of a connection; "" where it is not known."""
        known = self.connections.get(connection)
        return f"{known.platform}/{known.account}" if known else ""

    def _version(self, name: str, pins: Pins) -> int:
        return pins.get(name) or self.active.get(name, 0)

    def _inputs(self, connection: str, object_type: str) -> Iterable[frozenset[str]]:
        known = self.connections.get(connection)
        identify = known.identify.get(object_type) if known else None
        if identify:
            yield frozenset((identify.field,))
        for (name, version), document in self.syncs.items():
            if (document.source, document.source_object) == (connection, object_type):
                plan = self.plan(name, {f"sync:{name}": version})
                if plan is not None:
                    yield plan.mapping.inputs

    def _plan(self, sync: Sync, mapping: int, target: str, fields: int) -> Plan | None:
        compiled = self.compiled(sync.mapping, mapping, target, fields)
        known = self.connections.get(sync.destination)
        if compiled is None or known is None:
            return None
        identity = self.flows[target].identity if target in self.flows else ""
        return Plan(
            sync=sync.sync,
            source=sync.source,
            source_object=sync.source_object,
            destination=sync.destination,
            destination_object=sync.destination_object,
            target=target,
            platform=known.platform,
            account=known.account,
            gate=f"{known.platform}/{known.account}",
            live=sync.live,
            fact=(known.platform, sync.destination_object) in self.facts,
            policy=sync.policy,
            mapping=compiled,
            always=frozenset(f for f in (sync.match, compiled.key, identity) if f),
            rules=self._rules(sync),
            claims=any(
                (s.source, s.source_object) == (sync.destination, sync.destination_object)
                for s in self.syncs.values()
            ),
            kinds={str(k): sets for k, sets in sync.kinds.items() if isinstance(sets, dict)},
            removals={str(k): how for k, how in sync.kinds.items() if isinstance(how, str)},
            audience=sync.audience,
            match=sync.match,
            identity=identity,
        )

    def _rules(self, sync: Sync) -> Ruling:
        """What the syncs into this destination say, together, of the source of this one."""
        whole, ours, others = False, set[str](), set[str]()
        target = sync.destination, sync.destination_object
        for name in self.names():
            one = self.syncs.get((name, self.active.get(f"sync:{name}", 0)))
            if one is None or (one.destination, one.destination_object) != target:
                continue
            for field_, connection in one.rulers.items():
                if field_ == ALL:
                    whole |= connection == sync.source
                else:
                    (ours if connection == sync.source else others).add(field_)
        return Ruling(True, frozenset(others - ours)) if whole else Ruling(False, frozenset(ours))


def normal(key: str, how: str) -> str:
    """An identifying key as it is compared; `how`: Identify.normalise."""
    if how == "text":
        return key
    if how == "email_case":
        box, at, domain = key.rpartition("@")
        return f"{box}{at}{domain.lower()}"
    key = key.lower()
    if how == "email_plus":
        box, at, domain = key.rpartition("@")
        return f"{box.partition('+')[0] or box}{at}{domain}"
    return key


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return str(value).strip() if value is not None else ""

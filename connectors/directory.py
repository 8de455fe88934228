"""What the definitions say, as workers need it: clients by connection, match fields, source fields.

One for the whole process. A thread follows the topics; what it finds is put in place in the event
loop, so that nobody there sees half a change.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog
from confluent_kafka import KafkaException
from pydantic import ValidationError

from connectors.base import Http
from connectors.exits import leave
from connectors.http import HttpClient
from connectors.office import Client
from connectors.registry import Misconfigured, build
from mappings.document import MappingDocument, load
from mappings.errors import MappingInvalid
from schemas.codec import Codec, Undecodable
from schemas.control import Act, ActKind
from schemas.definitions import Connection, Definition, Sync
from schemas.follow import Definitions, Follower
from schemas.topics import CONTROL

__all__ = ["Directory"]

log = structlog.get_logger("connectors")

FOLLOW_S = 0.25
SILENT_S = 60.0
"""Kafka away for so long: the process ends, and its supervisor starts it again."""


class Directory:
    """Connections, syncs and mappings as they are active now."""

    def __init__(
        self, kafka: Mapping[str, Any], codec: Codec,
        client: Callable[[str], Http] = HttpClient,
    ) -> None:  # fmt: skip
        """Reads the definitions whole. Blocks; raises KafkaException or TimeoutError where Kafka
        is away."""
        self._codec, self._make = codec, client
        self._definitions = Definitions(kafka, codec)
        self._control = Follower(kafka, CONTROL)
        self.connections: dict[str, Connection] = {}
        self.syncs: dict[str, Sync] = {}
        self.platforms: tuple[str, ...] = ()
        """Those that are read or written."""
        self._clients: dict[str, Client] = {}
        self._fields: dict[tuple[str, str], tuple[str, ...]] = {}
        self._mappings: dict[tuple[str, int], frozenset[str]] = {}
        self.opened: dict[str, int] = {}
        """Account (also as `platform/account`) to when somebody said that it is open."""
        self.switched: dict[str, Act] = {}
        """`platform/account` to the last act that closed or opened it."""
        self.changed: list[Callable[[], None]] = []
        """Called in the loop after definitions have changed, or an account was opened."""
        self._stopping = threading.Event()
        for record in self._control.read_to_end():
            self._note_act(record.value())
        self._load(self._definitions)

    # ---- following

    def follow(self) -> None:
        """Start the thread. Call it in the event loop."""
        loop = asyncio.get_running_loop()

        def run() -> None:
            silent_s = 0.0
            while not self._stopping.is_set():
                try:
                    changed = self._definitions.refresh(FOLLOW_S)
                    acts = [r.value() for r in self._control.poll()]
                except KafkaException as error:
                    silent_s += 1.0
                    if silent_s > SILENT_S:
                        leave("definitions cannot be followed", error=str(error))
                    self._stopping.wait(1.0)
                    continue
                silent_s = 0.0
                if changed or acts:
                    try:
                        loop.call_soon_threadsafe(self._renew, changed, acts)
                    except RuntimeError:
                        return  # the loop has ended
            self._definitions.close()
            self._control.close()

        threading.Thread(target=run, name="definitions", daemon=True).start()

    def _renew(self, changed: bool, acts: list[bytes | None]) -> None:
        for act in acts:
            self._note_act(act)
        if changed:
            self._load(self._definitions)
        for call in self.changed:
            call()

    def _note_act(self, value: bytes | None) -> None:
        try:
            act = self._codec.decode(value)
        except Undecodable:
            return  # parked by those who have to act on it
        if not isinstance(act, Act):
            return
        if act.kind in (ActKind.account_open, ActKind.account_close):
            self.switched[act.account] = act
        if act.kind is ActKind.account_open:
            self.opened[act.account] = max(act.when_ms, self.opened.get(act.account, 0))

    def held(self, platform: str, account: str) -> str:
        """Who closed the account, and why; empty: nobody has, or it was opened since."""
        act = self.switched.get(f"{platform}/{account}")
        if act is None or act.kind is ActKind.account_open:
            return ""
        return f"closed by {act.who}" + (f": {act.why}" if act.why else "")

    def _load(self, definitions: Definitions) -> None:
        """Take over what is active. One document that cannot be used leaves the others alone."""
        before = self.connections
        self.platforms = definitions.platforms()
        self.connections = _valid(definitions.active("connection"), Connection)
        self.syncs = _valid(definitions.active("sync"), Sync)
        for name, client in list(self._clients.items()):
            if self.connections.get(name) != before.get(name):
                del self._clients[name]
                self._retire(client)
        self._fields.clear()
        for definition in definitions.all():
            if definition.kind == "mapping":
                self._learn(definition)

    def _learn(self, definition: Definition) -> None:
        key = (definition.name, definition.version)
        if key in self._mappings:
            return
        try:
            document = MappingDocument.model_validate_json(definition.document)
            self._mappings[key] = load(document).reads
        except (ValidationError, MappingInvalid) as error:
            log.error("mapping cannot be read", mapping=definition.name, error=type(error).__name__)

    def _retire(self, client: Client) -> None:
        """Requests that are under way may still end on it."""
        close = getattr(client.http, "close", None)
        if close is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(90.0, lambda: loop.create_task(close()))

    # ---- what it knows

    def client(self, connection: str) -> Client:
        """Ready to be used; the same one until its definition changes. Raises Misconfigured."""
        client = self._clients.get(connection)
        if client is None:
            definition = self.connections.get(connection)
            if definition is None:
                raise Misconfigured(f"connection {connection} is not defined")
            connector, http = build(definition, self._make)
            client = Client(connection, definition.account, connector, http)
            self._clients[connection] = client
        return client

    def forget(self, connection: str) -> None:
        """Make the client anew when it is asked for next: its secrets may have been rotated."""
        client = self._clients.pop(connection, None)
        if client is not None:
            self._retire(client)

    def match_field(self, sync: str) -> str:
        known = self.syncs.get(sync)
        return known.match if known else ""

    def fetch_fields(self, connection: str, object_type: str) -> tuple[str, ...]:
        """What any version of a mapping of these objects reads, and their identifying key."""
        key = (connection, object_type)
        if key not in self._fields:
            names = {
                name
                for sync in self.syncs.values()
                if (sync.source, sync.source_object) == key
                for (mapping, _), reads in self._mappings.items()
                if mapping == sync.mapping
                for name in reads
            }
            known = self.connections.get(connection)
            if known is not None and object_type in known.identify:
                names.add(known.identify[object_type].field)
            self._fields[key] = tuple(sorted(names))
        return self._fields[key]

    def accounts(self, platform: str) -> dict[str, list[str]]:
        """Account to the names of its connections."""
        found: dict[str, list[str]] = {}
        for name, connection in sorted(self.connections.items()):
            if connection.platform == platform:
                found.setdefault(connection.account, []).append(name)
        return found

    async def close(self) -> None:
        self._stopping.set()
        for client in self._clients.values():
            close = getattr(client.http, "close", None)
            if close is not None:
                await close()


def _valid(active: Mapping[str, Definition], model: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, definition in active.items():
        try:
            found[name] = model.model_validate(msgspec.json.decode(definition.document))
        except (ValidationError, msgspec.DecodeError) as error:
            log.error("definition cannot be read", name=name, error=type(error).__name__)
    return found

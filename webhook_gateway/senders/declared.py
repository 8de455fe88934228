"""Senders as data: where the events are in a body, what each says, and how a request proves itself.

`Declared` interprets both for every platform whose webhooks are JSON or a form. A path leads to a
value (`data.item.id`); `a|b` takes the first that is there; `$.a` begins at the body instead of the
event, `header:NAME` is a header.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import msgspec
from pydantic import BaseModel, Field, SecretStr

from schemas.events import EventKind
from webhook_gateway.senders.base import Event, Part, Request, SenderSpec, Unparseable
from webhook_gateway.senders.elements import UNDECODABLE, Elements, member
from webhook_gateway.senders.forms import fields, named
from webhook_gateway.senders.proofs import AnyProof, SharedSecret, Signature
from webhook_gateway.senders.reading import canonical, find, json_bytes, text, when

__all__ = ["Declared", "Events", "Found", "NoOptions", "Subject", "spec_of"]

EVENTS_MAX = 5_000
"""More in one body are parked as a whole."""
BOM = b"\xef\xbb\xbf"


class Subject(BaseModel, frozen=True, extra="forbid"):
    """An object that an event is about."""

    type: str = Field(
        description="Its type; or `{PATH}`: the text there; or `{kind}`: the event's kind without "
        "its last word, `contact` of `contact.created`."
    )
    id: str = Field(description="Path of its id.")


class Events(BaseModel, frozen=True, extra="forbid"):
    """What a body says."""

    body: Literal["json", "form", "either"] = Field(
        default="json", description="`either` takes what it looks like."
    )
    many: str = Field(
        default="",
        description="Path of the list of events. Empty: the body is the event, or a list of them.",
    )
    id: tuple[str, ...] = Field(
        default=(),
        description="Paths that name the event and are not in it: `header:webhook-id`. All of the "
        "event itself counts in any case.",
    )
    kind: tuple[str, ...] = Field(
        default=("type",), description="Paths of the platform's word for the kind, joined by a dot."
    )
    kind_default: str = Field(default="", description="Where no kind is told; empty: park it.")
    kinds: Mapping[str, EventKind] = Field(
        default={}, description="The platform's word, or the last part of it, to ours."
    )
    checks: frozenset[str] = Field(
        default=frozenset(), description="Kinds that check the address and tell of nothing."
    )
    objects: tuple[Subject, ...] = Field(
        description="What an event is about: the first whose id is there; the last without id.",
        min_length=1,
    )
    related: tuple[Subject, ...] = Field(default=(), description="What else it speaks of.")
    time: str = Field(default="", description="Path of the time; empty: the receipt.")
    changed: str = Field(
        default="", description="Path of the names of changed fields, or of an object with them."
    )
    values: tuple[str, ...] = Field(
        default=(),
        description="Paths of what is known of the object: an object's fields, or one value.",
    )
    repeats: tuple[str, ...] = Field(
        default=(), description="Paths that differ when the same event is sent again."
    )
    thin: bool = Field(
        default=True, description="Whether `values` may lack fields that the object has."
    )


class NoOptions(BaseModel, frozen=True, extra="forbid"):
    """Nothing to say but the secret."""


class Found:
    """One event of a body, as its paths see it."""

    __slots__ = ("fields", "request", "root")

    def __init__(self, fields: Mapping[str, Any], root: Any, request: Request) -> None:
        self.fields, self.root, self.request = fields, root, request

    def at(self, path: str) -> Any:
        """The first alternative that is there; None: none is."""
        for one in path.split("|"):
            if one.startswith("header:"):
                value = self.request.headers.get(one[7:])
            elif one.startswith("$."):
                value = find(self.root, one[2:])
            else:
                value = find(self.fields, one)
            if value is not None and value != "":
                return value
        return None

    def text(self, path: str) -> str:
        return text(self.at(path))

    def named(self, path: str) -> Mapping[str, Any]:
        """Values by name: of an object, of the fields of a form below a name, or of one value."""
        value = self.at(path)
        if isinstance(value, Mapping):
            return value
        names = path.split("|")
        if value is not None:
            return {names[0].rpartition(".")[2]: value}
        heads = [f"{name}." for name in names]
        told = self.fields.items()
        return {n[len(head) :]: v for head in heads for n, v in told if n.startswith(head)}


class Declared:
    """A sender made of its declaration. A platform with a turn of its own overrides one method."""

    spec: ClassVar[SenderSpec]
    proof: Signature | SharedSecret
    events: Events

    def __init__(self, options: BaseModel, secrets: Sequence[SecretStr]) -> None:
        self.options = options
        self._secrets = tuple(s.get_secret_value().encode() for s in secrets)

    def verify(self, request: Request) -> None:
        self.proof.check(request, self._secrets)

    def parse(self, request: Request) -> list[Part]:
        body = request.body.removeprefix(BOM).strip()
        shape = self.events.body
        if shape == "either":
            shape = "json" if body[:1] in (b"{", b"[") else "form"
        if shape == "form":
            pairs = fields(body)
            if pairs is None:
                return [Unparseable(-1, request.body, "no form")]
            return _only(self._part(0, request.body, Found(form := named(pairs), form, request)))
        pieces = self._pieces(body)
        if pieces is None:
            return [Unparseable(-1, request.body, f"no JSON of at most {EVENTS_MAX} events")]
        root = self._root(body)
        parts: list[Part] = []
        for piece in pieces:
            try:
                found = Found(_object(piece), root, request)
            except UNDECODABLE:
                parts.append(Unparseable(len(parts), piece, "not a JSON object"))
            else:
                parts += _only(self._part(len(parts), piece, found))
        return parts

    def kind(self, found: Found) -> str:
        """The platform's word for what happened; empty: it does not say."""
        words = filter(None, map(found.text, self.events.kind))
        return ".".join(words) or self.events.kind_default

    def kind_of(self, word: str, found: Found) -> EventKind:
        """Our word for it."""
        kinds = self.events.kinds
        known = kinds.get(word)
        return known or kinds.get(word.rpartition(".")[2], EventKind.other)

    def subject(self, word: str, found: Found) -> tuple[str, str]:
        """Type and id of what it is about; an id may be missing, a type never is."""
        named_ = [(_type(o, word, found), found.text(o.id)) for o in self.events.objects]
        for type_, id_ in named_:
            if type_ and id_:
                return type_, id_
        return next((type_, "") for type_ in (*(t for t, _ in reversed(named_)), "object") if type_)

    def related(self, word: str, found: Found) -> tuple[tuple[str, str], ...]:
        """What else it speaks of."""
        others = [(_type(o, word, found), found.text(o.id)) for o in self.events.related]
        return tuple((type_, id_) for type_, id_ in others if type_ and id_)

    def _part(self, position: int, payload: bytes, found: Found) -> Part | None:
        """None: it is a check of the address."""
        events = self.events
        word = self.kind(found)
        if not word:
            return Unparseable(position, payload, "no kind of event")
        if word in events.checks:
            return None
        kind = self.kind_of(word, found)
        object_type, object_id = self.subject(word, found)
        when_ms, certain = when(found.at(events.time), found.request.received_ms)
        values: dict[str, Any] = {}
        for path in events.values:
            values |= found.named(path)
        return Event(
            tuple(map(found.text, events.id)),
            canonical(_without(found.fields, events.repeats)),
            object_type,
            object_id,
            kind,
            word,
            when_ms,
            certain,
            _names(found.at(events.changed)) if kind is EventKind.updated else (),
            tuple(o for o in self.related(word, found) if o != (object_type, object_id)),
            events.thin,
            json_bytes(values),
            payload,
        )

    def _pieces(self, body: bytes) -> list[bytes] | None:
        """The bytes of each event; a body may be a list of envelopes too, or `null`."""
        if body == b"null":
            return []
        envelopes = _elements.split(body) if body[:1] == b"[" else [body] if body else None
        if envelopes is None or not self.events.many:
            return envelopes
        pieces: list[bytes] = []
        for envelope in envelopes:
            inside = envelope
            for name in self.events.many.split("."):
                inside = member(inside, name)
                if inside is None:
                    return None
            events = [] if inside == b"null" else _elements.split(inside)
            if events is None or len(pieces) + len(events) > EVENTS_MAX:
                return None
            pieces += events
        return pieces

    @cached_property
    def _from_root(self) -> bool:
        """Whether any path begins at the body."""
        return "$." in self.events.model_dump_json()

    def _root(self, body: bytes) -> Any:
        if not self._from_root:
            return None
        try:
            return msgspec.json.decode(body)
        except UNDECODABLE:
            return None


_elements = Elements(EVENTS_MAX)
_object = msgspec.json.Decoder(dict[str, Any]).decode


def _only(part: Part | None) -> list[Part]:
    return [] if part is None else [part]


def _type(subject: Subject, word: str, found: Found) -> str:
    if not (subject.type.startswith("{") and subject.type.endswith("}")):
        return subject.type
    path = subject.type[1:-1]
    return (word.rpartition(".")[0] or word) if path == "kind" else found.text(path)


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping | list):
        return tuple(name for name in value if isinstance(name, str))
    return ()


def _without(fields: Mapping[str, Any], paths: Sequence[str]) -> Mapping[str, Any]:
    """A copy as deep as the paths go."""
    for path in paths:
        name, _, rest = path.partition(".")
        if name not in fields:
            continue
        inner = fields[name]
        if not rest:
            fields = {n: v for n, v in fields.items() if n != name}
        elif isinstance(inner, Mapping):
            fields = {**fields, name: _without(inner, (rest,))}
    return fields


def spec_of(spec: SenderSpec, proof: AnyProof) -> SenderSpec:
    """With what is kept of a request for a later check: it depends on how it proves itself."""
    if isinstance(proof, SharedSecret):
        return replace(spec, secret_in_path=proof.address)
    return replace(
        spec,
        kept_headers=tuple(dict.fromkeys([*spec.kept_headers, *proof.headers()])),
        query_is_signed="{url}" in proof.signed,
    )

"""Salesforce's SOAP envelope to its notifications: by searching where it is plain, else stepwise.

Both read the same, and leave it to expat what is well-formed.
"""

import contextlib
import re
from functools import lru_cache
from typing import Any
from xml.parsers import expat

__all__ = ["Broken", "Notification", "notifications", "organization", "plain", "stepwise"]

NOTIFICATIONS_MAX = 1_000  # documented are 100; room for a change of theirs, still a bound
DEPTH_MAX = 32
SEVERAL = f"more than {NOTIFICATIONS_MAX} notifications"


class Broken(Exception):
    """No envelope, or one that must not be read on; the text says why, in words of ours."""


class Notification:
    """One of them. A field is None where it is told to be empty."""

    __slots__ = ("fields", "notification_id", "object_type", "payload")

    def __init__(self) -> None:
        self.notification_id = self.object_type = ""
        self.fields: dict[str, str | None] = {}
        self.payload = b""


def notifications(body: bytes) -> list[Notification]:
    """All of them, in order. A field that lies inside of another is named by its path:
    `Owner.Name`. Raises Broken."""
    body = _begin(body)
    found = plain(body)
    return stepwise(body) if found is None else found


# A field without attributes and without fields in it: its name without prefix, its text.
LEAF = re.compile(r"<(?:[^\s<>/:]++:)?([^\s<>/:]++)>([^<]*+)</")
ID_AND_OBJECT = re.compile(r"\s*<Id>([^<&]*)</Id>\s*<sObject(\s[^<>']*)>")
TYPE = re.compile(r'\s(?:[^\s=:"]+:)?type\s*=\s*"([^"&]*)"')
REFERENCE = re.compile(r"&(?:#(\d+)|#x([0-9A-Fa-f]+)|(\w+));")
NAMED = {"amp": "&", "lt": "<", "gt": ">", "apos": "'", "quot": '"'}


def plain(body: bytes) -> list[Notification] | None:
    """None: not as plain as Salesforce writes it, or not well-formed. Raises Broken: too many.

    What is well-formed, and has no comment, CDATA, document type or further instruction, has `<`
    only where a tag begins: the rest can be told by searching. Where every tag of a record belongs
    to a field found, there is nothing else in it.
    """
    # The rare character first: `<` is everywhere. A declaration has two question marks.
    marked = b"!" in body and b"<!" in body
    asked = 2 if body.startswith(b"<?") else 0
    if marked or (body.count(b"?") > asked and b"<?" in body[1:]) or b"\r" in body:
        return None
    try:
        _parser().Parse(body, True)
    except expat.ExpatError:
        return None
    head, *pieces = body.decode().split("<Notification>")
    found: list[Notification] = []
    tail = ""
    for piece in pieces:
        if tail.strip():
            return None  # something between two of them
        inside, closing, tail = piece.partition("</Notification>")
        one = _read(inside) if closing else None
        if one is None:
            return None
        one.payload = f"<Notification>{inside}</Notification>".encode()
        found.append(one)
    if "Notification" in head or "Notification" in tail:
        return None
    if head.count("<") > DEPTH_MAX or tail.count("<") > DEPTH_MAX:
        return None  # who knows how deep
    if found and not tail.lstrip().startswith("</notifications>"):
        return None
    if len(found) > NOTIFICATIONS_MAX:
        raise Broken(SEVERAL)
    return found


def _read(inside: str) -> Notification | None:
    """What stands in a plain notification; None: it is not plain."""
    start, end = ID_AND_OBJECT.match(inside), inside.rfind("</sObject>")
    if start is None or "Notification" in inside or inside[end:].strip() != "</sObject>":
        return None
    object_type = _type_of(start[2])
    leaves = LEAF.findall(inside, start.end(), end)
    if object_type is None or inside.count("<", start.end(), end) != 2 * len(leaves):
        return None
    one = Notification()
    one.notification_id, one.object_type = start[1].strip(), object_type
    one.fields = dict(leaves)
    if len(one.fields) != len(leaves):
        return None
    if "&" in inside:
        one.fields |= {name: REFERENCE.sub(_meant, text) for name, text in leaves if "&" in text}
    return one


@lru_cache(maxsize=1024)
def _type_of(attributes: str) -> str | None:
    """Of a record, out of its attributes; None: not told once."""
    types = TYPE.findall(attributes)
    return _prefixless(types[0].strip()) if len(types) == 1 else None


def _meant(reference: re.Match[str]) -> str:
    decimal, hexadecimal, name = reference.groups()
    if name:
        return NAMED[name]
    return chr(int(decimal)) if decimal else chr(int(hexadecimal, 16))


def _begin(body: bytes) -> bytes:
    """Without what some senders put before the XML declaration, where it may not be."""
    return body.removeprefix(b"\xef\xbb\xbf").lstrip()


def _parser() -> Any:
    """UTF-8 whatever the document says of itself; no document type, so no entities of its own."""
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True

    def refuse(*_: Any) -> None:
        raise Broken("a document type")

    parser.StartDoctypeDeclHandler = refuse
    return parser


@lru_cache(maxsize=4096)  # names of fields are few and come again, but the sender chooses them
def _prefixless(name: str) -> str:
    return name.rpartition(":")[2]


def organization(body: bytes) -> str:
    """OrganizationId of the message, read no further than it; empty where there is none."""
    parser = _parser()
    path: list[str] = []
    found: list[str] = []

    def start(name: str, _: Any) -> None:
        path.append(_prefixless(name))
        if len(path) > DEPTH_MAX or path[-1] == "Notification":
            raise Broken("before any OrganizationId")

    def end(_: str) -> None:
        if path.pop() == "OrganizationId" and path[-1:] == ["notifications"]:
            raise Broken("found")

    def character(data: str) -> None:
        if path[-2:] == ["notifications", "OrganizationId"]:
            found.append(data)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = character
    with contextlib.suppress(expat.ExpatError, Broken):
        parser.Parse(_begin(body), True)
    return "".join(found).strip()


def stepwise(body: bytes) -> list[Notification]:
    """Closures, and text that is collected without a call of Python: this runs for every field."""
    parser = _parser()
    parser.ordered_attributes = True  # a list, mostly empty
    found: list[Notification] = []
    path: list[str] = []
    text: list[str] = []
    now = Notification()
    base = began = 0  # depth of the notification that is open, or 0; where it begins
    leaf = nil = False

    def start(name: str, attributes: list[str]) -> None:
        nonlocal base, began, now, leaf, nil
        local = _prefixless(name)
        path.append(local)
        text.clear()
        if len(path) > DEPTH_MAX:
            raise Broken("nested too deep")
        if base:
            leaf, nil = True, False
            if attributes:
                told = {_prefixless(n): v for n, v in zip(*[iter(attributes)] * 2, strict=True)}
                nil = told.get("nil") in ("true", "1")
                if local == "sObject" and len(path) == base + 1:
                    now.object_type = _prefixless(told.get("type", "").strip())
        elif local == "Notification" and path[-2:-1] == ["notifications"]:
            if len(found) >= NOTIFICATIONS_MAX:
                raise Broken(SEVERAL)
            base, began, now = len(path), parser.CurrentByteIndex, Notification()

    def end(_: str) -> None:
        nonlocal base, leaf
        depth = len(path)
        if base and depth == base:
            at = parser.CurrentByteIndex
            alone = body[at - 2 : at] == b"/>" and body.index(b">", began) + 1 == at
            # `<Notification/>` has ended already
            now.payload = body[began : at if alone else body.index(b">", at) + 1]
            found.append(now)
            base = 0
        elif leaf and depth > base + 1 and path[base] == "sObject":
            field = path[-1] if depth == base + 2 else ".".join(path[base + 1 :])
            now.fields[field] = None if nil else "".join(text)
        elif leaf and depth == base + 1 and path[-1] == "Id":
            now.notification_id = "".join(text).strip()
        leaf = False
        path.pop()

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text.append
    try:
        parser.Parse(body, True)
    except expat.ExpatError:
        raise Broken("not well-formed XML") from None
    return found

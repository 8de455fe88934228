"""The two small languages of a description: paths into JSON, and templates that fill JSON. Pure.

A path is names parted by dots, numbers for places in a list: `errors.0.code`; `.` is the whole.
A template is JSON as it shall go out. In it
- a text `$a.b` stands for the value at that path of what is known, with its type (`$a | $b`: the
  first that is there); where nothing is there the key is left out;
- a text with `{a.b}` is text with the values filled in: lists parted by commas, `{a.b:json}` is
  JSON;
- under the key `+` stands an object whose keys come among the others.
There is no logic; what needs some is a word of the vocabulary (`declared_model.py`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

__all__ = [
    "MISSING", "Template", "as_text", "compiled", "holds", "look", "names_of", "parts", "place",
]  # fmt: skip

MISSING: Any = msgspec.UNSET
"""Nothing is there; unlike None, which is JSON's null."""

Scope = Mapping[str, Any]
Template = Callable[[Scope], Any]

_HOLE = re.compile(r"\{([A-Za-z_][\w.\-]*)(:json)?\}")
_NAME = re.compile(r"\$([A-Za-z_][\w.\-]*)")


def parts(path: str) -> tuple[str, ...]:
    return () if path in ("", ".") else tuple(path.split("."))


def look(value: Any, path: str | tuple[str, ...]) -> Any:
    """What stands at a path; MISSING where there is nothing."""
    for name in parts(path) if isinstance(path, str) else path:
        if isinstance(value, Mapping):
            value = value.get(name, MISSING)
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and name.isdigit():
            value = value[int(name)] if int(name) < len(value) else MISSING
        else:
            return MISSING
    return value


def place(into: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Put a value at a path, with the objects around it. What stands in the way is replaced."""
    *around, leaf = path
    for name in around:
        there = into.get(name)
        if not isinstance(there, dict):
            there = into[name] = {}
        into = there
    into[leaf] = value


def as_text(value: Any) -> str:
    match value:
        case None | msgspec.UNSET:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ",".join(map(as_text, value))
        case _:
            return str(value)


def holds(value: Any, conditions: Mapping[str, Any]) -> bool:
    """Whether at each path one of the allowed values stands; numbers and texts compare as text,
    null allows nothing to be there."""
    for path, allowed in conditions.items():
        found = look(value, path)
        wanted = allowed if isinstance(allowed, list) else [allowed]
        if found is MISSING or found is None:
            if None not in wanted:
                return False
        elif as_text(found) not in [as_text(w) for w in wanted if w is not None]:
            return False
    return True


def compiled(template: Any, *, path: bool = False) -> Template:
    """A template as a function of what is known. `path`: holes are percent-encoded."""
    match template:
        case str() if template.startswith("$"):
            names = [parts(name) for name in names_of(template)]
            return lambda known: _first(known, names)
        case str() if _HOLE.search(template):
            return lambda known: _HOLE.sub(lambda hole: _filled(known, hole, path), template)
        case dict():
            inner = [(key, compiled(value, path=path)) for key, value in template.items()]
            return lambda known: _object(known, inner)
        case list():
            items = [compiled(value, path=path) for value in template]
            return lambda known: [v for fill in items if (v := fill(known)) is not MISSING]
        case _:
            return lambda known: template


def names_of(template: Any) -> list[str]:
    """Every path that a template looks at. Raises ValueError for a text that begins with `$` and
    is not made of paths."""
    match template:
        case str() if template.startswith("$"):
            choices = [choice.strip() for choice in template.split("|")]
            wrong = [choice for choice in choices if not _NAME.fullmatch(choice)]
            if wrong:
                raise ValueError(f"{wrong[0]!r} is no path: write $name or $name.part")
            return [choice[1:] for choice in choices]
        case str():
            return [hole[1] for hole in _HOLE.finditer(template)]
        case dict():
            return [name for value in template.values() for name in names_of(value)]
        case list():
            return [name for value in template for name in names_of(value)]
        case _:
            return []


def _object(known: Scope, inner: Sequence[tuple[str, Template]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, fill in inner:
        value = fill(known)
        if key == "+":
            out |= value if isinstance(value, Mapping) else {}
        elif value is not MISSING:
            out[key] = value
    return out


def _first(known: Scope, names: Sequence[tuple[str, ...]]) -> Any:
    for name in names:
        value = look(known, name)
        if value is not MISSING:
            return value
    return MISSING


def _filled(known: Scope, hole: re.Match[str], path: bool) -> str:
    value = look(known, hole[1])
    json = hole[2] and value is not MISSING
    text = msgspec.json.encode(value).decode() if json else as_text(value)
    return quote(text, safe="") if path else text

"""Functions on text and lists."""

import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, cast

from mappings.cel.operations import LIST_ITEMS_MAX, TEXT_MAX, bounded_text, kind
from mappings.errors import EvaluationError

__all__ = ["null_or_refused"]


def null_or_refused(name: str, value: Any, wanted: str = "text") -> None:
    """Null in, null out; anything else is of the wrong kind."""
    if value is not None:
        raise EvaluationError(f"{name} needs {wanted}, not {kind(value)}")


def _text(name: str, value: Any) -> str:
    if value.__class__ is str:
        return value
    raise EvaluationError(f"{name} needs text, not {kind(value)}")


def empty(value: Any) -> bool:
    """True for null, "", blanks and []."""
    if value.__class__ is str:
        return not value or value.isspace()
    return value is None or value == []


def coalesce(*values: Any) -> Any:
    """The first that is not empty."""
    for value in values:
        if not empty(value):
            return value
    return None


def lower(text: Any) -> str | None:
    """In small letters."""
    return text.lower() if text.__class__ is str else null_or_refused("lower", text)


def upper(text: Any) -> str | None:
    """In capitals."""
    return text.upper() if text.__class__ is str else null_or_refused("upper", text)


def trim(text: Any) -> str | None:
    """Without blanks at both ends."""
    return text.strip() if text.__class__ is str else null_or_refused("trim", text)


def title(text: Any) -> str | None:
    """Capitals at the beginning of words, where all letters are small or all are capitals.

    What has both was typed with care and stays: McDonald, van der Berg.
    """
    if text.__class__ is not str:
        return null_or_refused("title", text)
    if not (text.islower() or text.isupper()):
        return text
    words = unicodedata.normalize("NFC", text).split(" ")
    return " ".join([w.capitalize() if w.isalnum() else _capitalised(w) for w in words])


def _capitalised(word: str) -> str:
    """A word with marks in it: Anne-Marie, O'Neil, but it's."""
    parts = [part.capitalize() for part in word.split("-")]
    for place, part in enumerate(parts):
        if part[1:2] in ("'", "’"):
            parts[place] = part[:2] + part[2:].capitalize()
    return "-".join(parts)


def truncate(text: Any, length: Any) -> str | None:
    """The first `length` characters."""
    if text.__class__ is not str:
        return null_or_refused("truncate", text)
    if length.__class__ is not int or length < 0:
        raise EvaluationError("truncate needs a length from 0")
    return text[:length]


def replace(text: Any, old: Any, new: Any) -> str | None:
    """Every `old` by `new`."""
    if text.__class__ is not str:
        return null_or_refused("replace", text)
    old, new = _text("replace", old), _text("replace", new)
    if len(text) + text.count(old) * (len(new) - len(old)) > TEXT_MAX:  # before it is made
        raise EvaluationError(f"makes a text longer than {TEXT_MAX} characters")
    return text.replace(old, new)


def split(text: Any, separator: Any) -> list[str] | None:
    """Parts between separators; of blank text, none."""
    if text.__class__ is not str:
        return null_or_refused("split", text)
    if not _text("split", separator):
        raise EvaluationError("split needs a separator")
    if empty(text):
        return []
    parts = cast("list[str]", text.split(separator, LIST_ITEMS_MAX))
    if len(parts) > LIST_ITEMS_MAX:
        raise EvaluationError(f"makes a list of more than {LIST_ITEMS_MAX} items")
    return parts


def join(items: Any, separator: Any) -> str | None:
    """All items of a list, which must be text, with a separator between."""
    if items.__class__ is not list:
        return null_or_refused("join", items, "a list")
    if len(items) > LIST_ITEMS_MAX:
        raise EvaluationError(f"join takes at most {LIST_ITEMS_MAX} items")
    return bounded_text(_text("join", separator).join([_text("join", item) for item in items]))


def contains(value: Any, part: Any) -> bool | None:
    """Whether a text holds a text."""
    if value.__class__ is not str:
        return null_or_refused("contains", value)
    return None if part is None else _text("contains", part) in value


def starts_with(text: Any, start: Any) -> bool | None:
    """Whether a text begins so."""
    if text.__class__ is not str:
        return null_or_refused("starts_with", text)
    return None if start is None else text.startswith(_text("starts_with", start))


def ends_with(text: Any, end: Any) -> bool | None:
    """Whether a text ends so."""
    if text.__class__ is not str:
        return null_or_refused("ends_with", text)
    return None if end is None else text.endswith(_text("ends_with", end))


def size(value: Any) -> int | None:
    """Characters of a text, items of a list."""
    if value.__class__ in (str, list, dict):
        return len(value)
    return null_or_refused("size", value, "text or a list")


def string(value: Any) -> str | None:
    """A number, or true or false, as text."""
    if value is None or value.__class__ is str:
        return value
    if value is True or value is False:
        return "true" if value else "false"
    if value.__class__ is int:
        return str(value)
    if value.__class__ is float:
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(value)
    raise EvaluationError(f"string cannot be used on {kind(value)}")


def sha256(text: Any) -> str | None:
    """64 hexadecimal digits, of the text as UTF-8."""
    if text.__class__ is not str:
        return null_or_refused("sha256", text)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def bind_lookup(table: Mapping[str, Any]) -> Callable[[Any], Any]:
    """What a table of the document says; its row `*` is otherwise. Blank gives null."""
    otherwise = table.get("*")

    def lookup(key: Any) -> Any:
        if key.__class__ is str:
            return table.get(key, None if empty(key) else otherwise)
        if key is None:
            return None
        if key.__class__ in (bool, int):
            return table.get(string(key) or "", otherwise)
        raise EvaluationError(f"lookup needs text, not {kind(key)}")

    return lookup


def method(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """CEL's own spelling, `x.contains(y)`, and its meaning: an error where anything is null."""

    def called(*given: Any) -> Any:
        for value in given:
            if value is None:
                raise EvaluationError(f".{name}() cannot be used on null")
        return call(*given)

    called.__doc__ = call.__doc__
    return called

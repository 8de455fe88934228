"""Regular expressions: RE2's syntax, written out in the document, linear in time."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# google-re2 has no types; what leaves this file has.

from collections.abc import Callable
from typing import Any, cast

import re2

from mappings.cel.operations import TEXT_MAX, bounded_text
from mappings.errors import EvaluationError
from mappings.functions.text import null_or_refused

PATTERN_MAX = 200
MEMORY_BYTES_MAX = 1 << 20  # of a compiled pattern: `(a{100}){100}` asks for more


def compiled(pattern: str) -> Any:
    """Raises ValueError."""
    if len(pattern) > PATTERN_MAX:
        raise ValueError(f"the pattern is longer than {PATTERN_MAX} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY_BYTES_MAX
    try:
        return re2.compile(pattern, options)
    except re2.error as error:  # pyright: ignore[reportUnknownVariableType]
        why: Any = cast("Exception", error).args[:1]
        words = b"".join(why).decode("utf-8", "replace") if why else ""
        raise ValueError(f"the pattern is no regular expression (RE2): {words}") from None


def bind_matches(pattern: str) -> Callable[[Any], bool | None]:
    """Whether the pattern is found anywhere in the text."""
    search = compiled(pattern).search

    def matches(text: Any) -> bool | None:
        if text.__class__ is not str:
            return null_or_refused("matches", text)
        return search(text) is not None

    return matches


def bind_regex_extract(pattern: str) -> Callable[[Any], str | None]:
    """The first group of the first match, the whole match where there is no group, else null."""
    known = compiled(pattern)
    group = 1 if known.groups else 0

    def regex_extract(text: Any) -> str | None:
        if text.__class__ is not str:
            return null_or_refused("regex_extract", text)
        found = known.search(text)
        return None if found is None else found.group(group)

    return regex_extract


def bind_regex_replace(pattern: str, new: str) -> Callable[[Any], str | None]:
    r"""Every match by a text, in which `\1` is the first group."""
    known = compiled(pattern)
    try:
        known.sub(new, "")
    except (re2.error, IndexError, ValueError):
        raise ValueError("the replacement names a group that the pattern lacks") from None

    def regex_replace(text: Any) -> str | None:
        if text.__class__ is not str:
            return null_or_refused("regex_replace", text)
        if len(text) > TEXT_MAX:
            raise EvaluationError(f"regex_replace takes at most {TEXT_MAX} characters")
        return bounded_text(known.sub(new, text))

    return regex_replace

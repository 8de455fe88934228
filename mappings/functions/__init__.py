"""The functions that expressions may call: pure, null in gives null out, bounded in time and size.

`VERSION` says with what they were made: the packages change results between their releases.
Listed with signatures in docs/mappings.md.
"""

import importlib.metadata
from collections.abc import Callable
from typing import Any

from mappings.cel.function import Function, Kind
from mappings.functions import numbers, patterns, people, text, times

__all__ = ["FUNCTIONS", "VERSION"]

VERSION = "1+" + "+".join(
    importlib.metadata.version(package)
    for package in ("google-re2", "phonenumbers", "pycountry", "tzdata")
)

TEXT: tuple[Kind, ...] = ("text",)
NUMBER: tuple[Kind, ...] = ("number",)
READABLE: tuple[Kind, ...] = ("text", "number")
TIME: tuple[Kind, ...] = ("text", "whole")
LIST: tuple[Kind, ...] = ("list",)
SIZED: tuple[Kind, ...] = ("text", "list", "object")
ANY: tuple[Kind, ...] = ("any",)


def _is(
    name: str,
    call: Callable[..., Any],
    gives: Kind,
    arguments: dict[str, tuple[Kind, ...]],
    **more: Any,
) -> Function:
    return Function(name, call, tuple(arguments.values()), gives, tuple(arguments), **more)


def _bound(
    name: str,
    bind: Callable[..., Callable[..., Any]],
    gives: Kind,
    arguments: dict[str, tuple[Kind, ...]],
    literal: tuple[int, ...] = (1,),
    **more: Any,
) -> Function:
    return _is(name, bind, gives, arguments, literal=literal, bind=bind, **more)


def _method(
    name: str, call: Callable[..., Any], gives: Kind, arguments: dict[str, tuple[Kind, ...]]
) -> Function:
    return _is(name, text.method(name, call), gives, arguments, method=True)


def _matches(pattern: str) -> Callable[..., Any]:
    """Whether the pattern is found anywhere in the text."""
    return text.method("matches", patterns.bind_matches(pattern))


_ALL = (
    _is("empty", text.empty, "bool", {"value": ANY}, never_null=True, never_fails=True),
    _is("coalesce", text.coalesce, "any", {"value": ANY}, many=True),
    _is("lower", text.lower, "text", {"text": TEXT}),
    _is("upper", text.upper, "text", {"text": TEXT}),
    _is("trim", text.trim, "text", {"text": TEXT}),
    _is("title", text.title, "text", {"text": TEXT}),
    _is("truncate", text.truncate, "text", {"text": TEXT, "length": ("whole",)}),
    _is("replace", text.replace, "text", {"text": TEXT, "old": TEXT, "new": TEXT}),
    _is("split", text.split, "list", {"text": TEXT, "separator": TEXT}),
    _is("join", text.join, "text", {"list": LIST, "separator": TEXT}),
    _is("contains", text.contains, "bool", {"text": TEXT, "part": TEXT}),
    _is("starts_with", text.starts_with, "bool", {"text": TEXT, "start": TEXT}),
    _is("ends_with", text.ends_with, "bool", {"text": TEXT, "end": TEXT}),
    _is("size", text.size, "whole", {"value": SIZED}),
    _is("string", text.string, "text", {"value": ("text", "number", "bool")}),
    _is("sha256", text.sha256, "text", {"text": TEXT}),
    _bound(
        "lookup", text.bind_lookup, "any", {"table": TEXT, "key": ("text", "whole", "bool")},
        literal=(0,), table=True,
    ),
    _bound("matches", patterns.bind_matches, "bool", {"text": TEXT, "pattern": TEXT}),
    _bound("regex_extract", patterns.bind_regex_extract, "text", {"text": TEXT, "pattern": TEXT}),
    _bound(
        "regex_replace", patterns.bind_regex_replace, "text",
        {"text": TEXT, "pattern": TEXT, "new": TEXT}, literal=(1, 2),
    ),
    _bound("split_name", people.bind_split_name, "text", {"name": TEXT, "part": TEXT}),
    _is("email_normalise", people.email_normalise, "text", {"address": TEXT}),
    _is("email_domain", people.email_domain, "text", {"address": TEXT}),
    _is("phone_e164", people.phone_e164, "text", {"number": TEXT, "country": TEXT}),
    _is("country_code", people.country_code, "text", {"country": TEXT}),
    _is("country_name", people.country_name, "text", {"country": TEXT}),
    _is("to_int", numbers.to_int, "whole", {"value": READABLE}),
    _is("to_number", numbers.to_number, "number", {"value": READABLE}),
    _is("to_bool", numbers.to_bool, "bool", {"value": ("text", "whole", "bool")}),
    _bound(
        "round", numbers.bind_round, "any", {"value": NUMBER, "digits": ("whole",)}, optional=1
    ),
    _is("abs", numbers.abs_, "any", {"value": NUMBER}),
    _is("int", numbers.int_, "whole", {"value": READABLE}),
    _is("double", numbers.double, "number", {"value": READABLE}),
    _bound(
        "date_format", times.bind_date_format, "text",
        {"time": TIME, "pattern": TEXT, "zone": TEXT}, literal=(1, 2), optional=1,
    ),
    _bound(
        "date_parse", times.bind_date_parse, "text",
        {"text": TEXT, "pattern": TEXT, "zone": TEXT}, literal=(1, 2), optional=1,
    ),
    _is("to_seconds", times.to_seconds, "whole", {"time": TIME}),
    _is("to_millis", times.to_millis, "whole", {"time": TIME}),
    _is("to_micros", times.to_micros, "whole", {"time": TIME}),
    # CEL's own spelling
    _method("contains", text.contains, "bool", {"text": TEXT, "part": TEXT}),
    _method("startsWith", text.starts_with, "bool", {"text": TEXT, "start": TEXT}),
    _method("endsWith", text.ends_with, "bool", {"text": TEXT, "end": TEXT}),
    _method("size", text.size, "whole", {"value": SIZED}),
    _bound("matches", _matches, "bool", {"text": TEXT, "pattern": TEXT}, method=True),
)  # fmt: skip

FUNCTIONS: dict[str, Function] = {("." if f.method else "") + f.name: f for f in _ALL}
"""By name; a name with a dot before it is called as `x.name(…)`."""

"""What described platforms answer: templates, paths, windows. See `declared.py`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from simulators.quotas import Calendar, Concurrent, Rolling, Window
from simulators.server import Answer

__all__ = ["Data", "answered", "filled", "flat", "look", "nested", "told", "window"]

HOLE = re.compile(r"\{([\w.]+)\}")

Data = Mapping[str, Any]


def told(fates: list[dict[str, Any]], said: Data) -> dict[str, Any]:
    """Fates as they stand in an answer."""
    good = [filled(said.get("good"), fate) for fate in fates if fate["ok"]]
    bad = [filled(said.get("bad_row"), fate) for fate in fates if not fate["ok"]]
    both = [filled(said.get("good" if f["ok"] else "bad_row"), f) for f in fates]
    return {
        "good": good, "bad": bad, "all": both, "first": good[0] if good else None,
        "good_count": len(good), "bad_count": len(bad),
    }  # fmt: skip


def window(name: str, said: Data) -> Window:
    made = _window(name, said)
    made.weighted = said.get("weighted", False)
    return made


def _window(name: str, said: Data) -> Window:
    match said["kind"]:
        case "rolling":
            return Rolling(name, said["limit"], said["window_s"])
        case "calendar":
            zone = said.get("zone", "UTC")
            return Calendar(name, said["limit"], said.get("window_s", 86_400), zone)
        case "concurrent":
            return Concurrent(name, said["limit"])
        case kind:
            raise ValueError(f"{name}: no kind of window {kind!r}")


def answered(said: Data, known: Mapping[str, Any]) -> Answer:
    body = filled(said.get("answer"), known)
    headers = {name: str(filled(value, known)) for name, value in said.get("headers", {}).items()}
    if isinstance(body, str):
        return Answer(
            said.get("status", 200), body.encode(), {"Content-Type": "text/html", **headers}
        )
    return Answer(said.get("status", 200), body, headers)


def look(value: Any, path: str) -> Any:
    """None where nothing is there."""
    for name in () if path == "." else path.split("."):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def filled(template: Any, known: Mapping[str, Any]) -> Any:
    """`@a.b?`: the key is left out where nothing is there; `+`: its value's keys stand here."""
    if isinstance(template, str):
        if template.startswith("@"):
            return look(dict(known), template[1:].removesuffix("?"))
        if "{" in template:
            return HOLE.sub(lambda hole: str(look(dict(known), hole[1])), template)
        return template
    if isinstance(template, dict):
        out: dict[str, Any] = {}
        for name, value in template.items():
            said = filled(value, known)
            if name == "+":
                out |= said or {}
                continue
            optional = isinstance(value, str) and value.startswith("@") and value.endswith("?")
            if not optional or (said is not None and said != []):
                out[name] = said
        return out
    return [filled(value, known) for value in template] if isinstance(template, list) else template


def flat(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        at = out
        *around, leaf = name.split(".")
        for part in around:
            at = at.setdefault(part, {})
        at[leaf] = value
    return out

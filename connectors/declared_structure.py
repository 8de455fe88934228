"""The part of certification that needs no platform: is a description whole, and are its quotas?"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from connectors.declared import load
from connectors.declared_model import Description
from ratelimits.registry import Registry
from schemas.yamlfile import ConfigInvalid, read_yaml

__all__ = ["LINES_MAX", "structural"]

LINES_MAX = 200
"""A longer description says something that the vocabulary should have a word for."""


def structural(path: Path, quotas: Path) -> list[str]:
    """Every mistake in a description and in its file of quotas, each a line with file and line."""
    try:
        description = load(path)
    except ConfigInvalid as error:
        return list(error.problems)
    lines = read_yaml(path)[1]
    wrong: list[str] = []
    if description.platform != path.stem:
        what = f"is {description.platform}, and the file is called {path.stem}"
        wrong.append(lines.problem(("platform",), what))
    if (count := len(path.read_text().splitlines())) > LINES_MAX:
        wrong.append(f"{path}:{LINES_MAX + 1}: has {count} lines, at most {LINES_MAX} are read")
    try:
        registry = Registry.model_validate_json(quotas.read_bytes())
    except OSError as error:
        return [*wrong, f"{quotas}: cannot be read: {error.strerror}"]
    except ValidationError as error:
        found = error.errors(include_input=False)
        return wrong + [f"{quotas}: {'.'.join(map(str, p['loc']))}: {p['msg']}" for p in found]
    if registry.platform != description.platform:
        wrong.append(f"{quotas}: platform: is {registry.platform}")
    wrong += [lines.problem(where, what) for where, what in _groups(description, registry)]
    spent = {name for names in registry.groups.values() for name in names}
    unspent = sorted(set(registry.windows) - spent)
    wrong += [
        f"{quotas}: windows.{name}: no group spends it, so it limits nothing" for name in unspent
    ]
    return wrong


def _groups(
    description: Description, registry: Registry
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    known = ", ".join(sorted(registry.groups))
    for name, form in description.objects.items():
        for word in ("write_quota", "read_quota", "match_quota"):
            group = getattr(form, word)
            if group and group not in registry.groups:
                yield ("objects", name, word), f"no group {group} of quotas; there are {known}"
        if form.job and form.job.quota and form.job.quota not in registry.groups:
            place = ("objects", name, "job", "quota")
            yield place, f"no group {form.job.quota} of quotas; there are {known}"

"""`pyproject.toml`: an extra brings all that its folder imports, and the lock has it."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = set(SETTINGS["tool"]["importlinter"]["root_packages"])


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def brought(extra: str) -> set[str]:
    """Distributions of an extra and of what it includes."""
    found = set[str]()
    for requirement in EXTRAS[extra]:
        if name_of(requirement) == "syncline":
            inner = requirement[requirement.index("[") + 1 : requirement.index("]")]
            found |= {name for part in inner.split(",") for name in brought(part.strip())}
        else:
            found.add(name_of(requirement))
    return found


def imported(folders: set[str]) -> dict[str, Path]:
    """Packages from outside that the folders import when they are loaded, or later."""
    found: dict[str, Path] = {}
    for path in (p for folder in folders for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            found |= {name.partition(".")[0]: path for name in names}
    return {n: p for n, p in found.items() if n not in OURS | set(sys.stdlib_module_names)}


@pytest.mark.parametrize(
    ("extra", "folders"),
    [
        ("mappings", {"mappings", "ratelimits", "schemas"}),
        ("streams", {"streams", "mappings", "schemas"}),
        ("connectors", {"connectors", "mappings", "ratelimits", "schemas"}),
        ("gateway", {"webhook_gateway", "schemas"}),
    ],
)
def test_an_extra_brings_what_its_folders_import(extra: str, folders: set[str]) -> None:
    installed = packages_distributions()
    here = {name_of(r) for r in PROJECT["dependencies"]} | brought(extra)
    for name, path in imported(folders).items():
        by = {name_of(d) for d in installed[name]}
        assert by & here, f"{path} imports {name} ({', '.join(by)}), which [{extra}] lacks"


def test_the_lock_has_all_that_is_asked_for() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==", lock, re.MULTILINE))
    wanted = {name_of(r) for r in PROJECT["dependencies"]}
    wanted |= {name for extra in EXTRAS for name in brought(extra)}
    assert wanted <= locked, wanted - locked

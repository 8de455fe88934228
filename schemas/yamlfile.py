"""YAML files into models, with the line of every mistake."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

__all__ = ["ConfigInvalid", "Lines", "load_yaml", "read_yaml"]

M = TypeVar("M", bound=BaseModel)
BYTES_MAX = 4 * 1024 * 1024


class ConfigInvalid(Exception):
    """One or more mistakes, each a line `path:line: field: what is wrong`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Lines:
    """Where the keys of a file stand."""

    def __init__(self, path: Path, tree: Any) -> None:
        self.path, self._tree = path, tree

    def of(self, where: Sequence[str | int] = ()) -> int:
        """Line (from 1) of a key, or of the nearest thing around it that the file has."""
        node, line = self._tree, 1
        for part in where:
            marks = getattr(node, "lc", None)
            if marks is None:
                return line
            try:
                at = marks.key(part) if hasattr(node, "keys") else marks.item(part)
                node = node[part]
            except (KeyError, IndexError, TypeError):
                return line
            line = at[0] + 1
        return line

    def problem(self, where: Sequence[str | int], what: str) -> str:
        """`path:line: field: what`."""
        name = ".".join(map(str, where))
        return f"{self.path}:{self.of(where)}: {name + ': ' if name else ''}{what}"


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """Plain data and where it stands. Raises ConfigInvalid for what is no YAML."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise ConfigInvalid([f"{path}:1: larger than {BYTES_MAX} bytes"])
        tree = YAML(typ="rt").load(path.read_text())
    except OSError as error:
        raise ConfigInvalid([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigInvalid([f"{path}:1: is not UTF-8 text"]) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigInvalid([f"{path}:{line}: {error.problem or error.context}"]) from None
    return _plain(tree), Lines(path, tree)


def load_yaml(path: Path, model: type[M]) -> M:
    """A file as a model. Raises ConfigInvalid that names every mistake with its line."""
    data, lines = read_yaml(path)
    return validated(data, lines, model)


def validated(data: Any, lines: Lines, model: type[M]) -> M:
    """Data that was read already as a model. Raises ConfigInvalid."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigInvalid(
            [lines.problem(problem["loc"], _words(problem)) for problem in error.errors()]
        ) from None


def _words(problem: Any) -> str:
    """Without the value: it may be a secret that stands where its reference belongs."""
    match problem["type"]:
        case "extra_forbidden":
            return "is not known here; look for a spelling mistake"
        case "missing":
            return "is missing"
        case _:
            return str(problem["msg"])


def _plain(node: Any) -> Any:
    """ruamel's own kinds of dict, list and text as Python's."""
    if isinstance(node, dict):
        return {_plain(k): _plain(v) for k, v in node.items()}
    if isinstance(node, list):
        return [_plain(v) for v in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node

"""YAML files into models, with the line of every mistake.

YAML as configuration needs it, and no more: no aliases, no tags, one document a file. Keys are
text as written (`1:` is "1"), and so are times.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

__all__ = ["ConfigInvalid", "Lines", "load_yaml", "read_yaml", "validated"]

M = TypeVar("M", bound=BaseModel)
BYTES_MAX = 4 * 1024 * 1024
DEPTH_MAX = 32
Where = tuple[str | int, ...]


class ConfigInvalid(Exception):
    """One or more mistakes, each a line `path:line: field: what is wrong`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Lines:
    """Where the keys of a file stand."""

    def __init__(self, path: Path, lines: dict[Where, int]) -> None:
        self.path, self._lines = path, lines

    def of(self, where: Sequence[str | int] = ()) -> int:
        """Line (from 1) of a key, or of the nearest thing around it that the file has."""
        known = tuple(where)
        while known and known not in self._lines:
            known = known[:-1]
        return self._lines.get(known, 1)

    def problem(self, where: Sequence[str | int], what: str) -> str:
        """`path:line: field: what`."""
        name = ".".join(map(str, where))
        return f"{self.path}:{self.of(where)}: {name + ': ' if name else ''}{what}"


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """Plain data and where it stands. Raises ConfigInvalid for what is no YAML of ours."""
    text = _text(path)
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        words = ", ".join(filter(None, (error.context, error.problem)))
        raise ConfigInvalid([f"{path}:{line}: {words}"]) from None
    except YAMLError as error:  # a character that YAML has no place for
        at = getattr(error, "position", 0)
        line = text.count("\n", 0, at if isinstance(at, int) else 0) + 1
        raise ConfigInvalid([f"{path}:{line}: is no YAML: an unusual character"]) from None
    except RecursionError:
        raise ConfigInvalid([f"{path}:1: is nested too deeply"]) from None
    reader = _Reader(path)
    data = None if root is None else reader.plain(root, ())
    if reader.problems:
        raise ConfigInvalid(reader.problems)
    return data, Lines(path, reader.lines)


def load_yaml(path: Path, model: type[M]) -> M:
    """A file as a model. Raises ConfigInvalid that names every mistake with its line."""
    data, lines = read_yaml(path)
    return validated(data, lines, model)


def validated(data: Any, lines: Lines, model: type[M], at: Where = ()) -> M:
    """Data that was read already as a model; `at`: where in the file it stands. Raises
    ConfigInvalid."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigInvalid(
            [lines.problem((*at, *wrong["loc"]), _words(wrong)) for wrong in error.errors()]
        ) from None


def _words(problem: Any) -> str:
    """Without the value: it may be a secret that stands where its reference belongs."""
    match problem["type"]:
        case "extra_forbidden":
            return "is not known here; look for a spelling mistake"
        case "missing":
            return "is missing"
        case _:
            return str(problem["msg"]).removeprefix("Value error, ")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
        if len(data) > BYTES_MAX:
            raise ConfigInvalid([f"{path}:1: is larger than {BYTES_MAX} bytes"])
        return data.decode()
    except OSError as error:
        raise ConfigInvalid([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigInvalid([f"{path}:{line}: is not UTF-8 text"]) from None


class _Reader:
    """Nodes to plain data. A node that comes twice is an alias: refused, so the work is bounded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Where, int] = {}
        self.problems: list[str] = []
        self.seen: set[int] = set()

    def wrong(self, node: Node, what: str) -> None:
        self.problems.append(f"{self.path}:{_line(node)}: {what}")

    def plain(self, node: Node, where: Where) -> Any:
        self.lines.setdefault(where, _line(node))
        if id(node) in self.seen:
            return self.wrong(node, "this is used twice (&, *): write it out")
        self.seen.add(id(node))
        if len(where) > DEPTH_MAX:
            return self.wrong(node, "is nested too deeply")
        match node:
            case MappingNode():
                return self.mapping(node, where)
            case SequenceNode():
                return [self.plain(item, (*where, i)) for i, item in enumerate(node.value)]
            case _:
                return self.scalar(node)

    def mapping(self, node: MappingNode, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.wrong(key, "a key must be plain text")
                continue
            name = str(key.value)
            if name in found:
                self.wrong(key, f"{name} is written twice")
            self.lines[(*where, name)] = _line(key)
            found[name] = self.plain(value, (*where, name))
        return found

    def scalar(self, node: Node) -> Any:
        kind, text = str(node.tag).removeprefix("tag:yaml.org,2002:"), str(node.value)
        if kind.startswith("!"):
            return self.wrong(node, "tags (!) are not known here")
        try:
            return _SCALARS.get(kind, str)(text)
        except ValueError:
            return self.wrong(node, "is no number")


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _whole(text: str) -> int:
    return int(text.replace("_", ""), 0 if text.lstrip("+-")[1:2] in ("x", "o", "b") else 10)


def _fraction(text: str) -> float:
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda _: None,
    "bool": lambda text: text.lower() in ("true", "yes", "on"),  # the latter by `%YAML 1.1`
    "int": _whole,
    "float": _fraction,
}

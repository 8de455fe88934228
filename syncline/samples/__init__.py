"""One webhook of each platform to try things out with: bodies as their platforms send them.

A file `<platform>/<name>.<json|xml|form>` is the body with `$names` in it; in a `.form` each line
is a field before its encoding. Each time it is another person's, unless the seed is given again.
"""

import random
import string
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from urllib.parse import urlencode

__all__ = ["Sample", "filled", "samples", "values"]

TYPES = {
    "json": "application/json",
    "xml": "text/xml; charset=utf-8",
    "form": "application/x-www-form-urlencoded",
}


@dataclass(frozen=True)
class Sample:
    """A body with blanks."""

    platform: str
    name: str
    kind: str
    """json, xml or form."""
    text: str

    @property
    def content_type(self) -> str:
        return TYPES[self.kind]

    def __str__(self) -> str:
        return f"{self.platform}/{self.name}"


def samples() -> list[Sample]:
    """All that are shipped, by platform and name."""
    found: list[Sample] = []
    for folder in files(__name__).iterdir():
        for file in folder.iterdir() if folder.is_dir() else ():
            name, _, kind = file.name.rpartition(".")
            if kind in TYPES:
                found.append(Sample(folder.name, name, kind, file.read_text(encoding="utf-8")))
    return sorted(found, key=str)


def values(now_ms: int, seed: str, account: str = "", email: str = "") -> dict[str, str]:
    """What the blanks are filled with; the same seed gives the same person."""
    chance = random.Random(seed)  # noqa: S311 - no secret hangs on it
    number = chance.randrange(10**8, 10**9)
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    return {
        "account": account or "33",
        "email": email or f"ada.{number}@example.com",
        "number": str(number),
        "number15": f"{number:012}AAA",
        "uuid": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "now_ms": str(now_ms),
        "now_s": str(now_ms // 1000),
        "now_iso": now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now_ms % 1000:03}Z",
        "now_zone": now.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
        "now_text": now.strftime("%Y-%m-%d %H:%M:%S"),
    }


def filled(sample: Sample, given: Mapping[str, str]) -> bytes:
    """The body."""
    fill = string.Template(sample.text.strip())
    if sample.kind != "form":
        return fill.substitute(given).encode()
    pairs = [line.partition("=") for line in fill.substitute(given).splitlines()]
    return urlencode([(name, value) for name, _, value in pairs]).encode()

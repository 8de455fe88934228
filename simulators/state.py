"""Contents and ledgers of a simulator in a file, between two runs. Not safe against a crash."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from simulators.store import Kept

if TYPE_CHECKING:
    from simulators.server import Platform


class _File(msgspec.Struct):
    requests: int
    stores: dict[str, Kept]


def save(platform: "Platform", directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    kept = {kind: store.keep() for kind, store in platform.stores.items()}
    data = msgspec.msgpack.encode(_File(platform.requests, kept))
    (directory / f"{platform.name}.msgpack").write_bytes(data)


def kept(platform: "Platform", directory: Path) -> bool:
    return (directory / f"{platform.name}.msgpack").exists()


def load(platform: "Platform", directory: Path) -> None:
    data = (directory / f"{platform.name}.msgpack").read_bytes()
    file = msgspec.msgpack.decode(data, type=_File)
    platform.requests = file.requests
    for kind, kept in file.stores.items():
        platform.stores[kind].restore(kept)
    platform.refilled()

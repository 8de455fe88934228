"""The pinned Java files: downloaded where missing, checked against `jars.lock`, kept in the cache.

A line of the lock: sha256, Maven coordinate, file name. `python -m syncline.jars` makes it anew.
"""

import hashlib
import os
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from filelock import FileLock
from tenacity import retry, retry_if_not_exception_type, stop_after_attempt, wait_exponential

__all__ = ["LOCK", "Forged", "apicurio", "cache_dir", "fetch"]

LOCK = Path(__file__).with_name("jars.lock")
KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
LOGGING = "org.slf4j:slf4j-simple:1.7.36"
APICURIO = "io.apicurio:apicurio-registry-app:3.3.3:all:tar.gz"


class Forged(Exception):
    """A downloaded file is not the one that the lock names."""


def cache_dir() -> Path:
    """`SYNCLINE_CACHE_DIR`, else the user's cache folder. May be deleted at any time."""
    own = os.environ.get("SYNCLINE_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "syncline"


def fetch(
    cache: Path, progress: Callable[[int, int], None] = lambda done, all_: None, lock: Path = LOCK
) -> list[Path]:
    """All pinned files, in the lock's order. Safe to call from several processes at once.

    `progress` is told how many of the missing files are there. Raises Forged, or OSError where
    the repository cannot be reached.
    """
    files = [line.split() for line in lock.read_text().splitlines()]
    if any(not (cache / name).exists() for *_, name in files):
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".lock"):
            missing = [f for f in files if not (cache / f[2]).exists()]
            with ThreadPoolExecutor(8) as pool:
                done = pool.map(lambda f: _download(f[0], f[1], cache / f[2]), missing)
                for n, _ in enumerate(done, 1):
                    progress(n, len(missing))
    return [cache / name for *_, name in files]


@retry(
    stop=stop_after_attempt(3),
    wait=wait_exponential(0.5, 5),
    retry=retry_if_not_exception_type(Forged),
    reraise=True,
)
def _download(sha256: str, coordinate: str, path: Path) -> None:
    """Into a fresh folder, as half a file left by a broken transfer would be taken as good."""
    from jgo.maven import MavenContext

    group, artifact, version, *rest = coordinate.split(":")
    classifier, packaging = rest or ("", "jar")
    with TemporaryDirectory(dir=path.parent) as fresh:
        maven = MavenContext(repo_cache=Path(fresh), timeout=60, **_repositories())
        project = maven.project(group, artifact).at_version(version)
        got = project.artifact(classifier, packaging).resolve()
        found = hashlib.sha256(got.read_bytes()).hexdigest()
        if found != sha256:
            raise Forged(f"{coordinate}: sha256 is {found}, the lock says {sha256}")
        os.replace(got, path)


def _repositories() -> dict[str, Any]:
    """The user's own mirror, from jgo's or Maven's settings; nothing: jgo's default."""
    from jgo.config import GlobalSettings

    if own := GlobalSettings.load().repositories:
        return {"remote_repos": own}
    settings = Path.home() / ".m2" / "settings.xml"
    mirrors = ElementTree.parse(settings).iterfind(".//{*}mirror") if settings.exists() else ()  # noqa: S314 - the user's own file
    for mirror in mirrors:
        if {"*", "external:*", "central"} & set(mirror.findtext("{*}mirrorOf", "").split(",")):
            return {"remote_repos": {"central": mirror.findtext("{*}url", "").rstrip("/")}}
    return {}


def apicurio(archive: Path) -> Path:
    """The registry, unpacked beside its archive (once)."""
    home = archive.with_name(archive.name.removesuffix(".tar.gz"))
    if not home.exists():
        with FileLock(archive.with_name(".unpack")):
            if not home.exists():
                with TemporaryDirectory(dir=archive.parent) as fresh:
                    with tarfile.open(archive) as tar:
                        tar.extractall(Path(fresh) / "home", filter="data")
                    os.replace(Path(fresh) / "home", home)
    return home


def main() -> None:
    """Resolve the newest lock from the coordinates above."""
    from jgo.maven import MavenContext

    with TemporaryDirectory() as fresh:
        maven = MavenContext(repo_cache=Path(fresh), timeout=60, **_repositories())
        wanted = [maven.create_dependency(c) for c in (KAFKA, LOGGING)]
        named, pulled = maven.resolver.resolve(wanted)
        scopes = ("compile", "runtime")
        artifacts = [d.artifact for d in (*named, *(d for d in pulled if d.scope in scopes))]
        group, name, version, classifier, packaging = APICURIO.split(":")
        project = maven.project(group, name).at_version(version)
        found = [(f"{a.groupId}:{a.artifactId}:{a.version}", a.resolve()) for a in artifacts]
        found.append((APICURIO, project.artifact(classifier, packaging).resolve()))
        LOCK.write_text(
            "".join(
                f"{hashlib.sha256(path.read_bytes()).hexdigest()} {coordinate} {path.name}\n"
                for coordinate, path in found
            )
        )


if __name__ == "__main__":
    main()

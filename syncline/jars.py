"""The pinned Java files: downloaded where missing, checked against `jars.lock`, kept in the cache.

A line of the lock: sha256, size in bytes, Maven coordinate, file name. `make lock` makes it anew.
"""

import hashlib
import os
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from filelock import FileLock
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

__all__ = ["LOCK", "FetchFailed", "Files", "Forged", "Pinned", "cache_dir", "fetch", "missing"]

LOCK = Path(__file__).with_name("jars.lock")
KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
LOGGING = "org.slf4j:slf4j-simple:1.7.36"
APICURIO = "io.apicurio:apicurio-registry-app:3.3.3:all:tar.gz"

Progress = Callable[[int, int], None]
"""Told (bytes that are there, bytes in all), from several threads, one at a time."""


class FetchFailed(Exception):
    """A file could not be downloaded; the text says what to do. Nothing half is left behind."""


class Forged(FetchFailed):
    """A downloaded file is not the one that the lock names."""


@dataclass(frozen=True)
class Pinned:
    """One line of the lock."""

    sha256: str
    size: int
    coordinate: str
    name: str

    @classmethod
    def read(cls, lock: Path) -> list["Pinned"]:
        lines = (line.split() for line in lock.read_text().splitlines())
        return [cls(sha256, int(size), *rest) for sha256, size, *rest in lines]

    def place(self, cache: Path) -> Path:
        """Where it is used from: a jar, or the folder into which an archive is unpacked."""
        return cache / self.name.removesuffix(".tar.gz")

    def is_in(self, cache: Path) -> bool:
        """A file shorter than it should be (disk full, power cut) does not count."""
        place = self.place(cache)
        return place.is_dir() or (place.is_file() and place.stat().st_size == self.size)


@dataclass(frozen=True)
class Files:
    """What the stack runs on."""

    kafka: tuple[Path, ...]
    """Kafka's jars, sorted."""
    registry: Path
    """The folder with the registry."""


def cache_dir() -> Path:
    """`SYNCLINE_CACHE_DIR`, else the user's cache folder. May be deleted while nothing runs."""
    own = os.environ.get("SYNCLINE_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "syncline"


def missing(cache: Path, lock: Path = LOCK) -> int:
    """Bytes that `fetch` would download."""
    return sum(pin.size for pin in Pinned.read(lock) if not pin.is_in(cache))


def fetch(cache: Path, progress: Progress = lambda done, total: None, lock: Path = LOCK) -> Files:
    """All pinned files. Safe to call from several processes at once: one downloads, others wait.

    Raises Forged, or FetchFailed where the repository cannot be reached after three attempts.
    """
    pins = Pinned.read(lock)
    if missing(cache, lock):
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".lock"):
            wanted = [pin for pin in pins if not pin.is_in(cache)]
            count = _Count(sum(pin.size for pin in wanted), progress)
            with ThreadPoolExecutor(8) as pool:
                for _ in pool.map(lambda pin: _bring(pin, cache, count), wanted):
                    pass
    places = [pin.place(cache) for pin in pins]
    kafka = tuple(sorted(place for place in places if place.suffix == ".jar"))
    return Files(kafka, next((p for p in places if p not in kafka), cache))


def _bring(pin: Pinned, cache: Path, count: "_Count") -> None:
    """Into a fresh folder first: jgo trusts any file that it finds, also half of one."""
    try:
        with TemporaryDirectory(dir=cache) as fresh:
            got = _download(pin, Path(fresh), count)
            if pin.name.endswith(".tar.gz"):
                with tarfile.open(got) as tar:
                    tar.extractall(got.with_name("unpacked"), filter="data")
                got = got.with_name("unpacked")
            os.replace(got, pin.place(cache))
    except FetchFailed:
        raise
    # jgo says RuntimeError where a file is not there; ParseError: of the user's Maven settings
    except (OSError, RuntimeError, tarfile.TarError, ElementTree.ParseError) as error:
        words = re.sub(r"//[^/@\s]*@", "//", str(error))  # a mirror's address may hold a password
        raise FetchFailed(
            f"cannot download {pin.coordinate}: {words}. The files come from Maven Central: check "
            "the network, HTTPS_PROXY, or a mirror in ~/.m2/settings.xml"
        ) from error


@retry(
    stop=stop_after_attempt(3),
    wait=wait_exponential(0.5, max=5),
    retry=retry_if_exception_type((OSError, Forged)),  # a broken transfer looks forged, too
    reraise=True,
)
def _download(pin: Pinned, cache: Path, count: "_Count") -> Path:
    from jgo.maven import MavenContext  # 0.2 s, only when something is missing
    from jgo.maven import PythonResolver as Resolver

    group, artifact, version, *rest = pin.coordinate.split(":")
    classifier, packaging = rest or ("", "jar")
    with TemporaryDirectory(dir=cache) as fresh, count.part() as part:
        maven = MavenContext(
            resolver=Resolver(progress_callback=part),
            repo_cache=Path(fresh),
            timeout=30,
            **_repositories(),
        )
        project = maven.project(group, artifact).at_version(version)
        got = project.artifact(classifier, packaging).resolve()
        found = _sha256(got)
        if found != pin.sha256:
            raise Forged(
                f"{pin.coordinate}: what was downloaded has sha256 {found}, the lock says "
                f"{pin.sha256}. It was thrown away; a proxy or mirror may have changed it"
            )
        os.replace(got, cache / pin.name)
        return cache / pin.name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Count:
    """Bytes downloaded, over all threads; a failed attempt takes back what it had counted."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.total, self.done, self.progress = total, 0, progress
        self.lock = threading.Lock()

    def add(self, count: int) -> None:
        with self.lock:
            self.done += count
            self.progress(self.done, self.total)

    @contextmanager
    def part(self) -> Iterator[Any]:
        """jgo's callback for one download."""
        mine = 0

        @contextmanager
        def callback(name: str, size: int) -> Iterator[Callable[[int], None]]:
            def update(count: int) -> None:
                nonlocal mine
                mine += count
                self.add(count)

            yield update

        try:
            yield callback
        except BaseException:
            self.add(-mine)
            raise


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


def main() -> None:
    """Resolve the lock anew from the coordinates above."""
    from jgo.maven import MavenContext

    with TemporaryDirectory() as fresh:
        maven = MavenContext(repo_cache=Path(fresh), timeout=60, **_repositories())
        wanted = [maven.create_dependency(c) for c in (KAFKA, LOGGING)]
        named, pulled = maven.resolver.resolve(wanted)
        scopes = ("compile", "runtime")
        artifacts = [d.artifact for d in (*named, *(d for d in pulled if d.scope in scopes))]
        found = [(f"{a.groupId}:{a.artifactId}:{a.version}", a.resolve()) for a in artifacts]
        group, name, version, classifier, packaging = APICURIO.split(":")
        project = maven.project(group, name).at_version(version)
        found.append((APICURIO, project.artifact(classifier, packaging).resolve()))
        lines = [
            f"{_sha256(path)} {path.stat().st_size} {coordinate} {path.name}\n"
            for coordinate, path in found
        ]
        LOCK.write_text("".join(lines))
        print(f"{LOCK.name}: {len(lines)} files")


if __name__ == "__main__":
    main()

"""Only the pinned files get into the cache, whole, whatever the repository sends."""

import contextlib
import gc
import hashlib
import http.server
import io
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncline import jars
from syncline.jars import FetchFailed, Forged, Pinned, fetch, missing

# jgo leaves the socket of an answer that broke off to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

JAR = b"PK" + bytes(range(256)) * 400
WORDS = b"another jar"


def archive(name: str = "quarkus-run.jar") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(JAR)
        tar.addfile(entry, io.BytesIO(JAR))
    return out.getvalue()


class Repository:
    """A Maven repository on loopback that answers what a test tells it to."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.halves = 0
        """So many answers from now on break off in the middle."""

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        repository = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                repository.asked[name] += 1
                if (content := repository.files.get(name)) is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if repository.halves > 0:
                    repository.halves -= 1
                    content = content[: len(content) // 2]
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """Found as a company's mirror is: in the user's Maven settings."""
    made = Repository()
    made.files = {"one-1.0.jar": JAR, "two-2.0.jar": WORDS, "app-3.0-all.tar.gz": archive()}
    with made.serving() as address:
        (tmp_path / ".m2").mkdir()
        (tmp_path / ".m2" / "settings.xml").write_text(
            '<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0"><mirrors><mirror><id>m</id>'
            f"<mirrorOf>*,!other</mirrorOf><url>http://me:hush@{address}/maven/</url></mirror>"
            "</mirrors></settings>"
        )
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield made
    gc.collect()  # here, and not in a test that follows


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    pins = [
        ("org.example:one:1.0", "one-1.0.jar", JAR),
        ("org.example:two:2.0", "two-2.0.jar", WORDS),
        ("org.example:app:3.0:all:tar.gz", "app-3.0-all.tar.gz", archive()),
    ]
    path = tmp_path / "jars.lock"
    path.write_text(
        "".join(f"{hashlib.sha256(c).hexdigest()} {len(c)} {at} {name}\n" for at, name, c in pins)
    )
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def left(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} - {".lock"}


def test_everything_is_fetched_once(repository: Repository, lock: Path, cache: Path) -> None:
    told: list[tuple[int, int]] = []
    assert missing(cache, lock) == len(JAR) + len(WORDS) + len(archive())
    files = fetch(cache, lambda done, total: told.append((done, total)), lock)
    assert [path.read_bytes() for path in files.kafka] == [JAR, WORDS]
    assert (files.registry / "quarkus-run.jar").read_bytes() == JAR
    assert left(cache) == {"one-1.0.jar", "two-2.0.jar", "app-3.0-all"}
    assert told[-1] == (missing(cache.parent / "none", lock),) * 2
    assert told == sorted(told)
    asked = repository.asked.copy()
    assert fetch(cache, lock=lock) == files
    assert repository.asked == asked
    assert missing(cache, lock) == 0


def test_a_forged_file_is_refused(repository: Repository, lock: Path, cache: Path) -> None:
    repository.files["one-1.0.jar"] = JAR[:-1] + b"!"
    with pytest.raises(Forged, match=r"org\.example:one:1\.0: .* sha256"):
        fetch(cache, lock=lock)
    assert "one-1.0.jar" not in left(cache)
    repository.files["one-1.0.jar"] = JAR
    assert fetch(cache, lock=lock).kafka[0].read_bytes() == JAR


def test_broken_transfers_are_tried_again(repository: Repository, lock: Path, cache: Path) -> None:
    repository.halves = 2
    told: list[int] = []
    files = fetch(cache, lambda done, total: told.append(done), lock)
    assert [path.read_bytes() for path in files.kafka] == [JAR, WORDS]
    assert told[-1] == len(JAR) + len(WORDS) + len(archive())


def test_a_repository_that_always_breaks_off_leaves_nothing(
    repository: Repository, lock: Path, cache: Path
) -> None:
    repository.halves = 1000
    with pytest.raises(FetchFailed):
        fetch(cache, lock=lock)
    assert left(cache) == set()
    assert max(repository.asked[name] for name in repository.files) == 3


def test_a_missing_file_is_named_and_no_password_told(
    repository: Repository, lock: Path, cache: Path
) -> None:
    del repository.files["two-2.0.jar"]
    with pytest.raises(FetchFailed, match=r"cannot download org\.example:two:2\.0") as failed:
        fetch(cache, lock=lock)
    assert "hush" not in str(failed.value)
    assert "settings.xml" in str(failed.value)


def test_a_file_cut_short_in_the_cache_is_fetched_anew(
    repository: Repository, lock: Path, cache: Path
) -> None:
    one = fetch(cache, lock=lock).kafka[0]
    one.write_bytes(JAR[:100])
    assert fetch(cache, lock=lock).kafka[0].read_bytes() == JAR
    assert repository.asked["two-2.0.jar"] == 1


def test_an_archive_cannot_write_beside_its_folder(
    repository: Repository, tmp_path: Path, cache: Path
) -> None:
    evil = archive("../../evil.jar")
    repository.files["app-3.0-all.tar.gz"] = evil
    lock = tmp_path / "evil.lock"
    digest = hashlib.sha256(evil).hexdigest()
    lock.write_text(f"{digest} {len(evil)} org.example:app:3.0:all:tar.gz app-3.0-all.tar.gz\n")
    with pytest.raises(FetchFailed, match="outside"):
        fetch(cache, lock=lock)
    assert left(cache) == set()
    assert not list(tmp_path.rglob("evil.jar"))


def test_processes_that_race_download_each_file_once(
    repository: Repository, lock: Path, cache: Path
) -> None:
    code = (
        "import pathlib, sys; from syncline.jars import fetch\n"
        "print(len(fetch(pathlib.Path(sys.argv[1]), lock=pathlib.Path(sys.argv[2])).kafka))"
    )
    command = [sys.executable, "-c", code, str(cache), str(lock)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [racer.communicate(timeout=60)[0] for racer in racers] == ["2\n"] * 3
    assert {repository.asked[name] for name in repository.files} == {1}


def test_nothing_of_jgo_is_loaded_when_all_is_there(
    repository: Repository, lock: Path, cache: Path
) -> None:
    fetch(cache, lock=lock)
    code = (
        "import pathlib, sys; from syncline.jars import fetch\n"
        "fetch(pathlib.Path(sys.argv[1]), lock=pathlib.Path(sys.argv[2]))\n"
        "print('jgo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(cache), str(lock)], capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr


def test_the_lock_names_files_and_no_host() -> None:
    pins = Pinned.read(jars.LOCK)
    assert "://" not in jars.LOCK.read_text()
    assert len({pin.name for pin in pins}) == len(pins)
    assert all(len(pin.sha256) == 64 and pin.size > 0 for pin in pins)
    assert {jars.KAFKA, jars.LOGGING, jars.APICURIO} <= {pin.coordinate for pin in pins}


def test_the_package_lock_names_no_host() -> None:
    lines = (Path(__file__).parents[2] / "requirements.lock").read_text().splitlines()
    assert not [line for line in lines if "://" in line or "index-url" in line]
    names = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert all("==" in name for name in names)
    assert sum("--hash=sha256:" in line for line in lines) >= len(names) > 50

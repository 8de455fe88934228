"""The ahead-of-time cache is made by itself, never in the way, and never trusted blindly."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from syncline import jars
from syncline.jars import Files
from syncline.stack import Stack

WAIT_S = 60.0


@pytest.fixture
def cache(java_files: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own with Kafka's files and no ahead-of-time cache yet."""
    own = tmp_path / "cache"
    own.mkdir()
    full = jars.cache_dir()
    for pin in jars.Pinned.read(jars.LOCK):
        os.symlink(pin.place(full), pin.place(own))
    monkeypatch.setenv("SYNCLINE_CACHE_DIR", str(own))
    return own


def made(cache: Path) -> set[str]:
    """Kinds of files beside the jars."""
    made_here = {path.suffix for path in cache.iterdir() if not path.is_symlink()}
    return made_here - {".lock", ".checkpoint"}


def flags(own: Stack) -> str:
    return Path(f"/proc/{own.pid('kafka')}/cmdline").read_text()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at command lines in /proc")
def test_recorded_then_made_then_used(cache: Path) -> None:
    with Stack.start(registry=False) as killed:
        assert "-XX:AOTMode=record" in flags(killed)
        with Stack.start(registry=False) as beside:  # one writes it down, the others just run
            assert "-XX:AOT" not in flags(beside)
        killed.kill_broker()
    assert made(cache) == set()  # a record cut short is not kept

    with Stack.start(registry=False) as recorded:
        assert "-XX:AOTMode=record" in flags(recorded)
    assert made(cache) == {".conf"}

    with Stack.start(registry=False) as early:
        assert "-XX:AOT" not in flags(early)  # the making has just begun, and ends with it
    assert made(cache) in ({".conf"}, {".aot"})

    with Stack.start(registry=False):
        until(lambda: made(cache) == {".aot"})
    with Stack.start(registry=False) as quick:
        assert "-XX:AOTCache=" in flags(quick)

    (aot,) = cache.glob("*.aot")
    os.truncate(aot, 4096)
    with Stack.start(registry=False) as slow:  # a broken cache only costs time
        slow.check()


def test_other_files_have_another_cache(cache: Path) -> None:
    """Jars that were fetched again are other files to Java: their cache would be refused."""
    from syncline import embedded, jvm

    files = jars.fetch(cache)
    program = embedded.kafka(files, cache / "server.properties")
    digest = jvm._digest(program)
    assert digest == jvm._digest(embedded.kafka(files, cache / "elsewhere"))
    newer = Files(files.kafka[1:], files.registry)
    assert digest != jvm._digest(embedded.kafka(newer, cache / "server.properties"))

"""The local copy of a partition, the bytes that fence a transaction, and the names we lean on."""

import random
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer

from streams.engine.ledger import Member
from streams.engine.pins import check_pins
from streams.engine.settings import EngineSettings
from streams.engine.store import Memory, Reached, Store
from streams.engine.transaction import check_group_metadata, group_metadata


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(EngineSettings(group="g", slot="0", bootstrap_servers="", data_dir=tmp_path))


def test_rows_and_how_far_they_reach_are_one_write(tmp_path: Path, memory: Memory) -> None:
    store = Store(tmp_path / "p", memory)
    assert store.reached == Reached()
    reached = Reached({"links": 7}, {"links": "id"}, {"admit": {"events": 3}})
    store.write({"links": {b"a": b"1", b"b": b"2"}, "people": {b"a": b"3"}}, reached)
    store.write({"links": {b"b": None}}, reached)
    store.close()
    again = Store(tmp_path / "p", memory)
    assert again.reached.changelogs == {"links": 7}
    assert again.reached.vector == {"admit": {"events": 3}}
    assert again.reached.at_s > 0
    assert again.get("links", b"a") == b"1"
    assert again.get("links", b"b") is None
    assert again.rows("links") == {b"a": b"1"}
    assert again.rows("people") == {b"a": b"3"}
    again.wipe()
    assert again.rows("links") == {}
    assert again.reached == Reached()
    again.close()


WRITES = """
import os, sys
from pathlib import Path
from streams.engine.settings import EngineSettings
from streams.engine.store import Memory, Reached, Store
path = Path(sys.argv[1])
memory = Memory(EngineSettings(group="g", slot="0", bootstrap_servers="", data_dir=path))
store = Store(path / "p", memory)
for n, word in enumerate(sys.argv[2:]):
    store.write({"t": {b"%d" % n: b"x" * 1000}}, Reached({"t": n + 1}), logged=word == "logged")
os._exit(9)
"""


@pytest.mark.parametrize("last", ["logged", "unlogged"])
def test_a_crash_keeps_what_is_logged_with_all_before_it(
    tmp_path: Path, memory: Memory, last: str
) -> None:
    """A restore writes without a log; nothing of it may be missing below a later checkpoint."""
    words = [*["unlogged"] * 50, "logged", *["unlogged"] * 50, last]
    done = subprocess.run([sys.executable, "-c", WRITES, tmp_path, *words], check=False)
    assert done.returncode == 9
    again = Store(tmp_path / "p", memory)
    reached = again.reached.changelogs["t"]
    assert reached == 102 if last == "logged" else reached >= 51
    assert again.rows("t").keys() == {b"%d" % n for n in range(reached)}
    again.close()


def test_a_row_of_many_is_read_with_little_more_than_itself(tmp_path: Path, memory: Memory) -> None:
    """Whatever the size of a table: nothing that grows with it is read for each row."""
    store, draw, many, some = Store(tmp_path / "p", memory), random.Random(1), 600_000, 500
    for begin in range(0, many, 20_000):
        rows = {b"%032d" % n: b"x" * 300 for n in range(begin, begin + 20_000)}
        store.write({"people": rows}, Reached(), logged=False)
    store.flush()
    store._db.compact_range(None, None)
    before = psutil.Process().io_counters().read_chars
    for n in draw.sample(range(many), some):
        assert store.get("people", b"%032d" % n) == b"x" * 300
    read = psutil.Process().io_counters().read_chars - before
    assert read / some < 16_384
    store.close()


def test_a_damaged_copy_is_thrown_away(tmp_path: Path, memory: Memory) -> None:
    store = Store(tmp_path / "p", memory)
    store.write({"links": {b"a": b"1"}}, Reached({"links": 1}))
    store.close()
    for file in (tmp_path / "p").glob("MANIFEST-*"):
        file.write_bytes(b"not a manifest")
    again = Store(tmp_path / "p", memory)
    assert again.rows("links") == {}
    assert again.reached == Reached()
    again.close()


def test_a_copy_in_use_is_not_thrown_away(tmp_path: Path, memory: Memory) -> None:
    store = Store(tmp_path / "p", memory)
    store.write({"links": {b"a": b"1"}}, Reached({"links": 1}))
    with pytest.raises(Exception, match=r"(?i)lock"):
        Store(tmp_path / "p", memory)
    assert store.get("links", b"a") == b"1"
    store.close()


def test_group_metadata_is_what_librdkafka_writes() -> None:
    """Its own consumer has no generation yet; ours differs in nothing but generation and member."""
    assert check_group_metadata() == ""
    consumer = Consumer({"group.id": "other", "bootstrap.servers": "", "log_level": 0})
    theirs = consumer.consumer_group_metadata()
    consumer.close()
    ours = group_metadata("other", Member(5, "me-1"))
    assert ours == theirs.replace(b"\xff\xff\xff\xff", b"\x05\0\0\0").replace(
        b"other\0", b"other\0me-1"
    )


def test_the_private_names_are_there() -> None:
    assert check_pins() == []


@pytest.mark.parametrize("slot", ["", "a b", "x" * 61])
def test_a_slot_is_a_name(tmp_path: Path, slot: str) -> None:
    with pytest.raises(ValueError, match="slot"):
        EngineSettings(group="g", slot=slot, bootstrap_servers="", data_dir=tmp_path)

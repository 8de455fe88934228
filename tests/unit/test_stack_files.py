"""Ports, locks and folders of the embedded stack, without Java."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from syncline import embedded, stack
from syncline.jars import Files
from syncline.stack import StackFailed, State, is_free, running


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def say(data: Path, pid: int) -> State:
    state = State(pid, {"kafka": pid}, {"broker": 1}, "127.0.0.1:1", "")
    (data / "state.json").write_text(json.dumps(asdict(state)))
    return state


@pytest.fixture
def held(data: Path) -> Iterator[None]:
    lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield
    os.close(lock)


def test_ports_are_none_that_the_system_hands_out(data: Path) -> None:
    """While the broker is down no outgoing connection may be given its port."""
    handed_out = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(handed_out.read_text().split()[0]) if handed_out.exists() else 49_152
    ports = stack._ports(data)
    assert len(set(ports.values())) == 4
    assert all(1024 < port < first for port in ports.values())


def test_ports_of_the_last_run_are_taken_again_where_free(data: Path) -> None:
    ports = stack._ports(data)
    (data / "ports.json").write_text(json.dumps(ports))
    assert stack._ports(data) == ports
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", ports["broker"]))
        thief.listen()
        assert not is_free(ports["broker"])
        assert stack._ports(data)["broker"] != ports["broker"]
    (data / "ports.json").write_text('{"broker":')  # cut short by a full disk
    assert len(stack._ports(data)) == 4


def test_a_running_stack_is_found(data: Path, held: None) -> None:
    assert running(data) is None
    state = say(data, os.getpid())
    assert running(data) == state


def test_a_state_left_by_a_killed_owner_is_not_believed(data: Path, gone: int) -> None:
    say(data, gone)
    assert running(data) is None
    say(data, os.getpid())  # its number was given out again, but nobody holds the lock
    (data / "lock").touch()
    assert running(data) is None
    (data / "state.json").write_text("{")
    assert running(data) is None


def test_a_folder_in_use_is_refused_at_once(data: Path, held: None) -> None:
    say(data, os.getpid())
    began_s = time.monotonic()
    with pytest.raises(StackFailed, match=r"already runs on .*SYNCLINE_DATA"):
        stack._hold(data)
    assert time.monotonic() - began_s < 1


def test_files_that_are_being_closed_are_waited_for(
    data: Path, held: None, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner is dead, its JVMs still hold the lock: a bounded wait, then words."""
    say(data, gone)
    monkeypatch.setattr(stack, "CLOSING_S", 0.2)
    began_s = time.monotonic()
    with pytest.raises(StackFailed, match="another process"):
        stack._hold(data)
    assert time.monotonic() - began_s >= 0.2


def test_folders_of_killed_owners_are_swept(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "gettempdir", lambda: str(data))
    old_s = time.time() - stack.SWEEP_S - 1
    for name in ("left", "used", "young", "without-lock"):
        folder = data / f"{stack.TEMPORARY}{name}"
        folder.mkdir()
        if name != "without-lock":
            (folder / "lock").touch()
            os.utime(folder / "lock", None if name == "young" else (old_s, old_s))
    used = os.open(data / f"{stack.TEMPORARY}used" / "lock", os.O_RDWR)
    fcntl.flock(used, fcntl.LOCK_EX)
    stack._sweep()
    os.close(used)
    assert {path.name.removeprefix(stack.TEMPORARY) for path in data.iterdir()} == {
        "used",
        "young",
        "without-lock",
    }


def test_windows_is_told_where_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack.sys, "platform", "win32")
    with pytest.raises(StackFailed, match="WSL"):
        stack.Stack.start()


def test_the_registry_writes_before_it_answers() -> None:
    """Without it a kill loses the last schemas, and gives their ids to others."""
    ports = {"registry": 1, "management": 2}
    program = embedded.registry(Files((), Path("/r")), ports, Path("/d"))
    assert ";WRITE_DELAY=0" in program.env["APICURIO_DATASOURCE_URL"]
    assert program.env["QUARKUS_HTTP_HOST"] == program.env["QUARKUS_MANAGEMENT_HOST"] == "127.0.0.1"


def test_the_broker_listens_on_this_machine_only() -> None:
    properties = embedded.broker_properties({"broker": 1, "controller": 2}, Path("/d"))
    listeners = properties["listeners"].split(",")
    assert all("://127.0.0.1:" in listener for listener in listeners)
    assert properties["offsets.retention.minutes"] == "525600"

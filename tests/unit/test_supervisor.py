"""The supervisor keeps small real processes up, gives up where that is no use, and leaves none."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from syncline.supervisor import BACKOFF_S, FAILURES_MAX, QUICK_S, Child, Supervisor

WAIT_S = 20.0
ROOT = Path(__file__).parents[2]

# Stands for the interpreter: `stand-in -m syncline ARGS…`. The shell starts in a millisecond.
STAND_IN = """#!/bin/sh
shift 2
case "$1" in
sleep)    exec sleep 60 ;;
end)      echo "ends with $2"; exit "$2" ;;
stubborn) trap '' TERM; echo deaf; while :; do sleep 0.05; done ;;
tell)     echo "$GREETING from $2" ;;
esac
"""


class Clock:
    """Moves when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def supervisor(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Supervisor]:
    stand_in = tmp_path / "stand-in"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    own = Supervisor(tmp_path / "logs", {"GREETING": "hello"}, clock)
    yield own
    own.stop(0.2)


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, f"not within {WAIT_S:g} s: {what}"
        time.sleep(0.01)


def pid(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def ended(child: Child) -> None:
    assert child.process is not None
    child.process.wait(WAIT_S)


def test_output_and_environment(supervisor: Supervisor, tmp_path: Path) -> None:
    child = supervisor.add("teller", "tell", "teller")
    ended(child)
    assert (tmp_path / "logs" / "teller.log").read_text() == "hello from teller\n"
    other = supervisor.add("other", "tell", "other", env={"GREETING": "bye"})
    ended(other)
    assert other.last_lines() == "bye from other"


def test_what_runs_is_left_alone(supervisor: Supervisor) -> None:
    child = supervisor.add("one", "sleep")
    first = pid(child)
    assert supervisor.check() == []
    assert (pid(child), child.restarts) == (first, 0)


def test_a_killed_child_comes_back_at_once_and_its_neighbour_stays(
    supervisor: Supervisor, clock: Clock
) -> None:
    one, two = supervisor.add("one", "sleep"), supervisor.add("two", "sleep")
    first, second = pid(one), pid(two)
    clock.now_s += QUICK_S + 1
    assert supervisor.kill("one")
    assert not psutil.pid_exists(first)
    assert not supervisor.kill("one")  # it is dead already
    supervisor.check()
    assert supervisor.check() == ["one"]
    assert pid(one) != first
    assert (pid(two), one.restarts, two.restarts) == (second, 1, 0)


def test_back_off_grows_and_then_it_gives_up(supervisor: Supervisor, clock: Clock) -> None:
    child = supervisor.add("broken", "end", "3")
    waits: list[float] = []
    while child.failures < FAILURES_MAX:
        ended(child)
        assert supervisor.check() == []
        waits.append(child.due_s - clock.now_s)
        if waits[-1]:
            clock.now_s = child.due_s - 0.01
            assert supervisor.check() == []  # not yet
        clock.now_s = child.due_s
        assert supervisor.check() == ["broken"]
    rest = [BACKOFF_S[-1]] * (FAILURES_MAX - len(BACKOFF_S))
    assert waits == pytest.approx([*BACKOFF_S, *rest])
    ended(child)
    with pytest.raises(RuntimeError, match=r"broken ended with exit code 3 \(9 times") as caught:
        supervisor.check()
    assert str(caught.value).endswith("ends with 3")
    assert str(child.log) in str(caught.value)


def test_a_long_life_forgets_failures(supervisor: Supervisor, clock: Clock) -> None:
    child = supervisor.add("one", "sleep")
    child.failures = FAILURES_MAX
    clock.now_s += QUICK_S
    supervisor.kill("one")
    assert supervisor.check() == []
    assert (child.failures, child.due_s) == (1, clock.now_s)


def test_wrong_use_is_not_tried_again(supervisor: Supervisor) -> None:
    ended(supervisor.add("wrong", "end", "2"))
    with pytest.raises(RuntimeError, match=r"wrong ended with exit code 2 \(1 times"):
        supervisor.check()


def test_stop_ends_all_also_what_does_not_listen(supervisor: Supervisor) -> None:
    quiet, deaf = supervisor.add("quiet", "sleep"), supervisor.add("deaf", "stubborn")
    until(lambda: deaf.last_lines() == "deaf", "the trap is set")
    processes = [quiet.process, deaf.process]
    begun_s = time.monotonic()
    supervisor.stop(0.3)
    assert time.monotonic() - begun_s < WAIT_S
    assert [p.returncode for p in processes if p] == [-signal.SIGTERM, -signal.SIGKILL]
    assert supervisor.check() == []
    supervisor.stop()  # a second time changes nothing


def test_the_real_command_line_runs(tmp_path: Path) -> None:
    """Without a stand-in: `python -m syncline topics list`."""
    own = Supervisor(tmp_path)
    child = own.add("topics", "topics", "list")
    assert child.process is not None
    assert child.process.wait(60) == 0
    assert "events.hubspot" in child.log.read_text()
    own.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_children_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    """SIGKILL to the supervisor leaves nobody who could tell its children: the kernel does."""
    worker = (
        tmp_path / "syncline.py"
    )  # found first by `python -m syncline`, as it stands in the cwd
    worker.write_text(
        "import importlib.util, signal, sys\n"
        f"path = {str(ROOT / 'syncline' / 'supervisor.py')!r}\n"
        "spec = importlib.util.spec_from_file_location('s', path)\n"
        "module = sys.modules['s'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "module.die_with_parent()\n"
        "print('up', flush=True)\n"
        "signal.pause()\n"
    )  # fmt: skip
    parent = (
        "import pathlib, signal, sys; from syncline.supervisor import Supervisor\n"
        "import os; os.chdir(sys.argv[1])\n"
        "child = Supervisor(pathlib.Path('.')).add('child')\n"
        "print(child.process.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        child: psutil.Process | None = None
        try:
            assert process.stdout is not None
            child = psutil.Process(int(process.stdout.readline()))
            log = tmp_path / "child.log"
            until(lambda: log.read_text() == "up\n", "the child asked to die with its parent")
            os.kill(process.pid, signal.SIGKILL)
            process.wait(WAIT_S)
            until(lambda: not _alive(child), "the child is gone")
        finally:
            process.kill()
            if child is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()


def _alive(process: psutil.Process | None) -> bool:
    """A process that ended and that nobody has waited for is a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process is not None and process.status() != psutil.STATUS_ZOMBIE
    return False

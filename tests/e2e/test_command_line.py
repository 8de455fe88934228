"""The command line as a shell sees it: exit codes, one line for each mistake, no tracebacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WRONG = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}


def syncline(folder: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA", "SCHEMA", "SYNCLINE"))}
    return subprocess.run(
        [sys.executable, "-m", "syncline", *args],
        cwd=folder,
        env={**own, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "args", [[], ["up"], ["doctor"], ["topics"], ["topics", "create"]], ids=" ".join
)
def test_help(tmp_path: Path, args: list[str]) -> None:
    done = syncline(tmp_path, *args, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "environment", "code", "says"),
    [
        (["topics", "create"], {}, 1, "start one with `syncline up`"),
        (["topics", "create"], {"KAFKA_BOOTSTRAP_SERVERS": "a:1"}, 2, "set both"),
        (["topics", "create"], {"SYNCLINE_PARTITIONS": "many"}, 2, "partitions"),
        (["topics", "create"], {"SYNCLINE_KAFKA_CONFIG_FILE": "none", **WRONG}, 2, "none"),
        (["topics", "describe", "nosuch"], {}, 2, "no topic nosuch"),
        (["topics", "nosuch"], {}, 2, "nosuch"),
        (["nosuch"], {}, 2, "nosuch"),
        (["up", "nosuch"], {}, 2, "nosuch"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, args: list[str], environment: dict[str, str], code: int, says: str
) -> None:
    done = syncline(tmp_path, *args, **environment)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_topics_need_no_cluster_to_be_listed(tmp_path: Path) -> None:
    listed = json.loads(syncline(tmp_path, "topics", "list", "--json").stdout)
    described = json.loads(syncline(tmp_path, "topics", "describe", "journal", "--json").stdout)
    assert described in listed
    assert "events.hubspot" in syncline(tmp_path, "topics", "list").stdout


def test_the_doctor_of_a_cluster_that_is_away(tmp_path: Path) -> None:
    done = syncline(tmp_path, "doctor", "--json", **WRONG, SYNCLINE_KAFKA__SASL_PASSWORD="hush")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert not report["ok"]
    assert {c["name"] for c in report["checks"] if c["ok"] is False} >= {"kafka", "registry"}
    assert report["settings"]["SYNCLINE_KAFKA__SASL_PASSWORD"] == "(secret)"
    assert "hush" not in done.stdout + done.stderr

"""The main job with its accidents keeps all promises.

Every process of the way is killed while webhooks and two bulk runs go on: small in `make test`, in
full size on ten seeds in `make soak`, which takes about an hour.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from syncline.demo_report import broken


@pytest.mark.timeout(420)
def test_a_small_job_survives_kills_of_every_process(tmp_path: Path) -> None:
    found = run(tmp_path, 400, "--contacts", "4000", "--fast", "--seed", "7")
    assert {kill["what"] for kill in found["kills"]} == {
        "gateway", "streams", "connectors", "broker",
    }  # fmt: skip
    assert found["live_changes"] > 0


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(1, 11))
def test_the_main_job_keeps_its_promises(seed: int, tmp_path: Path) -> None:
    found = run(tmp_path, 1700, "--seed", str(seed))
    assert found["kills"]
    assert found["contacts"] == 100_000


def run(folder: Path, within_s: float, *args: str) -> dict[str, Any]:
    """`syncline demo ARGS` -> its report, which shows no promise broken."""
    told = folder / "report.json"
    command = [
        sys.executable, "-m", "syncline", "demo", *args, "--keep", str(folder / "demo"),
        "--json", str(told),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(told.read_text())
    assert broken(found) == []
    return found

"""The main job with its accidents keeps all promises. By hand: `make soak`, as it takes minutes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from syncline.demo import broken


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(1, 11))
def test_the_main_job_keeps_its_promises(seed: int, tmp_path: Path) -> None:
    told = tmp_path / "report.json"
    command = [
        sys.executable, "-m", "syncline", "demo", "--contacts", "2000", "--fast",
        "--seed", str(seed), "--keep", str(tmp_path / "demo"), "--json", str(told),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=1100, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(told.read_text())
    assert broken(found) == []
    assert found["kills"]

"""A bulk run into Segment, and one into Salesforce that goes by Bulk API, keep all promises.

The real processes on a Kafka of their own; source is a simulated HubSpot with its real quotas, and
so are those of the destinations. Contacts change meanwhile; streams, connectors (some while a job
is open, or is worked at) and the broker are killed. `ROWS=1000000` is the size that docs/soak.md
tells of; `python -m pytest -s -m soak` shows the figures.
"""

import json
import os
import time
from pathlib import Path

import pytest

from tests.e2e.million import World

ROWS = int(os.environ.get("ROWS", "15000"))
FAST = 100.0
"""Rows a second; of fewer than 2,000 in half a minute no job is made, and most go by requests."""


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
def test_all_promises_into_segment_and_by_bulk_api(tmp_path: Path, java_files: None) -> None:
    with World(tmp_path, rows=ROWS) as world:
        runs_s = world.storm()
        began_s = time.monotonic()
        world.rest()
        rest_s = time.monotonic() - began_s
        told = {"runs_s": round(runs_s), "rest_s": round(rest_s), **world.told()}
        print(json.dumps(told, indent=2))
        assert list(world.wrong()) == []
        assert world.syncline("balance")
        by_job = told["jobs"]["rows"]
    assert by_job > (0.8 * ROWS if ROWS / runs_s > FAST else 0), f"{by_job} rows went in jobs"
    assert {kill.partition(",")[0] for kill in world.kills} == {"streams", "connectors", "broker"}
    assert any("job" in kill for kill in world.kills)

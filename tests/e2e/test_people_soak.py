"""One person at three platforms stays one, whoever edits where, whatever is killed; and what was
refused is mended by command, a cause at a time.

The real processes against simulated platforms: four bulk runs, a storm of edits on all sides,
merges, webhooks twice and in any order, SIGKILL of each process. In the end the platforms' own
stores and ledgers are read. `PEOPLE=20000` is the size that docs/soak.md tells of.
"""

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.people import CAUSES, NAMES, Cause, counted, mapping, size
from tests.e2e.people_world import World

PEOPLE = int(os.environ.get("PEOPLE", "500"))
GERMANY = 'trim(record.country) == "Deutschland" ? "Germany" : trim(record.country)'


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_one_person_once_and_all_refusals_mended(tmp_path: Path, java_files: None) -> None:
    began_s = time.monotonic()
    with World(tmp_path, PEOPLE) as world:
        world.storm(
            edits=max(150, PEOPLE // 10), per_s=15.0, merges=max(3, PEOPLE // 200),
            kills=("streams", "connectors", "gateway"),
        )  # fmt: skip
        world.rest()
        storm_s = time.monotonic() - began_s
        assert Counter(world.kills) == {"streams": 1, "connectors": 1, "gateway": 1}
        groups = json.loads(world.syncline("parked", "list", "--json"))
        assert {shown(g): g["records"] for g in groups} == counted(CAUSES, PEOPLE)
        for cause in CAUSES:
            key = (cause.sync, cause.code, cause.refused, cause.pattern)
            mend(world, cause, next(g["group"] for g in groups if shown(g) == key))
        world.rest()
        assert json.loads(world.syncline("parked", "list", "--json")) == []
        told = json.loads(world.syncline("balance", "--json"))
        assert (told["difference"], told["overdue"], told["waits"]) == (0, [], [])
        ended = world.ended()
        assert ended.wrong() == []
        for platform in NAMES:
            assert world.sims.get(platform, "effects")["made_twice"] == 0
        figures = ended.figures() | {
            "seconds": round(time.monotonic() - began_s), "seconds to rest": round(storm_s)
        }  # fmt: skip
    print(json.dumps(figures))


def shown(group: dict[str, Any]) -> tuple[str, ...]:
    return group["sync"], group["code"], group["field"], group["value"]


def mend(world: World, cause: Cause, group: str) -> None:
    """All records of one group, as a person would: tried first, then released."""
    of, why = ["--group", group], ["--why", cause.name]
    count = size(cause, PEOPLE)
    if cause.name == "test records of the agency":
        assert "discard: asked for" in world.syncline("parked", "discard", *of, *why)
        return
    if cause.name == "countries in another language":
        version = mapping("leads", 2, country=GERMANY)
        (world.configuration / "mappings/leads.yaml").write_text(json.dumps(version))
        world.syncline("apply", str(world.configuration), "--yes")
    if cause.name == "a rule of the audience that was wrong":
        world.without_fault("mailchimp", cause.name)
    else:
        tried = world.syncline("parked", "test", *of, *cause.mend)
        assert f"{count:,} of {count:,} would be sent" in tried
    how = ["fix", *of, *cause.mend, "--release"] if cause.mend else ["release", *of]
    said = world.syncline("parked", *how, *why, "--wait", "120")
    assert f"{count:,} written" in said

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

from tests.e2e.people import (
    CAUSES,
    NAMES,
    Cause,
    Ended,
    Held,
    Write,
    counted,
    mapping,
    people,
    size,
)
from tests.e2e.people_world import World

PEOPLE = int(os.environ.get("PEOPLE", "500"))
GERMANY = 'trim(record.country) == "Deutschland" ? "Germany" : trim(record.country)'


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_one_person_once_and_all_refusals_mended(tmp_path: Path, java_files: None) -> None:
    began_s = time.monotonic()
    with World(tmp_path, count=PEOPLE) as world:
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


def told(spoil: str) -> list[str]:
    """What is said of a world in which all went well, but for one thing."""
    everybody = people(200)
    held = {
        platform: [
            Held(f"{platform}-{person.number}", values)
            for person in everybody
            if person.is_wanted(platform) and (values := person.should(platform))
        ]
        for platform in NAMES
    }
    last = held["mailchimp"][-1]
    writes = {platform: list[Write]() for platform in NAMES}
    match spoil:
        case "lost":
            held["mailchimp"].pop()
        case "twice":
            held["mailchimp"].append(Held("another", last.values))
        case "stranger":
            held["mailchimp"].append(Held("another", {**last.values, "email": "x@example.com"}))
        case "unequal":
            held["mailchimp"][-1] = Held(last.object_id, {**last.values, "company": "Other"})
        case "written twice":
            writes["mailchimp"] += [Write(last.object_id, True, "last", "x", "y")] * 2
        case "there and back":
            steps = ("", "x"), ("x", "y"), ("y", "x")
            writes["mailchimp"] += [Write(last.object_id, False, "last", *step) for step in steps]
        case _:
            pass
    return Ended(everybody, [], {}, held, writes, 0).wrong()


@pytest.mark.parametrize(
    "spoil", ["lost", "twice", "stranger", "unequal", "written twice", "there and back"]
)
def test_what_goes_wrong_is_told(spoil: str) -> None:
    """So that the long run above cannot pass over it."""
    assert told("nothing") == []
    assert len(told(spoil)) >= 1


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

"""The connectors worker on real Kafka, with a real HTTP server that misbehaves on request."""

import signal
from collections import Counter

import httpx
import pytest

from schemas.outcomes import OutcomeKind
from tests.worker_world import World


@pytest.fixture
def world(stack, tmp_path):
    with World(stack, tmp_path) as world:
        yield world


def test_rows_become_objects_and_each_gets_one_outcome(world):
    """Shows the happy path: rows of several commands, few requests, outcomes, journal, metrics."""
    world.connect("acme")
    url = world.start()
    rows = world.rows(230)
    for n in range(0, 230, 23):
        world.upload("acme", rows[n : n + 23])
    world.flush()
    fates = world.fates(r.row_id for r in rows)
    assert {o.kind for o in fates.values()} == {OutcomeKind.written}
    acme = world.server.accounts["acme"]
    assert len(acme.objects) == 230
    assert all(acme.objects[o.object_id]["our_key"] == o.person for o in fates.values())
    assert set(acme.writes.values()) == {1}
    notes = [n for e in world.journal() for n in e.rows]
    assert Counter(n.row_id for n in notes) == Counter(r.row_id for r in rows)
    assert all(e.request == "POST /acme/person" and e.status == 200 for e in world.journal())
    page = httpx.get(f"{url}/metrics").text
    assert f'connectors_outcomes_total{{kind="written",platform="{world.platform}"}} 230.0' in page
    status = httpx.get(f"{url}/status").json()[world.platform]["accounts"]["acme"]
    assert status["open"]
    assert sum(status["waiting"].values()) == 0
    assert world.kill(how=signal.SIGTERM) == 0
    assert "tiny-secret-token" not in world.log.read_text()

"""Storms of edits on both sides of a two-way sync end with equal values after few writes, though
contacts are merged meanwhile; our own writes do not come back, and two platforms behind one of the
two follow, one behind the other.

And faults put in by hand are found here too.
"""

import pytest

from schemas.journal import Standing
from schemas.parked import ParkedRecord
from schemas.topics import PARKED
from tests.simulation.faults import TWO_WAY_FAULTS
from tests.simulation.twoway import TwoWay, play_two_way

SEEDS = 150


def test_both_sides_hold_the_same_in_the_end() -> None:
    for seed in range(SEEDS):
        problems = play_two_way(seed)
        assert not problems, "\n".join([f"two-way seed {seed}", *problems[:10]])


@pytest.mark.parametrize("name", TWO_WAY_FAULTS)
def test_a_fault_put_in_by_hand_is_found(name: str) -> None:
    def found(seed: int) -> bool:
        try:
            return bool(play_two_way(seed))
        except AssertionError:  # never comes to rest
            return True

    with TWO_WAY_FAULTS[name]():
        assert any(found(seed) for seed in range(SEEDS)), f"not found: {name}"


def test_the_storms_are_eventful() -> None:
    seen: set[str] = set()
    for seed in range(10):
        world = TwoWay(seed)
        world.storm(300)
        world.rest()
        seen |= {standing.value for _, standing, _ in world.standings()}
    assert {"echo", "stale", "superseded", "written", "unchanged", "duplicate"} <= seen


def test_a_workflow_that_rewrites_our_value_goes_through_and_comes_to_rest() -> None:
    for seed in range(5):
        world = TwoWay(seed, sales="Phone")
        world.storm(200)
        world.rest()
        assert list(world.unequal()) == []


def test_two_workflows_that_answer_each_other_are_stopped_at_their_person() -> None:
    world = TwoWay(1, sales="Phone", hub="phone")
    world.edit("hub")
    world.storm(200)
    world.rest()
    parked = {code for _, standing, code in world.standings() if standing is Standing.parked}
    assert parked == {"goes_round"}
    records = [r for r in world.log.compacted(PARKED).values() if isinstance(r, ParkedRecord)]
    assert records
    for record in records:
        assert "`leads` and `back`" in record.words or "`back` and `leads`" in record.words


def test_the_worlds_have_what_they_are_for() -> None:
    """Merges that leave two leads of one person, and Mailchimp in the place of the hub."""
    merged = hubs = 0
    for seed in range(20):
        world = TwoWay(seed)
        world.storm(300)
        world.rest()
        hubs += world.connections["hub"].platform == "mailchimp"
        merged += any(
            there.also for person in world.persons() for there in person.destinations.values()
        )
    assert merged >= 3
    assert hubs >= 3

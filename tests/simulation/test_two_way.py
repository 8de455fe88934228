"""Storms of edits on both sides of a two-way sync end with equal values after few writes, our own
writes do not come back, and a third platform behind one of the two follows.

And faults put in by hand are found here too.
"""

import pytest

from schemas.journal import Standing
from tests.simulation.faults import TWO_WAY_FAULTS
from tests.simulation.twoway import TwoWay, play_two_way

SEEDS = 40


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
        assert any(found(seed) for seed in range(2 * SEEDS)), f"not found: {name}"


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

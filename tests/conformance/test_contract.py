"""Every registered platform keeps the contract of `connectors/base.py`, seen against its simulated
platform: the checks of `syncline certify`, one test each."""

import pytest

from connectors import registry
from syncline.certify import CHECKS, GROUPS, Check
from syncline.certify.bench import Bench, NotHere
from syncline.certify.places import PLACES


def test_every_platform_is_under_test() -> None:
    assert registry.platforms() == sorted(PLACES)


def test_the_list_is_whole() -> None:
    """No check is shadowed by another, and what a platform says it lacks is on the list."""
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names))
    assert {check.group for check in CHECKS} == set(GROUPS)
    assert {name for place in PLACES.values() for name in place.lacks} <= set(names)


@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
@pytest.mark.parametrize("name", sorted(PLACES))
async def test_contract(name: str, check: Check) -> None:
    place = PLACES[name]
    if why := place.lacks.get(check.name):
        pytest.skip(why)
    try:
        async with Bench(name, place) as bench:
            await check.run(bench)
    except NotHere as reason:
        pytest.skip(str(reason))

"""Any number of events in one request, in any order, comes out as so many, in that order."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import ids
from tests.unit import senders_kit as kit
from tests.unit.senders_kit import CASES
from webhook_gateway.senders.base import Event

# Of each platform that sends several at once: numbers to a body.
BODIES: dict[str, Callable[[list[int]], bytes]] = {
    "hubspot": lambda numbers: kit.lean(list(map(kit.hubspot_event, numbers))),
    "salesforce": lambda numbers: kit.soap(*map(kit.notification, numbers)),
    "mandrill": lambda numbers: kit.mandrill(*map(kit.click, numbers)),
    "segment": lambda numbers: kit.lean(list(map(kit.segment_event, numbers))),
    "klaviyo": lambda numbers: kit.klaviyo(*map(kit.klaviyo_event, numbers)),
    "braze": lambda numbers: kit.braze(*map(kit.braze_event, numbers)),
}


def test_every_sender_of_several_is_here() -> None:
    assert set(BODIES) == {name for name, case in CASES.items() if len(case.counts) > 1}


@pytest.mark.parametrize("platform", BODIES)
@settings(max_examples=30, deadline=None)
@given(numbers=st.lists(st.integers(0, 99_999), unique=True, max_size=60))
def test_as_many_events_as_there_are(platform: str, numbers: list[int]) -> None:
    case, make = CASES[platform], BODIES[platform]
    request = case.request(make(numbers))
    sender = case.sender()
    sender.verify(request)
    parts: list[Any] = sender.parse(request)
    assert all(isinstance(part, Event) for part in parts)
    named = [ids.event_id(platform, part.identity, part.content) for part in parts]
    assert len(set(named)) == len(named) == len(numbers)
    alone = [case.sender().parse(case.request(make([n])))[0] for n in numbers]
    assert [part.payload for part in parts] == [part.payload for part in alone]
    assert [part.object_id for part in parts] == [part.object_id for part in alone]
    assert named == [ids.event_id(platform, part.identity, part.content) for part in alone]


def test_the_same_event_twice_in_one_request_is_one_event_told_twice() -> None:
    for platform, make in BODIES.items():
        case = CASES[platform]
        parts = case.sender().parse(case.request(make([7, 7])))
        assert len(parts) == 2
        assert parts[0] == parts[1], json.dumps(platform)

"""Kills at random, lost answers and faults: nobody is made twice, no row is without a fate."""

import asyncio
import random
from collections import Counter

import pytest

from connectors import jobs, readback
from connectors.outcome import Unknown, Written
from schemas.commands import Priority
from tests.desk import desk, row
from tests.tiny_platform import Tiny, TinyServer

KILLS = 6


@pytest.mark.parametrize("seed", [1, 2, 3, 4, *(pytest.param(n, marks=pytest.mark.soak)
                                              for n in range(5, 40))])  # fmt: skip
async def test_guests_and_crowds_through_a_storm(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readback, "LOOKS_S", (0.05, 0.1, 0.2))
    monkeypatch.setattr(jobs, "POLL_MIN_S", 0.1)
    draw = random.Random(seed)
    with TinyServer() as server:
        there = server.account("a1")
        there.latency_s, there.job_s = 0.02, 0.3
        async with desk(Tiny, server.url("a1"), secrets={"token": "t"}) as office:
            office.match = "email" if seed % 2 else ""
            guests, crowd = 0, 10_000
            for _ in range(KILLS):
                fresh = range(guests, guests + draw.randint(1, 40))
                guests = fresh.stop
                office.upload([_row(n) for n in fresh], "guest", Priority.live)
                many = range(crowd, crowd + draw.randint(60, 150))
                crowd = many.stop
                office.upload([_row(n) for n in many], "crowd")
                there.lose += draw.randint(0, 2)
                there.fail += draw.randint(0, 1)
                await asyncio.sleep(draw.uniform(0.0, 0.8))
                await office.kill()
            there.lose = there.fail = 0
            fates = await office.settled(90)
            # One that a kill took from its count stays until it is old: of rows with a fate only.
            assert {r for i in office.intents.values() for r in i.row_ids} <= set(fates)
    assert len(fates) == guests + crowd - 10_000
    made = Counter(values["our_key"] for values in there.objects.values())
    assert set(made.values()) == {1}
    for name, fate in fates.items():
        person = name.replace("row", "person")
        match fate:
            case Written(object_id):
                assert there.objects[object_id]["our_key"] == person
            case Unknown():
                assert int(name.removeprefix("row-")) < 10_000  # never of what may be repeated
            case _:
                raise AssertionError(f"{name}: {fate}")


def _row(number: int) -> dict:
    return row(number, email=f"{number}@example.com")

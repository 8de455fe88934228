"""Plays one seed: a world lives, comes to rest, is judged; is healed, and judged again."""

import gc
import os
import traceback
from collections.abc import Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context

from tests.simulation.faults import FAULTS
from tests.simulation.oracle import judge
from tests.simulation.world import World

__all__ = ["Result", "broken", "play", "players"]


@dataclass
class Result:
    seed: int
    problems: list[str]
    world: World


def play(seed: int) -> Result:
    """Never raises: what a step throws is a problem too."""
    world = World(seed)
    problems: list[str] = []
    try:
        world.live()
        world.settle()
        problems += judge(world, healed=False)
        if not problems:
            world.heal()
            problems += judge(world, healed=True)
    except Exception:  # noqa: BLE001 - a step that throws, or a world that never rests
        problems.append(f"a step threw: {traceback.format_exc()}")
    return Result(seed, problems, world)


def players() -> ProcessPoolExecutor:
    """One process a core. Looking for circles of objects would take a sixteenth of their time."""
    return ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=gc.disable)


def broken(
    pool: ProcessPoolExecutor, seeds: Iterable[int], fault: str = ""
) -> Generator[tuple[int, list[str]], None, None]:
    """Seeds that break a promise, in order, each with its problems. `fault`: of `FAULTS`, in the
    steps meanwhile."""
    for seed, problems in pool.map(_problems, seeds, repeat(fault)):
        if problems:
            yield seed, problems


def _problems(seed: int, fault: str) -> tuple[int, list[str]]:
    with FAULTS[fault].put_in() if fault else nullcontext():
        result = play(seed)
    result.world.log.readers.clear()  # the only circle in it: it goes at once
    return seed, result.problems

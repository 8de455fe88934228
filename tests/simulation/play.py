"""Plays one seed: a world lives, comes to rest, is judged; is healed, and judged again."""

import traceback
from dataclasses import dataclass

from tests.simulation.oracle import judge
from tests.simulation.world import World

__all__ = ["Result", "play"]


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

"""Things that happen to workers under load, drawn from a seed."""

import shutil
import time

from tests.e2e.engine_world import POINTS, Worker, World


def storm(
    world: World, *, seconds: float, rate: int, freeze: bool = False, pace: float = 0.02
) -> int:
    """Two slots under load: kills at random and at points, joins and leaves, lost disks, and, with
    `freeze`, workers that sleep; then the source is worked off. Returns the number of kills.

    `pace`: the chance that something happens to a worker in 0.1 s.
    """
    draw = world.random
    slots: dict[str, Worker | None] = {"0": world.start("0"), "1": world.start("1")}
    frozen: list[tuple[float, Worker]] = []
    empty_until: dict[str, float] = {}
    world.start_feeding(rate)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        now = time.monotonic()
        for due in [entry for entry in frozen if entry[0] <= now]:
            frozen.remove(due)
            due[1].wake()
        for slot, worker in slots.items():
            if worker is None:
                if now >= empty_until.get(slot, 0):
                    slots[slot] = _restart(world, slot)
            elif worker.code is not None:  # killed at its point, or it left
                worker.check()
                world.kills += worker.code == -9
                _after(world, slots, slot, empty_until)
            elif draw.random() < pace and not any(w is worker for _, w in frozen):
                _happen(world, slots, slot, empty_until, frozen, freeze=freeze)
    for _, worker in frozen:
        worker.wake()
    world.stop_feeding()
    for slot, worker in slots.items():
        if worker is None or worker.code is not None:
            world.start(slot)
    _until_settled(world)
    return world.kills


def _restart(world: World, slot: str) -> Worker:
    """Half of the workers carry their end in them."""
    draw = world.random
    if draw.random() < 0.5:
        return world.start(slot, f"{draw.choice(POINTS)}:{draw.randint(1, 20)}:kill")
    return world.start(slot)


def _after(
    world: World, slots: dict[str, Worker | None], slot: str, empty_until: dict[str, float]
) -> None:
    """The place stays empty for a while, sometimes for longer than the session; the disk may go."""
    draw = world.random
    worker = slots[slot]
    assert worker is not None
    if draw.random() < 0.3:
        shutil.rmtree(worker.data_dir, ignore_errors=True)
    slots[slot] = None
    empty_until[slot] = time.monotonic() + draw.choice([0, 0, 0.5, 2, 8])


def _happen(
    world: World, slots: dict[str, Worker | None], slot: str, empty_until: dict[str, float],
    frozen: list[tuple[float, Worker]], *, freeze: bool,
) -> None:  # fmt: skip
    draw = world.random
    worker = slots[slot]
    assert worker is not None
    what = draw.random()
    if freeze and what < 0.2:
        worker.freeze()
        worker.may_leave = True
        frozen.append((time.monotonic() + draw.choice([1, 4, 8, 13]), worker))
        if draw.random() < 0.5:  # someone takes its place meanwhile
            world.move(slot)  # its folder is still in use
            other = world.start(slot)
            other.may_leave = True  # the woken one may throw it out for a moment
            slots[slot] = other
    elif what < 0.35 and worker.has_taken:
        worker.terminate()
        _after(world, slots, slot, empty_until)
    else:
        worker.kill()
        world.kills += 1
        _after(world, slots, slot, empty_until)


def _until_settled(world: World) -> None:
    """Workers that still carry a point die on the way: put plain ones in their place."""
    deadline = time.monotonic() + 90
    while world.lag():
        assert time.monotonic() < deadline, "the group does not reach the end"
        running = {worker.slot for worker in world.workers if worker.code is None}
        for slot in {"0", "1"} - running:
            world.start(slot)
        time.sleep(0.3)


def flapping(world: World, *, seconds: float, rate: int) -> int:
    """New places that are taken and left again after 0.2 to 3 s, so that assignments meet restores
    of the one before. Returns the number of kills."""
    draw = world.random
    world.start("0")
    world.start_feeding(rate)
    end = time.monotonic() + seconds
    n = 0
    while time.monotonic() < end:
        n += 1
        worker = world.start(f"flap-{n}")
        time.sleep(draw.choice([0.2, 0.5, 1, 2, 3]) + 1.5)  # it takes 1.5 s to join
        if worker.has_taken and draw.random() < 0.4:
            worker.terminate()
        else:
            worker.kill()
            world.kills += 1
    world.stop_feeding()
    _until_settled(world)
    return world.kills

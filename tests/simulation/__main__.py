"""`python -m tests.simulation SEED | FROM-TO`: run worlds, name the first that breaks a promise."""

import sys
import time

from tests.simulation.play import broken, play, players


def main(argument: str) -> int:
    first, _, last = argument.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    began = time.perf_counter()
    if len(seeds) == 1:
        found = [(seeds[0], problems)] if (problems := play(seeds[0]).problems) else []
    else:
        with players() as pool:
            found = list(broken(pool, seeds))
    took_s = time.perf_counter() - began
    for seed, problems in found[:1]:
        print(f"seed {seed} breaks {len(problems)} promises:")
        for problem in problems[:20]:
            print(f"  {problem}")
    for seed, _ in found[:20]:
        print(f"again: make simulate SEED={seed}")
    if found:
        print(f"{len(found)} of {len(seeds)} worlds break a promise, {took_s:.1f} s")
        return 1
    print(f"{len(seeds)} worlds, no promise broken, {took_s:.1f} s")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.simulation SEED | FROM-TO")
    sys.exit(main(sys.argv[1]))

"""`python -m tests.simulation SEED | FROM-TO`: run worlds, name the first that breaks a promise."""

import sys
import time

from tests.simulation.play import play


def main(argument: str) -> int:
    first, _, last = argument.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    began = time.perf_counter()
    for seed in seeds:
        result = play(seed)
        if result.problems:
            print(f"seed {seed} breaks {len(result.problems)} promises:")
            for problem in result.problems[:20]:
                print(f"  {problem}")
            print(f"again: make simulate SEED={seed}")
            return 1
    took_s = time.perf_counter() - began
    print(f"{len(seeds)} worlds, no promise broken, {took_s:.1f} s")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.simulation SEED | FROM-TO")
    sys.exit(main(sys.argv[1]))

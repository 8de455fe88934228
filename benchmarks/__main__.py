"""`make bench`: every benchmark in turn, each with its own defaults. Figures are ratios of
interleaved rounds; run it on an idle machine."""

import subprocess
import sys

BENCHMARKS = (
    "benchmarks.engine", "benchmarks.quotas", "benchmarks.isolation", "benchmarks.gateway",
)  # fmt: skip


def main() -> None:
    """Ends with the first that fails, and its exit code."""
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        code = subprocess.run([sys.executable, "-m", name], check=False).returncode
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()

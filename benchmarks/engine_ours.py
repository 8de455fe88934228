"""The benchmark's job on our engine: one row of state and one output an event.

`python -m benchmarks.engine_ours JOB`; JOB is JSON, see `benchmarks.engine`.
"""

import json
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

from streams.engine import Chunk, EngineApp, EngineSettings

SETTLE_S = 0.5
"""After the last event, for its checkpoint."""


def main(job: dict[str, str]) -> None:
    app = EngineApp(
        EngineSettings(
            group=job["group"], slot="0", bootstrap_servers=job["bootstrap_servers"],
            data_dir=Path(job["data_dir"]), checkpoint_s=float(job.get("checkpoint_s", 0.05)),
            block_cache_bytes=int(job.get("block_cache_bytes", 64 << 20)),
        )
    )  # fmt: skip
    rows = app.table("rows")
    output, expected, is_silent = job["output"], int(job["events"]), bool(job.get("silent"))
    app.emits(output)
    seen, began, cpu = 0, 0.0, 0.0

    @app.agent(app.topic(job["source"]))
    async def count(chunks: AsyncIterator[Chunk]) -> None:
        nonlocal seen, began, cpu
        async for chunk in chunks:
            if not seen and len(chunk):
                began, cpu = time.perf_counter(), time.process_time()
            with chunk.decide(rows) as out:
                for record in chunk:
                    key, value = record.key, record.value
                    assert key is not None
                    assert value is not None
                    row = rows.get(key)
                    n = int.from_bytes(row[:8]) + 1 if row else 1
                    rows[key] = after = n.to_bytes(8) + value[:200]
                    if not is_silent:
                        place = f"{record.partition}-{record.offset}".encode()
                        out.emit(output, key, after, (("id", place),))
            seen += len(chunk)
            if seen == expected and len(chunk):
                report(time.perf_counter() - began, cpu)

    app.run()


def report(wall_s: float, cpu_began_s: float) -> None:
    """After `SETTLE_S`, one line of JSON: seconds of wall clock, and of CPU of all threads."""

    def tell() -> None:
        cpu_s = time.process_time() - cpu_began_s
        print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s}), flush=True)

    threading.Timer(SETTLE_S, tell).start()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

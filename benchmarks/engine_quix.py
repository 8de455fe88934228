"""The benchmark's job on Quix Streams, exactly-once. Runs in a venv of its own (engine_quix.lock).

`python benchmarks/engine_quix.py JOB`; imports nothing of ours.
"""

import json
import sys
import threading
import time

from quixstreams import Application
from quixstreams.state import State

job = json.loads(sys.argv[1])
app = Application(
    broker_address=job["bootstrap_servers"],
    consumer_group=job["group"],
    processing_guarantee="exactly-once",
    auto_offset_reset="earliest",
    state_dir=job["data_dir"],
    commit_interval=0.2,
    loglevel="ERROR",
)
source = app.topic(job["source"], key_deserializer="bytes", value_deserializer="bytes")
output = app.topic(job["output"], key_serializer="bytes", value_serializer="bytes")
seen, began, cpu = 0, 0.0, 0.0


def count(value: bytes, key: bytes, _ts: int, _headers: object, state: State) -> bytes:
    global seen, began, cpu
    if not seen:
        began, cpu = time.perf_counter(), time.process_time()
    row = state.get_bytes("row")
    n = int.from_bytes(row[:8], "big") + 1 if row else 1
    after = n.to_bytes(8, "big") + value[:200]
    state.set_bytes("row", after)
    seen += 1
    if seen == job["events"]:
        threading.Timer(0.5, tell, (time.perf_counter() - began,)).start()
    return after


def tell(wall_s: float) -> None:
    cpu_s = time.process_time() - cpu
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s}), flush=True)


frame = app.dataframe(source).apply(count, stateful=True, metadata=True)
frame = frame.set_headers(lambda _v, key, ts, _h: [("id", key + b"-%d" % ts)])
frame.to_topic(output)

if __name__ == "__main__":
    app.run()

"""The benchmark's job on Faust as it comes, and tuned: raw bytes, RocksDB, one output an event.

Tuned: `producer_linger` 50 ms (as it comes, each send is a request of its own), sends not awaited,
longer polls. `BENCH_JOB=JSON python benchmarks/engine_faust.py worker --without-web -l error`.
"""

import json
import os
import threading
import time

import faust

job = json.loads(os.environ["BENCH_JOB"])
tuned = {
    "producer_linger": 0.05,
    "producer_compression_type": "lz4",
    "broker_max_poll_records": 2000,
    "stream_buffer_maxsize": 8192,
    "topic_disable_leader": True,
}
app = faust.App(
    job["group"],
    broker=f"kafka://{job['bootstrap_servers']}",
    store="rocksdb://",
    datadir=job["data_dir"],
    topic_partitions=4,
    table_standby_replicas=0,
    **(tuned if job["tuned"] else {}),
)
source = app.topic(job["source"], key_type=bytes, value_type=bytes,
                   key_serializer="raw", value_serializer="raw")  # fmt: skip
output = app.topic(job["output"], key_serializer="raw", value_serializer="raw")
rows = app.Table(
    "rows", key_type=bytes, value_type=bytes, partitions=4, options={"driver": "rocksdict"}
)
seen, began, cpu = 0, 0.0, 0.0


@app.agent(source)
async def count(stream: faust.Stream[bytes]) -> None:
    global seen, began, cpu
    async for event in stream.events():
        if not seen:
            began, cpu = time.perf_counter(), time.process_time()
        row = rows.get(event.key)
        n = int.from_bytes(row[:8]) + 1 if row else 1
        rows[event.key] = after = n.to_bytes(8) + event.value[:200]
        place = f"{event.message.partition}-{event.message.offset}".encode()
        await output.send(key=event.key, value=after, headers={"id": place})
        seen += 1
        if seen == job["events"]:
            wall_s = time.perf_counter() - began
            threading.Timer(0.5, tell, (wall_s,)).start()


def tell(wall_s: float) -> None:
    cpu_s = time.process_time() - cpu
    os.write(1, json.dumps({"wall_s": wall_s, "cpu_s": cpu_s}).encode() + b"\n")  # print() is a log


if __name__ == "__main__":
    app.main()

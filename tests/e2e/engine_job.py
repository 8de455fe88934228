"""A toy job for the engine's tests: per key and source topic a fold, one output per record.

    python -m tests.e2e.engine_job '{"group": "g", "slot": "0", "inputs": ["a", "b"], ...}'

The row of a key: source topic -> [records, chained checksum, last offset]. The output of a record
is its topic's entry after it, with the record's place as `id` header. So a record that is lost,
repeated or out of order changes every later output and the row. A record at or under the mark of
its row ends the job with exit code 99. Values: `poison` raises, `big` asks for an output over the
limit, `wait` waits in mid-chunk.
"""

import asyncio
import os
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from streams.engine import Chunk, Decision, EngineApp, EngineSettings, Failure, Record

Row = dict[str, tuple[int, int, int]]


class Job(msgspec.Struct):
    bootstrap_servers: str
    group: str
    slot: str
    data_dir: str
    inputs: list[str]
    output: str
    parked: str
    ticks: str = ""
    session_timeout_s: float = 6.0
    transaction_timeout_s: float = 10.0
    record_bytes_max: int = 100_000
    chunk_records_max: int = 500
    two_agents: bool = False
    """A second agent reads the same inputs, with a table and outputs of its own."""
    wait_s: float = 5.0


class RowCodec:
    decoder = msgspec.msgpack.Decoder(Row)
    encoder = msgspec.msgpack.Encoder()

    def encode(self, row: Row) -> bytes:
        return self.encoder.encode(row)

    def decode(self, data: bytes) -> Row:
        return self.decoder.decode(data)


def fold(row: Row, topic: str, offset: int, value: bytes) -> Row:
    """Pure: the row after one record."""
    count, chain, last = row.get(topic, (0, 0, -1))
    if offset <= last:
        print(f"record at {topic}@{offset} is under its mark {last}", file=sys.stderr, flush=True)
        os._exit(99)
    return {**row, topic: (count + 1, zlib.crc32(value, chain), offset)}


def place(record: Record) -> bytes:
    return f"{record.topic}-{record.partition}-{record.offset}".encode()


def build(job: Job) -> EngineApp:
    app = EngineApp(
        EngineSettings(
            group=job.group,
            slot=job.slot,
            bootstrap_servers=job.bootstrap_servers,
            data_dir=Path(job.data_dir),
            session_timeout_s=job.session_timeout_s,
            transaction_timeout_s=job.transaction_timeout_s,
            record_bytes_max=job.record_bytes_max,
            chunk_records_max=job.chunk_records_max,
            write_buffer_bytes=1 << 20,
        )
    )
    inputs = app.topic(*job.inputs)
    app.emits(job.output, job.parked)

    def agent(name: str) -> None:
        rows = app.table(f"{name}-rows", RowCodec(), dict)

        async def body(chunks: AsyncIterator[Chunk]) -> None:
            async for chunk in chunks:
                with chunk.decide(rows) as out:
                    for record in chunk:
                        assert record.key is not None
                        assert record.value is not None
                        if record.value == b"poison":
                            raise ValueError("poison")
                        if record.value == b"wait":
                            await asyncio.sleep(job.wait_s)
                        row = rows[record.key]
                        row = fold(row, record.topic, record.offset, record.value)
                        rows[record.key] = row
                        size = job.record_bytes_max if record.value == b"big" else 0
                        after = msgspec.json.encode(row[record.topic]) + b" " * size
                        out.emit(
                            job.output, record.key, after,
                            [("id", place(record)), ("agent", name.encode())],
                        )  # fmt: skip

        body.__name__ = name
        app.agent(inputs)(body)

    agent("one")
    if job.two_agents:
        agent("two")

    @app.parks
    def park(failure: Failure, out: Decision) -> None:
        record = failure.record
        error = type(failure.error).__name__.encode()
        out.emit(job.parked, record.key, record.value, [("id", place(record)), ("error", error)])

    if job.ticks:
        app.ticks(job.ticks, lambda now_ms: str(now_ms).encode())
    return app


if __name__ == "__main__":
    build(msgspec.json.decode(sys.argv[1], type=Job)).run()

"""Faust made durable: every record changes state and outputs exactly once.

    app = EngineApp(EngineSettings(group="syncline", slot="0", bootstrap_servers="127.0.0.1:9092",
                                   data_dir=Path("/var/lib/syncline/0")))
    events = app.topic("events.hubspot", "events.salesforce", "ticks")   # one number of partitions
    links = app.table("links", LinkCodec(), empty=Link)                  # key bytes -> Link
    app.emits("records.resolved", "parked")
    app.ticks("ticks", encode=lambda now_ms: codec.encode(Tick(now_ms)))

    @app.agent(events)
    async def admit(chunks):
        async for chunk in chunks:              # records of one topic and partition, in order
            with chunk.decide(links) as out:    # rows and outputs stay here until the block ends
                for record in chunk:            # .topic .partition .offset .key .value ...
                    sends, link = steps.admit(links[record.key], decode(record))
                    links[record.key] = link    # `del links[key]`; `links.get(key)`: None if absent
                    for send in sends:
                        out.emit(send.topic, send.key, send.value, [("id", send.id)])

    @app.parks
    def park(failure, out):                     # .agent .record .error
        out.emit("parked", failure.record.key, why(failure))

    app.run()                                   # until SIGTERM; exit 0, 2 or 70

**What holds.** What a chunk decided is committed whole or not at all: the source's offsets, the
outputs and the changed rows of all agents of a worker go in one Kafka transaction, a *checkpoint*,
`checkpoint_s` after the first change. Readers of the outputs must read committed. A worker that is
killed, frozen or thrown out leaves no trace of what it had not committed; a successor decides it
from the same rows. So a step must be a function of row and record: no clock, no random.

**Agents and tables.** All topics of all agents of one app have the same number of partitions, and
partition p of all of them is at one worker. A table belongs to one agent and is split by the
partition of the record in hand: `links[key]` is the row of `key` *in this partition*, so topics
that share a table need the same key and murmur2. Several agents may read one topic. An agent's
chunks are decided one after another; agents of a worker take turns where they `await`. Rows are
values: make a new one, never change one. There is no scan; keep an index row.

**Records that fail.** An exception inside `for record in chunk` undoes the chunk. Its records then
come again, one to a chunk; the one that raises again goes to the `@app.parks` hook in its place.
The same with an output or a row over `record_bytes_max` (`TooLarge`). An exception outside of that
loop, or from the hook, ends the worker (70).

**Waiting.** An agent may `await` inside a chunk. If its partition is taken away meanwhile it has
`revoke_wait_s` to finish; later its chunk is dropped, and decided again by the new owner.

**Time** enters as records: `app.ticks` writes the wall clock to each owned partition of a topic,
outside of checkpoints; two owners in a change-over may both write one.

**Metrics** are `syncline_engine_*` of prometheus_client. Logs go to structlog: one line a
checkpoint at debug, rebalances at info.

How and why: `docs/decisions/0001-checkpoint-is-a-transaction.md`. The way of a record here:
`transport` (fetch) -> `app` (agents) -> `chunk` (decide) -> `ledger` (decided, not committed) ->
`worker` (when) -> `transaction` (Kafka) -> `store` (disk); back after a rebalance: `restore`.
"""

from streams.engine.app import EngineApp
from streams.engine.chunk import Chunk, Codec, Decision, Failure, Record, Table, TooLarge
from streams.engine.settings import EngineSettings

__all__ = [
    "Chunk",
    "Codec",
    "Decision",
    "EngineApp",
    "EngineSettings",
    "Failure",
    "Record",
    "Table",
    "TooLarge",
]

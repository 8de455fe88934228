"""The application: topics, tables, agents; and the worker process that runs them."""

import asyncio
import fcntl
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeVar, overload

import mode
import structlog
from confluent_kafka import KafkaException, Producer
from yarl import URL

from streams.engine import metrics
from streams.engine.chunk import Chunk, Codec, Decision, Failure, State, Table
from streams.engine.exits import leave
from streams.engine.memory import give_back_large_buffers
from streams.engine.pins import check_pins
from streams.engine.security import Unsupported, credentials
from streams.engine.settings import EngineSettings
from streams.engine.topics import Unfit, prepare
from streams.engine.transport import (
    ChunkSchema,
    EngineTableManager,
    EngineTransport,
    FaustApp,
    Fetched,
)
from streams.engine.worker import Engine

__all__ = ["EngineApp"]

log = structlog.get_logger("streams.engine")

Row = TypeVar("Row")
Agent = Callable[[AsyncIterator[Chunk]], Awaitable[None]]
STOP_S = 9.0
"""SIGTERM to exit; whatever is not committed by then is decided again by a successor."""

FOR_EVER_S = 365 * 24 * 3600.0
"""A place without partitions fetches nothing; aiokafka would leave the group for that after a
while, and never come back. What hangs is found otherwise: `_check_rebalance`, the alarm."""


class EngineApp:
    """Declare topics, tables and agents, then `run()`. See the package for an example."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.tables: dict[str, Table[Any]] = {}
        self._agents: dict[str, tuple[tuple[str, ...], Agent]] = {}
        self._outputs: set[str] = set()
        self._park: Callable[[Failure, Decision], None] | None = None
        self._ticks: tuple[str, Callable[[int], bytes], float] | None = None
        self.faust: FaustApp | None = None
        self.engine: Engine | None = None

    def topic(self, *names: str) -> tuple[str, ...]:
        """One or several Kafka topics that one agent reads; the same partition of each together."""
        return names

    @overload
    def table(self, name: str) -> Table[bytes]: ...
    @overload
    def table(
        self, name: str, codec: Codec, empty: Callable[[], Row] | None = None
    ) -> Table[Row]: ...
    def table(
        self, name: str, codec: Codec | None = None, empty: Callable[[], Any] | None = None
    ) -> Table[Any]:
        """Rows by key, durable. Without `codec` rows are bytes; `empty` makes a row that is not."""
        if name in self.tables:
            raise ValueError(f"table {name} is declared twice")
        table = self.tables[name] = Table(name, codec, empty)
        return table

    def emits(self, *topics: str) -> None:
        """Name every topic that agents write to: checked before the start."""
        self._outputs.update(topics)

    def agent(self, inputs: tuple[str, ...]) -> Callable[[Agent], Agent]:
        """`@app.agent(events)` on `async def name(chunks)`. A chunk is always of one partition."""

        def declare(fun: Agent) -> Agent:
            name = fun.__name__
            if name in self._agents:
                raise ValueError(f"agent {name} is declared twice")
            self._agents[name] = inputs, fun
            return fun

        return declare

    def parks(
        self, hook: Callable[[Failure, Decision], None]
    ) -> Callable[[Failure, Decision], None]:
        """`@app.parks` on `def park(failure, out)`: emit what shall be known of a record that an
        agent could not decide, or whose output was too large. What it emits must fit itself. The
        agent's tables are at hand, as in its own chunks."""
        self._park = hook
        return hook

    def ticks(self, topic: str, encode: Callable[[int], bytes], every_s: float = 1.0) -> None:
        """Write the wall clock, in ms, to each partition that this worker owns."""
        self._ticks = topic, encode, every_s

    # The worker process

    def run(self) -> NoReturn:
        """Work until SIGTERM or SIGINT, then exit 0. Never returns.

        Exit 2: topics or settings do not fit; 1: Kafka is away; 70: it stopped rather than risk
        anything. After 1 and 70 start it again.
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the loop has its own
        give_back_large_buffers()
        self._prepare()
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        app = self._build(loop)
        worker = _Worker(app, override_logging=False, quiet=True, loop=loop)
        worker.execute_from_commandline()

    def _prepare(self) -> None:
        if wrong := check_pins():
            _cannot_start("; ".join(wrong))
        agents = {name: inputs for name, (inputs, _) in self._agents.items()}
        inputs = {topic for topics in agents.values() for topic in topics}
        outputs = set(self._outputs)
        if self._ticks:
            outputs.add(self._ticks[0])
        self._lock()
        try:
            self._credentials = credentials(self.settings.kafka)
        except (Unsupported, OSError) as error:
            _cannot_start(f"Kafka settings: {error}")
        try:
            _, ids = prepare(self.settings, inputs, outputs, self.tables)
        except Unfit as error:
            _cannot_start(str(error))
        except KafkaException as error:
            _cannot_start(f"no answer from Kafka at {self.settings.bootstrap_servers}: {error}", 1)
        self.engine = Engine(self.settings, agents, self._outputs, self.tables)
        self.engine.restorer.topic_ids = ids

    def _lock(self) -> None:
        """One worker a folder; the lock ends with the process, however it ends."""
        folder = self.settings.data_dir
        folder.mkdir(parents=True, exist_ok=True)
        self._locked = (folder / "lock").open("w")
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _cannot_start(f"another worker has {folder}; each needs a folder of its own", 1)

    def _build(self, loop: asyncio.AbstractEventLoop) -> FaustApp:
        settings = self.settings
        assert self.engine is not None
        url = [URL(f"kafka://{server.strip()}") for server in settings.bootstrap_servers.split(",")]
        app = self.faust = FaustApp(
            settings.group,
            broker=url,
            broker_credentials=self._credentials,
            datadir=settings.data_dir / "faust",
            loop=loop,
            autodiscover=False,
            web_enabled=False,
            store="memory://",
            TableManager=EngineTableManager,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            consumer_group_instance_id=settings.transactional_id,
            consumer_max_fetch_size=settings.chunk_bytes_max,
            broker_max_poll_records=settings.chunk_records_max,
            broker_session_timeout=settings.session_timeout_s,
            broker_heartbeat_interval=settings.session_timeout_s / 4,
            broker_request_timeout=max(30.0, 2 * settings.session_timeout_s),
            broker_commit_interval=3600,
            broker_max_poll_interval=FOR_EVER_S,
            stream_buffer_maxsize=4096,
        )
        app.engine = self.engine
        app.transport = app._producer_transport = EngineTransport(url, app, loop)
        for name, (inputs, fun) in self._agents.items():
            channel = app.topic(*inputs, schema=ChunkSchema(), acks=False)
            app.agent(channel, name=name)(self._guard(name, fun))
        app.task(self._watch)
        return app

    def _guard(self, name: str, fun: Agent) -> Callable[[Any], Awaitable[None]]:
        """Nothing may leave an agent: Faust would count its chunk as done and start it again."""

        async def guarded(stream: Any) -> None:
            try:
                await fun(self._chunks(name, stream))
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                log.exception("agent failed", agent=name)
                leave("agent failed", agent=name, error=repr(error))
            assert self.faust is not None
            if not self.faust.should_stop:
                leave("agent ended", agent=name)

        guarded.__name__ = name
        return guarded

    async def _chunks(self, agent: str, stream: Any) -> AsyncIterator[Chunk]:
        """What an agent iterates. A chunk in which a record raised comes again in pieces of one
        record; the piece that raises again is parked."""
        engine = self.engine
        assert engine is not None
        assert self.faust is not None
        consumer: Any = self.faust.consumer
        fetched: Fetched
        async for fetched in stream:
            await engine.room()
            whole = engine.ledger.begin(
                agent, fetched.source, fetched.start, fetched.end, fetched.records, fetched.turn
            )
            if whole is not None:
                yield whole
                if not self._is_settled(whole):
                    for piece in whole.one_by_one():
                        yield piece
                        if not self._is_settled(piece):
                            self._park_record(piece)
                engine.note()
            consumer.settle(fetched)

    def _is_settled(self, chunk: Chunk) -> bool:
        if chunk.state is State.OPEN:
            leave("agent took a chunk without deciding it", agent=chunk.agent)
        return chunk.state is not State.FAILED or chunk.turn != chunk.ledger.turn  # dropped

    def _park_record(self, piece: Chunk) -> None:
        record, error = piece.records[0], piece.error
        assert error is not None
        where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        if self._park is None:
            leave("record not decided, and nothing parks it", error=repr(error), **where)
        log.warning("record parked", agent=piece.agent, error=type(error).__name__, **where)
        again = Chunk(piece.ledger, piece.agent, piece.topic, piece.partition, piece.start,
                      piece.end, [], piece.turn)  # fmt: skip
        own = [table for table in self.tables.values() if table.agent == piece.agent]
        with again.decide(*own) as out:
            self._park(Failure(piece.agent, record, error), out)
        metrics.PARKED.labels(piece.agent).inc()

    async def _watch(self) -> None:
        """Ticks, and how far behind we are."""
        assert self.engine is not None
        assert self.faust is not None
        ledger = self.engine.ledger
        topic, encode, every_s = self._ticks or ("", lambda _: b"", 1.0)
        producer = Producer(
            self.settings.client(
                **{
                    "partitioner": "murmur2_random",
                    "linger.ms": 0,
                    "message.timeout.ms": 10_000,  # a late tick is of no use
                }
            )
        )
        consumer: Any = self.faust.consumer
        while not self.faust.should_stop:
            if topic and ledger.is_open:
                now = encode(int(time.time() * 1000))
                for number in ledger.parts:
                    producer.produce(topic, now, str(number).encode(), number)
            producer.poll(0)
            for (name, partition), lag in ledger.lag(consumer.ends()).items():
                metrics.LAG.labels(name, str(partition)).set(lag)
            await self.faust.sleep(every_s)
        producer.purge()


def _cannot_start(why: str, code: int = 2) -> NoReturn:
    log.critical("cannot start", why=why)
    sys.exit(code)


class _Worker(mode.Worker):
    """Stops in time: an agent that never comes back does not keep the process."""

    def _schedule_shutdown(self, signal: Any) -> None:
        timer = threading.Timer(STOP_S, leave, ("not stopped in time",))
        timer.daemon = True
        timer.start()
        super()._schedule_shutdown(signal)

"""Records to Kafka, all of a POST or a word that it failed.

librdkafka sends from threads of its own; here the event loop asks it which of the messages are
confirmed: only while something is out, and after a millisecond, or ever less often while nothing
comes. Deliveries are counted per POST: one future for all of its records, no lock, no thread that
competes with the loop.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from webhook_gateway.encode import Headers

__all__ = ["Publisher", "Record", "Unconfirmed"]

log = structlog.get_logger()

MESSAGE_BYTES_MAX = 1_000_000  # librdkafka's and, with room, the broker's default for one batch
POLL_S = 0.001
POLL_S_MAX = 0.008
POLL_SLOWER = 1.25
"""Where nothing came: a slow Kafka is not asked a thousand times a second, nor heard much later."""
WATCH_S = 0.25
STALL_S = 2.0
"""Messages are out and none has been confirmed for so long: Kafka is as good as away."""

SETTINGS: Mapping[str, Any] = {
    "enable.idempotence": True,  # acks=all, in order, no repeats by retries
    "acks": "all",
    # librdkafka sends a request for each partition and wakes up for it: once a webhook with 1
    # (docs/decisions/0007). One that comes alone waits for it, and its sender does not notice.
    "linger.ms": 5,
    "partitioner": "murmur2_random",  # the Java client's; all writers must agree
    "compression.type": "lz4",
    "message.max.bytes": MESSAGE_BYTES_MAX,
    "delivery.timeout.ms": 30_000,  # the sender was told 503 long before, and repeats
    "request.timeout.ms": 10_000,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,  # back soon after the broker is
    "queue.buffering.max.messages": 200_000,  # never reached: our own bound is lower
    "queue.buffering.max.kbytes": 131_072,
    "socket.keepalive.enable": True,
}


class Record(NamedTuple):
    topic: str
    key: str
    value: bytes
    headers: Headers


class Unconfirmed(Exception):
    """Not known to be on Kafka: the sender has to repeat. The text is for metrics."""


class _Post:
    """Counts the deliveries of one POST."""

    __slots__ = ("deadline_s", "error", "future", "left", "publisher")

    def __init__(self, publisher: "Publisher", count: int, deadline_s: float) -> None:
        self.publisher, self.left, self.deadline_s = publisher, count, deadline_s
        self.future: asyncio.Future[None] = publisher.loop.create_future()
        self.error: KafkaError | None = None

    def delivered(self, error: KafkaError | None, _: Message) -> None:
        """Once for every message, in the loop's thread, from within `poll`."""
        self.left -= 1
        if error is None:
            self.publisher.moved = True
        else:
            self.error = error
        if not self.left:
            self.publisher.finished(self)

    def fail(self, reason: str) -> None:
        if not self.future.done():
            self.future.set_exception(Unconfirmed(reason))


class Publisher:
    """One idempotent producer. All methods belong to the loop's thread."""

    def __init__(self, kafka: Mapping[str, Any], *, messages_max: int) -> None:
        self.loop = asyncio.get_running_loop()
        self._kafka, self._messages_max = kafka, messages_max
        self._posts: set[_Post] = set()
        self._down = True  # until Kafka has answered once
        self._fatal = False
        self.moved = False
        self._progress_s = time.monotonic()
        self._ticking = False
        self._pause_s = POLL_S
        self._polled_s = 0.0
        self._last_error = ""
        self._producer = self._new_producer()
        self._probe: asyncio.Future[bool] = self.loop.create_future()
        self._probe.set_result(False)
        self._watcher = self.loop.create_task(self._watch())

    def _new_producer(self) -> Producer:
        return Producer({**self._kafka, **SETTINGS, "error_cb": self._on_error})

    @property
    def queued(self) -> int:
        """Messages and events that librdkafka holds."""
        return len(self._producer)

    @property
    def room(self) -> int:
        """Messages that could be taken now."""
        return self._messages_max - len(self._producer)

    @property
    def refuses(self) -> str:
        """Why nothing can be published right now; empty where it can.

        What Kafka has confirmed is heard first: with many requests at hand the loop comes to
        `_tick` after all of them. They would all be held until then, and Kafka taken for slow.
        """
        if time.monotonic() - self._polled_s > POLL_S:
            self._poll()
        if self._down:
            return "kafka away"
        queued = len(self._producer)
        if queued >= self._messages_max:
            return "queue full"
        if queued and time.monotonic() - self._progress_s > STALL_S:
            return "kafka stalled"
        return ""

    def publish(self, records: Sequence[Record], wait_s: float) -> asyncio.Future[None]:
        """-> done when every record is confirmed by all in-sync replicas.

        Raises Unconfirmed, at once or from the future, where that is not known after `wait_s`;
        some, or all, may be stored then, and a repeat stores them again under the same ids. The
        records are librdkafka's from here on: nothing holds them twice while we wait.
        """
        if reason := self.refuses:
            raise Unconfirmed(reason)
        self._begin()
        post = _Post(self, len(records), time.monotonic() + wait_s)
        produce, delivered = self._producer.produce, post.delivered
        try:
            for topic, key, value, headers in records:
                produce(topic, value, key, on_delivery=delivered, headers=headers)
        except BufferError:
            raise Unconfirmed("queue full") from None
        except KafkaException as error:
            self._warn(error.args[0])
            raise Unconfirmed("kafka refuses") from None
        self._posts.add(post)
        self._tick_soon()
        return post.future

    def offer(self, record: Record) -> None:
        """Publish without waiting; dropped where the queue is half full. For the quarantine."""
        if self._down or len(self._producer) > self._messages_max // 2:
            return
        self._begin()
        try:
            self._producer.produce(record.topic, record.value, record.key, headers=record.headers)
        except (BufferError, KafkaException):
            return
        self._tick_soon()

    def _begin(self) -> None:
        """A wait for Kafka begins with the first message that is out, not before."""
        if not len(self._producer):
            self._progress_s = time.monotonic()

    def finished(self, post: _Post) -> None:
        self._posts.discard(post)
        if post.error is None:
            if not post.future.done():
                post.future.set_result(None)
        else:
            self._warn(post.error)
            post.fail("kafka refuses")

    def _tick_soon(self) -> None:
        if not self._ticking:
            self._ticking = True
            self.loop.call_later(self._pause_s, self._tick)

    def _tick(self) -> None:
        self._ticking = False
        self._poll()
        if len(self._producer):
            self._pause_s = POLL_S if self.moved else min(self._pause_s * POLL_SLOWER, POLL_S_MAX)
            self._tick_soon()
        else:
            self._pause_s = POLL_S

    def _poll(self) -> None:
        self.moved = False
        self._polled_s = time.monotonic()
        try:
            self._producer.poll(0)
        except KafkaException as error:  # a fatal one comes so, in place of the error callback
            self._on_error(error.args[0])
        if self.moved:
            self._progress_s = time.monotonic()
            self._set_down(False)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = True
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._set_down(True)

    def _set_down(self, down: bool) -> None:
        if down != self._down:
            log.warning("kafka is away" if down else "kafka is there")
        self._down = down

    def _warn(self, error: KafkaError) -> None:
        """Once per kind of error, until another comes: an outage is no flood of lines."""
        if (text := error.name()) != self._last_error:
            self._last_error = text
            log.warning("kafka did not take a record", error=text)

    async def _watch(self) -> None:
        """Four times a second: give up on posts whose sender waits no longer, see Kafka return."""
        while True:
            await asyncio.sleep(WATCH_S)
            self._poll()  # errors come this way also when nothing is out
            if self._fatal:
                self._replace()
            now_s = time.monotonic()
            for post in [p for p in self._posts if p.deadline_s < now_s]:
                self._posts.discard(post)
                post.fail("kafka slow")
            if self._down and self._probe.done():
                self._probe = self.loop.run_in_executor(None, _answers, self._producer)
                self._probe.add_done_callback(self._probed)

    def _probed(self, probe: asyncio.Future[bool]) -> None:
        if not probe.cancelled() and probe.result():
            self._set_down(False)

    def _replace(self) -> None:
        """A fatal error ends a producer for good; a new one goes on where the sender repeats."""
        log.error("the kafka producer failed for good and is made anew")
        self._fatal = False
        posts, self._posts = self._posts, set()
        for post in posts:
            post.fail("kafka refuses")
        self._producer.purge()
        self._producer = self._new_producer()
        self._down = True

    async def close(self, wait_s: float) -> None:
        """Deliver what is out, as far as `wait_s` reaches."""
        self._watcher.cancel()
        await self.loop.run_in_executor(None, self._producer.flush, wait_s)


def _answers(producer: Producer) -> bool:
    """Does Kafka tell its metadata within a second? Blocks."""
    try:
        producer.list_topics("", timeout=1.0)
    except KafkaException:
        return False
    return True

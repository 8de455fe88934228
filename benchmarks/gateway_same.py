"""Do the gateways write the same for the same requests? All that each of them put on Kafka is
read back, decoded and compared: topic, partition, key, headers, value."""

import socket
import time
from collections.abc import Mapping, Sequence, Set
from contextlib import closing
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from benchmarks.gateway_load import WORKLOADS, is_whole
from schemas.codec import Codec

__all__ = ["Different", "check"]

TOPICS = tuple(f"{kind}.{p}" for kind in ("intake", "events") for p in ("hubspot", "salesforce"))
READ_S_MAX = 30.0
ATTEMPTS = 5
EACH = 3
"""Requests of each workload."""


class Busy(Exception):
    """Answered 503: not a difference, only no answer yet."""


Written = dict[tuple[str, int], list[tuple[Any, ...]]]
"""Topic and partition to what is there, in its order."""


class Different(Exception):
    """What one of them wrote otherwise than ours."""


def check(ports: Mapping[str, int], bootstrap_servers: str, registry_url: str) -> int:
    """-> how many records each of them wrote. Raises Different, where one is not as the first's.

    Each is sent the very same requests but for `traceparent`, which tells whose a record is. A
    gateway that could not take one in time (503) ends the attempt, and another begins.
    """
    codec = Codec.from_registry(registry_url)
    for attempt in range(ATTEMPTS):
        traces = {name: f"00-{n:032x}-{attempt + 1:016x}-01" for n, name in enumerate(ports, 1)}
        try:
            count = _send_all(ports, traces)
        except Busy:
            continue
        messages = _read(bootstrap_servers, {t.encode() for t in traces.values()}, count)
        return _compare({n: _written(messages, t, codec) for n, t in traces.items()}, count)
    raise Different("too busy to compare: a gateway answered 503 in each attempt")


def _send_all(ports: Mapping[str, int], traces: Mapping[str, str]) -> int:
    """-> how many records each of them is to write. Raises Busy, Different."""
    count = 0
    for workload in WORKLOADS.values():
        plain = [workload.request(n, "TRACE") for n in range(EACH)]
        count += EACH * (1 + workload.events)
        for name, port in ports.items():
            _send([request.replace(b"TRACE", traces[name].encode()) for request in plain], port)
    return count


def _compare(written: Mapping[str, Written], count: int) -> int:
    first, *others = written
    for other in others:
        if found := _difference(written[first], written[other]):
            raise Different(f"{other} writes otherwise than {first}: {found}")
    if (kept := sum(map(len, written[first].values()))) != count:
        raise Different(f"{first} wrote {kept} records, not {count}")
    return count


def _send(requests: Sequence[bytes], port: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as peer:
        for request in requests:
            peer.sendall(request)
            answer = b""
            while not is_whole(answer):
                if not (piece := peer.recv(65536)):
                    raise Different("hung up")
                answer += piece
            if answer.startswith(b"HTTP/1.1 503 "):
                raise Busy
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise Different(f"answered {answer[:60]!r}")


def _read(bootstrap_servers: str, traces: Set[bytes], each: int) -> list[Message]:
    """All with one of the traces: so many each, or what there is after a while."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "bench"})
    try:
        known = consumer.list_topics(timeout=10).topics
        consumer.assign([TopicPartition(t, p, 0) for t in TOPICS for p in known[t].partitions])
        messages: list[Message] = []
        deadline_s = time.monotonic() + READ_S_MAX
        while len(messages) < each * len(traces) and time.monotonic() < deadline_s:
            some = consumer.consume(1000, 0.2)
            messages += [m for m in some if dict(m.headers() or ()).get("traceparent") in traces]
        return messages
    finally:
        consumer.close()


def _written(messages: Sequence[Message], trace: str, codec: Codec) -> Written:
    written: Written = {}
    for message in sorted(messages, key=lambda m: m.offset() or 0):
        headers = dict(message.headers() or ())
        if headers.pop("traceparent", None) != trace.encode():
            continue
        headers.pop("received_ms", None)
        topic, value = message.topic() or "", message.value()
        if topic.startswith("events."):
            _, fields = codec.decode_dict(value)
            value = fields | {"received_ms": 0, "trace": ""}
        place = written.setdefault((topic, message.partition() or 0), [])
        place.append((message.key(), headers, value))
    return written


def _difference(ours: Written, theirs: Written) -> str:
    for place in ours.keys() | theirs.keys():
        for one, other in zip(ours.get(place, ()), theirs.get(place, ()), strict=False):
            if one != other:
                return f"{place}:\n{one}\n{other}"
        if len(ours.get(place, ())) != len(theirs.get(place, ())):
            return f"{place}: {len(theirs.get(place, ()))} of {len(ours.get(place, ()))}"
    return ""

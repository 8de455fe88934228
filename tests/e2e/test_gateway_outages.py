"""The gateway while Kafka is away, hangs, has no room, or has lost what it had: nothing is promised
that is not kept, and it goes on by itself."""

import asyncio
import os
import resource
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from tests.e2e.gateway_world import (  # noqa: F401 - fixtures are found where they are imported
    WAIT_S,
    FreshStack,
    Gateway,
    Kafka,
    Start,
    event,
    kafka_fixture,
    kept_once,
    post,
    send,
    start_fixture,
    until,
)
from webhook_gateway.publisher import STALL_S, Publisher, Record, Unconfirmed

AWAY_S = 20.0


def test_without_its_broker_it_says_503_and_goes_on_when_it_is_back(
    fresh_stack: FreshStack, start: Start
) -> None:
    stack = fresh_stack()
    kafka = Kafka.of(stack)
    kafka.define("hub", webhook={"secret": "env:GATEWAY_SECRET"})
    gateway = start(kafka).await_ready()
    senders = send(gateway, "hub")
    until(lambda: senders.accepted() > 500, "events are accepted")
    stack.kill_broker()
    until(lambda: gateway.status("/readyz") == 503, "not ready")
    began_s = time.monotonic()
    answer = post(gateway, "hub", event(5))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert time.monotonic() - began_s < 1  # at once, not after a time-out
    assert gateway.status("/healthz") == 200
    before = senders.accepted()
    until(lambda: time.monotonic() - began_s > AWAY_S, "the broker is away for long", 2 * AWAY_S)
    assert senders.statuses()[503] > 50  # senders are told to come again
    assert senders.accepted() == before
    stack.restart_broker()
    until(lambda: senders.accepted() > before + 500, "events are accepted again")
    assert gateway.process.poll() is None
    assert gateway.status("/readyz") == 200
    kafka.define("late", webhook={"secret": "env:GATEWAY_SECRET"})
    until(lambda: post(gateway, "late", event(1)).status_code == 200, "definitions are followed")
    accepted = senders.end()
    assert max(s.slowest_s for s in senders.all) < 5  # HubSpot waits no longer
    kept_once(kafka, "hub", accepted, set().union(*(s.tried for s in senders.all)))
    print(f"\nbroker away for {AWAY_S:g} s: {senders.told()}")


def full_by_bound(stack: Any) -> None:
    """No file of the broker's may grow by more than a little: works for everybody, on Linux."""
    largest = max(f.stat().st_size for f in stack.data.rglob("*.log") if f.is_file())
    pid = stack.pid("kafka")
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest + 100_000, hard))


def full_by_ballast(stack: Any) -> None:
    """All room that is left on its disk is taken by somebody else."""
    with (stack.data / "ballast").open("wb") as ballast:
        try:
            while True:
                ballast.write(b"x" * 65_536)
                ballast.flush()
        except OSError:
            return


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 MB in memory; making one takes an administrator."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if done.returncode != 0:
        pytest.skip("only an administrator makes file systems")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_broker_whose_disk_is_full(
    small_disk: Path, fresh_stack: FreshStack, start: Start
) -> None:
    _no_room(fresh_stack(small_disk / "data"), start, full_by_ballast)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux bounds another process")
def test_a_broker_whose_files_may_not_grow(fresh_stack: FreshStack, start: Start) -> None:
    _no_room(fresh_stack(), start, full_by_bound)


def _no_room(stack: Any, start: Start, fill: Any) -> None:
    """The broker ends itself in the middle of the load. The gateway promises nothing more, and goes
    on by itself when the broker is back with room to write."""
    kafka = Kafka.of(stack)
    kafka.define("hub", webhook={"secret": "env:GATEWAY_SECRET"})
    gateway = start(kafka).await_ready()
    senders = send(gateway, "hub")
    until(lambda: senders.accepted() > 200, "events are accepted", 120)
    fill(stack)
    until(lambda: senders.statuses()[503] > 20, "senders are told to come again", 120)
    assert gateway.status("/healthz") == 200
    until(lambda: gateway.status("/readyz") == 503, "not ready")
    before = senders.accepted()
    (stack.data / "ballast").unlink(missing_ok=True)
    stack.restart_broker()
    until(lambda: senders.accepted() > before + 100, "events are accepted again", 300)
    assert gateway.process.poll() is None
    accepted = senders.end()
    kept_once(kafka, "hub", accepted, set().union(*(s.tried for s in senders.all)))
    print(f"\nno room for the broker, {fill.__name__}: {senders.told()}")


def test_a_broker_that_hangs_is_as_good_as_away_and_sigterm_still_drains(
    fresh_stack: FreshStack, start: Start
) -> None:
    """The connection stays open, nothing comes: the answer is 503 in time, then at once."""
    stack = fresh_stack()
    kafka = Kafka.of(stack)
    kafka.define("hub", webhook={"secret": "env:GATEWAY_SECRET"})
    gateway = start(kafka).await_ready()
    assert post(gateway, "hub", event(1)).status_code == 200
    with kafka.frozen():
        began_s = time.monotonic()
        assert post(gateway, "hub", event(2)).status_code == 503
        assert 1 < time.monotonic() - began_s < 5
        until(lambda: gateway.status("/readyz") == 503, "not ready")
        began_s = time.monotonic()
        assert post(gateway, "hub", event(3)).status_code == 503
        assert time.monotonic() - began_s < 1
    until(lambda: post(gateway, "hub", event(4)).status_code == 200, "accepted again")
    with kafka.frozen():
        answers: list[int] = []
        asking = threading.Thread(
            target=lambda: answers.append(post(gateway, "hub", event(6)).status_code)
        )
        asking.start()
        until(
            lambda: gateway.metric("syncline_gateway_in_hand", connection="hub") == 1, "under way"
        )
        gateway.process.send_signal(signal.SIGTERM)
        until(lambda: gateway.status("/healthz") == 0, "takes no more")
    asking.join(WAIT_S)
    assert answers == [200]
    assert gateway.process.wait(10) == 0
    kept_once(kafka, "hub", {1, 4, 6}, {1, 2, 3, 4, 6})


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_logs_that_lost_their_end_stop_nobody(fresh_stack: FreshStack, start: Start) -> None:
    """The broker dies and comes back without the end of its logs, as when a machine fails before
    its disk has all. It then expects older numbers of the producer than come, which is fatal to
    that producer. What is accepted from then on is kept; what the disk has lost nobody can."""
    stack = fresh_stack()
    kafka = Kafka.of(stack)
    kafka.define("hub", webhook={"secret": "env:GATEWAY_SECRET"})
    gateway = start(kafka).await_ready()
    senders = send(gateway, "hub")
    until(lambda: senders.accepted() > 500, "events are accepted", 120)
    stack.kill_broker()
    until(lambda: gateway.status("/readyz") == 503, "not ready")
    lost = set().union(*(s.accepted for s in senders.all))
    for log in stack.data.rglob("*.hubspot-*/*.log"):
        os.truncate(log, log.stat().st_size // 2)
    stack.restart_broker()
    before = senders.accepted()
    until(lambda: senders.accepted() > before + 500, "events are accepted again", 120)
    assert gateway.process.poll() is None
    kept = senders.end() - lost
    kept_once(kafka, "hub", kept, set().union(*(s.tried for s in senders.all)))
    assert len(kept) > 500
    assert any("made anew" in line for line in gateway.lines)
    print(f"\nlogs lost their end: {senders.told()}")


class Failed:
    """A producer after a fatal error, as `test_logs_that_lost_their_end_stop_nobody` has seen it:
    asked for news, it raises, and tells no callback."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.producer, name)

    def __len__(self) -> int:
        return len(self.producer)

    def poll(self, _: float) -> int:
        raise KafkaException(KafkaError(KafkaError._FATAL, "sequence out of order", fatal=True))


async def test_what_is_under_way_when_a_producer_fails_is_answered(kafka: Kafka) -> None:
    publisher = Publisher({"bootstrap.servers": kafka.servers}, messages_max=1000)
    record = Record("intake.hubspot", f"fatal-{uuid.uuid4().hex}", b"[]", [])

    async def confirmed() -> bool:
        try:
            await publisher.publish([record], 5)
        except Unconfirmed:
            return False
        return True

    async def awaited() -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not await confirmed():
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)

    await awaited()
    publisher._producer = Failed(publisher._producer)  # type: ignore[assignment]
    under_way = asyncio.create_task(confirmed())
    await awaited()
    assert await under_way in (True, False)  # answered, one way or the other
    assert len(kafka.messages("intake.hubspot", record.key)) >= 2
    await publisher.close(1)


async def test_a_busy_loop_is_not_taken_for_a_slow_kafka(kafka: Kafka) -> None:
    """Within one turn of the loop, as with many large requests at hand: what Kafka has confirmed
    meanwhile is heard, and not held until the turn ends."""
    publisher = Publisher({"bootstrap.servers": kafka.servers}, messages_max=1000)
    deadline_s = time.monotonic() + WAIT_S
    while publisher.refuses:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)
    record = Record("intake.hubspot", f"busy-{uuid.uuid4().hex}", b"[]", [])
    confirmed = publisher.publish([record], WAIT_S)
    time.sleep(STALL_S + 0.1)  # noqa: ASYNC251 - this is the turn
    until(lambda: not publisher.refuses and not publisher.queued, "what was confirmed is heard")
    await confirmed
    await publisher.close(1)

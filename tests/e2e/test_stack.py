"""The embedded stack keeps what it was given, and leaves nothing behind."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from syncline import stack as stack_module
from syncline.stack import Stack, StackFailed, running

FreshStack = Callable[..., Stack]
WAIT_S = 30.0


def until(true: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < deadline, f"not within {wait_s:g} s: {what}"
        time.sleep(0.02)


def create(servers: str, topic: str, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics([NewTopic(topic, 1, 1, config=config)]).values():
        future.result(WAIT_S)


def read(servers: str, topic: str, count: int, partition: int = 0) -> list[bytes]:
    """`count` values from the beginning, by a consumer that starts anew."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": uuid.uuid4().hex,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0)])
    values: list[bytes] = []
    deadline = time.monotonic() + WAIT_S
    while len(values) < count and time.monotonic() < deadline:
        if (message := consumer.poll(0.2)) and not message.error():
            values.append(message.value() or b"")
    consumer.close()
    return values


def write(servers: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": servers, "acks": "all"})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(WAIT_S) == 0


@contextlib.contextmanager
def owner(data: Path) -> Iterator[subprocess.Popen[str]]:
    """Another Python process that has started a stack on `data` and waits."""
    code = (
        "import sys, pathlib, signal; from syncline.stack import Stack\n"
        "stack = Stack.start(pathlib.Path(sys.argv[1]), registry=False)\n"
        "print('ready', flush=True); signal.pause()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(data)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def processes(data: Path) -> list[psutil.Process]:
    """All processes that have this folder in their command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(data) in part for part in process.cmdline()):
                found.append(process)
    return found


def test_a_record_and_a_schema_go_through(stack: Stack) -> None:
    topic = f"through-{uuid.uuid4().hex}"
    create(stack.bootstrap_servers, topic)
    write(stack.bootstrap_servers, topic, [b"a", b"b"])
    assert read(stack.bootstrap_servers, topic, 2) == [b"a", b"b"]
    with SchemaRegistryClient({"url": stack.registry_url}) as registry:
        number = registry.register_schema(topic, Schema('{"type": "string"}', "AVRO"))
        assert registry.get_latest_version(topic).schema_id == number
        assert registry.get_config().compatibility_level == "BACKWARD_TRANSITIVE"


def test_the_first_group_and_the_first_transaction_do_not_wait(fresh_stack: FreshStack) -> None:
    """Their topics are there before anybody asks: made on demand they cost 3 s and 1 s."""
    own = fresh_stack(registry=False)
    topics = (
        AdminClient({"bootstrap.servers": own.bootstrap_servers}).list_topics(timeout=10).topics
    )
    assert {"__consumer_offsets", "__transaction_state"} <= topics.keys()
    assert len(topics["__transaction_state"].partitions) == 4


def test_acknowledged_records_survive_a_killed_broker(
    fresh_stack: FreshStack, tmp_path: Path
) -> None:
    """SIGKILL under load, restart on the same data and port: every acknowledged record is there,
    once, in order, and clients go on without being told."""
    own = fresh_stack(tmp_path, registry=False)
    servers = own.bootstrap_servers
    create(servers, "kept")
    acknowledged: list[int] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        acknowledged.append(int(message.value() or b""))

    producer = Producer(
        {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 1, "log_level": 0}
    )
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            producer.produce("kept", str(sent), on_delivery=delivered)
            sent += 1
            producer.poll(0)

    send(20_000)
    until(lambda: bool(producer.poll(0.01) or acknowledged), "first acknowledgement")
    first = own.pid("kafka")
    own.kill_broker()
    assert not psutil.pid_exists(first)
    send(5_000)
    own.restart_broker()
    assert own.bootstrap_servers == servers
    assert own.pid("kafka") != first
    assert producer.flush(WAIT_S) == 0
    assert acknowledged == list(range(sent))
    assert [int(v) for v in read(servers, "kept", sent)] == acknowledged


def test_a_committed_transaction_survives_a_killed_broker(fresh_stack: FreshStack) -> None:
    own = fresh_stack(registry=False)
    servers = own.bootstrap_servers
    create(servers, "both")
    config = {"bootstrap.servers": servers, "transactional.id": "one", "log_level": 0}
    producer = Producer(config)
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce("both", b"committed")
    producer.commit_transaction(WAIT_S)
    producer.begin_transaction()
    producer.produce("both", b"left open")
    producer.flush(WAIT_S)
    own.kill_broker()
    own.restart_broker()
    successor = Producer(config)
    successor.init_transactions(WAIT_S)  # the same id: ends what the other left open
    successor.begin_transaction()
    successor.produce("both", b"later")
    successor.commit_transaction(WAIT_S)
    assert read(servers, "both", 2) == [b"committed", b"later"]


def test_data_and_addresses_survive_a_clean_restart(tmp_path: Path) -> None:
    with Stack.start(tmp_path) as first:
        addresses = first.bootstrap_servers, first.registry_url
        create(first.bootstrap_servers, "kept")
        write(first.bootstrap_servers, "kept", [b"1"])
        schema = Schema('{"type": "record", "name": "R", "fields": []}', "AVRO")
        with SchemaRegistryClient({"url": first.registry_url}) as registry:
            number = registry.register_schema("r", schema)
    assert running(tmp_path) is None
    with Stack.start(tmp_path) as second:
        assert (second.bootstrap_servers, second.registry_url) == addresses
        assert read(second.bootstrap_servers, "kept", 1) == [b"1"]
        with SchemaRegistryClient({"url": second.registry_url}) as registry:
            assert registry.get_latest_version("r").schema_id == number


def test_nothing_stays_when_the_owner_is_killed(java_files: None, tmp_path: Path) -> None:
    """SIGKILL to the owning Python: no Java process stays, and the folder can be used at once."""
    with owner(tmp_path) as process:
        state = running(tmp_path)
        assert state is not None
        assert state.pid == process.pid
        java = psutil.Process(state.pids["kafka"])
        assert "java" in java.name()
        process.kill()
        process.wait()
        with Stack.start(tmp_path, registry=False) as own:  # waits for the old one's files
            assert not java.is_running()
            assert own.pid("kafka") != state.pids["kafka"]
    until(lambda: not processes(tmp_path), "all processes gone")


def test_nothing_stays_when_the_keeper_is_killed(fresh_stack: FreshStack, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only the Linux kernel tells a child that its parent died")
    own = fresh_stack(tmp_path, registry=False)
    java = psutil.Process(own.pid("kafka"))
    keeper = java.parent()
    assert keeper is not None
    keeper.kill()
    until(lambda: not java.is_running(), "broker gone")
    with pytest.raises(StackFailed, match="kafka ended"):
        own.check()


def test_interrupt_of_the_terminal_does_not_reach_the_broker(java_files: None) -> None:
    """Ctrl-C goes to the whole foreground process group: the owner decides when Java stops."""
    with Stack.start(registry=False) as own:
        assert os.getpgid(own.pid("kafka")) != os.getpgid(os.getpid())


def test_a_temporary_folder_goes_with_its_stack(java_files: None) -> None:
    with Stack.start(registry=False) as own:
        assert own.data.is_dir()
        java = own.pid("kafka")
    assert not own.data.exists()
    assert not psutil.pid_exists(java)
    own.stop()  # a second time changes nothing


def test_two_stacks_side_by_side(stack: Stack, fresh_stack: FreshStack) -> None:
    other = fresh_stack(registry=False)
    assert not set(other.ports.values()) & set(getattr(stack, "ports", {}).values())
    topic = f"here-{uuid.uuid4().hex}"
    create(other.bootstrap_servers, topic)
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    assert topic not in admin.list_topics(timeout=10).topics


def test_a_folder_in_use_is_refused(fresh_stack: FreshStack, tmp_path: Path) -> None:
    own = fresh_stack(tmp_path, registry=False)
    with pytest.raises(StackFailed, match=f"already runs on .*process {os.getpid()}"):
        Stack.start(tmp_path, registry=False)
    create(own.bootstrap_servers, "unharmed")


def test_a_taken_port_is_passed_by(
    java_files: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port taken between looking and using it: the next attempt uses others."""
    ports = stack_module._ports(None)
    chosen = iter([ports, stack_module._ports(None)])
    monkeypatch.setattr(stack_module, "_ports", lambda data: next(chosen))
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", ports["broker"]))
        thief.listen()
        with Stack.start(tmp_path, registry=False) as own:
            assert own.ports["broker"] != ports["broker"]
            create(own.bootstrap_servers, "works")


def test_a_broker_that_cannot_start_says_why(java_files: None, tmp_path: Path) -> None:
    data = tmp_path / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=x\n")
    with pytest.raises(StackFailed, match=r"kafka ended with exit code 1: .*Stored node id 7"):
        Stack.start(tmp_path, registry=False)
    assert not processes(tmp_path)


def test_the_state_file_ends_with_the_stack(fresh_stack: FreshStack, tmp_path: Path) -> None:
    own = fresh_stack(tmp_path, registry=False)
    state = running(tmp_path)
    assert state is not None
    assert (state.bootstrap_servers, state.registry_url) == (own.bootstrap_servers, "")
    assert state.pids == {"kafka": own.pid("kafka")}
    own.stop()
    assert running(tmp_path) is None


def test_up_runs_until_it_is_told_to_stop(java_files: None, tmp_path: Path) -> None:
    """`syncline up`: addresses on standard output, all topics, clean end on SIGTERM."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA", "SCHEMA"))}
    syncline = [sys.executable, "-m", "syncline"]
    with subprocess.Popen(
        [*syncline, "up"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as up:
        try:
            assert up.stdout is not None
            servers = up.stdout.readline().strip().partition("=")[2]
            assert servers, f"up ended: {up.communicate(timeout=WAIT_S)}"
            state = running(tmp_path / ".syncline" / "stack")
            assert state is not None
            assert servers == state.bootstrap_servers
            doctor = subprocess.run(
                [*syncline, "doctor"], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert " bad" not in doctor.stdout, doctor.stdout
            assert doctor.returncode == 0, doctor.stderr
            up.send_signal(signal.SIGTERM)
            _, told = up.communicate(timeout=WAIT_S)
        finally:
            up.kill()
    assert up.returncode == 0, told
    assert told.endswith("stopping\n")
    until(lambda: not processes(tmp_path), "all processes gone", 5)
    without = subprocess.run(
        [*syncline, "topics", "create"], cwd=tmp_path, env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    assert without.returncode == 1
    assert without.stderr.startswith("no cluster: start one with `syncline up`")

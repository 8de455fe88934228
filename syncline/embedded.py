"""What Kafka and the registry of the embedded stack are told. Pure.

docker-compose.yml sets the same; a test compares them.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from syncline.jars import Files
from syncline.jvm import Program

__all__ = [
    "BROKER",
    "INTERNAL_TOPICS",
    "LOCAL",
    "REGISTRY",
    "broker_properties",
    "formatter",
    "kafka",
    "registry",
]

LOCAL = "127.0.0.1"
"""Never `localhost`, which may be ::1 first."""
MIB = 1024 * 1024

BROKER: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.retention.minutes": "525600",  # a sync that was off for months goes on where it was
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    # A transaction that was left open holds up all readers of its partitions for so long.
    "transaction.max.timeout.ms": "60000",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "message.max.bytes": str(4 * MIB),
    # After a kill the new broker waits for the old one's session to end: 9 s by default.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
    "log.segment.bytes": str(64 * MIB),
    "log.index.size.max.bytes": str(MIB),
    "log.cleaner.dedupe.buffer.size": str(4 * MIB),
    "log.cleaner.io.buffer.size": str(128 * 1024),
}
"""Settings that do not depend on ports and folders."""

REGISTRY: Mapping[str, str] = {
    "APICURIO_RULES_GLOBAL_COMPATIBILITY": "BACKWARD_TRANSITIVE",
    "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
    "QUARKUS_LOG_CATEGORY__IO_APICURIO__LEVEL": "WARN",
}
"""The same of the registry, as environment variables."""

INTERNAL_TOPICS: Mapping[str, int] = {
    "__consumer_offsets": int(BROKER["offsets.topic.num.partitions"]),
    "__transaction_state": int(BROKER["transaction.state.log.num.partitions"]),
}

JVM = (
    "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
    "--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED",
    "-Xlog:disable", "-Xlog:all=error:stderr",
)  # fmt: skip
LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)


def broker_properties(ports: Mapping[str, int], data: Path) -> dict[str, str]:
    """All of `server.properties`."""
    return {
        **BROKER,
        "controller.quorum.voters": f"1@{LOCAL}:{ports['controller']}",
        "log.dirs": str(data),
        "listeners": f"PLAINTEXT://{LOCAL}:{ports['broker']},"
        f"CONTROLLER://{LOCAL}:{ports['controller']}",
        "advertised.listeners": f"PLAINTEXT://{LOCAL}:{ports['broker']}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
    }


def kafka(files: Files, properties: Path) -> Program:
    classpath = os.pathsep.join(map(str, files.kafka))
    return Program("kafka", (*JVM, *LOGGING), ("-cp", classpath), ("kafka.Kafka", str(properties)))


def formatter(broker: Program, properties: Path, cluster: str) -> list[str]:
    """Arguments for Java that prepare an empty data folder."""
    return [
        *broker.flags, *broker.classes, "kafka.tools.StorageTool", "format",
        # With `-t ID` an id that begins with a dash would be taken for an option.
        f"--cluster-id={cluster}", "-c", str(properties),
    ]  # fmt: skip


def registry(files: Files, ports: Mapping[str, int], data: Path) -> Program:
    """Its state is a database file beside Kafka's: in Kafka it would take 25 s to start."""
    env = {
        **REGISTRY,
        "QUARKUS_HTTP_HOST": LOCAL,
        "QUARKUS_HTTP_PORT": str(ports["registry"]),
        "QUARKUS_MANAGEMENT_HOST": LOCAL,
        "QUARKUS_MANAGEMENT_PORT": str(ports["management"]),
        "APICURIO_STORAGE_KIND": "sql",
        "APICURIO_STORAGE_SQL_KIND": "h2",
        # WRITE_DELAY=0: without it a kill loses the last registrations, and their ids are given
        # out again: old messages would be read with a wrong schema.
        "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{data / 'registry'};"
        "DB_CLOSE_ON_EXIT=FALSE;WRITE_DELAY=0",
    }
    flags = (*JVM, "-XX:MaxMetaspaceSize=256m")
    return Program("registry", flags, ("-jar", str(files.registry / "quarkus-run.jar")), (), env)

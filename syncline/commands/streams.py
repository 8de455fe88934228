"""`syncline streams`."""

import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Annotated, Any

import structlog
import typer
from confluent_kafka import KafkaException

from schemas.codec import Codec
from schemas.follow import Definitions
from schemas.topics import of_platform
from streams.definitions import Catalogs
from streams.engine import EngineSettings
from streams.topology import build
from syncline import cluster, telemetry
from syncline.settings import Settings

app = typer.Typer()
log = structlog.get_logger("streams")

LOOK_S = 1.0
_AFTER = "SYNCLINE_STREAMS_AFTER_S"
"""Of a process that has begun anew: for so long its former self is still in the group."""


@app.command()
def streams(
    metrics_port: Annotated[int, typer.Option(help="For Prometheus; 0: none.")] = 0,
) -> None:
    """Run a streams worker: admits events, decides what each destination is owed, guides runs.

    Several share the work; each has a SYNCLINE_SLOT of its own. Safe to kill at any moment. Begins
    anew by itself when a configuration names a platform that none had named before.
    """
    settings = cluster.located(Settings())
    telemetry.configure(settings)
    time.sleep(float(os.environ.pop(_AFTER, "0")))
    cluster.create_topics(settings)
    codec = cluster.codec(settings)
    kafka = settings.kafka_config()
    engine = EngineSettings(
        group="syncline-streams",
        slot=settings.slot,
        bootstrap_servers=settings.bootstrap_servers,
        data_dir=settings.data / "streams" / settings.slot,
        kafka={k: v for k, v in kafka.items() if k != "bootstrap.servers"},
        replication_factor=settings.replication,
    )
    telemetry.serve_metrics(metrics_port)
    identity_key = settings.identity_key.get_secret_value().encode()
    catalogs = Catalogs(kafka, codec, identity_key)
    platforms = catalogs.platforms
    cluster.create_topics(
        settings, [topic for name in platforms for topic in of_platform(name)], schemas=False
    )
    threading.Thread(
        target=_begin_anew_for_more,
        args=(kafka, codec, platforms, engine.session_timeout_s + 1),
        name="platforms",
        daemon=True,
    ).start()
    build(engine, codec, catalogs, settings.partitions, platforms).run()


def _begin_anew_for_more(
    kafka: Mapping[str, Any], codec: Codec, platforms: tuple[str, ...], pause_s: float
) -> None:
    """Follow the definitions; start this process again when they name another platform.

    All workers of a group must read the same topics. The broker takes a static member that comes
    back within its session for the one that it was, topics included, so the next one first waits
    until the group has forgotten it. Like a kill, this is safe at any moment.
    """
    definitions: Definitions | None = None
    while True:
        try:
            definitions = definitions or Definitions(kafka, codec)
            definitions.refresh(LOOK_S)
        except (KafkaException, TimeoutError):
            time.sleep(LOOK_S)
            continue
        if (named := definitions.platforms()) != platforms:
            break
    log.warning(
        "begins anew, to read topics of more platforms",
        platforms=sorted(set(named) - set(platforms)),
        pause_s=pause_s,
    )
    os.environ[_AFTER] = str(pause_s)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves

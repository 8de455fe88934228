"""`syncline streams`."""

from typing import Annotated

import typer

from streams.definitions import Catalogs
from streams.engine import EngineSettings
from streams.topology import build
from syncline import cluster, telemetry
from syncline.settings import Settings

app = typer.Typer()


@app.command()
def streams(
    metrics_port: Annotated[int, typer.Option(help="For Prometheus; 0: none.")] = 0,
) -> None:
    """Run a streams worker: admits events, decides what each destination is owed, guides runs.

    Several share the work; each has a SYNCLINE_SLOT of its own. Safe to kill at any moment.
    """
    settings = cluster.located(Settings())
    telemetry.configure(settings)
    cluster.create_topics(settings)
    codec = cluster.codec(settings)
    identity_key = settings.identity_key.get_secret_value().encode()
    engine = EngineSettings(
        group="syncline-streams",
        slot=settings.slot,
        bootstrap_servers=settings.bootstrap_servers,
        data_dir=settings.data / "streams" / settings.slot,
        kafka={k: v for k, v in settings.kafka_config().items() if k != "bootstrap.servers"},
        replication_factor=settings.replication,
    )
    telemetry.serve_metrics(metrics_port)
    catalogs = Catalogs(settings.kafka_config(), codec, identity_key)
    build(engine, codec, catalogs, settings.partitions).run()

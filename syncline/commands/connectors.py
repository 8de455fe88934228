"""`syncline connectors`."""

from typing import Annotated

import typer

from connectors.registry import platforms
from connectors.run import ConnectorsConfig, TopicsMissing, run
from syncline import cluster, telemetry
from syncline.errors import Failed, Misused
from syncline.settings import Settings

app = typer.Typer()


@app.command()
def connectors(
    platform: Annotated[
        list[str] | None,
        typer.Option(help="Only this one; may be repeated. Default: all that are configured."),
    ] = None,
    admin_port: Annotated[
        int,
        typer.Option(
            envvar="SYNCLINE_CONNECTORS_ADMIN_PORT",
            help="/status, /metrics, /readyz on loopback; 0: a free port.",
        ),
    ] = 0,
) -> None:
    """Run a connectors worker: uploads, reads and fetches within each platform's limits.

    Several share the accounts; each has a SYNCLINE_SLOT of its own. Safe to kill at any moment.
    """
    settings = cluster.located(Settings())
    telemetry.configure(settings)
    unknown = sorted(set(platform or ()) - set(platforms()))
    if unknown:
        raise Misused(f"no connector for {', '.join(unknown)}; there are {', '.join(platforms())}")
    codec = cluster.codec(settings)
    config = ConnectorsConfig(
        kafka=settings.kafka_config(),
        platforms=platform or (),
        slot=settings.slot,
        admin_port=admin_port,
    )
    try:
        run(config, codec)
    except TopicsMissing as error:
        raise Failed(str(error)) from None
    except TimeoutError as error:
        raise Failed(f"Kafka does not answer: {error}") from None
    except OSError as error:
        raise Failed(f"admin port {admin_port}: {error.strerror}") from None

"""`syncline gateway`."""

from typing import Annotated

import typer

from syncline import cluster, telemetry
from syncline.settings import Settings
from webhook_gateway.config import GatewayConfig
from webhook_gateway.run import run

app = typer.Typer()

Port = typer.Option(min=0, max=65535, envvar="SYNCLINE_GATEWAY_PORT")


@app.command()
def gateway(
    port: Annotated[int, Port] = 8080,
    admin_port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="/metrics and more; not for the world. 0: a free one."),
    ] = 9090,
    public_url: Annotated[
        str,
        typer.Option(
            envvar="SYNCLINE_PUBLIC_URL",
            help="Address by which the platforms call us, as https://hooks.example.com; some sign "
            "it. Empty: http://HOST:PORT.",
        ),
    ] = "",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    admin_host: Annotated[str, typer.Option(help="The same for the admin port.")] = "127.0.0.1",
) -> None:
    """Run the webhook gateway: POST /hooks/CONNECTION, /healthz, /readyz.

    Several may share a port. SIGTERM ends it within 10 s, with what is under way answered.
    """
    settings = cluster.located(Settings())
    telemetry.configure(settings)
    config = GatewayConfig(
        # An outage is said once, in our words, and not with every attempt to connect.
        kafka={"log_level": 2, **settings.kafka_config()},
        registry_url=settings.registry_url,
        public_url=public_url,
        host=host,
        port=port,
        admin_host=admin_host,
        admin_port=admin_port,
    )
    try:
        code = run(config)
    except OSError as error:
        typer.echo(f"gateway: port {port} or {admin_port}: {error.strerror}", err=True)
        code = 1
    raise SystemExit(code)

"""`syncline gateway`."""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from syncline import cluster
from syncline.errors import Misused
from syncline.settings import Settings
from webhook_gateway.__main__ import become
from webhook_gateway.config import GatewayConfig, Tls
from webhook_gateway.guard import Networks

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
    proxy: Annotated[
        list[str] | None,
        typer.Option(help="Network of proxies whose X-Forwarded-For is believed. May be repeated."),
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file: serve HTTPS. Else a proxy ends TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file with its key.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(help="PEM file: who signs client certificates, for `client_names`."),
    ] = None,
) -> None:
    """Run the webhook gateway: POST /hooks/CONNECTION, /healthz, /readyz.

    Several may share a port. SIGTERM ends it within 10 s, with what is under way answered.
    """
    if (tls_certificate is None) is not (tls_key is None) or (tls_client_ca and not tls_key):
        raise Misused("--tls-certificate and --tls-key go together, --tls-client-ca with them")
    tls = Tls(tls_certificate, tls_key, tls_client_ca) if tls_certificate and tls_key else None
    _check(proxy or (), tls)
    settings = cluster.located(Settings())
    config = GatewayConfig(
        # An outage is said once, in our words, and not with every attempt to connect.
        kafka={"log_level": 2, **settings.kafka_config()},
        registry_url=settings.registry_url,
        registry=settings.registry_config(),
        proxies=proxy or (),
        tls=tls,
        public_url=public_url,
        host=host,
        port=port,
        admin_host=admin_host,
        admin_port=admin_port,
        log_level=settings.log_level,
    )
    become(config)


def _check(proxies: Sequence[str], tls: Tls | None) -> None:
    """Raises Misused."""
    try:
        Networks(proxies)
    except ValueError as error:
        raise Misused(f"--proxy: {error}") from None
    try:
        if tls:
            tls.context()
    except OSError as error:  # ssl.SSLError is one too
        why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise Misused(f"the TLS files cannot be used: {why}") from None

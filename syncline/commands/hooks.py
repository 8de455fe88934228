"""`syncline hooks`."""

import asyncio
import signal
from typing import Annotated

import typer

from syncline import cluster, telemetry
from syncline.hooks.service import Service
from syncline.settings import Settings

app = typer.Typer()


@app.command()
def hooks(
    metrics_port: Annotated[int, typer.Option(help="For Prometheus; 0: none.")] = 0,
) -> None:
    """Tell the `on_state_change` and `on_error` hooks of syncs what happens: signed HTTP calls.

    One is enough; run one, as two tell everything twice (with equal ids). Safe to kill: what was
    not told is told by the next.
    """
    settings = cluster.located(Settings())
    telemetry.configure(settings)
    telemetry.serve_metrics(metrics_port)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    codec = await asyncio.to_thread(cluster.codec, settings)
    service = await asyncio.to_thread(Service, settings.kafka_config(), codec)
    await service.run(stop)

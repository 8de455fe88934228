"""`syncline scheduler`."""

import signal
from threading import Event

import typer

from syncline import cluster, telemetry
from syncline.scheduler import Scheduler
from syncline.settings import Settings

app = typer.Typer()


@app.command()
def scheduler() -> None:
    """Begin bulk runs when the `schedule:` of their syncs says so; fetch the lists of audiences.

    One is enough. It keeps nothing, and may be killed at any moment; a second one begins nothing
    twice.
    """
    settings = cluster.located(Settings())
    telemetry.configure(settings)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    running = Scheduler(settings, cluster.codec(settings))
    try:
        running.run(stop)
    finally:
        running.close()

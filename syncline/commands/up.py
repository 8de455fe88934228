"""`syncline up`."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from schemas.follow import Definitions
from syncline import cluster, stack
from syncline.errors import Failed
from syncline.progress import Teller
from syncline.settings import Settings
from syncline.supervisor import Supervisor

app = typer.Typer()

PROCESSES = ("gateway", "streams", "connectors")
CHECK_S = 0.3


@app.command()
def up(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIGURATION]",
            help="Configuration folder: apply it and run gateway, streams, connectors and what "
            "else it needs too.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    gateway_port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="SYNCLINE_GATEWAY_PORT", help="Of the webhooks.")
    ] = 8080,
    gateway_admin_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Its /metrics. 0: a free one.")
    ] = 9090,
    public_url: Annotated[
        str,
        typer.Option(
            envvar="SYNCLINE_PUBLIC_URL",
            help="Address by which the platforms call the gateway; some sign it.",
        ),
    ] = "",
) -> None:
    """Run Kafka and the registry on this machine until Ctrl-C, with all topics created.

    Where KAFKA_BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL are set, that cluster is used. Data stays
    in the data folder (SYNCLINE_DATA); other commands find the stack there.
    """
    settings = Settings()
    # From here on SIGTERM ends things in the same way as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as ends, Teller() as teller:
        try:
            own = None
            if not (settings.bootstrap_servers or settings.registry_url):
                own = stack.Stack.start(
                    settings.data / "stack", say=teller.say, progress=teller.progress
                )
                ends.callback(own.stop)
            settings = cluster.located(settings)
            created = cluster.create_topics(settings)
            teller.say(f"created {len(created)} topics" if created else "all topics are there")
            print(f"KAFKA_BOOTSTRAP_SERVERS={settings.bootstrap_servers}")
            print(f"SCHEMA_REGISTRY_URL={settings.registry_url}", flush=True)
            gateway = ["--port", str(gateway_port), "--admin-port", str(gateway_admin_port)]
            gateway += ["--public-url", public_url]
            processes = _start(folder, settings, teller, gateway) if folder else None
            if processes:
                ends.callback(processes.stop)
            teller.say("running; Ctrl-C stops")
            while True:
                time.sleep(CHECK_S)
                if own:
                    own.check()
                for name in processes.check() if processes else ():
                    teller.say(f"{name} had ended and was started again")
        except KeyboardInterrupt:
            teller.say("stopping")
        except RuntimeError as error:  # of the supervisor: a process will not stay up
            raise Failed(str(error)) from error


def _start(folder: Path, settings: Settings, teller: Teller, gateway: list[str]) -> Supervisor:
    env = {
        "SYNCLINE_CONNECTORS_ADMIN_PORT": os.environ.get("SYNCLINE_CONNECTORS_ADMIN_PORT", "9091"),
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": settings.registry_url,
        "SYNCLINE_DATA": str(settings.data.resolve()),
    }
    applied = subprocess.run(  # noqa: S603 - our own command line
        [sys.executable, "-m", "syncline", "apply", str(folder), "--yes"],
        env={**os.environ, **env},
        check=False,
    )
    if applied.returncode != 0:
        raise typer.Exit(applied.returncode)
    processes = Supervisor(settings.data / "logs", env)
    for name in (*PROCESSES, *_wanted(settings)):
        child = processes.add(name, name, *(gateway if name == "gateway" else ()))
        teller.say(f"{name}: log in {child.log}")
    return processes


def _wanted(settings: Settings) -> list[str]:
    """Processes that only some configurations need."""
    definitions = Definitions(settings.kafka_config(), cluster.codec(settings))
    syncs = definitions.syncs().values()
    definitions.close()
    wanted = {
        "scheduler": any(s.schedule for s in syncs),
        "hooks": any(s.on_state_change or s.on_error for s in syncs),
    }
    return [name for name, is_wanted in wanted.items() if is_wanted]

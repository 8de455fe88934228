"""The command line. Each command is a module in `syncline/commands/`, loaded when it is called.

Exit codes: 0 done, 1 failed, 2 wrong use or wrong configuration.
"""

import importlib
import importlib.metadata
import sys
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaException
from pydantic import ValidationError
from typer.core import TyperGroup

from syncline.errors import Failed
from syncline.supervisor import die_with_parent
from syncline.telemetry import configure_command

__all__ = ["app", "main"]

COMMANDS: dict[str, str] = {
    "demo": "Run the main job on a real stack with simulated platforms, and report.",
    "up": "Start the embedded stack, and with a configuration everything else.",
    "doctor": "Check this machine, the settings and the cluster; say what to do.",
    "topics": "List, create or describe the topics.",
    "apply": "Make a configuration folder the active one; shows what changes first.",
    "gateway": "Run the webhook gateway.",
    "streams": "Run a streams worker.",
    "connectors": "Run a connectors worker.",
    "scheduler": "Begin scheduled runs, and fetch the lists of audiences.",
    "hooks": "Tell people and programs what happens to syncs, as they say.",
    "connector": "Write and check descriptions of platforms without code.",
    "certify": "Hold connectors to the contract; print a score card.",
    "sync": "List, pause or resume syncs; forget what stands at a destination.",
    "account": "List accounts; close one at once (kill switch), or open it by hand.",
    "audience": "Give a sync a list of ids: who joins, who leaves; show it.",
    "run": "Preview, start, show, pause, resume or cancel bulk runs.",
    "parked": "List, show, test, fix, release or discard records that are stuck.",
    "resend": "Send all that is known of one person again now.",
    "erase": "Forget a person for the sake of privacy, here and where syncs say so.",
    "unjoin": "Part two persons who were joined to one.",
    "balance": "Show that every record received has a fate.",
    "who": "Find a person by an address: objects, syncs, last values.",
    "explain": "Tell the story of one record from the topics.",
    "quotas": "Show limits of each account and what is left.",
    "map": "Check and try mapping documents.",
    "tail": "Show live what arrives for a connection, and what becomes of it.",
    "reconcile": "Compare a source with what is known of it, and make up for what was missed.",
    "traces": "Export what became of each webhook as OpenTelemetry traces.",
    "replay": "Run raw requests through the normaliser of today again.",
    "send": "Sign and post a sample webhook, to try things out.",
}


class _Lazy(TyperGroup):
    """Imports a command's module when it is needed: `--help` stays quick, extras stay optional."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"syncline.commands.{cmd_name}")
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package == "syncline":
                raise
            raise Failed(
                f"`syncline {cmd_name}` needs the package {package}: "
                f"install syncline with the extra that brings it, see pyproject.toml"
            ) from None
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Without importing any command."""
        print("Usage: syncline COMMAND [OPTIONS]\n\n  An event backbone on Kafka for marketing")
        print("  integrations.  `syncline COMMAND --help` tells more.\n\nCommands:")
        for name, about in COMMANDS.items():
            print(f"  {name:11} {about}")


app = typer.Typer(cls=_Lazy, add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """An event backbone on Kafka for marketing integrations."""
    configure_command()
    if version:
        print(importlib.metadata.version("syncline"))
    elif ctx.invoked_subcommand is None:
        print(ctx.get_help())


def main() -> Any:
    """Entry point: what people can mend is one line on stderr, never a traceback."""
    die_with_parent()
    try:
        return app()
    except ValidationError as error:
        for problem in error.errors():
            where = ".".join(map(str, problem["loc"]))
            print(f"settings: {where}: {problem['msg']}", file=sys.stderr)
        sys.exit(2)
    except Failed as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KafkaException as error:
        print(
            f"Kafka: {error.args[0]}. Is it running? `syncline doctor` tells more.", file=sys.stderr
        )
        sys.exit(1)

"""Options that several commands have, said once."""

from typing import Annotated

import typer

__all__ = ["Json", "Why"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Why = Annotated[str, typer.Option(help="Reason, kept in the journal.")]

"""`syncline connector`: platforms without code. Works on files alone: no cluster is needed."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from connectors.declared import load
from connectors.declared_model import schema as plain_schema
from connectors.declared_structure import structural
from connectors.registry import CONNECTORS, DESCRIPTIONS
from ratelimits import registry as quotas
from schemas.yamlfile import ConfigInvalid, read_yaml, validated
from syncline.errors import Misused
from syncline.options import Json
from webhook_gateway.senders.described import SECTION, WebhookForm

app = typer.Typer(help="Write and check descriptions of platforms.", no_args_is_help=True)

SKELETON = DESCRIPTIONS.parent / "declared_new.yaml"
NAME = re.compile(r"[a-z][a-z0-9_]*")
Folder = Annotated[Path, typer.Option(help="Where descriptions are.")]
Quotas = Annotated[Path, typer.Option(help="Where files of quotas are.")]


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the platform: small letters, digits, _.")],
    folder: Folder = DESCRIPTIONS,
    quotas_folder: Quotas = quotas.FOLDER,
) -> None:
    """Write a commented description, and a file of quotas that is careful until you fill it in.

    Both pass `syncline connector check`. Nothing that exists is touched.
    """
    if not NAME.fullmatch(name):
        raise Misused(f"{name!r}: a platform's name is small letters, digits and _")
    description, limits = folder / f"{name}.yaml", quotas_folder / f"{name}.json"
    if name in CONNECTORS or description.exists() or limits.exists():
        raise Misused(f"{name} exists already")
    today = datetime.now(UTC).date().isoformat()
    text = SKELETON.read_text().replace("NAME, contacts", f"{name}, contacts", 1)
    text = text.replace("platform: NAME", f"platform: {name}").replace("TODAY", today)
    text = text.replace("check NAME", f"check {name}").replace("/NAME.json", f"/{name}.json")
    folder.mkdir(parents=True, exist_ok=True)
    quotas_folder.mkdir(parents=True, exist_ok=True)
    description.write_text(text)
    limits.write_text(json.dumps(_careful(name, today), indent=2) + "\n")
    print(f"{description}\n{limits}")
    print(f"Fill them in, then: syncline connector check {name}")


@app.command()
def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Platforms, or files. Default: all.")
    ] = None,
    folder: Folder = DESCRIPTIONS,
    quotas_folder: Quotas = quotas.FOLDER,
    json_: Json = False,
) -> None:
    """The part of certification that needs no platform. Exit code 2 for any mistake."""
    paths = [_path(name, folder) for name in names or ()] or sorted(folder.glob("*.yaml"))
    found = {path: problems(path, quotas_folder / f"{path.stem}.json") for path in paths}
    if json_:
        print(json.dumps([{"file": str(path), "problems": wrong} for path, wrong in found.items()]))
    for path, wrong in found.items() if not json_ else ():
        for line in wrong or [_right(path)]:
            print(line)
    if any(found.values()):
        raise typer.Exit(2)


@app.command("schema")
def schema_() -> None:
    """Print the JSON Schema of a description, for editors."""
    print(schema(), end="")


def schema() -> str:
    """The vocabulary, the gateway's part of it included."""
    return plain_schema(WebhookForm.model_json_schema(by_alias=True))


def problems(path: Path, limits: Path) -> list[str]:
    """Every mistake in a description, each a line with file and line."""
    return structural(path, limits) or _webhook(path)


def _webhook(path: Path) -> list[str]:
    """What the gateway says of `webhook`."""
    data, lines = read_yaml(path)
    if data.get(SECTION) is None:
        return []
    try:
        validated(data[SECTION], lines, WebhookForm, (SECTION,))
    except ConfigInvalid as error:
        return list(error.problems)
    return []


def _path(name: str, folder: Path) -> Path:
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.exists():
        raise Misused(f"{path}: there is no such description")
    return path


def _right(path: Path) -> str:
    kinds = ", ".join(load(path).objects)
    return f"{path.stem}: right, {len(path.read_text().splitlines())} lines: {kinds}"


def _careful(name: str, today: str) -> dict[str, object]:
    """One request a second for everything."""
    source = {"source": "https://api.example.com/docs/limits", "read_on": today}
    return {
        "platform": name,
        "windows": {
            "second": {
                "kind": "moving",
                "window_s": 1,
                "limit": {"default": 1},
                "note": "A careful guess: replace it by what the platform's page says.",
                **source,
            }
        },
        "groups": {"read": ["second"], "write": ["second"]},
        "batches": {"contacts": {"rows_max": 100, **source}},
        "refusals": [{"status": 429}],
    }

"""`syncline apply` as a shell sees it: what is new is applied once, what is wrong not at all."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncline.stack import Stack

EXAMPLE = Path(__file__).parents[2] / "examples" / "hubspot-to-salesforce-and-mailchimp"
KINDS = ["connection"] * 3 + ["mapping"] * 2 + ["sync"] * 2 + ["flow"] * 3
LEADS = "mappings/hubspot_contact_to_salesforce_lead.yaml"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "config"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`syncline apply config …`, at an address where nobody is unless told otherwise."""

    def call(*args: str, servers: str = "127.0.0.1:1", registry: str = "http://127.0.0.1:1"):
        own = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA", "SCHEMA"))}
        own |= {"KAFKA_BOOTSTRAP_SERVERS": servers, "SCHEMA_REGISTRY_URL": registry}
        return subprocess.run(
            [sys.executable, "-m", "syncline", "apply", "config", *args],
            cwd=tmp_path, env=own, capture_output=True, text=True, timeout=120,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return call


@pytest.fixture
def apply(run: Run, fresh_stack: Callable[..., Stack]) -> Run:
    """On a cluster of its own: definitions are of the whole cluster."""
    stack = fresh_stack()

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        return run(*args, servers=stack.bootstrap_servers, registry=stack.registry_url)

    return call


def edit(folder: Path, name: str, before: str, after: str) -> int:
    """-> line of the first change."""
    path = folder / name
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    return text[: text.index(before)].count("\n") + 1


def changes(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, int]]:
    assert done.returncode == 0, done.stderr
    listed: list[dict[str, Any]] = json.loads(done.stdout)
    assert sorted(c["what"].partition(":")[0] for c in listed) == sorted(KINDS)
    return {c["what"]: (c["change"], c["version"]) for c in listed if c["change"] != "unchanged"}


def test_what_is_applied_is_applied_once(apply: Run, folder: Path) -> None:
    """First all is new; then nothing is to do; then only what was changed, under a new version."""
    first = apply("--yes")
    assert first.returncode == 0, first.stderr
    assert first.stdout.endswith(f"applied {len(KINDS)} changes\n")
    assert first.stdout.count("new ") == len(KINDS)
    assert "env:HUBSPOT_TOKEN" in first.stderr  # a note: this shell does not have it

    second = apply("--yes")
    assert second.returncode == 0, second.stderr
    assert second.stdout.endswith("nothing to do\n")
    assert second.stdout.count("unchanged ") == len(KINDS)

    edit(folder, "syncs/leads.yaml", "policy: merge", "policy: merge\nlive: false")
    assert changes(apply("--yes", "--json")) == {"sync:leads": ("changed", 2)}

    edit(folder, LEADS, "City: trim(record.city)", "City: truncate(trim(record.city), 40)")
    refused = apply("--yes")
    assert refused.returncode == 2
    assert "hubspot_contact_to_salesforce_lead@1 is published already" in refused.stderr
    assert "Traceback" not in refused.stderr

    edit(folder, LEADS, "version: 1", "version: 2")
    edit(folder, "syncs/leads.yaml", "live: false", "live: true")
    assert apply().returncode == 1  # nobody answers the question, so nothing is applied
    assert changes(apply("--check", "--json")) == {
        "mapping:hubspot_contact_to_salesforce_lead": ("changed", 2),
        "sync:leads": ("changed", 3),
    }


@pytest.mark.parametrize(
    ("name", "before", "after", "says"),
    [
        ("syncs/leads.yaml", "policy: merge", "polcy: merge", "polcy: is not known here"),
        ("syncs/leads.yaml", "source: hubspot", "source: nobody", "no connection nobody"),
        ("connections/hubspot.yaml", "platform: hubspot", "platform: hub", "unknown; known are"),
        (LEADS, "City: trim(record.city)", "City: trimm(record.city)", "no function trimm"),
    ],
)
def test_a_mistake_ends_it_before_the_cluster_is_asked(
    run: Run, folder: Path, name: str, before: str, after: str, says: str
) -> None:
    line = edit(folder, name, before, after)
    done = run("--yes")
    assert done.returncode == 2
    assert f"config/{name}:{line}: " in done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""

"""A sender that drops its webhooks: `syncline reconcile` names what was missed, and only that.

Everything is as in the demo: stack, simulated platforms, gateway, streams, connectors.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from syncline.demo import Demo, Options
from tests.e2e.gateway_world import until

CONTACTS = 60


class Whole(Demo):
    """The demo's world, without its course."""

    def __init__(self, folder: Path) -> None:
        quiet = Options(contacts=CONTACTS, seed=3, fast=True, accidents=False)
        super().__init__(quiet, folder, say=lambda _: None, show=lambda *_: None)

    def __enter__(self) -> "Whole":
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def command(self, *args: str) -> str:
        return self._command(*args)

    def reconcile(self, *args: str) -> dict[str, Any]:
        return json.loads(self.command("reconcile", "hubspot", "contact", *args, "--json"))

    def held(self) -> dict[str, str]:
        """Address to job title, as Salesforce has it."""
        return {
            str(lead["values"].get("Email", "")).lower(): lead["values"].get("Title", "")
            for lead in self.sims.lines("salesforce", "contents")
        }


@pytest.mark.timeout(300)
def test_what_no_webhook_told_is_named_and_made_up_for(tmp_path: Path) -> None:
    with Whole(tmp_path / "demo") as whole:
        whole.command("run", "start", "leads", "--wait", "120")
        whole.command("run", "start", "newsletter", "--wait", "120")
        assert whole.reconcile() == {"read": CONTACTS, "missed": []}
        whole.sims.post("hubspot", "webhook", {})  # from here on it tells nobody
        known = whole.held()
        sound = [
            c for c in whole.sims.lines("hubspot", "contents")
            if str(c["values"].get("email", "")).strip().lower() in known
        ][:3]  # fmt: skip
        for contact in sound:
            whole.sims.change([{"id": contact["id"], "properties": {"jobtitle": "Told by none"}}])
        found = whole.reconcile()
        assert {m["object_id"] for m in found["missed"]} == {c["id"] for c in sound}
        assert all("leads" in m["syncs"] for m in found["missed"])

        def arrived() -> bool:
            titles = whole.held()
            return all(
                titles[str(c["values"]["email"]).strip().lower()] == "Told by none" for c in sound
            )

        until(arrived, "what was missed is in Salesforce", 60)
        # once more: the same changes, under the same ids
        assert whole.reconcile()["missed"] == []
        assert "0 changes missed" in whole.command("reconcile", "hubspot", "contact")

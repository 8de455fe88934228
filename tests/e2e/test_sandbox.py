"""A sandbox that was refreshed: the destination has forgotten everybody, and holds some of them
under other ids. On real Kafka, with the processes as people run them; by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from simulators import HubSpot, Salesforce
from simulators.portal import Contact, Lead
from syncline.previewing import TITLES
from syncline.stack import Stack
from tests.e2e.gateway_world import until
from tests.e2e.test_more_platforms import SEEDED_MS, process, serving, syncline, use
from tests.e2e.test_references import FILES, SECRETS, applied

WAIT_S = 240.0
PEOPLE = 20
THERE = 5
SYNC = {
    "syncs/leads": "sync: leads\nsource: hubspot\nsource_object: contact\n"
    "destination: salesforce\ndestination_object: Lead\nmapping: leads\nmatch: Email\n",
    "mappings/leads": "mapping: leads\nversion: 1\nfrom: {{platform: hubspot, object: contact}}\n"
    "to: {{platform: salesforce, object: Lead}}\n"
    "fields:\n  Email: record.email\n  LastName: record.lastname\n  Company: record.company\n",
}


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_after_forget_everybody_is_matched_anew_and_nobody_is_there_twice(
    fresh_stack: Callable[..., Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contacts = [
        Contact(
            str(1_000_001 + n),
            {"email": f"{n}@example.com", "lastname": f"L{n}", "company": "ACME"},
            SEEDED_MS,
            SEEDED_MS,
        )
        for n in range(PEOPLE)
    ]
    refreshed = [
        Lead(str(n), {"Email": f"{n}@example.com", "LastName": "Old", "Company": "ACME"}, SEEDED_MS)
        for n in range(THERE)
    ]
    sales = Salesforce()
    stack = fresh_stack()
    use(stack, tmp_path, SECRETS, monkeypatch)
    everybody = {f"{n}@example.com": f"L{n}" for n in range(PEOPLE)}

    def leads() -> dict[str, str]:
        alive = list(sales.store.alive())
        found = {lead.values["Email"]: lead.values["LastName"] for lead in alive}
        assert len(found) == len(alive), "somebody is there twice"
        return found

    with serving(HubSpot(contacts), sales) as urls:
        connections = {name: text for name, text in FILES.items() if name.startswith("conn")}
        applied(tmp_path / "config", connections | SYNC, urls)
        with process(tmp_path, "streams"), process(tmp_path, "connectors"):
            syncline("run", "start", "leads", "--wait", "0")
            until(lambda: leads() == everybody, "all are there", WAIT_S)

            syncline("account", "close", "salesforce", "--why", "the sandbox is refreshed")
            sales._leads = refreshed
            sales.reset()
            syncline("sync", "forget", "leads", "--why", "the sandbox was refreshed")
            syncline("account", "open", "salesforce")
            shown = json.loads(syncline("run", "preview", "leads", "--json"))
            titles = TITLES["would_create"], TITLES["would_update"]
            assert shown["counts"] == dict(zip(titles, (PEOPLE - THERE, THERE), strict=True))
            assert sales.store.effects()["created"] == 0, "a preview writes nothing"

            syncline("run", "start", "leads", "--wait", "0")
            until(lambda: leads() == everybody, "all are there again", WAIT_S)
    assert sales.store.effects()["created"] == PEOPLE - THERE

"""Who is deleted in HubSpot goes from Mailchimp and Salesforce, and nothing brings them back: on
real Kafka, with the processes as people run them. By hand."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from simulators import HubSpot, Mailchimp, Platform, Salesforce
from simulators.portal import Contact
from syncline.cli import app
from syncline.stack import Stack
from tests.e2e.gateway_world import free_port, until
from tests.e2e.test_more_platforms import SEEDED_MS, process, serving, syncline, use
from tests.e2e.test_references import applied

WAIT_S = 240.0
PEOPLE = 6
SECRETS = {
    "HUBSPOT_TOKEN": "hubspot-token",
    "HUBSPOT_SECRET": "hubspot-client-secret",
    "SALESFORCE_CLIENT_ID": "salesforce-client",
    "SALESFORCE_SECRET": "salesforce-secret",
    "MAILCHIMP_API_KEY": "mailchimp-key-us1",
}
FILES = {
    "connections/hubspot": "connection: hubspot\nplatform: hubspot\naccount: '4711001'\n"
    "base_url: {hubspot}\nsecrets: {{token: env:HUBSPOT_TOKEN}}\n"
    "webhook: {{secret: env:HUBSPOT_SECRET}}\nidentify: {{contact: {{field: email}}}}\n",
    "connections/salesforce": "connection: salesforce\nplatform: salesforce\naccount: org\n"
    "base_url: {salesforce}\n"
    "secrets: {{client_id: env:SALESFORCE_CLIENT_ID, client_secret: env:SALESFORCE_SECRET}}\n",
    "connections/mailchimp": "connection: mailchimp\nplatform: mailchimp\naccount: us1\n"
    "base_url: {mailchimp}\nsecrets: {{api_key: env:MAILCHIMP_API_KEY}}\n"
    "options: {{list_id: a1b2c3d4e5}}\n",
    "syncs/leads": "sync: leads\nsource: hubspot\nsource_object: contact\n"
    "destination: salesforce\ndestination_object: Lead\nmapping: leads\nmatch: Email\n"
    "kinds: {{deleted: delete, forgotten: delete}}\n",
    "syncs/news": "sync: news\nsource: hubspot\nsource_object: contact\n"
    "destination: mailchimp\ndestination_object: member\nmapping: news\n"
    "kinds: {{deleted: archive, forgotten: erase}}\n",
    "mappings/leads": "mapping: leads\nversion: 1\nfrom: {{platform: hubspot, object: contact}}\n"
    "to: {{platform: salesforce, object: Lead}}\n"
    "fields:\n  Email: record.email\n  LastName: record.lastname\n  Company: record.company\n",
    "mappings/news": "mapping: news\nversion: 1\nfrom: {{platform: hubspot, object: contact}}\n"
    "to: {{platform: mailchimp, object: member}}\n"
    "fields:\n  email_address: record.email\n  status_if_new: '\"subscribed\"'\n"
    "  merge_fields.LNAME: record.lastname\n",
}


def held(platform: Platform, field: str) -> dict[str, str]:
    """Address to last name, of whom it holds."""
    address = "Email" if field == "LastName" else "email_address"
    return {o.values[address]: o.values[field] for o in platform.store.alive()}


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_who_is_deleted_goes_everywhere_and_nothing_brings_them_back(
    fresh_stack: Callable[..., Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = {f"{n}@example.com": f"L{n}" for n in range(PEOPLE)}
    ids = [str(1_000_001 + n) for n in range(PEOPLE)]
    contacts = [
        Contact(i, {"email": email, "lastname": name, "company": "ACME"}, SEEDED_MS, SEEDED_MS)
        for i, (email, name) in zip(ids, people.items(), strict=True)
    ]
    hubspot, sales, mail = HubSpot(contacts), Salesforce(), Mailchimp()
    use(fresh_stack(), tmp_path, SECRETS, monkeypatch)
    port = free_port()

    with serving(hubspot, sales, mail) as urls, ExitStack() as running:
        applied(tmp_path / "config", FILES, urls)

        def sim(what: str, body: Any) -> Any:
            answer = httpx.post(f"{urls['hubspot']}/_sim/{what}", json=body, timeout=30)
            return answer.raise_for_status().json()

        def there(expected: dict[str, str], what: str) -> None:
            both = [expected, expected]
            until(lambda: [held(sales, "LastName"), held(mail, "LNAME")] == both, what, WAIT_S)

        gateway = ("--port", str(port), "--admin-port", str(free_port()))
        for name, args in (("streams", ()), ("connectors", ()), ("gateway", gateway)):
            running.enter_context(process(tmp_path, name, *args))
        until(lambda: _ready(port), "the gateway is ready", WAIT_S)
        hook = {"url": f"http://127.0.0.1:{port}/hooks/hubspot", "delay_scale": 0.02}
        sim("webhook", {**hook, "secret": SECRETS["HUBSPOT_SECRET"]})
        for sync in ("leads", "news"):
            syncline("run", "start", sync, "--wait", "0")
        there(people, "all are there")

        sim("act", [{"delete": ids[0]}, {"forget": ids[1]}])
        left = {email: name for email, name in people.items() if email[0] not in "01"}
        there(left, "two are gone")
        assert sorted(o.values.get("LNAME", "") for o in mail.store.numbered if o.archived) == [
            "", "L0",
        ], "one is archived, of the other nothing is left"  # fmt: skip

        # Both are held up as if they had been read before; and everything is sent once more.
        for contact in hubspot.store.numbered[:2]:
            contact.archived = False
            email = f"{contact.number}@example.com"
            contact.values = {"email": email, "lastname": "Back", "company": "ACME"}
            contact.changed_ms = SEEDED_MS
        for sync in ("leads", "news"):
            syncline("run", "start", sync, "--force", "--wait", "120")
        refused = CliRunner().invoke(app, ["resend", f"hubspot:contact:{ids[0]}"])
        assert "nothing is known" in str(refused.exception)
        erased = syncline("erase", "3@example.com", "--yes", "--why", "her letter")
        assert "written" in erased, erased
        del left["3@example.com"]
        live = [{"id": i, "properties": {"lastname": "Live"}} for i in (ids[1], ids[3])]
        sim("act", live)
        sim("act", [{"id": ids[2], "properties": {"lastname": "Last"}}])
        left["2@example.com"] = "Last"
        there(left, "what came after them has arrived, and they are not back")
        told = syncline("explain", f"hubspot:contact:{ids[1]}")
        assert "forgotten" in told, told

        # Who is there again is made anew; who was forgotten is not.
        sim("act", [{"id": ids[0], "properties": {"lastname": "Again"}}])
        there({**left, "0@example.com": "Again"}, "who was restored is back")
        balance = ["balance"]  # of what was taken away and ended, too
        until(lambda: not CliRunner().invoke(app, balance).exit_code, "it closes", WAIT_S)
    assert mail.store.effects()["twice_total"] == sales.store.effects()["twice_total"] == 0


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).is_success
    except httpx.HTTPError:
        return False

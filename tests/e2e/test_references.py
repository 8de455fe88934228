"""Contacts name their company, and wait until it is an account; deals belong to a company, and wait
until it is there: on real Kafka, with the processes as people run them. Companies come later, by a
sync of their own. By hand: between two looks of a row that waits lies half a minute."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from simulators import HubSpot, Salesforce
from simulators.hubspot_shapes import Property
from simulators.portal import Contact
from simulators.salesforce_fields import new_id
from syncline.stack import Stack
from tests.e2e.gateway_world import until
from tests.e2e.test_more_platforms import SEEDED_MS, process, serving, syncline, use

WAIT_S = 240.0
FILES = {
    "connections/hubspot": "connection: hubspot\nplatform: hubspot\naccount: '4711001'\n"
    "base_url: {hubspot}\nsecrets: {{token: env:HUBSPOT_TOKEN}}\n"
    "identify: {{contact: {{field: email}}}}\n",
    "connections/salesforce": "connection: salesforce\nplatform: salesforce\naccount: org\n"
    "base_url: {salesforce}\n"
    "secrets: {{client_id: env:SALESFORCE_CLIENT_ID, client_secret: env:SALESFORCE_SECRET}}\n",
    "syncs/contacts": "sync: contacts\nsource: hubspot\nsource_object: contact\n"
    "destination: salesforce\ndestination_object: Contact\nmapping: contacts\nmatch: Email\n",
    "syncs/companies": "sync: companies\nsource: hubspot\nsource_object: company\n"
    "destination: salesforce\ndestination_object: Account\nmapping: companies\nmatch: Name\n",
    "mappings/companies": "mapping: companies\nversion: 1\n"
    "from: {{platform: hubspot, object: company}}\nto: {{platform: salesforce, object: Account}}\n"
    "fields:\n  Name: record.name\n  Website: record.domain\n",
    "mappings/contacts": "mapping: contacts\nversion: 1\n"
    "from: {{platform: hubspot, object: contact}}\nto: {{platform: salesforce, object: Contact}}\n"
    "fields:\n  Email: record.email\n  LastName: record.lastname\n"
    "  AccountId: {{ref: {{object: Account, by: Name, value: record.company}}}}\n",
}
DEALS = {
    **{name: text for name, text in FILES.items() if name.startswith("connections/")},
    "syncs/deals": "sync: deals\nsource: salesforce\nsource_object: Opportunity\n"
    "destination: hubspot\ndestination_object: deal\nmapping: deals\nmatch: dealname\n",
    "syncs/belongs": "sync: belongs\nsource: salesforce\nsource_object: Opportunity\n"
    "destination: hubspot\ndestination_object: deal_company\nmapping: belongs\n",
    "mappings/deals": "mapping: deals\nversion: 1\n"
    "from: {{platform: salesforce, object: Opportunity}}\nto: {{platform: hubspot, object: deal}}\n"
    "fields:\n  dealname: record.Name\n  amount: record.Amount\n",
    "mappings/belongs": "mapping: belongs\nversion: 1\n"
    "from: {{platform: salesforce, object: Opportunity}}\n"
    "to: {{platform: hubspot, object: deal_company}}\n"
    "fields:\n  from: {{ref: {{object: deal, by: dealname, value: record.Name}}}}\n"
    "  to: {{ref: {{object: company, by: salesforce_account, value: record.AccountId}}}}\n",
}
SECRETS = {
    "HUBSPOT_TOKEN": "hubspot-token",
    "SALESFORCE_CLIENT_ID": "salesforce-client",
    "SALESFORCE_SECRET": "salesforce-secret",
}


def applied(folder: Path, files: Mapping[str, str], urls: Mapping[str, str]) -> None:
    """A configuration of these files, in which platforms stand for their addresses."""
    for name, text in files.items():
        file = folder / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.format(**urls))
    syncline("apply", str(folder), "--yes")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_contacts_wait_for_the_account_of_their_company_and_hold_up_nobody(
    fresh_stack: Callable[..., Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = {f"{n}@example.com": "ACME" if n % 2 else "Later Ltd" for n in range(20)}
    contacts = [
        Contact(
            str(1_000_001 + n),
            {"email": email, "lastname": f"L{n}", "company": company},
            SEEDED_MS,
            SEEDED_MS,
        )
        for n, (email, company) in enumerate(people.items())
    ]
    sales = Salesforce()
    accounts = sales.stores["Account"]
    accounts.seed(new_id("Account", 0), {"Name": "ACME"}, SEEDED_MS, SEEDED_MS)
    hubspot = HubSpot(contacts)
    for number, name in enumerate(("ACME", "Later Ltd")):
        values = {"name": name, "domain": f"{name[:4].lower()}.example"}
        hubspot.stores["companies"].seed(str(7_001 + number), values, SEEDED_MS, SEEDED_MS)
    stack = fresh_stack()
    use(stack, tmp_path, SECRETS, monkeypatch)

    def arrived() -> dict[str, str]:
        """Address to the name of the account, of the contacts in Salesforce."""
        named = {account.id: account.values["Name"] for account in accounts.alive()}
        return {
            contact.values["Email"]: named[contact.values["AccountId"]]
            for contact in sales.stores["Contact"].alive()
        }

    with serving(hubspot, sales) as urls:
        applied(tmp_path / "config", FILES, urls)
        with process(tmp_path, "streams"), process(tmp_path, "connectors"):
            syncline("run", "start", "contacts", "--wait", "0")
            acme = {email: company for email, company in people.items() if company == "ACME"}
            until(lambda: arrived() == acme, "those of ACME are there", WAIT_S)
            waits = "there is no Account with this Name yet"
            until(
                lambda: waits in syncline("explain", "0@example.com"), "who waits says so", WAIT_S
            )
            assert syncline("balance")  # a wait with a name is no alarm: exit 0
            syncline("run", "start", "companies", "--wait", "0")
            until(lambda: arrived() == people, "the others have followed their account", WAIT_S)
    sites = {account.values["Name"]: account.values["Website"] for account in accounts.alive()}
    assert sites == {"ACME": "acme.example", "Later Ltd": "late.example"}, "ACME was there already"


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_deals_are_associated_with_the_company_of_their_account_once_both_are_there(
    fresh_stack: Callable[..., Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sales, hubspot = Salesforce(), HubSpot()
    by_account = Property("salesforce_account")
    hubspot.properties["companies"][by_account.name] = by_account
    accounts = [new_id("Account", number) for number in range(2)]
    for number in range(10):
        values = {"Name": f"Deal {number}", "Amount": 100.5, "AccountId": accounts[number % 2]}
        place = new_id("Opportunity", number)
        sales.stores["Opportunity"].seed(place, values, SEEDED_MS, SEEDED_MS)
    companies = hubspot.stores["companies"]
    companies.seed("7001", {"name": "ACME", by_account.name: accounts[0]}, SEEDED_MS, SEEDED_MS)
    hubspot.refilled()
    stack = fresh_stack()
    use(stack, tmp_path, SECRETS, monkeypatch)

    def associated() -> dict[str, str]:
        """Name of a deal to the company that it belongs to."""
        deals = {deal.id: deal.values["dealname"] for deal in hubspot.stores["deals"].alive()}
        pairs = [pair.values["pair"] for pair in hubspot.stores["associations"].alive()]
        split = [pair.removeprefix("deals/").split(">companies/") for pair in pairs]
        return {deals[deal]: company for deal, company in split}

    wanted = {f"Deal {number}": f"700{1 + number % 2}" for number in range(10)}
    with serving(hubspot, sales) as urls:
        applied(tmp_path / "config", DEALS, urls)
        with process(tmp_path, "streams"), process(tmp_path, "connectors"):
            syncline("run", "start", "belongs", "--wait", "0")  # before there is any deal
            syncline("run", "start", "deals", "--wait", "0")
            those = {deal: company for deal, company in wanted.items() if company == "7001"}
            until(lambda: associated() == those, "those of the company that is there", WAIT_S)
            later = {"name": "Later Ltd", by_account.name: accounts[1]}
            companies.seed("7002", later, SEEDED_MS, SEEDED_MS)
            until(lambda: associated() == wanted, "the others have followed", WAIT_S)
    assert len(hubspot.stores["deals"].numbered) == 10, "each once"

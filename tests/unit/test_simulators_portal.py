"""The portal is awkward exactly as it says, and the simulators' own rules agree with it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mappings.document import Filtered, Mapped, load, nested
from simulators import portal
from simulators.mailchimp_shapes import ADDRESS as MAILCHIMP_ADDRESS
from simulators.salesforce_fields import check

N, SEED = 6_000, 11
MAPPINGS = Path(__file__).parents[2] / "examples/hubspot-to-salesforce-and-mailchimp/mappings"


@pytest.fixture(scope="module")
def contacts() -> list[portal.Contact]:
    return list(portal.contacts(N, SEED))


def _mapped(name: str, contacts: list[portal.Contact]) -> dict[str, dict[str, Any]]:
    """Rows by contact id, through the demo's own mapping document."""
    document = YAML(typ="safe").load((MAPPINGS / f"{name}.yaml").read_text())
    compiled = load(document)
    rows: dict[str, dict[str, Any]] = {}
    for contact in contacts:
        result = compiled.apply(contact.properties, {"changed": []}, {})
        if isinstance(result, Mapped):
            rows[contact.id] = nested(result.fields)
        else:
            assert isinstance(result, Filtered), (contact, result)
            assert "email" not in contact.properties
    return rows


def test_the_same_seed_gives_the_same_portal(contacts: list[portal.Contact]) -> None:
    assert list(portal.contacts(N, SEED)) == contacts
    assert list(portal.contacts(N, SEED + 1)) != contacts
    assert list(portal.preloaded(N, SEED)) == list(portal.preloaded(N, SEED))


def test_ids_ascend_and_values_are_text(contacts: list[portal.Contact]) -> None:
    assert [c.id for c in contacts] == [portal.contact_id(place) for place in range(N)]
    assert all(v and type(v) is str for c in contacts for v in c.properties.values())
    assert all(c.created_ms <= c.updated_ms < 1_780_000_000_000 for c in contacts)


def test_the_awkward_ones_are_as_many_as_declared(contacts: list[portal.Contact]) -> None:
    addresses = Counter(c.properties["email"].lower() for c in contacts if "email" in c.properties)
    spelled = Counter(c.properties["email"] for c in contacts if "email" in c.properties)
    assert sum(1 for count in addresses.values() if count == 2) == N // 200
    assert max(spelled.values()) == 1, "never twice in the same case"
    assert sum(1 for c in contacts if "email" not in c.properties) == N // 100
    for name, least in (("lastname", 0.02), ("company", 0.08), ("country", 0.1), ("phone", 0.4)):
        assert sum(1 for c in contacts if name not in c.properties) > least * N
    assert sum(1 for c in contacts if not str(c.properties.get("lastname", "")).isascii()) > N / 10


@pytest.mark.parametrize(("n", "refused"), [(99, 0), (100, 1), (1_000, 10), (4_500, 45), (N, 45)])
def test_so_many_are_refused(n: int, refused: int) -> None:
    assert len(portal.refusals(n, SEED)) == refused


def test_salesforce_refuses_the_declared_and_no_other(contacts: list[portal.Contact]) -> None:
    declared = {r.contact_id: r for r in portal.refusals(N, SEED)}
    refused: dict[str, tuple[str, str]] = {}
    for contact_id, row in _mapped("hubspot_contact_to_salesforce_lead", contacts).items():
        _, problem = check("Lead", row, new=True)
        if problem is not None:
            refused[contact_id] = (problem["statusCode"], problem["fields"][0])
    assert refused == {i: (r.code, r.field) for i, r in declared.items()}
    assert {r.kind for r in declared.values()} == set(portal.KINDS)


def test_what_is_mended_is_taken(contacts: list[portal.Contact]) -> None:
    by_id = {contact.id: contact for contact in contacts}
    mended = [
        contact._replace(properties={**contact.properties, r.property: r.fix})
        for r in portal.refusals(N, SEED)
        for contact in [by_id[r.contact_id]]
    ]
    rows = _mapped("hubspot_contact_to_salesforce_lead", mended)
    assert len(rows) == 45
    assert [check("Lead", row, new=True)[1] for row in rows.values()] == [None] * 45


def test_mailchimp_refuses_the_declared_and_no_other(contacts: list[portal.Contact]) -> None:
    declared = {r.contact_id for r in portal.refusals(N, SEED) if r.mailchimp}
    rows = _mapped("hubspot_contact_to_mailchimp_member", contacts)
    refused = {
        contact_id
        for contact_id, row in rows.items()
        if not MAILCHIMP_ADDRESS.fullmatch(row["email_address"])
        or any(len(value) > 255 for value in row.get("merge_fields", {}).values())
    }
    assert refused == declared
    assert 0 < len(declared) < 45


def test_five_per_cent_are_in_salesforce_already(contacts: list[portal.Contact]) -> None:
    by_id = {c.id: c for c in contacts}
    leads = list(portal.preloaded(N, SEED))
    assert len(leads) == N // 20
    for lead in leads:
        assert lead.values["Email"].lower() == by_id[lead.contact_id].properties["email"].lower()
        assert "Syncline_Id__c" not in lead.values
        assert check("Lead", dict(lead.values), new=True)[1] is None
    special = portal.plan(N, SEED)
    apart = {*special.refused, *special.twins, *special.without_email}
    assert apart.isdisjoint(special.preloaded)
    assert len({lead.values["Email"].lower() for lead in leads}) == len(leads)


def test_live_changes_show_their_order(contacts: list[portal.Contact]) -> None:
    among = portal.changeable(N, SEED)
    changes = portal.live_changes(among, SEED, 2_000, 60.0)
    assert changes == portal.live_changes(among, SEED, 2_000, 60.0)
    assert [c.at_s for c in changes] == sorted(c.at_s for c in changes)
    assert 0 <= changes[0].at_s <= changes[-1].at_s < 60.0
    assert len({c.value for c in changes}) == 2_000
    assert {c.contact_id for c in changes} <= set(among)
    busiest = Counter(c.contact_id for c in changes).most_common(1)[0][1]
    assert busiest > 30, "some change all the time"
    moved = [c for c in changes if c.property == "email"]
    assert 10 < len(moved) < 100
    refused = {r.contact_id for r in portal.refusals(N, SEED)}
    assert refused.isdisjoint(among)
    lead = {"LastName": "L", "Company": "C"}
    fields = {"jobtitle": "Title", "company": "Company", "firstname": "FirstName",
              "lastname": "LastName", "city": "City", "email": "Email"}  # fmt: skip
    for change in changes:
        assert check("Lead", {**lead, fields[change.property]: change.value}, new=True)[1] is None

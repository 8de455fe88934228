"""What certification must know of each platform: how it is simulated, and rows that it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from connectors.base import Row
from simulators import GA4, HubSpot, Mailchimp, Platform, Salesforce, Segment, declared
from simulators.portal import Contact, Lead

SEEDED = 10
SEEDED_MS = 1_672_531_200_000


@dataclass(frozen=True)
class Waits:
    """How a platform says how long to wait: a header in lower case (empty: it does not say)."""

    header: str = "retry-after"
    unit: str = "seconds"
    """seconds, milliseconds or unix_s."""


@dataclass(frozen=True)
class Place:
    """One platform. `names`: our address, first name and key as its fields."""

    object_type: str
    empty: Callable[..., Platform]
    seeded: Callable[..., Platform]
    secrets: Mapping[str, str]
    address: str
    first_name: str
    key: str
    write: str
    """Regular expression of the paths that `upload_batch` posts to."""
    always: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    throttles: tuple[Mapping[str, Any], ...] = ()
    """Faults by which the platform says: too much."""
    matches: bool = True
    """Can be asked for many objects by a field."""
    ordered: bool = False
    """Results stand in the order of the rows, by the platform's promise."""
    refusal_field: str = ""
    """Field that a refusal names; some platforms name none."""
    reads: frozenset[str] = frozenset({"changes", "ids", "keys"})
    """What can be asked for, besides the fields."""
    read_method: str = "GET"
    """Of a page of changes, or of the fields where there are none."""
    one_way: bool = False
    """Objects whose id is known and others are written alike."""
    says: bool = True
    """A refusal has the platform's own words."""
    unseen: bool = False
    """The answer says nothing by which a row left out could be missed."""
    bad_address: str = "broken{n}@"
    """What the platform refuses; of one that never says no, what its connector does."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Checks that mean nothing here, by the name of their function, and why."""
    people: str = "person{n}@example.com"
    persons: str = "person-{n}"
    """Addresses and keys of the people that rows are of."""
    erase: tuple[str, str, Any] | None = None
    """Method, path and body of the request that takes an object away, `{id}` in place of its id.
    Only certification of a real account erases. None: nobody has read how."""
    waits: Waits = Waits()
    logins: str = ""
    """Regular expression of the paths where access tokens are given; empty: the key is for good."""

    def row(self, n: int, name: str = "Ann", *, object_id: str = "", address: str = "") -> Row:
        fields = {
            **self.always,
            self.address: address or self.people.format(n=n),
            self.first_name: name,
        }
        return Row(f"row-{n}", self.persons.format(n=n), object_id, fields)

    def rows(self, count: int, name: str = "Ann") -> list[Row]:
        return [self.row(n, name) for n in range(count)]

    def bad(self, n: int) -> Row:
        """A row that is refused for its address."""
        return self.row(n, address=self.bad_address.format(n=n))


def _address(n: int) -> str:
    return f"seeded{n}@example.com"


def _hubspot(**options: Any) -> HubSpot:
    contacts = [
        Contact(str(1_000_001 + n), {"email": _address(n)}, SEEDED_MS, SEEDED_MS)
        for n in range(SEEDED)
    ]
    return HubSpot(contacts, **options)


def _salesforce(**options: Any) -> Salesforce:
    leads = [
        Lead(str(n), {"Email": _address(n), "LastName": "L", "Company": "C"}, SEEDED_MS)
        for n in range(SEEDED)
    ]
    return Salesforce(leads, **options)


def _mailchimp(**options: Any) -> Mailchimp:
    return Mailchimp([(_address(n), "subscribed", {}) for n in range(SEEDED)], **options)


def _segment(**options: Any) -> Segment:
    return Segment([(f"seeded-{n}", {"email": _address(n)}) for n in range(SEEDED)], **options)


NEVER_SAYS_NO = {
    "a_row_refused_by_a_rule_of_theirs_names_the_field": "what it drops, it drops in silence",
    "a_refused_key_halts": "a wrong key is answered like a right one",
    "a_halted_account_halts_nobody_else": "a wrong key is answered like a right one",
}

NEVER_AGAIN = "an event counts each time, so the worker never sends it again"
HAPPENED = "what happened does not change"
EVENTS = {
    **NEVER_SAYS_NO,
    **dict.fromkeys(
        (
            "a_repeat_changes_nothing",
            "a_lost_answer_and_a_repeat_are_one_effect",
            "an_answer_cut_short_and_a_repeat_are_one_effect",
            "a_fault_after_the_write_and_a_repeat_are_one_effect",
            "a_slow_answer_is_waited_for_and_one_too_slow_is_lost",
        ),
        NEVER_AGAIN,
    ),
    "a_change_changes_one_field": HAPPENED,
    "none_clears": HAPPENED,
    "by_id_the_object_itself_is_updated_and_gets_our_key": "events have no ids",
}


def _declared(
    name: str, object_type: str, secrets: Mapping[str, str], first_name: str, write: str,
    seed: Mapping[str, Any], **more: Any,
) -> Place:  # fmt: skip
    """A platform that is simulated from a description. `seed`: values of people who are there
    already, with their number in place of `{n}`."""
    plain = declared(name)
    # The contract knows no quotas: the limiter does, and is tried by itself.
    make = partial(plain, quota=dict.fromkeys(plain().windows, "off"))

    def seeded(**options: Any) -> Platform:
        people = [
            {key: value.format(n=n) for key, value in {"email": _address(n), **seed}.items()}
            for n in range(SEEDED)
        ]
        return make(people, **options)

    more = {"key": "", "address": "email", "refusal_field": "email", **more}
    return Place(object_type, make, seeded, secrets, first_name=first_name, write=write, **more)


DECLARED: dict[str, Place] = {
    "klaviyo": _declared(
        "klaviyo",
        "profile",
        {"api_key": "klaviyo-key"},
        "first_name",
        "/api/profile-import",
        {},
        # page "Request Profile Deletion" (read 2026-11); asynchronous
        erase=(
            "POST",
            "/api/data-privacy-deletion-jobs",
            {
                "data": {
                    "type": "data-privacy-deletion-job",
                    "attributes": {"profile": {"data": {"type": "profile", "id": "{id}"}}},
                }
            },
        ),
        key="external_id",
        throttles=({"headers": {"Retry-After": "7"}}, {"bare": True}),
        one_way=True,
    ),
    "customerio": _declared(
        "customerio",
        "person",
        {"site_id": "customerio-site", "api_key": "customerio-key"},
        "first_name",
        "/api/v2/batch",
        {"id": "seeded-{n}"},
        # page "Track API", item of a batch with action `delete` (read 2026-08)
        erase=(
            "POST",
            "/api/v2/batch",
            {
                "batch": [
                    {"type": "person", "action": "delete", "identifiers": {"id": "{id}"}},
                ]
            },
        ),
        throttles=({"headers": {"Retry-After": "7"}}, {}, {"bare": True}),
        reads=frozenset(),
        one_way=True,
        unseen=True,
    ),
    "marketo": _declared(
        "marketo",
        "lead",
        {"client_id": "marketo-client", "client_secret": "marketo-secret"},
        "firstName",
        "/rest/v1/leads.json",
        {},
        key="synclineId",
        options={"munchkin": "123-ABC-456"},
        throttles=({"policy": "rate"}, {"policy": "day"}, {"policy": "at_once"}),
        waits=Waits(""),
        logins="/oauth/token",
        reads=frozenset({"ids", "keys"}),
        ordered=True,
        refusal_field="",
    ),
    "braze": _declared(
        "braze",
        "user",
        {"api_key": "braze-key"},
        "first_name",
        "/users/track",
        {"external_id": "seeded-{n}"},
        # page "User delete endpoint" (read 2026-08)
        erase=("POST", "/users/delete", {"external_ids": ["{id}"]}),
        options={"cluster": "fra-01"},
        waits=Waits("x-ratelimit-reset", "unix_s"),
        throttles=({}, {"bare": True}),
        reads=frozenset({"ids"}),
        read_method="POST",
        one_way=True,
        refusal_field="",
    ),
    "iterable": _declared(
        "iterable",
        "user",
        {"api_key": "iterable-key"},
        "firstName",
        "/api/users/bulkUpdate",
        {"userId": "seeded-{n}"},
        throttles=({}, {"bare": True}),
        reads=frozenset({"ids"}),
        one_way=True,
        says=False,
    ),
    "activecampaign": _declared(
        "activecampaign",
        "contact",
        {"api_key": "activecampaign-key"},
        "firstName",
        "/api/3/contacts?/",
        {},
        erase=("DELETE", "/api/3/contacts/{id}", None),  # page "Delete an existing contact"
        options={"account": "acme"},
        throttles=({"headers": {"Retry-After": "7"}}, {"bare": True}),
        matches=False,
    ),
    "intercom": _declared(
        "intercom",
        "contact",
        {"token": "intercom-token"},
        "name",
        "/contacts(/[^/]+)?$",
        {},
        erase=("DELETE", "/contacts/{id}", None),  # page "Delete a contact"
        key="external_id",
        waits=Waits("x-ratelimit-reset", "unix_s"),
        throttles=({}, {"bare": True}),
    ),
    "pipedrive": _declared(
        "pipedrive",
        "person",
        {"token": "pipedrive-token"},
        "name",
        "/api/v2/persons(/[0-9]+)?$",
        {},
        erase=("DELETE", "/api/v2/persons/{id}", None),  # page "Delete a person"
        key="custom_fields.syncline",
        throttles=({"headers": {"x-ratelimit-reset": "7"}}, {"bare": True}),
        waits=Waits("x-ratelimit-reset"),
        matches=False,
        refusal_field="",
    ),
}
"""Described in `connectors/platforms/<name>.yaml`, simulated by `simulators/platforms/`."""

PLACES: dict[str, Place] = {
    "hubspot": Place(
        "contact",
        HubSpot,
        _hubspot,
        {"token": "hubspot-token"},
        "email",
        "firstname",
        "syncline_id",
        write="/batch/(upsert|update)$",
        erase=("DELETE", "/crm/v3/objects/contacts/{id}", None),  # page "Contacts", delete
        throttles=(
            {"policy": "TEN_SECONDLY_ROLLING", "headers": {"Retry-After": "7"}},
            {"policy": "DAILY"},
            {"bare": True},
        ),
    ),
    "salesforce": Place(
        "Lead",
        Salesforce,
        _salesforce,
        {"client_id": "salesforce-client", "client_secret": "salesforce-secret"},
        "Email",
        "FirstName",
        "Syncline_Id__c",
        write="/composite/sobjects",
        # page "sObject Rows", delete; any later version of the API does
        erase=("DELETE", "/services/data/v62.0/sobjects/Lead/{id}", None),
        always={"LastName": "Lee", "Company": "ACME"},
        throttles=({"policy": "day"}, {"policy": "long"}),
        waits=Waits(""),
        logins="/oauth2/token",
        ordered=True,
        refusal_field="Email",
    ),
    "mailchimp": Place(
        "member",
        Mailchimp,
        _mailchimp,
        {"api_key": "mailchimp-key-us1"},
        "email_address",
        "merge_fields.FNAME",
        "",
        write="/lists/[^/]+(/members/[^/]+)?$",
        # page "Archive list member": a member that is deleted for good can never come back
        erase=("DELETE", "/3.0/lists/{list_id}/members/{id}", None),
        always={"status_if_new": "subscribed"},
        options={"list_id": "a1b2c3d4e5"},
        throttles=({}, {"bare": True}),
        waits=Waits(""),
        matches=False,
        refusal_field="email_address",
    ),
    "segment": Place(
        "identify",
        Segment,
        _segment,
        {"write_key": "segment-write-key"},
        "email",
        "firstName",
        "",
        write="/v1/batch$",
        throttles=({"headers": {"Retry-After": "7"}}, {}, {"bare": True}),
        reads=frozenset(),
        read_method="POST",
        one_way=True,
        unseen=True,
        bad_address=32_000 * "x" + "{n}@example.com",
        lacks=NEVER_SAYS_NO,
    ),
    "ga4": Place(
        "event",
        GA4,
        GA4,
        {"api_secret": "ga4-api-secret"},
        "params.label",
        "name",
        "",
        write="^/mp/collect$",
        always={"client_id": "123.456"},
        options={"measurement_id": "G-TEST123"},
        throttles=({"headers": {"Retry-After": "7"}}, {}, {"bare": True}),
        reads=frozenset(),
        read_method="POST",
        one_way=True,
        unseen=True,
        bad_address=100 * "x" + "{n}",
        lacks=EVENTS,
    ),
    **DECLARED,
}

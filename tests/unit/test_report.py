"""The report finds what went wrong: each kind of harm is planted here once."""

from typing import Any

import pytest

from mappings.document import MappingDocument, load
from syncline.report import (
    Change,
    Contact,
    Held,
    Write,
    compare,
    disorder,
    flaps,
    latencies_ms,
    ought,
)

NONE: frozenset[str] = frozenset()
SOURCES = {"LastName": "lastname", "City": "city"}


def document(**fields: Any) -> Any:
    return load(
        MappingDocument.model_validate(
            {
                "mapping": "contact_to_lead",
                "version": 1,
                "from": {"platform": "hubspot", "object": "contact"},
                "to": {"platform": "salesforce", "object": "Lead"},
                "where": "!empty(record.email)",
                "fields": {
                    "Email": "email_normalise(record.email)",
                    "LastName": "trim(record.lastname)",
                    **fields,
                },
            }
        )
    )


def contact(number: int, address: str, updated_ms: int = 1, **properties: str) -> Contact:
    return Contact(str(number), {"email": address, **properties}, updated_ms)


def lead(number: int, address: str, **fields: Any) -> Held:
    return Held(f"00Q{number}", address, {"Email": address, **fields})


CONTACTS = [contact(1, "Ann@x.io", lastname="Lee"), contact(2, "ben@x.io", lastname="Ng")]
LEADS = [lead(1, "ann@x.io", LastName="Lee"), lead(2, "ben@x.io", LastName="Ng")]


def test_a_destination_as_it_ought_to_be() -> None:
    verdict = compare(CONTACTS, LEADS, document(), NONE)
    assert (verdict.expected, verdict.present) == (2, 2)
    harm = [verdict.missing, verdict.wrong_fields, verdict.persons_twice, verdict.strangers]
    assert harm == [[]] * 4


@pytest.mark.parametrize(
    ("held", "harm"),
    [
        (LEADS[:1], {"missing": ["ben@x.io"], "present": 1}),
        ([*LEADS, lead(3, "ann@x.io", LastName="Lee")], {"persons_twice": ["ann@x.io"]}),
        ([LEADS[0], lead(2, "ben@x.io", LastName="Ngo")], {"wrong_fields": ["00Q2.LastName"]}),
        ([LEADS[0], lead(2, "ben@x.io")], {"wrong_fields": ["00Q2.LastName"]}),
        ([*LEADS, lead(3, "old@x.io", LastName="Lee")], {"strangers": ["old@x.io"]}),
    ],
    ids=["missing", "twice", "wrong", "empty", "stranger"],
)
def test_planted_harm_is_found_and_nothing_else(held: list[Held], harm: dict[str, Any]) -> None:
    verdict = compare(CONTACTS, held, document(), NONE)
    clean = {
        "expected": 2, "present": 2, "missing": [], "wrong_fields": [], "persons_twice": [],
        "strangers": [],
    }  # fmt: skip
    assert vars(verdict) == clean | harm


def test_who_is_parked_is_not_expected() -> None:
    verdict = compare(CONTACTS, LEADS[:1], document(), frozenset({"ben@x.io"}))
    assert (verdict.expected, verdict.present, verdict.missing) == (1, 1, [])


def test_who_has_no_address_is_nobody() -> None:
    verdict = compare([*CONTACTS, contact(3, "  ", lastname="Who")], LEADS, document(), NONE)
    assert (verdict.expected, verdict.missing) == (2, [])


def test_contacts_of_one_address_are_one_person_whose_newest_values_count() -> None:
    twins = [
        contact(1, "ANN@x.io", 2, lastname="New"),
        contact(2, "ann@x.io", 1, lastname="Old"),
    ]
    newest = compare(twins, [lead(1, "ann@x.io", LastName="New")], document(), NONE)
    assert (newest.expected, newest.wrong_fields) == (1, [])
    older = compare(twins, [lead(1, "ann@x.io", LastName="Old")], document(), NONE)
    assert older.wrong_fields == ["00Q1.LastName"]


def test_what_ought_to_be_there() -> None:
    nested = document(**{"merge_fields.FNAME": "trim(record.firstname)", "status_if_new": '"s"'})
    wanted = ought([contact(1, " Ann@x.io", firstname=" Ann ", lastname="Lee")], nested)
    assert wanted == {"Email": "ann@x.io", "LastName": "Lee", "FNAME": "Ann"}
    assert ought([Contact("1", {"lastname": "Lee"}, 1)], nested) is None


# --- what happened on the way --------------------------------------------------------------------


def changed(value: str, at_ms: int, contact_id: str = "1") -> Change:
    return Change(contact_id, "lastname", value, at_ms)


def wrote(value: Any, at_ms: int, object_id: str = "a", field: str = "LastName") -> Write:
    return Write(object_id, field, value, at_ms)


CHANGES = [changed("v1", 10), changed("v2", 20), changed("v3", 30)]


def test_in_order_with_leaps_is_no_disorder() -> None:
    assert disorder(CHANGES, [wrote("v1", 11), wrote("v3", 40)], SOURCES) == []


def test_an_older_value_after_a_newer_one_is_found() -> None:
    writes = [wrote("v3", 40), wrote("v2", 41), wrote("v1", 39)]
    assert disorder(CHANGES, writes, SOURCES) == ["a.LastName"]
    two = [wrote("v3", 38), wrote("v2", 41), wrote("v1", 42)]
    assert disorder(CHANGES, two, SOURCES) == ["a.LastName"] * 2


def test_objects_and_fields_have_orders_of_their_own() -> None:
    elsewhere = [wrote("v3", 40), wrote("v1", 41, "b"), wrote("v1", 42, field="Other")]
    assert disorder(CHANGES, elsewhere, SOURCES) == []


def test_a_value_that_comes_back_is_found() -> None:
    assert flaps([wrote("A", 1), wrote("B", 2), wrote("A", 3)]) == ["a.LastName"]
    assert flaps([wrote("A", 1), wrote("B", 2), wrote("C", 3), wrote("A", 4)]) == ["a.LastName"]


def test_a_value_that_stays_is_no_flap() -> None:
    assert flaps([wrote("A", 1), wrote("A", 2), wrote("B", 3), wrote("B", 4)]) == []
    assert flaps([wrote("A", 1), wrote("B", 2), wrote("A", 3, "b"), wrote("A", 4, field="F")]) == []


def test_latencies_are_of_what_arrived() -> None:
    writes = [wrote("v3", 130), wrote("v1", 15), wrote("stranger", 99), wrote("v2", 5, field="No")]
    assert latencies_ms(CHANGES, writes, SOURCES) == [5, 100]
    assert latencies_ms(CHANGES, [], SOURCES) == []

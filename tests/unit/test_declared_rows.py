"""What a described platform is sent, and what is made of its answers: by example."""

import json
from typing import Any

import pytest

from connectors import registry
from connectors.base import PlatformError, Row
from connectors.outcome import (
    Accepted,
    Halted,
    Outcome,
    Parked,
    Retry,
    Throttled,
    TooLarge,
    Written,
)

OPTIONS = {
    "activecampaign": {"account": "acme"},
    "braze": {"cluster": "fra-01"},
    "marketo": {"munchkin": "123-ABC-456"},
    "pipedrive": {"key_field": "custom_fields.a1b2"},
}
MOMENT_MS = 1_700_000_000_500


def connector(name: str) -> Any:
    """Without anything to send with: only what is pure is asked of it."""
    make: Any = registry.connector_class(name)
    return make(make.spec.config(**OPTIONS.get(name, {})), {}, None)


def row(fields: dict[str, Any], object_id: str = "", n: int = 1) -> Row:
    return Row(f"row-{n}", f"person-{n}", object_id, fields, MOMENT_MS)


# --- rows ----------------------------------------------------------------------------------------

FULL = {"email": "a@x.io", "first_name": None}


@pytest.mark.parametrize(
    ("platform", "kind", "given", "sent"),
    [
        ("klaviyo", "profile", row({**FULL, "properties.plan": "pro", "location.city": "Ulm"}),
         {"type": "profile", "attributes": {"email": "a@x.io", "first_name": None,
          "properties": {"plan": "pro"}, "location": {"city": "Ulm"}, "external_id": "person-1"}}),
        ("klaviyo", "profile", row({}, "01H"),
         {"type": "profile", "id": "01H", "attributes": {"external_id": "person-1"}}),
        ("klaviyo", "event", row({"metric": "Order", "value": 5, "sku": "x"}),
         {"type": "event", "attributes": {"unique_id": "row-1", "value": 5,
          "time": "2023-11-14T22:13:20.500000+00:00", "properties": {"sku": "x"},
          "metric": {"data": {"type": "metric", "attributes": {"name": "Order"}}},
          "profile": {"data": {"type": "profile", "attributes": {"external_id": "person-1"}}}}}),
        ("customerio", "person", row(FULL),
         {"type": "person", "action": "identify", "identifiers": {"id": "person-1"},
          "attributes": FULL}),
        ("customerio", "person", row({"id": "u7"}),
         {"type": "person", "action": "identify", "identifiers": {"id": "u7"}, "attributes": {}}),
        ("customerio", "event", row({"name": "bought", "sku": "x"}),
         {"type": "person", "action": "event", "identifiers": {"id": "person-1"},
          "name": "bought", "timestamp": 1_700_000_000, "attributes": {"sku": "x"}}),
        ("marketo", "lead", row({"email": "a@x.io"}),
         {"email": "a@x.io", "synclineId": "person-1"}),
        ("marketo", "lead", row({"email": "a@x.io"}, "77"),
         {"id": "77", "email": "a@x.io", "synclineId": "person-1"}),
        ("braze", "user", row({**FULL, "plan": "pro"}),
         {"external_id": "person-1", "email": "a@x.io", "first_name": None, "plan": "pro"}),
        ("braze", "user", row({"external_id": "mine"}, "known"), {"external_id": "known"}),
        ("iterable", "user", row({"email": "a@x.io", "firstName": "Ann", "a.b": 1}),
         {"userId": "person-1", "email": "a@x.io",
          "dataFields": {"firstName": "Ann", "a": {"b": 1}},
          "preferUserId": True, "mergeNestedObjects": True}),
        ("activecampaign", "contact", row({"email": "a@x.io", "firstName": None, "field.39": "x",
                                           "field.40": None}),
         {"email": "a@x.io", "firstName": "", "fieldValues": [{"field": "39", "value": "x"},
                                                              {"field": "40", "value": ""}]}),
        ("activecampaign", "import", row({"email": "a@x.io", "field.39": "x"}),
         {"email": "a@x.io", "fields": [{"id": "39", "value": "x"}]}),
        ("intercom", "contact", row({"email": "a@x.io", "custom_attributes.plan": "pro"}),
         {"role": "user", "email": "a@x.io", "custom_attributes": {"plan": "pro"},
          "external_id": "person-1"}),
        ("intercom", "contact", row({"name": "Ann"}, "5ba"),
         {"name": "Ann", "external_id": "person-1"}),
        ("pipedrive", "person", row({"name": "Ann", "email": "a@x.io", "phone": None}),
         {"name": "Ann", "emails": [{"value": "a@x.io", "primary": True, "label": "work"}],
          "phones": [], "custom_fields": {"a1b2": "person-1"}}),
    ],
)  # fmt: skip
def test_a_row_in_the_platforms_own_shape(
    platform: str, kind: str, given: Row, sent: dict[str, Any]
) -> None:
    shaped = connector(platform).map_fields(kind, given)
    assert json.loads(json.dumps(shaped)) == sent


# --- verdicts ------------------------------------------------------------------------------------


def verdicts(platform: str, kind: str, answer: Any, rows: list[Row]) -> list[Outcome]:
    made = connector(platform)
    shape = made.shapes[kind]
    known = [shape.known(one, made._option) for one in rows]
    return shape.way(rows[0]).verdicts(answer, known)


THREE = [row({"email": f"P{n}@x.io"}, n=n) for n in range(3)]


def test_verdicts_in_the_order_of_the_rows() -> None:
    skipped = {"status": "skipped", "reasons": [{"code": "1007", "message": "several leads"}]}
    results = [{"id": 1, "status": "created"}, skipped, {"id": 3, "status": "updated"}]
    assert verdicts("marketo", "lead", {"result": results}, THREE) == [
        Written("1"), Parked("1007", "several leads"), Written("3"),
    ]  # fmt: skip
    # One too few: nobody knows whose is missing.
    for wrong in ({"result": results[:2]}, {"result": None}, {}):
        found = verdicts("marketo", "lead", wrong, THREE)
        assert all(isinstance(o, Retry) and o is found[0] for o in found)
    odd = {"result": [{"id": 1, "status": "created"}, {"status": "novel"}, {"status": "updated"}]}
    found = verdicts("marketo", "lead", odd, THREE)
    assert [type(o) for o in found] == [
        Written,
        Retry,
        Retry,
    ]  # a status or an id that is not there


@pytest.mark.parametrize("index", [-1, 3, "1", None, 1.5, True])
def test_a_place_that_is_none_of_ours_names_no_row(index: Any) -> None:
    answer = {"errors": [{"batch_index": index, "reason": "invalid"}]}
    assert verdicts("customerio", "person", answer, THREE) == [Accepted()] * 3


def test_verdicts_by_place_count_inside_their_own_array() -> None:
    errors = [
        {"input_array": "events", "index": 0, "type": "not ours"},
        {"input_array": "attributes", "index": 2, "type": "bad time zone"},
    ]
    answer = {"message": "success", "attributes_processed": 2, "errors": errors}
    assert verdicts("braze", "user", answer, THREE) == [
        Accepted(), Accepted(), Parked("refused", "bad time zone"),
    ]  # fmt: skip


def test_a_count_that_does_not_agree_is_no_evidence() -> None:
    for told in ({"attributes_processed": 2}, {"attributes_processed": 4}, {}):
        found = verdicts("braze", "user", {"message": "success", **told}, THREE)
        assert all(isinstance(o, Retry) and o is found[0] for o in found)


def test_verdicts_by_a_value_of_the_row_whatever_its_case() -> None:
    answer = {"successCount": 1, "failCount": 2, "invalidEmails": ["p1@X.io", "stranger@x.io"],
              "failedUpdates": {"conflictUserIds": ["person-2"]}}  # fmt: skip
    assert verdicts("iterable", "user", answer, THREE) == [
        Written("person-0"),
        Parked("invalid_email", "invalid_email", "email"),
        Parked("conflict", "conflict"),
    ]


def test_a_success_without_an_id_is_none() -> None:
    (found,) = verdicts("klaviyo", "profile", {"data": {"type": "profile"}}, THREE[:1])
    assert isinstance(found, Retry)


@pytest.mark.parametrize(
    ("platform", "record", "changed_ms"),
    [
        ("klaviyo", {"id": "1", "attributes": {"updated": "2023-11-14T22:13:20+00:00"}}, 1.7e12),
        ("intercom", {"id": "1", "updated_at": 1_700_000_000}, 1.7e12),
        ("klaviyo", {"id": "1", "attributes": {"updated": "lately"}}, 0),
        ("intercom", {"id": "1", "updated_at": None}, 0),
        ("intercom", {"id": "1", "updated_at": float("inf")}, 0),
    ],
)
def test_when_a_record_changed(platform: str, record: dict[str, Any], changed_ms: float) -> None:
    (shape, *_) = connector(platform).shapes.values()
    assert shape.found(record).occurred_ms == changed_ms


def test_a_record_as_flat_values_by_the_names_that_are_mapped() -> None:
    shape = connector("pipedrive").shapes["person"]
    found = shape.found(
        {"id": 7, "name": "Ann", "emails": [{"value": "a@x.io"}], "custom_fields": {"a1b2": "k"}}
    )
    values = json.loads(found.values)
    assert (found.object_id, values["email"], values["custom_fields.a1b2"]) == ("7", "a@x.io", "k")
    searched = json.loads(shape.found({"id": 7, "emails": ["b@x.io"], "phones": []}).values)
    assert searched["email"] == "b@x.io"
    assert "phone" not in searched
    user = connector("braze").shapes["user"]
    flat = json.loads(user.found({"external_id": "u", "custom_attributes": {"plan": "x"}}).values)
    assert flat["plan"] == "x"


# --- failures ------------------------------------------------------------------------------------

DATE = {"date": "Tue, 14 Nov 2023 22:13:20 GMT"}  # 1,700,000,000
LATER = "Tue, 14 Nov 2023 22:13:30 GMT"


@pytest.mark.parametrize(
    ("platform", "status", "body", "headers", "outcome"),
    [
        ("klaviyo", 429, {}, {"retry-after": "7"}, Throttled(7.0)),
        ("klaviyo", 429, {}, {"retry-after": LATER, **DATE}, Throttled(10.0)),
        ("klaviyo", 429, {}, {"retry-after": LATER}, Throttled(None)),
        ("klaviyo", 429, "<html>", {}, Throttled(None)),
        ("klaviyo", 403, {"errors": [{"code": "permission", "detail": "no scope"}]}, {},
         Halted("permission: no scope")),
        ("klaviyo", 400, {"errors": [{"code": "invalid", "detail": "bad",
                                      "source": {"pointer": "/data/attributes/phone_number"}}]}, {},
         Parked("invalid", "bad", "phone_number")),
        ("klaviyo", 503, "<html>", {}, Retry("HTTP 503 503")),
        ("klaviyo", 0, "ReadTimeout", {}, Retry("no answer 0")),
        ("klaviyo", 404, {}, {}, Parked("404")),
        ("marketo", 200, {"success": False, "errors": [{"code": "606", "message": "m"}]}, {},
         Throttled(20.0, "rate")),
        ("marketo", 200, {"success": False, "errors": [{"code": "607", "message": "m"}]}, {},
         Throttled(None, "day")),
        ("marketo", 200, {"success": False, "errors": [{"code": "615", "message": "m"}]}, {},
         Throttled(1.0, "at_once")),
        ("marketo", 200, {"success": False, "errors": [{"code": "603", "message": "denied"}]}, {},
         Halted("603: denied")),
        ("marketo", 200, {"success": False, "errors": [{"code": "611", "message": "m"}]}, {},
         Retry("HTTP 200 611")),
        ("marketo", 200, {"success": False, "errors": [{"code": "999", "message": "m"}]}, {},
         Retry("HTTP 200 999")),
        ("marketo", 414, "<html>", {}, TooLarge("<html>")),
        ("braze", 429, {}, {"x-ratelimit-reset": "1700000012", **DATE}, Throttled(12.0)),
        ("braze", 429, {"message": "m"}, {"x-ratelimit-reset": "1700000012"}, Throttled(None)),
        ("braze", 429, {"message": "m"}, {"x-ratelimit-reset": "soon", **DATE}, Throttled(None)),
        ("braze", 201, {"message": "queued"}, {}, Accepted()),
        ("braze", 404, {"message": "Invalid URL"}, {}, Halted("404: Invalid URL")),
        ("iterable", 400, {"code": "BadApiKey", "msg": "m"}, {}, Halted("BadApiKey: m")),
        ("iterable", 400, {"code": "InvalidEmailAddressError", "msg": "m"}, {},
         Parked("InvalidEmailAddressError", "m")),
        ("activecampaign", 402, {"message": "unpaid"}, {}, Halted("402: ")),
        ("activecampaign", 422, {"errors": [{"title": "bad", "code": "email_invalid", "source":
                                             {"pointer": "/data/attributes/email"}}]}, {},
         Parked("email_invalid", "bad", "email")),
        ("intercom", 409, {"errors": [{"code": "conflict", "message": "archived"}]}, {},
         Parked("conflict", "archived")),
        ("pipedrive", 403, {"success": False, "error": "Rate limit"}, {}, Throttled(300.0)),
        ("pipedrive", 403, {"success": False, "error": "no access"}, {}, Halted("403: no access")),
        ("customerio", 413, "<html>", {}, TooLarge("<html>")),
    ],
)  # fmt: skip
def test_each_platforms_failures(
    platform: str, status: int, body: Any, headers: dict[str, str], outcome: Outcome
) -> None:
    assert connector(platform).handle_error(PlatformError(status, body, headers)) == outcome

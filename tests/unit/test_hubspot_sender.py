"""HubSpot's webhooks: what proves them, and what becomes of every kind of event they carry."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from schemas.events import EventKind
from webhook_gateway.senders import platforms, sender_type
from webhook_gateway.senders.base import Event, Refused, Request, Unparseable
from webhook_gateway.senders.hubspot import EVENTS_MAX, HubSpotWebhooks, Sender

SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"  # of HubSpot's own examples
NOW_MS = 1_700_000_000_000
URL = "https://www.example.com/webhook_uri"


def sender(*secrets: str, **options: Any) -> Sender:
    return Sender(HubSpotWebhooks(**options), [SecretStr(s) for s in secrets or (SECRET,)])


def request(
    body: bytes, headers: dict[str, str], *, url: str = URL, now_ms: int = NOW_MS, method="POST"
) -> Request:
    target = url.removeprefix("https://www.example.com")
    return Request(target, url, "", headers, body, now_ms, method)


def parse(body: bytes, **options: Any) -> list[Any]:
    return sender(**options).parse(request(body, {}))


def v1(body: bytes, secret: str = SECRET) -> dict[str, str]:
    digest = hashlib.sha256(secret.encode() + body).hexdigest()
    return {"x-hubspot-signature": digest, "x-hubspot-signature-version": "v1"}


def v2(body: bytes, secret: str = SECRET, url: str = URL) -> dict[str, str]:
    digest = hashlib.sha256(f"{secret}POST{url}".encode() + body).hexdigest()
    return {"x-hubspot-signature": digest, "x-hubspot-signature-version": "v2"}


def v3(
    body: bytes, secret: str = SECRET, signed_url: str = URL, stamp_ms: int = NOW_MS
) -> dict[str, str]:
    text = f"POST{signed_url}".encode() + body + str(stamp_ms).encode()
    mac = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    return {
        "x-hubspot-signature-v3": base64.b64encode(mac).decode(),
        "x-hubspot-request-timestamp": str(stamp_ms),
    }


SIGNERS = {"v1": v1, "v2": v2, "v3": v3}


def refusal(sender_: Sender, request_: Request) -> str:
    with pytest.raises(Refused) as caught:
        sender_.verify(request_)
    assert caught.value.status == 401
    return caught.value.reason


def event(**fields: Any) -> dict[str, Any]:
    return {
        "eventId": 100, "subscriptionId": 25, "portalId": 33, "appId": 1160452,
        "occurredAt": NOW_MS - 1000, "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0, "objectId": 123, "changeSource": "CRM",
        "propertyName": "email", "propertyValue": "ada@example.com",
    } | fields  # fmt: skip


def parsed(*events: Any, **options: Any) -> list[Any]:
    return parse(json.dumps(list(events)).encode(), **options)


def one(**fields: Any) -> Event:
    (part,) = parsed({k: v for k, v in event(**fields).items() if v is not ...})
    assert isinstance(part, Event)
    return part


# --- proof -------------------------------------------------------------------------------------


def test_published_vectors() -> None:
    """The examples of HubSpot's page and of the tests of its Python client package."""
    page = (
        b'[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,'
        b'"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,'
        b'"changeSource":"CRM","changeFlag":"NEW","appId":54321}]'
    )
    package = b"{'example_field':'example_value'}"
    vectors = [
        (page, "v1", "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de"),
        (package, "v1", "69fc6631a867edd4f9e9e627fc5c1148e3fbdd8b21837b6d2b8901c1fa57f750"),
        (package, "v2", "4fe4e3a7d3cf09db53be39d0a58130e2aaba074ec123a9e355b876a689a1c383"),
        (
            b'{"example_field":"example_value"}', "v2",
            "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900",
        ),
    ]  # fmt: skip
    for body, version, digest in vectors:
        headers = {"x-hubspot-signature": digest, "x-hubspot-signature-version": version}
        sender().verify(request(body, headers))
    headers = {
        "x-hubspot-signature": "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e",
        "x-hubspot-signature-version": "v2",
    }
    sender().verify(request(b"", headers, method="GET"))
    headers = {
        "x-hubspot-signature-v3": "HPW73RUtKmcYoEDADG0s6MmGFWUzWJKAW07r8RDgcQw=",
        "x-hubspot-request-timestamp": "15000000",
    }
    sender().verify(request(package, headers, now_ms=15_000_000))


@pytest.mark.parametrize("version", SIGNERS)
def test_either_secret_is_good_while_one_replaces_the_other(version: str) -> None:
    body = b"[]"
    both = sender("new", "old")
    for secret in ("new", "old"):
        both.verify(request(body, SIGNERS[version](body, secret)))
    assert refusal(both, request(body, SIGNERS[version](body, "other"))) == "signature wrong"


@given(body=st.binary(min_size=1, max_size=200), data=st.data())
def test_any_changed_byte_breaks_every_signature(body: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(body) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda b: b != body[position]))
    changed = body[:position] + bytes([other]) + body[position + 1 :]
    for sign in SIGNERS.values():
        sender().verify(request(body, sign(body)))
        assert refusal(sender(), request(changed, sign(body))) == "signature wrong"


@given(data=st.data())
def test_any_changed_character_of_a_signature_breaks_it(data: st.DataObject) -> None:
    body = b'[{"eventId":1}]'
    headers = SIGNERS[data.draw(st.sampled_from(sorted(SIGNERS)))](body)
    name = next(n for n in headers if n in ("x-hubspot-signature", "x-hubspot-signature-v3"))
    proof = headers[name]
    position = data.draw(st.integers(0, len(proof) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda c: c != proof[position]))
    changed = headers | {name: proof[:position] + other + proof[position + 1 :]}
    assert refusal(sender(), request(body, changed)) == "signature wrong"


@pytest.mark.parametrize("off_ms", [-300_000, 0, 300_000])
def test_v3_is_good_for_five_minutes_both_ways(off_ms: int) -> None:
    sender().verify(request(b"[]", v3(b"[]", stamp_ms=NOW_MS + off_ms)))


@pytest.mark.parametrize("off_ms", [-300_001, 300_001])
def test_v3_outside_five_minutes_is_refused(off_ms: int) -> None:
    asked = request(b"[]", v3(b"[]", stamp_ms=NOW_MS + off_ms))
    assert refusal(sender(), asked) == "timestamp outside five minutes"


@pytest.mark.parametrize("stamp", ["", "now", "-1", "1.7e12", "١٧٠٠٠٠٠٠٠٠٠٠٠", "9" * 17])
def test_v3_needs_a_time_in_digits(stamp: str) -> None:
    headers = v3(b"[]") | {"x-hubspot-request-timestamp": stamp}
    assert refusal(sender(), request(b"[]", headers)) == "timestamp missing"


@pytest.mark.parametrize(
    ("called", "signed"),
    [
        ("/h?a=%2Fx%3a%40%2C%3B", "/h?a=/x:@,;"),
        ("/h?a=%21%24%27%28%29%2a%3F", "/h?a=!$'()*?"),
        ("/h?a=%20%26%3D%25%23%2B", "/h?a=%20%26%3D%25%23%2B"),  # these stay
        ("/h?a=%253A", "/h?a=%253A"),  # once, not twice
        ("/h?a=%25%33A", "/h?a=%25%33A"),
        ("/h?a=%2525%3A", "/h?a=%2525:"),
    ],
)
def test_v3_decodes_the_address_once_and_only_so_far(called: str, signed: str) -> None:
    host = "https://www.example.com"
    headers = v3(b"[]", signed_url=host + signed)
    sender().verify(request(b"[]", headers, url=host + called))
    if called != signed:
        raw = v3(b"[]", signed_url=host + called)
        assert refusal(sender(), request(b"[]", raw, url=host + called)) == "signature wrong"


def test_the_newest_signature_decides() -> None:
    body = b"[]"
    wrong_v3 = v3(body, "other")
    assert refusal(sender(), request(body, v1(body) | wrong_v3)) == "signature wrong"
    sender().verify(request(body, v1(body, "other") | v3(body)))


def test_versions_that_an_operator_turned_off_are_refused() -> None:
    strict = sender(signatures=["v3"])
    strict.verify(request(b"[]", v3(b"[]")))
    for sign in (v1, v2):
        assert refusal(strict, request(b"[]", sign(b"[]"))) == "signature version not taken"


def test_a_v3_signature_under_the_old_header_is_no_way_around_the_time() -> None:
    headers = v3(b"[]")
    old = {
        "x-hubspot-signature": headers["x-hubspot-signature-v3"],
        "x-hubspot-signature-version": "v3",
        "x-hubspot-request-timestamp": headers["x-hubspot-request-timestamp"],
    }
    assert refusal(sender(), request(b"[]", old)) == "signature version not taken"


def test_without_any_signature() -> None:
    assert refusal(sender(), request(b"[]", {})) == "no signature"
    assert refusal(Sender(HubSpotWebhooks(), []), request(b"[]", v1(b"[]"))) == "signature wrong"


@given(
    headers=st.dictionaries(
        st.sampled_from(
            [
                "x-hubspot-signature",
                "x-hubspot-signature-version",
                "x-hubspot-signature-v3",
                "x-hubspot-request-timestamp",
            ]
        ),
        st.one_of(st.text(), st.sampled_from(["v1", "v2", "v3", str(NOW_MS), "\udcff"])),
    ),
    body=st.binary(),
    target=st.text(),
)
def test_no_headers_make_the_check_raise_anything_else(
    headers: dict[str, str], body: bytes, target: str
) -> None:
    with pytest.raises(Refused):
        sender().verify(Request(target, URL + target, "", headers, body, NOW_MS))


# --- events ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subscription", "kind"),
    [
        ("contact.creation", EventKind.created),
        ("contact.propertyChange", EventKind.updated),
        ("contact.deletion", EventKind.deleted),
        ("contact.privacyDeletion", EventKind.forgotten),
        ("contact.restore", EventKind.created),
        ("contact.merge", EventKind.merged),
        ("contact.associationChange", EventKind.associated),
        ("conversation.creation", EventKind.created),
        ("conversation.deletion", EventKind.deleted),
        ("conversation.privacyDeletion", EventKind.forgotten),
        ("conversation.propertyChange", EventKind.updated),
        ("conversation.newMessage", EventKind.other),
        ("deal.somethingNew", EventKind.other),
        ("contact", EventKind.other),
    ],
)
def test_every_subscription_type_has_a_kind(subscription: str, kind: EventKind) -> None:
    part = one(subscriptionType=subscription)
    assert (part.kind, part.platform_kind) == (kind, subscription)
    assert part.object_type == subscription.partition(".")[0]
    assert part.thin


def test_a_changed_property() -> None:
    part = one()
    assert part.object_id == "123"
    assert part.changed == ("email",)
    assert json.loads(part.values) == {"email": "ada@example.com"}
    assert (part.occurred_ms, part.time_certain) == (NOW_MS - 1000, True)
    assert part.account == "33"


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({"propertyValue": ""}, {"email": ""}),
        ({"propertyValue": None}, {"email": None}),
        ({"propertyValue": 7}, {"email": 7}),
        ({"propertyValue": "REDACTED"}, {}),  # stands for a value that is kept from us
        ({"propertyValue": ...}, {}),
    ],
)
def test_values_that_are_told_and_not_told(fields: dict[str, Any], values: Any) -> None:
    part = one(**fields)
    assert part.changed == ("email",)
    assert json.loads(part.values) == values


def test_a_property_change_without_its_property_says_only_that_something_changed() -> None:
    part = one(propertyName=..., propertyValue=...)
    assert (part.changed, part.values) == ((), b"{}")


def test_numbers_may_come_as_strings() -> None:
    part = one(objectId="123", portalId="33", occurredAt=str(NOW_MS - 1000), eventId="100")
    plain = one()
    assert part.object_id == plain.object_id
    assert part.occurred_ms == plain.occurred_ms


@pytest.mark.parametrize("missing", ["objectId", "subscriptionId", "eventId", "appId", "portalId"])
def test_fields_may_be_missing(missing: str) -> None:
    part = one(**{missing: ...})
    assert part.kind is EventKind.updated
    assert (part.object_id == "") == (missing == "objectId")


def test_the_type_may_stand_under_another_name() -> None:
    part = one(subscriptionType=..., eventType="company.creation")
    assert (part.object_type, part.kind) == ("company", EventKind.created)


@pytest.mark.parametrize(
    ("type_id", "object_type"),
    [
        ("0-1", "contact"),
        ("0-2", "company"),
        ("0-3", "deal"),
        ("2-4711", "2-4711"),
        (..., "object"),
    ],
)
def test_a_generic_subscription_speaks_of_the_same_objects(type_id: Any, object_type: str) -> None:
    part = one(subscriptionType="object.propertyChange", objectTypeId=type_id)
    assert part.object_type == object_type


def test_a_merge_is_told_of_the_object_that_remains() -> None:
    merge = {
        "subscriptionType": "contact.merge",
        "primaryObjectId": 1,
        "mergedObjectIds": [2, "3"],
        "newObjectId": 9,
        "objectId": 1,
        "numberOfPropertiesMoved": 4,
    }
    part = one(**merge)
    assert part.object_id == "9"
    assert part.related == (("contact", "1"), ("contact", "2"), ("contact", "3"))
    part = one(**(merge | {"newObjectId": None}))
    assert part.object_id == "1"
    assert part.related == (("contact", "2"), ("contact", "3"))


def test_an_association_names_both_sides() -> None:
    part = one(
        subscriptionType="contact.associationChange",
        associationType="CONTACT_TO_COMPANY",
        fromObjectId=5,
        toObjectId=6,
        associationRemoved=False,
        isPrimaryAssociation=True,
        objectId=...,
        subscriptionId=...,
        propertyName=...,
        propertyValue=...,
    )
    assert (part.object_type, part.object_id) == ("contact", "5")
    assert part.related == (("company", "6"),)
    generic = one(
        subscriptionType="object.associationChange",
        fromObjectTypeId="0-1",
        toObjectTypeId="0-3",
        fromObjectId=5,
        toObjectId=6,
    )
    assert (generic.object_type, generic.related) == ("contact", (("deal", "6"),))


@pytest.mark.parametrize(
    ("occurred", "time"),
    [
        (NOW_MS, (NOW_MS, True)),
        (NOW_MS + 300_000, (NOW_MS + 300_000, True)),
        (NOW_MS + 300_001, (NOW_MS, False)),
        (10**30, (NOW_MS, False)),
        (0, (NOW_MS, False)),
        (-5, (NOW_MS, False)),
        ("yesterday", (NOW_MS, False)),
        (True, (NOW_MS, False)),
        (None, (NOW_MS, False)),
        (..., (NOW_MS, False)),
    ],
)
def test_a_time_that_cannot_be_is_the_receipt_and_uncertain(occurred: Any, time: Any) -> None:
    part = one(occurredAt=occurred)
    assert (part.occurred_ms, part.time_certain) == time


def test_a_repeat_has_the_same_content_and_other_content_does_not() -> None:
    first, again = one(), one(attemptNumber=3)
    assert (first.identity, first.content) == (again.identity, again.content)
    assert first.payload != again.payload
    for fields in ({"propertyValue": "x"}, {"objectId": 124}, {"somethingNew": 1}):
        other = one(**fields)
        assert (other.identity, other.content) != (first.identity, first.content)


def test_a_part_that_makes_no_sense_spares_the_others() -> None:
    body = b'[{"subscriptionType":"contact.creation"}, 7,{"objectId":1} , "x", {"eventType":3}]'
    first, *wrong = parse(body)
    assert isinstance(first, Event)
    assert [(w.position, w.payload) for w in wrong] == [
        (1, b"7"),
        (2, b'{"objectId":1}'),
        (3, b'"x"'),
        (4, b'{"eventType":3}'),
    ]


def test_text_that_is_no_text_spares_the_others() -> None:
    """Half a surrogate pair, a number beyond all numbers, a key twice, nesting without end."""
    good = b'{"subscriptionType":"contact.creation","objectId":1}'
    deep = b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"
    for bad in (b'{"a":"\\ud83d"}', b'{"a":"\xff"}', b'{"a":"\\q,]"}', b'{"a":1e999}', deep):
        first, wrong, last = parse(b"[" + b",".join((good, bad, good)) + b"]")
        assert isinstance(first, Event)
        assert isinstance(last, Event)
        assert (wrong.position, wrong.payload) == (1, bad)
    (twice,) = parse(good.replace(b"}", b',"objectId":2}'))
    assert twice.object_id == "2"


def test_the_payload_stays_as_it_came() -> None:
    raw = b'{ "subscriptionType" :"contact.creation","n":1.50,"\\u00e9":"\\/", "objectId" : 1 }'
    (part,) = parse(b"[ " + raw + b" ]")
    assert part.payload == raw
    (part,) = parse(raw)  # one event without its array
    assert part.payload == raw


@pytest.mark.parametrize("body", [b"", b"nope", b"[1,", b"\xff", b'"text"', b"[" * 100_000])
def test_a_body_that_is_no_list_is_kept_whole(body: bytes) -> None:
    assert parse(body) == [Unparseable(-1, body, "not a JSON array of at most 1000 events")]


def test_the_number_of_events_is_bounded() -> None:
    assert len(parse(b"[" + b"1," * (EVENTS_MAX - 1) + b"1]")) == EVENTS_MAX
    assert len(parse(b"[" + b"1," * EVENTS_MAX + b"1]")) == 1


def test_events_of_another_portal_keep_its_id_unless_told_otherwise() -> None:
    (part,) = parsed(event(portalId=44))
    assert part.account == "44"
    (part,) = parsed(event(portalId=44), other_portals="take")
    assert part.account == ""


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
names = st.sampled_from([*event(), "mergedObjectIds", "eventType", "toObjectId", "objectTypeId"])
subscriptions = st.sampled_from(
    ["contact.merge", "deal.associationChange", "object.creation", "contact.propertyChange", "."]
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"subscriptionType": subscriptions}, optional={"objectId": json_values}
        ).flatmap(lambda base: st.dictionaries(names, json_values).map(lambda extra: extra | base)),
        max_size=20,
    )
)
def test_a_valid_body_splits_into_as_many_parts_as_it_has(events: list[dict[str, Any]]) -> None:
    parts = parse(json.dumps(events).encode())
    assert len(parts) == len(events)
    for part, source in zip(parts, events, strict=True):
        assert json.loads(part.payload) == source
        if isinstance(part, Event):
            assert isinstance(json.loads(part.values), dict)


@given(st.one_of(st.binary(max_size=300), json_values.map(lambda v: json.dumps(v).encode())))
def test_no_body_makes_parsing_raise(body: bytes) -> None:
    parts = parse(body)
    assert all(isinstance(part, Event | Unparseable) for part in parts)


def test_the_sender_is_found_by_its_name() -> None:
    assert "hubspot" in platforms()
    assert all(sender_type(p).spec.platform == p for p in platforms())


told = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False)
    | st.text(max_size=5) | st.sampled_from(["contact.creation", "a.propertyChange", "a.merge"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)  # fmt: skip
names = st.sampled_from(["objectId", "propertyName", "propertyValue", "attemptNumber", "eventType"])
elements = st.dictionaries(names | st.just("subscriptionType"), told)


@given(st.lists(elements, max_size=4))
def test_an_unknown_field_beside_it_changes_nothing_of_an_event(told: list[Any]) -> None:
    """As documented throughout, a body is read at once; else each element by itself."""
    with_stranger = parse(json.dumps([*told, {"unheardOf": 1}]).encode())
    assert with_stranger[:-1] == parse(json.dumps(told).encode())

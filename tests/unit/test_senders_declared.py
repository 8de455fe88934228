"""Senders that are data: the recipes, and what becomes of every platform's own oddities."""

import base64
import json
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.events import EventKind
from tests.unit import senders_kit as kit
from tests.unit.senders_kit import CASES, HOST, NOW_MS, NOW_S, SECRET, Case, Lower
from webhook_gateway.senders.base import Event, Refused, Request, Unparseable
from webhook_gateway.senders.elements import member
from webhook_gateway.senders.reading import find, milliseconds, moment, text


def parse(platform: str, body: bytes, **options: Any) -> list[Any]:
    case = CASES[platform]
    request = case.request(case.body(1))._replace(body=body)
    return case.sender(**options).parse(request)


def one(platform: str, body: bytes, **options: Any) -> Event:
    (part,) = parse(platform, body, **options)
    assert isinstance(part, Event), part
    return part


def refusal(sender: Any, request: Request) -> str:
    with pytest.raises(Refused) as caught:
        sender.verify(request)
    assert caught.value.status == 401
    return caught.value.reason


def asked(case: Case, headers: dict[str, str], rest: str = "", query: str = "") -> Request:
    target = f"/hooks/{case.platform}" + (rest and f"/{rest}") + (query and f"?{query}")
    return Request(target, HOST + target, rest, Lower(headers), case.body(1), NOW_MS)


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_700_000_000, (1_700_000_000_000, True)),
        (1_700_000_000.25, (1_700_000_000_250, True)),
        (1_700_000_000_123, (1_700_000_000_123, True)),
        (1_700_000_000_123_456, (1_700_000_000_123, True)),
        ("1700000000", (1_700_000_000_000, True)),
        ("1700000000.5", (1_700_000_000_500, True)),
        ("2023-11-14T22:13:20Z", (1_700_000_000_000, True)),
        ("2023-11-14T23:13:20.5+01:00", (1_700_000_000_500, True)),
        ("2023-11-14 22:13:20 +00:00", (1_700_000_000_000, True)),
        ("2023-11-14 22:13:20 UTC", (1_700_000_000_000, True)),
        ("2023-11-14T22:13:20.123456789Z", (1_700_000_000_123, True)),
        ("2023-11-14 22:13:20", (1_700_000_000_000, False)),
        ("2023-11-14", (1_699_920_000_000, False)),
        ("Tue, 14 Nov 2023 22:13:20 GMT", (1_700_000_000_000, True)),
        (" 1700000000 ", (1_700_000_000_000, True)),
        *((v, None) for v in ("", "soon", "-5", 0, -1, True, None, [], 10**17, "9" * 40, "x" * 99,
                              float("inf"), "0001-01-01T00:00:00+23:59", "٣")),
    ],
)  # fmt: skip
def test_times(value: Any, expected: Any) -> None:
    found = moment(value)
    if value == "0001-01-01T00:00:00+23:59":  # before 1970: a time, that nobody believes
        assert found is None or found[0] < 0
    else:
        assert found == expected


@settings(deadline=None)
@given(
    st.one_of(st.text(), st.integers(), st.floats(), st.dates().map(str), st.datetimes().map(str))
)
def test_no_time_makes_reading_raise(value: Any) -> None:
    found = milliseconds(value)
    assert found is None or isinstance(found, int)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.b", 1), ("l.0.x", 2), ("d.e", 3), ("a", {"b": 1}), ("l.1", None), ("l.x", None),
        ("a.b.c", None), ("n", None), ("", ...), ("l.٠", None), (".", None),
    ],
)  # fmt: skip
def test_paths(path: str, expected: Any) -> None:
    fields = {"a": {"b": 1}, "l": [{"x": 2}], "d.e": 3}
    assert find(fields, path) == (fields if expected is ... else expected)


def test_ids_are_texts() -> None:
    assert [text(v) for v in (7, "7", 7.0, "x")] == ["7", "7", "7", "x"]
    assert [text(v) for v in (True, None, [], {}, 7.5)] == [""] * 5


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1,"data":[1, 2]}', b"[1, 2]"),
        (b'{"data": {"x":"}"} ,"b":"\\ud83d"}', b'{"x":"}"}'),
        (b'{"data":[{"t":"\\ud83d"},2]}', b'[{"t":"\\ud83d"},2]'),
        (b'{"b":{"data":1},"c":"\\ud83d"}', None),
        (b'{"x":"data","c":"\\ud83d"}', None),
        (b'{"data":1,"data":2,"c":"\\ud83d"}', b"2"),
        (b'{"\\u0064ata":"y","c":"\\ud83d"}', b'"y"'),
        (b'{"data":1}{"data":2}', None),
        (b'{"data":"x', None),
        (b"[1]", None),
        (b"", None),
    ],
)
def test_one_key_of_an_object(body: bytes, expected: bytes | None) -> None:
    assert member(body, "data") == expected


# --- a secret that comes along ------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["braze", "iterable", "pipedrive", "marketo"])
def test_a_shared_secret_may_come_in_each_of_these_ways(platform: str) -> None:
    case = CASES[platform]
    pair = base64.b64encode(f"me:{SECRET}".encode()).decode()
    alone = base64.b64encode(SECRET.encode()).decode().rstrip("=")
    for header in (SECRET, f"Bearer {SECRET}", f"bearer  {SECRET}", f"Basic {pair}",
                   f"basic {alone}"):  # fmt: skip
        case.sender().verify(asked(case, {"Authorization": header}))
    case.sender().verify(asked(case, {}, rest=SECRET))
    case.sender().verify(asked(case, {}, query=f"a=1&token={SECRET}"))
    whole = case.sender("me:" + SECRET)
    whole.verify(asked(case, {"Authorization": f"Basic {pair}"}))
    for header in ("", "Bearer", "Bearer x", f"Digest {SECRET}", f"Basic {SECRET}", "Basic !!",
                   f"Basic {pair}x"):  # fmt: skip
        assert refusal(case.sender(), asked(case, {"Authorization": header})) == "secret wrong"
    assert refusal(case.sender(), asked(case, {})) == "no secret"
    assert refusal(case.sender(), asked(case, {}, rest=SECRET + "/x")) == "secret wrong"
    assert refusal(case.sender(), asked(case, {}, query="&".join([f"a={SECRET}"] * 99)))


def test_a_secret_in_the_address_may_be_escaped() -> None:
    case = CASES["activecampaign"]
    sender = case.sender("a/b c+ä")
    sender.verify(asked(case, {}, rest="a%2Fb%20c+%C3%A4"))
    sender.verify(asked(case, {}, query="s=a%2Fb+c%2B%c3%a4"))
    assert refusal(sender, asked(case, {"Authorization": "a/b c+ä"})) == "no secret"


@pytest.mark.parametrize("platform", ["iterable", "marketo"])
def test_a_header_of_ones_own(platform: str) -> None:
    case = CASES[platform]
    sender = case.sender(header="x-my-secret")
    sender.verify(asked(case, {"X-My-Secret": SECRET}))
    assert refusal(sender, asked(case, {"Authorization": SECRET})) == "no secret"


# --- Segment ------------------------------------------------------------------------------------


def test_segment_signs_the_first_of_a_list_byte_for_byte() -> None:
    case = CASES["segment"]
    first = b'{"type":"track", "userId":1.50,"x":"\\u00e9\\/ [,]}"}'
    body = b" [ " + first + b' , {"type":"page"}]'
    signature = kit.mac("sha1", SECRET, first).hex()
    request = case.request(case.body(1))
    request = request._replace(body=body, headers=Lower({"X-Signature": signature.upper()}))
    case.sender().verify(request)
    assert len(case.sender().parse(request)) == 2
    for changed in (body.replace(b"track", b"trick"), body.replace(b"1.50", b"1.5"), body[3:]):
        assert refusal(case.sender(), request._replace(body=changed)) == "signature wrong"
    # what follows the first is proven by nothing, which is why it can be refused
    case.sender().verify(request._replace(body=body.replace(b"page", b"pige")))
    assert refusal(case.sender(lists="refuse"), request) == "a list of events"
    single = case.request(case.body(1))
    case.sender(lists="refuse").verify(single)


@pytest.mark.parametrize("body", [b"[", b"[]", b"[ ", b"[" * 100_000, b'["', b"[1" + b"0" * 9999])
def test_segment_a_list_with_nothing_to_sign(body: bytes) -> None:
    case = CASES["segment"]
    signature = kit.mac("sha1", SECRET, b"").hex()
    request = case.request(case.body(1))
    request = request._replace(body=body, headers=Lower({"X-Signature": signature}))
    assert refusal(case.sender(), request) == "signature wrong"


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("track", EventKind.tracked), ("page", EventKind.tracked), ("screen", EventKind.tracked),
        ("identify", EventKind.updated), ("group", EventKind.associated),
        ("alias", EventKind.merged), ("delete", EventKind.deleted), ("new", EventKind.other),
    ],
)  # fmt: skip
def test_segment_kinds(kind: str, known: EventKind) -> None:
    event = one("segment", kit.lean(kit.segment_event(1, type=kind)))
    assert (event.kind, event.platform_kind, event.object_type) == (known, kind, "user")


def test_segment_who_it_is_about() -> None:
    both = one("segment", kit.lean(kit.segment_event(1, anonymousId="anon")))
    assert (both.object_id, both.related) == ("user-1", (("user", "anon"),))
    anonymous = one("segment", b'{"type":"page","anonymousId":"anon"}')
    assert (anonymous.object_id, anonymous.related) == ("anon", ())
    group = one("segment", b'{"type":"group","userId":"u","groupId":"g","traits":{"plan":"x"}}')
    assert group.related == (("group", "g"),)
    assert json.loads(group.values) == {"plan": "x", "userId": "u", "groupId": "g"}
    for keys in (b'"previousId":"old","userId":"new"', b'"Previous ID":"old","User ID":"new"'):
        alias = one("segment", b'{"type":"alias",' + keys + b"}")
        assert (alias.object_id, alias.related) == ("new", (("user", "old"),))
    assert one("segment", b'{"type":"delete","userId":7}').object_id == "7"


def test_segment_time_is_the_corrected_one() -> None:
    told = {"timestamp": "2025-11-24T10:00:00Z", "sentAt": "2025-11-24T11:00:00Z"}
    event = one("segment", kit.lean(kit.segment_event(1, **told)))
    assert event.occurred_ms == 1763978400000
    again = one("segment", kit.lean(kit.segment_event(1, **(told | {"sentAt": "later"}))))
    assert again.content == event.content


# --- Klaviyo ------------------------------------------------------------------------------------


def test_klaviyo_signs_body_and_date() -> None:
    case = CASES["klaviyo"]
    body = case.body(1)
    for stamp in (formatdate(NOW_S, usegmt=True), str(NOW_S)):
        proof = kit.klaviyo_signed(body, SECRET, "", stamp)
        case.sender().verify(case.request(body)._replace(headers=Lower(proof.headers)))
    old = kit.klaviyo_signed(body, SECRET, "", formatdate(NOW_S - 400, usegmt=True))
    request = case.request(body)._replace(headers=Lower(old.headers))
    assert refusal(case.sender(), request) == "timestamp outside the window"
    case.sender(window_s=400).verify(request)


def test_klaviyo_the_webhooks_own_id_has_to_match() -> None:
    case = CASES["klaviyo"]
    request = case.request(case.body(2))
    headers = dict(request.headers)
    other = request._replace(headers=Lower(headers | {"klaviyo-webhook-id": "x"}))
    assert refusal(case.sender(), other) == "webhook id wrong"
    del headers["klaviyo-webhook-id"]
    case.sender().verify(request._replace(headers=Lower(headers)))


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("event:klaviyo.bounced_email", EventKind.bounced),
        ("event:klaviyo.opened_email", EventKind.opened),
        ("event:klaviyo.clicked_sms", EventKind.clicked),
        ("event:klaviyo.subscribed_to_email_marketing", EventKind.subscribed),
        ("event:klaviyo.unsubscribed_from_sms_marketing", EventKind.unsubscribed),
        ("event:klaviyo.marked_email_as_spam", EventKind.unsubscribed),
        ("event:klaviyo.received_email", EventKind.tracked),
        ("event:api.some_metric_of_ours", EventKind.other),
    ],
)
def test_klaviyo_kinds(topic: str, kind: EventKind) -> None:
    event = one("klaviyo", kit.klaviyo(kit.klaviyo_event(1, topic)))
    assert (event.kind, event.platform_kind) == (kind, topic)
    assert (event.object_type, event.object_id) == ("profile", "01H1")
    assert (event.occurred_ms, event.time_certain) == (1763999940000, True)
    assert json.loads(event.values) == {"Subject": "Hi"}


def test_klaviyo_events_are_apart_from_the_request_around_them() -> None:
    first = one("klaviyo", kit.klaviyo(kit.klaviyo_event(1)))
    again = kit.klaviyo(kit.klaviyo_event(1)).replace(str(NOW_S).encode(), b"1")
    assert one("klaviyo", again).content == first.content
    bare = one("klaviyo", b'{"data":[{"topic":"t","external_id":"1"}]}')
    assert (bare.object_id, bare.values, bare.time_certain) == ("", b"{}", False)


def test_klaviyo_one_broken_event_spares_the_others() -> None:
    good = json.dumps(kit.klaviyo_event(1)).encode()
    bad = b'{"topic":"a","x":"\\ud83d"}'
    first, wrong, topicless, last = parse(
        "klaviyo", b'{"data":[' + b",".join((good, bad, b"{}", good)) + b'],"meta":{}}'
    )
    assert isinstance(first, Event)
    assert isinstance(last, Event)
    assert (wrong.position, wrong.payload, wrong.reason) == (1, bad, "not a JSON object")
    assert (topicless.position, topicless.reason) == (2, "no kind of event")


# --- Customer.io, Intercom ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("opened", EventKind.opened), ("clicked", EventKind.clicked),
        ("bounced", EventKind.bounced), ("spammed", EventKind.unsubscribed),
        ("unsubscribed", EventKind.unsubscribed), ("subscribed", EventKind.subscribed),
        ("delivered", EventKind.tracked), ("novel", EventKind.other),
    ],
)  # fmt: skip
def test_customerio_kinds(metric: str, kind: EventKind) -> None:
    event = one("customerio", kit.customerio(metric=metric))
    assert (event.kind, event.platform_kind) == (kind, f"email.{metric}")
    assert (event.object_type, event.object_id) == ("customer", "42")
    assert json.loads(event.values)["email"] == "a@example.com"


def test_customerio_times_and_ids_of_either_form() -> None:
    number = one("customerio", kit.customerio(timestamp=NOW_S - 60))
    words = one("customerio", kit.customerio(timestamp=str(NOW_S - 60)))
    assert number.occurred_ms == words.occurred_ms == NOW_MS - 60_000
    sparse = one("customerio", kit.customerio(data={"identifiers": {"cio_id": "d9"}}))
    assert sparse.object_id == "d9"
    assert one("customerio", b'{"metric":"sent"}').object_id == ""


def test_customerio_repeats_may_come_late_where_that_is_said() -> None:
    case = CASES["customerio"]
    old = case.request(case.body(1), now_ms=NOW_MS + 3_600_000)
    assert refusal(case.sender(), old) == "timestamp outside the window"
    case.sender(window_s=604_800).verify(old)


def test_intercom_ping_checks_the_address_and_tells_of_nothing() -> None:
    case = CASES["intercom"]
    body = kit.intercom("ping", id=None, data={"item": {"type": "ping", "message": "hi"}})
    request = case.request(body)
    case.sender().verify(request)
    assert case.sender().parse(request) == []


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("contact.user.created", EventKind.created),
        ("contact.deleted", EventKind.deleted),
        ("contact.email.updated", EventKind.updated),
        ("contact.merged", EventKind.merged),
        ("contact.unsubscribed", EventKind.unsubscribed),
        ("company.contact.attached", EventKind.associated),
        ("contact.tag.created", EventKind.updated),
        ("event.created", EventKind.tracked),
        ("conversation.admin.replied", EventKind.other),
    ],
)
def test_intercom_kinds(topic: str, kind: EventKind) -> None:
    event = one("intercom", kit.intercom(topic))
    assert (event.kind, event.platform_kind) == (kind, topic)
    assert (event.object_type, event.object_id) == ("contact", "531ee472cce572a6ec000006")
    assert event.occurred_ms == NOW_MS - 5000


def test_intercom_a_repeat_differs_in_its_delivery() -> None:
    first = one("intercom", kit.intercom())
    again = one("intercom", kit.intercom(delivery_attempts=2, delivered_at=NOW_S))
    assert (again.identity, again.content) == (first.identity, first.content)
    assert one("intercom", kit.intercom(id="notif_2")).content != first.content


def test_intercom_a_tag_is_of_its_contact() -> None:
    item = {"type": "contact_tag", "contact": {"id": "c1"}, "tag": {"id": "t"}}
    event = one("intercom", kit.intercom("contact.tag.created", data={"item": item}))
    assert (event.object_type, event.object_id) == ("contact", "c1")


# --- Braze, Iterable, Pipedrive, Marketo, ActiveCampaign ------------------------------------------


@pytest.mark.parametrize(
    ("event_type", "properties", "kind"),
    [
        ("users.messages.email.Open", {}, EventKind.opened),
        ("users.messages.email.SoftBounce", {}, EventKind.bounced),
        ("users.messages.email.Unsubscribe", {}, EventKind.unsubscribed),
        ("users.messages.email.Send", {}, EventKind.tracked),
        ("users.behaviors.CustomEvent", {}, EventKind.tracked),
        ("users.behaviors.subscriptiongroup.StateChange", {"subscription_status": "Unsubscribed"},
         EventKind.unsubscribed),
        ("users.behaviors.subscription.GlobalStateChange", {"subscription_status": "Subscribed"},
         EventKind.subscribed),
        ("users.behaviors.subscription.GlobalStateChange", {}, EventKind.updated),
        ("users.something.New", {}, EventKind.other),
    ],
)  # fmt: skip
def test_braze_kinds(event_type: str, properties: dict[str, str], kind: EventKind) -> None:
    told = kit.braze_event(1, event_type) | {"properties": properties}
    event = one("braze", kit.braze(told))
    assert (event.kind, event.platform_kind) == (kind, event_type)
    assert (event.object_type, event.object_id) == ("user", "ext-1")
    assert event.occurred_ms == NOW_MS - 60_000


def test_braze_oddities_seen_in_the_wild() -> None:
    body = kit.braze(kit.braze_event(1), kit.braze_event(2))
    assert [p.object_id for p in parse("braze", b"[" + body + b", " + body + b"]")] == [
        "ext-1", "ext-2", "ext-1", "ext-2",
    ]  # fmt: skip
    assert parse("braze", b"null") == parse("braze", b' {"events":null}') == []
    assert parse("braze", b"\xef\xbb\xbf" + body)[1].object_id == "ext-2"
    assert one("braze", kit.braze({"event_type": "x", "user": {"user_id": 7}})).object_id == "7"
    (wrong,) = parse("braze", b'{"event":[]}')
    assert (wrong.position, wrong.payload) == (-1, b'{"event":[]}')


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("emailOpen", EventKind.opened), ("emailClick", EventKind.clicked),
        ("emailBounce", EventKind.bounced), ("emailComplaint", EventKind.unsubscribed),
        ("emailSubscribe", EventKind.subscribed), ("emailUnSubscribe", EventKind.unsubscribed),
        ("smsSend", EventKind.tracked), ("inAppOpen", EventKind.opened), ("x", EventKind.other),
    ],
)  # fmt: skip
def test_iterable_kinds(name: str, kind: EventKind) -> None:
    event = one("iterable", kit.iterable(name))
    assert (event.kind, event.platform_kind) == (kind, name)
    assert (event.object_type, event.object_id) == ("user", "a@example.com")
    assert (event.occurred_ms, event.time_certain) == (1763999940000, True)
    values = json.loads(event.values)
    assert values["email"] == "a@example.com"
    assert values["campaignId"] is None


def test_iterable_older_samples_and_users_by_id() -> None:
    event = one("iterable", b'{"eventTitle":"emailOpen","userId":"u","email":"e"}')
    assert (event.kind, event.object_id) == (EventKind.opened, "u")


@pytest.mark.parametrize("ids", [7, "7", "b1e2-uuid"])
def test_pipedrive_changes_creations_and_deletions(ids: Any) -> None:
    meta = json.loads(kit.pipedrive())["meta"] | {"entity_id": ids}
    changed = one("pipedrive", kit.pipedrive(meta=meta))
    assert (changed.kind, changed.platform_kind) == (EventKind.updated, "person.change")
    assert (changed.object_type, changed.object_id) == ("person", str(ids))
    assert changed.changed == ("name",)
    assert json.loads(changed.values)["name"] == "Ada"
    created = one("pipedrive", kit.pipedrive(meta=meta | {"action": "create"}, previous=None))
    assert (created.kind, created.changed) == (EventKind.created, ())
    gone = kit.pipedrive(meta=meta | {"action": "delete"}, data=None, previous={"id": 7, "a": 1})
    deleted = one("pipedrive", gone)
    assert (deleted.kind, deleted.changed) == (EventKind.deleted, ())
    assert json.loads(deleted.values) == {"id": 7, "a": 1}


def test_pipedrive_a_merge_is_told_of_the_person_who_remains() -> None:
    meta = json.loads(kit.pipedrive())["meta"] | {"action": "delete"}
    merged = one(
        "pipedrive", kit.pipedrive(meta=meta, data=None, previous={"id": 7, "merged_to_id": 9})
    )
    assert (merged.kind, merged.object_id) == (EventKind.merged, "9")
    assert merged.related == (("person", "7"),)


def test_pipedrive_repeats_and_the_older_version() -> None:
    meta = json.loads(kit.pipedrive())["meta"]
    first, again = (one("pipedrive", kit.pipedrive(meta=meta | {"attempt": n})) for n in (1, 2))
    assert again.content == first.content
    old = {"v": 1, "event": "added.deal", "current": {"id": 3}, "previous": None, "retry": 1,
           "meta": {"action": "added", "object": "deal", "id": 3, "timestamp": NOW_S}}  # fmt: skip
    event = one("pipedrive", json.dumps(old).encode())
    assert (event.kind, event.platform_kind) == (EventKind.created, "deal.added")
    assert (event.object_type, event.object_id) == ("deal", "3")


def test_marketo_whatever_the_template_says() -> None:
    event = one("marketo", kit.marketo())
    assert (event.kind, event.object_type, event.object_id) == (EventKind.updated, "lead", "318581")
    assert json.loads(event.values) == {"email": "a@example.com"}
    nested = one("marketo", b"id=7&a[b][c]=1&x.y=2", fields="a.b|x")
    assert json.loads(nested.values) == {"c": "1", "y": "2"}
    form = one("marketo", b"lead_id=7&event=campaign.unsubscribed&fields[email]=a%40x.io")
    assert (form.kind, form.object_id) == (EventKind.unsubscribed, "7")
    assert json.loads(form.values) == {"email": "a@x.io"}
    bare = one("marketo", b'{"person":{"key":"p"}}', lead="person.key", fields="person")
    assert (bare.platform_kind, bare.object_id, bare.time_certain) == ("updated", "p", False)
    broken = b'{"id": 7, "company": "5" Screens"}'
    assert parse("marketo", broken) == [Unparseable(0, broken, "not a JSON object")]


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("subscribe", EventKind.subscribed), ("unsubscribe", EventKind.unsubscribed),
        ("update", EventKind.updated), ("bounce", EventKind.bounced), ("open", EventKind.opened),
        ("click", EventKind.clicked), ("contact_tag_added", EventKind.updated),
        ("contact_add", EventKind.created), ("deal_note_add", EventKind.other),
    ],
)  # fmt: skip
def test_activecampaign_kinds(kind: str, known: EventKind) -> None:
    event = one("activecampaign", kit.activecampaign(kind))
    assert (event.kind, event.platform_kind) == (known, kind)
    assert (event.object_type, event.object_id, event.related) == ("contact", "42", ())
    assert (event.occurred_ms, event.time_certain) == (1763999940000, True)
    assert json.loads(event.values)["fields.39"] == "||red||blue||"


def test_activecampaign_deals_and_missing_ids() -> None:
    deal = one("activecampaign", kit.activecampaign("deal_add", **{"deal[id]": "9"}))
    assert (deal.object_type, deal.object_id) == ("deal", "9")
    assert deal.related == (("contact", "42"),)
    nobody = one("activecampaign", kit.activecampaign(**{"contact[id]": "-"}))
    assert (nobody.object_type, nobody.object_id) == ("contact", "")


# --- generic ------------------------------------------------------------------------------------


def test_standard_webhooks_as_the_specification_has_it() -> None:
    """The example of the specification's own reference libraries."""
    case = CASES["generic"]
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    target = "/hooks/generic"
    request = Request(
        target, HOST + target, "", Lower(headers), b'{"test": 2432232314}', 1614265330_000
    )
    for secret in ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"):
        sender = case.sender(secret)
        sender.verify(request)
        several = f"v1,bm9uZQ== v1a,x {headers['webhook-signature']}"
        sender.verify(request._replace(headers=Lower(headers | {"webhook-signature": several})))
        assert refusal(sender, request._replace(body=b'{"test": 2432232315}')) == "signature wrong"
        other = request._replace(headers=Lower(headers | {"webhook-id": "msg_other"}))
        assert refusal(sender, other) == "signature wrong"
        v2 = headers["webhook-signature"].replace("v1,", "v2,")
        other = request._replace(headers=Lower(headers | {"webhook-signature": v2}))
        assert refusal(sender, other) == "signature wrong"


def test_generic_events_as_standard_webhooks_advises() -> None:
    case = CASES["generic"]
    (event,) = case.events(kit.standard("user.subscribed", email="a@x.io"))
    assert (event.kind, event.platform_kind) == (EventKind.subscribed, "user.subscribed")
    assert (event.object_type, event.object_id) == ("user", "c-1")
    assert event.identity == ("msg_1",)
    assert json.loads(event.values) == {"id": "c-1", "email": "a@x.io"}
    assert event.occurred_ms == 1763999940500
    (other,) = case.events(kit.standard("ping"))
    assert (other.kind, other.object_type) == (EventKind.other, "ping")


DECLARED = {
    "proof": {
        "kind": "signature", "header": "X-Acme-Sig", "hash": "sha512", "encoding": "base64",
        "signed": "{method}\n{url}\n{timestamp}\n{header:X-Nonce}\n{body}",
        "timestamp": "X-Acme-Time", "window_s": 60, "prefix": "acme=",
    },
    "events": {
        "many": "batch.items", "id": ["$.delivery", "header:X-Nonce"],
        "kind": ["what", "how"], "kinds": {"member.joined": "created", "left": "deleted"},
        "checks": ["hello"],
        "objects": [{"type": "{what}", "id": "who.number|who.mail"}],
        "related": [{"type": "club", "id": "$.club.id"}],
        "time": "at|$.sent", "changed": "diff", "values": ["who", "$.club.name"],
        "repeats": ["tries", "who.seen"], "thin": False,
    },
}  # fmt: skip


def acme(*items: Any, **around: Any) -> bytes:
    told = {"delivery": 5, "club": {"id": 1, "name": "Chess"}, "batch": {"items": list(items)}}
    return json.dumps(told | around).encode()


def acme_request(body: bytes, secret: str = SECRET, now_ms: int = NOW_MS) -> Request:
    url = HOST + "/hooks/generic?x=1"
    signed = f"POST\n{url}\n{NOW_S}\nn1\n".encode() + body
    digest = base64.b64encode(kit.mac("sha512", secret, signed)).decode()
    headers = {"X-Acme-Sig": "acme=" + digest, "X-Acme-Time": str(NOW_S), "X-Nonce": "n1"}
    return Request("/hooks/generic?x=1", url, "", Lower(headers), body, now_ms)


def test_a_declared_sender() -> None:
    sender = CASES["generic"].sender(**DECLARED)
    who = {"number": 7, "mail": "a@x.io", "seen": 1}
    item = {"what": "member", "how": "joined", "who": who, "at": "2025-11-24T10:00:00Z", "tries": 1}
    left = {"what": "member", "how": "left", "who": {"mail": "b@x.io"}}
    body = acme(item, left, {"what": "hello"}, {})
    request = acme_request(body)
    sender.verify(request)
    joined, gone, nothing = sender.parse(request)
    assert (joined.kind, joined.platform_kind) == (EventKind.created, "member.joined")
    assert (joined.object_type, joined.object_id) == ("member", "7")
    assert (joined.identity, joined.related) == (("5", "n1"), (("club", "1"),))
    assert json.loads(joined.values) == who | {"name": "Chess"}
    assert (joined.occurred_ms, joined.thin) == (1763978400000, False)
    assert (gone.kind, gone.object_id) == (EventKind.deleted, "b@x.io")
    assert isinstance(nothing, Unparseable)
    again = item | {"tries": 2, "who": who | {"seen": 2}}
    assert sender.parse(acme_request(acme(again)))[0].content == joined.content
    assert refusal(sender, acme_request(body, "other")) == "signature wrong"
    assert refusal(sender, acme_request(body, now_ms=NOW_MS + 61_000)) == (
        "timestamp outside the window"
    )


def test_what_is_kept_depends_on_the_declaration() -> None:
    case = CASES["generic"]
    assert case.sender().spec.kept_headers == (
        "content-type", "user-agent", "webhook-signature", "webhook-timestamp", "webhook-id",
    )  # fmt: skip
    declared = case.sender(**DECLARED).spec
    assert declared.query_is_signed
    assert set(declared.kept_headers) >= {"x-acme-sig", "x-acme-time", "x-nonce"}
    shared = case.sender(proof={"kind": "shared_secret", "header": "X-Key"}).spec
    assert shared.secret_in_path
    assert "x-key" not in shared.kept_headers


def test_a_declared_shared_secret_and_form() -> None:
    case = CASES["generic"]
    sender = case.sender(
        proof={"kind": "shared_secret", "address": False, "header": "x-key"},
        events={"body": "form", "kind": ["e"], "objects": [{"type": "x", "id": "o.id"}],
                "values": ["o"]},
    )  # fmt: skip
    sender.verify(asked(case, {"X-Key": SECRET}))
    assert refusal(sender, asked(case, {}, rest=SECRET)) == "no secret"
    (event,) = sender.parse(asked(case, {})._replace(body=b"e=made&o[id]=5&o[n]=6"))
    assert (event.platform_kind, event.object_id) == ("made", "5")
    assert json.loads(event.values) == {"id": "5", "n": "6"}


@pytest.mark.parametrize(
    "options",
    [
        {"proof": "none"},
        {"proof": {"kind": "signature"}},
        {"proof": {"kind": "signature", "header": "x", "hash": "md5"}},
        {"events": {"objects": []}},
        {"events": {"objects": [{"type": "a", "id": "b"}], "kinds": {"a": "exploded"}}},
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CASES["generic"].sender(**options)


SENDERS = [CASES["generic"].sender(**DECLARED), *(case.sender() for case in CASES.values())]


@settings(deadline=None, max_examples=100)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["batch", "items", "what", "how", "who", "at", "diff", "type", "data",
                         "events", "meta", "topic", "user", "payload", "club", "name"]),
        inner, max_size=5),
    max_leaves=12,
))  # fmt: skip
def test_any_json_is_events_or_parked(value: Any) -> None:
    body = json.dumps(value).encode()
    for sender in SENDERS:
        for part in sender.parse(acme_request(body)):
            assert isinstance(part, Event | Unparseable)
            if isinstance(part, Event):
                assert isinstance(json.loads(part.values), dict)
                assert part.object_type

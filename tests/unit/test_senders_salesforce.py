"""Salesforce's outbound messages: who may send them, what is cut out, what becomes of each."""

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import EventKind
from tests.unit.senders_kit import CASES, NOW_MS, SECRET, SESSION, notification, soap
from webhook_gateway.senders import envelope
from webhook_gateway.senders.base import Event, Refused, Request, Unparseable
from webhook_gateway.senders.envelope import NOTIFICATIONS_MAX
from webhook_gateway.senders.salesforce import ACK, Sender, cut_session

CASE = CASES["salesforce"]


def refusal(request: Request, sender: Sender | None = None) -> str:
    with pytest.raises(Refused) as caught:
        (sender or CASE.sender()).verify(request)
    assert caught.value.status == 401
    return caught.value.reason


def parse(body: bytes) -> list[Any]:
    return CASE.sender().parse(CASE.request(body))


def one(**fields: Any) -> Event:
    (part,) = parse(soap(notification(1, **fields)))
    assert isinstance(part, Event)
    return part


# --- who sends ----------------------------------------------------------------------------------


def test_secret_address_and_organisation_are_both_asked_for() -> None:
    body = soap(notification(1))
    CASE.sender().verify(CASE.request(body))
    assert refusal(CASE.request(body, "other")) == "secret wrong"
    assert refusal(CASE.request(body, "")) == "secret wrong"
    other = soap(notification(1), organization="00D5g000004abcXEAQ")
    assert refusal(CASE.request(other)) == "organisation wrong"
    assert refusal(CASE.request(b"<x/>")) == "organisation wrong"


def test_the_secret_may_stand_in_the_query_and_be_rotated() -> None:
    body = soap(notification(1))
    sender = CASE.sender("new", "old")
    for secret in ("new", "old"):
        sender.verify(CASE.request(body, secret))
        target = f"/hooks/salesforce?key={secret}"
        sender.verify(Request(target, target, "", {}, body, NOW_MS))
    assert refusal(CASE.request(body, "older"), sender) == "secret wrong"


@pytest.mark.parametrize(
    ("given_id", "good"),
    [
        ("00D5g000004abcD", True),
        ("00D5g000004abcDEAQ", True),
        ("00D5g000004abcd", False),  # case counts
        ("00D5g000004abc", False),
        ("", False),
        (" 00D5g000004abcD ", True),
    ],
)
def test_an_organisation_has_a_short_and_a_long_id(given_id: str, good: bool) -> None:
    request = CASE.request(soap(organization=given_id))
    if good:
        CASE.sender().verify(request)
        CASE.sender(organization_id="00D5g000004abcD").verify(request)
    else:
        assert refusal(request) == "organisation wrong"


@pytest.mark.parametrize(
    "decoy",
    [
        "<!-- <OrganizationId>00D5g000004abcD</OrganizationId> -->",
        "<X><OrganizationId>00D5g000004abcD</OrganizationId></X>",
        "<Notification><OrganizationId>00D5g000004abcD</OrganizationId></Notification>",
    ],
)
def test_only_the_messages_own_organisation_counts(decoy: str) -> None:
    body = soap(organization="00D5g000004abcX").replace(
        b"<OrganizationId>", decoy.encode() + b"<OrganizationId>", 1
    )
    assert refusal(CASE.request(body)) == "organisation wrong"


# --- the live login -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        "<SessionId>{}</SessionId>",
        "<sf:SessionId>{}</sf:SessionId>",
        "<SessionId a=\">\" b='/>'>{}</SessionId >",
        "<SessionId\n>\n{}\n</SessionId>",
        "<SessionId><![CDATA[{}]]></SessionId>",
        "<SessionId><!-- -->{}<x/>{}</SessionId>",
        "<sessionid>{}</SESSIONID>",
        "<SessionId>{}",
        "<SessionId>{}</SessionIds>",
        '<SessionId a="{}',
        "<SessionId><SessionId>{}</SessionId>{}",
        "<SessionId>x</SessionId><SessionId>{}</SessionId>",
    ],
)
def test_the_session_is_cut_out_however_it_is_written(told: str) -> None:
    body = soap(session=None).replace(b"<EnterpriseUrl>", told.encode() + b"<EnterpriseUrl>")
    body = body.replace(b"{}", SESSION.encode())
    assert SESSION.encode() in body
    cut = cut_session(body)
    if told != "<SessionId><SessionId>{}</SessionId>{}":  # what follows the end is no session
        assert SESSION.encode() not in cut
    else:
        assert cut.count(SESSION.encode()) == 1
    assert cut.startswith(body[:300])


def test_nothing_else_is_cut_out() -> None:
    body = soap(notification(1, SessionId__c="x", MySessionId="y"), session="SID")
    assert cut_session(body) == body.replace(b"SID", b"")
    for untouched in (
        soap(notification(1), session=None),
        soap(session=None).replace(
            b"<EnterpriseUrl>", b'<SessionId xsi:nil="true"/><EnterpriseUrl>'
        ),
    ):
        assert cut_session(untouched) == untouched
    assert len(parse(cut_session(body))) == 1


def test_a_body_that_hides_its_text_is_not_kept() -> None:
    for encoding in ("utf-16", "utf-16-le", "utf-32-be"):
        assert cut_session(soap().decode().encode(encoding)) == b""


PIECES = [b"<SessionId>", b"</SessionId>", b"<SessionId a='>'>", b"<a:SessionId/>", b">", b"x"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))
def test_nothing_is_left_between_an_opening_tag_and_what_closes_it(body: bytes) -> None:
    cut = cut_session(body)
    assert cut_session(cut) == cut
    assert not re.search(rb"<SessionId(?: a='>')?>(?!</SessionId>)[^$]", cut)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*PIECES, b"<SessionId ", b'"', b"'"]), max_size=30).map(b"".join))
def test_cutting_a_broken_body_ends_and_adds_nothing(body: bytes) -> None:
    assert len(cut_session(body)) <= len(body)


# --- notifications ------------------------------------------------------------------------------


def test_every_notification_is_an_event_with_its_own_bytes() -> None:
    written = [notification(n, City=f"Ort & <{n}>") for n in range(100)]
    parts = parse(soap(*written))
    assert [p.payload.decode() for p in parts] == written
    assert [p.identity for p in parts] == [(f"04l5g00000{n:05}AAA",) for n in range(100)]
    assert json.loads(parts[7].values)["City"] == "Ort & <7>"
    assert {p.object_type for p in parts} == {"Lead"}
    assert all(p.thin for p in parts)


def test_zero_notifications_are_a_good_body() -> None:
    request = CASE.request(soap())
    CASE.sender().verify(request)
    assert CASE.sender().parse(request) == []
    assert b"<Ack>true</Ack>" in ACK


def test_only_the_messages_own_notifications_are_events() -> None:
    body = soap(notification(1, Note="<Notification/>")).replace(
        b"<soapenv:Body>", f"<Header>{notification(2)}</Header><soapenv:Body>".encode()
    )
    (part,) = parse(body)
    assert part.identity == ("04l5g0000000001AAA",)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b"\xef\xbb\xbf" + b,
        lambda b: b"\n" + b,
        lambda b: b"\xef\xbb\xbf\r\n" + b,
        lambda b: b[b.index(b"?>") + 2 :],  # no declaration
        lambda b: b.replace(b"UTF-8", b"ISO-8859-1"),  # it is UTF-8 all the same
        lambda b: re.sub(rb"<ActionId>.*?</ActionId>", b"", b),
        lambda b: b.replace(b"\n", b"\r\n"),
    ],
)
def test_oddities_seen_in_the_wild(spoil: Any) -> None:
    body = spoil(soap(notification(1, Name="Zoë"), notification(2)))
    request = CASE.request(body)
    CASE.sender().verify(request)
    first, second = CASE.sender().parse(request)
    assert json.loads(first.values)["Name"] == "Zoë"
    assert second.object_id == first.object_id.replace("00001", "00002")


def test_short_and_long_record_ids_name_one_record() -> None:
    short, long = one(Id="00Q5g00000AbCdE"), one(Id="00Q5g00000AbCdEEAV")
    assert short.object_id == "00Q5g00000AbCdEEAV"
    assert long.object_id == short.object_id
    assert one(Id="00q5g00000abcde").object_id != short.object_id
    assert one(Id="00D5g000004abcD").object_id == "00D5g000004abcDEAQ"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Company": None}, None),
        ({"Company": ""}, ""),
        ({"Company": "  "}, "  "),
        ({"Company": "a]]>&b"}, "a]]>&b"),
    ],
)
def test_values(fields: dict[str, Any], expected: str | None) -> None:
    assert json.loads(one(**fields).values)["Company"] == expected


def test_a_record_that_was_deleted_before_it_was_sent() -> None:
    part = one(Id=..., Email=...)
    assert (part.object_id, part.values, part.object_type) == ("", b"{}", "Lead")


def test_a_record_that_was_merged_names_the_one_that_remains() -> None:
    part = one(Id="00Q5g00000AbCdE", IsDeleted="true", MasterRecordId="00Q5g00000FgHiJ")
    assert (part.kind, part.object_id[:15]) == (EventKind.merged, "00Q5g00000FgHiJ")
    [(object_type, gone)] = part.related
    assert (object_type, gone[:15], len(gone)) == ("Lead", "00Q5g00000AbCdE", 18)


def test_custom_objects_and_names_in_another_case() -> None:
    (part,) = parse(soap(notification(1, "Thing__c", Id=..., ID="a015g00000AbCdEAAV")))
    assert (part.object_type, part.object_id) == ("Thing__c", "a015g00000AbCdEAAV")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, EventKind.updated),
        ({"IsDeleted": "true"}, EventKind.deleted),
        ({"IsDeleted": "false"}, EventKind.updated),
        (
            {
                "CreatedDate": "2025-11-24T10:00:00.000Z",
                "SystemModstamp": "2025-11-24T10:00:00.000Z",
            },
            EventKind.created,
        ),
        (
            {
                "CreatedDate": "2025-11-24T10:00:00.000Z",
                "SystemModstamp": "2025-11-24T10:00:01.000Z",
            },
            EventKind.updated,
        ),
    ],
)
def test_kinds(fields: dict[str, str], kind: EventKind) -> None:
    assert one(**fields).kind is kind


def test_the_time_is_the_records_where_it_is_sent() -> None:
    part = one(SystemModstamp="2025-11-24T10:00:00.000Z")
    assert (part.occurred_ms, part.time_certain) == (1763978400000, True)
    assert (one().occurred_ms, one().time_certain) == (NOW_MS, False)


def test_a_repeat_is_the_same_and_newer_values_are_not() -> None:
    first, again = one(), one()
    assert (first.identity, first.content) == (again.identity, again.content)
    assert one(Email="new@example.com").content != first.content
    (other,) = parse(soap(notification(2, Id="00Q5g0000000001")))
    (same_record,) = parse(soap(notification(1, Email="p2@example.com")))
    assert (other.identity, other.content) != (same_record.identity, same_record.content)


def test_a_notification_without_id_or_record_spares_the_others() -> None:
    no_id = notification(1).replace("<Id>04l5g0000000001AAA</Id>", "")
    empty = "<Notification/>"
    first, second, third = parse(soap(no_id, empty, notification(3)))
    assert (first.position, first.payload.decode()) == (0, no_id)
    assert (second.position, second.payload) == (1, b"<Notification/>")
    assert isinstance(third, Event)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda b: b[:-20], "not well-formed XML"),
        (lambda b: b.replace(b"?>", b'?><!DOCTYPE x [<!ENTITY e "e">]>'), "a document type"),
        (
            lambda b: b.replace(b"<Notification>", b"<Notification>" + b"<a>" * 99, 1),
            "nested too deep",
        ),
        (lambda b: b.replace(b"p1@", b"&lol;"), "not well-formed XML"),
        (lambda b: b.replace(b"p1@", b"\xff"), "not well-formed XML"),
    ],
)
def test_a_body_that_makes_no_sense_is_kept_whole(spoil: Any, reason: str) -> None:
    body = cut_session(spoil(soap(notification(1))))
    assert parse(body) == [Unparseable(-1, body, reason)]


def test_entities_grow_nothing() -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "' + b"a" * 99 + b'">'
    bomb += b"".join(b'<!ENTITY a%d "%b">' % (n, b"&a%d;" % (n - 1) * 20) for n in range(1, 12))
    bomb += b"]><l>&a11;</l>"
    assert parse(bomb) == [Unparseable(-1, bomb, "a document type")]
    assert refusal(CASE.request(bomb)) == "organisation wrong"


def test_the_number_of_notifications_is_bounded() -> None:
    body = cut_session(soap(*["<Notification/>"] * (NOTIFICATIONS_MAX + 1)))
    assert parse(body) == [Unparseable(-1, body, f"more than {NOTIFICATIONS_MAX} notifications")]


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(0, 2000), st.integers(0, 400))
def test_no_bytes_make_it_raise(inserted: bytes, at: int, dropped: int) -> None:
    body = soap(notification(1), notification(2))
    body = cut_session(body[:at] + inserted + body[at + dropped :])
    request = CASE.request(body)
    with suppress(Refused):
        CASE.sender().verify(request)
    parts = CASE.sender().parse(request)
    assert all(isinstance(part, Event | Unparseable) for part in parts)
    assert SECRET.encode() not in b"".join(part.payload for part in parts)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12).filter(
    lambda text: not set(text) & {"\ufffe", "\uffff"}
)
strange = st.sampled_from(
    ["", " ", "<!-- x -->", "<![CDATA[a<b]]>", "<?x Notification?>", "<Notification/>", "<n:x/>",
     "Notification", "<notifications/>", "&#65;&#x42;&apos;", "<sf:Id>7</sf:Id>",
     "<x:y:z>1</x:y:z>", "<a>" * 40 + "</a>" * 40,
     '<sf:Email xsi:nil="true"/>', "<sf:Owner><sf:Name>n</sf:Name></sf:Owner>", "</sObject>", "\r"]
)  # fmt: skip


@given(
    st.lists(st.dictionaries(st.sampled_from("ABCD"), texts), max_size=3),
    strange,
    st.floats(0, 1),
)
def test_a_plain_envelope_is_read_as_step_by_step(
    records: list[dict[str, str]], put: str, where: float
) -> None:
    body = soap(*(notification(n, **fields) for n, fields in enumerate(records))).decode()
    at = body.find(">", int(where * (len(body) - 1))) + 1
    spoilt = body[:at] + put + body[at:]
    for text in (body, spoilt, spoilt.partition("?>")[2]):
        read: list[Any] = []
        for way in (envelope.notifications, envelope.stepwise):
            try:
                found = way(text.encode())
            except envelope.Broken as error:
                read.append(str(error))
            else:
                read.append([[getattr(n, slot) for slot in n.__slots__] for n in found])
        assert read[0] == read[1]


def test_what_salesforce_writes_is_plain() -> None:
    assert envelope.plain(soap(notification(1), notification(2, Name="A & B"))) is not None

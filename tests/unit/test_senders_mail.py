"""Mailchimp and Mandrill: forms, their proofs, and what becomes of every kind of event."""

import base64
import hashlib
import json
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import EventKind
from tests.unit.senders_kit import (
    CASES,
    HOST,
    NOW_MS,
    NOW_S,
    SECRET,
    Lower,
    click,
    mac,
    mailchimp,
    mandrill,
)
from webhook_gateway.senders.base import Event, Refused, Request, Unparseable
from webhook_gateway.senders.forms import FIELDS_MAX, ODD_ESCAPES_MAX, fields, named

MAILCHIMP, MANDRILL = CASES["mailchimp"], CASES["mandrill"]


def refusal(sender: Any, request: Request, status: int = 401) -> str:
    with pytest.raises(Refused) as caught:
        sender.verify(request)
    assert caught.value.status == status
    return caught.value.reason


# --- forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"a=1&b=", {"a": "1", "b": ""}),
        (b"data%5Bmerges%5D%5BFNAME%5D=Zo%C3%AB", {"data.merges.FNAME": "Zoë"}),
        (b"data[merges][FNAME]=x", {"data.merges.FNAME": "x"}),
        (b"d[G][0][groups]=a%2C+b", {"d.G.0.groups": "a, b"}),
        (b"t[]=1&t[]=2&u=3", {"t.0": "1", "t.1": "2", "u": "3"}),
        (b"e=a%2Bb&f=a+b", {"e": "a+b", "f": "a b"}),
        (b"e=%ff&f=%zz", {"e": "\ufffd", "f": "%zz"}),
        (b"e=\xc3\xab", {"e": "ë"}),
        (b"a=1&a=2", {"a": "2"}),
        (b"a", {"a": ""}),
        (b"a]b[=1&[=2", {"a]b[": "1", "[": "2"}),
        (b"=&&a=%&b=%4&c=%%41&d=%=", {"": "", "a": "%", "b": "%4", "c": "%A", "d": "%="}),
        (b"a=%0d%0A+%\n%41", {"a": "\r\n %\nA"}),
    ],
)
def test_forms(body: bytes, expected: dict[str, str]) -> None:
    pairs = fields(body)
    assert pairs is not None
    assert named(pairs) == expected


def test_a_value_is_the_bytes_that_were_meant() -> None:
    assert fields(b"a=%ff%5C%2F+%2B") == [("a", b"\xff\\/ +")]


@settings(deadline=None)
@given(st.binary(max_size=60), st.lists(st.sampled_from([b"%", b"%4", b"%41", b"=", b"+", b"\n"])))
def test_escapes_are_decoded_as_the_standard_library_does(data: bytes, odd: list[bytes]) -> None:
    value = (b"".join(odd) + data).replace(b"&", b"%26")
    assert fields(b"a=" + value) == [("a", unquote_to_bytes(value.replace(b"+", b" ")))]


def test_a_form_is_bounded() -> None:
    assert len(fields(b"&".join([b"a=1"] * FIELDS_MAX)) or ()) == FIELDS_MAX
    assert fields(b"&".join([b"a=1"] * (FIELDS_MAX + 1))) is None
    assert fields(b"") is None
    assert fields(b"a=" + b"%zz" * ODD_ESCAPES_MAX) is not None
    assert fields(b"a=" + b"%zz" * (ODD_ESCAPES_MAX + 1)) is None
    assert fields(b"a=" + b"%41" * 50_000) == [("a", b"A" * 50_000)]


# --- Mailchimp ----------------------------------------------------------------------------------


def chimp(kind: str = "subscribe", **data: str) -> Event:
    (event,) = MAILCHIMP.events(mailchimp(kind, **data))
    return event


def chimp_asked(body: bytes, header: str | None = None, rest: str = "") -> Request:
    headers = {} if header is None else {"X-Mailchimp-Signature": header}
    target = f"/hooks/mailchimp/{rest}"
    return Request(target, HOST + target, rest, Lower(headers), body, NOW_MS)


def chimp_mac(body: bytes, stamp: int = NOW_S, secret: str = SECRET) -> str:
    return mac("sha256", secret, f"{stamp}.".encode(), body).hex()


def test_mailchimp_signs_or_has_a_secret_address() -> None:
    body = mailchimp()
    sender = MAILCHIMP.sender()
    sender.verify(chimp_asked(body, f"t={NOW_S},v1={chimp_mac(body)}"))
    sender.verify(chimp_asked(body, rest=SECRET))
    assert refusal(sender, chimp_asked(body, rest="wrong")) == "secret wrong"
    assert refusal(sender, chimp_asked(body)) == "no secret"
    # a signature that is there decides
    assert refusal(sender, chimp_asked(body, f"t={NOW_S},v1=00", SECRET)) == "signature wrong"


def test_mailchimp_may_be_held_to_one_of_them() -> None:
    body = mailchimp()
    strict = MAILCHIMP.sender(proof="signature")
    assert refusal(strict, chimp_asked(body, rest=SECRET)) == "no signature"
    by_address = MAILCHIMP.sender(proof="address")
    assert refusal(by_address, chimp_asked(body, f"t={NOW_S},v1={chimp_mac(body)}")) == "no secret"


def test_mailchimp_several_signatures_while_a_secret_is_rotated() -> None:
    body = mailchimp()
    old, new = chimp_mac(body, secret="old"), chimp_mac(body, secret="new")
    for secret in ("old", "new"):
        sender = MAILCHIMP.sender(secret)
        sender.verify(chimp_asked(body, f"t={NOW_S},v1={old},v1={new}"))
        sender.verify(chimp_asked(body, f"v1={new}, v1={old}, t={NOW_S}, v2=x"))
    many = ",".join(["v1=0"] * 99)
    assert refusal(MAILCHIMP.sender(), chimp_asked(body, f"t={NOW_S},{many}")) == (
        "too many signatures"
    )


@pytest.mark.parametrize(
    ("off_s", "reason"),
    [
        (-300, ""),
        (300, ""),
        (-301, "timestamp outside the window"),
        (301, "timestamp outside the window"),
    ],
)
def test_mailchimp_a_signature_is_good_for_five_minutes(off_s: int, reason: str) -> None:
    body, stamp = mailchimp(), NOW_S + off_s
    asked = chimp_asked(body, f"t={stamp},v1={chimp_mac(body, stamp)}")
    if reason:
        assert refusal(MAILCHIMP.sender(), asked) == reason
    else:
        MAILCHIMP.sender().verify(asked)


@pytest.mark.parametrize("stamp", ["", "now", "-1", "1e9", "٣", "9" * 30])
def test_mailchimp_a_signed_time_is_a_number(stamp: str) -> None:
    body = mailchimp()
    asked = chimp_asked(body, f"t={stamp},v1={chimp_mac(body)}")
    assert refusal(MAILCHIMP.sender(), asked) == "timestamp missing"


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("subscribe", EventKind.subscribed),
        ("unsubscribe", EventKind.unsubscribed),
        ("profile", EventKind.updated),
        ("upemail", EventKind.updated),
        ("cleaned", EventKind.bounced),
        ("campaign", EventKind.other),
        ("something_new", EventKind.other),
    ],
)
def test_mailchimp_kinds(kind: str, known: EventKind) -> None:
    event = chimp(kind)
    assert (event.kind, event.platform_kind) == (known, kind)


def test_mailchimp_a_member_is_its_address() -> None:
    event = chimp(email="Urist.McVankab@Freddies.com", **{"merges][EMAIL": "other@x.io"})
    expected = hashlib.md5(b"urist.mcvankab@freddies.com").hexdigest()
    assert (event.object_type, event.object_id) == ("member", expected)
    values = json.loads(event.values)
    assert values["email_address"] == "Urist.McVankab@Freddies.com"
    assert values["merge_fields.EMAIL"] == "other@x.io"
    assert values["unique_email_id"] == "8a25ff1d98"
    assert values["status"] == "subscribed"
    assert event.thin


def test_mailchimp_a_changed_address_names_both_members() -> None:
    event = chimp(
        "upemail", id="-", email="-", new_id="9", new_email="new@x.io", old_email="Old@x.io"
    )
    new, old = (hashlib.md5(a).hexdigest() for a in (b"new@x.io", b"old@x.io"))
    assert (event.object_id, event.related) == (new, (("member", old),))
    assert event.changed == ("email_address",)
    values = json.loads(event.values)
    assert values == {"email_address": "new@x.io", "unique_email_id": "9", "list_id": "a6b5da1054"}


def test_mailchimp_kinds_that_lack_much() -> None:
    cleaned = chimp("cleaned", id="-", reason="hard", campaign_id="4fjk2ma9xd")
    assert json.loads(cleaned.values)["status"] == "cleaned"
    assert cleaned.object_id
    nobody = chimp("subscribe", id="-", email="-", list_id="-")
    assert nobody.object_id == ""
    campaign = chimp("campaign", email="-", id="5aa2102003", subject="Hi", status="sent")
    assert (campaign.object_type, campaign.object_id) == ("campaign", "5aa2102003")


def test_mailchimp_plus_comma_and_nested_merges() -> None:
    body = mailchimp(
        email="a+b@x.io",
        **{"merges][INTERESTS": "A, B\\, C", "merges][ADDRESS][addr1": "Main St", "merges][X": ""},
    )
    (event,) = MAILCHIMP.events(body)
    values = json.loads(event.values)
    assert values["email_address"] == "a+b@x.io"
    assert values["merge_fields.INTERESTS"] == "A, B\\, C"
    assert values["merge_fields.ADDRESS.addr1"] == "Main St"
    assert values["merge_fields.X"] == ""
    assert event.payload == body


def test_mailchimp_a_time_without_a_zone_is_not_certain() -> None:
    event = chimp()
    assert (event.occurred_ms, event.time_certain) == (1763999940000, False)


def test_mailchimp_other_encodings_of_one_form_are_one_event() -> None:
    body = mailchimp(email="x@x.io")
    raw = body.replace(b"%5B", b"[").replace(b"%5D", b"]").replace(b"%40", b"@")
    shuffled = b"&".join(reversed(raw.split(b"&")))
    first, *others = (MAILCHIMP.events(b)[0] for b in (body, raw, shuffled))
    assert all((o.identity, o.content) == (first.identity, first.content) for o in others)
    assert chimp(email="y@x.io").content != first.content


@pytest.mark.parametrize("body", [b"", b"&&&", b"type=", b"data[email]=x", b"{}", b"\xff\xfe"])
def test_mailchimp_a_body_that_makes_no_sense(body: bytes) -> None:
    (part,) = MAILCHIMP.sender().parse(MAILCHIMP.request(body))
    assert isinstance(part, Unparseable)
    assert part.payload == body


# --- Mandrill -----------------------------------------------------------------------------------


def drill(event: Any) -> Any:
    (part,) = MANDRILL.sender().parse(MANDRILL.request(mandrill(event)))
    return part


def drill_signed(body: bytes, signed: bytes, secret: str = SECRET) -> Request:
    digest = base64.b64encode(mac("sha1", secret, signed)).decode()
    target = "/hooks/mandrill"
    headers = Lower({"X-Mandrill-Signature": digest})
    return Request(target, HOST + target, "", headers, body, NOW_MS)


def test_mandrill_signs_address_and_fields() -> None:
    sender = MANDRILL.sender("new", "old")
    body = b"mandrill_events=%5B%7B%22u%22%3A%22a%5C%2Fb+c%2Bd%22%7D%5D"
    signed = HOST.encode() + b'/hooks/mandrillmandrill_events[{"u":"a\\/b c+d"}]'
    for secret in ("new", "old"):
        sender.verify(drill_signed(body, signed, secret))
    assert refusal(sender, drill_signed(body, signed)) == "signature wrong"
    lost = signed.replace(b"\\/", b"/")
    assert refusal(sender, drill_signed(body, lost, "new")) == "signature wrong"
    hex_text = mac("sha1", "new", signed).hex()
    request = drill_signed(body, signed)._replace(headers=Lower({"x-mandrill-signature": hex_text}))
    assert refusal(sender, request) == "signature wrong"
    assert refusal(sender, request._replace(headers=Lower({}))) == "no signature"


def test_mandrill_several_fields_are_signed_in_order_of_their_names() -> None:
    body = b"b=2&mandrill_events=%5B%5D&a=1"
    sender = MANDRILL.sender()
    sender.verify(drill_signed(body, HOST.encode() + b"/hooks/mandrilla1b2mandrill_events[]"))
    asked = drill_signed(body, HOST.encode() + b"/hooks/mandrillb2mandrill_events[]a1")
    assert refusal(sender, asked) == "signature wrong"


def test_mandrill_an_address_typed_otherwise() -> None:
    body = mandrill(click(1))
    typed = "https://user:pass@hooks.example.com/hooks/mandrill?x=1/"
    request = MANDRILL.request(body)
    proof = MANDRILL.sign(body, SECRET, typed)
    request = request._replace(headers=Lower(proof.headers))
    MANDRILL.sender(address=typed).verify(request)
    assert refusal(MANDRILL.sender(), request) == "signature wrong"


def test_mandrill_checks_a_new_address_with_a_key_that_all_know() -> None:
    sender = MANDRILL.sender()
    empty = MANDRILL.request(mandrill(), "test-webhook")
    assert refusal(sender, empty, status=200) == "address check"
    forged = MANDRILL.request(mandrill(click(1)), "test-webhook")
    assert refusal(sender, forged) == "signature wrong"
    # the real key is good for nothing at all, too
    real = MANDRILL.request(mandrill())
    sender.verify(real)
    assert sender.parse(real) == []


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("send", EventKind.tracked),
        ("deferral", EventKind.tracked),
        ("delivered", EventKind.tracked),
        ("hard_bounce", EventKind.bounced),
        ("soft_bounce", EventKind.bounced),
        ("open", EventKind.opened),
        ("click", EventKind.clicked),
        ("spam", EventKind.unsubscribed),
        ("unsub", EventKind.unsubscribed),
        ("reject", EventKind.tracked),
        ("new", EventKind.other),
    ],
)
def test_mandrill_kinds(word: str, kind: EventKind) -> None:
    event = drill(click(1) | {"event": word})
    assert (event.kind, event.platform_kind) == (kind, word)
    assert (event.object_type, event.object_id) == ("message", "exampleaaaa1")
    assert (event.occurred_ms, event.time_certain) == ((NOW_S - 59) * 1000, True)


def test_mandrill_events_of_one_message_are_different_events() -> None:
    one = click(1)
    others = [one | {"event": "open"}, one | {"ts": one["ts"] + 1}, one | {"url": "http://b/"}]
    contents = {drill(e).content for e in (one, *others)}
    assert len(contents) == 4
    assert drill(dict(reversed(one.items()))).content == drill(one).content


def test_mandrill_list_changes_have_neither_event_nor_id() -> None:
    entry = {"reject": {"email": "a@x.io", "reason": "hard-bounce"}, "ts": NOW_S}
    event = drill({"type": "blacklist", "action": "add"} | entry)
    assert (event.object_type, event.object_id) == ("blacklist", "a@x.io")
    assert (event.kind, event.platform_kind) == (EventKind.created, "blacklist.add")
    assert json.loads(event.values)["reject.reason"] == "hard-bounce"
    gone = drill({"type": "whitelist", "action": "remove", "entry": {"email": "a@x.io"}})
    assert (gone.kind, gone.time_certain) == (EventKind.deleted, False)


def test_mandrill_inbound_and_old_events() -> None:
    headers = {"Message-Id": "<1@x>", "Received": ["a", "b"]}
    mail = {"event": "inbound", "ts": NOW_S, "msg": {"raw_msg": "x" * 999, "headers": headers}}
    event = drill(mail)
    assert (event.object_type, event.object_id) == ("inbound", "<1@x>")
    assert b"xxx" not in event.values
    assert json.loads(event.payload) == mail
    assert drill({"event": "inbound", "msg": {"headers": {"Message-Id": ["a"]}}}).object_id == ""
    old = click(1)
    del old["_id"]
    assert drill(old).object_id == "exampleaaaa1"
    assert drill({"event": "click", "msg": None, "_id": None}).object_id == ""


def test_mandrill_slashes_stay_escaped() -> None:
    event = drill(click(1))
    assert b'"http:\\/\\/example.com\\/"' in event.payload
    assert json.loads(event.values)["url"] == "http://example.com/"


def test_mandrill_one_bad_event_spares_the_batch() -> None:
    text = b'[{"event":"open","_id":"1"},{"event":7},"x",{"event":"op\\ud83den"},{"type":"t"}]'
    request = MANDRILL.request(urlencode({"mandrill_events": text}).encode())
    first, *wrong, last = MANDRILL.sender().parse(request)
    assert isinstance(first, Event)
    assert isinstance(last, Event)
    assert [(w.position, w.payload) for w in wrong] == [
        (1, b'{"event":7}'), (2, b'"x"'), (3, b'{"event":"op\\ud83den"}'),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [b"", b"x=1", b"mandrill_events=", b"mandrill_events={}", b"mandrill_events=[1",
     b"mandrill_events=[]&mandrill_events=[]"],
)  # fmt: skip
def test_mandrill_a_body_without_its_array(body: bytes) -> None:
    (part,) = MANDRILL.sender().parse(MANDRILL.request(body))
    assert isinstance(part, Unparseable)
    assert (part.position, part.payload) == (-1, body)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_them_raise(body: bytes) -> None:
    for case in (MAILCHIMP, MANDRILL):
        for inner in (body, b"type=" + body, b"mandrill_events=" + body):
            parts = case.sender().parse(case.request(inner))
            assert all(isinstance(part, Event | Unparseable) for part in parts)

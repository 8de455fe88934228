"""What platforms send, written down a second time and without the code under test: a body of any
number of events for each sender, and the proof that its platform would make for it."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode
from xml.sax.saxutils import escape, quoteattr

from pydantic import SecretStr

from webhook_gateway.senders import sender_type
from webhook_gateway.senders.base import Event, Request

__all__ = ["CASES", "HOST", "NOW_MS", "SECRET", "SESSION", "Case", "Proof", "soap"]

SECRET = "s3cret-of-the-account"
SESSION = "00D5g000004abcD!AQ4AQFb.a-live-login"
NOW_MS = 1_764_000_000_000
NOW_S = NOW_MS // 1000
HOST = "https://hooks.example.com"
ORGANIZATION = "00D5g000004abcDEAQ"


@dataclass(frozen=True)
class Proof:
    """What a sender adds to a body: headers, and the end of the address."""

    headers: Mapping[str, str] = field(default_factory=dict)
    rest: str = ""
    query: str = ""


@dataclass(frozen=True)
class Case:
    """One platform. `body(n)` holds n events, each another; `sign(body, secret, url)`."""

    platform: str
    body: Callable[[int], bytes]
    sign: Callable[[bytes, str, str], Proof]
    counts: tuple[int, ...] = (1,)
    """Numbers of events that one request of the platform may hold."""
    signs_body: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def sender(self, *secrets: str, **options: Any) -> Any:
        kind = sender_type(self.platform)
        made = kind.spec.options.model_validate({**self.options, **options})
        return kind(made, [SecretStr(s) for s in secrets or (SECRET,)])

    def request(self, body: bytes, secret: str = SECRET, now_ms: int = NOW_MS) -> Request:
        """As the platform makes it, and as the gateway hands it on."""
        target = f"/hooks/{self.platform}"
        proof = self.sign(body, secret, HOST + target)
        target += f"/{proof.rest}" if proof.rest else ""
        target += f"?{proof.query}" if proof.query else ""
        spec = sender_type(self.platform).spec
        kept = spec.cut(body) if spec.cut else body
        headers = Lower(proof.headers)
        return Request(target, HOST + target, proof.rest, headers, kept, now_ms)

    def events(self, body: bytes) -> list[Event]:
        parts = self.sender().parse(self.request(body))
        assert all(isinstance(part, Event) for part in parts), parts
        return parts


class Lower(dict[str, str]):
    """Headers by names in any case, as the server has them."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in given.items()})

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())


def mac(hash_name: str, secret: str, *signed: bytes) -> bytes:
    digest = hmac.new(secret.encode(), digestmod=getattr(hashlib, hash_name))
    for piece in signed:
        digest.update(piece)
    return digest.digest()


def in_path(body: bytes, secret: str, url: str) -> Proof:
    return Proof(rest=secret)


# --- Salesforce ---------------------------------------------------------------------------------


def soap(
    *notifications: str, organization: str = ORGANIZATION, session: str | None = SESSION
) -> bytes:
    told = "" if session is None else f"<SessionId>{session}</SessionId>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n <soapenv:Body>\n'
        '  <notifications xmlns="http://soap.sforce.com/2005/09/outbound">\n'
        f"   <OrganizationId>{organization}</OrganizationId>\n"
        f"   <ActionId>04k5g000000abcdAAA</ActionId>\n   {told}\n"
        "   <EnterpriseUrl>https://acme.my.salesforce.com/services/Soap/c/60.0</EnterpriseUrl>\n"
        f"   {''.join(notifications)}\n  </notifications>\n </soapenv:Body>\n</soapenv:Envelope>"
    ).encode()


def notification(number: int, sobject: str = "Lead", **fields: Any) -> str:
    fields = {"Id": f"00Q5g00000{number:05}", "Email": f"p{number}@example.com"} | fields
    inner = "".join(
        f'<sf:{n} xsi:nil="true"/>' if v is None else f"<sf:{n}>{escape(str(v))}</sf:{n}>"
        for n, v in fields.items()
        if v is not ...
    )
    return (
        f"<Notification><Id>04l5g00000{number:05}AAA</Id>"
        f"<sObject xsi:type={quoteattr('sf:' + sobject)} "
        f'xmlns:sf="urn:sobject.enterprise.soap.sforce.com">{inner}</sObject></Notification>'
    )


# --- Mailchimp, Mandrill ------------------------------------------------------------------------


def mailchimp(kind: str = "subscribe", **data: str) -> bytes:
    fields = {"id": "8a25ff1d98", "list_id": "a6b5da1054", "email": "api@mailchimp.com"}
    told = {"type": kind, "fired_at": "2025-11-24 15:59:00"}
    told |= {f"data[{name}]": value for name, value in (fields | data).items() if value != "-"}
    return urlencode(told).encode()


def mailchimp_signed(body: bytes, secret: str, url: str) -> Proof:
    digest = mac("sha256", secret, f"{NOW_S}.".encode(), body).hex()
    return Proof({"X-Mailchimp-Signature": f"t={NOW_S},v1={digest}"})


def click(number: int) -> dict[str, Any]:
    return {
        "event": "click", "ts": NOW_S - 60 + number % 30, "_id": f"exampleaaaa{number}",
        "url": "http://example.com/", "ip": "127.0.0.1", "location": None,
        "msg": {
            "ts": NOW_S - 90, "_id": f"exampleaaaa{number}", "subject": "Ünïcode + 50% off",
            "email": "a+b@example.com", "tags": ["x"], "metadata": [],
        },
    }  # fmt: skip


def mandrill(*events: Any) -> bytes:
    """With `\\/` as PHP writes a slash."""
    text = json.dumps(list(events), separators=(",", ":")).replace("/", "\\/")
    return urlencode({"mandrill_events": text}).encode()


def mandrill_signed(body: bytes, secret: str, url: str) -> Proof:
    fields = (field.partition(b"=") for field in body.split(b"&"))
    pairs = [[unquote_to_bytes(t.replace(b"+", b" ")) for t in (n, v)] for n, _, v in fields]
    signed = url.encode() + b"".join(n + v for n, v in sorted(pairs))
    digest = mac("sha1", secret, signed)
    return Proof({"X-Mandrill-Signature": base64.b64encode(digest).decode()})


# --- signed JSON --------------------------------------------------------------------------------


def lean(value: Any) -> bytes:
    """As JSON.stringify writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def hubspot_event(number: int) -> dict[str, Any]:
    return {
        "eventId": 100, "subscriptionId": 25, "portalId": 33, "appId": 11, "attemptNumber": 0,
        "occurredAt": NOW_MS - 1000, "subscriptionType": "contact.propertyChange",
        "objectId": number, "propertyName": "email", "propertyValue": "ada@example.com",
    }  # fmt: skip


def hubspot_signed(body: bytes, secret: str, url: str) -> Proof:
    digest = hashlib.sha256(secret.encode() + body).hexdigest()
    return Proof({"X-HubSpot-Signature": digest, "X-HubSpot-Signature-Version": "v1"})


def segment_event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "version": 1, "type": "track", "messageId": f"ajs-{number}", "userId": f"user-{number}",
        "event": "Bought ∞", "properties": {"revenue": 13.5},
        "timestamp": "2025-11-24T15:59:00.123Z",
    } | fields  # fmt: skip


def segment(n: int) -> bytes:
    events = [segment_event(number) for number in range(n)]
    return lean(events[0] if n == 1 else events)


def segment_signed(body: bytes, secret: str, url: str) -> Proof:
    """Of a list the first event alone."""
    signed = lean(json.loads(body)[0]) if body[:1] == b"[" and body != b"[]" else body
    return Proof({"X-Signature": mac("sha1", secret, signed).hex()})


WEBHOOK_ID = "a8b890458b4bbfaa26d961471b83c101d6de23bd826e7e5173a15310985ec3cb"


def klaviyo_event(number: int, topic: str = "event:klaviyo.opened_email") -> dict[str, Any]:
    attributes = {"datetime": "2025-11-24T15:59:00+00:00", "event_properties": {"Subject": "Hi"}}
    profile = {"data": {"type": "profile", "id": f"01H{number}"}}
    event = {"type": "event", "attributes": attributes, "relationships": {"profile": profile}}
    return {"topic": topic, "external_id": f"4L3cwQae{number}", "payload": {"data": event}}


def klaviyo(*events: Any) -> bytes:
    meta = {"klaviyo_account_id": "AbCdEf", "klaviyo_webhook_id": WEBHOOK_ID, "timestamp": NOW_S}
    return json.dumps({"data": list(events), "meta": meta}).encode()


def klaviyo_signed(body: bytes, secret: str, url: str, stamp: str = "") -> Proof:
    stamp = stamp or formatdate(NOW_S, usegmt=True)
    return Proof(
        {
            "Klaviyo-Signature": mac("sha256", secret, body, stamp.encode()).hex(),
            "Klaviyo-Timestamp": stamp,
            "Klaviyo-Webhook-Id": WEBHOOK_ID,
        }
    )


def customerio(**fields: Any) -> bytes:
    data = {
        "customer_id": "42", "identifiers": {"id": "42", "email": "a@example.com", "cio_id": "d9"},
        "delivery_id": "RPILAgUBcRhIBqSfeiIwdIYJKxTY", "subject": "hello",
    }  # fmt: skip
    told = {"event_id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ", "object_type": "email", "metric": "opened",
            "timestamp": NOW_S - 60, "data": data}  # fmt: skip
    return json.dumps(told | fields).encode()


def customerio_signed(body: bytes, secret: str, url: str, stamp: int = NOW_S) -> Proof:
    digest = mac("sha256", secret, f"v0:{stamp}:".encode(), body).hex()
    return Proof({"X-CIO-Signature": digest, "X-CIO-Timestamp": str(stamp)})


def intercom(topic: str = "contact.user.updated", **fields: Any) -> bytes:
    item = {"type": "contact", "id": "531ee472cce572a6ec000006", "email": "a@example.com"}
    told = {"type": "notification_event", "id": "notif_1", "topic": topic, "app_id": "a86dr8yl",
            "data": {"type": "notification_event_data", "item": item}, "delivery_attempts": 1,
            "delivered_at": 0, "created_at": NOW_S - 5}  # fmt: skip
    return json.dumps(told | fields).encode()


def intercom_signed(body: bytes, secret: str, url: str) -> Proof:
    return Proof({"X-Hub-Signature": "sha1=" + mac("sha1", secret, body).hex()})


def standard(kind: str = "contact.created", **data: Any) -> bytes:
    told = {"type": kind, "timestamp": "2025-11-24T15:59:00.5Z", "data": {"id": "c-1"} | data}
    return json.dumps(told).encode()


def standard_signed(
    body: bytes, secret: str, url: str, stamp: int = NOW_S, message_id: str = "msg_1"
) -> Proof:
    """Standard Webhooks: the secret is base64, with or without its prefix."""
    key = secret.removeprefix("whsec_").encode()
    with suppress(binascii.Error):
        key = base64.b64decode(key, validate=True)
    signed = f"{message_id}.{stamp}.".encode() + body
    digest = base64.b64encode(hmac.new(key, signed, "sha256").digest()).decode()
    return Proof(
        {
            "webhook-id": message_id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": f"v1,{digest}",
        }
    )


# --- a secret that comes along ------------------------------------------------------------------


def bearer(body: bytes, secret: str, url: str) -> Proof:
    return Proof({"Authorization": f"Bearer {secret}"})


def basic(body: bytes, secret: str, url: str) -> Proof:
    pair = base64.b64encode(f"someone:{secret}".encode()).decode()
    return Proof({"Authorization": f"Basic {pair}"})


def bare(body: bytes, secret: str, url: str) -> Proof:
    return Proof({"Authorization": secret})


def braze_event(number: int, event_type: str = "users.messages.email.Open") -> dict[str, Any]:
    user = {"user_id": f"u{number}", "external_user_id": f"ext-{number}"}
    properties = {"campaign_id": "c1", "email_address": "a@example.com"}
    return {"event_type": event_type, "id": f"a1b2-{number}", "time": NOW_S - 60, "user": user,
            "properties": properties}  # fmt: skip


def braze(*events: Any) -> bytes:
    return json.dumps({"events": list(events)}).encode()


def iterable(kind: str = "emailOpen", **fields: Any) -> bytes:
    data = {"messageId": "m1", "createdAt": "2025-11-24 15:59:00 +00:00", "campaignId": None,
            "emailListIds": []}  # fmt: skip
    told = {"email": "a@example.com", "eventName": kind, "dataFields": data}
    return json.dumps(told | fields).encode()


def pipedrive(**fields: Any) -> bytes:
    meta = {
        "action": "change", "entity": "person", "entity_id": 7, "id": "6f3b", "attempt": 1,
        "timestamp": "2025-11-24T15:59:00.000Z", "version": "2.0", "correlation_id": "c",
    }  # fmt: skip
    data = {"id": 7, "name": "Ada", "emails": [{"value": "a@example.com"}]}
    return json.dumps({"meta": meta, "data": data, "previous": {"name": "A."}} | fields).encode()


def marketo(**fields: Any) -> bytes:
    told = {"id": 318581, "event": "updated", "campaign": 1001, "time": "2025-11-24T15:59:00Z",
            "fields": {"email": "a@example.com"}}  # fmt: skip
    return json.dumps(told | fields).encode()


def activecampaign(kind: str = "update", **fields: str) -> bytes:
    told = {
        "type": kind, "date_time": "2025-11-24T09:59:00-06:00", "initiated_by": "admin",
        "initiated_from": "admin", "list": "0", "contact[id]": "42",
        "contact[email]": "a@example.com", "contact[fields][39]": "||red||blue||",
    }  # fmt: skip
    return urlencode({n: v for n, v in (told | fields).items() if v != "-"}).encode()


CASES: dict[str, Case] = {
    case.platform: case
    for case in (
        Case(
            "hubspot",
            lambda n: lean(list(map(hubspot_event, range(n)))),
            hubspot_signed,
            (0, 1, 100),
        ),
        Case(
            "salesforce",
            lambda n: soap(*map(notification, range(n))),
            in_path,
            (0, 1, 2, 100),
            signs_body=False,
            options={"organization_id": ORGANIZATION},
        ),
        Case("mailchimp", lambda n: mailchimp(email="x@example.com"), mailchimp_signed),
        Case("mandrill", lambda n: mandrill(*map(click, range(n))), mandrill_signed, (0, 1, 900)),
        Case("segment", segment, segment_signed, (0, 1, 2, 1000)),
        Case(
            "klaviyo", lambda n: klaviyo(*map(klaviyo_event, range(n))), klaviyo_signed, (0, 1, 50)
        ),
        Case("customerio", lambda n: customerio(), customerio_signed),
        Case("intercom", lambda n: intercom(), intercom_signed),
        Case(
            "generic", lambda n: standard(), standard_signed, options={"proof": "standard_webhooks"}
        ),
        Case(
            "braze",
            lambda n: braze(*map(braze_event, range(n))),
            bearer,
            (0, 1, 200),
            signs_body=False,
        ),
        Case("iterable", lambda n: iterable(), bare, signs_body=False),
        Case("pipedrive", lambda n: pipedrive(), basic, signs_body=False),
        Case("marketo", lambda n: marketo(), bearer, signs_body=False),
        Case("activecampaign", lambda n: activecampaign(), in_path, signs_body=False),
    )
}

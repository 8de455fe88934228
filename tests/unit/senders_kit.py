"""What platforms send, written down a second time and without the code under test: a body of any
number of events for each sender, and the proof that its platform would make for it."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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


CASES: dict[str, Case] = {
    case.platform: case
    for case in (
        Case(
            "salesforce",
            lambda n: soap(*map(notification, range(n))),
            in_path,
            (0, 1, 2, 100),
            signs_body=False,
            options={"organization_id": ORGANIZATION},
        ),
        Case("mailchimp", lambda n: mailchimp(email="x@example.com"), mailchimp_signed),
        Case(
            "mandrill", lambda n: mandrill(*map(click, range(n))), mandrill_signed, (0, 1, 7, 900)
        ),
    )
}

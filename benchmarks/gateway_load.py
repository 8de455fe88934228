"""What the gateway's benchmark sends: workloads as bytes on the wire, and a closed-loop generator.

Every request is signed as the platform signs it, and nothing in it is shared between requests but
what is in life: ids, keys and bodies differ.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

__all__ = [
    "ORGANIZATION",
    "PORTAL",
    "PUBLIC_URL",
    "SECRET",
    "WORKLOADS",
    "Load",
    "Workload",
    "run",
]

SECRET = "benchmark-secret"
PUBLIC_URL = "https://hooks.example.com"
PORTAL = "33"
ORGANIZATION = "00D5g000004XyZaEAK"

ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n <soapenv:Body>\n'
    '  <notifications xmlns="http://soap.sforce.com/2005/09/outbound">\n'
    f"   <OrganizationId>{ORGANIZATION}</OrganizationId>\n"
    "   <ActionId>04k5g000000abcdAAA</ActionId>\n   <SessionId>00D!a live login</SessionId>\n"
    "   <EnterpriseUrl>https://acme.my.example.com/services/Soap/c/60.0</EnterpriseUrl>\n"
    "%s  </notifications>\n </soapenv:Body>\n</soapenv:Envelope>"
)


def event(number: int, value: str) -> dict[str, object]:
    return {
        "eventId": 3_816_279_340 + number,
        "subscriptionId": 25,
        "portalId": int(PORTAL),
        "appId": 1_160_452,
        "occurredAt": int(time.time() * 1000),
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0,
        "objectId": 1_246_965 + number,
        "changeSource": "CRM_UI",
        "sourceId": "userId:12345",
        "propertyName": "lifecyclestage",
        "propertyValue": value,
    }


def one_event(number: int) -> bytes:
    return json.dumps([event(number, "x" * 290 + " Müller")]).encode()


def hundred_events(number: int) -> bytes:
    events = [event(n, f"Müller {n:08}") for n in range(number * 100, number * 100 + 100)]
    return json.dumps(events).encode()


def notification(number: int, at: str) -> str:
    fields = {
        "Id": f"00Q5g00000{number:05}EAA",
        "Company": f"Müller & Söhne {number} GmbH".replace("&", "&amp;"),
        "CreatedDate": "2026-01-15T08:30:00.000Z",
        "Email": f"person{number}@example.com",
        "FirstName": "Ann-Kathrin",
        "IsDeleted": "false",
        "LastName": f"O'Neill {number}",
        "LeadSource": "Web",
        "Phone": "+49 30 1234567",
        "Status": "Working - Contacted",
        "SystemModstamp": at,
        "Title": "Head of Marketing",
    }
    inner = "".join(f"      <sf:{name}>{value}</sf:{name}>\n" for name, value in fields.items())
    return (
        f"   <Notification>\n    <Id>04l5g00000{number:05}AAA</Id>\n"
        '    <sObject xsi:type="sf:Lead" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">\n'
        f"{inner}    </sObject>\n   </Notification>\n"
    )


def twenty_notifications(number: int) -> bytes:
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    first = number * 20
    return (ENVELOPE % "".join(notification(n, at) for n in range(first, first + 20))).encode()


@dataclass(frozen=True)
class Workload:
    """`variants`: different requests, sent in turn."""

    about: str
    connection: str
    body: Callable[[int], bytes]
    events: int
    variants: int

    def request(self, number: int, trace: str = "") -> bytes:
        body = self.body(number)
        extra = f"traceparent: {trace}\r\n" if trace else ""
        if self.connection == "hubspot":
            path, kind = "/hooks/hubspot", "application/json"
            stamp = str(int(time.time() * 1000))
            text = f"POST{PUBLIC_URL}{path}".encode() + body + stamp.encode()
            proof = base64.b64encode(hmac.digest(SECRET.encode(), text, hashlib.sha256)).decode()
            extra += f"X-HubSpot-Signature-v3: {proof}\r\nX-HubSpot-Request-Timestamp: {stamp}\r\n"
        else:
            path, kind = f"/hooks/salesforce/{SECRET}", "text/xml; charset=utf-8"
            extra += 'SOAPAction: ""\r\n'
        head = (
            f"POST {path} HTTP/1.1\r\nHost: hooks.example.com\r\nUser-Agent: benchmark\r\n"
            f"Content-Type: {kind}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def requests(self, first: int = 0) -> list[bytes]:
        return [self.request(first + n) for n in range(self.variants)]


WORKLOADS = {
    # More than a gateway remembers: none is a repeat that it has seen.
    "W1": Workload("one HubSpot event", "hubspot", one_event, 1, 20_000),
    "W2": Workload("an array of 100 HubSpot events", "hubspot", hundred_events, 100, 500),
    "W3": Workload("an envelope of 20 notifications", "salesforce", twenty_notifications, 20, 500),
}


class Client(asyncio.Protocol):
    """One keep-alive connection: the next request as soon as the answer is there."""

    def __init__(self, load: "Load") -> None:
        self.load, self.sent_s, self.answer = load, 0.0, b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # pyright: ignore[reportAttributeAccessIssue]
        self.send()

    def send(self) -> None:
        self.sent_s = time.perf_counter()
        self.transport.write(self.load.next())

    def data_received(self, data: bytes) -> None:
        if self.answer:
            data = self.answer + data
        if not is_whole(data):
            self.answer = data
            return
        self.answer = b""
        self.load.answered(data.startswith(b"HTTP/1.1 200 "), time.perf_counter() - self.sent_s)
        if self.load.running:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.lost()


def is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return len(body) >= (int(rest.split(b"\r\n", 1)[0]) if found else 0)


@dataclass
class Load:
    """The generator of one round: sends until `running` is False, or all of `sent_max` is sent."""

    requests: Sequence[bytes]
    connections: int
    sent_max: int = 1 << 62
    running: bool = True
    sent: int = 0
    failed: int = 0
    took_s: list[float] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def next(self) -> bytes:
        self.sent += 1
        self.running = self.running and self.sent + self.connections <= self.sent_max
        return self.requests[self.sent % len(self.requests)]

    def answered(self, good: bool, took_s: float) -> None:
        self.failed += not good
        self.took_s.append(took_s)

    def lost(self) -> None:
        self.connections -= 1
        if not self.connections:
            self.done.set()


async def run(
    requests: Sequence[bytes], port: int, connections: int, seconds: float, sent_max: int = 1 << 62
) -> Load:
    """For so long, or until about `sent_max` are sent."""
    loop = asyncio.get_running_loop()
    load = Load(requests, connections, sent_max)
    for _ in range(connections):
        await loop.create_connection(lambda: Client(load), "127.0.0.1", port)
    try:
        await asyncio.wait_for(load.done.wait(), seconds)
    except TimeoutError:
        load.running = False
        await asyncio.wait_for(load.done.wait(), 30)
    return load

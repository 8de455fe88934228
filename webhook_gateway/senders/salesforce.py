"""Salesforce: outbound messages of one organisation.

Body     SOAP 1.1, `notifications` with 1 to 100 `Notification`, each with an id and one record;
         Metadata page "Outbound messages: notifications" (API releases 194 and 246)
Answer   200 with an Ack document of `true`, within 60 s; anything else is sent again for 24 h
Proof    none: the organisation's id in the body and a secret in the address
Repeats  have the notification's id; the record may be newer then: another event, with the same id
Traps    fields that are empty are left out, so a record is never known whole; order is not
         promised; SessionId is a live login: it is cut out before anything sees the body; a byte
         order mark or line break may come first; no notification at all is a good body
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

from pydantic import BaseModel, Field, SecretStr

from schemas.events import EventKind
from webhook_gateway.senders.base import (
    Event,
    Part,
    Refused,
    Request,
    SenderSpec,
    Unparseable,
    matches,
)
from webhook_gateway.senders.envelope import Broken, Notification, notifications, organization
from webhook_gateway.senders.proofs import url_secrets
from webhook_gateway.senders.reading import canonical, when

ID_CHARACTERS = 15  # the same id comes with 15 characters or 18; the last three are a check sum

ACK = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    b'<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack>'
    b"</notificationsResponse></soapenv:Body></soapenv:Envelope>"
)

SESSIONS_MAX = 10_000
PREFIX_MAX = 80  # of an element's name
NAME = b"sessionid"
# Possessive: no input makes a search go back and try again.
OPENING = re.compile(rb"<(?:[^\s<>/:\"']++:)?sessionid(?=[\s>/])")
ATTRIBUTES = re.compile(rb"""(?:[^<>"']++|"[^"]*+"|'[^']*+')*+>""")
CLOSING = re.compile(rb"</(?:[^\s<>/:\"']++:)?sessionid\s*+>")

CHECK_SUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


class SalesforceWebhooks(BaseModel, frozen=True, extra="forbid"):
    """What an operator says about outbound messages. The secret is the end of the address."""

    organization_id: str = Field(
        description="Id of the organisation, 15 or 18 characters; `env:NAME` is read at start. "
        "A refreshed sandbox has a new one.",
        pattern=r"^([A-Za-z0-9]{15}([A-Za-z0-9]{3})?|(env|file):.+)$",
    )


def cut_session(body: bytes) -> bytes:
    """Without the text of any SessionId: from its opening tag to its closing one, or to the end of
    a body that is broken. A body in an encoding that hides it is not kept at all, nor is one that
    has more of them than anybody sends: anybody may send one."""
    low = body.lower()
    if b"\0" in body or low.count(NAME) > SESSIONS_MAX:  # UTF-16; Salesforce sends UTF-8
        return b""
    kept: list[bytes] = []
    at, inside = 0, False  # what is kept goes on from here; in a SessionId that began before
    end = 0
    while (name := low.find(NAME, end)) >= 0:
        end = name + len(NAME)
        start = low.rfind(b"<", max(at, name - PREFIX_MAX), name)
        if start < 0:
            continue
        if inside:
            if CLOSING.match(low, start):
                at, inside = start, False
        elif (opening := OPENING.match(low, start)) and opening.end() == end:
            tag = ATTRIBUTES.match(low, end)
            if tag is None:
                return b"".join([*kept, body[at:end]])
            if not tag[0].endswith(b"/>"):
                kept.append(body[at : tag.end()])
                at, inside = tag.end(), True
    return b"".join([*kept, b"" if inside else body[at:]]) if kept else body


class Sender:
    """One organisation's outbound messages."""

    spec: ClassVar[SenderSpec] = SenderSpec(
        platform="salesforce",
        options=SalesforceWebhooks,
        body_bytes_max=16 * 1024 * 1024,  # 100 records of a few long text areas
        answer_within_s=60.0,
        kept_headers=("content-type", "soapaction", "user-agent"),
        secret_in_path=True,
        answer=ACK,
        answer_type="text/xml; charset=utf-8",
        cut=cut_session,
    )

    def __init__(self, options: SalesforceWebhooks, secrets: Sequence[SecretStr]) -> None:
        self.options = options
        self._organization = options.organization_id[:ID_CHARACTERS].encode()
        self._secrets = tuple(s.get_secret_value().encode() for s in secrets)

    def verify(self, request: Request) -> None:
        good = False
        for given in url_secrets(request):
            good |= matches(given, self._secrets)
        if not good:
            raise Refused(401, "secret wrong")
        found = organization(request.body)
        if not matches(found[:ID_CHARACTERS], (self._organization,)):
            raise Refused(401, "organisation wrong")

    def parse(self, request: Request) -> list[Part]:
        try:
            found = notifications(request.body)
        except Broken as error:
            return [Unparseable(-1, request.body, str(error))]
        return [_part(n, f, request.received_ms) for n, f in enumerate(found)]


READ = frozenset({
    "id", "systemmodstamp", "lastmodifieddate", "createddate", "isdeleted", "masterrecordid",
})  # fmt: skip


@lru_cache(maxsize=256)  # the records of one kind have the same fields
def _known(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The fields that mean something to us, in lower case and as they are: seen in either."""
    return tuple((name.lower(), name) for name in names if name.lower() in READ)


def _part(position: int, found: Notification, received_ms: int) -> Part:
    if not found.notification_id or not found.object_type:
        return Unparseable(position, found.payload, "a notification without id or record")
    fields = found.fields
    values = canonical(fields)
    known = {low: fields[name] for low, name in _known(tuple(fields))}
    stamp = known.get("systemmodstamp") or known.get("lastmodifieddate")
    occurred_ms, certain = when(stamp, received_ms)
    object_id, master = _long_id(known.get("id") or ""), _long_id(known.get("masterrecordid") or "")
    kind = _kind(known)
    merged = kind is EventKind.merged
    return Event(
        (found.notification_id,),
        found.object_type.encode() + values,
        found.object_type,
        master if merged else object_id,
        kind,
        "outbound message",
        occurred_ms,
        certain,
        (),
        ((found.object_type, object_id),) if merged else (),
        True,  # what is empty is left out, and what nobody has chosen to send
        values,
        found.payload,
    )


def _long_id(record_id: str) -> str:
    """The form of 18 characters, which is what a read gives; the short one names the same record.

    Five characters make one of the check sum: which of them are capitals.
    """
    if len(record_id) != ID_CHARACTERS or not record_id.isascii():
        return record_id
    fives = (record_id[n : n + 5] for n in (0, 5, 10))
    return record_id + "".join(
        CHECK_SUM[sum(c.isupper() << n for n, c in enumerate(five))] for five in fives
    )


def _kind(fields: dict[str, str | None]) -> EventKind:
    """A message says that a rule fired, not why; the record tells some of it, where it is asked."""
    if fields.get("isdeleted") == "true":
        # of a merge: the record that is gone names the one that remains
        return EventKind.merged if fields.get("masterrecordid") else EventKind.deleted
    created = fields.get("createddate")
    if created and created == (fields.get("systemmodstamp") or fields.get("lastmodifieddate")):
        return EventKind.created
    return EventKind.updated

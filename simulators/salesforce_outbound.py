"""Outbound messages of the simulated organisation, as a rule on one type of record sends them.

As the Metadata page "Outbound messages: notifications" says: SOAP 1.1, up to 100 notifications a
message, each with an id of its own that a repeat keeps; a record is told as it stands when the
message leaves; fields that are empty are left out; what is not answered is sent again for 24 hours.

The rule fires at each save, also by API, and also if nothing has changed. Nothing is signed: a
secret stands at the end of the address. Options of the target: `object` (default Lead), `fields`
(those of the message, beside Id and SystemModstamp, which are told always).
"""

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from simulators.salesforce_answers import shape
from simulators.store import Obj
from simulators.webhooks import Event, Sender, Signed, Target

if TYPE_CHECKING:
    from simulators.salesforce import Salesforce

PATH = "/services/data/v59.0"
HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
    ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
    '<notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
    "<OrganizationId>{organisation}</OrganizationId><ActionId>04k000000000001AAA</ActionId>"
    '<SessionId xsi:nil="true"/>'
)
NOTIFICATION = (
    '<Notification><Id>{id}</Id><sObject xsi:type="sf:{kind}"'
    ' xmlns:sf="urn:sobject.enterprise.soap.sforce.com">{fields}</sObject></Notification>'
)
TAIL = "</notifications></soapenv:Body></soapenv:Envelope>"
HEADERS = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}


class Events:
    """What the organisation tells."""

    def __init__(self, organisation: "Salesforce") -> None:
        self._organisation = organisation
        self.sender: Sender | None = None
        self._kind, self._fields = "", list[str]()
        self._sent = 0

    async def aim(self, target: Target | None) -> None:
        """From now on messages go to this target; None: to nobody."""
        if self.sender is not None and (target is None or target.url != self.sender.target.url):
            await self.sender.stop()
            self.sender = None
        if target is None:
            return
        self._kind = str(target.options.get("object", "Lead"))
        named = list(target.options.get("fields", ()))
        self._fields = ["Id", *named, "SystemModstamp"]
        if self.sender is not None:
            self.sender.resume(target)
        else:
            self.sender = Sender(target, self._message, self._organisation.seed)

    async def stop(self) -> None:
        await self.aim(None)

    def saved(self, kind: str, obj: Obj) -> None:
        if self.sender is not None and kind == self._kind:
            self._sent += 1
            self.sender.push({"id": f"04l{self._sent:015}", "record": obj})

    def _message(self, events: list[Event], attempt: int) -> Signed:
        parts = [HEAD.format(organisation=self._organisation.organisation)]
        parts += [self._notification(event) for event in events]
        return "".join([*parts, TAIL]).encode(), HEADERS

    def _notification(self, event: Event) -> str:
        record = shape(self._kind, event["record"], self._fields, PATH)
        told = (
            f"<sf:{n}>{_text(record[n])}</sf:{n}>" for n in self._fields if record[n] is not None
        )
        return NOTIFICATION.format(id=event["id"], kind=self._kind, fields="".join(told))


def _text(value: Any) -> str:
    return escape(str(value).lower() if isinstance(value, bool) else str(value))

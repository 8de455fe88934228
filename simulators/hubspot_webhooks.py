"""Webhooks of the simulated portal, as https://developers.hubspot.com/docs/api/webhooks says.

One event per subscription and change: `contact.creation`, `contact.propertyChange` for each
property that has a value, `contact.deletion`, `contact.privacyDeletion`, `contact.merge`. Up to 100
events in a request, in no promised order; 5 s to answer; up to 10 retries on a broken connection
and on any 4xx or 5xx.

Signatures: https://developers.hubspot.com/docs/api/webhooks/validating-requests. The v1 headers go
along always, as a portal with an older app sends them; `options.version` chooses 1, 2 or 3 (the
default; both old and new headers are present then).

Options of the target: `version`; `same_event_id` (share of the events that reuse the eventId of
the one before, if that was another contact's: ids are not unique in production); `strings` (all
numbers as text, as in one capture); `properties` (only changes of these are subscribed to);
`echo` (default true: writes by API are told too, with changeSource INTEGRATION); `url_signed` (the
public URL that goes into the signature, where a proxy stands between).
"""

import base64
import hashlib
import hmac
import random
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from simulators.store import Obj
from simulators.webhooks import Event, Sender, Signed, Target

if TYPE_CHECKING:
    from simulators.hubspot import HubSpot
    from simulators.server import Call

APP_ID = 901_234


class Events:
    """What the portal tells its app."""

    def __init__(self, portal: "HubSpot") -> None:
        self._portal = portal
        self.sender: Sender | None = None
        self._next_id = 1_000_000
        self._last: tuple[int, str] | None = None  # eventId and contact of the event before
        self._subscriptions: dict[str, int] = {}
        self._chance = random.Random(f"events:{portal.seed}")
        self._options: dict[str, Any] = {}

    async def aim(self, target: Target | None) -> None:
        """From now on events go to this target; None: to nobody."""
        if self.sender is not None and (target is None or target.url != self.sender.target.url):
            await self.sender.stop()
            self.sender = None
        if target is None:
            return
        self._options = target.options
        if self.sender is not None:
            self.sender.resume(target)
        else:
            self.sender = Sender(target, self._sign, self._portal.seed)

    async def stop(self) -> None:
        await self.aim(None)

    def created(self, call: "Call", obj: Obj, source: str) -> None:
        if self.sender is None:
            return
        self._tell(call, obj, source, "contact.creation", changeFlag="NEW")
        for name, value in obj.values.items():
            self._property(call, obj, source, name, value)

    def changed(self, call: "Call", obj: Obj, flat: tuple[Any, ...], source: str) -> None:
        for i in range(0, len(flat), 3):
            self._property(call, obj, source, flat[i], flat[i + 2])

    def deleted(self, call: "Call", obj: Obj, source: str) -> None:
        self._tell(call, obj, source, "contact.deletion", changeFlag="DELETED")

    def forgotten(self, call: "Call", obj: Obj, source: str) -> None:
        self._tell(call, obj, source, "contact.privacyDeletion", changeFlag="DELETED")

    def merged(self, call: "Call", gone: Obj, obj: Obj, moved: int) -> None:
        """Page "Webhooks", `*.merge`: the object that is told is the one that stays."""
        self._tell(
            call, obj, "CRM_UI", "contact.merge", primaryObjectId=int(obj.id),
            mergedObjectIds=[int(gone.id)], newObjectId=None, numberOfPropertiesMoved=moved,
        )  # fmt: skip

    def _property(self, call: "Call", obj: Obj, source: str, name: str, value: Any) -> None:
        wanted = self._options.get("properties")
        if wanted is None or name in wanted:
            more = {"propertyName": name, "propertyValue": value or ""}
            self._tell(call, obj, source, "contact.propertyChange", **more)

    def _tell(self, call: "Call", obj: Obj, source: str, kind: str, **more: Any) -> None:
        if self.sender is None or call.dry:
            return
        if source == "INTEGRATION" and not self._options.get("echo", True):
            return
        subscription = f"{kind}:{more.get('propertyName', '')}"
        event_id = self._event_id(obj.id)
        self.sender.push(
            {
                "eventId": event_id,
                "subscriptionId": self._subscriptions.setdefault(
                    subscription, 2_000_000 + len(self._subscriptions)
                ),
                "portalId": self._portal.portal_id,
                "appId": APP_ID,
                "occurredAt": call.at_ms,
                "subscriptionType": kind,
                "attemptNumber": 0,
                "objectId": int(obj.id),
                "changeSource": source,
                "sourceId": "userId:77" if source == "CRM_UI" else str(APP_ID),
                **more,
            }
        )

    def _event_id(self, contact: str) -> int:
        last, share = self._last, self._options.get("same_event_id", 0)
        if last is not None and last[1] != contact and share and self._chance.random() < share:
            self._last = None  # two contacts share one id, not a whole chain
            return last[0]
        self._next_id += 1
        self._last = (self._next_id, contact)
        return self._next_id

    def _sign(self, events: list[Event], attempt: int) -> Signed:
        assert self.sender is not None
        target = self.sender.target
        out = [{**event, "attemptNumber": attempt} for event in events]
        if self._options.get("strings"):
            out = [{k: str(v) for k, v in event.items()} for event in out]
        body = msgspec.json.encode(out)
        url = str(self._options.get("url_signed", target.url))
        version = int(self._options.get("version", 3))
        moment = str(int(time.time() * 1000))
        return body, {
            "Content-Type": "application/json",
            "User-Agent": "HubSpot Connect 2.0 (http://dev.hubspot.com/) (namespace: webhooks-nio-http-client) - WebhooksExecutorDaemon-executor",  # noqa: E501
            **signature(version, target.secret, url, body, moment),
        }


def signature(version: int, secret: str, url: str, body: bytes, moment: str) -> dict[str, str]:
    """The headers of a signed POST. `moment` is milliseconds as text; version 3 sends v1's too."""
    old = 2 if version == 2 else 1
    text = secret.encode() + (b"POST" + url.encode() if old == 2 else b"") + body
    headers = {
        "X-HubSpot-Signature": hashlib.sha256(text).hexdigest(),
        "X-HubSpot-Signature-Version": f"v{old}",
    }
    if version == 3:
        signed = b"POST" + _decoded(url).encode() + body + moment.encode()
        digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
        headers["X-HubSpot-Signature-v3"] = base64.b64encode(digest).decode()
        headers["X-HubSpot-Request-Timestamp"] = moment
    return headers


def _decoded(url: str) -> str:
    """Once, and only the characters of the page's table: `%20 %25 %26 %3D %23` stay."""
    for code in ("3A", "2F", "3F", "40", "21", "24", "27", "28", "29", "2A", "2C", "3B"):
        for form in (f"%{code}", f"%{code.lower()}"):
            url = url.replace(form, unquote(form))
    return url

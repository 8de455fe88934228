"""Audience webhooks, https://mailchimp.com/developer/marketing/guides/sync-audience-data-webhooks/.

Form encoded with brackets, one event a request, no event id, `fired_at` without a zone (UTC).
Setting the address sends a GET that must be answered 200. 10 s to answer; retries at growing
intervals over about 75 minutes; 410 switches the webhook off. With a `secret` each POST carries
`X-Mailchimp-Signature: t=<unix s>,v1=<hex of HMAC-SHA256(secret, "<t>." + body)>`.

Changes by API are not told (`sources.api=false`, as one sets it against echoes).
"""

import hashlib
import hmac
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp

from simulators.store import Obj
from simulators.webhooks import Event, Sender, Signed, Target

if TYPE_CHECKING:
    from simulators.mailchimp import Mailchimp
    from simulators.server import Call

CHECKER = "MailChimp.com WebHook Validator"


class Events:
    """What the audience tells."""

    def __init__(self, audience: "Mailchimp") -> None:
        self._audience = audience
        self.sender: Sender | None = None

    async def aim(self, target: Target | None) -> None:
        """From now on events go to this target; None: to nobody. Raises ValueError where the
        address does not answer the GET with 200.
        """
        if self.sender is not None and (target is None or target.url != self.sender.target.url):
            await self.sender.stop()
            self.sender = None
        if target is None:
            return
        target.batch_max, target.off_at = 1, 410
        if self.sender is not None:
            self.sender.resume(target)
            return
        await _validate(target)
        self.sender = Sender(target, self._sign, self._audience.seed)

    async def stop(self) -> None:
        await self.aim(None)

    def tell(self, call: "Call", kind: str, obj: Obj, email: str) -> None:
        if self.sender is None:
            return
        data = self._data(kind, obj, email)
        told = "unsubscribe" if kind == "delete" else kind
        fired = datetime.fromtimestamp(call.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        form = {"type": told, "fired_at": fired}
        self.sender.push({**form, **{f"data{key}": str(v) for key, v in data.items()}})

    def _data(self, kind: str, obj: Obj, email: str) -> dict[str, Any]:
        list_id = {"[list_id]": self._audience.list_id}
        unique = obj.id[:10]
        if kind == "upemail":
            new = obj.values["email_address"]
            return {"[new_id]": unique, "[new_email]": new, "[old_email]": email, **list_id}
        if kind == "cleaned":
            return {"[campaign_id]": "", "[reason]": "hard", "[email]": email, **list_id}
        merges = {
            f"[merges][{tag}]": obj.values.get(tag, "") for tag in self._audience.merge_fields
        }
        data: dict[str, Any] = {"[id]": unique, "[email]": email, "[email_type]": "html",
                                "[ip_opt]": "192.0.2.1", "[web_id]": obj.number + 1,
                                "[merges][EMAIL]": email, **merges, **list_id}  # fmt: skip
        if kind in ("unsubscribe", "delete"):
            data["[action]"] = "delete" if kind == "delete" else "unsub"
            data["[reason]"] = "manual"
        return data

    def _sign(self, events: list[Event], attempt: int) -> Signed:
        assert self.sender is not None
        body = urlencode(events[0]).encode()
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": "MailChimp.com",
        }
        if secret := self.sender.target.secret:
            moment = str(int(time.time()))
            digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256)
            headers["X-Mailchimp-Signature"] = f"t={moment},v1={digest.hexdigest()}"
        return body, headers


async def _validate(target: Target) -> None:
    limit = aiohttp.ClientTimeout(10)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.get(target.url, headers={"User-Agent": CHECKER}) as response,
        ):
            if response.status == 200:
                return
            why = f"answered {response.status}"
    except (aiohttp.ClientError, TimeoutError) as error:
        why = type(error).__name__
    raise ValueError(f"We couldn't validate the URL: {why}")

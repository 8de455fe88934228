"""Mailchimp: members of one audience in (sink), and their changes out (source).

API      Marketing 3.0, https://mailchimp.com/developer/marketing/api/lists/batch-subscribe-or-unsubscribe/
Quotas   ratelimits/registry/mailchimp.json: connections (10 at once); no rate, no headers
Repeats  a member is its lower-cased address: the same upsert again changes nothing
Traps    200 even when members fail; two members of one address in a call fail; an address that has
         unsubscribed or bounced cannot be subscribed by API; a bare 403 means too many requests
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import msgspec
from pydantic import BaseModel, Field, SecretStr

from connectors.base import (
    ByIds,
    ByKeys,
    Changes,
    Count,
    Fetch,
    FieldsOf,
    Found,
    Http,
    ObjectSpec,
    Page,
    PlatformError,
    Row,
    Spec,
    field_found,
    iso,
    milliseconds,
)
from connectors.outcome import Halted, Outcome, Parked, Retry, Throttled, TooLarge, Written

PAGE_RECORDS = 1000  # API page "List members info": count at most 1000
HALTING_403 = frozenset({"User Disabled", "Wrong Datacenter", "Forbidden"})


class MailchimpConfig(BaseModel, frozen=True, extra="forbid"):
    """What an operator fills in. The secret `api_key` ends in `-` and the data centre."""

    list_id: str = Field(description="Audience that members join: Settings > Audience ID.")
    data_centre: str = Field(default="us1", description="What follows the last `-` of the key.")


class Mailchimp:
    """One audience of one account."""

    spec: ClassVar[Spec] = Spec(
        platform="mailchimp",
        config=MailchimpConfig,
        secrets=("api_key",),
        base_url="https://{data_centre}.api.mailchimp.com",
        objects={
            "member": ObjectSpec(
                kind="state",
                repeat="safe",
                batch_rows_max=500,  # API page "Batch subscribe or unsubscribe": 500 members
                identity_field="email_address",
                count_quota="read",
                together=lambda row: row.row_id if is_rename(row) else "",
            )
        },
        fetchable=frozenset({"member"}),
    )

    def __init__(
        self, config: MailchimpConfig, secrets: Mapping[str, SecretStr], http: Http
    ) -> None:
        self.config, self.http, self._key = config, http, secrets["api_key"]
        self._list = f"/3.0/lists/{config.list_id}"

    async def fetch_records(self, request: Fetch) -> Page:
        """Members, oldest change first. The cursor is the last change seen and how many of that
        very time: an offset over the whole would pass members over when others move to the end.
        Members of the cursor's own second may come again; they are the same events."""
        match request:
            case Changes(cursor=cursor, rows_max=rows_max):
                since, _, offset = cursor.partition("|")
                if request.since_ms and not cursor:
                    since = iso(request.since_ms)
                count = min(rows_max or PAGE_RECORDS, PAGE_RECORDS)
                params = {"count": str(count), "offset": offset or "0"}
                params |= {"sort_field": "last_changed", "sort_dir": "ASC"}
                params |= {"since_last_changed": _second_before(since)} if since else {}
                members = msgspec.json.decode(await self._call("GET", "/members", params=params))
                records = [_found(m) for m in members["members"]]
                newest = members["members"][-1]["last_changed"] if records else since
                last = len(records) < count
                # Only inside of one second that fills whole pages does the offset count.
                seen = int(offset or 0) + len(records) if newest == since and not last else 0
                return Page(records, f"{newest}|{seen}" if newest else "", last)
            case ByIds(ids=ids) | ByKeys(values=ids):
                # One address a call: Mailchimp has no read by many, and needs no matching.
                by_key = isinstance(request, ByKeys)
                path = f"/members/{address_hash(ids[0]) if by_key else ids[0]}"
                try:
                    member = msgspec.json.decode(await self._call("GET", path))
                except PlatformError as error:
                    if error.status != 404:
                        raise
                    return Page([])
                return Page([_found(member, ids[0] if by_key else "")])
            case Count():
                answer = msgspec.json.decode(
                    await self._call("GET", "/members", params={"count": "1"})
                )
                return Page([], total=answer.get("total_items", -1))
            case FieldsOf():
                body = await self._call("GET", "/merge-fields", params={"count": str(PAGE_RECORDS)})
                fields = msgspec.json.decode(body)["merge_fields"]
                return Page([field_found(f["tag"], f) for f in fields])

    def map_fields(self, object_type: str, row: Row) -> dict[str, Any]:
        """Dots nest: `merge_fields.FNAME`. Mailchimp clears a merge field by an empty text."""
        member: dict[str, Any] = {}
        for name, value in row.fields.items():
            at = member
            *parents, leaf = name.split(".")
            for parent in parents:
                at = at.setdefault(parent, {})
            at[leaf] = "" if value is None and parents else value
        return member

    async def upload_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """Upsert at most 500 members; the address is the identity, so a new one is a rename."""
        if is_rename(rows[0]):
            return [await self._rename(object_type, rows[0])]
        members = [self.map_fields(object_type, row) for row in rows]
        body = {"members": members, "update_existing": True, "sync_tags": False}
        try:
            answer = msgspec.json.decode(await self._call("POST", "", body))
        except PlatformError as error:
            return [self.handle_error(error)] * len(rows)
        except msgspec.DecodeError:  # a 200 of something between us and Mailchimp
            return [Retry("the answer is no JSON")] * len(rows)
        verdicts: dict[str, Outcome] = {}
        for member in (*answer.get("new_members", ()), *answer.get("updated_members", ())):
            address = member["email_address"].lower()
            verdicts[address] = Written(address_hash(address))
        for error in answer.get("errors", ()):
            verdicts[str(error.get("email_address", "")).lower()] = _refused(error)
        missing = Retry("no verdict in the answer")
        return [verdicts.get(str(m.get("email_address", "")).lower(), missing) for m in members]

    async def _rename(self, object_type: str, row: Row) -> Outcome:
        """PUT on the old hash moves the member. Where the old one is gone already (a repeat whose
        answer was lost), or the new address is a member by itself (both were one person's), the
        same PUT on the new hash upserts that one."""
        member = self.map_fields(object_type, row)
        new = address_hash(str(member["email_address"]))
        try:
            try:
                await self._call("PUT", f"/members/{row.object_id}", member)
            except PlatformError as error:
                if error.status != 404 and not _is_taken(error):
                    raise
                await self._call("PUT", f"/members/{new}", member)
        except PlatformError as error:
            return self.handle_error(error)
        return Written(new)

    def handle_error(self, error: PlatformError) -> Outcome:
        """problem+json; a 403 or 429 without JSON is the front door under load."""
        body: dict[str, Any] = error.body if isinstance(error.body, dict) else {}
        title, detail = str(body.get("title", error.status)), str(body.get("detail", ""))
        match error.status:
            case 429:
                return Throttled(None, "connections")
            case 403 if title not in HALTING_403:
                return Throttled(None, "connections")
            case 401 | 403 | 426:
                return Halted(f"{title}: {detail}")
            case 404:
                return Halted(f"audience {self.config.list_id}: {detail or title}")
            case 413:
                return TooLarge(detail)
            case s if s == 0 or s >= 500:
                return Retry(f"{error}")
            case _:
                return Parked(title, detail)

    async def _call(
        self, method: str, path: str, json: Any = None, params: Mapping[str, str] | None = None
    ) -> bytes:
        # Basic with any user name, so that the key is nowhere in the address.
        headers = {"authorization": basic("syncline", self._key.get_secret_value())}
        answer = await self.http.request(
            method, self._list + path, json=json, params=params, headers=headers
        )
        return answer.body


def _is_taken(error: PlatformError) -> bool:
    """Its address is another member's."""
    return isinstance(error.body, dict) and error.body.get("title") == "Member Exists"


def is_rename(row: Row) -> bool:
    """The person's member stands under another address than the row's."""
    address = row.fields.get("email_address")
    return bool(row.object_id and address) and row.object_id != address_hash(str(address))


def basic(user: str, password: str) -> str:
    """Value of a Basic authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def address_hash(address: str) -> str:
    """Id of a member in paths: MD5 of the lower-cased address, by the platform's own choice."""
    return hashlib.md5(address.lower().encode(), usedforsecurity=False).hexdigest()


def _second_before(moment: str) -> str:
    """`since_last_changed` leaves its own second out, in which others may have changed too."""
    return (datetime.fromisoformat(moment) - timedelta(seconds=1)).isoformat()


def _refused(error: Mapping[str, Any]) -> Outcome:
    """A duplicate inside one call was never tried: the other one was. All else is final. A merge
    field is named by its tag alone there, and here as rows name it."""
    code, words = str(error.get("error_code") or "ERROR"), str(error.get("error", ""))
    if code == "ERROR_CONTACT_EXISTS":
        return Retry(words)
    field = str(error.get("field", ""))
    return Parked(code, words, f"merge_fields.{field}" if field.isupper() else field)


def _found(member: Mapping[str, Any], key: str = "") -> Found:
    flat = {k: v for k, v in member.items() if k not in ("merge_fields", "_links")}
    flat |= {f"merge_fields.{k}": v for k, v in member.get("merge_fields", {}).items()}
    changed = member.get("last_changed")
    changed_ms = milliseconds(changed)
    return Found(
        str(member["id"]),
        msgspec.json.encode(flat),
        msgspec.json.encode(member),
        changed_ms,
        member.get("status") == "archived",
        key,
    )

"""Mailchimp: members of one audience in (sink), their changes and the audiences out (source).

API      Marketing 3.0, https://mailchimp.com/developer/marketing/api/lists/batch-subscribe-or-unsubscribe/
Quotas   ratelimits/registry/mailchimp.json: connections (10 at once); no rate, no headers
Repeats  a member is its lower-cased address: the same upsert again changes nothing
Jobs     very many rows of a bulk run go as one batch of operations: mailchimp_batches.py
Traps    200 even when members fail; two members of one address in a call fail; an address that has
         unsubscribed or bounced cannot be subscribed by API; a bare 403 means too many requests;
         DELETE archives
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
    JobSpec,
    ObjectSpec,
    Page,
    PlatformError,
    Row,
    Spec,
    field_found,
    iso,
    milliseconds,
)
from connectors.outcome import (
    Halted,
    Outcome,
    Parked,
    Retry,
    Throttled,
    TooLarge,
    Unknown,
    Written,
)
from connectors.platforms import mailchimp_batches as batches

MEMBERS_MAX = 500  # API page "Batch subscribe or unsubscribe": 500 members a call
PAGE_RECORDS = 1000  # API page "List members info": count at most 1000
AUDIENCE = ("id", "name", "date_created", "stats.member_count", "stats.unsubscribe_count")
HALTING_403 = frozenset({"User Disabled", "Wrong Datacenter", "Forbidden"})


class MailchimpConfig(BaseModel, frozen=True, extra="forbid"):
    """What an operator fills in. The secret `api_key` ends in `-` and the data centre."""

    list_id: str = Field(description="Audience that members join: Settings > Audience ID.")
    data_centre: str = Field(default="us1", description="What follows the last `-` of the key.")
    replace_tags: bool = Field(
        default=False,
        description="A member's tags become those of its row; else they are added to its own.",
    )


class Mailchimp:
    """One audience of one account."""

    spec: ClassVar[Spec] = Spec(
        platform="mailchimp",
        config=MailchimpConfig,
        secrets=("api_key",),
        base_url="https://{data_centre}.api.mailchimp.com",
        hosts={"results": "https://mailchimp-api-batch.s3.amazonaws.com"},  # of batches
        objects={
            "member": ObjectSpec(
                kind="state",
                repeat="safe",
                batch_rows_max=MEMBERS_MAX,
                read_rows_max=1,  # there is no read by many
                match_rows_max=1,
                identity_field="email_address",
                quiet=True,  # a webhook tells them only where its `sources.api` is set
                count_quota="read",
                together=lambda row: row.row_id if is_rename(row) else str("tags" in row.fields),
                job=JobSpec(
                    rows_min=2_000,  # own choice: requests answer sooner, and 10 run at once
                    rows_max=10_000,  # own choice, as for Salesforce
                    bytes_max=10_000_000,
                    calls=6,  # hand over, about three looks, the archive
                    takes=lambda row: not is_rename(row),
                ),
                removals={"archive": 1, "erase": 1},
            ),
            "audience": ObjectSpec(
                kind="state", repeat="unsafe", batch_rows_max=1, read_rows_max=1
            ),
        },
        fetchable=frozenset({"member", "audience"}),
    )

    def __init__(
        self, config: MailchimpConfig, secrets: Mapping[str, SecretStr], http: Http
    ) -> None:
        self.config, self.http, self._key = config, http, secrets["api_key"]
        self._list = f"/3.0/lists/{config.list_id}"

    async def fetch_records(self, request: Fetch) -> Page:
        """Audiences by number. Members, oldest change first: the cursor is the last change seen and
        how many of that very time, as an offset over the whole would pass members over when others
        move to the end. Members of the cursor's own second may come again; they are the same
        events."""
        match request:
            case Changes(object_type="audience", cursor=cursor, rows_max=rows_max):
                return await self._audiences(int(cursor or 0), rows_max or PAGE_RECORDS)
            case ByIds(object_type="audience", ids=ids):
                audience = msgspec.json.decode(await self._call("GET", f"/3.0/lists/{ids[0]}"))
                return Page([_audience(audience)])
            case FieldsOf(object_type="audience"):
                return Page([field_found(name, {"name": name}) for name in AUDIENCE])
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

    async def _audiences(self, offset: int, rows_max: int) -> Page:
        count = min(rows_max, PAGE_RECORDS)
        params = {"count": str(count), "offset": str(offset)}
        body = msgspec.json.decode(await self._call("GET", "/3.0/lists", params=params))
        found = [_audience(audience) for audience in body["lists"]]
        return Page(found, str(offset + len(found)), len(found) < count)

    def map_fields(self, object_type: str, row: Row) -> dict[str, Any]:
        """Dots nest: `merge_fields.FNAME`. Mailchimp clears a merge field by an empty text, tags by
        none."""
        member: dict[str, Any] = {}
        for name, value in row.fields.items():
            at = member
            *parents, leaf = name.split(".")
            for parent in parents:
                at = at.setdefault(parent, {})
            at[leaf] = "" if value is None and parents else value
        if "tags" in member:
            member["tags"] = member["tags"] or []
        return member

    async def upload_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """Upsert at most 500 members; the address is the identity, so a new one is a rename."""
        if object_type != "member":
            return [Parked("unknown_object", "audiences are only read")] * len(rows)
        if is_rename(rows[0]):
            return [await self._rename(object_type, rows[0])]
        members = [self.map_fields(object_type, row) for row in rows]
        try:
            answer = msgspec.json.decode(await self._call("POST", "", self._upsert(members)))
        except PlatformError as error:
            return [self.handle_error(error)] * len(rows)
        except msgspec.DecodeError:  # a 200 of something between us and Mailchimp
            return [Retry("the answer is no JSON")] * len(rows)
        return _of_each(rows, _verdicts(answer), "no verdict in the answer")

    def _upsert(self, members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The body of a call; either all have tags, or none."""
        replaces = self.config.replace_tags and "tags" in members[0]
        return {"members": members, "update_existing": True, "sync_tags": replaces}

    async def _rename(self, object_type: str, row: Row) -> Outcome:
        """PUT on the old hash moves the member. Where the old one is gone already (a repeat whose
        answer was lost), or the new address is a member by itself (both were one person's), the
        same PUT on the new hash upserts that one."""
        member = self.map_fields(object_type, row)
        tags = member.pop("tags", None)
        new = address_hash(str(member["email_address"]))
        try:
            try:
                await self._call("PUT", f"/members/{row.object_id}", member)
            except PlatformError as error:
                if error.status != 404 and not _is_taken(error):
                    raise
                await self._call("PUT", f"/members/{new}", member)
            if tags is not None:  # a PUT takes none
                tagged = {"email_address": member["email_address"], "tags": tags}
                await self._call("POST", "", self._upsert([tagged]))
        except PlatformError as error:
            return self.handle_error(error)
        return Written(new)

    async def remove_batch(self, object_type: str, rows: Sequence[Row]) -> list[Outcome]:
        """One member: archived, or deleted for good, after which Mailchimp takes the address only
        from the person. One that is archived already, as one that has bounced, cannot be archived
        (405): only a look tells which."""
        (row,) = rows
        member = f"/members/{row.object_id}"
        try:
            if row.removal == "erase":
                await self._call("POST", f"{member}/actions/delete-permanent")
            else:
                await self._call("DELETE", member)
        except PlatformError as error:
            if error.status != 404 and not (error.status == 405 and await self._archived(member)):
                return [self.handle_error(error)]
        return [Written(row.object_id)]

    async def _archived(self, member: str) -> bool:
        try:
            there = msgspec.json.decode(await self._call("GET", member))
        except PlatformError as error:
            return error.status == 404
        return there.get("status") == "archived"

    # ---- many rows in a batch of operations (`JobConnector`)

    async def open_job(self, object_type: str, rows: Sequence[Row]) -> str:
        """Calls of 500 members each, handed over in one; Mailchimp begins."""
        members = [self.map_fields(object_type, row) for row in rows]
        parts = [members[n : n + MEMBERS_MAX] for n in range(0, len(members), MEMBERS_MAX)]
        path = self._list.removeprefix("/3.0")
        calls = batches.operations(path, [self._upsert(part) for part in parts])
        return _batch(await self._call("POST", "/3.0/batches", {"operations": calls})).id

    async def start_job(self, receipt: str) -> None:
        """It was begun when it was handed over."""

    async def check_job(
        self, object_type: str, receipt: str, rows: Sequence[Row]
    ) -> list[Outcome] | None:
        """From the answers to its calls; a row that none of them names was left alone. A batch that
        is gone, or whose archive cannot be had, leaves its rows unknown."""
        try:
            batch = _batch(await self._call("GET", f"/3.0/batches/{receipt}"))
        except PlatformError as error:
            if error.status != 404:
                raise
            return _unknown(rows, "nothing is known of the batch any more")
        if batch.status != "finished":
            return None
        try:  # the address is signed: our key stays here
            archive = await self.http.request("GET", batch.response_body_url)
            answers = batches.answers(archive.body)
        except ValueError as error:  # elsewhere, or no archive
            return _unknown(rows, f"results of the batch: {error}")
        good = [answer for status, answer in answers if status < 300]
        bad = [PlatformError(status, answer) for status, answer in answers if status >= 300]
        verdicts = {name: said for answer in good for name, said in _verdicts(answer).items()}
        why = "; ".join(sorted({str(self.handle_error(error)) for error in bad}))
        return _of_each(rows, verdicts, why or "the batch says nothing of it")

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
            case s if s < 300 or s >= 500:  # a 2xx without JSON comes from something in between
                return Retry(f"{error}")
            case _:
                return Parked(title, detail)

    async def _call(
        self, method: str, path: str, json: Any = None, params: Mapping[str, str] | None = None
    ) -> bytes:
        # Basic with any user name, so that the key is nowhere in the address.
        headers = {"authorization": basic("syncline", self._key.get_secret_value())}
        path = path if path.startswith("/3.0/") else self._list + path
        answer = await self.http.request(method, path, json=json, params=params, headers=headers)
        return answer.body


def _batch(body: bytes) -> batches.Batch:
    try:
        return msgspec.json.decode(body, type=batches.Batch)
    except msgspec.DecodeError:
        raise PlatformError(200, "the answer is no batch") from None


def _verdicts(answer: Mapping[str, Any]) -> dict[str, Outcome]:
    """By address in small letters, of one call's answer."""
    verdicts: dict[str, Outcome] = {}
    for member in (*answer.get("new_members", ()), *answer.get("updated_members", ())):
        address = member["email_address"].lower()
        verdicts[address] = Written(address_hash(address))
    for error in answer.get("errors", ()):
        verdicts[str(error.get("email_address", "")).lower()] = _refused(error)
    return verdicts


def _unknown(rows: Sequence[Row], why: str) -> list[Outcome]:
    return [Unknown(why) for _ in rows]


def _of_each(rows: Sequence[Row], verdicts: Mapping[str, Outcome], why: str) -> list[Outcome]:
    """`why`: of rows without a verdict."""
    missing = Retry(why)
    addresses = [str(row.fields.get("email_address", "")).lower() for row in rows]
    return [verdicts.get(address, missing) for address in addresses]


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
    flat["tags"] = [tag["name"] for tag in member.get("tags", ())]
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


def _audience(audience: Mapping[str, Any]) -> Found:
    """Stats stand beside it as `stats.member_count`."""
    flat = {k: v for k, v in audience.items() if k not in ("stats", "_links")}
    flat |= {f"stats.{k}": v for k, v in audience.get("stats", {}).items()}
    raw = msgspec.json.encode(audience)
    return Found(str(audience["id"]), msgspec.json.encode(flat), raw)

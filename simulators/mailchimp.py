"""Mailchimp: one audience over the Marketing API 3.0, and its webhooks.

Behaves as these pages say (read 2026-08)
- https://mailchimp.com/developer/marketing/api/lists/batch-subscribe-or-unsubscribe/: 500 members a
  call, 200 also when members fail
- https://mailchimp.com/developer/marketing/api/list-members/: one member, MD5 of the lower-cased
  address, paging (1,000 a page)
- https://mailchimp.com/developer/marketing/docs/errors/: problem+json
- batch operations: mailchimp_batches.py
- https://mailchimp.com/developer/marketing/docs/fundamentals/: throttling
- https://mailchimp.com/developer/marketing/guides/sync-audience-data-webhooks/:
  mailchimp_webhooks.py

Quota: `connections`, 10 requests at once from arrival until the answer leaves; then 429 without
Retry-After. A connection that is open and idle takes no place. No rate, no header tells what is
left.

Our reading where the pages are silent
- an address twice in a call: the later one is an error, ERROR_CONTACT_EXISTS; with
  `skip_duplicate_check=true` it is left out without a word
- an unsubscribed, cleaned or archived-for-good address cannot become `subscribed` by API; `pending`
  works; other fields of it may change
- DELETE archives; who is archived, cleaned or pending cannot be (405, as people have reported); an
  address that was deleted for good is refused until its owner subscribes again
- unknown merge tags are ignored; text longer than 255 characters is refused
- tags of a call are added to those of a member; with `sync_tags` they take their place, also where
  a member of the call has none
- an address may change by PUT or PATCH on the old one's hash, if nobody has the new one
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from simulators.mailchimp_batches import Batches
from simulators.mailchimp_shapes import (
    ADDRESS,
    HELD_BACK,
    STATUSES,
    TEXT_MAX,
    Member,
    Members,
    MergeField,
    Problem,
    Tags,
    hash_of,
    member_hash,
    moment_of,
    problem_of,
    row_error,
    stamp,
)
from simulators.mailchimp_webhooks import Events
from simulators.quotas import Concurrent, Window
from simulators.server import Answer, Call, Platform, Refused, Source, each
from simulators.store import Index, Obj, Store

MEMBERS_MAX = 500
PAGE_MAX = 1_000
MEMBER = r"/3\.0/lists/([^/]+)/members/([^/]+)"


class Mailchimp(Platform):
    """One audience. `members` are there from the beginning: address, status, merge fields."""

    name = "mailchimp"
    routes = [
        ("GET", r"/3\.0/ping", "ping"),
        ("POST", r"/3\.0/batches", "start_batch"),
        ("GET", r"/3\.0/batches/([^/]+)", "read_batch"),
        ("GET", r"/results/([^/]+)-response\.tar\.gz", "batch_results"),
        ("GET", r"/3\.0/lists", "read_lists"),
        ("GET", r"/3\.0/lists/([^/]+)", "read_list"),
        ("POST", r"/3\.0/lists/([^/]+)", "batch"),
        ("GET", r"/3\.0/lists/([^/]+)/members", "list_members"),
        ("POST", r"/3\.0/lists/([^/]+)/members", "add_member"),
        ("GET", r"/3\.0/lists/([^/]+)/merge-fields", "list_merge_fields"),
        ("POST", r"/3\.0/lists/([^/]+)/merge-fields", "add_merge_field"),
        ("GET", MEMBER, "read_member"),
        ("PUT", MEMBER, "put_member"),
        ("PATCH", MEMBER, "patch_member"),
        ("DELETE", MEMBER, "archive_member"),
        ("POST", MEMBER + "/actions/delete-permanent", "forget_member"),
        ("GET", MEMBER + "/tags", "read_tags"),
        ("POST", MEMBER + "/tags", "write_tags"),
    ]

    def __init__(
        self,
        members: Source[tuple[str, str, Mapping[str, str]]] = (),
        *,
        api_key: str = "mailchimp-key-us1",
        list_id: str = "a1b2c3d4e5",
        job_s: float = 0.5,
        seed: int = 0,
        quota: Mapping[str, str] | None = None,
        script: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.list_id = list_id
        self.api_key = api_key
        self.merge_fields = {
            tag: MergeField(tag, name, kind, merge_id=n)
            for n, (tag, name, kind) in enumerate(
                (
                    ("FNAME", "First Name", "text"),
                    ("LNAME", "Last Name", "text"),
                    ("COMPANY", "Company", "text"),
                    ("PHONE", "Phone", "phone"),
                    ("COUNTRY", "Country", "text"),
                ),
                1,
            )
        }
        store = Store({"email_address": Index(str.lower)}, "email_address")
        windows = [Concurrent("connections", 10)]
        super().__init__({"members": store}, windows, seed=seed, quota=quota, script=script)
        self._members, self._expired = members, False
        self._required: list[str] = []  # tags of merge fields without which nobody joins
        self.tags: dict[str, list[str]] = {}
        self.events = Events(self)
        self.batches = Batches(super().answer, job_s)
        self.fill()

    def fill(self) -> None:
        for address, status, merges in each(self._members):
            values = {"email_address": address, "status": status, **merges}
            at_ms = self.started_ms - 86_400_000
            self.store.seed(member_hash(address), values, at_ms, at_ms)

    def outbox(self) -> Events:
        return self.events

    async def stop(self) -> None:
        await self.events.stop()

    # -- who may, and how much

    def recognise(self, call: Call) -> None:
        """Basic with any user name, or Bearer. The address of results is signed, and has no key."""
        if call.path.startswith("/results/"):
            return
        how, _, given = call.headers.get("Authorization", "").partition(" ")
        if how.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except ValueError:
                given = ""
        if not given:
            raise Refused(
                problem_of(call, 401, "API Key Missing", "Your request did not include an API key.")
            )
        if given != self.api_key or self._expired:
            words = (
                "Your API key may be invalid, or you've attempted to access the wrong datacenter."
            )
            raise Refused(problem_of(call, 401, "API Key Invalid", words))

    def expire_tokens(self) -> None:
        self._expired = True

    def renew(self, token: str) -> None:
        self.api_key, self._expired = token, False

    def limits(self, call: Call) -> list[Window]:
        return [] if call.path.startswith("/results/") else [self.windows["connections"]]

    def over_limit(self, policy: str, now: float, *, bare: bool = False) -> Answer:
        if bare:
            html = b"<html><head><title>Access Denied</title></head></html>"
            return Answer(403, html, {"Content-Type": "text/html"})
        words = "You have exceeded the limit of 10 simultaneous connections."
        return problem_of(None, 429, "Too Many Requests", words)

    # -- calls in one

    def answer(self, call: Call) -> Answer:
        self.batches.work(call.at_ms)
        return super().answer(call)

    def start_batch(self, call: Call) -> Answer:
        return self.batches.start(call)

    def read_batch(self, call: Call, name: str) -> Answer:
        return self.batches.read(call, name)

    def batch_results(self, call: Call, name: str) -> Answer:
        return self.batches.results(call, name)

    # -- many members

    def batch(self, call: Call, list_id: str) -> Answer:
        """POST /lists/{id}. Every member ends in one of the three lists, or fails the call."""
        self._known(call, list_id)
        given = msgspec.json.decode(call.body, type=Members)
        if len(given.members) > MEMBERS_MAX:
            words = f"You may only include up to {MEMBERS_MAX} members in a call."
            raise Refused(problem_of(call, 400, "Invalid Resource", words))
        params = call.params()
        lenient = params.get("skip_merge_validation") == "true"
        skip_twice = params.get("skip_duplicate_check") == "true"
        made: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        seen: set[str] = set()
        for row, member in enumerate(given.members):
            hashed = member_hash(member.email_address)
            if hashed in seen:
                if not skip_twice:
                    words = f"{member.email_address} is in this call more than once"
                    twice = Problem("Member Exists", words, "ERROR_CONTACT_EXISTS")
                    errors.append(row_error(member, twice))
                continue
            seen.add(hashed)
            obj = self.store.objects.get(hashed)
            problem = self._wrong(call, member, obj, lenient)
            if (
                problem is None
                and obj is not None
                and not obj.archived
                and not given.update_existing
            ):
                words = f"{member.email_address} is already a list member, do you want to update? please provide update_existing:true in the request body"  # noqa: E501
                problem = Problem("Member Exists", words, "ERROR_CONTACT_EXISTS")
            if problem is not None:
                self.rows["refused"] += 1
                errors.append(row_error(member, problem))
                continue
            new = obj is None or obj.archived
            obj = self._write(call, row, member, obj, hashed)
            if not call.dry and (given.sync_tags or member.tags):
                kept = [] if given.sync_tags else self.tags.get(obj.id, [])
                self.tags[obj.id] = list(dict.fromkeys((*kept, *member.tags)))
            (made if new else changed).append(self.shape(obj))
        self.rows["written"] += len(made) + len(changed)
        made, changed = call.struck.edit(made), call.struck.edit(changed)
        return Answer(
            200,
            {
                "new_members": made,
                "updated_members": changed,
                "errors": call.struck.edit(errors),
                "total_created": len(made),
                "total_updated": len(changed),
                "error_count": len(errors),
            },
        )

    def _wrong(self, call: Call, member: Member, obj: Obj | None, lenient: bool) -> Problem | None:
        address = member.email_address
        if not ADDRESS.fullmatch(address):
            words = "Please provide a valid email address."
            return Problem("Invalid Resource", words, field="email_address")
        if obj is not None and obj.erased:
            words = f"{address} was permanently deleted and cannot be re-imported. The contact must re-subscribe to get back on the list."  # noqa: E501
            return Problem("Forgotten Email Not Subscribed", words)
        new = obj is None or obj.archived
        wanted = (member.status or member.status_if_new) if new else member.status
        if new and wanted is None:
            words = "Please provide a status or status_if_new for a new member."
            return Problem("Invalid Resource", words, field="status")
        if wanted is not None and wanted not in STATUSES:
            words = f"Value must be one of: {', '.join(sorted(STATUSES))}"
            return Problem("Invalid Resource", words, field="status")
        if wanted == "subscribed" and obj is not None and obj.values["status"] in HELD_BACK:
            words = f"{address} is already a list member in compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."  # noqa: E501
            return Problem("Member In Compliance State", words)
        if problem := self._wrong_merges(member, new, lenient):
            return problem
        struck = call.struck
        if struck.refusing:
            fault = struck.refuses(
                lambda name: address if name == "email_address" else member.merge_fields.get(name)
            )
            if fault is not None:
                return Problem("Invalid Resource", fault.message, fault.code, fault.rows.field)
        return None

    def _wrong_merges(self, member: Member, new: bool, lenient: bool) -> Problem | None:
        for tag, value in member.merge_fields.items():
            if len(str(value)) > TEXT_MAX and tag in self.merge_fields:
                words = f"Please enter a value of at most {TEXT_MAX} characters"
                return Problem("Invalid Resource", words, field=tag)
        if new and not lenient:
            for tag in self._required:
                if not member.merge_fields.get(tag):
                    words = "Your merge fields were invalid: a required value is missing"
                    return Problem("Invalid Resource", words, field=tag)
        return None

    def _write(self, call: Call, row: int, member: Member, obj: Obj | None, hashed: str) -> Obj:
        values: dict[str, Any] = {
            tag: value or None if isinstance(value, str) else value
            for tag, value in member.merge_fields.items()
            if tag in self.merge_fields
        }
        if obj is None:
            kept = values
            if None in values.values():
                kept = {tag: value for tag, value in values.items() if value is not None}
            kept["email_address"] = member.email_address
            kept["status"] = member.status or member.status_if_new
            return self.store.create(call, row, hashed, kept)
        if obj.archived:
            self.store.revive(call, row, obj)
            values["status"] = member.status or member.status_if_new
        elif member.status is not None:
            values["status"] = member.status
        self.store.update(call, row, obj, values)
        return obj

    # -- one member

    def add_member(self, call: Call, list_id: str) -> Answer:
        self._known(call, list_id)
        member = msgspec.json.decode(call.body, type=Member)
        obj = self.store.objects.get(member_hash(member.email_address))
        if obj is not None and not obj.archived:
            words = f"{member.email_address} is already a list member. Use PUT to insert or update list members."  # noqa: E501
            raise Refused(problem_of(call, 400, "Member Exists", words))
        return self._one(call, member, obj)

    def put_member(self, call: Call, list_id: str, hashed: str) -> Answer:
        self._known(call, list_id)
        member = msgspec.json.decode(call.body, type=Member)
        return self._one(call, member, self.store.objects.get(hash_of(hashed)))

    def patch_member(self, call: Call, list_id: str, hashed: str) -> Answer:
        obj = self._get(call, list_id, hashed)
        return self._one(call, msgspec.json.decode(call.body, type=Member), obj)

    def _one(self, call: Call, member: Member, obj: Obj | None) -> Answer:
        address = str(obj.values["email_address"]) if obj is not None else ""
        member.email_address = member.email_address or address
        hashed = member_hash(member.email_address)
        other = self.store.objects.get(hashed)
        if obj is None and other is not None and not other.archived:
            obj = other  # the address counts where the path names nobody
        if obj is not None and other not in (None, obj):
            words = f"{member.email_address} is already a list member."
            raise Refused(problem_of(call, 400, "Member Exists", words))
        lenient = call.params().get("skip_merge_validation") == "true"
        if problem := self._wrong(call, member, obj, lenient):
            self.rows["refused"] += 1
            fields = [{"field": problem.field, "message": problem.words}] if problem.field else []
            raise Refused(problem_of(call, 400, problem.title, problem.words, fields))
        self.rows["written"] += 1
        obj = self._write(call, 0, member, obj, hashed)
        if obj.id != hashed and not call.dry:
            self._rename(call, 0, obj, member.email_address)
        return Answer(200, self.shape(obj))

    def _rename(self, call: Call, row: int, obj: Obj, address: str) -> None:
        old_id = obj.id
        self.store.update(call, row, obj, {"email_address": address})
        self.store.rename(obj, member_hash(address))
        if old_id in self.tags:
            self.tags[obj.id] = self.tags.pop(old_id)

    def read_member(self, call: Call, list_id: str, hashed: str) -> Answer:
        self.rows["read"] += 1
        return Answer(200, self.shape(self._get(call, list_id, hashed, archived=True)))

    def archive_member(self, call: Call, list_id: str, hashed: str) -> Answer:
        obj = self._get(call, list_id, hashed, archived=True)
        if obj.archived or obj.values["status"] in ("cleaned", "pending"):
            words = "This list member cannot be removed. Can not archive a contact that is bounced, pending or archived"  # noqa: E501
            raise Refused(problem_of(call, 405, "Method Not Allowed", words))
        self.store.archive(call, 0, obj)
        return Answer(204)

    def forget_member(self, call: Call, list_id: str, hashed: str) -> Answer:
        """For good: nothing is known of the member but that the address must not come back."""
        obj = self._get(call, list_id, hashed, archived=True)
        if not call.dry:
            self.tags.pop(obj.id, None)
        self.store.erase(call, 0, obj)
        return Answer(204)

    def read_tags(self, call: Call, list_id: str, hashed: str) -> Answer:
        names = self.tags.get(self._get(call, list_id, hashed).id, [])
        tags = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
        return Answer(200, {"tags": tags, "total_items": len(tags)})

    def write_tags(self, call: Call, list_id: str, hashed: str) -> Answer:
        obj = self._get(call, list_id, hashed)
        names = list(self.tags.get(obj.id, []))
        for tag in msgspec.json.decode(call.body, type=Tags).tags:
            if tag.name in names:
                names.remove(tag.name)
            if tag.status == "active":
                names.append(tag.name)
        if not call.dry:
            self.tags[obj.id] = names
        return Answer(204)

    # -- lists of things

    def list_members(self, call: Call, list_id: str) -> Answer:
        """In the order of their creation, or of `sort_field`; `since_last_changed` is exclusive."""
        self._known(call, list_id)
        params = call.params()
        count, offset = int(params.get("count", "10")), int(params.get("offset", "0"))
        if not 0 <= count <= PAGE_MAX or offset < 0:
            words = f"count must be at most {PAGE_MAX}, offset must not be negative"
            raise Refused(problem_of(call, 400, "Invalid Resource", words))
        since = moment_of(params.get("since_last_changed"))
        before = moment_of(params.get("before_last_changed"))
        status = params.get("status")
        objs: Iterable[Obj] = self.store.numbered
        if since is not None:
            objs = self.store.changed_since(since)
        found = [
            obj
            for obj in objs
            if obj.archived == (status == "archived")
            and not obj.erased
            and (status in (None, "archived") or obj.values["status"] == status)
            and (before is None or obj.changed_ms // 1000 * 1000 <= before)
            and (since is None or obj.changed_ms // 1000 * 1000 > since)
        ]
        if params.get("sort_field") == "last_changed":
            found.sort(key=lambda o: o.changed_ms, reverse=params.get("sort_dir") == "DESC")
        page = found[offset : offset + count]
        self.rows["read"] += len(page)
        members = [self.shape(obj) for obj in page]
        return Answer(200, {"members": members, "list_id": list_id, "total_items": len(found)})

    def read_lists(self, call: Call) -> Answer:
        """All audiences: the one."""
        offset = int(call.params().get("offset", "0"))
        lists = [] if offset else [self._about()]
        return Answer(200, {"lists": lists, "total_items": 1})

    def read_list(self, call: Call, list_id: str) -> Answer:
        self._known(call, list_id)
        return Answer(200, self._about())

    def _about(self) -> dict[str, Any]:
        subscribed = sum(1 for o in self.store.alive() if o.values["status"] == "subscribed")
        stats = {"member_count": subscribed, "merge_field_count": len(self.merge_fields)}
        return {"id": self.list_id, "name": "Newsletter", "stats": stats}

    def list_merge_fields(self, call: Call, list_id: str) -> Answer:
        self._known(call, list_id)
        params = call.params()
        count, offset = int(params.get("count", "10")), int(params.get("offset", "0"))
        fields = list(self.merge_fields.values())
        page = fields[offset : offset + count]
        body = {"merge_fields": page, "list_id": list_id, "total_items": len(fields)}
        return Answer(200, body)

    def add_merge_field(self, call: Call, list_id: str) -> Answer:
        self._known(call, list_id)
        body = msgspec.json.decode(call.body)
        made = msgspec.convert({"tag": str(body.get("name", "")).upper()[:10], **body}, MergeField)
        if made.tag in self.merge_fields:
            words = f'A Merge Field with the tag "{made.tag}" already exists for this list.'
            raise Refused(problem_of(call, 400, "Invalid Resource", words))
        made.merge_id = len(self.merge_fields) + 1
        self.merge_fields[made.tag] = made
        self._required += [made.tag] if made.required else []
        return Answer(200, made)

    def ping(self, call: Call) -> Answer:
        return Answer(200, {"health_status": "Everything's Chimpy!"})

    # -- a person in the audience, or in the account

    def act(self, call: Call, acts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """`{"kind", "email", …}` -> `[{"id", "occurred_ms"}]`, or `{"error"}`.

        Kinds: subscribe, profile (`merge_fields`), unsubscribe, cleaned, upemail (`new_email`),
        delete.
        """
        done: list[dict[str, Any]] = []
        for row, wish in enumerate(acts):
            kind, email = str(wish["kind"]), str(wish["email"])
            obj = self.store.objects.get(member_hash(email))
            if obj is None and kind != "subscribe":
                done.append({"error": "no such member"})
                continue
            merges = dict(wish.get("merge_fields", {}))
            if obj is None:
                values = {"email_address": email, "status": "subscribed", **merges}
                obj = self.store.create(call, row, member_hash(email), values)
            elif kind == "upemail":
                new = str(wish["new_email"])
                if member_hash(new) in self.store.objects:
                    done.append({"error": "address is taken"})
                    continue
                self._rename(call, row, obj, new)
            elif kind == "delete":
                self.store.archive(call, row, obj)
            else:
                status = {"subscribe": "subscribed", "unsubscribe": "unsubscribed",
                          "cleaned": "cleaned"}.get(kind, obj.values["status"])  # fmt: skip
                if kind == "subscribe":
                    self.store.revive(call, row, obj)
                self.store.update(call, row, obj, {"status": status, **merges})
            self.events.tell(call, kind, obj, email)
            done.append({"id": obj.id, "occurred_ms": call.at_ms})
        return done

    # -- small things

    def shape(self, obj: Obj) -> dict[str, Any]:
        """A member as the API gives it; a merge field without a value is an empty text."""
        get = obj.values.get
        changed = stamp(obj.changed_ms)
        return {
            "id": obj.id,
            "email_address": get("email_address"),
            "unique_email_id": obj.id[:10],
            "web_id": obj.number + 1,
            "email_type": "html",
            "status": "archived" if obj.archived else get("status"),
            "merge_fields": {tag: get(tag, "") for tag in self.merge_fields},
            "timestamp_opt": stamp(obj.created_ms),
            "last_changed": changed,
            "vip": False,
            "language": "",
            "list_id": self.list_id,
            "tags_count": len(self.tags.get(obj.id, ())),
            "tags": [{"id": n, "name": t} for n, t in enumerate(self.tags.get(obj.id, ()), 1)],
        }

    def _known(self, call: Call, list_id: str) -> None:
        if list_id != self.list_id:
            raise Refused(self.not_found(call))

    def _get(self, call: Call, list_id: str, hashed: str, *, archived: bool = False) -> Obj:
        """`archived`: such a one, too. Who is forgotten is not there."""
        self._known(call, list_id)
        obj = self.store.objects.get(hash_of(hashed))
        if obj is None or (obj.archived and not archived) or obj.erased:
            raise Refused(self.not_found(call))
        return obj

    def not_found(self, call: Call) -> Answer:
        words = "The requested resource could not be found."
        return problem_of(call, 404, "Resource Not Found", words)

    def malformed(self, call: Call, problem: Exception) -> Answer:
        if isinstance(problem, msgspec.ValidationError):
            return problem_of(call, 400, "Invalid Resource", str(problem))
        words = "We encountered an unspecified JSON parsing error."
        return problem_of(call, 400, "JSON Parse Error", words)

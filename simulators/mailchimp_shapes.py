"""Requests and answers of the simulated audience, in Mailchimp's shapes.

https://mailchimp.com/developer/marketing/api/list-members/ and, for errors,
https://mailchimp.com/developer/marketing/docs/errors/
"""

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import msgspec

from simulators.server import Answer, Call

TEXT_MAX = 255
ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*/=?^_+\-`{|}~]+(?:\.[A-Za-z0-9!#$%&'*/=?^_+\-`{|}~]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}"
)
STATUSES = frozenset({"subscribed", "unsubscribed", "cleaned", "pending", "transactional"})
HELD_BACK = frozenset({"unsubscribed", "cleaned"})


class Member(msgspec.Struct):
    email_address: str = ""
    status: str | None = None
    status_if_new: str | None = None
    merge_fields: dict[str, Any] = {}
    email_type: str | None = None
    language: str | None = None
    vip: bool | None = None
    tags: list[str] = []


class Members(msgspec.Struct):
    members: list[Member]
    update_existing: bool = False
    sync_tags: bool = False


class Tag(msgspec.Struct):
    name: str
    status: str


class Tags(msgspec.Struct):
    tags: list[Tag]


class MergeField(msgspec.Struct):
    tag: str
    name: str
    type: str = "text"
    required: bool = False
    merge_id: int = 0
    default_value: str = ""
    public: bool = False
    options: dict[str, Any] = {}


class Problem(msgspec.Struct):
    """Why one member is refused."""

    title: str
    words: str
    code: str = "ERROR_GENERIC"
    field: str = ""


def member_hash(address: str) -> str:
    return hashlib.md5(address.lower().encode(), usedforsecurity=False).hexdigest()


def hash_of(given: str) -> str:
    """A path may also name the address itself."""
    text = unquote(given)
    return member_hash(text) if "@" in text else text


def row_error(member: Member, problem: Problem) -> dict[str, Any]:
    return {
        "email_address": member.email_address,
        "error": problem.words,
        "error_code": problem.code,
        "field": problem.field,
        "field_message": problem.words if problem.field else "",
    }


def problem_of(
    call: Call | None, status: int, title: str, detail: str, errors: Iterable[Any] = ()
) -> Answer:
    body = {
        "type": "https://mailchimp.com/developer/marketing/docs/errors/",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": f"00000000-0000-4000-8000-{call.number if call else 0:012}",
    }
    if errors := list(errors):
        body["errors"] = errors
    return Answer(status, body, {"Content-Type": "application/problem+json; charset=utf-8"})


def stamp(at_ms: int) -> str:
    return _second(at_ms // 1000)


@lru_cache(10_000)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")


def moment_of(text: str | None) -> int | None:
    return int(datetime.fromisoformat(text).timestamp() * 1000) if text else None

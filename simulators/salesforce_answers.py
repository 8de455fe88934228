"""Logging in to the simulated organisation, and its answers in Salesforce's shapes.

https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oauth_client_credentials_flow.htm
https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/errorcodes.htm
"""

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from simulators import soql
from simulators.salesforce_fields import PREFIX, Error, error, full_id, looks_like_id
from simulators.server import Answer, Call
from simulators.store import Obj


class Tokens:
    """One connected app and the access tokens that it has been given."""

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        refresh_token: str,
        organisation: str,
        ttl_s: float,
    ) -> None:
        self._client_id, self._client_secret = client_id, client_secret
        self._refresh_token, self._organisation = refresh_token, organisation
        self._ttl_s = ttl_s
        self._ends: dict[str, float] = {}  # token -> when it ends, seconds since the epoch

    def good(self, token: str, now: float) -> bool:
        return self._ends.get(token, 0.0) > now

    def expire(self) -> None:
        self._ends.clear()

    def log_in(self, call: Call) -> Answer:
        """The answer of the token endpoint: a fresh token, or 400 with an object."""
        form = dict(parse_qsl(call.body.decode()))
        match form.get("grant_type"):
            case "client_credentials":
                if form.get("client_id") != self._client_id:
                    return _login_error("invalid_client_id", "client identifier invalid")
                if form.get("client_secret") != self._client_secret:
                    return _login_error("invalid_client", "invalid client credentials")
            case "refresh_token":
                if form.get("refresh_token") != self._refresh_token:
                    return _login_error("invalid_grant", "expired access/refresh token")
            case _:
                return _login_error("unsupported_grant_type", "grant type not supported")
        token = f"{self._organisation[:15]}!{secrets.token_urlsafe(48)}"
        self._ends[token] = call.at_ms / 1000 + self._ttl_s
        host = f"http://{call.headers.get('Host', '')}"
        return Answer(
            200,
            {
                "access_token": token,
                "instance_url": host,
                "id": f"{host}/id/{self._organisation}/0055g000001abcdAAA",
                "token_type": "Bearer",
                "scope": "api",
                "issued_at": str(call.at_ms),
            },
        )


def shape(kind: str, obj: Obj, names: Iterable[str], path: str) -> dict[str, Any]:
    """A record as queries give it."""
    record: dict[str, Any] = {
        "attributes": {
            "type": kind,
            "url": f"/services/data/{path.split('/')[3]}/sobjects/{kind}/{obj.id}",
        }
    }
    for name in names:
        value = soql.value_of(obj, name)
        stamp = name in ("SystemModstamp", "LastModifiedDate", "CreatedDate")
        record[name] = _stamp(value) if stamp else value
    return record


@lru_cache(10_000)
def _stamp(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def well_formed(kind: str, object_id: str) -> bool:
    if not looks_like_id(object_id) or not object_id.startswith(PREFIX[kind]):
        return False
    return len(object_id) == 15 or full_id(object_id) == object_id


def taken(field: str, owner: Obj) -> Error:
    words = f"duplicate value found: {field} duplicates value on record with id: {owner.id}"
    return error("DUPLICATE_VALUE", words, field)


def errors(status: int, code: str, message: str, fields: Iterable[str] = ()) -> Answer:
    named = {"fields": list(fields)} if fields else {}
    return Answer(status, [{"message": message, "errorCode": code, **named}])


def _login_error(kind: str, description: str) -> Answer:
    return Answer(400, {"error": kind, "error_description": description})

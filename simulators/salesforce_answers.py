"""Logging in to the simulated organisation, and its answers in Salesforce's shapes.

https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oauth_client_credentials_flow.htm
https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/errorcodes.htm
"""

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from simulators import soql
from simulators.oauth import App, form_of
from simulators.salesforce_fields import PREFIX, Error, error, full_id, looks_like_id
from simulators.server import Answer, Call
from simulators.store import Obj

WORDS = {
    "invalid_client_id": "client identifier invalid",
    "invalid_client": "invalid client credentials",
    "invalid_grant": "expired access/refresh token",
    "unsupported_grant_type": "grant type not supported",
}


def app(
    client_id: str, client_secret: str, refresh_token: str, organisation: str, ttl_s: float,
    rotates: bool,
) -> App:  # fmt: skip
    """The connected app of an organisation."""

    def token() -> str:
        return f"{organisation[:15]}!{secrets.token_urlsafe(48)}"

    return App(client_id, client_secret, refresh_token, ttl_s, rotates=rotates, token=token)


def log_in(app: App, organisation: str, call: Call) -> Answer:
    """The answer of the token endpoint: a fresh token, or 400 with an object. How long a session
    lasts is a setting of the organisation, and not told."""
    form = form_of(call.body)
    token, problem = app.grant(form, call.at_ms / 1000)
    if problem:
        return Answer(400, {"error": problem, "error_description": WORDS[problem]})
    host = f"http://{call.headers.get('Host', '')}"
    body = {
        "access_token": token,
        "instance_url": host,
        "id": f"{host}/id/{organisation}/0055g000001abcdAAA",
        "token_type": "Bearer",
        "scope": "api",
        "issued_at": str(call.at_ms),
    }
    if form["grant_type"] == "refresh_token" and app.rotates:
        body["refresh_token"] = app.refresh_token
    return Answer(200, body)


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

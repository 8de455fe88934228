"""Google's access tokens, as its server-to-server and web flows give them.

https://developers.google.com/identity/protocols/oauth2/service-account (read 2026-08): a statement
of at most an hour, signed with the account's key by RS256, for a token that lasts an hour
https://developers.google.com/identity/protocols/oauth2/web-server#offline: a refresh token, which
stays the same; it ends after seven days while the consent screen is in testing
"""

import time
from collections.abc import Callable

import msgspec
from joserfc import jwt
from joserfc.jwk import RSAKey

from connectors.oauth import LoginRefused

__all__ = ["SECRETS", "SECRETS_INSTEAD", "TOKEN_URL", "statement"]

TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
SECRETS = ("service_account",)
"""The JSON key file of a service account."""
SECRETS_INSTEAD = (("client_id", "client_secret", "refresh_token"),)
"""Of an application that somebody has authorised."""
STATEMENT_S = 3_600


class _Key(msgspec.Struct):
    """What we need of a service account's key file."""

    client_email: str
    private_key: str
    private_key_id: str = ""


def statement(
    key_file: str, scope: str, audience: str, wall_s: Callable[[], float] = time.time
) -> str:
    """The signed statement (JWT) for a token of this scope. Raises LoginRefused for what is no key
    file."""
    try:
        key = msgspec.json.decode(key_file, type=_Key)
        private = RSAKey.import_key(key.private_key)
    except (msgspec.DecodeError, ValueError):
        # Neither their words nor the cause: both may quote the key.
        raise LoginRefused(0, "service_account is no key file of Google", {}, False) from None
    now_s = int(wall_s())
    claims = {
        "iss": key.client_email,
        "scope": scope,
        "aud": audience,
        "iat": now_s,
        "exp": now_s + STATEMENT_S,
    }
    return jwt.encode({"alg": "RS256", "typ": "JWT", "kid": key.private_key_id}, claims, private)

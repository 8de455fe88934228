"""Google's token endpoint, for a service account and for an application that was authorised.

https://developers.google.com/identity/protocols/oauth2/service-account (read 2026-08): the signed
statement is RS256, names its scope and this endpoint, and lasts for an hour at most.
"""

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from simulators.oauth import App, form_of
from simulators.server import Answer

AUDIENCE = "https://oauth2.googleapis.com/token"
SIGNED = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPES = frozenset(
    {
        "https://www.googleapis.com/auth/analytics.readonly",
        "https://www.googleapis.com/auth/analytics",
    }
)
LIFE_S = 3_600.0


class Google:
    """One project: its service account, and its one application."""

    def __init__(self, public_key: str) -> None:
        self.app = App("ga4-client", "ga4-secret", "ga4-refresh", LIFE_S)
        self._key = RSAKey.import_key(public_key) if public_key else None

    def good(self, token: str, now: float) -> bool:
        return self.app.good(token, now)

    def token(self, body: bytes, now: float) -> Answer:
        form = form_of(body)
        if form.get("grant_type") == SIGNED:
            if why := self._doubt(form.get("assertion", ""), now):
                return _no("invalid_grant", why)
            # Whoever signed for it may have what the application may.
            form = {
                "grant_type": "client_credentials",
                "client_id": "ga4-client",
                "client_secret": "ga4-secret",
            }
        elif form.get("grant_type") != "refresh_token":
            return _no("unsupported_grant_type", "Invalid grant_type")
        token, error = self.app.grant(form, now)
        if error:
            return _no(error.replace("invalid_client_id", "invalid_client"), "Unauthorized")
        return Answer(
            200, {"access_token": token, "expires_in": int(LIFE_S), "token_type": "Bearer"}
        )

    def _doubt(self, statement: str, now: float) -> str:
        """Why a signed statement is not believed; empty: it is."""
        if self._key is None:
            return "Invalid grant: account not found"
        try:
            claims = jwt.decode(statement, self._key, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return "Invalid JWT Signature."
        begun, ends = claims.get("iat", 0), claims.get("exp", 0)
        if not (begun - 300 <= now < ends and ends - begun <= LIFE_S):
            return "Invalid JWT: Token must be a short-lived token (60 minutes)"
        if claims.get("aud") != AUDIENCE or not claims.get("iss"):
            return "Invalid JWT: Failed audience check."
        if not set(str(claims.get("scope", "")).split()) & SCOPES:
            return "Invalid OAuth scope or ID token audience provided."
        return ""


def _no(error: str, words: str) -> Answer:
    status = 401 if error == "invalid_client" else 400
    return Answer(status, {"error": error, "error_description": words})

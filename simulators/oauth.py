"""What simulated token endpoints share: one OAuth app, and the tokens that it was given.

RFC 6749, sections 4.4 (client credentials), 5.1 and 6 (refresh). Each platform has own words.
"""

import secrets
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl


class App:
    """`rotates`: each refresh gives another refresh token, and the one before is worth nothing."""

    def __init__(
        self, client_id: str, client_secret: str, refresh_token: str, ttl_s: float,
        *, rotates: bool = False, token: Callable[[], str] = lambda: secrets.token_urlsafe(48),
    ) -> None:  # fmt: skip
        self._client_id, self._client_secret = client_id, client_secret
        self.refresh_token, self.rotates = refresh_token, rotates
        self.ttl_s, self._token = ttl_s, token
        self._ends: dict[str, float] = {}  # token -> when it ends, seconds since the epoch
        self.logins = 0

    def good(self, token: str, now: float) -> bool:
        return self._ends.get(token, 0.0) > now

    def known(self, token: str) -> bool:
        """Given out once, be it over or not."""
        return token in self._ends

    def expire(self) -> None:
        self._ends = dict.fromkeys(self._ends, 0.0)

    def grant(self, form: Mapping[str, str], now: float) -> tuple[str, str]:
        """-> (access token, empty), or (empty, the error's name in RFC 6749)."""
        if form.get("grant_type") not in ("client_credentials", "refresh_token"):
            return "", "unsupported_grant_type"
        if form.get("client_id") != self._client_id:
            return "", "invalid_client_id"
        if form.get("client_secret") != self._client_secret:
            return "", "invalid_client"
        if form["grant_type"] == "refresh_token":
            if form.get("refresh_token") != self.refresh_token:
                return "", "invalid_grant"
            if self.rotates:
                self.refresh_token = secrets.token_urlsafe(24)
        self.logins += 1
        token = self._token()
        self._ends[token] = now + self.ttl_s
        return token, ""


def form_of(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode(), keep_blank_values=True))

"""OAuth 2: the access token of one connection, got, renewed and handed out by one refresher.

Grants   client credentials; a refresh token; a service account's signed statement (RFC 7523)
Renewed  ahead of its end where the platform says when that is, and once after a 401. However many
         requests want one, one asks; while the old one is still good nobody waits
Rotation a refresh token that the platform replaces is written over the file that it was read from,
         so that a restart finds it. What cannot be kept (`env:…`, a file that may not be written)
         is said in the log: such a connection has to be authorised again after a restart

Asking for a token is paid from no quota: token endpoints stand beside the APIs, and whoever waits
for one holds already what its own request was paid with. Authlib's client would do the grants, but
sends by itself: past our bounds of time and size, and past the notes of what was asked.
"""

import asyncio
import contextlib
import contextvars
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import structlog
from pydantic import SecretStr

from connectors.base import Answer, PlatformError
from schemas.secrets import SecretMissing, resolve

__all__ = ["Ask", "Granted", "LoginRefused", "Secrets", "Tokens", "granted", "login", "newest"]

log = structlog.get_logger("connectors")

EARLY = 0.1
"""Part of a token's life at whose end the next one is asked for."""
EARLY_MAX_S = 300.0
AGAIN_S = 5.0
"""After a renewal ahead of time that failed: the old token is still good."""
WORDS_MAX = 200

T = TypeVar("T")
Ask = Callable[[Mapping[str, str]], Awaitable[Answer]]
"""Sends a form to the token endpoint. Raises PlatformError."""


class LoginRefused(PlatformError):
    """The token endpoint says no: nothing works until somebody authorises the connection anew."""

    def __str__(self) -> str:
        return str(self.body)


class Granted(NamedTuple):
    """What a token endpoint gave."""

    token: SecretStr
    life_s: float | None = None
    """None: it does not say."""
    refresh_token: SecretStr | None = None


class Secrets(dict[str, SecretStr]):
    """The values of a connection's secrets by name, and the references they were read from."""

    def __init__(self, values: Mapping[str, SecretStr], references: Mapping[str, str]) -> None:
        super().__init__(values)
        self._references, self._read = references, dict(values)

    def newest(self, name: str) -> SecretStr:
        """What we were given last, unless somebody has put something else behind the reference."""
        with contextlib.suppress(KeyError, SecretMissing):
            there = resolve(self._references[name])
            if there != self._read[name]:
                self._read[name] = self[name] = there
        return self[name]

    def replace(self, name: str, value: SecretStr) -> str:
        """Use this one from now on, and keep it where it came from -> why it cannot be kept."""
        self[name] = value
        kind, _, path = self._references.get(name, "").partition(":")
        if kind != "file":
            return "its reference is no file"
        try:
            _overwrite(Path(path), value.get_secret_value())
        except OSError as error:
            return f"the file cannot be written: {error.strerror}"
        self._read[name] = value
        return ""


def newest(secrets: Mapping[str, SecretStr], name: str) -> SecretStr:
    """What stands behind its reference now, where it has one."""
    return secrets.newest(name) if isinstance(secrets, Secrets) else secrets[name]


def _overwrite(path: Path, text: str) -> None:
    """All of it or nothing, for the same eyes as before."""
    path = path.resolve(strict=True)
    mode = path.stat().st_mode & 0o777
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


class _Held(NamedTuple):
    token: SecretStr
    renew_s: float
    ends_s: float


class Tokens:
    """The access token of one connection. Used in one event loop."""

    def __init__(
        self,
        get: Callable[[], Awaitable[Granted]],
        now_s: Callable[[], float] = time.monotonic,
        expired: Callable[[PlatformError], bool] = lambda error: error.status == 401,
    ) -> None:
        """`get`: asks for a new one (`login`). `now_s`: monotonic. `expired`: whether an answer
        says that a token is good no more."""
        self._get, self._now_s, self._expired = get, now_s, expired
        self._held: _Held | None = None
        self._asking: asyncio.Task[SecretStr] | None = None

    async def use(self, send: Callable[[SecretStr], Awaitable[T]]) -> T:
        """Whatever `send` gives with a good token; once more with a fresh one where it has expired.

        Raises PlatformError as `send` does, or LoginRefused.
        """
        token = await self.token()
        try:
            return await send(token)
        except PlatformError as error:
            if not self._expired(error):
                raise
        self.refused(token)
        return await send(await self.token())

    async def token(self) -> SecretStr:
        """A good one, as far as we know. Raises PlatformError."""
        held, now_s = self._held, self._now_s()
        if held is not None and now_s < held.ends_s:
            if now_s >= held.renew_s:
                self._ask()  # in the background
            return held.token
        return await asyncio.shield(self._ask())

    def refused(self, token: SecretStr) -> None:
        """The platform does not take it any more. Void where another one is held by now."""
        if self._held is not None and self._held.token is token:
            self._held = None

    def _ask(self) -> asyncio.Task[SecretStr]:
        if self._asking is None or self._asking.done():
            # In a context of its own: outside of the trail of whoever happens to be first.
            context = contextvars.Context()
            self._asking = asyncio.get_running_loop().create_task(self._renew(), context=context)
            self._asking.add_done_callback(self._asked)
        return self._asking

    async def _renew(self) -> SecretStr:
        granted = await self._get()
        now_s = self._now_s()
        life_s = float("inf") if granted.life_s is None else granted.life_s
        early_s = min(EARLY_MAX_S, EARLY * life_s)
        self._held = _Held(granted.token, now_s + life_s - early_s, now_s + life_s)
        return granted.token

    def _asked(self, task: asyncio.Task[SecretStr]) -> None:
        """Also where nobody waits for it."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._held is not None:
            self._held = self._held._replace(renew_s=self._now_s() + AGAIN_S)
        log.warning("no new token", error=type(error).__name__, because=str(error)[:WORDS_MAX])


def login(
    secrets: Mapping[str, SecretStr], ask: Ask, sign: Callable[[str], str] | None = None
) -> Callable[[], Awaitable[Granted]]:
    """A function that asks for a token with whatever secrets there are: `service_account` (signed
    by `sign`, from the account's key file to the statement), else `refresh_token`, else client
    credentials (`client_id`, `client_secret`)."""

    def value(name: str) -> str:
        return newest(secrets, name).get_secret_value()

    def form() -> dict[str, str]:
        if sign is not None and "service_account" in secrets:
            kind = "urn:ietf:params:oauth:grant-type:jwt-bearer"
            return {"grant_type": kind, "assertion": sign(value("service_account"))}
        names = ["client_id", "client_secret"]
        grant = "client_credentials"
        if "refresh_token" in secrets:
            names.append("refresh_token")
            grant = "refresh_token"
        return {"grant_type": grant, **{name: value(name) for name in names}}

    async def get() -> Granted:
        asked = form()
        try:
            given = granted(await ask(asked))
        except PlatformError as error:
            raise _no(error, asked) from None
        fresh, old = given.refresh_token, asked.get("refresh_token")
        if fresh is not None and old is not None and fresh.get_secret_value() != old:
            _keep(secrets, fresh)
        return given

    return get


def _keep(secrets: Mapping[str, SecretStr], fresh: SecretStr) -> None:
    why = "it has no reference"
    if isinstance(secrets, Secrets):
        why = secrets.replace("refresh_token", fresh)
    if why:
        log.error(
            "the platform has replaced the refresh token, and it cannot be kept: after a restart "
            "the connection must be authorised again; give it as file:PATH that may be written",
            because=why,
        )
    else:
        log.info("the platform has replaced the refresh token; the file has the new one")


def granted(answer: Answer) -> Granted:
    """A token endpoint's good answer (RFC 6749, section 5.1). Raises PlatformError for another."""
    body = answer.json()
    token = body.get("access_token") if isinstance(body, dict) else None
    if not isinstance(token, str) or not token:
        raise PlatformError(answer.status, "the login gave no token", answer.headers)
    life, refresh = body.get("expires_in"), body.get("refresh_token")
    return Granted(
        SecretStr(token),
        float(life) if isinstance(life, int | float) and life > 0 else None,
        SecretStr(refresh) if isinstance(refresh, str) and refresh else None,
    )


def _no(error: PlatformError, form: Mapping[str, str]) -> PlatformError:
    """A refusal of the login as such; what may pass (no answer, 429, 5xx) stays what it is."""
    if not 400 <= error.status < 500 or error.status in (408, 429):
        return error
    body: Mapping[str, Any] = error.body if isinstance(error.body, dict) else {}
    code = body.get("error") or body.get("status") or error.status
    words = body.get("error_description") or body.get("message") or ""
    said = f"login refused: {code}" + (f": {words}" if words else "")
    for name, value in form.items():
        if name != "grant_type":  # a platform may quote what it was asked with
            said = said.replace(value, f"<{name}>")
    if form["grant_type"] == "refresh_token":
        said += "; authorise the connection again"
    return LoginRefused(error.status, said[: 2 * WORDS_MAX], {}, error.sent)

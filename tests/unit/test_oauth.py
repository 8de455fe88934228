"""OAuth 2: one refresher a connection, ahead of time, once after a 401; rotation, and Google."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import SecretStr
from structlog.testing import capture_logs

from connectors.base import Answer, FieldsOf, PlatformError
from connectors.google import TOKEN_URL
from connectors.http import HttpClient, Trail, trail
from connectors.oauth import Granted, LoginRefused, Secrets, Tokens, granted, login
from connectors.platforms.ga4 import GA4, GA4Config


class Clock:
    def __init__(self) -> None:
        self.at_s = 1_000.0

    def __call__(self) -> float:
        return self.at_s


class Endpoint:
    """Gives `token-1`, `token-2` …; slow, so that others come meanwhile."""

    def __init__(self, life_s: float | None = 100.0) -> None:
        self.asked, self.life_s = 0, life_s
        self.error: PlatformError | None = None
        self.answer = asyncio.Event()
        self.answer.set()

    async def __call__(self) -> Granted:
        self.asked += 1
        number = self.asked
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return Granted(SecretStr(f"token-{number}"), self.life_s)


async def plain(token: SecretStr) -> str:
    return token.get_secret_value()


async def settled() -> None:
    """Until everything that can go on has gone on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_asks_however_many_wait() -> None:
    endpoint, clock = Endpoint(), Clock()
    tokens = Tokens(endpoint, clock)
    endpoint.answer.clear()
    waiting = [asyncio.create_task(tokens.use(plain)) for _ in range(50)]
    await settled()
    waiting.pop(0).cancel()  # whoever was first goes away: the others still get it
    endpoint.answer.set()
    assert set(await asyncio.gather(*waiting)) == {"token-1"}
    assert endpoint.asked == 1


async def test_the_next_one_is_there_before_the_last_one_ends_and_nobody_waits() -> None:
    endpoint, clock = Endpoint(), Clock()
    tokens = Tokens(endpoint, clock)
    assert await tokens.use(plain) == "token-1"
    clock.at_s += 89
    assert await tokens.use(plain) == "token-1"
    assert endpoint.asked == 1
    clock.at_s += 2  # the last tenth has begun
    endpoint.answer.clear()
    assert [await tokens.use(plain) for _ in range(5)] == ["token-1"] * 5
    endpoint.answer.set()
    await settled()
    assert (await tokens.use(plain), endpoint.asked) == ("token-2", 2)
    clock.at_s += 101  # nobody came for so long that it is over
    assert (await tokens.use(plain), endpoint.asked) == ("token-3", 3)


async def test_a_renewal_ahead_of_time_that_fails_costs_nothing_yet() -> None:
    endpoint, clock = Endpoint(), Clock()
    tokens = Tokens(endpoint, clock)
    await tokens.use(plain)
    clock.at_s += 95
    endpoint.error = PlatformError(503)
    assert await tokens.use(plain) == "token-1"
    await settled()
    assert await tokens.use(plain) == "token-1"
    assert endpoint.asked == 2  # not with every request
    clock.at_s += 6  # now it is over
    with pytest.raises(PlatformError):
        await tokens.use(plain)
    endpoint.error = None
    assert await tokens.use(plain) == "token-4"


async def test_a_refused_token_is_renewed_once_for_all_and_only_once() -> None:
    endpoint = Endpoint(None)
    tokens, good, sent = Tokens(endpoint), "token-2", list[str]()

    async def send(token: SecretStr) -> str:
        sent.append(token.get_secret_value())
        await asyncio.sleep(0)
        if sent[-1] != good:
            raise PlatformError(401)
        return sent[-1]

    assert await asyncio.gather(*(tokens.use(send) for _ in range(20))) == ["token-2"] * 20
    assert endpoint.asked == 2
    good, before = "never", len(sent)
    with pytest.raises(PlatformError) as caught:
        await tokens.use(send)
    assert (caught.value.status, len(sent) - before, endpoint.asked) == (401, 2, 3)


async def test_asking_for_a_token_is_paid_by_nobody() -> None:
    """Whoever holds a place among requests at once would wait for a second one for ever."""
    paid: list[str] = []

    async def another() -> None:
        paid.append("another")

    async def get() -> Granted:
        with trail(Trail()):
            return Granted(SecretStr("t"))

    with trail(Trail(another=another)) as of:
        await Tokens(get).use(plain)
    assert (paid, of.started, of.calls) == ([], 0, [])


# ---- logging in


def answer(**body: Any) -> Answer:
    return Answer(200, {}, json.dumps(body).encode())


class Platform:
    """A token endpoint that replaces the refresh token at each use."""

    def __init__(self, first: str, *, rotates: bool = True) -> None:
        self.good, self.rotates, self.forms = first, rotates, list[Mapping[str, str]]()

    async def __call__(self, form: Mapping[str, str]) -> Answer:
        self.forms.append(form)
        if form["refresh_token"] != self.good:
            words = f"no such token: {form['refresh_token']}"
            raise PlatformError(400, {"error": "invalid_grant", "error_description": words})
        if self.rotates:
            self.good = f"refresh-{len(self.forms)}"
        return answer(access_token="secret-a", expires_in=1, refresh_token=self.good)


def secrets(path: Path) -> Secrets:
    """As a worker that starts reads them."""
    return Secrets(
        {
            "client_id": SecretStr("app"),
            "client_secret": SecretStr("hush"),
            "refresh_token": SecretStr(path.read_text()),
        },
        {"refresh_token": f"file:{path}"},
    )


async def test_a_replaced_refresh_token_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    path.chmod(0o640)
    platform = Platform("first")
    get = login(secrets(path), platform)
    await get()
    assert path.read_text() == platform.good == "refresh-1"
    await get()
    assert path.read_text() == "refresh-2"
    await login(secrets(path), platform)()  # a restart
    assert path.read_text() == platform.good == "refresh-3"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["token"]
    assert {form["grant_type"] for form in platform.forms} == {"refresh_token"}


async def test_a_token_that_somebody_else_put_there_is_taken(tmp_path: Path) -> None:
    """Authorised anew by a person, or renewed by a process beside us."""
    path = tmp_path / "token"
    path.write_text("first")
    platform = Platform("first", rotates=False)
    get = login(secrets(path), platform)
    await get()
    platform.good = "second"
    with pytest.raises(LoginRefused):
        await get()
    path.write_text("second\n")
    await get()


async def test_a_refresh_token_that_cannot_be_kept_is_said_and_still_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_OF_TEST", "first")
    platform = Platform("first")
    given = Secrets(
        {n: SecretStr(v) for n, v in
         {"client_id": "app", "client_secret": "hush", "refresh_token": "first"}.items()},
        {"refresh_token": "env:TOKEN_OF_TEST"},
    )  # fmt: skip
    get = login(given, platform)
    with capture_logs() as told:
        await get()
        await get()
    assert [line["log_level"] for line in told] == ["error", "error"]
    assert "authorised again" in told[0]["event"]
    assert "refresh-" not in str(told)
    gone = Secrets(given, {"refresh_token": f"file:{tmp_path}/gone"})
    assert "cannot be written" in gone.replace("refresh_token", SecretStr("x"))


async def test_a_refused_login_says_so_without_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("tell-nobody")
    with pytest.raises(LoginRefused) as caught:
        await login(secrets(path), Platform("other"))()
    said = str(caught.value)
    assert said == (
        "login refused: invalid_grant: no such token: <refresh_token>; "
        "authorise the connection again"
    )
    assert "tell-nobody" not in repr(caught.value)


@pytest.mark.parametrize("status", [0, 408, 429, 500, 503])
async def test_a_token_endpoint_in_trouble_halts_nobody(status: int) -> None:
    async def ask(form: Mapping[str, str]) -> Answer:
        raise PlatformError(status)

    with pytest.raises(PlatformError) as caught:
        await login({"client_id": SecretStr("a"), "client_secret": SecretStr("b")}, ask)()
    assert not isinstance(caught.value, LoginRefused)
    assert caught.value.status == status


def test_a_good_answer_says_how_long() -> None:
    given = granted(answer(access_token="a", expires_in=1800, refresh_token="b"))
    assert given == (SecretStr("a"), 1800.0, SecretStr("b"))
    assert granted(answer(access_token="a")) == (SecretStr("a"), None, None)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"access_token": 7}'])
def test_an_answer_without_a_token_is_no_login(body: bytes) -> None:
    with pytest.raises(PlatformError):
        granted(Answer(200, {}, body))


# ---- Google


@pytest.fixture
async def google() -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    """Its token endpoint, and a property that takes the token -> their address, and the forms that
    came."""
    forms: list[dict[str, str]] = []

    async def token(request: web.Request) -> web.Response:
        forms.append({k: str(v) for k, v in (await request.post()).items()})
        return web.json_response({"access_token": "ya29.x", "expires_in": 3599})

    async def metadata(request: web.Request) -> web.Response:
        good = request.headers["authorization"] == "Bearer ya29.x"
        return web.json_response({}, status=200 if good else 401)

    app = web.Application()
    app.router.add_post("/token", token)
    app.router.add_get("/v1beta/properties/1/metadata", metadata)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", forms
    await runner.cleanup()


async def reads(url: str, secrets: Mapping[str, SecretStr]) -> None:
    """One request of a connection that has to log in first."""
    http = HttpClient(url)
    try:
        await GA4(GA4Config(property_id="1"), secrets, http).fetch_records(FieldsOf("report"))
    finally:
        await http.close()


def part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_a_service_account_signs_for_its_token(
    google: tuple[str, list[dict[str, str]]],
) -> None:
    url, forms = google
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    file = {"client_email": "robot@example.com", "private_key": pem, "private_key_id": "k1"}
    given = {"service_account": SecretStr(json.dumps(file))}
    await reads(url, given)
    (form,) = forms
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    head, claims, signature = form["assertion"].split(".")
    # RFC 7515: checked by hand, with nothing of the library that signed
    key.public_key().verify(
        part(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), SHA256()
    )
    assert json.loads(part(head)) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    said = json.loads(part(claims))
    assert (said["iss"], said["aud"]) == ("robot@example.com", TOKEN_URL)
    assert said["scope"] == "https://www.googleapis.com/auth/analytics.readonly"
    assert said["exp"] - said["iat"] == 3600


async def test_a_person_may_authorise_google_instead(
    google: tuple[str, list[dict[str, str]]],
) -> None:
    url, forms = google
    names = ("client_id", "client_secret", "refresh_token")
    given = {name: SecretStr(f"my-{name}") for name in names}
    await reads(url, given)
    assert forms == [{"grant_type": "refresh_token", **{n: f"my-{n}" for n in names}}]


@pytest.mark.parametrize("file", ["", "{}", '{"client_email": "x", "private_key": "tell-nobody"}'])
async def test_what_is_no_key_file_halts_with_words(file: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        await reads("http://127.0.0.1:1", {"service_account": SecretStr(file)})
    assert str(caught.value) == "service_account is no key file of Google"
    assert "tell-nobody" not in repr(caught.value)

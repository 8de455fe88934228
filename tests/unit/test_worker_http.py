"""What connectors send with, against a real server; and how a definition becomes a connector."""

import asyncio
import logging
from collections.abc import Mapping

import pytest
from aiohttp import web

from connectors.base import PlatformError
from connectors.http import ERROR_BYTES_MAX, Call, HttpClient, Trail, trail
from connectors.registry import Misconfigured, build, connector_class
from schemas.definitions import Connection


@pytest.fixture
async def server():
    """A server -> its address."""

    async def handle(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/json":
                body = await request.text()
                return web.json_response(
                    {"q": request.query_string, "body": body}, headers={"X-Left": "7"}
                )
            case "/refused":
                return web.json_response({"code": "NO"}, status=422, headers={"Retry-After": "9"})
            case "/words":
                return web.Response(text="no " * ERROR_BYTES_MAX, status=500)
            case "/large":
                return web.Response(body=b"x" * 5_000)
            case "/moved":
                return web.Response(status=302, headers={"Location": "/json"})
            case "/lost":
                assert request.transport is not None
                request.transport.close()
            case "/slow":
                await request.read()
                await asyncio.sleep(5)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def client(server):
    client = HttpClient(server, answer_s=1.0, bytes_max=1_000)
    yield client
    await client.close()


async def test_a_good_answer_comes_whole(client, caplog):
    caplog.set_level(logging.INFO)
    answer = await client.request("POST", "/json", params={"key": "hush"}, json={"a": "é"})
    assert answer.status == 200
    assert answer.json() == {"q": "key=hush", "body": '{"a":"é"}'}
    assert answer.headers["x-left"] == "7"
    assert "hush" not in caplog.text


async def _error(client, path: str) -> PlatformError:
    with pytest.raises(PlatformError) as raised:
        await client.request("POST", path)
    return raised.value


async def test_every_other_answer_is_an_error_with_what_it_said(client):
    refused = await _error(client, "/refused")
    assert (refused.status, refused.body, refused.sent) == (422, {"code": "NO"}, True)
    assert refused.headers["retry-after"] == "9"
    words = await _error(client, "/words")
    assert words.status == 500
    assert len(words.body) <= ERROR_BYTES_MAX
    assert (await _error(client, "/moved")).status == 302
    large = await _error(client, "/large")
    assert (large.status, large.body) == (200, "the answer is larger than 1000 bytes")


async def test_no_answer_says_whether_anything_was_sent(client, unused_tcp_port_factory):
    for path in ("/lost", "/slow"):
        lost = await _error(client, path)
        assert (lost.status, lost.sent) == (0, True)
    nobody = HttpClient(f"http://127.0.0.1:{unused_tcp_port_factory()}")
    unsent = await _error(nobody, "/json")
    assert (unsent.status, unsent.sent) == (0, False)
    await nobody.close()


async def test_our_key_never_goes_to_another_host(client, server):
    assert (await client.request("GET", f"{server}/json")).status == 200
    for path in ("http://other.example/json", "http://127.0.0.1:1/json", "https://127.0.0.1/"):
        with pytest.raises(ValueError, match="outside"):
            await client.request("GET", path)


async def test_what_a_batch_asked_for_is_noted_and_paid_for(client):
    paid: list[str] = []

    async def pay() -> None:
        paid.append("one more")

    of = Trail(another=pay)
    with trail(of):
        await client.request("GET", "/json", params={"key": "hush"})
        assert paid == []
        with pytest.raises(PlatformError):
            await client.request("POST", "/lost")
    await client.request("GET", "/json")
    assert paid == ["one more"]
    assert [(c.name, c.status) for c in of.calls] == [("GET /json", 200), ("POST /lost", 0)]
    assert (of.name, of.status, of.unanswered) == ("POST /lost", 0, True)


def test_the_name_of_a_request_names_nobody():
    def name(path: str) -> str:
        return Call("PUT", path, 200, 1, {}, True).name

    assert name("/3.0/lists/a1b2c3/members/62eeb292278cc15f5817cb78f7790b08") == (
        "PUT /3.0/lists/a1b2c3/members/{id}"
    )
    assert name("/contacts/ann@example.com/tags") == "PUT /contacts/{id}/tags"
    assert name("/contacts/ann%40example.com") == "PUT /contacts/{id}"
    assert name("/crm/v3/objects/contacts/batch/upsert") == (
        "PUT /crm/v3/objects/contacts/batch/upsert"
    )


CONNECTION = Connection(
    connection="acme", platform="mailchimp", account="a",
    options={"list_id": "l", "data_centre": "us7"}, secrets={"api_key": "env:WORKER_TEST_KEY"},
)  # fmt: skip


async def test_a_definition_becomes_a_connector(monkeypatch):
    monkeypatch.setenv("WORKER_TEST_KEY", "k-us7")
    addresses: list[str] = []

    def client(base_url: str, hosts: Mapping[str, str]) -> HttpClient:
        addresses.append(base_url)
        return HttpClient(base_url, hosts)

    connector, http = build(CONNECTION, client)
    assert connector.spec.platform == "mailchimp"
    assert addresses == ["https://us7.api.mailchimp.com"]
    assert isinstance(http, HttpClient)
    await http.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secrets": {}}, "secret 'api_key' is not given"),
        ({"secrets": {"api_key": "env:NOT_SET_ANYWHERE"}}, "NOT_SET_ANYWHERE"),
        ({"options": {}}, "options.list_id"),
        ({"options": {"list_id": "l", "colour": "red"}}, "options.colour"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"platform": "nobody"}, "unknown platform 'nobody'"),
    ],
)
def test_a_definition_that_cannot_work_says_why(monkeypatch, change, words):
    monkeypatch.setenv("WORKER_TEST_KEY", "hush-hush")
    with pytest.raises(Misconfigured, match=words.replace("'", ".")) as raised:
        build(CONNECTION.model_copy(update=change))
    assert "hush" not in str(raised.value)


def test_every_platform_can_be_loaded_and_names_itself():
    for platform in ("hubspot", "mailchimp", "salesforce"):
        assert connector_class(platform).spec.platform == platform

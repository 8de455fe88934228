"""Webhooks leave the fake HubSpot, Mailchimp and Salesforce as their pages say."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs
from xml.etree import ElementTree

import httpx
import pytest
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response
from aiohttp.web_server import Server

from simulators import HubSpot, Mailchimp, Salesforce
from simulators.portal import Contact

CONTACTS = "/crm/v3/objects/contacts"


@pytest.fixture
async def web() -> AsyncIterator[httpx.AsyncClient]:
    people = [Contact(str(1000 + n), {"company": "old"}, 1, 1) for n in range(150)]
    headers = {"Authorization": "Bearer hubspot-token"}
    async with (
        HubSpot(people).serve() as url,
        httpx.AsyncClient(base_url=url, headers=headers, verify=False) as client,
    ):
        yield client


async def _batch(web: httpx.AsyncClient, how: str, *inputs: dict[str, Any]) -> httpx.Response:
    return await web.post(f"{CONTACTS}/batch/{how}", json={"inputs": inputs})


class Listener:
    """A real server that takes webhooks and answers what it is told to."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[bytes, dict[str, str]]] = []
        self.checks = 0

    async def __call__(self, request: BaseRequest) -> Response:
        if request.method == "GET":
            self.checks += 1
            return Response(status=self.answers.pop(0) if self.answers else 200)
        self.requests.append((await request.read(), dict(request.headers)))
        return Response(status=self.answers.pop(0) if self.answers else 200)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for body, _ in self.requests for event in json.loads(body)]


@pytest.fixture
async def hook() -> AsyncIterator[tuple[Listener, str]]:
    listener = Listener()
    server = Server(listener)
    running = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    yield listener, f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}/hooks/a%3Ab?x=%2F1"
    running.close()
    await server.shutdown(0.05)
    await running.wait_closed()


async def _settled(web: httpx.AsyncClient) -> dict[str, int]:
    async with asyncio.timeout(10):
        while True:
            counts = (await web.get("/_sim/webhook")).json()
            if not counts["unsettled"]:
                return counts
            await asyncio.sleep(0.01)


async def test_an_act_sends_signed_webhooks(
    web: httpx.AsyncClient, hook: tuple[Listener, str]
) -> None:
    listener, url = hook
    await web.post("/_sim/webhook", json={"url": url, "secret": "s3cret"})
    acts = [
        {"id": "1001", "properties": {"company": "Ω", "email": "Moved@x.io"}},
        {"create": {"firstname": "Ann"}},
        {"delete": "1002"},
        {"id": "0", "properties": {}},
    ]
    acted = (await web.post("/_sim/act", json=acts)).json()["acted"]
    assert acted[3] == {"error": "no such contact"}
    await _settled(web)
    told = [
        (e["subscriptionType"], e.get("propertyName"), e.get("propertyValue"))
        for e in listener.events
    ]
    assert told == [
        ("contact.propertyChange", "company", "Ω"),
        ("contact.propertyChange", "email", "moved@x.io"),
        ("contact.creation", None, None),
        ("contact.propertyChange", "firstname", "Ann"),
        ("contact.propertyChange", "lifecyclestage", "lead"),
        ("contact.deletion", None, None),
    ]
    first = listener.events[0]
    assert (first["objectId"], first["attemptNumber"], first["changeSource"]) == (1001, 0, "CRM_UI")
    assert first["occurredAt"] == acted[0]["occurred_ms"]
    body, headers = listener.requests[0]
    signed = f"POST{url.replace('%3A', ':').replace('%2F', '/')}".encode() + body
    signed += headers["X-HubSpot-Request-Timestamp"].encode()
    digest = hmac.new(b"s3cret", signed, hashlib.sha256).digest()
    assert headers["X-HubSpot-Signature-v3"] == base64.b64encode(digest).decode()
    assert headers["X-HubSpot-Signature"] == hashlib.sha256(b"s3cret" + body).hexdigest()


async def test_older_signatures(web: httpx.AsyncClient, hook: tuple[Listener, str]) -> None:
    listener, url = hook
    for version, before in ((1, b""), (2, b"POST" + url.encode())):
        target = {"url": url, "secret": "s", "options": {"version": version}}
        await web.post("/_sim/webhook", json=target)
        await web.post("/_sim/act", json={"id": "1001", "properties": {"company": f"V{version}"}})
        await _settled(web)
        body, headers = listener.requests[-1]
        assert headers["X-HubSpot-Signature-Version"] == f"v{version}"
        assert headers["X-HubSpot-Signature"] == hashlib.sha256(b"s" + before + body).hexdigest()
        assert "X-HubSpot-Signature-v3" not in headers


async def test_refused_webhooks_come_again_until_the_tenth(
    web: httpx.AsyncClient, hook: tuple[Listener, str]
) -> None:
    listener, url = hook
    listener.answers = [503, 400]
    await web.post("/_sim/webhook", json={"url": url, "delay_scale": 1e-5})
    await web.post("/_sim/act", json={"id": "1001", "properties": {"company": "a"}})
    await _settled(web)
    assert [e["attemptNumber"] for e in listener.events] == [0, 1, 2]
    assert len({e["eventId"] for e in listener.events}) == 1
    listener.answers = [500] * 11
    await web.post("/_sim/act", json={"id": "1001", "properties": {"company": "b"}})
    counts = await _settled(web)
    assert (counts["given_up_events"], counts["delivered_events"]) == (1, 1)
    assert len(listener.requests) == 3 + 11


async def test_mishaps_on_the_way(web: httpx.AsyncClient, hook: tuple[Listener, str]) -> None:
    listener, url = hook
    target = {
        "url": url,
        "duplicates": 1.0,
        "reorder": True,
        "paused": True,
        "concurrency": 1,
        "options": {"same_event_id": 1.0, "strings": True, "properties": ["company"]},
    }
    await web.post("/_sim/webhook", json=target)
    acts = [{"id": str(1000 + n), "properties": {"company": f"x{n}"}} for n in range(150)]
    await web.post("/_sim/act", json=acts)
    assert listener.requests == []
    await web.post("/_sim/webhook", json={**target, "paused": False})
    await _settled(web)
    sizes = [len(json.loads(body)) for body, _ in listener.requests]
    assert sizes == [100, 100, 50, 50], "each batch twice, none above 100"
    events = listener.events
    assert all(isinstance(value, str) for event in events for value in event.values())
    once = {(e["objectId"], e["eventId"]) for e in events}
    assert len(once) == 150
    assert len({event_id for _, event_id in once}) == 75, "each id on two contacts"
    order = [int(e["objectId"]) for e in events[:100]]
    assert order != sorted(order)


async def test_writes_by_api_are_told_as_integration_unless_turned_off(
    web: httpx.AsyncClient, hook: tuple[Listener, str]
) -> None:
    listener, url = hook
    await web.post("/_sim/webhook", json={"url": url})
    await _batch(web, "update", {"id": "1001", "properties": {"company": "by api"}})
    await _settled(web)
    assert [e["changeSource"] for e in listener.events] == ["INTEGRATION"]
    await web.post("/_sim/webhook", json={"url": url, "options": {"echo": False}})
    await _batch(web, "update", {"id": "1001", "properties": {"company": "again"}})
    await _settled(web)
    assert len(listener.events) == 1


@pytest.fixture
async def audience() -> AsyncIterator[httpx.AsyncClient]:
    members = [("Ann@x.io", "subscribed", {"FNAME": "Ann"})]
    async with (
        Mailchimp(members).serve() as url,
        httpx.AsyncClient(base_url=url, verify=False) as client,
    ):
        yield client


async def test_mailchimp_checks_the_address_and_sends_forms(
    audience: httpx.AsyncClient, hook: tuple[Listener, str]
) -> None:
    listener, url = hook
    listener.answers = [404]
    refused = await audience.post("/_sim/webhook", json={"url": url})
    assert (refused.status_code, listener.checks) == (400, 1)
    await audience.post("/_sim/webhook", json={"url": url, "secret": "s", "concurrency": 1})
    acts = [
        {"kind": "subscribe", "email": "ben+a@x.io", "merge_fields": {"FNAME": "Ben & Co"}},
        {"kind": "upemail", "email": "ann@x.io", "new_email": "anna@x.io"},
        {"kind": "unsubscribe", "email": "anna@x.io"},
        {"kind": "cleaned", "email": "ben+a@x.io"},
        {"kind": "profile", "email": "nobody@x.io"},
    ]
    acted = (await audience.post("/_sim/act", json=acts)).json()["acted"]
    assert acted[4] == {"error": "no such member"}
    await _settled(audience)
    bodies = [body for body, _ in listener.requests]
    forms = [parse_qs(body.decode(), keep_blank_values=True) for body in bodies]
    assert [form["type"] for form in forms] == [
        ["subscribe"],
        ["upemail"],
        ["unsubscribe"],
        ["cleaned"],
    ]
    assert forms[0]["data[email]"] == ["ben+a@x.io"]
    assert forms[0]["data[merges][FNAME]"] == ["Ben & Co"]
    assert forms[1]["data[old_email]"] == ["ann@x.io"]
    assert "data[email]" not in forms[1]
    assert forms[2]["data[reason]"] == ["manual"]
    assert forms[3]["data[reason]"] == ["hard"]
    body, headers = listener.requests[0]
    moment, given = headers["X-Mailchimp-Signature"].split(",")
    signed = moment.removeprefix("t=").encode() + b"." + body
    assert given == "v1=" + hmac.new(b"s", signed, hashlib.sha256).hexdigest()


async def test_mailchimp_gives_up_at_410(
    audience: httpx.AsyncClient, hook: tuple[Listener, str]
) -> None:
    listener, url = hook
    await audience.post("/_sim/webhook", json={"url": url})
    listener.answers = [410]
    for _ in range(2):
        await audience.post("/_sim/act", json={"kind": "unsubscribe", "email": "ann@x.io"})
        await _settled(audience)
    assert len(listener.requests) == 1, "the webhook is off, without a retry"


async def test_salesforce_tells_each_save_as_the_record_stands_then(
    hook: tuple[Listener, str],
) -> None:
    listener, url = hook
    async with Salesforce().serve() as base, httpx.AsyncClient(base_url=base, verify=False) as org:
        fields = ["LastName", "Company", "City"]
        target = {"url": url, "paused": True, "options": {"fields": fields}}
        await org.post("/_sim/webhook", json=target)
        made = {"LastName": "Ng", "Company": "Lamb & <Co>"}
        [lead] = (await org.post("/_sim/act", json={"create": made})).json()["acted"]
        change = {"id": lead["id"], "fields": {"Company": "Ærø"}}
        await org.post("/_sim/act", json=[change, change])
        await org.post("/_sim/webhook", json={**target, "paused": False})
        await _settled(org)
    [(body, _)] = listener.requests
    sent = ElementTree.fromstring(body).iter(
        "{http://soap.sforce.com/2005/09/outbound}Notification"
    )
    told = [[(e.tag.rpartition("}")[2], e.text) for e in n.iter()] for n in sent]
    assert len({dict(one)["Id"] for one in told}) == 1
    assert len({dict(one[:2])["Id"] for one in told}) == 3, "an id of its own each"
    names = [name for name, _ in told[0][2:]]
    assert names == ["sObject", "Id", "LastName", "Company", "SystemModstamp"], "City is empty"
    assert {dict(one)["Company"] for one in told} == {"Ærø"}


async def test_two_contacts_become_one(web: httpx.AsyncClient, hook: tuple[Listener, str]) -> None:
    listener, url = hook
    await web.post("/_sim/act", json={"id": "1002", "properties": {"city": "Oslo"}})
    await web.post("/_sim/webhook", json={"url": url})
    acts = [{"merge": "1002", "into": "1001"}, {"merge": "1002", "into": "1001"}]
    acted = (await web.post("/_sim/act", json=acts)).json()["acted"]
    assert "error" in acted[1]
    await _settled(web)
    [told] = listener.events
    assert told["subscriptionType"] == "contact.merge"
    assert (told["primaryObjectId"], told["mergedObjectIds"]) == (1001, [1002])
    both = [(await web.get(f"{CONTACTS}/{i}?properties=city,company")).json() for i in (1001, 1002)]
    assert [one["id"] for one in both] == ["1001", "1001"]
    assert both[0]["properties"]["city"] == "Oslo"
    assert both[0]["properties"]["company"] == "old"

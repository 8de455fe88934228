"""The fake Mailchimp behaves as Mailchimp's pages say, seen by a plain HTTP client."""

import asyncio
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from simulators import Mailchimp

LIST = "/3.0/lists/a1b2c3d4e5"
MEMBERS = (
    ("Ann@x.io", "subscribed", {"FNAME": "Ann"}),
    ("gone@x.io", "unsubscribed", {}),
    ("hard@x.io", "cleaned", {}),
)


def _hash(address: str) -> str:
    return hashlib.md5(address.lower().encode()).hexdigest()


def _client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, auth=("any", "mailchimp-key-us1"), verify=False)


@pytest.fixture
def audience() -> Mailchimp:
    return Mailchimp(MEMBERS)


@pytest.fixture
async def web(audience: Mailchimp) -> AsyncIterator[httpx.AsyncClient]:
    async with audience.serve() as url, _client(url) as client:
        yield client


def _member(address: str, status: str | None = None, **merges: Any) -> dict[str, Any]:
    member: dict[str, Any] = {"email_address": address, "status_if_new": "subscribed"}
    return member | ({"status": status} if status else {}) | {"merge_fields": merges}


async def _batch(web: httpx.AsyncClient, *members: dict[str, Any], query: str = "") -> Any:
    body = {"members": members, "update_existing": True}
    answer = await web.post(f"{LIST}{query}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_keys(audience: Mailchimp, web: httpx.AsyncClient) -> None:
    assert (await web.get("/3.0/ping")).json() == {"health_status": "Everything's Chimpy!"}
    bearer = {"Authorization": "Bearer mailchimp-key-us1"}
    assert (await web.get(LIST, headers=bearer)).status_code == 200
    for header, title in (
        ("Basic !!!", "API Key Missing"),
        ("", "API Key Missing"),
        ("Bearer other", "API Key Invalid"),
    ):
        answer = await web.get(LIST, headers={"Authorization": header}, auth=None)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["title"]) == (401, title)
        assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert audience.windows["connections"].spent == 2


async def test_a_batch_makes_changes_and_refuses_member_by_member(
    audience: Mailchimp, web: httpx.AsyncClient
) -> None:
    answer = await _batch(
        web,
        _member("New@x.io", FNAME="N", NOSUCH="ignored"),
        _member("ann@X.io", FNAME="", LNAME="Lee"),
        _member("no-tld@intranet"),
        _member("long@x.io", COMPANY="c" * 256),
        {"email_address": "nostatus@x.io"},
        _member("odd@x.io", status="fine"),
    )
    assert [m["id"] for m in answer["new_members"]] == [_hash("new@x.io")]
    assert answer["new_members"][0]["merge_fields"] == {
        "FNAME": "N",
        "LNAME": "",
        "COMPANY": "",
        "PHONE": "",
        "COUNTRY": "",
    }
    assert [m["email_address"] for m in answer["updated_members"]] == ["Ann@x.io"]
    assert [(e["email_address"], e["field"]) for e in answer["errors"]] == [
        ("no-tld@intranet", "email_address"),
        ("long@x.io", "COMPANY"),
        ("nostatus@x.io", "status"),
        ("odd@x.io", "status"),
    ]
    counts = answer["total_created"], answer["total_updated"], answer["error_count"]
    assert counts == (1, 1, 4)
    changes = [e["changes"] for e in audience.store.entries(updates_only=True)]
    assert changes == [{"FNAME": ["Ann", None], "LNAME": [None, "Lee"]}]
    await _batch(web, _member("ann@x.io", LNAME="Lee"))
    assert audience.store.unchanged_rows == 1


async def test_nobody_is_subscribed_against_their_will(
    audience: Mailchimp, web: httpx.AsyncClient
) -> None:
    held = await _batch(
        web, _member("gone@x.io", status="subscribed"), _member("hard@x.io", status="subscribed")
    )
    assert held["error_count"] == 2
    assert "compliance state" in held["errors"][0]["error"]
    fields = await _batch(web, _member("gone@x.io", FNAME="Still gone"))
    assert fields["updated_members"][0]["status"] == "unsubscribed"
    asked = await _batch(web, _member("gone@x.io", status="pending"))
    assert asked["updated_members"][0]["status"] == "pending"
    put = await web.put(f"{LIST}/members/{_hash('hard@x.io')}", json={"status": "subscribed"})
    assert (put.status_code, put.json()["title"]) == (400, "Member In Compliance State")


async def test_an_address_twice_in_a_call(web: httpx.AsyncClient) -> None:
    twice = _member("a@x.io", FNAME="1"), _member("A@x.io", FNAME="2")
    answer = await _batch(web, *twice)
    assert answer["new_members"][0]["merge_fields"]["FNAME"] == "1"
    assert answer["errors"][0]["error_code"] == "ERROR_CONTACT_EXISTS"
    silent = await _batch(web, *twice, query="?skip_duplicate_check=true")
    assert (silent["total_updated"], silent["error_count"]) == (1, 0)


async def test_members_that_exist_want_update_existing(web: httpx.AsyncClient) -> None:
    answer = await web.post(LIST, json={"members": [_member("ann@x.io")]})
    assert answer.json()["errors"][0]["error_code"] == "ERROR_CONTACT_EXISTS"


async def test_calls_that_are_refused_whole(web: httpx.AsyncClient) -> None:
    many = {"members": [_member(f"{n}@x.io") for n in range(501)]}
    for body, title in ((many, "Invalid Resource"), ({"members": "x"}, "Invalid Resource")):
        answer = await web.post(LIST, json=body)
        assert (answer.status_code, answer.json()["title"]) == (400, title)
    broken = await web.post(LIST, content=b"{")
    assert broken.json()["title"] == "JSON Parse Error"
    large = await web.post(LIST, content=b" " * (16 * 1024 * 1024 + 1))
    assert large.status_code == 413
    missing = await web.get("/3.0/lists/other/members")
    assert (missing.status_code, missing.json()["title"]) == (404, "Resource Not Found")


async def test_one_member(audience: Mailchimp, web: httpx.AsyncClient) -> None:
    path = f"{LIST}/members/{_hash('ann@x.io')}"
    assert (await web.get(path)).json()["merge_fields"]["FNAME"] == "Ann"
    put = await web.put(path, json=_member("ann@x.io", LNAME="Lee"))
    assert put.json()["merge_fields"]["LNAME"] == "Lee"
    moved = await web.put(path, json=_member("Anna@x.io"))
    assert moved.json()["id"] == _hash("anna@x.io")
    assert (await web.get(path)).status_code == 404
    assert audience.store.effects()["created"] == 0, "a changed address is no new member"
    patch = await web.patch(f"{LIST}/members/{_hash('anna@x.io')}", json={"merge_fields": {}})
    assert patch.status_code == 200
    taken = await web.patch(
        f"{LIST}/members/{_hash('anna@x.io')}", json={"email_address": "gone@x.io"}
    )
    assert (taken.status_code, taken.json()["title"]) == (400, "Member Exists")
    new = await web.put(f"{LIST}/members/{_hash('new@x.io')}", json=_member("new@x.io"))
    assert new.json()["status"] == "subscribed"
    exists = await web.post(f"{LIST}/members", json=_member("new@x.io"))
    assert exists.json()["title"] == "Member Exists"
    bad = await web.put(f"{LIST}/members/{_hash('b')}", json=_member("b"))
    assert bad.json()["errors"][0]["field"] == "email_address"


async def test_archived_members_come_back_as_themselves(
    audience: Mailchimp, web: httpx.AsyncClient
) -> None:
    path = f"{LIST}/members/{_hash('ann@x.io')}"
    assert (await web.delete(path)).status_code == 204
    assert (await web.get(path)).json()["status"] == "archived"
    assert (await web.delete(path)).status_code == 405
    back = await _batch(web, _member("ann@x.io", LNAME="Lee"))
    assert back["new_members"][0]["status"] == "subscribed"
    assert [e.get("changes") for e in audience.store.entries()] == [
        {"(deleted)": [False, True]},
        {"(deleted)": [True, False]},
        {"LNAME": [None, "Lee"]},
    ]
    assert audience.store.effects()["objects"] == 3


async def test_who_is_deleted_for_good_cannot_be_brought_back(
    audience: Mailchimp, web: httpx.AsyncClient
) -> None:
    path = f"{LIST}/members/{_hash('ann@x.io')}"
    assert (await web.post(f"{path}/actions/delete-permanent")).status_code == 204
    assert (await web.get(path)).status_code == 404
    assert (await web.post(f"{path}/actions/delete-permanent")).status_code == 404
    back = await _batch(web, _member("ann@x.io", LNAME="Lee"))
    assert "permanently deleted" in back["errors"][0]["error"]
    assert audience.store.objects[_hash("ann@x.io")].values == {}


async def test_tags(web: httpx.AsyncClient) -> None:
    path = f"{LIST}/members/{_hash('ann@x.io')}/tags"
    on = {"tags": [{"name": "a", "status": "active"}, {"name": "b", "status": "active"}]}
    assert (await web.post(path, json=on)).status_code == 204
    await web.post(path, json={"tags": [{"name": "a", "status": "inactive"}]})
    assert [t["name"] for t in (await web.get(path)).json()["tags"]] == ["b"]
    assert (await web.get(path.removesuffix("/tags"))).json()["tags_count"] == 1


async def test_pages_of_members_and_what_has_changed(web: httpx.AsyncClient) -> None:
    await _batch(web, *(_member(f"m{n}@x.io") for n in range(7)))
    seen: list[str] = []
    for offset in (0, 4, 8):
        page = (await web.get(f"{LIST}/members?count=4&offset={offset}")).json()
        seen += [m["email_address"] for m in page["members"]]
        assert page["total_items"] == 10
    assert len(seen) == len(set(seen)) == 10
    old = (await web.get(f"{LIST}/members/{_hash('ann@x.io')}")).json()["last_changed"]
    params = {"since_last_changed": old, "count": "1000", "sort_field": "last_changed"}
    assert (await web.get(f"{LIST}/members", params=params)).json()["total_items"] == 7
    before = {"before_last_changed": old}
    assert (await web.get(f"{LIST}/members", params=before)).json()["total_items"] == 3
    gone = (await web.get(f"{LIST}/members?status=unsubscribed")).json()["members"]
    assert [m["email_address"] for m in gone] == ["gone@x.io"]
    assert (await web.get(f"{LIST}/members?count=1001")).status_code == 400
    assert (await web.get(LIST)).json()["stats"]["member_count"] == 8


async def test_merge_fields_can_be_listed_made_and_required(web: httpx.AsyncClient) -> None:
    made = {"name": "Rank", "type": "text", "required": True}
    assert (await web.post(f"{LIST}/merge-fields", json=made)).json()["tag"] == "RANK"
    assert (await web.post(f"{LIST}/merge-fields", json=made)).status_code == 400
    fields = (await web.get(f"{LIST}/merge-fields?count=2&offset=4")).json()
    assert (fields["total_items"], [f["tag"] for f in fields["merge_fields"]]) == (
        6,
        ["COUNTRY", "RANK"],
    )
    refused = await _batch(web, _member("new@x.io"))
    assert refused["errors"][0]["field"] == "RANK"
    lenient = await _batch(web, _member("new@x.io"), query="?skip_merge_validation=true")
    assert lenient["total_created"] == 1


async def test_the_eleventh_request_at_once_is_refused() -> None:
    audience = Mailchimp(script=[{"action": "delay", "ms": 300, "count": 10}])
    async with audience.serve() as url, _client(url) as web:
        ten = [asyncio.create_task(web.get("/3.0/ping")) for _ in range(10)]
        async with asyncio.timeout(5):
            while True:
                if audience.windows["connections"].used(0) == 10:
                    break
                await asyncio.sleep(0.005)
        full = await web.get("/3.0/ping")
        assert (full.status_code, full.json()["title"]) == (429, "Too Many Requests")
        assert "Retry-After" not in full.headers
        assert {(await task).status_code for task in ten} == {200}
        assert (await web.get("/3.0/ping")).status_code == 200
        window = (await web.get("/_sim/stats")).json()["windows"]["connections"]
        assert (window["peak"], window["refused"], window["overspends"]) == (10, 1, 1)


async def test_ten_callers_that_wait_for_each_answer_are_never_refused(
    audience: Mailchimp, web: httpx.AsyncClient
) -> None:
    """A place is free before the answer arrives, so a strict caller loses none of its ten."""

    async def caller() -> None:
        for _ in range(30):
            assert (await web.get("/3.0/ping")).status_code == 200

    await asyncio.gather(*(caller() for _ in range(10)))
    assert audience.windows["connections"].refused == 0


async def _tags(web: httpx.AsyncClient, address: str) -> list[str]:
    answer = await web.get(f"{LIST}/members/{_hash(address)}/tags")
    return [tag["name"] for tag in answer.json()["tags"]]


async def test_tags_are_added_or_replaced(web: httpx.AsyncClient) -> None:
    tagged = _member("ann@x.io") | {"tags": ["a", "b"]}
    await _batch(web, tagged)
    await _batch(web, _member("ann@x.io") | {"tags": ["c"]})
    assert await _tags(web, "ann@x.io") == ["a", "b", "c"]
    for members, left in (([tagged], ["a", "b"]), ([_member("ann@x.io")], [])):
        body = {"members": members, "update_existing": True, "sync_tags": True}
        await web.post(LIST, json=body)
        assert await _tags(web, "ann@x.io") == left


async def test_operations_are_answered_later_in_an_archive(
    audience: Mailchimp, web: httpx.AsyncClient
) -> None:
    """Seven calls, of which one is none of theirs; nothing has happened before it is due."""
    audience.batches.job_s = 3600
    path = LIST.removeprefix("/3.0")
    operations = [
        {"method": "POST", "path": path, "operation_id": f"o{n}",
         "body": msgspec.json.encode({"members": [_member(f"{n}@x.io")]}).decode()}
        for n in range(6)
    ]  # fmt: skip
    operations.append({"method": "GET", "path": "/nowhere", "operation_id": "o6"})
    begun = (await web.post("/3.0/batches", json={"operations": operations})).json()
    assert (begun["status"], begun["total_operations"]) == ("pending", 7)
    assert (await web.get(f"/3.0/batches/{begun['id']}")).json()["response_body_url"] == ""
    assert _hash("1@x.io") not in audience.store.objects
    audience.batches.batches[begun["id"]].due_ms = 0
    about = (await web.get(f"/3.0/batches/{begun['id']}")).json()
    assert (about["status"], about["errored_operations"]) == ("finished", 1)
    async with httpx.AsyncClient(verify=False) as stranger:  # the address is its own proof
        archive = (await stranger.get(about["response_body_url"])).content
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        told = [
            one
            for entry in files
            if (file := files.extractfile(entry)) is not None
            for one in msgspec.json.decode(file.read())
        ]
    assert {one["operation_id"]: one["status_code"] for one in told} == {
        **{f"o{n}": 200 for n in range(6)}, "o6": 404,
    }  # fmt: skip
    assert msgspec.json.decode(told[1]["response"])["total_created"] == 1
    assert (await web.get("/3.0/batches/nobodys")).status_code == 404
    assert (await web.post("/3.0/batches", json={"operations": []})).status_code == 400

"""The fake Salesforce behaves as Salesforce's pages say, seen by a plain HTTP client."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from simulators import Salesforce
from simulators.portal import Lead
from simulators.salesforce_fields import full_id, new_id

V = "/services/data/v59.0"
UPSERT = f"{V}/composite/sobjects/Lead/Syncline_Id__c"
LOGIN = {
    "grant_type": "client_credentials",
    "client_id": "salesforce-client",
    "client_secret": "salesforce-secret",
}


def _old(number: int) -> Lead:
    values = {"Email": f"Old{number}@X.io", "LastName": f"L{number}", "Company": "C"}
    return Lead(str(number), values, 1_600_000_000_000 + number * 1000)


@pytest.fixture
def organisation() -> Salesforce:
    return Salesforce([_old(n) for n in range(5)])


@asynccontextmanager
async def _in(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has logged in, which was request 1."""
    async with httpx.AsyncClient(base_url=url, verify=False) as client:
        answer = await client.post("/services/oauth2/token", data=LOGIN)
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield client


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


@pytest.fixture
async def web(organisation: Salesforce) -> AsyncIterator[httpx.AsyncClient]:
    async with organisation.serve() as url, _in(url) as client:
        yield client


def _lead(key: str, **fields: Any) -> dict[str, Any]:
    base = {"attributes": {"type": "Lead"}, "Syncline_Id__c": key}
    return {**base, "LastName": "Ng", "Company": "ACME", **fields}


async def _upsert(web: httpx.AsyncClient, *records: dict[str, Any], **more: Any) -> Any:
    answer = await web.patch(UPSERT, json={"allOrNone": False, "records": records, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _query(web: httpx.AsyncClient, soql: str) -> Any:
    answer = await web.get(f"{V}/query", params={"q": soql})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_logging_in(organisation: Salesforce) -> None:
    async with (
        organisation.serve() as url,
        httpx.AsyncClient(base_url=url, verify=False) as web,
    ):
        good = (await web.post("/services/oauth2/token", data=LOGIN)).json()
        assert (good["instance_url"], good["token_type"]) == (url, "Bearer")
        again = {**LOGIN, "grant_type": "refresh_token", "refresh_token": "salesforce-refresh"}
        assert (await web.post("/services/oauth2/token", data=again)).status_code == 200
        for wrong, kind in (
            ({**LOGIN, "client_secret": "x"}, "invalid_client"),
            ({**LOGIN, "client_id": "x"}, "invalid_client_id"),
            ({**again, "refresh_token": "x"}, "invalid_grant"),
            ({}, "unsupported_grant_type"),
        ):
            answer = await web.post("/services/oauth2/token", data=wrong)
            assert (answer.status_code, answer.json()["error"]) == (400, kind)
        stranger = await web.get(f"{V}/limits", headers={"Authorization": "Bearer x"})
        assert stranger.status_code == 401
        assert stranger.json()[0]["errorCode"] == "INVALID_SESSION_ID"
        assert organisation.windows["day"].spent == 0


async def test_a_token_ends() -> None:
    organisation = Salesforce(token_ttl_s=0.0)
    async with organisation.serve() as url, _in(url) as web:
        assert (await web.get(f"{V}/sobjects/Lead/describe")).status_code == 401


async def test_upsert_creates_then_updates_in_the_order_of_the_rows(
    organisation: Salesforce, web: httpx.AsyncClient
) -> None:
    first = await _upsert(web, _lead("b", Email="b@x.io"), _lead("a", NumberOfEmployees=5))
    assert [(r["success"], r["created"], r["errors"]) for r in first] == [(True, True, [])] * 2
    second = await _upsert(web, _lead("a", NumberOfEmployees=None, City=" Ulm "), _lead("b"))
    assert [(r["id"], r["created"]) for r in second] == [
        (first[1]["id"], False),
        (first[0]["id"], False),
    ]
    entries = list(organisation.store.entries())
    assert [(e["request"], e["row"], e["id"]) for e in entries] == [
        (2, 0, first[0]["id"]),
        (2, 1, first[1]["id"]),
        (3, 0, first[1]["id"]),
    ], "the log-in was request 1; the equal row of request 3 had no effect"
    assert entries[2]["changes"] == {"NumberOfEmployees": [5, None], "City": [None, "Ulm"]}
    assert entries[0]["created"]["Status"] == "Open - Not Contacted"


async def test_each_bad_row_says_why_and_spares_the_others(web: httpx.AsyncClient) -> None:
    cases: list[tuple[dict[str, Any], str, list[str]]] = [
        (_lead("1", Email="a@intranet"), "INVALID_EMAIL_ADDRESS", ["Email"]),
        (_lead("2", Email="a@x.io."), "INVALID_EMAIL_ADDRESS", ["Email"]),
        (_lead("3", Email="a..b@x.io"), "INVALID_EMAIL_ADDRESS", ["Email"]),
        (_lead("4", Company="c" * 256), "STRING_TOO_LONG", ["Company"]),
        (_lead("5", Email="a" * 75 + "@x.io.co"), "STRING_TOO_LONG", ["Email"]),
        (_lead("6", LastName="", Company=None), "REQUIRED_FIELD_MISSING", ["LastName", "Company"]),
        (_lead("7", Nope="x"), "INVALID_FIELD", ["Nope"]),
        (_lead("8", SystemModstamp="x"), "INVALID_FIELD_FOR_INSERT_UPDATE", ["SystemModstamp"]),
        (_lead("9", NumberOfEmployees=10**9), "NUMBER_OUTSIDE_VALID_RANGE", ["NumberOfEmployees"]),
        (_lead("10", attributes={"type": "Contact"}), "INVALID_TYPE", []),
        (_lead("", Email="a@x.io"), "MISSING_ARGUMENT", ["Syncline_Id__c"]),
        (_lead("11", Id="00Q5g0000000001EAA"), "INVALID_FIELD", ["Id"]),
    ]
    good = _lead("good", Email="a+b.c'd@x-y.example")
    results = await _upsert(web, *(record for record, _, _ in cases), good, good)
    for (_, code, fields), result in zip(cases, results, strict=False):
        problem = result["errors"][0]
        assert result["success"] is False
        assert (problem["statusCode"], problem["fields"]) == (code, fields)
    assert results[-2]["success"] is True
    assert results[-1]["errors"][0]["statusCode"] == "DUPLICATE_VALUE"
    assert results[-1]["errors"][0]["message"].startswith("Duplicate external id specified")


async def test_calls_that_are_refused_whole(
    organisation: Salesforce, web: httpx.AsyncClient
) -> None:
    many = [_lead(str(n)) for n in range(201)]
    for body, code in (
        ({"records": many}, "EXCEEDED_ID_LIMIT"),
        ({"records": []}, "MISSING_ARGUMENT"),
        ({"records": [_lead("1", NumberOfEmployees="many")]}, "JSON_PARSER_ERROR"),
        ({"rows": []}, "JSON_PARSER_ERROR"),
    ):
        answer = await web.patch(UPSERT, json=body)
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)
    assert (await web.patch(f"{V}/composite/sobjects/Lead/Nope__c", json={})).status_code == 404
    assert (await web.get(f"{V}/nowhere")).json()[0]["errorCode"] == "NOT_FOUND"
    assert organisation.store.effects()["created"] == 0


async def test_all_or_none_rolls_back(organisation: Salesforce, web: httpx.AsyncClient) -> None:
    mixed = await _upsert(web, _lead("1"), _lead("2", Email="x"), allOrNone=True)
    assert [r["errors"][0]["statusCode"] for r in mixed] == [
        "ALL_OR_NONE_OPERATION_ROLLED_BACK",
        "INVALID_EMAIL_ADDRESS",
    ]
    assert organisation.store.effects()["created"] == 0
    good = await _upsert(web, _lead("1"), _lead("2"), allOrNone=True)
    assert all(r["success"] for r in good)


async def test_adopting_a_lead_that_was_there(
    organisation: Salesforce, web: httpx.AsyncClient
) -> None:
    soql = "SELECT Id, Email, Syncline_Id__c FROM Lead WHERE Email IN ('OLD3@x.io', 'none@x.io')"
    found = await _query(web, soql)
    assert (found["totalSize"], found["done"]) == (1, True)
    record = found["records"][0]
    assert record["Syncline_Id__c"] is None
    assert record["attributes"]["type"] == "Lead"
    stamped = {"attributes": {"type": "Lead"}, "id": record["Id"], "Syncline_Id__c": "p3"}
    update = await web.patch(f"{V}/composite/sobjects", json={"records": [stamped]})
    assert update.json() == [{"id": record["Id"], "success": True, "created": False, "errors": []}]
    upserted = await _upsert(web, _lead("p3", Email="old3@x.io"))
    assert (upserted[0]["id"], upserted[0]["created"]) == (record["Id"], False)
    twin = await _upsert(web, _lead("other", Email="OLD4@x.io"))
    assert twin[0]["created"] is True
    effects = organisation.store.effects()
    assert (effects["made_twice"], list(effects["twice"])) == (1, ["old4@x.io"])
    other = {"attributes": {"type": "Lead"}, "id": twin[0]["id"], "Syncline_Id__c": "p3"}
    clash = await web.patch(f"{V}/composite/sobjects", json={"records": [other]})
    assert clash.json()[0]["errors"][0]["statusCode"] == "DUPLICATE_VALUE"


async def test_updates_by_id_want_a_good_id(web: httpx.AsyncClient) -> None:
    made = (await _upsert(web, _lead("a")))[0]["id"]
    gone = (await _upsert(web, _lead("b")))[0]["id"]
    assert (await web.delete(f"{V}/sobjects/Lead/{gone}")).status_code == 204
    wanted = {
        made[:15]: None,
        made[:15].swapcase(): "MALFORMED_ID",
        made[:-1] + "5": "MALFORMED_ID",
        "short": "MALFORMED_ID",
        gone: "ENTITY_IS_DELETED",
        full_id(new_id("Lead", 10**6)): "INVALID_CROSS_REFERENCE_KEY",
    }
    records = [{"attributes": {"type": "Lead"}, "id": i, "City": "Ulm"} for i in wanted]
    results = (await web.patch(f"{V}/composite/sobjects/", json={"records": records})).json()
    codes = [r["errors"][0]["statusCode"] if r["errors"] else None for r in results]
    assert codes == list(wanted.values())


async def test_duplicate_rule_blocks_a_twin() -> None:
    organisation = Salesforce([_old(1)], duplicate_rule=True)
    async with organisation.serve() as url, _in(url) as web:
        record = {**_lead("x"), "Email": "old1@x.io"}
        result = (await _upsert(web, record))[0]
        assert result["errors"][0]["statusCode"] == "DUPLICATES_DETECTED"
        created = await web.post(f"{V}/composite/sobjects", json={"records": [record]})
        assert created.json()[0]["success"] is False


async def test_two_requests_at_once_that_make_one_external_id() -> None:
    slow = {"action": "slow_body", "ms": 300, "count": 1, "path": "composite"}
    organisation = Salesforce(script=[slow])
    async with organisation.serve() as url, _in(url) as web:
        first = asyncio.create_task(_upsert(web, _lead("same")))
        await _until(lambda: organisation.store.indexes["Syncline_Id__c"].first("same") is not None)
        second = await _upsert(web, _lead("same"))
        assert second[0]["errors"][0]["statusCode"] == "DUPLICATE_VALUE"
        assert "Syncline_Id__c" in second[0]["errors"][0]["message"]
        assert (await first)[0]["created"] is True
        third = await _upsert(web, _lead("same"))
        assert (third[0]["success"], third[0]["created"]) == (True, False)


async def test_queries(web: httpx.AsyncClient) -> None:
    everything = "SELECT Id FROM Lead"
    for where, count in (
        ("", 5),
        (" WHERE Email = 'old1@X.IO'", 1),
        (" WHERE NOT Email = 'old1@X.IO'", 4),
        (" WHERE LastName IN ('l1', 'L2') AND Company != 'x'", 2),
        (" WHERE LastName NOT IN ('l1')", 4),
        (" WHERE Syncline_Id__c = null", 5),
        (" WHERE LastName = 'o\\'neil'", 0),
        (" WHERE (Email = 'old1@x.io' OR Email = 'old2@x.io') AND LastName = 'L2'", 1),
        (" WHERE SystemModstamp >= 2020-09-13T12:26:43Z", 2),
        (" WHERE SystemModstamp > 2020-09-13T12:26:43.000+0000", 1),
        (" WHERE IsDeleted = false LIMIT 2", 2),
        (" LIMIT 10 OFFSET 4", 1),
    ):
        assert len((await _query(web, everything + where))["records"]) == count, where
    counted = await _query(web, "select count() from Lead where LastName = 'L1'")
    assert (counted["totalSize"], counted["records"]) == (1, [])
    ordered = await _query(
        web, "SELECT LastName, SystemModstamp FROM Lead ORDER BY SystemModstamp DESC, Id"
    )
    assert [r["LastName"] for r in ordered["records"]] == ["L4", "L3", "L2", "L1", "L0"]
    assert ordered["records"][0]["SystemModstamp"] == "2020-09-13T12:26:44.000+0000"
    for bad, code in (
        ("SELECT Nope FROM Lead", "INVALID_FIELD"),
        ("SELECT Id FROM Thing", "INVALID_TYPE"),
        ("SELECT Id FROM Lead WHERE", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE Email = 5", "INVALID_FIELD"),
        ("SELECT Id FROM Lead; DROP", "MALFORMED_QUERY"),
        ("SELECT Id FROM Lead WHERE Id = 'x'", "INVALID_QUERY_FILTER_OPERATOR"),
    ):
        answer = await web.get(f"{V}/query", params={"q": bad})
        assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code), bad


async def test_a_cursor_of_stamp_and_id_meets_each_record_once(web: httpx.AsyncClient) -> None:
    await _upsert(web, *(_lead(f"k{n}") for n in range(150)))
    seen: list[str] = []
    where = ""
    while True:
        soql = f"SELECT Id, SystemModstamp FROM Lead {where} ORDER BY SystemModstamp, Id LIMIT 40"
        records = (await _query(web, soql))["records"]
        seen += [record["Id"] for record in records]
        if len(records) < 40:
            break
        stamp, last = records[-1]["SystemModstamp"], records[-1]["Id"]
        where = f"WHERE SystemModstamp > {stamp} OR (SystemModstamp = {stamp} AND Id > '{last}')"
    assert len(seen) == len(set(seen)) == 155


async def test_large_results_come_in_pages(web: httpx.AsyncClient) -> None:
    for start in range(0, 400, 200):
        await _upsert(web, *(_lead(f"k{n}") for n in range(start, start + 200)))
    hint = {"Sforce-Query-Options": "batchSize=200"}
    page = (await web.get(f"{V}/query", params={"q": "SELECT Id FROM Lead"}, headers=hint)).json()
    seen = [r["Id"] for r in page["records"]]
    assert (page["done"], len(seen)) == (False, 200)
    while not page["done"]:
        page = (await web.get(page["nextRecordsUrl"])).json()
        seen += [r["Id"] for r in page["records"]]
    assert len(seen) == len(set(seen)) == 405
    assert (await web.get(f"{V}/query/01gnone-200")).json()[0][
        "errorCode"
    ] == "INVALID_QUERY_LOCATOR"


async def test_deleted_records_are_seen_by_query_all(web: httpx.AsyncClient) -> None:
    made = (await _upsert(web, _lead("a")))[0]["id"]
    await web.delete(f"{V}/sobjects/Lead/{made}")
    soql = {"q": "SELECT Id, IsDeleted FROM Lead WHERE Syncline_Id__c = 'a'"}
    assert (await web.get(f"{V}/query", params=soql)).json()["records"] == []
    record = (await web.get(f"{V}/queryAll", params=soql)).json()["records"][0]
    assert (record["Id"], record["IsDeleted"]) == (made, True)


async def test_single_records_and_other_objects(web: httpx.AsyncClient) -> None:
    one = f"{V}/sobjects/Contact/Syncline_Id__c/k"
    made = await web.patch(one, json={"LastName": "Ng", "Email": "c@x.io"})
    assert (made.status_code, made.json()["created"]) == (201, True)
    again = await web.patch(one, json={"LastName": "Ng"})
    assert (again.status_code, again.json()["created"]) == (200, False)
    read = (await web.get(one)).json()
    assert (read["Email"], read["Id"][:3]) == ("c@x.io", "003")
    path = f"{V}/sobjects/Contact/{read['Id']}"
    assert (await web.patch(path, json={"LastName": "Li"})).status_code == 204
    assert (await web.get(path, params={"fields": "LastName"})).json()["LastName"] == "Li"
    bad = await web.post(f"{V}/sobjects/Contact", json={"FirstName": "No last name"})
    assert bad.json()[0]["errorCode"] == "REQUIRED_FIELD_MISSING"
    many = {"ids": [read["Id"], "003000000000000"], "fields": ["Email"]}
    got = (await web.post(f"{V}/composite/sobjects/Contact", json=many)).json()
    assert (got[0]["Email"], got[1]) == ("c@x.io", None)


async def test_describe_tells_what_the_checks_demand(web: httpx.AsyncClient) -> None:
    fields = {f["name"]: f for f in (await web.get(f"{V}/sobjects/Lead/describe")).json()["fields"]}
    required = {
        name
        for name, f in fields.items()
        if f["createable"] and not f["nillable"] and not f["defaultedOnCreate"]
    }
    assert required == {"LastName", "Company"}
    assert (fields["Email"]["type"], fields["Email"]["length"]) == ("email", 80)
    assert fields["Syncline_Id__c"]["externalId"] is True
    assert "Web" in [v["value"] for v in fields["LeadSource"]["picklistValues"]]


async def test_the_day_ends_in_403_and_tells_what_is_left() -> None:
    organisation = Salesforce(quota={"day": "2/3600"})
    async with organisation.serve() as url, _in(url) as web:
        used = [(await web.get(f"{V}/query?q=SELECT+Id+FROM+Lead")).headers for _ in range(2)]
        assert [h["Sforce-Limit-Info"] for h in used] == ["api-usage=1/2", "api-usage=2/2"]
        full = await web.get(f"{V}/query?q=SELECT+Id+FROM+Lead")
        assert (full.status_code, full.json()[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")
        assert full.json()[0]["message"] == "TotalRequests Limit exceeded."
        limits = await web.get(f"{V}/limits")
        assert limits.json()["DailyApiRequests"] == {"Max": 2, "Remaining": 0}
        assert organisation.windows["day"].overspends == 1


async def test_too_many_long_requests() -> None:
    slow = {"action": "delay", "ms": 400, "count": 2, "path": "query"}
    organisation = Salesforce(quota={"long": "2/0.1"}, script=[slow])
    async with organisation.serve() as url, _in(url) as web:
        ask = f"{V}/query?q=SELECT+Id+FROM+Lead"
        long = [asyncio.create_task(web.get(ask)) for _ in range(2)]
        window = organisation.windows["long"]
        await _until(lambda: window.used(organisation.clock.now()) == 2)
        full = await web.get(ask)
        assert (full.status_code, full.json()[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")
        assert full.json()[0]["message"].startswith("ConcurrentRequests")
        assert [(await task).status_code for task in long] == [200, 200]
        assert (await web.get(ask)).status_code == 200


async def test_a_long_address_line_is_refused(web: httpx.AsyncClient) -> None:
    soql = (
        "SELECT Id FROM Lead WHERE Email IN ("
        + ",".join("'someone@example.com'" for _ in range(800))
        + ")"
    )
    assert (await web.get(f"{V}/query", params={"q": soql})).status_code == 414


async def test_acts_of_a_user(organisation: Salesforce, web: httpx.AsyncClient) -> None:
    acts = [
        {"create": {"LastName": "By hand", "Company": "C", "Email": "h@x.io"}},
        {"id": organisation.store.numbered[0].id, "fields": {"City": "Ulm"}},
        {"delete": organisation.store.numbered[1].id},
        {"id": "nobody", "fields": {}},
        {"create": {"LastName": "No company"}},
    ]
    acted = (await web.post("/_sim/act", json=acts)).json()["acted"]
    assert ["error" in one for one in acted] == [False, False, False, True, True]
    assert {e["request"] for e in organisation.store.entries()} == {0}


@pytest.mark.parametrize(
    ("short", "long"),
    [
        # published example of the 18-character form
        ("001D000000IRFma", "001D000000IRFmaIAH"),
        ("00Q5g0000000000", "00Q5g0000000000EAA"),
    ],
)
def test_ids_of_18_characters(short: str, long: str) -> None:
    assert full_id(short) == long == full_id(long)


def test_ids_grow() -> None:
    ids = [new_id("Lead", n) for n in (0, 61, 62, 3843, 3844, 10**9)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 6


async def test_an_ingest_job_is_filled_closed_worked_at_and_told_row_by_row() -> None:
    organisation, key = Salesforce(job_s=0.2), "Syncline_Id__c"
    jobs = f"{V}/jobs/ingest"
    about = {
        "object": "Lead", "operation": "upsert", "externalIdFieldName": key, "contentType": "CSV",
        "lineEnding": "LF",
    }  # fmt: skip
    sheet = (
        f"{key},LastName,Company,Email,Title\n"
        'k1,Lee,"A, Inc",a@x.io,\n'
        "k2,,C,b@x.io,\n"
        "k3,Poe,C,,#N/A\n"
        "k1,Lee,C,,\n"
    )
    async with organisation.serve() as url, httpx.AsyncClient(base_url=url, verify=False) as web:
        token = (await web.post("/services/oauth2/token", data=LOGIN)).json()["access_token"]
        web.headers["authorization"] = f"Bearer {token}"
        made = (await web.post(jobs, json=about)).json()
        assert made["state"] == "Open"
        job = f"{jobs}/{made['id']}"
        plain = {"content-type": "text/csv"}
        assert (await web.get(f"{job}/successfulResults")).status_code == 400  # not over yet
        assert (await web.put(f"{job}/batches", json={})).status_code == 415
        assert (await web.put(f"{job}/batches", content=sheet, headers=plain)).status_code == 201
        assert organisation.store.effects()["objects"] == 0
        closed = {"state": "UploadComplete"}
        assert (await web.patch(job, json=closed)).json()["state"] == "UploadComplete"
        again = await web.patch(job, json=closed)
        assert (again.status_code, again.json()[0]["errorCode"]) == (400, "INVALIDJOBSTATE")
        deadline = time.monotonic() + 20
        while (told := (await web.get(job)).json())["state"] != "JobComplete":
            assert time.monotonic() < deadline, told
            await asyncio.sleep(0.05)
        assert (told["numberRecordsProcessed"], told["numberRecordsFailed"]) == (4, 2)
        good = (await web.get(f"{job}/successfulResults")).text.splitlines()
        bad = (await web.get(f"{job}/failedResults")).text.splitlines()
        assert good[0].startswith(f'"sf__Id","sf__Created","{key}"')
        assert [line.split(",")[1:3] for line in good[1:]] == [
            ['"true"', '"k1"'],
            ['"true"', '"k3"'],
        ]
        words = "REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:LastName --"
        assert words in bad[1]
        assert "DUPLICATE_VALUE" in bad[2]
        assert (await web.get(f"{jobs}/750unknown")).status_code == 404
        more = {**about, "externalIdFieldName": "Email"}
        assert (await web.post(jobs, json=more)).status_code == 400

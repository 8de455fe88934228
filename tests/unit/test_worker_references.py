"""A row names another object of its destination, by a field of it: a person's firm by its name."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from connectors import references
from connectors.outcome import Parked, Returned, Written
from connectors.platforms.salesforce import Salesforce as Connector
from connectors.rows import Reference
from schemas.commands import Priority
from simulators import Salesforce
from simulators.salesforce_fields import new_id
from tests.desk import Desk, desk, row, until
from tests.tiny_platform import Account, Tiny, TinyServer


@pytest.fixture
def server() -> Iterator[TinyServer]:
    with TinyServer() as server:
        yield server


@pytest.fixture
def there(server: TinyServer) -> Account:
    account = server.account("a1")
    account.objects = {"f1": {"title": "ACME"}, "f2": {"title": "Twin"}, "f3": {"title": "Twin"}}
    return account


@pytest.fixture
async def office(server: TinyServer, there: Account) -> AsyncIterator[Desk]:
    async with desk(Tiny, server.url("a1"), secrets={"token": "t"}) as office:
        yield office


def works_at(number: int, firm: str, **how: str) -> dict[str, Any]:
    firm_ = {"ref": "firm", "by": "title", "value": firm, **how}
    return row(number, name=f"Name{number}", firm=firm_)


def firms(there: Account) -> dict[str, Any]:
    """Of the persons that were made."""
    return {o["our_key"]: o.get("firm") for o in there.objects.values() if "our_key" in o}


def reads(there: Account) -> int:
    return [path for path, _ in there.requests].count("find")


async def test_the_id_takes_the_place_of_the_name_whatever_its_case(
    office: Desk, there: Account
) -> None:
    office.upload([works_at(n, "ACME" if n % 2 else " acme ") for n in range(20)], "person")
    fates = await office.settled()
    assert {type(fate) for fate in fates.values()} == {Written}
    assert firms(there) == {f"person-{n}": "f1" for n in range(20)}
    assert reads(there) == 1


async def test_what_was_found_is_not_asked_for_again(office: Desk, there: Account) -> None:
    for n in range(3):
        office.upload([works_at(n, "ACME")], "person")
        await office.settled()
    assert firms(there) == {f"person-{n}": "f1" for n in range(3)}
    assert reads(there) == 1


async def test_a_row_waits_for_the_object_that_is_not_there_yet_and_holds_up_nobody(
    office: Desk, there: Account
) -> None:
    office.upload([works_at(1, "New"), works_at(2, "ACME"), row(3, name="Free")], "person")
    fates = await office.settled()
    waits = fates["row-1"]
    assert isinstance(waits, Returned)
    assert waits.reason == "there is no firm with this title yet"
    assert waits.until_ms > 0
    assert firms(there) == {"person-2": "f1", "person-3": None}
    there.objects["f9"] = {"title": "New"}
    office.upload([works_at(1, "New")], "person")  # as streams send it again when it is time
    assert isinstance((await office.settled())["row-1"], Written)
    assert firms(there)["person-1"] == "f9"


def test_waits_grow_to_an_hour_and_begin_anew_when_it_was_there() -> None:
    known, firm = references.Known(), Reference("firm", "firm", "title", "x", "", "")
    now_s, waits = 0.0, list[float]()
    for _ in range(10):
        waits.append(known.missed(firm, now_s))
        assert known.missed(firm, now_s + 20) == waits[-1] - 20, "others wait for the same moment"
        now_s += waits[-1]
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    known.found(firm, "f1", now_s)
    assert known.id_of(firm, now_s + 59) == "f1"
    assert known.id_of(firm, now_s + 61) == ""
    assert known.missed(firm, now_s) == 30


async def test_a_mapping_may_say_to_park_or_to_go_without(office: Desk, there: Account) -> None:
    office.upload(
        [works_at(1, "None", if_none="park"), works_at(2, "None", if_none="skip")], "person"
    )
    fates = await office.settled()
    assert fates["row-1"] == Parked("no_reference", "there is no firm with this title", "firm")
    assert isinstance(fates["row-2"], Written)
    assert firms(there) == {"person-2": None}


async def test_of_several_none_is_guessed_unless_the_mapping_says_so(
    office: Desk, there: Account
) -> None:
    office.upload([works_at(1, "Twin"), works_at(2, "Twin", if_many="first")], "person")
    fates = await office.settled()
    assert fates["row-1"] == Parked("ambiguous_reference", "2 firm with this title", "firm")
    assert firms(there) == {"person-2": "f2"}


async def test_two_references_and_a_match_come_one_after_the_other(
    office: Desk, there: Account
) -> None:
    office.match = "email"
    there.objects["p1"] = {"email": "ann@x.io"}
    both = works_at(1, "ACME")
    fields = {
        "email": "ann@x.io",
        "firm": {"ref": "firm", "by": "title", "value": "ACME"},
        "parent": {"ref": "firm", "by": "title", "value": "Twin", "if_many": "first"},
    }
    both = row(1, **fields)
    office.upload([both], "guest", Priority.live)
    assert (await office.settled())["row-1"] == Written("p1")
    assert there.objects["p1"]["firm"] == "f1"
    assert there.objects["p1"]["parent"] == "f2"


async def test_a_contact_of_salesforce_gets_the_account_of_its_company() -> None:
    sales = Salesforce()
    accounts = sales.stores["Account"]
    for number, name in enumerate(("ACME", "O'Neil & Søn", "100 % \\ Ltd")):
        accounts.seed(new_id("Account", number), {"Name": name}, 0, 0)
    ids = {obj.values["Name"]: obj.id for obj in accounts.alive()}
    company = {"ref": "Account", "by": "Name", "if_none": "skip"}
    secrets = {"client_id": "salesforce-client", "client_secret": "salesforce-secret"}
    names = [*ids, "Nobody"]
    async with sales.serve() as url, desk(Connector, url, secrets=secrets) as office:
        rows = [
            row(n, LastName="L", Email=f"{n}@x.io", AccountId={**company, "value": name})
            for n, name in enumerate(names)
        ]
        office.upload(rows, "Contact", Priority.live)
        assert {type(f) for f in (await office.settled()).values()} == {Written}
    made = {o.values["Email"]: o.values.get("AccountId") for o in sales.stores["Contact"].alive()}
    assert made == {f"{n}@x.io": ids.get(name) for n, name in enumerate(names)}


async def test_a_look_up_that_fails_is_tried_again(office: Desk, there: Account) -> None:
    there.fail = 1
    office.upload([works_at(n, "ACME") for n in range(3)], "person", Priority.live)
    fates = await office.settled()
    assert {type(fate) for fate in fates.values()} == {Written}


async def test_after_a_kill_the_successor_looks_itself(office: Desk, there: Account) -> None:
    there.latency_s = 0.2
    office.upload([works_at(1, "ACME")], "person", Priority.live)
    await until(lambda: reads(there))
    await office.kill()
    assert isinstance((await office.settled())["row-1"], Written)
    assert firms(there) == {"person-1": "f1"}

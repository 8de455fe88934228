"""A row that may have been applied is looked for before anybody sends it again."""

from collections.abc import AsyncIterator, Iterator

import pytest

from connectors import readback
from connectors.office import Client
from connectors.outcome import Outcome, Parked, Unknown, Written
from connectors.registry import Misconfigured
from schemas.commands import Priority
from tests.desk import Desk, desk, row, until
from tests.tiny_platform import Account, Tiny, TinyServer


@pytest.fixture
def server() -> Iterator[TinyServer]:
    with TinyServer() as server:
        yield server


@pytest.fixture
def there(server: TinyServer) -> Account:
    return server.account("a1")


@pytest.fixture
async def office(
    server: TinyServer, there: Account, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    monkeypatch.setattr(readback, "LOOKS_S", (0.1, 0.2, 0.3))
    async with desk(Tiny, server.url("a1"), secrets={"token": "t"}, match="email") as office:
        yield office


def guest(number: int, email: str = "") -> dict:
    return row(number, email=email or f"{number}@example.com")


def kinds(fates: dict[str, Outcome]) -> set[type]:
    return {type(fate) for fate in fates.values()}


async def test_what_was_applied_and_not_answered_is_found_and_made_once(
    office: Desk, there: Account
) -> None:
    there.lose = 1
    office.upload([guest(n) for n in range(8)], "guest", Priority.live)
    fates = await office.settled()
    assert kinds(fates) == {Written}
    assert len(there.objects) == 8
    assert {o["our_key"] for o in there.objects.values()} == {f"person-{n}" for n in range(8)}
    assert office.intents == {}


async def test_what_is_not_found_stays_unknown_and_is_never_sent_again(
    office: Desk, there: Account
) -> None:
    office.match = ""
    there.fail = 1  # a fault of theirs: maybe applied, maybe not
    office.upload([guest(1)], "guest", Priority.live)
    fates = await office.settled()
    assert fates["row-1"] == Unknown("HTTP 500; not found when read back")
    assert [path for path, _ in there.requests].count("guest") == 1
    looks = [path for path, _ in there.requests].count("find")
    assert looks == len(readback.LOOKS_S)
    assert there.objects == {}


async def test_after_a_kill_the_successor_looks_too(office: Desk, there: Account) -> None:
    there.latency_s = 0.3
    office.upload([guest(n) for n in range(4)], "guest", Priority.live)
    await until(lambda: ("guest", 4) in there.requests)
    await office.kill()  # the request goes on there
    there.latency_s = 0.0
    fates = await office.settled()
    assert kinds(fates) == {Written}
    assert len(there.objects) == 4
    assert office.intents == {}


async def test_without_a_match_it_is_looked_for_by_our_key(office: Desk, there: Account) -> None:
    office.match = ""
    there.lose = 1
    office.upload([guest(n) for n in range(3)], "guest", Priority.live)
    assert kinds(await office.settled()) == {Written}
    assert len(there.objects) == 3


async def test_one_that_belongs_to_somebody_else_is_parked_as_ever(
    office: Desk, there: Account
) -> None:
    """Nobody had this address before our request, somebody else has it afterwards."""
    there.latency_s = 0.2
    office.upload([guest(2, "new@example.com")], "guest", Priority.live)
    await until(lambda: ("find", 0) in there.requests)
    there.fail = 1
    await until(lambda: there.fail == 0)
    there.objects["g9"] = {"email": "new@example.com", "our_key": "person-9"}
    said = (await office.settled())["row-2"]
    assert isinstance(said, Parked)
    assert said.code == "matched_another"
    assert list(there.objects) == ["g9"]


async def test_an_account_that_is_closed_meanwhile_gives_no_such_row_back(
    office: Desk, there: Account
) -> None:
    """It would be sent again as if it had never gone out."""
    there.lose = 1
    office.upload([guest(1)], "guest", Priority.live)
    await until(lambda: there.lose == 0)
    office.account.hold("closed by eve")
    office.account.sweep()
    assert office.fates == {}
    office.account.let_go()
    assert kinds(await office.settled()) == {Written}
    assert len(there.objects) == 1


async def test_letters_cannot_be_looked_for(office: Desk, there: Account) -> None:
    there.lose = 1
    office.upload([guest(1)], "letter", Priority.live)
    assert kinds(await office.settled()) == {Unknown}
    assert set(there.letters.values()) == {1}


async def test_an_update_by_id_is_sent_again(office: Desk, there: Account) -> None:
    there.objects["g1"] = {"email": "old@example.com", "our_key": "person-1"}
    there.lose = 1
    known = row(1, "g1", email="new@example.com")
    office.upload([known], "guest", Priority.live)
    assert kinds(await office.settled()) == {Written}
    assert list(there.objects) == ["g1"]
    assert there.objects["g1"]["email"] == "new@example.com"


async def test_a_job_of_any_platform_survives_a_kill(office: Desk, there: Account) -> None:
    office.match = ""
    there.job_s = 0.5
    office.upload([guest(n) for n in range(120)], "crowd", Priority.bulk)
    await until(lambda: office.account.jobs.running)
    await office.kill()
    assert kinds(await office.settled()) == {Written}
    assert set(there.writes.values()) == {1}
    assert len(there.jobs) == 1


async def test_a_job_is_asked_once_a_secret_is_there_again(
    office: Desk, there: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was missing when a restart read the rows: nothing was known of them, nor is it now."""
    office.match, there.job_s = "", 0.2
    rows = [guest(n) for n in range(119)]
    office.upload([*rows, row(119, name="locked")], "crowd", Priority.bulk)
    await until(lambda: office.account.jobs.running)

    def missing(connection: str) -> Client:
        raise Misconfigured("the secret token is missing")

    with monkeypatch.context() as restart:
        restart.setattr(office, "client", missing)
        office.hand_on()
        assert office.account.gate.misconfigured
        assert office.fates == {}
    office.account.reopen("its definition was mended")
    fates = await office.settled()
    assert isinstance(locked := fates.pop("row-119"), Parked)
    assert locked.code == "retries_exhausted"
    assert kinds(fates) == {Written}
    assert len(there.jobs) == 1

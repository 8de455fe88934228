"""Jobs of described platforms: handed over, asked about, each row's verdict found by its key.

The description is Klaviyo's, the platform its simulator, over real HTTP.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors import registry
from connectors.base import PlatformError, Row
from connectors.declared import load
from connectors.jobs import LARGE
from connectors.outcome import Outcome, Parked, Retry, Written
from ratelimits.registry import load as quotas
from schemas.yamlfile import ConfigInvalid
from simulators import declared
from simulators.declared import Declared
from syncline.certify.places import DECLARED
from syncline.commands.connector import SKELETON
from tests.desk import desk, row
from tests.unit.test_declared_simulators import connected

GOOD = (registry.DESCRIPTIONS / "klaviyo.yaml").read_text()
PLACE = DECLARED["klaviyo"]
SPEC = registry.connector_class("klaviyo").spec.objects["profile"]
MANY = 230  # three pages of a job's profiles


@pytest.fixture
def platform() -> Declared:
    plain = declared("klaviyo")
    return plain(quota=dict.fromkeys(plain().windows, "off"))


async def _ended(connector: Any, receipt: str, rows: list[Row]) -> list[Outcome]:
    async with asyncio.timeout(20):
        outcomes = await connector.check_job("profile", receipt, rows)
        while outcomes is None:
            await asyncio.sleep(0.05)
            outcomes = await connector.check_job("profile", receipt, rows)
    return outcomes


async def test_all_pages_of_a_job_are_read_and_each_row_has_its_own(platform: Declared) -> None:
    rows = [PLACE.bad(n) if n % 2 else PLACE.row(n, f"Name{n}") for n in range(2 * MANY)]
    async with connected("klaviyo", platform) as connector:
        receipt = await connector.open_job("profile", rows)
        assert await connector.check_job("profile", receipt, rows) is None
        outcomes = await _ended(connector, receipt, rows)
        part = await connector.check_job("profile", receipt, rows[7:9])
    assert part == outcomes[7:9]
    for one, outcome in zip(rows, outcomes, strict=True):
        if one.fields["email"].endswith("@"):
            assert outcome == Parked("invalid", "Invalid email address", "email")
        else:
            assert isinstance(outcome, Written)
            values = platform.store.objects[outcome.object_id].values
            assert values["external_id"] == one.person
    assert platform.store.effects()["created"] == MANY


async def test_a_row_whose_id_is_known_is_updated_in_a_job_too(platform: Declared) -> None:
    async with connected("klaviyo", platform) as connector:
        (written,) = await connector.upload_batch("profile", [PLACE.row(1)])
        moved = [PLACE.row(1, "Bea", object_id=written.object_id, address="new@example.com")]
        receipt = await connector.open_job("profile", moved)
        assert await _ended(connector, receipt, moved) == [written]
    values = platform.store.objects[written.object_id].values
    assert (values["email"], values["first_name"]) == ("new@example.com", "Bea")


async def test_rows_that_a_job_says_nothing_of_go_again(platform: Declared) -> None:
    async with connected("klaviyo", platform) as connector:
        rows = PLACE.rows(4)
        receipt = await connector.open_job("profile", rows)
        platform.jobs[receipt].cancelled = True
        outcomes = await _ended(connector, receipt, rows)
        assert [type(outcome) for outcome in outcomes] == [Retry] * 4
        with pytest.raises(PlatformError) as caught:
            await connector.check_job("profile", "nobody's", rows)
        assert isinstance(connector.handle_error(caught.value), Parked)


def test_what_a_job_cannot_say_does_not_go_in_one() -> None:
    """There null leaves a value alone: such rows are requests, and share none with the others."""
    job, plain = SPEC.job, PLACE.row(1)
    assert job is not None
    clearing = Row("row-2", "person-2", "", {"email": "a@x.io", "first_name": None})
    assert job.takes(plain)
    assert not job.takes(clearing)
    assert SPEC.together(plain) != SPEC.together(clearing)


def test_a_job_is_paid_from_windows_of_its_own() -> None:
    assert SPEC.job is not None
    groups = quotas("klaviyo").groups
    assert not set(groups[SPEC.job.quota]) & set(groups[SPEC.write_quota])


def _small() -> Any:
    """The connector, which takes a job for fewer rows."""
    plain: Any = registry.connector_class("klaviyo")
    job = replace(plain.spec.objects["profile"].job, rows_min=MANY // LARGE)
    few = replace(plain.spec.objects["profile"], job=job)
    return type("Small", (plain,), {"spec": replace(plain.spec, objects={"profile": few})})


PEOPLE = [row(n, **PLACE.row(n).fields) for n in range(MANY)]


async def test_the_worker_sends_many_rows_as_one_job_and_keeps_its_windows() -> None:
    """Two requests a second, counted there too: none is refused, and windows of single profiles
    are not touched."""
    there = declared("klaviyo")(quota={"m_second": "2"})
    limits = quotas("klaviyo", overrides={"job_second": 2})
    async with (
        there.serve() as url,
        desk(_small(), url, secrets=PLACE.secrets, limits=limits) as office,
    ):
        office.upload(PEOPLE, "profile")
        fates = await office.settled()
        assert {type(fate) for fate in fates.values()} == {Written}
        assert set(office.twice.values()) == {1}
    assert len(there.jobs) == 1
    assert there.windows["m_minute"].spent >= 5  # hand over, ask, errors, three pages of profiles
    assert there.windows["l_minute"].spent == 0
    stats = there.stats()
    assert (stats["quota_overspends"], stats["quota_refusals"]) == (0, 0)


async def test_a_lost_answer_to_a_job_is_a_second_job_and_one_effect(platform: Declared) -> None:
    lost = {"path": "/api/profile-bulk-import-jobs$", "method": "POST", "action": "lose_after"}
    platform.script.add([{**lost, "count": 1}])
    async with platform.serve() as url, desk(_small(), url, secrets=PLACE.secrets) as office:
        office.upload(PEOPLE, "profile")
        fates = await office.settled()
    assert {type(fate) for fate in fates.values()} == {Written}
    assert len(platform.jobs) == 2
    effects = platform.store.effects()
    assert (effects["created"], effects["changed"], effects["twice_total"]) == (MANY, 0, 0)


async def test_after_a_kill_the_job_is_asked_and_no_row_is_sent_again(platform: Declared) -> None:
    begun = asyncio.Event()
    async with platform.serve() as url, desk(_small(), url, secrets=PLACE.secrets) as office:
        office.begun = lambda receipt: begun.set()
        office.upload(PEOPLE, "profile")
        async with asyncio.timeout(20):
            await begun.wait()
        await office.kill()
        fates = await office.settled()
        assert {type(fate) for fate in fates.values()} == {Written}
        assert office.intents == {}
    assert len(platform.jobs) == 1


def test_the_job_of_a_new_description_is_right_as_it_stands(tmp_path: Path) -> None:
    """It is written commented out."""
    text = SKELETON.read_text().replace("NAME", "acme").replace("TODAY", "2026-11-26")
    begin, end = text.index("    # job:"), text.index("    record:")
    said = text[begin:end].replace("    # ", "    ", 1).replace("    #   ", "      ")
    said = said.replace("    #    ", "       ")
    path = tmp_path / "acme.yaml"
    path.write_text(text[:begin] + said + text[end:])
    job = load(path).objects["contact"].job
    assert job is not None
    assert job.rows_max == 10_000


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            lambda text: text.replace("repeat: safe", "repeat: unsafe"),
            "is safe",
        ),
        (lambda text: text.replace("data: $rows", "data: []"), "job.write.body: does not hold"),
        (lambda text: text.replace("rows_max: 10000", "rows_max: 1"), "no more than a request"),
        (
            lambda text: text.replace("value: attributes.external_id, id: id", "id: id"),
            "needs `value`",
        ),
        (lambda text: text.replace("each: refused", "each: refusals"), "none of the results"),
        (lambda text: text.replace("{job}/profiles", "{jobs}/profiles"), "jobs is not known here"),
    ],
)
def test_a_mistake_in_a_job_is_told(
    changed: Callable[[str], str], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "klaviyo.yaml"
    path.write_text(changed(GOOD))
    assert path.read_text() != GOOD
    with pytest.raises(ConfigInvalid, match=words):
        load(path)

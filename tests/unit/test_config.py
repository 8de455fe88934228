"""A configuration folder is read whole, and every mistake in it is named with file and line."""

import shutil
from pathlib import Path

import pytest

from schemas.definitions import Audience, Hook, ListSource
from schemas.yamlfile import ConfigInvalid
from syncline.config import load_folder, missing_secrets

EXAMPLE = Path(__file__).parents[2] / "examples" / "hubspot-to-salesforce-and-mailchimp"
LEADS = "mappings/hubspot_contact_to_salesforce_lead.yaml"
SECRETS = {
    "HUBSPOT_TOKEN",
    "HUBSPOT_SECRET",
    "SALESFORCE_CLIENT_ID",
    "SALESFORCE_CLIENT_SECRET",
    "MAILCHIMP_API_KEY",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example, to be spoiled."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "config"))


def spoil(folder: Path, name: str, before: str, after: str) -> tuple[Path, int]:
    """Puts a mistake in place of a text that stands once -> the file and the line of it."""
    path = folder / name
    text = path.read_text()
    assert text.count(before) == 1, f"{before!r} in {name}"
    path.write_text(text.replace(before, after))
    return path, text[: text.index(before)].count("\n") + 1


def add(folder: Path, text: str) -> tuple[Path, int]:
    """Writes more into the sync of leads -> the file and the line before it."""
    return spoil(folder, "syncs/leads.yaml", "policy: merge", f"policy: merge\n{text}")


def problems(folder: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as caught:
        load_folder(folder)
    return caught.value.problems


def test_the_example_is_right() -> None:
    found = load_folder(EXAMPLE)
    assert set(found.connections) == {"hubspot", "salesforce", "mailchimp"}
    assert set(found.syncs) == {"leads", "newsletter"}
    assert {sync.mapping for sync in found.syncs.values()} == set(found.mappings)


def test_documents_come_before_what_refers_to_them() -> None:
    kinds = [kind for kind, _, _ in load_folder(EXAMPLE).documents()]
    assert kinds == ["connection"] * 3 + ["mapping"] * 2 + ["sync"] * 2


@pytest.mark.parametrize(
    ("name", "before", "after", "says"),
    [
        ("syncs/leads.yaml", "policy: merge", "polcy: merge", "polcy: is not known here"),
        ("syncs/leads.yaml", "policy: merge", "policy: guess", "policy: "),
        ("syncs/leads.yaml", "source: hubspot", "source: hubspt", "no connection hubspt"),
        ("syncs/leads.yaml", "destination_object: Lead", "destination_object: Led", "Lead"),
        ("syncs/leads.yaml", "mapping: hubspot", "mapping: nosuch_hubspot", "no mapping nosuch"),
        (
            "connections/hubspot.yaml",
            "platform: hubspot",
            "platform: hubspt",
            "known are activecampaign",
        ),
        ("connections/hubspot.yaml", "connection: hubspot", "connection: Hub Spot", "connection: "),
        ("connections/mailchimp.yaml", "  data_centre", "  data_center", "data_center: is not kno"),
        ("connections/hubspot.yaml", "tier:", "teir:", "look for a spelling mistake"),
        (
            "connections/hubspot.yaml",
            "tier: prof",
            "tier: porf",
            "tier: unknown; hubspot has enter",
        ),
        (
            "syncs/leads.yaml",
            "mapping: hubspot_contact_to_salesforce_lead",
            "mapping: hubspot_contact_to_mailchimp_member",
            "is for mailchimp member, not salesforce",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(
    folder: Path, name: str, before: str, after: str, says: str
) -> None:
    path, line = spoil(folder, name, before, after)
    (problem,) = problems(folder)
    place, _, words = problem.partition(": ")
    assert place.rpartition(":")[0] == str(path)
    assert says in words
    assert place == f"{path}:{line}"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("dayly: 5", "quotas.dayly: hubspot has no quota dayly; it has ten_seconds, day,"),
        ("day: -1", "quotas.day: Input should be greater than or equal to 0"),
        ("day: {limit: 5, zone: Europe/Berlyn}", "quotas.day: no time zone Europe/Berlyn"),
        ("scale: 0", "quotas.scale: limits cannot be scaled by 0"),
        ("scale: little", "quotas.scale: could not convert string to float"),
    ],
)
def test_a_quota_that_makes_no_sense_is_named_with_its_line(
    folder: Path, override: str, says: str
) -> None:
    path = folder / "connections" / "hubspot.yaml"
    text = path.read_text()
    path.write_text(f"{text}quotas:\n  ten_seconds: 50\n  {override}\n")
    (problem,) = problems(folder)
    assert problem.startswith(f"{path}:{text.count(chr(10)) + 3}: {says}")


def listed(folder: Path, name: str, *fields: str) -> None:
    (folder / "fields").mkdir(exist_ok=True)
    platform, kind = name.split("_")
    rows = "".join(f"- {{name: {field}}}\n" for field in fields)
    (folder / "fields" / f"{name}.yaml").write_text(
        f"platform: {platform}\nobject: {kind}\nfields:\n{rows}"
    )


def test_a_mapping_writes_only_fields_that_the_destination_has(folder: Path) -> None:
    path, line = spoil(folder, LEADS, "  City: trim(record.city)", "  Town: trim(record.city)")
    listed(folder, "salesforce_Lead", *load_fields(folder))
    (problem,) = problems(folder)
    assert problem == (
        f"{path}:{line}: hubspot_contact_to_salesforce_lead@1: Town: Lead has no such field"
    )
    listed(folder, "salesforce_Lead", *load_fields(folder), "Town")
    assert load_folder(folder).fields.keys() == {"salesforce:Lead"}


def test_a_mapping_reads_only_fields_that_the_source_has(folder: Path) -> None:
    path, line = spoil(folder, LEADS, "  City: trim(record.city)", "  City: trim(record.town)")
    reads = {"email", "firstname", "lastname", "company", "phone", "country", "city"}
    reads |= {"hs_analytics_source", "numberofemployees", "lifecyclestage", "createdate"}
    listed(folder, "hubspot_contact", *reads)
    found = [problem for problem in problems(folder) if problem.startswith(f"{path}:{line}:")]
    assert len(found) == 1
    assert "town" in found[0]


def test_a_field_list_is_named_by_connection_and_object(folder: Path) -> None:
    listed(folder, "salesfrce_Lead", "Email")
    path = folder / "fields" / "salesfrce_Lead.yaml"
    assert problems(folder) == (f"{path}:1: must be called CONNECTION_OBJECT.yaml",)


def load_fields(folder: Path) -> set[str]:
    """What the mapping of the example writes."""
    document = load_folder(EXAMPLE).mappings["hubspot_contact_to_salesforce_lead"]
    return set(document.fields)


def test_malformed_yaml(folder: Path) -> None:
    path, line = spoil(folder, "syncs/leads.yaml", "policy: merge", "policy: [merge")
    (problem,) = problems(folder)
    assert problem.startswith(f"{path}:")
    assert int(problem.removeprefix(f"{path}:").partition(":")[0]) in (line, line + 1)


def test_no_text_at_all(folder: Path) -> None:
    path = folder / "syncs" / "leads.yaml"
    path.write_bytes(b"sync: \xff")
    assert problems(folder) == (f"{path}:1: is not UTF-8 text",)


def test_a_missing_match_would_make_twins(folder: Path) -> None:
    path = folder / "syncs" / "leads.yaml"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("match:")))
    (problem,) = problems(folder)
    assert problem.startswith(f"{path}:")
    assert "match: is missing" in problem


def test_a_missing_secret_and_address(folder: Path) -> None:
    path, _ = spoil(folder, "connections/salesforce.yaml", "  client_secret: env", "  other: env")
    spoil(folder, "connections/salesforce.yaml", "base_url: https://acme", "# https://acme")
    found = problems(folder)
    assert len(found) == 2
    assert all(problem.startswith(f"{path}:") for problem in found)
    assert "client_secret is missing" in found[0]
    assert "base_url: is missing" in found[1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  City: trim(record.city)", "  City: trim(record.city"),
        ("  City: trim(record.city)", "  City: trimm(record.city)"),
        ("'!empty(record.email)'", "'!empty(record.email'"),
    ],
)
def test_a_bad_mapping_expression(folder: Path, before: str, after: str) -> None:
    path, line = spoil(folder, LEADS, before, after)
    (problem, *_) = problems(folder)
    assert problem.startswith(f"{path}:{line}:")


def test_an_example_that_does_not_come_out(folder: Path) -> None:
    path, _ = spoil(folder, LEADS, "LeadSource: Paid Search}", "LeadSource: Search}")
    (problem, *_) = problems(folder)
    assert problem.startswith(f"{path}:")
    assert "bad phone, no company" in problem


def test_a_name_that_is_given_twice(folder: Path) -> None:
    shutil.copy(folder / "syncs" / "leads.yaml", folder / "syncs" / "more.yaml")
    path = folder / "syncs" / "more.yaml"
    assert problems(folder) == (f"{path}:2: sync: leads is defined twice",)


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    first, at = spoil(folder, "syncs/leads.yaml", "policy: merge", "polcy: merge")
    second, there = spoil(folder, "connections/hubspot.yaml", "tier:", "teir:")
    assert {problem.partition(": ")[0] for problem in problems(folder)} == {
        f"{first}:{at}", f"{second}:{there}",
    }  # fmt: skip


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    assert problems(tmp_path / "nosuch") == (f"{tmp_path / 'nosuch'}: is no folder",)
    assert problems(tmp_path) == (f"{tmp_path}: holds no connections/*.yaml",)


def test_a_secret_in_the_place_of_its_reference_is_not_repeated(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "set")
    assert missing_secrets(load_folder(folder).connections) == []
    spoil(folder, "connections/hubspot.yaml", "env:HUBSPOT_TOKEN", "pat-eu1-tell-nobody")
    try:
        told = "\n".join(missing_secrets(load_folder(folder).connections))
    except ConfigInvalid as error:
        told = str(error)
    assert "env:NAME" in told
    assert "tell-nobody" not in told


def test_missing_secrets_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    told = missing_secrets(load_folder(EXAMPLE).connections)
    assert len(told) == len(SECRETS)
    for name in SECRETS:
        assert any(f"env:{name}'" in line for line in told)


@pytest.mark.parametrize(
    ("added", "line", "says"),
    [
        ("schedule: {cron: 61 6 * * *}", 1, "schedule.cron: Bad minute"),
        ("schedule:\n  cron: 30 6 * * *\n  zone: Mars/Base", 3, "no time zone Mars/Base"),
        ("audience:\n  list: {url: 'https://x.example/ids'}", 2, "is fetched when the `schedule`"),
        ("audience: {list: {url: 'http://x.example/ids'}}", 1, "must begin with https://"),
        ("on_error:\n- {url: 'https://u:p@x.example/'}", 2, "is no address: https://host/path"),
        ("on_error:\n- {url: 'https://x.example/', form: email}", 2, "wants url, sender and to"),
        ("on_state_change:\n- {url: 'https://x.example/', form: fax}", 2, "form: "),
    ],
)
def test_for_whom_when_and_who_is_told(folder: Path, added: str, line: int, says: str) -> None:
    path = folder / "syncs" / "leads.yaml"
    text = path.read_text()
    path.write_text(f"{text}{added}\n")
    (problem,) = problems(folder)
    assert problem.startswith(f"{path}:{text.count(chr(10)) + line}: ")
    assert says in problem


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("deleted: shred", "kinds.deleted: salesforce Lead can delete"),
        ("forgotten: erase", "kinds.forgotten: salesforce Lead can delete"),
        ("unsubscribed: delete", "kinds.unsubscribed: sets fields by name; only deleted and"),
        ("deletde: delete", "kinds.deletde"),
        ("deleted: 3", "kinds.deleted"),
    ],
)
def test_what_is_taken_away_is_what_the_platform_can(folder: Path, kind: str, says: str) -> None:
    path, line = add(folder, f"kinds:\n  {kind}")
    found = problems(folder)
    assert found[0].startswith(f"{path}:{line + 2}: {says}"), found


def test_a_sync_may_set_fields_or_take_away(folder: Path) -> None:
    add(folder, "kinds:\n  deleted: delete\n  forgotten: {FirstName: null}")
    sync = load_folder(folder).syncs["leads"]
    assert sync.kinds == {"deleted": "delete", "forgotten": {"FirstName": None}}


@pytest.mark.parametrize(
    ("ruling", "says"),
    [
        ("mailchimp", "ruling: no sync from mailchimp leads here: hubspot can rule"),
        ("{City: salesforce}", "ruling.City: no sync from salesforce leads here"),
        ("{Ctiy: hubspot}", "ruling.Ctiy: hubspot writes no such field"),
    ],
)
def test_who_rules_feeds_the_destination(folder: Path, ruling: str, says: str) -> None:
    path, line = add(folder, f"ruling: {ruling}")
    [problem] = problems(folder)
    assert problem.startswith(f"{path}:{line + 1}: {says}")


def test_a_field_may_have_its_own_ruler(folder: Path) -> None:
    add(folder, 'ruling: {City: hubspot, "*": hubspot}')
    assert load_folder(folder).syncs["leads"].rulers == {"City": "hubspot", "*": "hubspot"}


def test_what_a_list_sets_fits_the_destination(folder: Path) -> None:
    path = folder / "syncs" / "leads.yaml"
    text = path.read_text()
    path.write_text(f"{text}audience:\n  joined: {{Rating: Hot}}\n  left:\n    Ratin: Cold\n")
    load_folder(folder)
    listed(folder, "salesforce_Lead", *load_fields(folder), "Rating")
    (problem,) = problems(folder)
    line = text.count("\n") + 4
    assert problem == f"{path}:{line}: audience.left.Ratin: does not exist there"


def test_secrets_of_lists_and_hooks_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "set")
    found = load_folder(EXAMPLE)
    leads = found.syncs["leads"].model_copy(
        update={
            "audience": Audience(list=ListSource(url="https://x.example/", secret="env:LIST")),
            "on_error": [Hook(url="https://x.example/", headers={"Authorization": "env:HOOK"})],
        }
    )
    told = missing_secrets(found.connections, {"leads": leads})
    assert [t.partition(":")[0] for t in told] == ["sync leads"] * 2

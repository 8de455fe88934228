"""`examples/all-senders` has every sender, is right, and is served with a secret each alone."""

import hmac
import json
import shutil
from pathlib import Path

import pytest
from pydantic import SecretStr
from ruamel.yaml import YAML

from schemas import topics
from schemas.events import EventKind
from schemas.secrets import is_reference
from schemas.yamlfile import ConfigInvalid
from syncline.commands.apply import traits
from syncline.config import load_folder, missing_secrets, receives_only
from tests.unit.senders_kit import CASES, NOW_MS, NOW_S, SECRET, Case, Lower
from webhook_gateway.senders import platforms, sender_type
from webhook_gateway.senders.base import Event, Request
from webhook_gateway.senders.generic import GenericWebhooks

EXAMPLE = Path(__file__).parents[2] / "examples" / "all-senders"
ENVIRONMENT = {f"{p.upper()}_SECRET": SECRET for p in platforms()} | {
    "SALESFORCE_ORG_ID": CASES["salesforce"].options["organization_id"]
}


def resolve(reference: str) -> SecretStr:
    return SecretStr(ENVIRONMENT[reference.removeprefix("env:")])


def test_every_sender_has_a_connection_by_its_name() -> None:
    connections = load_folder(EXAMPLE).connections
    assert {name: c.platform for name, c in connections.items()} == {p: p for p in platforms()}
    assert all(map(receives_only, connections.values()))


def test_a_secret_each_and_the_organisation_are_all_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections = load_folder(EXAMPLE).connections
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert len(missing_secrets(connections)) == len(ENVIRONMENT)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert missing_secrets(connections) == []


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_its_platform_sends_is_taken(case: Case) -> None:
    connection = load_folder(EXAMPLE).connections[case.platform]
    assert connection.webhook is not None
    kind = sender_type(case.platform)
    told = connection.webhook.options.items()
    options = {n: resolve(v).get_secret_value() if is_reference(v) else v for n, v in told}
    sender = kind(kind.spec.options.model_validate(options), [resolve(connection.webhook.secret)])
    request = case.request(case.body(1))
    sender.verify(request)
    (part,) = sender.parse(request)
    assert isinstance(part, Event)
    assert part.account == ""  # of this connection, whatever account its event names
    assert traits(connection) == {"platform": case.platform, "facts": [], "flows": {}}


def test_the_example_of_a_declaration_writes_the_defaults_out() -> None:
    webhook = load_folder(EXAMPLE).connections["generic"].webhook
    assert webhook is not None
    assert GenericWebhooks.model_validate(webhook.options) == GenericWebhooks()


def test_the_documented_declaration_reads_what_it_says() -> None:
    page = (EXAMPLE.parents[1] / "docs" / "gateway.md").read_text()
    block = next(b for b in page.split("```") if "X-Acme-Signature" in b).removeprefix("yaml")
    told = YAML(typ="safe").load(block)["webhook"]["options"]
    sender = CASES["generic"].sender(**told)
    items = [{"object": "member", "action": "changed", "changes": ["name"], "attempt": 1,
              "member": {"id": 7, "name": "Ada"}, "happened_at": NOW_MS}]  # fmt: skip
    body = json.dumps({"items": items}).encode()
    digest = hmac.new(SECRET.encode(), f"{NOW_S}.".encode() + body, "sha256").hexdigest()
    headers = {"X-Acme-Signature": f"sha256={digest}", "X-Acme-Time": str(NOW_S)}
    request = Request("/", "/", "", Lower(headers), body, NOW_MS)
    sender.verify(request)
    (event,) = sender.parse(request)
    assert (event.kind, event.platform_kind) == (EventKind.updated, "member.changed")
    assert (event.object_type, event.object_id, event.changed) == ("member", "7", ("name",))
    assert json.loads(event.values) == {"id": 7, "name": "Ada"}


def test_topics_of_a_platform_are_named_alike() -> None:
    names = [topic.name for topic in topics.received_from("segment")]
    assert names == [topics.intake_of("segment"), topics.events_of("segment")]


@pytest.mark.parametrize(
    ("name", "before", "after", "says"),
    [
        ("segment", "  secret:", "  options: {list: take}\n  secret:", "list: is not known here"),
        ("salesforce", "env:SALESFORCE_ORG_ID", "00D5", "organization_id"),
        ("generic", "kind: [type]", "knd: [type]", "knd: is not known here"),
        ("mandrill", "webhook:", "options: {}\nwebhok:", "webhok"),
        ("mandrill", "platform: mandrill", "platform: mandril", "known are activecampaign"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, name: str, before: str, after: str, says: str) -> None:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "config"))
    path = folder / "connections" / f"{name}.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(ConfigInvalid) as caught:
        load_folder(folder)
    assert any(says in problem and str(path) in problem for problem in caught.value.problems)


def test_a_connection_that_only_receives_is_no_end_of_a_sync(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "config"))
    other = EXAMPLE.parent / "hubspot-to-salesforce-and-mailchimp"
    for part in ("syncs", "mappings"):
        shutil.copytree(other / part, folder / part)
    with pytest.raises(ConfigInvalid) as caught:
        load_folder(folder)
    assert len(caught.value.problems) == 4
    assert all("only receives webhooks" in problem for problem in caught.value.problems)


def test_a_sender_without_connector_needs_its_webhook(tmp_path: Path) -> None:
    folder = tmp_path / "connections"
    folder.mkdir()
    (folder / "m.yaml").write_text("connection: m\nplatform: mandrill\naccount: a\n")
    with pytest.raises(ConfigInvalid) as caught:
        load_folder(tmp_path)
    assert "webhook: is missing" in caught.value.problems[0]

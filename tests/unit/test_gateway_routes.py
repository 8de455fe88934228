"""Definitions become routes: what is wrong is named, what was good is served on."""

import json
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.codec import Codec
from schemas.definitions import Definition
from schemas.secrets import SecretMissing
from webhook_gateway.routes import Routes

codec = Codec.offline()


def definition(name: str, **fields: Any) -> Definition:
    document = {
        "connection": name,
        "platform": "hubspot",
        "account": f"portal-{name}",
        "webhook": {"secret": f"env:{name}"},
    } | fields
    return Definition(
        kind="connection", name=name, version=1, document=json.dumps(document), applied_ms=1
    )


def routes(**secrets: str) -> Routes:
    def resolve(reference: str) -> SecretStr:
        if (value := secrets.get(reference.removeprefix("env:"))) is None:
            raise SecretMissing(reference, "the environment variable is not set")
        return SecretStr(value)

    return Routes(codec, resolve)


def test_connections_with_a_webhook_are_served() -> None:
    table = routes(a="x")
    assert table.load([definition("a"), definition("b", webhook=None)]) == []
    assert sorted(table.table) == ["a"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "connection b: secret 'env:b': the environment variable is not set"),
        ({"webhook": {"secret": "env:a", "previous_secret": "env:z"}}, "secret 'env:z'"),
        ({"platform": "nobody"}, "webhooks of 'nobody' are not known here"),
        ({"platform": "base"}, "webhooks of 'base' are not known here"),
        ({"webhook": {"secret": "env:a", "options": {"colour": 1}}}, "webhook.options: colour"),
        ({"account": 7}, "not a valid document"),
    ],
)
def test_what_is_wrong_is_named_and_spares_the_others(fields: dict[str, Any], words: str) -> None:
    table = routes(a="x")
    (wrong,) = table.load([definition("b", **fields), definition("a")])
    assert words in str(wrong)
    assert str(wrong).startswith("connection b")
    assert sorted(table.table) == ["a"]


def test_a_reload_that_fails_keeps_the_old_and_one_that_works_keeps_the_counters() -> None:
    secrets = {"a": "old"}
    table = routes(**secrets)
    table.load([definition("a")])
    before = table.table["a"]
    before.stats.accepted = 7
    (wrong,) = table.load([definition("a", webhook={"secret": "env:gone"})])
    assert "env:gone" in str(wrong)
    assert table.table["a"] is before
    assert table.load([definition("a", account="other")]) == []
    assert table.table["a"].connection.account == "other"
    assert table.table["a"].stats.accepted == 7
    assert table.load([]) == []
    assert table.table == {}


def test_accounts_that_share_an_apps_secret_share_its_webhooks() -> None:
    table = routes(a="app", b="app", c="another")
    table.load([definition("a"), definition("b"), definition("c")])
    a, b, c = (table.table[name] for name in "abc")
    assert a.encoder_of("") is a.encoder
    assert a.encoder_of("portal-b") is b.encoder
    assert a.encoder_of("portal-c") is None
    assert c.encoder_of("portal-a") is None
    assert c.encoder_of("portal-c") is c.encoder


def test_no_secret_in_what_is_printed() -> None:
    table = routes(a="hush-hush")
    table.load([definition("a")])
    assert "hush-hush" not in repr(table.table)

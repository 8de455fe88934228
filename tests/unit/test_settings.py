"""What the environment says arrives as it was written, and secrets are never shown."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from syncline.errors import Misused
from syncline.settings import Settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL", "SYNCLINE_DATA"):
        monkeypatch.delenv(name, raising=False)


def test_client_settings_pass_through_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that looks like a number, or like JSON, stays what was typed."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2")
    monkeypatch.setenv("SYNCLINE_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("SYNCLINE_KAFKA__SASL_PASSWORD", "1e5")
    monkeypatch.setenv("SYNCLINE_KAFKA__SASL_USERNAME", '"me"')
    assert Settings().kafka_config() == {
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "SASL_SSL",
        "sasl.password": "1e5",
        "sasl.username": '"me"',
    }


def test_the_registry_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", "https://registry.example.com")
    monkeypatch.setenv("SYNCLINE_REGISTRY__BASIC_AUTH_USER_INFO", "me:hush")
    assert Settings().registry_config() == {
        "url": "https://registry.example.com",
        "basic.auth.user.info": "me:hush",
    }


def test_a_file_keeps_secrets_out_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text("# of the cluster\n\nsasl.password = a=b \nsecurity.protocol=SSL\n")
    monkeypatch.setenv("SYNCLINE_KAFKA_CONFIG_FILE", str(file))
    monkeypatch.setenv("SYNCLINE_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    config = Settings().kafka_config()
    assert config["sasl.password"] == "a=b"
    assert config["security.protocol"] == "SASL_SSL"  # the environment wins


@pytest.mark.parametrize(
    ("text", "says"), [("sasl.password\n", ":1: not a `name=value` line"), (None, "No such file")]
)
def test_a_wrong_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, says: str
) -> None:
    file = tmp_path / "kafka.properties"
    if text:
        file.write_text(text)
    monkeypatch.setenv("SYNCLINE_KAFKA_CONFIG_FILE", str(file))
    with pytest.raises(Misused, match=says):
        Settings().kafka_config()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA__SASL_PASSWORD", "KAFKA__SSL_KEY_PEM", "REGISTRY__BASIC_AUTH_USER_INFO"):
        monkeypatch.setenv(f"SYNCLINE_{name}", "hush")
    monkeypatch.setenv("SYNCLINE_KAFKA__SSL_CA_LOCATION", "/etc/ca.pem")
    monkeypatch.setenv("SYNCLINE_IDENTITY_KEY", "hush")
    settings = Settings()
    shown = settings.shown()
    assert shown["SYNCLINE_IDENTITY_KEY"] == "(secret)"
    assert "hush" not in f"{settings!r}{settings!s}{shown}"
    assert shown["SYNCLINE_KAFKA__SASL_PASSWORD"] == "(secret)"
    assert shown["SYNCLINE_KAFKA__SSL_CA_LOCATION"] == "/etc/ca.pem"


def test_a_value_out_of_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_PARTITIONS", "0")
    with pytest.raises(ValidationError, match="partitions"):
        Settings()


def test_variables_of_others_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA", "not ours")
    monkeypatch.setenv("DATA", "not ours")
    assert Settings().data == Path(".syncline")
    assert Settings().kafka == {}


def test_every_setting_says_what_it_is_for() -> None:
    assert all(Settings.described().values())
    assert Settings().shown().keys() <= Settings.described().keys()

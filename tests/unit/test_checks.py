"""What the doctor says of settings and clusters that are not as they should be."""

from typing import Any

import pytest

from schemas.topics import TOPICS
from syncline import checks
from syncline.checks import Check
from syncline.cluster import located, topic_config
from syncline.errors import Failed, Misused
from syncline.settings import Settings

GOOD = {
    "offsets.retention.minutes": "525600",
    "transaction.max.timeout.ms": "60000",
    "message.max.bytes": "4194304",
    "min.insync.replicas": "2",
}


def bad(found: Any) -> dict[str, str]:
    return {check.name: check.text for check in found if check.ok is False}


def test_a_good_broker_is_good() -> None:
    found = list(checks.broker(GOOD, brokers=3))
    assert {check.ok for check in found} == {True}
    assert {check.name for check in found} == GOOD.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("offsets.retention.minutes", "10080"),  # Kafka's default: a week
        ("transaction.max.timeout.ms", "5000"),
        ("message.max.bytes", "1000000"),
        ("min.insync.replicas", "1"),
    ],
)
def test_a_setting_too_low_is_bad(name: str, value: str) -> None:
    assert value in bad(checks.broker({**GOOD, name: value}, brokers=3))[name]


def test_a_single_broker_needs_no_second_copy() -> None:
    assert not bad(checks.broker({**GOOD, "min.insync.replicas": "1"}, brokers=1))


def test_settings_that_may_not_be_read_are_no_failure() -> None:
    (check,) = checks.broker(None, brokers=3)
    assert check.ok is None


def cluster() -> tuple[dict[str, int], dict[str, int], dict[str, dict[str, str]]]:
    settings = Settings()
    count = {t.name: settings.partitions if t.partitions == "tables" else 1 for t in TOPICS}
    return count, dict.fromkeys(count, 1), {t.name: topic_config(t) for t in TOPICS}


def test_topics_as_they_should_be() -> None:
    text = f"{len(TOPICS)} of {len(TOPICS)} as they should be"
    assert list(checks.topics(Settings(), *cluster())) == [Check("topics", True, text)]


def test_a_missing_topic_is_named_with_the_command() -> None:
    partitions, replicas, configs = cluster()
    del partitions["journal"]
    assert bad(checks.topics(Settings(), partitions, replicas, configs)) == {
        "topics": "1 missing (journal): `syncline topics create`"
    }


def test_each_difference_of_a_topic_is_named() -> None:
    partitions, replicas, configs = cluster()
    partitions["acts"] += 1
    replicas["ticks"] = 0
    configs["parked"]["cleanup.policy"] = "delete"
    found = bad(checks.topics(Settings(), partitions, replicas, configs))
    assert found.keys() == {"acts", "ticks", "parked"}
    assert "SYNCLINE_PARTITIONS" in found["acts"]
    assert found["parked"].startswith("cleanup.policy is delete, not compact")


def test_a_misspelt_variable_is_pointed_at() -> None:
    environment = {
        "SYNCLINE_PARTITION": "4",
        "SYNCLINE_PARTITIONS": "4",
        "SYNCLINE_KAFKA__SASL_PASSWORD": "x",
        "PATH": "/bin",
    }
    (check,) = checks.variables(Settings.described(), environment)
    assert (check.name, check.ok) == ("SYNCLINE_PARTITION", None)


def test_a_cluster_that_is_away_is_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "WAIT_S", 0.3)
    settings = Settings(bootstrap_servers="127.0.0.1:1", registry_url="http://127.0.0.1:1")
    found = bad(checks.cluster(settings))
    assert found.keys() == {"kafka", "registry"}
    assert found["kafka"].startswith("not reachable at 127.0.0.1:1 (")
    assert all("\n" not in text for text in found.values())


def test_no_cluster_says_what_to_do(tmp_path: Any) -> None:
    with pytest.raises(Failed, match="start one with `syncline up`"):
        located(Settings(bootstrap_servers="", registry_url="", data=tmp_path))
    with pytest.raises(Misused, match="set both"):
        located(Settings(bootstrap_servers="a:1", registry_url="", data=tmp_path))

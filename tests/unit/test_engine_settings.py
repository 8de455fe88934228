"""What every client of a worker is told."""

import time
from pathlib import Path

from confluent_kafka import Producer
from structlog.testing import capture_logs

from streams.engine import EngineSettings

SETTINGS = EngineSettings(group="g", slot="0", bootstrap_servers="127.0.0.1:1", data_dir=Path("."))


def test_the_words_of_a_client_are_structured_logs() -> None:
    with capture_logs() as logs:
        producer = Producer(SETTINGS.client())
        deadline = time.monotonic() + 20
        while not logs:
            assert time.monotonic() < deadline
            producer.poll(0.1)
    assert logs[0]["facility"] == "FAIL"
    assert logs[0]["log_level"] == "error"


def test_an_operator_s_settings_come_before_ours_and_a_client_s_own_before_both() -> None:
    settings = SETTINGS.model_copy(
        update={"kafka": {"reconnect.backoff.max.ms": 7, "linger.ms": 1}}
    )
    client = settings.client(**{"linger.ms": 2})
    assert client["reconnect.backoff.max.ms"] == 7
    assert client["linger.ms"] == 2
    assert SETTINGS.client()["reconnect.backoff.max.ms"] <= 1000  # back soon after a broker is

"""librdkafka's own lines: structured where asked for, never raw on a person's terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from schemas.kafka_log import KAFKA_LOG, KafkaLog

AWAY: dict[str, Any] = {"bootstrap.servers": "127.0.0.1:1", "logger": KAFKA_LOG}


def test_each_kind_of_client_tells_the_structured_log(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_logs() as told:
        producer = Producer({**AWAY, "message.timeout.ms": 300})
        producer.produce("t", b"v")
        producer.flush(5)
        consumer = Consumer({**AWAY, "group.id": "g"})
        admin = AdminClient(AWAY)
        for client in (consumer, admin):
            with pytest.raises(KafkaException):
                client.list_topics(timeout=0.5)
        admin.poll(0)
        consumer.close()
    refused = [line for line in told if "Connection refused" in line["event"]]
    clients = {line["client"].rpartition("#")[2].partition("-")[0] for line in refused}
    assert clients == {"producer", "consumer"}  # an admin client calls itself a producer
    assert len({line["client"] for line in refused}) == 3
    assert {line["facility"] for line in refused} == {"FAIL"}
    assert {line["log_level"] for line in refused} == {"error"}
    assert capfd.readouterr() == ("", "")


def test_a_line_in_another_form_is_kept_as_it_is() -> None:
    with capture_logs() as told:
        KafkaLog().log(30, "all of it")
        KafkaLog().log(30, "100 %")
        KafkaLog().log(30, "%s of %s", "one", "two")
    assert [line["event"] for line in told] == ["all of it", "100 %", "one of two"]


def create_topics(folder: Path, **environment: str) -> subprocess.Popen[str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("KAFKA", "SCHEMA", "SYNCLINE"))}
    away = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}
    return subprocess.Popen(
        [sys.executable, "-m", "syncline", "topics", "create"], cwd=folder, text=True,
        env={**own, **away, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_command_says_one_line_and_what_lies_beneath_only_where_asked(tmp_path: Path) -> None:
    with (
        create_topics(tmp_path) as quiet,
        create_topics(tmp_path, SYNCLINE_LOG_LEVEL="info") as asked,
    ):
        said = [command.communicate(timeout=60) for command in (quiet, asked)]
    (out, answer), (out_too, told) = said
    assert (quiet.returncode, asked.returncode, out, out_too) == (1, 1, "", "")
    assert len(answer.splitlines()) == 1
    assert "Is it running?" in answer
    *lines, last = told.splitlines()
    assert last == answer.strip()
    assert any("Connection refused" in json.loads(line)["event"] for line in lines)

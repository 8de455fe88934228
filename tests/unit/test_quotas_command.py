"""`syncline quotas`: what is left, who spent it, what waits, and when it will be through."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ratelimits.limiter import QuotaView
from syncline.commands import quotas

NOON = time.mktime((2026, 6, 1, 12, 0, 0, 0, 0, -1))


def window(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "window": "ten_seconds", "limit": 190, "figure": 190, "used_by_us": 100,
        "used_by_others": 0, "left": 90, "resets_s": 9.6, "closed_s": 0.0, "waiting": 0,
    }  # fmt: skip
    return {**plain, **changes}


def account(*windows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    waiting = {"live": 0, "released": 0, "bulk": 0, "replay": 0} | changes.pop("waiting", {})
    plain: dict[str, Any] = {"open": True, "why": "", "rows_per_s": 0.0, "quotas": list(windows)}
    return {**plain, "waiting": waiting, **changes}


def told(**accounts: dict[str, Any]) -> dict[str, Any]:
    return {"hubspot": {"partitions": [0], "outcomes": {}, "accounts": accounts}}


def shown(status: dict[str, Any]) -> str:
    console = Console(width=160, record=True, force_terminal=False)
    console.print(quotas.table(list(quotas.lines(status)), NOON))
    return console.export_text()


@pytest.mark.parametrize(
    ("one", "through_s"),
    [
        (account(window(), rows_per_s=5.0), 0.0),
        (account(window(), rows_per_s=5.0, waiting={"bulk": 90, "live": 10}), 20.0),
        (account(window(closed_s=30.0), rows_per_s=5.0, waiting={"bulk": 100}), 50.0),
        (account(window(), waiting={"bulk": 100}), None),
        (account(window(), open=False, rows_per_s=5.0, waiting={"bulk": 100}), None),
        (account(rows_per_s=50.0, waiting={"live": 100}), 2.0),
    ],
)
def test_when_what_waits_will_be_through(one: dict[str, Any], through_s: float | None) -> None:
    [line] = quotas.lines(told(acme=one))
    assert line.through_s == through_s


def test_what_an_operator_reads() -> None:
    text = shown(
        told(
            acme=account(
                window(limit=162, used_by_others=41, left=21),
                window(window="day", limit=625_000, figure=625_000, left=0, closed_s=12 * 3600.0,
                       resets_s=12 * 3600.0),
                waiting={"bulk": 41_200, "live": 3}, rows_per_s=950.0,
            ),
            stuck=account(
                window(window="slots", resets_s=None), open=False, why="key refused",
                waiting={"live": 7},
            ),
            free=account(waiting={"replay": 5}),
        )
    )  # fmt: skip
    acme, day, stuck, free = (
        next(line for line in text.splitlines() if words in line)
        for words in ("162 of 190", "625,000", "key refused", "no limits")
    )
    for words in ("hubspot acme", "41", "21", "in 10 s", "3 live, 41,200 bulk", "00:00", "950 row"):
        assert words in acme
    assert "closed until 00:00" in day
    assert "of 625,000" not in day
    for words in ("stuck: key refused", "with the answers", "7 live", "when it is open"):
        assert words in stuck
    assert "nothing went out of late" in free


@pytest.mark.parametrize(
    ("in_s", "says"),
    [(0.4, "in 0 s"), (119.0, "in 119 s"), (600.0, "in 10 min"), (3 * 3600 + 600.0, "15:10"),
     (26 * 3600.0, "Tue 14:00")],
)  # fmt: skip
def test_near_times_are_spans_and_far_ones_stand_on_the_clock(in_s: float, says: str) -> None:
    assert quotas.when(in_s, NOON) == says


@pytest.fixture
def port() -> Iterator[int]:
    """A worker's `/status`."""
    body = json.dumps(told(acme=account(window()), other=account())).encode()

    class Status(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002

    with HTTPServer(("127.0.0.1", 0), Status) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_it_asks_the_worker_and_tells_json(port: int) -> None:
    done = CliRunner().invoke(quotas.app, ["--port", str(port), "--account", "acme", "--json"])
    assert done.exit_code == 0, done.output
    [line] = json.loads(done.stdout)
    assert (line["account"], line["window"], line["left"]) == ("acme", "ten_seconds", 90)
    unknown = CliRunner().invoke(quotas.app, ["--port", str(port), "--account", "acm"])
    assert "this worker has acme, other" in str(unknown.exception)


def test_where_no_worker_answers_it_says_what_to_do() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        done = CliRunner().invoke(quotas.app, ["--port", str(port)])
    assert f"syncline connectors --admin-port {port}" in str(done.exception)


def test_the_workers_own_words_have_all_that_is_asked_for() -> None:
    """Nothing that the limiter tells of a window is left out."""
    windows, shown_there = fields(QuotaView), fields(quotas.Line)
    assert {f.name for f in windows} <= {f.name for f in shown_there}

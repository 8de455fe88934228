"""The simulators as a process of their own, started by command, asked over HTTP."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

HUBSPOT = {"Authorization": "Bearer t0ken"}


@contextmanager
def _running(*arguments: str) -> Iterator[dict[str, httpx.Client]]:
    command = [sys.executable, "-m", "simulators", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        clients: dict[str, httpx.Client] = {}
        try:
            addresses = json.loads(process.stdout.readline())
            clients = {p: httpx.Client(base_url=url, verify=False) for p, url in addresses.items()}
            yield clients
        finally:
            for client in clients.values():
                client.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def test_all_three_in_one_process_with_their_contents(tmp_path: Path) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps({"mailchimp": [{"action": "status", "status": 500, "count": 1}]}))
    arguments = ["--contacts", "400", "--seed", "3", "--faults", str(faults)]
    arguments += ["--quota", "hubspot.ten_seconds=3/60", "--quota", "hubspot.day=off"]
    arguments += ["--option", "hubspot.token=t0ken", "--option", "hubspot.portal_id=12"]
    state = ["--state", str(tmp_path / "state")]
    with _running(*arguments, *state) as sims:
        assert set(sims) == {"hubspot", "salesforce", "mailchimp"}
        account = sims["hubspot"].get("/account-info/v3/details", headers=HUBSPOT).json()
        assert account["portalId"] == 12
        lines = sims["hubspot"].get("/_sim/contents").text.splitlines()
        assert len(lines) == 400
        assert json.loads(lines[0])["values"]["email"]
        assert len(sims["salesforce"].get("/_sim/contents").text.splitlines()) == 20
        assert sims["salesforce"].get("/_sim/contents?object=Contact").text == ""
        key = httpx.BasicAuth("x", "mailchimp-key-us1")
        assert sims["mailchimp"].get("/3.0/ping", auth=key).status_code == 500
        member = {"members": [{"email_address": "a@x.io", "status": "subscribed"}]}
        made = sims["mailchimp"].post("/3.0/lists/a1b2c3d4e5", auth=key, json=member)
        assert made.json()["total_created"] == 1
        contacts = "/crm/v3/objects/contacts"
        statuses = [sims["hubspot"].get(contacts, headers=HUBSPOT).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        act = {"id": json.loads(lines[5])["id"], "properties": {"company": "By hand"}}
        assert sims["hubspot"].post("/_sim/act", json=act).status_code == 200
        ledgers = {p: client.get("/_sim/ledger").text for p, client in sims.items()}
    with _running(*arguments, *state) as sims:
        again = {p: client.get("/_sim/ledger").text for p, client in sims.items()}
        assert again == ledgers
        assert len(sims["hubspot"].get("/_sim/contents").text.splitlines()) == 400
        created = {"create": {"email": "new@x.io"}}
        new = sims["hubspot"].post("/_sim/act", json=created).json()["acted"][0]
        assert int(new["id"]) == int(json.loads(lines[-1])["id"]) + 1
        for client in sims.values():
            client.post("/_sim/reset")
        assert sims["hubspot"].get("/_sim/ledger").text == ""
        assert sims["hubspot"].get("/_sim/contents").text.splitlines() == lines
        assert len(sims["salesforce"].get("/_sim/contents").text.splitlines()) == 20
        assert sims["mailchimp"].get("/_sim/contents").text == ""


def test_the_timeline_and_the_use_of_a_quota() -> None:
    with _running("--platform", "hubspot", "--quota", "hubspot.ten_seconds=4/3600") as sims:
        web = sims["hubspot"]
        started = web.get("/_sim/stats").json()["now_ms"]
        for _ in range(3):
            web.get("/account-info/v3/details", headers={"Authorization": "Bearer hubspot-token"})
        ended = web.get("/_sim/stats").json()["now_ms"]
        params = {"window": "ten_seconds", "from_ms": started, "to_ms": ended + 1, "step_ms": 1}
        columns = web.get("/_sim/timeline", params=params).json()
        assert (columns["used"][0], columns["used"][-1], columns["spent"][-1]) == (0, 3, 3)
        assert len(columns["at_ms"]) == ended + 1 - started + 1
        spans = {"window": "ten_seconds", "spans": [[started, ended + 1]]}
        used = web.post("/_sim/use", json=spans).json()
        assert used == {"spent": 3, "spendable": 4, "use": 0.75}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--quota", "hubspot.ten_seconds"], "is not PLATFORM.NAME=VALUE"),
        (["--quota", "hubspot.weekly=5"], "weekly"),
        (["--quota", "salesforce.day=many"], "many"),
        (["--option", "acme.token=x"], "acme"),
        (["--option", "hubspot.colour=x"], "colour"),
    ],
)
def test_wrong_arguments_end_with_words(arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "simulators", "--contacts", "1", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr

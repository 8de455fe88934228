"""How a gateway process begins: its login at the registry, its TLS files, mistakes in a line."""

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from schemas.codec import MESSAGES
from schemas.events import PlatformEvent
from webhook_gateway.config import Bounds, GatewayConfig, Tls, told, untold
from webhook_gateway.registry import RegistryAway, codec_of


class Registry(BaseHTTPRequestHandler):
    """Knows every schema, under one id each, for whom logs in."""

    asked: list[str | None] = []

    def do_POST(self) -> None:
        schema = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["schema"]
        given = self.headers.get("Authorization")
        self.asked.append(given)
        known = given == "Basic " + base64.b64encode(b"gateway:hush").decode()
        subject = self.path.split("/")[2].partition("?")[0]
        names = [f"syncline.{model.__name__}" for model in MESSAGES]
        answer = (
            {"subject": subject, "id": 100 + names.index(subject), "version": 1, "schema": schema}
            if known
            else {"error_code": 40101, "message": "who are you"}
        )
        body = json.dumps(answer).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def registry_url() -> Iterator[str]:
    Registry.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Registry) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


EVENT = PlatformEvent(
    event_id="e", connection="c", platform="hubspot", object_type="contact", object_id="1",
    occurred_ms=1, received_ms=1, values=b"{}", payload=b"{}",
)  # fmt: skip


def test_it_logs_in_at_the_registry_and_writes_with_its_ids(registry_url: str) -> None:
    codec = codec_of({"url": registry_url, "basic.auth.user.info": "gateway:hush"})
    assert int.from_bytes(codec.encode(EVENT)[1:5]) == 100 + MESSAGES.index(PlatformEvent)
    assert codec.decode(codec.encode(EVENT)) == EVENT


def test_a_registry_that_says_no_is_told_in_its_words(registry_url: str) -> None:
    with pytest.raises(RegistryAway, match="who are you"):
        codec_of({"url": registry_url, "basic.auth.user.info": "gateway:wrong"})


def test_a_process_that_serves_is_told_all_of_its_configuration() -> None:
    config = GatewayConfig(
        kafka={"bootstrap.servers": "k:1", "sasl.password": "hush"},
        registry_url="http://r",
        registry={"basic.auth.user.info": "gateway:hush"},
        proxies=["10.0.0.0/8"],
        tls=Tls(Path("certificate"), Path("key"), Path("authority")),
        port=1,
        bounds=Bounds(peers_max=7),
    )
    assert untold(told(config)) == config
    assert "gateway:hush" not in repr(config)


@pytest.mark.parametrize("stdin", ["</dev/null", "<&-"])
def test_it_becomes_what_serves_with_a_long_configuration_and_no_input(stdin: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = (
            "from webhook_gateway.__main__ import become, GatewayConfig\n"
            "long = {'ssl.ca.pem': 'x' * 300_000}\n"
            f"become(GatewayConfig(kafka=long, registry_url='', port={port}, admin_port=0))"
        )
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" -c "$1" {stdin}', sys.executable, code],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"gateway: port {port} or 0: Address already in use" in done.stderr


def test_what_serves_loads_no_library_that_only_others_need() -> None:
    """Each is megabytes of every gateway: the registry's client, the console, the command line."""
    code = (
        "import sys, webhook_gateway.__main__ as m; sys.stdin = open('/dev/null')\n"
        "try: m.main()\nexcept Exception: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    loaded = {name.partition(".")[0] for name in done.stdout.split()} - {"rich"}
    assert "webhook_gateway" in loaded
    assert not loaded & {"authlib", "httpx", "typer", "pygments", "py_avro_schema", "syncline"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--proxy", "nonsense"], "--proxy: 'nonsense' does not appear to be"),
        (["--tls-key", "a"], "--tls-certificate and --tls-key go together"),
        (["--tls-client-ca", "a"], "--tls-certificate and --tls-key go together"),
        (["--tls-certificate", "none", "--tls-key", "none"], "No such file"),
        (["--tls-certificate", "bad", "--tls-key", "bad"], "the TLS files cannot be used"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, args: list[str], says: str) -> None:
    (tmp_path / "bad").write_text("no certificate")
    done = subprocess.run(
        [sys.executable, "-m", "syncline", "gateway", *args],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr

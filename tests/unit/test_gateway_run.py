"""How a gateway process begins: its login at the registry, its TLS files, mistakes in a line."""

import base64
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from webhook_gateway.config import GatewayConfig
from webhook_gateway.run import _registry


class Registry(BaseHTTPRequestHandler):
    """Lists no subjects, to whom logs in."""

    asked: list[str | None] = []

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        self.asked.append(given)
        known = given == "Basic " + base64.b64encode(b"gateway:hush").decode()
        body = b"[]" if known else b'{"error_code":401,"message":"who are you"}'
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


def test_it_logs_in_at_the_registry(registry_url: str) -> None:
    login = {"url": registry_url, "basic.auth.user.info": "gateway:hush"}
    config = GatewayConfig(kafka={}, registry_url=registry_url, registry=login)
    with _registry(config) as client:
        assert client.get_subjects() == []
    assert "hush" not in repr(config)


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

"""How the scheduler fetches a list: from a real HTTP server, with its secret, within bounds."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from schemas.definitions import ListSource
from syncline import audiences
from syncline.errors import Failed
from syncline.scheduler import fetch_list


class Lists(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        proven = self.headers["authorization"] == "Bearer for lists"
        status = 302 if self.path == "/moved" else 200 if proven else 401
        body = b"1\n2\n" * (1 if self.path == "/ids" else 500_000)
        self.send_response(status)
        self.send_header("location", "http://127.0.0.1:1/elsewhere")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if status == 200:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Lists)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIST_TOKEN", "for lists")


def test_a_list_is_fetched_with_its_secret(url: str) -> None:
    assert fetch_list(ListSource(url=f"{url}/ids", secret="env:LIST_TOKEN")) == b"1\n2\n"


@pytest.mark.parametrize(
    ("path", "secret_", "words"),
    [
        ("/ids", "", "HTTP 401"),
        ("/moved", "env:LIST_TOKEN", "HTTP 302"),
        ("/ids", "env:NO_SUCH_VARIABLE", "the environment variable is not set"),
    ],
)
def test_why_it_cannot_be_fetched_is_told_without_the_secret(
    url: str, path: str, secret_: str, words: str
) -> None:
    with pytest.raises(Failed, match=words) as caught:
        fetch_list(ListSource(url=url + path, secret=secret_))
    assert "for lists" not in str(caught.value)


def test_nobody_there_and_a_list_that_does_not_end(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Failed, match="ConnectError"):
        fetch_list(ListSource(url="http://127.0.0.1:1/ids"))
    monkeypatch.setattr(audiences, "LIST_BYTES_MAX", 100_000)
    data = fetch_list(ListSource(url=f"{url}/endless", secret="env:LIST_TOKEN"))
    assert 100_000 < len(data) < 2_000_000

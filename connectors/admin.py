"""`/metrics`, `/status`, `/healthz`, `/readyz`, on a port that is not for the world."""

import asyncio
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import msgspec

from connectors.stats import exposition, status

if TYPE_CHECKING:
    from connectors.worker import Worker

__all__ = ["Admin"]

ANSWER_S = 5.0


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has hung up: nothing to say."""


class Admin:
    """Serves in threads of its own; what it says is gathered in the event loop."""

    def __init__(self, host: str, port: int, workers: Mapping[str, "Worker"]) -> None:
        """Raises OSError where the port is taken. `port` 0: a free one. Call it in the loop."""
        loop = asyncio.get_running_loop()

        async def page(path: str) -> tuple[int, str, bytes]:
            match path:
                case "/metrics":
                    return 200, "text/plain; version=0.0.4", exposition(workers)
                case "/status":
                    return 200, "application/json", msgspec.json.encode(status(workers))
                case "/healthz":
                    return 200, "text/plain", b"alive\n"
                case "/readyz":
                    ready = all(worker.ready for worker in workers.values())
                    return (
                        (200, "text/plain", b"ready\n")
                        if ready
                        else (503, "text/plain", b"starting\n")
                    )
                case _:
                    return 404, "text/plain", b"no such page\n"

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                work = asyncio.run_coroutine_threadsafe(page(self.path.partition("?")[0]), loop)
                try:
                    code, kind, body = work.result(ANSWER_S)
                except TimeoutError:
                    code, kind, body = 503, "text/plain", b"busy\n"
                self.send_response(code)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = Server((host, port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="admin", daemon=True).start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

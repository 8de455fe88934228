"""The admin port: metrics and what is served, for operators and not for the world."""

import msgspec

from webhook_gateway.hooks import Hooks
from webhook_gateway.http import Answer, Incoming, new_answer
from webhook_gateway.stats import exposition

__all__ = ["Admin"]


class Admin:
    """The handler of the admin port: `/metrics`, `/connections`, `/healthz`, `/readyz`."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks

    async def handle(self, request: Incoming) -> Answer:
        status, body, kind = self._page(request.target.partition("?")[0])
        if request.method not in ("GET", "HEAD"):
            status, body = 405, b""
        keep_alive = request.keep_alive and request.whole
        head = request.method == "HEAD"
        return new_answer(status, body, kind, keep_alive=keep_alive, head=head)

    def _page(self, path: str) -> tuple[int, bytes, str]:
        """-> status, body, content type."""
        text = "text/plain; charset=utf-8"
        match path:
            case "/metrics":
                return 200, self._metrics(), "text/plain; version=0.0.4"
            case "/connections":
                return 200, self._connections(), "application/json"
            case "/healthz":
                return 200, b"alive\n", text
            case "/readyz":
                reason = self.hooks.not_ready()
                return 503 if reason else 200, f"{reason or 'ready'}\n".encode(), text
            case _:
                return 404, b"", text

    def _metrics(self) -> bytes:
        hooks = self.hooks
        table = hooks.routes.table if hooks.routes else {}
        gauges = {
            "ready": float(not hooks.not_ready()),
            "bytes_in_hand": float(hooks.held.bytes),
            "queue_messages": float(hooks.publisher.queued if hooks.publisher else 0),
            "peers": float(len(hooks.edge.peers) if hooks.edge else 0),
        }
        stats = {name: route.stats for name, route in table.items()}
        return exposition(stats, gauges, hooks.strangers)

    def _connections(self) -> bytes:
        table = self.hooks.routes.table if self.hooks.routes else {}
        return msgspec.json.encode(
            [
                {
                    "connection": name,
                    "platform": route.connection.platform,
                    "address": f"{self.hooks.public_url}/hooks/{name}",
                    "secrets": len(route.secrets),
                    "accepted": route.stats.accepted,
                    "parked": route.stats.parked,
                }
                for name, route in sorted(table.items())
            ]
        )

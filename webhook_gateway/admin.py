"""The admin port: metrics and what is served, for operators and not for the world."""

from aiohttp import web

from webhook_gateway.config import GatewayConfig
from webhook_gateway.hooks import Hooks
from webhook_gateway.stats import exposition

__all__ = ["admin_server"]


async def admin_server(hooks: Hooks, config: GatewayConfig) -> web.AppRunner:
    """`/metrics`, `/connections`, `/healthz`, `/readyz`, on a port that is not for the world."""

    async def metrics(_: web.Request) -> web.Response:
        table = hooks.routes.table if hooks.routes else {}
        gauges = {
            "ready": float(not hooks.not_ready()),
            "bytes_in_hand": float(hooks.held.bytes),
            "queue_messages": float(hooks.publisher.queued if hooks.publisher else 0),
            "peers": float(len(hooks.edge.connections) if hooks.edge else 0),
        }
        stats = {name: route.stats for name, route in table.items()}
        page = exposition(stats, gauges, hooks.strangers)
        return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def connections(_: web.Request) -> web.Response:
        table = hooks.routes.table if hooks.routes else {}
        return web.json_response(
            [
                {
                    "connection": name,
                    "platform": route.connection.platform,
                    "address": f"{hooks.public_url}/hooks/{name}",
                    "secrets": len(route.secrets),
                    "accepted": route.stats.accepted,
                    "parked": route.stats.parked,
                }
                for name, route in sorted(table.items())
            ]
        )

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = hooks.not_ready()
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ready'}\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/connections", connections)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, config.admin_host, config.admin_port).start()
    return runner

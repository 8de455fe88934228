"""`/_sim/…`: what a test or a demo asks of a simulator. No token, no quota, loopback only.

GET  contents   every object, NDJSON, by creation: {id, values, created_ms, changed_ms, archived}
GET  ledger     effective writes, NDJSON: `since_ms`, `id`, `updates_only=true`
GET  effects    counts over the ledger: objects made twice, values that went back and forth
GET  stats      requests, rows, refusals, overspends per window, faults fired, webhooks
GET  timeline   `window`, `from_ms`, `to_ms`, `step_ms`=100: used and spent tokens in columns
POST use        {"window", "spans": [[from_ms, to_ms], …]} -> spent, spendable, use
POST faults     a fault or a list of them (faults.py) -> names; DELETE takes all or `name` away
POST quotas     {"ten_seconds": "190/10", "day": "off"} (quotas.py)
POST spend      {"day": 60000}: so many tokens are taken by other applications, now
POST act        an act or a list of them, as a person in the platform's own screens
POST webhook    a target (webhooks.py); {} for none. GET gives counts and what is unsettled
POST token      {"token"}: a fresh one in place of one that expired (HubSpot, Mailchimp)
POST reset      the first contents again, an empty ledger, counters at zero; faults and quotas stay

`object=Contact` picks another type of object than the first.
"""

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse

from simulators import quotas
from simulators.store import Store
from simulators.webhooks import Target

if TYPE_CHECKING:
    from simulators.server import Platform

LINES_A_CHUNK = 500
_encode = msgspec.json.Encoder().encode


async def answer(platform: "Platform", request: BaseRequest) -> StreamResponse:
    """400 with words where the request makes no sense."""
    try:
        return await _answer(platform, request)
    except (ValueError, KeyError, TypeError, AttributeError, msgspec.MsgspecError) as error:
        return _json({"error": f"{type(error).__name__}: {error}"}, 400)


async def _answer(platform: "Platform", request: BaseRequest) -> StreamResponse:
    params = request.rel_url.query
    body: Any = msgspec.json.decode(await request.read() or b"{}")
    store = platform.stores[params["object"]] if "object" in params else platform.store
    match request.method, request.rel_url.path.removeprefix("/_sim/"):
        case "GET", "contents":
            return await _lines(request, _contents(store))
        case "GET", "ledger":
            since, only = int(params.get("since_ms", "0")), params.get("updates_only") == "true"
            return await _lines(request, store.entries(since, params.get("id", ""), only))
        case "GET", "effects":
            return _json(store.effects())
        case "GET", "stats":
            return _json(platform.stats())
        case "GET", "timeline":
            window = platform.windows[params["window"]]
            start = int(params.get("from_ms", platform.started_ms)) / 1000
            end = int(params.get("to_ms", platform.clock.now() * 1000)) / 1000
            step_s = int(params.get("step_ms", "100")) / 1000
            return _json(quotas.timeline(window, start, end, step_s))
        case "POST", "use":
            spans = [(a / 1000, b / 1000) for a, b in body["spans"]]
            return _json(quotas.use(platform.windows[body["window"]], spans))
        case "POST", "faults":
            return _json({"names": platform.script.add(body if isinstance(body, list) else [body])})
        case "DELETE", "faults":
            platform.script.clear(params.get("name", ""))
            return _json({})
        case "POST", "quotas":
            for name, setting in body.items():
                quotas.change(platform.windows[name], str(setting))
            return _json({})
        case "POST", "spend":
            for name, tokens in body.items():
                for _ in range(tokens):
                    platform.windows[name].take(platform.clock.now())
            return _json({})
        case "POST", "act":
            return _json({"acted": platform.perform(body if isinstance(body, list) else [body])})
        case "POST", "webhook":
            await platform.aim(msgspec.convert(body, Target) if body else None)
            return _json({})
        case "GET", "webhook":
            return _json(platform.stats()["webhook"])
        case "POST", "token":
            platform.renew(body["token"])
            return _json({})
        case "POST", "reset":
            platform.reset()
            return _json({})
        case _:
            return _json({"error": "no such path; see simulators/admin.py"}, 404)


def _contents(store: Store) -> Iterable[dict[str, Any]]:
    for obj in store.numbered:
        yield {
            "id": obj.id,
            "values": obj.values,
            "created_ms": obj.created_ms,
            "changed_ms": obj.changed_ms,
            "archived": obj.archived,
            "seeded": obj.number < store.seeded,
        }


def _json(value: Any, status: int = 200) -> Response:
    return Response(status=status, body=_encode(value), content_type="application/json")


async def _lines(request: BaseRequest, items: Iterable[Any]) -> StreamResponse:
    response = StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    async for chunk in _chunks(items):
        await response.write(chunk)  # waits for the reader, and lets other requests in
    await response.write_eof()
    return response


async def _chunks(items: Iterable[Any]) -> AsyncIterator[bytes]:
    lines: list[bytes] = []
    for item in items:
        lines.append(_encode(item))
        if len(lines) == LINES_A_CHUNK:
            yield b"\n".join(lines) + b"\n"
            lines = []
    if lines:
        yield b"\n".join(lines) + b"\n"

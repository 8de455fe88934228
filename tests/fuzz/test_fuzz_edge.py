"""Any bytes at the public port: each is answered with a known status or hung up on, others are
served meanwhile, and nothing is left in hand.

A failure names its round: `FUZZ=0:17 pytest tests/fuzz/test_fuzz_edge.py` runs it again.
"""

import asyncio
import random
import re
from collections import Counter
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from tests.fuzz.mutate import UNSIGNABLE, mutated, rounds
from tests.unit.gateway_kit import SECRET, World, definition, post, until, world_of
from tests.unit.senders_kit import CASES
from webhook_gateway.config import Bounds

KNOWN = {100, 200, 400, 401, 404, 405, 408, 413, 415, 503}
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+\r\n")
AT_ONCE = 32
OPTIONS = {"salesforce": {"organization_id": "00D5g000004abcDEAQ"}}
BOUNDS = Bounds(peers_max=64, bytes_max=2_000_000, head_s=0.5, idle_s=0.5)


@pytest.mark.parametrize(
    "seconds",  # together a minute, and ten in `make soak`
    [30, pytest.param(300, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
async def test_no_bytes_make_the_edge_fail(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook_gateway.held.READ_S_MAX", 0.5)
    world = await world_of(
        *(
            definition(name, platform=name, webhook={"options": OPTIONS.get(name, {})})
            for name in CASES
        ),
        definition("hub"),
        bounds=BOUNDS,
    )
    statuses: Counter[int] = Counter()
    try:
        with capture_logs() as logs:
            going = rounds(seconds)
            while batch := [one for _, one in zip(range(AT_ONCE), going, strict=False)]:
                told = [asyncio.create_task(talk(world, chance)) for _, chance in batch]
                assert await served(world), f"FUZZ={' '.join(name for name, _ in batch)}"
                for (name, _), talked in zip(batch, told, strict=True):
                    found = await talked
                    assert found <= KNOWN, f"FUZZ={name}"
                    statuses.update(found)
                wrong = [entry for entry in logs if entry["log_level"] == "error"]
                assert not wrong, f"{wrong}: one of FUZZ={' '.join(name for name, _ in batch)}"
                world.kafka.records.clear()
                world.kafka.offered.clear()
        print(f"\nfuzzed the edge: answers {dict(sorted(statuses.items()))}")
        assert {200, 400, 401} <= statuses.keys() or sum(statuses.values()) < 100
        await until(lambda: not any(p.busy for p in world.edge.connections))  # type: ignore[attr-defined]
        assert world.hooks.held.bytes == 0
        assert world.hooks.routes is not None
        for route in world.hooks.routes.table.values():
            stats = route.stats
            assert (stats.in_hand, stats.bytes_in_hand, stats.messages_in_hand) == (0, 0, 0)
    finally:
        await world.close()


async def served(world: World) -> bool:
    """Somebody who does all right. Where the machine stands still for a second he looks slow to
    the bounds above, may be hung up on, and comes again."""
    for _ in range(3):
        try:
            return (await world.ask(post()))[0] == 200
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            continue
    return False


def request_of(chance: random.Random) -> bytes:
    name = chance.choice(list(CASES))
    case = CASES[name]
    body = case.body(chance.choice(case.counts[:2]))
    if chance.random() < 0.3:
        body = mutated(chance, body)
    try:
        proof = case.sign(body, SECRET, f"https://hooks.example.com/hooks/{name}")
    except UNSIGNABLE:
        return post(body, path=f"/hooks/{name}")
    target = f"/hooks/{name}"
    target += f"/{proof.rest}" if proof.rest else ""
    lines = [
        f"{chance.choice(('POST', 'POST', 'POST', 'GET', 'PUT'))} {target} HTTP/1.1",
        "Host: h",
    ]
    lines += [f"{header}: {value}" for header, value in proof.headers.items()]
    if chance.random() < 0.3:
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode() + chunks
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def talk(world: World, chance: random.Random) -> set[int]:
    """One connection: a few requests, broken somewhere, in pieces of any size. -> statuses."""
    data = b"".join(request_of(chance) for _ in range(chance.choice((1, 1, 1, 3))))
    if chance.random() < 0.8:
        data = mutated(chance, data, post())
    reader, writer = await world.connect()
    with suppress(ConnectionError):
        for piece in _pieces(chance, data[:200_000]):
            writer.write(piece)
            await writer.drain()
        if chance.random() < 0.5:
            writer.write_eof()
        elif chance.random() < 0.5:
            writer.transport.abort()
    answers = b""
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(4):
            answers = await reader.read(1 << 20)
    writer.close()
    return {int(s) for s in STATUS.findall(answers)}


def _pieces(chance: random.Random, data: bytes) -> list[bytes]:
    if chance.random() < 0.5 or len(data) < 2:
        return [data]
    cuts = sorted(chance.sample(range(1, len(data)), min(4, len(data) - 1)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

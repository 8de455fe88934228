"""Any platform can be an end of a sync, also one that the cluster had never heard of.

On real Kafka with the processes as people run them: streams and connectors run already when a
configuration names Klaviyo and Customer.io, for which no topic is there. HubSpot's contacts go to
Klaviyo, and Klaviyo's profiles go on to Customer.io.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from schemas.topics import of_platform
from simulators import HubSpot, Platform, declared
from simulators.portal import Contact
from syncline.cli import app
from syncline.stack import Stack
from tests.e2e.gateway_world import until

PEOPLE = 25
SEEDED_MS = 1_672_531_200_000
WAIT_S = 240.0
NEW = ("customerio", "klaviyo")

CONNECTIONS = {
    "hubspot": "account: '4711001'\ntier: professional\nsecrets: {token: env:HUBSPOT_TOKEN}\n"
    "identify: {contact: {field: email}}",
    "klaviyo": "account: shop\nsecrets: {api_key: env:KLAVIYO_KEY}\n"
    "identify: {profile: {field: email}}",
    "customerio": "account: workspace\n"
    "secrets: {site_id: env:CUSTOMERIO_SITE, api_key: env:CUSTOMERIO_KEY}",
}
SYNCS = {
    "profiles": ("hubspot", "contact", "klaviyo", "profile", "match: email"),
    "people": ("klaviyo", "profile", "customerio", "person", ""),
}
FIELDS = {
    "profiles": "email: record.email\n  first_name: record.firstname",
    "people": "email: record.email\n  first_name: record.first_name",
}
SECRETS = {
    "HUBSPOT_TOKEN": "hubspot-token",
    "KLAVIYO_KEY": "klaviyo-key",
    "CUSTOMERIO_SITE": "customerio-site",
    "CUSTOMERIO_KEY": "customerio-key",
}


@contextlib.contextmanager
def serving(*platforms: Platform) -> Iterator[dict[str, str]]:
    """In a thread of their own -> platform to base URL."""
    loop, urls, ready = asyncio.new_event_loop(), dict[str, str](), threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as ends:
            for platform in platforms:
                urls[platform.name] = await ends.enter_async_context(platform.serve())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield urls
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def configuration(folder: Path, urls: dict[str, str]) -> Path:
    for name in ("connections", "syncs", "mappings"):
        (folder / name).mkdir(parents=True)
    for name, more in CONNECTIONS.items():
        text = f"connection: {name}\nplatform: {name}\nbase_url: {urls[name]}\n{more}\n"
        (folder / "connections" / f"{name}.yaml").write_text(text)
    for name, (source, taken, destination, made, match) in SYNCS.items():
        (folder / "syncs" / f"{name}.yaml").write_text(
            f"sync: {name}\nsource: {source}\nsource_object: {taken}\ndestination: {destination}\n"
            f"destination_object: {made}\nmapping: {name}\n{match}\n"
        )
        (folder / "mappings" / f"{name}.yaml").write_text(
            f"mapping: {name}\nversion: 1\nfrom: {{platform: {source}, object: {taken}}}\n"
            f"to: {{platform: {destination}, object: {made}}}\nfields:\n  {FIELDS[name]}\n"
        )
    return folder


def use(
    stack: Stack, folder: Path, secrets: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let commands, and processes of this one, run on a stack."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": stack.registry_url,
        "SYNCLINE_DATA": str(folder / "data"),
        **secrets,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@contextlib.contextmanager
def process(folder: Path, name: str, *args: str) -> Iterator[Path]:
    """`syncline NAME` while in here -> its log."""
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", "syncline", name, *args]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as ours:
        try:
            yield log
            assert ours.poll() is None, log.read_text()[-3000:]
        except BaseException:
            print(f"the end of {log.name}:", log.read_text()[-5000:], sep="\n")
            raise
        finally:
            ours.terminate()


def names(platform: Platform) -> dict[str, str]:
    found = {o.values.get("email"): o.values.get("first_name") for o in platform.store.alive()}
    return {str(email): str(name) for email, name in found.items()}


def syncline(*args: str) -> str:
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == 0, f"{args}: {done.output} {done.exception!r}"
    return done.output


@pytest.mark.timeout(900)
def test_a_platform_is_taken_up_when_a_configuration_names_it(
    fresh_stack: Callable[..., Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = {f"person{n}@example.com": f"Name{n}" for n in range(PEOPLE)}
    contacts = [
        Contact(str(1_000_001 + n), {"email": email, "firstname": name}, SEEDED_MS, SEEDED_MS)
        for n, (email, name) in enumerate(people.items())
    ]
    klaviyo, customerio = declared("klaviyo")(), declared("customerio")()
    stack = fresh_stack()
    use(stack, tmp_path, SECRETS, monkeypatch)
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    wanted = {topic.name for name in NEW for topic in of_platform(name)}

    with serving(HubSpot(contacts), klaviyo, customerio) as urls:
        syncline("topics", "create")
        assert not wanted & admin.list_topics(timeout=15).topics.keys()
        with process(tmp_path, "streams") as streams, process(tmp_path, "connectors") as connectors:
            until(lambda: "partitions taken" in streams.read_text(), "streams run", WAIT_S)
            until(lambda: "connectors run" in connectors.read_text(), "connectors run", WAIT_S)
            said = syncline("apply", str(configuration(tmp_path / "config", urls)), "--yes")
            assert "new here: customerio, klaviyo. Streams workers begin anew by themselves" in said
            assert wanted <= admin.list_topics(timeout=15).topics.keys()
            assert "new here" not in syncline("apply", str(tmp_path / "config"), "--yes")

            syncline("run", "start", "profiles", "--wait", "0")
            until(lambda: names(klaviyo) == people, "HubSpot's contacts are in Klaviyo", WAIT_S)
            syncline("run", "start", "people", "--wait", "0")
            until(
                lambda: names(customerio) == people, "Klaviyo's profiles are in Customer.io", WAIT_S
            )

            def balanced() -> bool:
                read = json.loads(syncline("balance", "--json"))
                kinds = {name for line in read["lines"] for name in line["standings"]}
                return kinds <= {"written", "accepted"} and read["difference"] == 0

            until(balanced, "each record has its fate", WAIT_S)
            story = syncline("explain", "person3@example.com")
        log = streams.read_text()
    assert "begins anew, to read topics of more platforms" in log
    assert "workers with different agents" not in log
    assert "commands.klaviyo" in story
    assert "outcomes.klaviyo" in story
    assert klaviyo.store.effects()["created"] == customerio.store.effects()["created"] == PEOPLE

"""The processes of a two-way sync over three platforms, people who edit there, and accidents."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from syncline import cluster
from syncline.commands import balance
from syncline.platforms import Simulators
from syncline.settings import Settings
from syncline.stack import Stack
from syncline.supervisor import Supervisor
from tests.e2e.gateway_world import free_port
from tests.e2e.people import (
    CAUSES,
    EDITED,
    NAMES,
    SYNCS,
    Edit,
    Ended,
    Held,
    Person,
    Write,
    common,
    files,
    own,
    people,
)

SECRETS = {
    "HUBSPOT_TOKEN": "hubspot-token", "HUBSPOT_SECRET": "hubspot-client-secret",
    "SALESFORCE_CLIENT_ID": "salesforce-client", "SALESFORCE_CLIENT_SECRET": "salesforce-secret",
    "SALESFORCE_HOOK": "end-of-the-address", "MAILCHIMP_API_KEY": "mailchimp-key-us1",
    "MAILCHIMP_HOOK": "mailchimp-signing",
}  # fmt: skip
ACTS = 500
"""So many people are put into a platform at once."""
HOT = 0.02
"""Share of the persons whom every fourth edit hits, at any platform."""
MEET_MS = 60_000
SILENT_S = 240.0


@dataclass
class World:
    """Use `with World(…) as world`. Everything is read from the platforms, nothing from us."""

    folder: Path
    count: int
    seed: int = 1
    edits: list[Edit] = field(default_factory=list[Edit])
    merges: dict[int, int] = field(default_factory=dict[int, int])
    kills: list[str] = field(default_factory=list[str])
    _ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> "World":
        with contextlib.ExitStack() as ends:
            self._start(ends)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ends.close()

    def _start(self, ends: contextlib.ExitStack) -> None:
        stack = ends.enter_context(Stack.start(self.folder / "stack"))
        self.sims = Simulators(self.folder, 0, self.seed, quotas=True)
        ends.callback(self.sims.stop)
        self.people = people(self.count)
        self._settle_in()
        for cause in CAUSES:
            if cause.fault:
                fault = {**cause.fault, "name": cause.name}
                self.sims.post(SYNCS[cause.sync][1], "faults", fault)
        self.configuration = self.folder / "configuration"
        for path, text in files(self.sims.urls):
            file = self.configuration / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.env = {
            **SECRETS,
            "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": stack.registry_url,
            "SYNCLINE_DATA": str(self.folder / "data"),
        }
        self.syncline("apply", str(self.configuration), "--yes")
        gateway, self.status_port = free_port(), free_port()
        url = f"http://127.0.0.1:{gateway}"
        self.processes = Supervisor(self.folder / "logs", self.env)
        ends.callback(self.processes.stop)
        self.processes.add(
            "gateway", "gateway", "--port", str(gateway), "--admin-port", str(free_port()),
            "--public-url", url,
        )  # fmt: skip
        self.processes.add("streams", "streams")
        self.processes.add("connectors", "connectors", "--admin-port", str(self.status_port))
        self.until(lambda: _ok(f"{url}/readyz"), "the gateway is ready", 120)
        ready = f"http://127.0.0.1:{self.status_port}/readyz"
        self.until(lambda: _ok(ready), "the connectors are ready", 120)
        self._aim(url)
        variables = {
            name: self.env[name] for name in ("KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL")
        }
        os.environ.update(variables)
        settings = Settings()
        self._balance = balance.Reader(settings, cluster.codec(settings))

    def _aim(self, url: str) -> None:
        """Webhooks of all three, with repeats after a second instead of a minute."""
        paths = {
            "hubspot": "hubspot",
            "salesforce": f"salesforce/{SECRETS['SALESFORCE_HOOK']}",
            "mailchimp": "mailchimp",
        }
        secrets = {"hubspot": SECRETS["HUBSPOT_SECRET"], "mailchimp": SECRETS["MAILCHIMP_HOOK"]}
        told = {
            "hubspot": {"properties": list(NAMES["hubspot"].values())},
            "salesforce": {"fields": list(NAMES["salesforce"].values())},
        }
        for platform, path in paths.items():
            target = {
                "url": f"{url}/hooks/{path}", "secret": secrets.get(platform, ""),
                "delay_scale": 0.02, "duplicates": 0.02, "options": told.get(platform, {}),
            }  # fmt: skip
            self.sims.post(platform, "webhook", target)

    def _settle_in(self) -> None:
        """Everybody is where they are first."""
        acts: dict[str, list[dict[str, Any]]] = {platform: [] for platform in NAMES}
        for person in self.people:
            for platform in NAMES:
                if first := person.first_at(platform):
                    acts[platform].append(_created(platform, own(platform, first)))
        for platform, wishes in acts.items():
            for start in range(0, len(wishes), ACTS):
                for done in self.sims.post(platform, "act", wishes[start : start + ACTS])["acted"]:
                    assert "error" not in done, done

    def until(self, true: Callable[[], Any], what: str, within_s: float = SILENT_S) -> Any:
        deadline = time.monotonic() + within_s
        while not (value := true()):
            if hasattr(self, "processes"):
                self.processes.check()
            assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
            time.sleep(0.1)
        return value

    def syncline(self, *args: str, code: int = 0) -> str:
        """A command as a person types it -> what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "syncline", *args], env={**os.environ, **self.env},
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == code, f"{args}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        return done.stdout

    def without_fault(self, platform: str, name: str) -> None:
        address = f"{self.sims.urls[platform]}/_sim/faults"
        httpx.delete(address, params={"name": name}, trust_env=False).raise_for_status()

    # -- the storm

    def storm(self, edits: int, per_s: float, merges: int, kills: tuple[str, ...]) -> None:
        """All bulk runs begin; until they have ended people edit everywhere, some contacts are
        merged, and each of `kills` is killed once."""
        draw = random.Random(self.seed)
        for name in SYNCS:
            self.syncline("run", "start", name, "--wait", "0")
        plan = self._plan(draw, edits, merges, kills)
        began_s = time.monotonic()
        self._look()
        for number, act in enumerate(plan):
            while time.monotonic() < began_s + number / per_s:
                time.sleep(0.01)
            self.processes.check()
            if number % (len(plan) // 8 + 1) == 0:
                self._look()
            act()
        self.until(self._runs_over, "the runs are over", 900)

    def _plan(
        self, draw: random.Random, edits: int, merges: int, kills: tuple[str, ...]
    ) -> list[Callable[[], None]]:
        ordinary = [p for p in self.people if p.cause is None]
        contacts = [p for p in ordinary if p.at == "hubspot"]
        pairs = draw.sample(contacts, 2 * merges)
        apart = {p.number for p in pairs}
        among = [p for p in ordinary if p.number not in apart]
        hot = draw.sample(among, max(2, int(len(among) * HOT)))
        plan: list[Callable[[], None]] = []
        for serial in range(edits):
            person = draw.choice(hot if serial % 4 == 0 else among)
            platform, name = draw.choice(list(NAMES)), draw.choice(EDITED)
            plan.append(lambda s=serial, p=person, at=platform, n=name: self.edit(s, p, at, n))
        for one, other in zip(pairs[::2], pairs[1::2], strict=True):
            plan.insert(draw.randrange(len(plan)), lambda a=one, b=other: self.merge(a, b))
        for place, what in enumerate(kills, 1):
            plan.insert(place * len(plan) // (len(kills) + 1), lambda w=what: self.kill(w))
        return plan

    def edit(self, serial: int, person: Person, platform: str, name: str) -> None:
        """Somebody changes one field where the person is known already; else at their first."""
        platform = platform if name in NAMES[platform] else "salesforce"
        if self._id(platform, person) is None:
            platform = "hubspot" if person.at == "both" else person.at
        name = name if name in NAMES[platform] else "company"
        value = f"{name} {serial} by {platform}"
        done = self._change(platform, person, {NAMES[platform][name]: value})
        self.edits.append(Edit(person.number, name, platform, value, done["occurred_ms"]))

    def _change(self, platform: str, person: Person, values: dict[str, str]) -> dict[str, Any]:
        match platform:
            case "hubspot":
                act = {"id": self._id(platform, person), "properties": values}
            case "salesforce":
                act = {"id": self._id(platform, person), "fields": values}
            case _:
                act = {"kind": "profile", "email": person.email, "merge_fields": values}
        [done] = self.sims.post(platform, "act", act)["acted"]
        assert "error" not in done, (done, act)
        return done

    def merge(self, one: Person, other: Person) -> None:
        act = {"merge": self._id("hubspot", other), "into": self._id("hubspot", one)}
        [done] = self.sims.post("hubspot", "act", act)["acted"]
        assert "error" not in done, done
        self.merges[other.number] = one.number

    def kill(self, what: str) -> None:
        assert self.processes.kill(what)
        self.kills.append(what)

    def _look(self) -> None:
        """Which objects stand for whom by now."""
        self._ids = {
            platform: {one.values["email"]: one.object_id for one in self.contents(platform)}
            for platform in NAMES
        }

    def _id(self, platform: str, person: Person) -> str | None:
        return self._ids[platform].get(person.email)

    def _runs_over(self) -> bool:
        views = json.loads(self.syncline("run", "list", "--json"))
        self.runs = {view["sync"]: view for view in views}
        return all(view["state"] == "completed" for view in views)

    # -- the end

    def rest(self, within_s: float = SILENT_S) -> None:
        """Until every webhook was taken, each record has a fate, and nobody writes any more."""
        self.until(self._still, "all is at rest", within_s)

    def _still(self) -> bool:
        if any(self.sims.get(p, "webhook")["unsettled"] for p in NAMES):
            return False
        before = self._written()
        read = self._balance.read()
        if read.difference or sum(line.open for line in read.lines()):
            return False
        time.sleep(1.0)  # a row that is out has a place; its webhook may be on its way
        return before == self._written()

    def _written(self) -> list[int]:
        return [self.sims.get(p, "stats")["rows"].get("written", 0) for p in NAMES] + [
            self.sims.get(p, "webhook")["events"] for p in NAMES
        ]

    def contents(self, platform: str) -> Iterator[Held]:
        for one in self.sims.lines(platform, "contents"):
            if not one["archived"]:
                yield Held(one["id"], common(platform, one["values"]))

    def writes(self, platform: str) -> Iterator[Write]:
        """The ledger, by our names of fields."""
        mine = {theirs: name for name, theirs in NAMES[platform].items()}
        for entry in self.sims.lines(platform, "ledger"):
            one, ours = entry["id"], entry["request"] > 0  # a person's act is no request
            if "created" in entry:
                yield Write(one, ours)
            for name, (old, new) in entry.get("changes", {}).items():
                if name in mine:
                    yield Write(one, ours, mine[name], str(old), str(new))

    def ended(self) -> Ended:
        return Ended(
            self.people, self.edits, self.merges,
            {p: list(self.contents(p)) for p in NAMES}, {p: list(self.writes(p)) for p in NAMES},
            MEET_MS,
        )  # fmt: skip


def _created(platform: str, values: dict[str, str]) -> dict[str, Any]:
    if platform != "mailchimp":
        return {"create": values}
    merges = {n: v for n, v in values.items() if n != "email_address"}
    return {"kind": "subscribe", "email": values["email_address"], "merge_fields": merges}


def _ok(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    return False

"""The processes of a two-way sync over three platforms, people who edit there, and accidents."""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from syncline.platforms import Simulators
from tests.e2e import world
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


@dataclass
class World(world.World):
    """Use `with World(…) as world`. Everything is read from the platforms, nothing from us."""

    count: int = 500
    edits: list[Edit] = field(default_factory=list[Edit], init=False)
    merges: dict[int, int] = field(default_factory=dict[int, int], init=False)
    SECRETS = SECRETS

    def simulators(self) -> Simulators:
        return Simulators(self.folder, 0, self.seed, quotas=True)

    def files(self) -> Iterator[tuple[str, str]]:
        return files(self.sims.urls)

    def aim(self) -> None:
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
                "url": f"{self.url}/hooks/{path}", "secret": secrets.get(platform, ""),
                "delay_scale": 0.02, "duplicates": 0.02, "options": told.get(platform, {}),
            }  # fmt: skip
            self.sims.post(platform, "webhook", target)

    def settle_in(self) -> None:
        """Everybody is where they are first, and the platforms know what they refuse."""
        self.people = people(self.count)
        for cause in CAUSES:
            if cause.fault:
                fault = {**cause.fault, "name": cause.name}
                self.sims.post(SYNCS[cause.sync][1], "faults", fault)
        acts: dict[str, list[dict[str, Any]]] = {platform: [] for platform in NAMES}
        for person in self.people:
            for platform in NAMES:
                if first := person.first_at(platform):
                    acts[platform].append(_created(platform, own(platform, first)))
        for platform, wishes in acts.items():
            for start in range(0, len(wishes), ACTS):
                for done in self.sims.post(platform, "act", wishes[start : start + ACTS])["acted"]:
                    assert "error" not in done, done

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

    def rest(self, within_s: float = world.SILENT_S) -> None:
        """Until every webhook was taken, each record has a fate, and nobody writes any more."""
        self.until(self._still, "all is at rest", within_s)

    def _still(self) -> bool:
        if any(self.sims.get(p, "webhook")["unsettled"] for p in NAMES):
            return False
        before = self._written()
        read = self.balance.read()
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

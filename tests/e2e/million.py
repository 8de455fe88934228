"""One source, two destinations, and as many records as asked for: what happens meanwhile, and what
the platforms hold in the end."""

import contextlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
from confluent_kafka import KafkaException

from audit.balance import total
from audit.read import Log, parked_records
from mappings.document import MappingDocument, load
from schemas import topics
from schemas.journal import FATES, Standing
from schemas.runs import RunView
from schemas.yamlfile import load_yaml
from simulators import portal
from syncline import report
from syncline.demo_report import contacts
from syncline.platforms import EXAMPLE, Simulators
from tests.e2e import world

SYNCS = {"leads": "salesforce", "users": "segment"}
OTHERS_CALLS = 55_000
"""Of Salesforce's 100,000 a day, taken by other applications before we begin: then the rest is
scarce, and what can goes by Bulk API. A million contacts ask for some 10,000 to be looked up, 2,000
for jobs and one for each edit."""
JOB_S, FILL_MS = 5, 1_500
"""How long a job is worked at, and how long it takes the rows in: time to be killed in."""
EDITS_PER_S = 3.0
CALM_S = 10.0
"""Between two accidents."""
WORDS = "No records of the agency, please"
AGENCY = re.compile(r"\.\d*777@")
"""Addresses of one contact in a thousand, which a rule of the organisation refuses."""
SAID = {
    "INVALID_EMAIL_ADDRESS": "Email: invalid email address: ",
    "STRING_TOO_LONG": "data value too large: ",
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": WORDS,
}
SEGMENT = """\
mapping: hubspot_contact_to_segment_user
version: 1
from: {platform: hubspot, object: contact}
to: {platform: segment, object: identify, key: userId}
where: '!empty(record.email)'
fields:
  userId: email_normalise(record.email)
  email: email_normalise(record.email)
  firstName: trim(record.firstname)
  lastName: trim(record.lastname)
  company: trim(record.company)
  title: trim(record.jobtitle)
  city: trim(record.city)
"""
LEADS = "mappings/hubspot_contact_to_salesforce_lead.yaml"
TWINS = {
    "salesforce": {
        "Title": "jobtitle", "Company": "company", "LastName": "lastname", "City": "city",
    },
    "segment": {"title": "jobtitle", "company": "company", "lastName": "lastname", "city": "city"},
}  # fmt: skip
KEY = {"salesforce": "Email", "segment": "userId"}


@dataclass(frozen=True)
class Moment:
    """An accident: when this share of all records has its fate, and a job is in that state."""

    share: float
    what: str
    job: str = ""


ACCIDENTS = (
    Moment(0.05, "connectors"),
    Moment(0.12, "streams"),
    Moment(0.20, "connectors", "Open"),
    Moment(0.25, "connectors", "UploadComplete"),
    Moment(0.33, "broker"),
    Moment(0.40, "connectors", "UploadComplete"),
    Moment(0.50, "streams"),
    Moment(0.60, "connectors", "Open"),
    Moment(0.70, "connectors"),
    Moment(0.80, "streams"),
    Moment(0.90, "connectors", "UploadComplete"),
)


@dataclass
class World(world.World):
    """HubSpot's contacts go to Salesforce as leads and to Segment as users."""

    rows: int = 15_000
    changes: list[report.Change] = field(default_factory=list[report.Change], init=False)
    views: dict[str, RunView] = field(default_factory=dict[str, RunView], init=False)
    SECRETS = {
        "HUBSPOT_TOKEN": "hubspot-token", "HUBSPOT_SECRET": "hubspot-client-secret",
        "SALESFORCE_CLIENT_ID": "salesforce-client",
        "SALESFORCE_CLIENT_SECRET": "salesforce-secret",
        "SEGMENT_WRITE_KEY": "segment-write-key",
    }  # fmt: skip

    def simulators(self) -> Simulators:
        names = ("hubspot", "salesforce", "segment")
        more = [part for name in names for part in ("--platform", name)]
        more += ["--quota", "hubspot.ten_seconds=190/10", "--option", f"salesforce.job_s={JOB_S}"]
        return Simulators(self.folder, self.rows, self.seed, quotas=True, more=more)

    def settle_in(self) -> None:
        self.sims.post("salesforce", "spend", {"day": OTHERS_CALLS})
        self.sims.post("salesforce", "faults", [
            {"action": "refuse_rows", "rows": {"field": "Email", "matches": AGENCY.pattern},
             "code": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": WORDS},
            {"action": "delay", "method": "PUT", "path": "/batches", "ms": FILL_MS},
        ])  # fmt: skip

    def files(self) -> Iterator[tuple[str, str]]:
        for name in ("hubspot", "salesforce"):
            text = (EXAMPLE / f"connections/{name}.yaml").read_text()
            kept = [line for line in text.splitlines() if not line.startswith("base_url:")]
            yield f"connections/{name}.yaml", "\n".join([*kept, self._at(name)])
        yield (
            "connections/segment.yaml",
            (
                "connection: segment\nplatform: segment\naccount: workspace\n"
                f"secrets: {{write_key: env:SEGMENT_WRITE_KEY}}\n{self._at('segment')}"
            ),
        )
        yield "syncs/leads.yaml", (EXAMPLE / "syncs/leads.yaml").read_text()
        yield (
            "syncs/users.yaml",
            (
                "sync: users\nsource: hubspot\nsource_object: contact\ndestination: segment\n"
                "destination_object: identify\nmapping: hubspot_contact_to_segment_user\n"
            ),
        )
        yield LEADS, (EXAMPLE / LEADS).read_text()
        yield "mappings/hubspot_contact_to_segment_user.yaml", SEGMENT

    def _at(self, platform: str) -> str:
        return f"base_url: {self.sims.urls[platform]}\n"

    def aim(self) -> None:
        target = {
            "url": f"{self.url}/hooks/hubspot", "secret": self.SECRETS["HUBSPOT_SECRET"],
            "delay_scale": 0.02, "duplicates": 0.02,
        }  # fmt: skip
        self.sims.post("hubspot", "webhook", target)

    # -- the run

    def storm(self) -> float:
        """Both runs to their end, with edits at the source and accidents -> seconds."""
        runs = Log(self.settings.kafka_config(), self.codec, [topics.RUNS])
        self._ends.callback(runs.close)
        draw = random.Random(self.seed)
        among = self._ordinary()
        hot = draw.sample(among, max(1, len(among) // 1000))
        for sync in SYNCS:
            self.syncline("run", "start", sync, "--wait", "0")
        began_s = moved_s = looked_s = time.monotonic()
        calm_s, share, serial, accidents = began_s, 0.0, 0, list(ACCIDENTS)
        while len(self.views) < len(SYNCS) or any(
            view.state != "completed" for view in self.views.values()
        ):
            self.processes.check()
            now_s = time.monotonic()
            if now_s - looked_s > 0.5:
                looked_s, before = now_s, share
                share = self._share(runs)
                moved_s = now_s if share > before else moved_s
            assert now_s - moved_s < world.SILENT_S, {r: v.headline for r, v in self.views.items()}
            due = [m for m in accidents if share >= m.share and now_s > calm_s + CALM_S]
            if struck := next(filter(self._strike, due), None):  # who waits for a job holds up none
                accidents.remove(struck)
                calm_s = time.monotonic()
            if now_s > began_s + serial / EDITS_PER_S:
                serial += 1
                self._edit(serial, draw.choice(hot if serial % 5 == 0 else among), draw)
            time.sleep(0.02)  # edits keep to the clock, not to this
        return time.monotonic() - began_s

    def _ordinary(self) -> list[str]:
        """Contacts whose change makes nothing refused, mends nothing and joins nobody."""
        refused = {
            one.id
            for one in portal.contacts(self.rows, self.seed)
            if AGENCY.search(one.properties.get("email", "").lower())
        }
        return [i for i in portal.changeable(self.rows, self.seed) if i not in refused]

    def _share(self, runs: Log) -> float:
        with contextlib.suppress(KafkaException, TimeoutError):  # the broker may be away
            for *_, view in runs.read_to_end():
                if isinstance(view, RunView):
                    self.views[view.run] = view
        fated = sum(
            n for v in self.views.values() for s, n in v.counts.items() if Standing(s) in FATES
        )
        return fated / (len(SYNCS) * self.rows)

    def _strike(self, moment: Moment) -> bool:
        """False: not now."""
        if moment.job and not self.sims.get("salesforce", "stats")["jobs"]["states"].get(
            moment.job
        ):
            return False
        if moment.what == "broker":
            self.stack.kill_broker()
            self.stack.restart_broker()
        elif not self.processes.kill(moment.what):
            return False
        self.kills.append(f"{moment.what}, a job {moment.job}" if moment.job else moment.what)
        return True

    def _edit(self, serial: int, who: str, draw: random.Random) -> None:
        name = draw.choice(("jobtitle", "company", "lastname", "city"))
        value = f"{name.title()} {serial}"
        [done] = self.sims.change([{"id": who, "properties": {name: value}}])
        self.changes.append(report.Change(who, name, value, done["occurred_ms"]))

    # -- the end

    def rest(self) -> None:
        """Until all webhooks were taken and each record has its fate."""
        self.until(self._still, "all is at rest", 600 + self.rows / 1_000)

    def _still(self) -> bool:
        if self.sims.get("hubspot", "webhook")["unsettled"]:
            return False
        read = self.balance.read()
        return not read.difference and not total(read.lines()).open

    def wrong(self) -> Iterator[str]:
        """What is not as it was promised, by what source and destinations hold."""
        people = list(contacts(self.sims))
        owed = self._refused(people)
        parked = parked_records(self.settings.kafka_config(), self.codec).values()
        found = {
            str(json.loads(p.source)["email"]).strip().lower(): p.code
            for p in parked
            if p.sync == "leads" and SAID[p.code] in p.words
        }
        if found != owed or len(found) != len(parked):
            yield f"parked: {len(parked)}, of them with good reason {len(found)} of {len(owed)}"
        for sync, platform in SYNCS.items():
            yield from self._differences(platform, people, owed if sync == "leads" else {})
        for platform in self.sims.urls:
            stats = self.sims.get(platform, "stats")
            for name in ("quota_refusals", "quota_overspends"):
                if stats[name]:
                    yield f"{platform}: {stats[name]} {name}"
        for fate in ("dropped", "of_nobody", "blocked"):
            if count := self.sims.get("segment", "stats")["rows"].get(fate):
                yield f"segment: {count} {fate}"

    def _refused(self, people: list[report.Contact]) -> dict[str, str]:
        """Address to the code with which Salesforce refuses whoever has it."""
        rules = {r.contact_id: r.code for r in portal.refusals(self.rows, self.seed)}
        custom = "FIELD_CUSTOM_VALIDATION_EXCEPTION"
        return {
            one.address: rules.get(one.id, custom)
            for one in people
            if one.id in rules or AGENCY.search(one.address)
        }

    def _differences(
        self, platform: str, people: list[report.Contact], owed: dict[str, str]
    ) -> Iterator[str]:
        document = next(p for p, _ in self.files() if p.startswith("mappings/") and platform in p)
        mapping = load(load_yaml(self.configuration / document, MappingDocument))
        held = (
            report.Held(h["id"], str(h["values"].get(KEY[platform], "")).lower(), h["values"])
            for h in self.sims.lines(platform, "contents")
        )
        verdict = report.compare(people, held, mapping, frozenset(owed))
        writes = [
            report.Write(entry["id"], name, new, entry["at_ms"])
            for entry in self.sims.lines(platform, "ledger", updates_only="true")
            for name, (_, new) in entry.get("changes", {}).items()
        ]
        effects = self.sims.get(platform, "effects")
        for what, those in (
            ("lost", verdict.missing),
            ("wrong", verdict.wrong_fields),
            ("twice", verdict.persons_twice),
            ("nobody's", verdict.strangers),
            ("out of order", report.disorder(self.changes, writes, TWINS[platform])),
            ("made twice", list(effects["twice"])),
            ("changed there and back", effects["returned"]),
        ):
            if those:
                yield f"{platform}: {len(those)} {what}, such as {those[:3]}"

    def told(self) -> dict[str, Any]:
        """Figures for docs/soak.md."""
        stats = {p: self.sims.get(p, "stats") for p in self.sims.urls}
        day = stats["salesforce"]["windows"]["day"]
        return {
            "rows": self.rows,
            "kills": Counter(self.kills),
            "edits": len(self.changes),
            "jobs": stats["salesforce"]["jobs"],
            "calls": {p: s["requests"] for p, s in stats.items()},
            "salesforce_day_used": day["used"],
            "balance": dict(total(self.balance.balance.lines()).standings),
            "resident_mb": self.resident(),
        }

    def resident(self) -> dict[str, int]:
        """Of each process, megabytes."""
        pids = {name: c.process.pid for name, c in self.processes.children.items() if c.process}
        pids |= {"simulators": self.sims.process.pid, "kafka": self.stack.pid("kafka")}
        return {name: psutil.Process(pid).memory_info().rss >> 20 for name, pid in pids.items()}

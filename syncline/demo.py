"""The main job, end to end, with accidents: nothing here is simulated but the platforms.

Stack, gateway, streams and connectors are the ones of production, started by the commands of
production. What the demo adds: it changes contacts at the source while the runs go on, kills
processes at moments drawn from the seed, mends and releases some refused records by command, and
at the end compares what the platforms hold.
"""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from confluent_kafka import KafkaException

from audit.balance import Balance, total
from audit.read import Log, parked_records
from schemas import topics
from schemas.journal import FATES, Standing
from schemas.parked import ParkedRecord
from schemas.runs import RunView
from syncline import cluster, report
from syncline.commands import balance, run
from syncline.demo_report import SAMPLE_S, Findings, contacts, mended_address, told
from syncline.errors import Failed
from syncline.platforms import EXAMPLE, TEN_SECONDS, Simulators
from syncline.settings import Settings, environment
from syncline.stack import Stack
from syncline.supervisor import Supervisor

__all__ = ["Demo", "Options"]

SYNCS = ("leads", "newsletter")
SECRETS = {
    "HUBSPOT_TOKEN": "hubspot-token", "HUBSPOT_SECRET": "hubspot-client-secret",
    "SALESFORCE_CLIENT_ID": "salesforce-client", "SALESFORCE_CLIENT_SECRET": "salesforce-secret",
    "MAILCHIMP_API_KEY": "mailchimp-key-us1",
}  # fmt: skip
LIVE_PER_S = 5.0
FIX = {"Email": "email", "Company": "company", "Title": "jobtitle", "City": "city"}
"""Salesforce's field to the contact's property behind it."""
PARTITIONS = "2"
"""Half of the default: one streams worker shares with nobody, and each partition costs the broker a
marker at every checkpoint (docs/decisions/0005)."""
SILENT_S = 240.0
"""So long without any progress, and the demo gives up and says where it stands."""


@dataclass(frozen=True)
class Options:
    contacts: int = 100_000
    seed: int = 1
    fast: bool = False
    accidents: bool = True


@dataclass
class Moment:
    """A planned accident: when this share of all records has its fate."""

    at: float
    what: str


@dataclass
class Demo:
    """One demo. `go` runs it to the end and returns the report."""

    options: Options
    folder: Path
    say: Callable[[str], None]
    show: Callable[[list[RunView], dict[str, Any], str], None]
    progress: Callable[[int, int], None] = lambda done, total: None
    changes: list[report.Change] = field(default_factory=list)
    kills: list[dict[str, Any]] = field(default_factory=list)
    samples: list[tuple[float, dict[str, bool]]] = field(default_factory=list)
    memory_max: int = 0
    _seen: dict[str, RunView] = field(default_factory=dict)
    _ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def go(self) -> dict[str, Any]:
        """Raises Failed where it cannot come to an end."""
        started_s = time.monotonic()
        with self._ends:
            self._start()
            self._run()
            closed = self._settle()
            self.say("comparing what the platforms hold")
            return told(self._findings(closed, time.monotonic() - started_s))

    # start

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.say("starting Kafka and the schema registry")
        self.stack = self._ends.enter_context(
            Stack.start(self.folder / "stack", say=self.say, progress=self.progress)
        )
        self.say(f"starting the simulated platforms with {self.options.contacts:,} contacts")
        self.sims = Simulators(
            self.folder, self.options.contacts, self.options.seed, quotas=not self.options.fast
        )
        self._ends.callback(self.sims.stop)
        self.known = {
            str(held["values"].get("Email", "")).strip().lower()
            for held in self.sims.lines("salesforce", "contents")
        }
        self.env = {
            **SECRETS,
            "KAFKA_BOOTSTRAP_SERVERS": self.stack.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": self.stack.registry_url,
            "SYNCLINE_DATA": str(self.folder / "data"),
            "SYNCLINE_PARTITIONS": os.environ.get("SYNCLINE_PARTITIONS", PARTITIONS),
        }
        self._ends.enter_context(environment(self.env))
        self.settings = Settings()
        self.say("applying the configuration")
        self._command("apply", str(self._configuration()), "--yes")
        self.codec = cluster.codec(self.settings)
        self._runs_log = Log(self.settings.kafka_config(), self.codec, [topics.RUNS])
        self._ends.callback(self._runs_log.close)
        self._http = self._ends.enter_context(httpx.Client(timeout=1, trust_env=False))
        gateway, self.status_port = _free_port(), _free_port()
        self.gateway_url = f"http://127.0.0.1:{gateway}"
        self.processes = Supervisor(self.folder / "logs", self.env)
        self._ends.callback(self.processes.stop)
        self.processes.add(
            "gateway", "gateway", "--port", str(gateway), "--admin-port", str(_free_port()),
            "--public-url", self.gateway_url,
        )  # fmt: skip
        self.processes.add("streams", "streams")
        self.processes.add("connectors", "connectors", "--admin-port", str(self.status_port))
        self._await("the gateway", lambda: _ok(f"{self.gateway_url}/readyz"))
        self._await("the connectors", lambda: _ok(f"{self._status_url}/readyz"))
        target = {
            "url": f"{self.gateway_url}/hooks/hubspot",
            "secret": SECRETS["HUBSPOT_SECRET"],
            "delay_scale": 0.02,  # a retry after about a second instead of a minute
        }
        self.sims.post("hubspot", "webhook", target)

    def _configuration(self) -> Path:
        """The example, with the platforms' addresses put in and quotas off where asked for."""
        copy = self.folder / "configuration"
        shutil.copytree(EXAMPLE, copy, dirs_exist_ok=True)
        for platform, url in self.sims.urls.items():
            path = copy / "connections" / f"{platform}.yaml"
            kept = [li for li in path.read_text().splitlines() if not li.startswith("base_url:")]
            kept.append(f"base_url: {url}")
            if self.options.fast:
                kept.append("quotas: {unlimited: true}")
            elif platform == "hubspot":
                kept.append(f"quotas: {{ten_seconds: {TEN_SECONDS}}}")
            path.write_text("\n".join(kept) + "\n")
        return copy

    @property
    def _status_url(self) -> str:
        return f"http://127.0.0.1:{self.status_port}"

    def _await(self, what: str, ready: Callable[[], bool], within_s: float = 60.0) -> None:
        deadline = time.monotonic() + within_s
        while not ready():
            self.processes.check()
            if time.monotonic() > deadline:
                raise Failed(f"{what} did not become ready; logs are in {self.folder / 'logs'}")
            time.sleep(0.1)

    def _command(self, *args: str, ok: Sequence[int] = (0,)) -> str:
        """A command of ours, as a person would type it."""
        done = subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", "syncline", *args],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        if done.returncode not in ok:
            raise Failed(f"`syncline {' '.join(args)}` failed: {done.stderr.strip()[-2000:]}")
        return done.stdout

    # run

    def _run(self) -> None:
        """Both runs to their end, with live changes and accidents meanwhile."""
        self.say("starting both runs")
        self.began_s = time.monotonic()
        self.runs = [run.begin(self.settings, self.codec, sync) for sync in SYNCS]
        self.moments = self._plan()
        stop = threading.Event()
        workers = [
            threading.Thread(target=self._live, args=(stop,), name="live"),
            threading.Thread(target=self._sample, args=(stop,), name="sample"),
        ]
        for worker in workers:
            worker.start()
        try:
            self._watch()
        finally:
            stop.set()
            for worker in workers:
                worker.join()
        self.bulk_s = time.monotonic() - self.began_s
        self.ended_ms = int(time.time() * 1000)

    def _plan(self) -> list[Moment]:
        if not self.options.accidents:
            return []
        draw = random.Random(f"accidents:{self.options.seed}")  # noqa: S311 - a plan, no secret
        who = ["gateway", "streams", "connectors", "broker", "streams", "connectors", "gateway"]
        draw.shuffle(who)
        return [
            Moment((n + draw.uniform(0.2, 0.8)) / (len(who) + 1), what)
            for n, what in enumerate(who)
        ]

    def _watch(self) -> None:
        last, progress_s = -1, time.monotonic()
        while True:
            self.processes.check()
            views = [v for r, v in self._views().items() if r in self.runs]
            done = sum(n for v in views for s, n in v.counts.items() if Standing(s) in FATES)
            if done != last:
                last, progress_s = done, time.monotonic()
            share = done / (2 * self.options.contacts)
            self.show(views, self._status(), f"{share:.0%}, {len(self.kills)} accidents")
            if len(views) == len(SYNCS) and all(v.state == "completed" for v in views):
                return
            while self.moments and share >= self.moments[0].at:
                self._accident(self.moments.pop(0).what, share)
            if time.monotonic() - progress_s > SILENT_S:
                words = "; ".join(v.headline for v in views)
                raise Failed(f"no progress for {SILENT_S:g} s: {words}; logs: {self.folder}/logs")
            time.sleep(0.5)

    def _accident(self, what: str, share: float) -> None:
        at_s = round(time.monotonic() - self.began_s, 1)
        at_ms = int(time.time() * 1000)
        if what == "broker":
            self.stack.kill_broker()
            self.stack.restart_broker()
        elif not self.processes.kill(what):
            return
        self.kills.append({"what": what, "at_s": at_s, "at_share": round(share, 3), "at_ms": at_ms})
        self.say(f"{at_s:.0f} s: {what} killed")

    def _views(self) -> dict[str, RunView]:
        """As `syncline run show` has them; what is new is read, not all of it each time."""
        with contextlib.suppress(KafkaException, TimeoutError):  # the broker may be away
            for *_, view in self._runs_log.read_to_end():
                if isinstance(view, RunView):
                    self._seen[view.run] = view
        return self._seen

    def _status(self) -> dict[str, Any]:
        with contextlib.suppress(httpx.HTTPError, ValueError):
            return self._http.get(f"{self._status_url}/status").json()
        return {}

    def _live(self, stop: threading.Event) -> None:
        """People change contacts. Every value is new, so that its way can be followed.

        No address is changed of whom Salesforce knew already: a lead that carries no id of ours
        is found by its address alone, and HubSpot does not tell the one before (see
        docs/guarantees.md, P2).
        """
        draw = random.Random(f"live:{self.options.seed}")  # noqa: S311 - a plan, no secret
        people = list(contacts(self.sims))
        counts: dict[str, int] = {}
        for c in people:
            counts[c.address] = counts.get(c.address, 0) + 1
        among = [c.id for c in people if _ordinary(c) and counts[c.address] == 1]
        addresses = {c.id: c.address for c in people}
        hot = draw.sample(among, max(1, len(among) // 1000))
        serial = 0
        while not stop.is_set():
            serial += 1
            who = draw.choice(hot if serial % 5 == 0 else among)
            moves = draw.random() < 0.02 and addresses[who] not in self.known
            name = "email" if moves else draw.choice(("jobtitle", "company", "lastname", "city"))
            value = f"moved.{serial}@example.com" if moves else f"{name.title()} {serial}"
            try:
                [done] = self.sims.change([{"id": who, "properties": {name: value}}])
            except httpx.HTTPError:
                continue
            if "occurred_ms" in done:
                self.changes.append(report.Change(who, name, value, done["occurred_ms"]))
            stop.wait(draw.expovariate(LIVE_PER_S))

    def _sample(self, stop: threading.Event) -> None:
        """Every 100 ms: which platforms have work that waits; how much memory all of it takes."""
        n = 0
        while not stop.wait(SAMPLE_S):
            status = self._status()
            waits = {
                platform: any(
                    sum(account["waiting"].values()) > 0
                    or any(q["waiting"] for q in account["quotas"])
                    for account in told["accounts"].values()
                )
                for platform, told in status.items()
            }
            self.samples.append((time.time(), waits))
            n += 1
            if n % 20 == 0:
                self.memory_max = max(self.memory_max, _memory())

    # the end

    def _settle(self) -> Balance:
        """Mend and release some of what was refused; wait until every record has a fate."""
        kept = balance.Reader(self.settings, self.codec)
        self._close(kept)
        self.refused = self._parked()
        self._mend()
        return self._close(kept)

    def _close(self, kept: "balance.Reader") -> Balance:
        """Wait until HubSpot has told everything, and each record of it has a fate."""
        deadline = time.monotonic() + SILENT_S
        while True:
            self.processes.check()
            closed = kept.read()
            lines = closed.lines()
            told = self.sims.get("hubspot", "webhook")["unsettled"] == 0
            if told and not closed.difference and not sum(line.open for line in lines):
                return closed
            if time.monotonic() > deadline:
                self.say(f"the balance stays open: {dict(total(lines).standings)}")
                return closed
            time.sleep(0.5)

    def _parked(self) -> list[ParkedRecord]:
        return list(parked_records(self.settings.kafka_config(), self.codec).values())

    def _mend(self) -> None:
        """Half of the leads that Salesforce refused get a value that it takes."""
        leads = [p for p in self.refused if p.sync == "leads" and p.field in FIX]
        chosen = leads[: (len(leads) + 1) // 2]
        self.say(f"{len(self.refused)} records were refused; mending {len(chosen)} of them")
        self.mended = 0
        by_field: dict[str, list[ParkedRecord]] = {}
        for record in chosen:
            if FIX[record.field] != "email":
                by_field.setdefault(FIX[record.field], []).append(record)
            elif self.mended < 3:  # an address is each one's own
                value = f"email={mended_address(record)}"
                self._command(
                    "parked", "fix", record.parked_id, "--set", value, "--release",
                    "--why", "typing mistake",
                )  # fmt: skip
                self.mended += 1
        for name, records in by_field.items():
            self._command(
                "parked", "fix", *(r.parked_id for r in records), "--set", f"{name}=Mended",
                "--release", "--why", "too long for Salesforce",
            )  # fmt: skip
            self.mended += len(records)

    def _findings(self, closed: Balance, wall_s: float) -> Findings:
        return Findings(
            seed=self.options.seed, contacts=self.options.contacts, fast=self.options.fast,
            sims=self.sims, changes=self.changes, kills=self.kills, samples=self.samples,
            refused=self.refused, mended=self.mended, parked=self._parked(), closed=closed,
            ended_ms=self.ended_ms, bulk_s=self.bulk_s, wall_s=wall_s,
            memory_max=self.memory_max,
        )  # fmt: skip


def _ordinary(contact: report.Contact) -> bool:
    """A change of it makes nothing refused, and mends nothing: the report stays simple."""
    address, host = contact.address, contact.address.rpartition("@")[2]
    sound = "." in host and ".." not in address and not address.endswith(".")
    return bool(address) and sound and max(map(len, contact.properties.values())) < 40


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _ok(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    return False


def _memory() -> int:
    """Resident bytes of this process and everything under it."""
    total_bytes = 0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total_bytes += process.memory_info().rss
    return total_bytes

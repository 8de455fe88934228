"""How much of a quota do workers use while work waits? `python -m benchmarks.quotas`.

HubSpot (190 calls in any ten seconds), Salesforce (25 calls at once; 100,000 a day), Mailchimp (10
at once) and Segment (50 calls a second of up to 500 KB), as simulators that count for themselves,
each with one account and always more rows than may go, on real Kafka. One, two and four workers; in
the middle the only one is started again, or the last one joins and takes partitions over. With
`--others` another application spends a third of each quota meanwhile, at random moments.

*Use* is what stands as spent at the platform, of what it allows, looked at every 100 ms while a
worker says that rows wait. The best possible is the window ÷ (the window + the 99th percentile of
the calls' time): a call under way may count later. Of calls at once it is all of them.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from connectors.run import ConnectorsConfig, run
from schemas import topics
from schemas.codec import Codec
from schemas.commands import Priority, UploadBatch, UploadRow
from schemas.definitions import Connection, Definition, Sync
from schemas.follow import Follower
from schemas.kafka_log import KAFKA_LOG
from syncline.stack import Stack

PARTITIONS = 4
SAMPLE_S = 0.1
AHEAD_S = 3.0
"""So long would rows that wait last, beside those of the calls that are under way."""
KEYS = {
    "HUBSPOT_TOKEN": "hubspot-token",
    "SALESFORCE_ID": "salesforce-client",
    "SALESFORCE_SECRET": "salesforce-secret",
    "MAILCHIMP_KEY": "mailchimp-key-us1",
    "SEGMENT_KEY": "segment-write-key",
}


@dataclass(frozen=True)
class Case:
    """One platform, and what is asked of it."""

    platform: str
    object_type: str
    window: str
    """As the simulator calls it."""
    limit: int
    window_s: float
    """0: calls at once."""
    latency_s: float
    call_rows: int
    """Rows of a full call."""
    secrets: Mapping[str, str]
    fields: Callable[[int], dict[str, Any]]
    url_path: str
    """Of a call of the other application; it reads."""
    login: Callable[[str], dict[str, str]]
    options: Mapping[str, str] = field(default_factory=dict)
    tier: str = "default"
    priority: Priority = Priority.bulk
    quota: str = ""
    """Of the simulator, where it is another than its own."""
    slow_path: str = ""
    """Part of the address of those calls that take `latency_s`: a login is no long call."""
    method: str = "GET"
    body: Any = None

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.limit / (self.window_s or self.latency_s)


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _salesforce(url: str) -> dict[str, str]:
    form = {
        "grant_type": "client_credentials",
        "client_id": KEYS["SALESFORCE_ID"],
        "client_secret": KEYS["SALESFORCE_SECRET"],
    }
    answer = httpx.post(f"{url}/services/oauth2/token", data=form, timeout=30)
    return _bearer(answer.json()["access_token"])


def _address(number: int) -> str:
    return f"person{number}@example.com"


CASES = (
    Case(
        "hubspot", "contact", "ten_seconds", 190, 10.0, 0.2, 100, {"token": "HUBSPOT_TOKEN"},
        lambda n: {"email": _address(n), "firstname": f"Ann {n % 997}"},
        "/crm/v3/objects/contacts?limit=1", lambda url: _bearer(KEYS["HUBSPOT_TOKEN"]),
        tier="professional",
    ),
    # Live rows, here and with Mailchimp: bulk ones would go as jobs. A call is long from its first
    # moment, as nobody knows beforehand.
    Case(
        "salesforce", "Lead", "long", 25, 0.0, 4.0, 200,
        {"client_id": "SALESFORCE_ID", "client_secret": "SALESFORCE_SECRET"},
        lambda n: {"LastName": f"Lee {n}", "Company": "ACME", "Email": _address(n)},
        "/services/data/v59.0/sobjects/Lead/describe", _salesforce, priority=Priority.live,
        quota="25/0.001", slow_path="/services/data",
    ),
    Case(
        "mailchimp", "member", "connections", 10, 0.0, 4.0, 500, {"api_key": "MAILCHIMP_KEY"},
        lambda n: {"email_address": _address(n), "status_if_new": "subscribed"},
        "/3.0/lists/a1b2c3d4e5", lambda url: _bearer(KEYS["MAILCHIMP_KEY"]),
        options={"list_id": "a1b2c3d4e5"}, priority=Priority.live,
    ),
    # 20 KB a row: 24 fill the 500 KB of a call.
    Case(
        "segment", "track", "tracking", 50, 1.0, 0.05, 24, {"write_key": "SEGMENT_KEY"},
        lambda n: {"event": "seen", "userId": f"u{n % 9973}", "page": f"{n} " + "x" * 20_000},
        "/v1/track", lambda url: {}, method="POST",
        body={"event": "other", "userId": "o", "writeKey": KEYS["SEGMENT_KEY"]},
    ),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("--workers", type=int, nargs="+", default=[1, 2, 4], choices=(1, 2, 4))
    add("--seconds", type=float, default=80.0, help="of each run; the middle is in the middle")
    add("--platforms", nargs="+", default=[case.platform for case in CASES])
    add("--others", action="store_true", help="another application spends a third of each quota")
    add("--json", type=Path, help="write the figures here too")
    add("--serve", nargs=3, metavar=("SLOT", "BOOTSTRAP", "REGISTRY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = [case for case in CASES if case.platform in options.platforms]
    if options.serve:
        slot, bootstrap, registry_url = options.serve
        config = ConnectorsConfig({"bootstrap.servers": bootstrap}, options.platforms, slot)
        run(config, Codec.from_registry(registry_url))
        return
    figures: list[dict[str, Any]] = []
    for workers in options.workers:
        with (
            TemporaryDirectory(prefix="bench-quotas-") as folder,
            Stack.start(Path(folder) / "stack") as stack,
            Bench(stack, Path(folder), cases) as bench,
        ):
            found = bench.measure(workers, options.seconds, others=options.others)
        print(f"{workers} worker{'s' * (workers > 1)}, {found['moved']} of {len(cases)} accounts "
              f"moved, nobody had one of them for {found['away_s']:.1f} s at most")  # fmt: skip
        for told in found["platforms"]:
            print("  {platform}: {rows:,} rows in {calls} calls; use {use:.1%} of {best:.1%}, so "
                  "{part:.1%}; {overspends} overspends; {refused} of ours refused, "
                  "{refused_others} of {calls_others} of others".format(**told))  # fmt: skip
        figures.append(found)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    over = sum(t["overspends"] for found in figures for t in found["platforms"])
    sys.exit(over > 0 and not options.others)


class Bench:
    """Simulators, topics and definitions on one cluster; workers as processes."""

    def __init__(self, stack: Stack, folder: Path, cases: list[Case]) -> None:
        self._stack, self._folder, self.cases = stack, folder, cases
        self.codec = Codec.from_registry(stack.registry_url)
        self.kafka = {"bootstrap.servers": stack.bootstrap_servers}
        self.producer = Producer(
            {**self.kafka, "logger": KAFKA_LOG, "partitioner": "murmur2_random", "linger.ms": 5,
             "compression.type": "lz4", "message.max.bytes": 4_000_000}
        )  # fmt: skip
        self.urls: dict[str, str] = {}
        self.workers: dict[int, tuple[subprocess.Popen[bytes], Path]] = {}
        self.admins: dict[int, str] = {}
        self._http = httpx.Client(timeout=10)
        self._starts = 0
        self._held = ExitStack()

    def __enter__(self) -> "Bench":
        self._topics()
        for place, case in enumerate(self.cases):
            self.urls[case.platform] = self._held.enter_context(_simulator(case))
            self._define(case, place)
        assert self.producer.flush(30) == 0
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()
        for process, _log in self.workers.values():
            process.kill()
            process.wait()

    def _topics(self) -> None:
        names = [topics.JOURNAL, topics.HANDOVER, topics.PARKED, topics.CONTROL]
        for case in self.cases:
            p = case.platform
            names += [topics.commands_of(p), topics.outcomes_of(p), topics.events_of(p)]
        wanted = [NewTopic(name, PARTITIONS, 1) for name in names]
        wanted.append(NewTopic(topics.DEFINITIONS, 1, 1, config={"cleanup.policy": "compact"}))
        admin = AdminClient(self.kafka)
        for future in admin.create_topics(wanted).values():
            future.result(30)

    def _define(self, case: Case, place: int) -> None:
        p = case.platform
        connection = Connection(
            connection=p, platform=p, account=p, base_url=self.urls[p], tier=case.tier,
            options=dict(case.options),
            secrets={name: f"env:{key}" for name, key in case.secrets.items()},
        )  # fmt: skip
        sync = Sync(sync=p, source=p, source_object="any", destination=p,
                    destination_object=case.object_type, mapping="none")  # fmt: skip
        for kind, document in (("connection", connection), ("sync", sync)):
            made = Definition(kind=kind, name=p, version=1, applied_ms=0)
            whole = made.model_copy(update={"document": document.model_dump_json()})
            for key, value in ((f"{kind}:{p}@1", whole), (f"{kind}:{p}", made)):
                self.producer.produce(topics.DEFINITIONS, self.codec.encode(value), key)

    # ---- workers

    def start(self, slot: int) -> None:
        """Returns when it is a member of all its groups."""
        self._starts += 1
        log = self._folder / f"worker-{slot}-{self._starts}.log"
        platforms = [case.platform for case in self.cases]
        command = [sys.executable, "-m", "benchmarks.quotas", "--platforms", *platforms]
        command += ["--serve", str(slot), self._stack.bootstrap_servers, self._stack.registry_url]
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **KEYS})
        self.workers[slot] = process, log
        _until(lambda: self._ready(slot), 60, f"worker {slot} ready; {log}")

    def _ready(self, slot: int) -> bool:
        process, log = self.workers[slot]
        if process.poll() is not None:
            raise RuntimeError(log.read_text()[-3000:])
        if (said := re.search(r"admin_port=(\d+)", log.read_text())) is None:
            return False
        self.admins[slot] = f"http://127.0.0.1:{said[1]}"
        return self._http.get(f"{self.admins[slot]}/readyz").status_code == 200

    def stop(self, slot: int) -> None:
        process, _ = self.workers.pop(slot)
        self.admins.pop(slot, None)
        process.send_signal(signal.SIGTERM)
        process.wait(20)

    # ---- one run

    def measure(self, workers: int, seconds: float, *, others: bool) -> dict[str, Any]:
        for slot in range(max(1, workers - 1)):
            self.start(slot)
        watch = Watch(self)
        lives = [Other(case, self.urls[case.platform]) for case in self.cases] if others else []
        sent = Counter[str]()
        begun_s, moved_s = time.monotonic(), 0.0
        before: dict[str, int] = {}
        while (now_s := time.monotonic() - begun_s) < seconds:
            if not moved_s and now_s > seconds / 2:
                moved_s, before = now_s, dict(watch.owner)
                change = threading.Thread(target=self._change, args=(workers,))
                change.start()
                self._held.callback(change.join)
            self._feed(sent)
            watch.look()
            time.sleep(SAMPLE_S)
        for life in lives:
            life.end()
        moved = sum(slot != before.get(account) for account, slot in watch.owner.items())
        took_ms = self._took_ms()
        return {
            "workers": workers,
            "seconds": seconds,
            "moved": len(self.cases) if workers == 1 else moved,
            "away_s": max(watch.away_s.values(), default=0.0),
            "platforms": [
                self._told(case, watch, took_ms[case.platform], lives[place] if lives else None)
                for place, case in enumerate(self.cases)
            ],
        }

    def _change(self, workers: int) -> None:
        if workers == 1:
            self.stop(0)
            self.start(0)
        else:
            self.start(workers - 1)

    def _feed(self, sent: Counter[str]) -> None:
        """Rows are given as a run gives them: as many as a few seconds can carry."""
        for place, case in enumerate(self.cases):
            taken = self.stats(case)["rows"]
            if taken.get("refused", 0) or taken.get("dropped", 0):
                raise RuntimeError(
                    f"{case.platform} refuses rows that are meant to be right: {taken}"
                )
            done = taken.get("written", 0)
            rows = min(500, 4 * case.call_rows)
            ahead = (AHEAD_S + case.latency_s) * case.rate * case.call_rows
            while sent[case.platform] - done < ahead:
                begin = sent[case.platform]
                batch = UploadBatch(
                    account=case.platform, connection=case.platform, sync=case.platform,
                    object_type=case.object_type, run=f"{case.platform}-1",
                    priority=case.priority, decided_ms=1,
                    rows=[_row(case, n) for n in range(begin, begin + rows)],
                )  # fmt: skip
                self.producer.produce(topics.commands_of(case.platform), self.codec.encode(batch),
                                      case.platform, place % PARTITIONS)  # fmt: skip
                sent[case.platform] += rows
        self.producer.poll(0)

    def stats(self, case: Case) -> dict[str, Any]:
        return self._http.get(f"{self.urls[case.platform]}/_sim/stats").json()

    def status(self, slot: int) -> dict[str, Any]:
        """Empty where it does not answer, as while it is started again."""
        try:
            return self._http.get(f"{self.admins[slot]}/status", timeout=2.0).json()
        except (httpx.HTTPError, KeyError):
            return {}

    def _took_ms(self) -> dict[str, list[int]]:
        """Platform to the times of its calls, as the workers measured them."""
        follower = Follower(self.kafka, topics.JOURNAL)
        found: dict[str, dict[str, int]] = {case.platform: {} for case in self.cases}
        for record in follower.read_to_end():
            entry: Any = self.codec.decode(record.value())
            if entry.request_id:
                found[entry.sync][entry.request_id] = entry.took_ms
        follower.close()
        return {platform: sorted(took.values()) for platform, took in found.items()}

    def _told(
        self, case: Case, watch: "Watch", took_ms: list[int], other: "Other | None"
    ) -> dict[str, Any]:
        p99_s = took_ms[int(len(took_ms) * 0.99)] / 1000
        stats = self.stats(case)
        window = stats["windows"][case.window]
        use = statistics.fmean(watch.used[case.platform])
        best = case.window_s / (case.window_s + p99_s) if case.window_s else 1.0
        theirs = other.answers if other else Counter[str]()
        refused = sum(w["refused"] for w in stats["windows"].values())
        return {
            "platform": case.platform,
            "rows": stats["rows"].get("written", 0),
            "calls": window["spent"] - theirs["good"],
            "calls_others": theirs.total(),
            "p99_s": p99_s,
            "looks": len(watch.used[case.platform]),
            "use": use,
            "best": best,
            "part": use / best,
            "overspends": stats["quota_overspends"],
            "refused": refused - theirs["refused"],
            "refused_others": theirs["refused"],
        }


class Watch:
    """What the workers and the platforms say of themselves, at each look."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.used: dict[str, list[float]] = {c.platform: [] for c in bench.cases}
        """Part of the quota that was spent, at each look at which rows waited."""
        self.owner: dict[str, int] = {}
        self.away_s: dict[str, float] = {}
        """Longest time for which no worker had the account."""
        self._seen_s: dict[str, float] = {}

    def look(self) -> None:
        waiting = Counter[str]()
        for slot in list(self._bench.admins):
            for platform, there in self._bench.status(slot).items():
                for account in there["accounts"].values():
                    waiting[platform] += sum(account["waiting"].values())
                    self._here(platform, slot)
        for case in self._bench.cases:
            if waiting[case.platform]:
                window = self._bench.stats(case)["windows"][case.window]
                self.used[case.platform].append(window["used"] / case.limit)

    def _here(self, platform: str, slot: int) -> None:
        now_s = time.monotonic()
        gone_s = now_s - self._seen_s.get(platform, now_s)
        self.away_s[platform] = max(gone_s, self.away_s.get(platform, 0.0))
        self._seen_s[platform], self.owner[platform] = now_s, slot


class Other:
    """Another application with the same account: a third of the calls, at random moments; of calls
    at once, a third of the places."""

    def __init__(self, case: Case, url: str) -> None:
        self.case, self.url = case, url
        self.answers = Counter[str]()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()))
        self._thread.start()

    def end(self) -> None:
        self._ends.set()
        self._thread.join()

    async def _live(self) -> None:
        headers = self.case.login(self.url)
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60) as client:
            if self.case.window_s:
                await self._at_random(client)
            else:
                places = self.case.limit // 3
                await asyncio.gather(*(self._again(client) for _ in range(places)))

    async def _at_random(self, client: httpx.AsyncClient) -> None:
        draw, tasks = random.Random(1), set[asyncio.Task[None]]()
        while not self._ends.is_set():
            await asyncio.sleep(draw.expovariate(self.case.rate / 3))
            tasks.add(asyncio.create_task(self._once(client)))
        await asyncio.gather(*tasks)

    async def _again(self, client: httpx.AsyncClient) -> None:
        while not self._ends.is_set():
            await self._once(client)

    async def _once(self, client: httpx.AsyncClient) -> None:
        case = self.case
        answer = await client.request(case.method, case.url_path, json=case.body)
        self.answers["good" if answer.status_code < 400 else "refused"] += 1


@contextmanager
def _simulator(case: Case) -> Iterator[str]:
    p = case.platform
    command = [sys.executable, "-m", "simulators", "--platform", p, "--contacts", "0"]
    command += ["--while-stdin-open"]
    command += ["--quota", f"{p}.{case.window}={case.quota}"] if case.quota else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())[p]
            # Calls of one platform do not all take the same time, nor end in the same moment.
            least_ms, most_ms = (case.latency_s * part * 1000 for part in (0.75, 1.25))
            delay = {"action": "delay", "ms": [least_ms, most_ms], "path": case.slow_path}
            httpx.post(f"{url}/_sim/faults", json=delay).raise_for_status()
            yield url
        finally:
            process.kill()


def _row(case: Case, number: int) -> UploadRow:
    return UploadRow(
        row_id=f"{number:032x}", event_id=f"{number:032x}", person=f"{number:032x}",
        record_no=number, occurred_ms=int(time.time() * 1000),
        fields=msgspec.json.encode(case.fields(number)),
    )  # fmt: skip


def _until(true: Callable[[], Any], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.1)


if __name__ == "__main__":
    main()

"""Bulk runs: `control` and `journal` to fetch commands, acts and views; one row a run.

A run fetches on credit: further pages are commanded only while fewer records are on their way than
the destination carries in 30 s. So a slow, paused or closed destination stops the fetch by itself.
And no more of them may be undecided than are decided in a second: these stand in front of live
events, which must never queue behind a backfill.
"""

import json
from typing import Any

from schemas.audiences import AudiencePart
from schemas.base import Message
from schemas.commands import FetchPages
from schemas.control import Act, ActKind, Target, Tick
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from schemas.topics import ACTS, JOURNAL, PARKED, RUNS, commands_of
from streams.steps.acts import BROADCAST
from streams.steps.catalog import Catalog, Flow
from streams.steps.control import FINAL, move
from streams.steps.headline import fated, in_transit, view
from streams.steps.listed import forget_parts, hand_out, part_key
from streams.steps.outputs import Outputs, Send
from streams.steps.rows import Refusal, Run, pack, unpack_names, unpack_run
from streams.steps.work import Rows

__all__ = ["ACTIVE", "Runs"]

ACTIVE = "!active"
"""Row with the names of the runs that ticks look at."""
SEEN = "!acts|"
"""Prefix of the rows that remember acts about a sync."""
STUCK_MS = 120_000
CANCEL_WAIT_MS = 60_000
ACTS_KEPT = 64
REFUSALS_KEPT = 20
REQUESTS_KEPT = 64
SAMPLES_KEPT = 30
TRANSIT_S = 1.0
TRANSIT_MIN = 500
OWN = frozenset((JournalKind.run_state, JournalKind.act))


class Runs:
    """One chunk of one partition of `runs`. As `people.People`: take, and in the end close."""

    def __init__(self, rows: Rows, catalog: Catalog, partitions: int) -> None:
        """`partitions`: how many partitions `people` has."""
        self.rows, self.catalog, self.partitions = rows, catalog, partitions
        self.out = Outputs()
        self.now_ms = 0
        data = rows.get(ACTIVE)
        self._active: dict[str, None] = dict.fromkeys(unpack_names(data) if data else [])

    def take(self, key: str, message: Message) -> None:
        """One message of control, journal or ticks. Raises on a bug only."""
        match message:
            case Act():
                self._act(key, message)
            case JournalEntry():
                self._entry(message)
            case Tick():
                self._tick(message.now_ms)
            case AudiencePart():
                if self.rows.get(message.run) is None:  # else the list was given before
                    self.rows.put(part_key(message.run, message.part), pack(message.model_dump()))
            case _:
                raise TypeError(f"{type(message).__name__} does not concern runs")
        self.out.keep()

    def close(self) -> list[Send]:
        """All messages of the chunk."""
        self.rows.put(ACTIVE, pack(list(self._active)) if self._active else None)
        return self.out.close(self.now_ms)

    # ---- what people ask for

    def _act(self, key: str, act: Act) -> None:
        self.now_ms = max(self.now_ms, act.when_ms)
        if not act.run:
            self._act_on_sync(key, act)
            return
        run = self._load(act.run)
        if run is None:
            if act.kind is not ActKind.run_start:
                self._journal(act, "refused: there is no such run")
                return
            run = Run(run=act.run, sync=act.sync, started_ms=act.when_ms, since_ms=act.when_ms)
        if act.act_id in run.acts:
            return
        run.acts = [*run.acts[1 - ACTS_KEPT :], act.act_id]
        run.now_ms = max(run.now_ms, act.when_ms)
        refused = self._act_on_run(run, act)
        self._journal(act, f"refused: {refused}" if refused else act.why)
        self._go_on(run)
        self._save(run)

    def _act_on_run(self, run: Run, act: Act) -> str:
        """Do it -> why not, or nothing."""
        match act.kind:
            case ActKind.run_start if run.progress_ms == 0:
                return self._start(run, act)
            case ActKind.run_pause if run.state in ("running", "stuck"):
                if run.state == "stuck":
                    move(run, "running", "to be paused", act.who, self.out)
                move(run, "pausing", act.why, act.who, self.out)
            case ActKind.run_resume if run.state in ("pausing", "paused"):
                move(run, "running", act.why, act.who, self.out)
                run.progress_ms = run.now_ms
            case ActKind.run_cancel if run.state not in FINAL and run.state != "cancelling":
                move(run, "cancelling", act.why, act.who, self.out)
            case _:
                return f"the run is {run.state}"
        self._broadcast(act)
        self._await(run, act.act_id)
        return ""

    def _start(self, run: Run, act: Act) -> str:
        plan = self.catalog.plan(run.sync, {})
        if plan is None:
            move(run, "cancelling", "its sync is not defined", act.who, self.out)
            move(run, "cancelled", "its sync is not defined", act.who, self.out)
            run.parts = int(json.loads(act.values or b"{}").get("parts") or 0)
            forget_parts(run, self.rows)
            run.progress_ms = run.now_ms
            return "its sync is not defined"
        options: dict[str, Any] = json.loads(act.values or b"{}")
        flow = self.catalog.flows.get(plan.target) or Flow()
        run.pins = options.get("pins") or self.catalog.pins_of(run.sync, {})
        run.credit = int(options.get("credit") or flow.credit())
        run.batch_rows, run.pages_max = flow.batch_rows, flow.fetch_pages_max
        run.expected = int(options.get("expected") or 0)
        run.fetch_max = int(options.get("fetch_max") or 0)
        run.parts, run.listed_ms = int(options.get("parts") or 0), act.when_ms
        run.progress_ms = run.now_ms
        pinned = json.dumps({**options, "pins": run.pins}).encode()
        self._broadcast(act.model_copy(update={"values": pinned}))
        self._await(run, act.act_id)
        return ""

    def _act_on_sync(self, key: str, act: Act) -> None:
        """Not about a run: remembered under its key, and brought to the persons."""
        seen = self.rows.get(SEEN + key)
        acts = unpack_names(seen) if seen else []
        if act.act_id in acts:
            return
        self.rows.put(SEEN + key, pack([*acts[1 - ACTS_KEPT :], act.act_id]))
        if act.kind in BROADCAST:
            self._broadcast(act)
        else:
            self._bring(act)
        self._journal(act, act.why)

    def _bring(self, act: Act) -> None:
        """To the persons it is about. What was parked before it was a person's has none yet."""
        match _stage(act):
            case "decode" | "intake":  # taken in again from its place, or given up, by who asks
                for target in act.targets:
                    self.out.send(PARKED, target.parked_id, None)
            case "admit" | "shape":
                pass  # each event is brought along by who asks, see `Again`
            case _:
                by_person: dict[str, list[Target]] = {}
                for target in act.targets:
                    by_person.setdefault(target.person, []).append(target)
                for person, targets in by_person.items():
                    self.out.send(ACTS, person, act.model_copy(update={"targets": targets}))

    def _broadcast(self, act: Act) -> None:
        for partition in range(self.partitions):
            self.out.send(ACTS, act.act_id, act, partition)

    def _await(self, run: Run, act_id: str) -> None:
        run.awaited, run.confirmed = act_id, []

    def _journal(self, act: Act, why: str) -> None:
        entry = JournalEntry(
            kind=JournalKind.act, at_ms=act.when_ms, sync=act.sync, run=act.run,
            account=act.account, act_id=act.act_id, who=act.who, after=act.kind.value, why=why,
        )  # fmt: skip
        self.out.send(JOURNAL, act.run or act.sync or act.act_id, entry)

    # ---- what has happened

    def _entry(self, entry: JournalEntry) -> None:
        self.now_ms = max(self.now_ms, entry.at_ms)
        if entry.kind in OWN or not entry.run:
            return
        run = self._load(entry.run)
        if run is None:
            return  # nobody started it here: somebody else's journal, or older than the table
        run.now_ms = max(run.now_ms, entry.at_ms)
        match entry.kind:
            case JournalKind.page_fetched:
                self._page(run, entry)
            case JournalKind.admitted | JournalKind.decided:
                for note in entry.rows:
                    self._noted(run, note)
            case JournalKind.settled:
                self._settled(run, entry)
            case JournalKind.account_state:
                run.trouble = entry.why
            case JournalKind.confirmed:
                if entry.act_id == run.awaited and entry.partition not in run.confirmed:
                    run.confirmed.append(entry.partition)
            case _:
                return
        run.changed = True
        self._go_on(run)
        self._save(run)

    def _page(self, run: Run, entry: JournalEntry) -> None:
        if entry.step != run.step or run.answered >= run.step:
            return  # the answer to a command that was answered already
        run.answered = entry.step
        run.cursor, run.last, run.trouble = entry.cursor, entry.last, ""
        run.fetched += entry.records
        run.last |= 0 < run.fetch_max <= run.fetched
        run.pages += entry.pages
        run.expected = max(run.expected, entry.total)
        run.progress_ms = run.now_ms

    def _noted(self, run: Run, note: RowNote) -> None:
        counts = run.counts
        standing = note.standing.value
        if note.was:
            counts[note.was] = counts.get(note.was, 0) - 1
        if note.standing is not Standing.in_transit:  # that is what has been fetched beyond them
            counts[standing] = counts.get(standing, 0) + 1
        run.released += run.state in FINAL and note.code == "released"
        if standing == "out":
            run.departed += note.was != "out"
        elif note.was == "out" and standing == "waiting":
            run.departed -= 1
        if note.standing is Standing.waiting and note.code not in ("behind", "released"):
            run.waits_for = note.reason or note.code
        elif note.standing is Standing.parked:
            self._refused(run, note)
        run.progress_ms = run.now_ms

    def _refused(self, run: Run, note: RowNote) -> None:
        last = Refusal(
            run.requests.get(note.request_id, 0), note.record_no, max(1, note.attempts), note.code
        )
        others = [r for r in run.refusals if r.record_no != note.record_no]
        run.refusals = [*others[1 - REFUSALS_KEPT :], last]

    def _settled(self, run: Run, entry: JournalEntry) -> None:
        """A request of the worker: batches are numbered in the order of the journal."""
        if entry.request_id in run.requests:
            return
        run.batches += 1
        run.batch_sum += len(entry.rows) or entry.records
        run.requests[entry.request_id] = run.batches
        while len(run.requests) > REQUESTS_KEPT:
            del run.requests[next(iter(run.requests))]
        run.progress_ms = run.now_ms

    def _tick(self, now_ms: int) -> None:
        self.now_ms = max(self.now_ms, now_ms)
        for name in list(self._active):
            run = self._load(name)
            if run is None:
                del self._active[name]
                continue
            run.now_ms = max(run.now_ms, now_ms)
            run.samples = [*run.samples[1 - SAMPLES_KEPT :], (run.now_ms, fated(run))]
            self._go_on(run)
            if run.changed:
                plan = self.catalog.plan(run.sync, run.pins)
                destination = plan.destination if plan else "its destination"
                self.out.send(RUNS, run.run, view(run, destination))
                run.changed = False
            self._save(run)
            if run.state in FINAL:
                del self._active[name]

    # ---- what follows

    def _go_on(self, run: Run) -> None:
        """Whatever the counters now allow: the next pages, or the next state."""
        confirmed = not run.awaited or len(run.confirmed) >= self.partitions
        match run.state:
            case "requested":
                if confirmed and run.progress_ms:
                    move(run, "running", "all partitions know of it", "", self.out)
                    self._fetch(run)
            case "running":
                if not _open(run) and run.last:
                    move(run, "completed", "every record has a fate", "", self.out)
                elif run.now_ms - run.progress_ms >= STUCK_MS:
                    where, why = _stuck(run)
                    move(run, "stuck", why, "", self.out, where=where)
                else:
                    self._fetch(run)
            case "stuck":
                if run.now_ms - run.progress_ms < STUCK_MS:
                    move(run, "running", "it moves again", "", self.out)
                    self._fetch(run)
            case "pausing":
                if confirmed and _drained(run):
                    move(run, "paused", "nothing is under way", "", self.out)
            case "cancelling":
                patient = run.now_ms - run.since_ms < CANCEL_WAIT_MS
                if confirmed and not _open(run) and not (_fetching(run) and patient):
                    move(run, "cancelled", "every record has a fate", "", self.out)
                    forget_parts(run, self.rows)
            case _:
                pass

    def _fetch(self, run: Run) -> None:
        """Command further pages, if the last command is answered and there is credit."""
        room = min(run.credit - _open(run), _transit_max(run) - in_transit(run))
        plan = self.catalog.plan(run.sync, run.pins)
        if run.last or _fetching(run) or room <= 0 or plan is None:
            return
        page_rows = run.fetched / run.pages if run.pages else run.batch_rows
        source = self.catalog.connections[plan.source]
        if run.parts:
            hand_out(run, plan, source.platform, room, self.rows, self.out)
            return
        run.step += 1
        command = FetchPages(
            account=source.account, connection=plan.source, object_type=plan.source_object,
            sync=run.sync, run=run.run, cursor=run.cursor, record_no=run.fetched,
            pages_max=max(1, min(run.pages_max, int(room // max(1.0, page_rows)))), step=run.step,
        )  # fmt: skip
        self.out.send(commands_of(source.platform), source.account, command)

    def _load(self, name: str) -> Run | None:
        data = self.rows.get(name)
        return unpack_run(data) if data else None

    def _save(self, run: Run) -> None:
        self._active[run.run] = None
        self.rows.put(run.run, pack(run))


def _stage(act: Act) -> str:
    """Where what it is about was parked; empty: in the state of a person."""
    if act.kind not in (ActKind.release, ActKind.discard):
        return ""
    told: dict[str, Any] = json.loads(act.values or b"{}")
    return str(told.get("stage", ""))


def _fetching(run: Run) -> bool:
    return run.answered < run.step


def _open(run: Run) -> int:
    """Records on their way: fetched, and without a fate."""
    return run.fetched - fated(run)


def _transit_max(run: Run) -> int:
    """Records that may be undecided at once."""
    recent = run.samples[-4:]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
        return TRANSIT_MIN
    per_ms = (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])
    return max(TRANSIT_MIN, int(per_ms * TRANSIT_S * 1000))


def _drained(run: Run) -> bool:
    """Nothing is under way: what has no fate waits in its person's row."""
    return not _fetching(run) and _open(run) == run.counts.get(Standing.waiting.value, 0)


def _stuck(run: Run) -> tuple[str, str]:
    """Where, and why, as far as the counters tell."""
    waiting = run.counts.get(Standing.waiting.value, 0)
    out = run.counts.get(Standing.out.value, 0)
    if waiting:
        return "upload", f"{waiting} records wait: {run.waits_for}"
    if out:
        return "upload", f"{out} records are out, and no outcome has come"
    if in_transit(run):
        return "mapping", f"{in_transit(run)} fetched records have not been decided"
    return "fetch", run.trouble or f"fetch command {run.step} has no answer"

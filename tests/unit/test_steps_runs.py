"""A run's control machine, its credit, what it says of itself, and how it ends."""

import itertools
from typing import Any

import pytest

from schemas import ids
from schemas.commands import FetchPages
from schemas.control import Act, ActKind, Target, Tick
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from schemas.runs import RunView
from streams.steps.catalog import Flow
from streams.steps.control import FINAL, TRANSITIONS, move
from streams.steps.headline import headline, phase, view
from streams.steps.outputs import Outputs, Send
from streams.steps.rows import Refusal, Run, unpack_run
from streams.steps.runs import STUCK_MS, Runs
from tests.simulation.definitions import catalog
from tests.unit.steps_kit import Rows

RUN = ids.run_id("leads", "20260101")
PARTITIONS = 2


class Desk:
    """One partition of runs; each call is a chunk."""

    def __init__(self, **options: Any) -> None:
        self.rows = Rows()
        self.catalog = catalog(
            "leads", **{"sales:Lead": Flow(rows_per_s=0.1, batch_rows=10, fetch_pages_max=3)}
        )
        self.sends: list[Send] = []
        self.now_ms = 1_000
        self.options = options

    def take(self, *messages: Any, key: str = RUN) -> "Desk":
        runs = Runs(self.rows, self.catalog, PARTITIONS)
        for message in messages:
            runs.take(key, message)
        self.sends = runs.close()
        return self

    def act(self, kind: ActKind, *, act_id: str = "", **more: Any) -> "Desk":
        self.now_ms += 10
        told: dict[str, Any] = {
            "act_id": act_id or f"{kind.value}-{self.now_ms}", "kind": kind, "run": RUN,
            "sync": "leads", "who": "eve", "why": "asked", "when_ms": self.now_ms, "values": b"{}",
        }  # fmt: skip
        return self.take(Act(**{**told, **more}))

    def started(self) -> "Desk":
        options = str(self.options or {}).replace("'", '"').encode()
        return self.act(ActKind.run_start, act_id="start", values=options).confirmed("start")

    def confirmed(self, act_id: str = "") -> "Desk":
        """All partitions of persons have done the act that is awaited."""
        name = act_id or self.run.awaited
        return self.take(*[
            self.entry(JournalKind.confirmed, act_id=name, partition=p) for p in range(PARTITIONS)
        ])  # fmt: skip

    def entry(self, kind: JournalKind, **more: Any) -> JournalEntry:
        self.now_ms += 1
        return JournalEntry(kind=kind, at_ms=self.now_ms, sync="leads", run=RUN, **more)

    def page(self, records: int, *, last: bool = False, step: int = 0, pages: int = 1) -> "Desk":
        step = step or self.run.step
        entry = self.entry(
            JournalKind.page_fetched, step=step, records=records, pages=pages, last=last,
            cursor=f"c{step}",
        )  # fmt: skip
        return self.take(entry)

    def noted(self, count: int, standing: str, was: str = "", **more: Any) -> "Desk":
        notes = [
            RowNote(row_id=str(n), event_id=str(n), standing=Standing(standing), was=was, **more)
            for n in range(count)
        ]
        return self.take(self.entry(JournalKind.decided, rows=notes))

    def tick(self, later_ms: int = 1_000) -> "Desk":
        self.now_ms += later_ms
        return self.take(Tick(now_ms=self.now_ms), key="0")

    @property
    def run(self) -> Run:
        return unpack_run(self.rows[RUN])

    @property
    def state(self) -> str:
        return self.run.state

    @property
    def fetches(self) -> list[FetchPages]:
        return [s.message for s in self.sends if isinstance(s.message, FetchPages)]

    @property
    def views(self) -> list[RunView]:
        return [s.message for s in self.sends if isinstance(s.message, RunView)]

    @property
    def moves(self) -> list[tuple[str, str, str]]:
        entries = [s.message for s in self.sends if isinstance(s.message, JournalEntry)]
        return [(e.before, e.after, e.who) for e in entries if e.kind is JournalKind.run_state]


# ---- the machine


@pytest.mark.parametrize(("before", "after"), [*itertools.product(TRANSITIONS, TRANSITIONS)])
def test_a_step_that_is_not_drawn_is_a_bug(before: str, after: str) -> None:
    run = Run(RUN, "leads", state=before)
    if after in TRANSITIONS[before]:
        move(run, after, "why", "eve", Outputs())
        assert run.state == after
    else:
        with pytest.raises(AssertionError):
            move(run, after, "why", "eve", Outputs())


def test_any_state_that_is_not_final_can_be_cancelled() -> None:
    for state in TRANSITIONS.keys() - FINAL - {"cancelling"}:
        assert "cancelling" in TRANSITIONS[state]


def test_a_run_starts_when_all_partitions_know_its_versions() -> None:
    desk = Desk().act(ActKind.run_start, act_id="start")
    acts = [s for s in desk.sends if s.topic == "acts"]
    assert [s.partition for s in acts] == [0, 1]
    assert b'"sync:leads": 1' in acts[0].message.values  # type: ignore[union-attr]
    assert (desk.state, desk.fetches) == ("requested", [])
    desk.take(desk.entry(JournalKind.confirmed, act_id="start", partition=0))
    desk.take(desk.entry(JournalKind.confirmed, act_id="start", partition=0))
    assert desk.state == "requested"
    desk.take(desk.entry(JournalKind.confirmed, act_id="start", partition=1))
    assert desk.state == "running"
    [fetch] = desk.fetches
    assert (fetch.cursor, fetch.record_no, fetch.step, fetch.account) == ("", 0, 1, "p1")


def test_a_start_pressed_twice_starts_once() -> None:
    desk = Desk().started()
    for act_id in ("start", "again"):
        desk.act(ActKind.run_start, act_id=act_id)
        assert [s for s in desk.sends if s.topic == "acts"] == []
    assert desk.run.step == 1


def test_a_run_of_an_unknown_sync_is_cancelled_with_words() -> None:
    desk = Desk().act(ActKind.run_start, sync="nobody")
    assert (desk.state, desk.run.why) == ("cancelled", "its sync is not defined")


def test_pausing_waits_for_what_is_under_way_then_it_is_paused() -> None:
    desk = Desk().started().page(5).noted(5, "out").act(ActKind.run_pause)
    assert desk.state == "pausing"
    desk.confirmed().noted(4, "written", "out")
    assert desk.state == "pausing"
    desk.page(2)  # the fetch that was under way
    desk.noted(2, "waiting", code="run_paused").noted(1, "written", "out")
    assert (desk.state, desk.fetches) == ("paused", [])
    desk.act(ActKind.run_resume)
    assert desk.state == "running"
    assert [s.partition for s in desk.sends if s.topic == "acts"] == [0, 1]
    assert desk.fetches[0].cursor == "c2"


def test_cancelling_waits_until_every_record_has_a_fate() -> None:
    desk = Desk().started().page(3, last=True).noted(3, "out").act(ActKind.run_cancel)
    assert desk.state == "cancelling"
    desk.confirmed().noted(2, "written", "out")
    assert desk.state == "cancelling"
    desk.noted(1, "cancelled", "out")
    assert (desk.state, desk.moves) == ("cancelled", [("cancelling", "cancelled", "")])


def test_an_act_that_is_not_possible_is_refused_in_the_journal_not_a_bug() -> None:
    desk = Desk().started().page(0, last=True)
    assert desk.state == "completed"
    desk.act(ActKind.run_pause)
    entries = [s.message for s in desk.sends if isinstance(s.message, JournalEntry)]
    assert [e.why for e in entries] == ["refused: the run is completed"]
    desk.act(ActKind.run_cancel, run="leads-nope")
    [entry] = [s.message for s in desk.sends if isinstance(s.message, JournalEntry)]
    assert entry.why == "refused: there is no such run"


def test_a_run_without_progress_is_stuck_says_where_and_moves_again_by_itself() -> None:
    desk = Desk().started().page(5).noted(5, "waiting", code="account_closed", reason="unpaid")
    desk.tick(STUCK_MS - 1_000)
    assert desk.state == "running"
    desk.tick(2_000)
    assert (desk.state, desk.run.where) == ("stuck", "upload")
    assert "5 records wait: unpaid" in desk.run.why
    assert "stuck at upload" in desk.views[0].headline
    desk.noted(5, "out", "waiting")
    assert desk.state == "running"


def test_a_fetch_that_fails_says_why() -> None:
    desk = Desk().started()
    desk.take(desk.entry(JournalKind.account_state, why="fetch failed: HTTP 502")).tick()
    assert desk.views[0].headline == "fetching page 1 (fetch failed: HTTP 502); not stuck"
    desk.tick(STUCK_MS)
    assert (desk.state, desk.run.why) == ("stuck", "fetch failed: HTTP 502")
    desk.page(5)
    assert (desk.state, desk.run.trouble) == ("running", "")


def test_a_stuck_run_can_be_paused_and_the_journal_shows_both_steps() -> None:
    desk = Desk().started().tick(STUCK_MS + 1)
    assert (desk.state, desk.run.where) == ("stuck", "fetch")
    desk.act(ActKind.run_pause)
    assert desk.moves == [("stuck", "running", "eve"), ("running", "pausing", "eve")]


# ---- credit


def test_it_fetches_on_only_while_the_destination_has_room() -> None:
    desk = Desk(credit=20).started()
    assert desk.fetches[0].pages_max == 2
    desk.page(10).noted(10, "out")
    assert (desk.fetches, desk.run.step) == ([], 2)
    desk.page(10)
    assert desk.fetches == []
    desk.noted(10, "out")
    assert desk.run.step == 2, "20 records are on their way: no credit"
    desk.noted(1, "written", "out")
    assert [(f.step, f.record_no, f.cursor, f.pages_max) for f in desk.fetches] == [
        (3, 20, "c2", 1)
    ]


def test_credit_is_what_the_destination_carries_in_thirty_seconds() -> None:
    assert Flow(rows_per_s=50, batch_rows=100).credit() == 1_500
    assert Flow(rows_per_s=1, batch_rows=200).credit() == 400
    assert Flow(rows_per_s=900, batch_rows=200).credit() == 5_000
    assert Flow(rows_per_s=900, batch_rows=200, job_rows=10_000).credit() == 10_000


def test_the_answer_to_a_fetch_counts_once() -> None:
    desk = Desk(credit=100).started().page(5)
    assert desk.run.step == 2
    desk.page(5, step=1)
    assert (desk.run.fetched, desk.run.step) == (5, 2)


def test_it_completes_when_the_last_page_has_come_and_every_record_has_a_fate() -> None:
    desk = Desk().started().page(6, last=True).noted(2, "out")
    desk.noted(1, "filtered").noted(1, "parked", code="X").noted(1, "unchanged")
    desk.noted(2, "written", "out")
    assert desk.state == "running"
    desk.take(desk.entry(JournalKind.admitted, rows=[
        RowNote(row_id="d", event_id="d", standing=Standing.duplicate, code="duplicate")
    ]))  # fmt: skip
    assert desk.state == "completed"
    assert desk.tick().views[0].headline == "completed, 6 records; 1 parked. Record -1 refused: X"
    assert desk.tick().views == []
    desk.noted(1, "waiting", "parked", code="released").noted(1, "written", "waiting")
    assert desk.tick().views[0].headline.startswith("completed, 6 records; 1 of them released")


# ---- words


def test_the_headline_reads_as_people_want_it() -> None:
    run = Run(
        RUN, "leads", state="running", fetched=95_200, expected=100_000, batches=450,
        batch_sum=90_000, batch_rows=200, departed=90_500,
        counts={"written": 89_997, "parked": 3, "out": 500, "waiting": 0},
        refusals=[Refusal(450, 45_001, 3, "INVALID_EMAIL_ADDRESS")],
    )  # fmt: skip
    assert headline(run, "salesforce") == (
        "uploading batch 451 of about 500 to salesforce; 3 parked; not stuck. "
        "Batch 450, record 45001 refused 3 times: INVALID_EMAIL_ADDRESS"
    )


def test_the_phase_is_the_earliest_stage_that_still_has_work() -> None:
    desk = Desk(credit=30).started()
    assert phase(desk.run) == "fetching"
    desk.page(10)
    assert phase(desk.run) == "mapping"
    desk.noted(3, "parked", code="X")
    assert phase(desk.run) == "validating"
    desk.noted(7, "out")
    assert phase(desk.run) == "uploading"
    desk.page(0, last=True)
    assert phase(desk.run) == "uploading"
    desk.take(desk.entry(JournalKind.settled, records=7, request_id="r1"))
    assert phase(desk.run) == "settling"
    desk.noted(7, "written", "out")
    assert (phase(desk.run), desk.state) == ("done", "completed")


def test_batches_are_numbered_in_the_order_of_the_journal_and_refusals_name_them() -> None:
    desk = Desk().started().page(10).noted(10, "out")
    for request in ("r1", "r2", "r1"):
        desk.take(desk.entry(JournalKind.settled, records=5, request_id=request))
    assert desk.run.batches == 2
    refused = {"request_id": "r2", "record_no": 7, "code": "INVALID_EMAIL_ADDRESS"}
    desk.noted(1, "parked", "out", attempts=1, **refused)
    assert "Batch 2, record 7 refused: INVALID" in headline(desk.run, "x")
    desk.noted(1, "parked", "out", attempts=3, **refused)
    assert "Batch 2, record 7 refused 3 times: INVALID" in headline(desk.run, "x")
    assert len(desk.run.refusals) == 1


def test_a_view_is_published_on_a_tick_after_a_change_with_rate_and_eta() -> None:
    desk = Desk(expected=100).started().page(10).noted(10, "out").tick(0)
    desk.noted(5, "written", "out").tick(1_000)
    desk.noted(5, "written", "out").tick(1_000)
    last = desk.views[-1]
    assert (last.run, last.state, last.fetched, last.counts) == (
        RUN,
        "running",
        10,
        {"written": 10},
    )
    assert last.per_s == pytest.approx(5, rel=0.1)
    assert last.eta_s == pytest.approx(18, abs=2)
    assert desk.tick().views == []
    assert view(desk.run, "sales").in_transit == 0


# ---- acts about syncs


def test_an_act_about_parked_records_goes_to_the_persons_once() -> None:
    targets = [Target(parked_id=f"leads:{p}", person=p) for p in ("p1", "p2", "p1")]
    desk = Desk().act(ActKind.release, act_id="a", run="", targets=targets)
    acts = [(s.key, len(s.message.targets)) for s in desk.sends if s.topic == "acts"]  # type: ignore[union-attr]
    assert acts == [("p1", 2), ("p2", 1)]
    assert [s.message.act_id for s in desk.sends if s.topic == "journal"] == ["a"]  # type: ignore[union-attr]
    assert desk.act(ActKind.release, act_id="a", run="", targets=targets).sends == []


@pytest.mark.parametrize("kind", [ActKind.release, ActKind.discard])
def test_what_was_parked_before_it_was_a_persons_goes_to_none(kind: ActKind) -> None:
    """Bytes that are no message go off the list; events are brought by whoever asks."""
    told: dict[str, Any] = {"run": "", "sync": "", "targets": [Target(parked_id="x", person="")]}
    desk = Desk().act(kind, values=b'{"stage": "decode"}', **told)
    assert [(s.topic, s.key, s.message) for s in desk.sends if s.topic != "journal"] == [
        ("parked", "x", None)
    ]
    for stage in (b'{"stage": "admit"}', b'{"stage": "shape"}'):
        desk = Desk().act(kind, values=stage, **told)
        assert [s.topic for s in desk.sends] == ["journal"], "who asked for it, and why"


def test_an_account_is_closed_in_every_partition() -> None:
    desk = Desk().act(ActKind.account_close, run="", sync="", account="salesforce/o1")
    assert [s.partition for s in desk.sends if s.topic == "acts"] == [0, 1]


def test_a_forced_run_says_so_to_every_partition() -> None:
    desk = Desk().act(ActKind.run_start, act_id="start", values=b'{"force": true}')
    acts = [s.message for s in desk.sends if s.topic == "acts"]
    assert all(b'"force": true' in act.values for act in acts)  # type: ignore[union-attr]


def test_a_record_that_is_let_in_again_is_in_transit_until_it_is_decided() -> None:
    desk = Desk().started().page(2, last=True).noted(1, "written").noted(1, "parked")
    assert view(desk.run, "sales").in_transit == 0
    assert desk.state == "completed"
    desk.noted(1, "in_transit", was="parked", code="released")
    assert (view(desk.run, "sales").in_transit, desk.run.released) == (1, 1)
    desk.noted(1, "written")
    assert view(desk.run, "sales").in_transit == 0
    assert view(desk.run, "sales").counts == {"written": 2}


def test_an_activation_goes_to_every_partition() -> None:
    desk = Desk().act(ActKind.activate, run="", definition="mapping:leads@2")
    assert [s.partition for s in desk.sends if s.topic == "acts"] == [0, 1]


def test_it_does_not_listen_to_itself() -> None:
    desk = Desk().started().page(5)
    before = desk.rows[RUN]
    for kind in (JournalKind.run_state, JournalKind.act):
        desk.take(desk.entry(kind, records=99, rows=[RowNote(row_id="r", event_id="e")]))
    assert desk.rows[RUN] == before
    assert desk.sends == []


def test_the_row_of_a_run_stays_small() -> None:
    desk = Desk(credit=5_000).started()
    for n in range(200):
        desk.page(5).noted(5, "out")
        desk.take(desk.entry(JournalKind.settled, records=5, request_id=f"request-{n:032}"))
        desk.noted(1, "parked", "out", code="X" * 20, record_no=n, request_id=f"request-{n:032}")
        desk.noted(4, "written", "out").tick()
        desk.act(ActKind.run_pause).confirmed().act(ActKind.run_resume).confirmed()
    assert len(desk.rows[RUN]) < 9_000

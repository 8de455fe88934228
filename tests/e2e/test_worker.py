"""The connectors worker on real Kafka, with a real HTTP server that misbehaves on request."""

import random
import signal
import time
from collections import Counter

import httpx
import pytest

from schemas import topics
from schemas.commands import CheckJob, FetchPages, Priority, ReadObjects, Recall
from schemas.control import Act, ActKind
from schemas.outcomes import AccountState, OutcomeKind
from tests.worker_world import World, until


@pytest.fixture
def world(stack, tmp_path):
    with World(stack, tmp_path) as world:
        yield world


def test_rows_become_objects_and_each_gets_one_outcome(world):
    """Shows the happy path: rows of several commands, few requests, outcomes, journal, metrics."""
    world.connect("acme")
    url = world.start()
    rows = world.rows(230)
    for n in range(0, 230, 23):
        world.upload("acme", rows[n : n + 23])
    world.flush()
    fates = world.fates(r.row_id for r in rows)
    assert {o.kind for o in fates.values()} == {OutcomeKind.written}
    acme = world.server.accounts["acme"]
    assert len(acme.objects) == 230
    assert all(acme.objects[o.object_id]["our_key"] == o.person for o in fates.values())
    assert set(acme.writes.values()) == {1}
    notes = [n for e in world.journal() for n in e.rows]
    assert Counter(n.row_id for n in notes) == Counter(r.row_id for r in rows)
    assert all(e.request == "POST /acme/person" and e.status == 200 for e in world.journal())
    page = httpx.get(f"{url}/metrics").text
    assert f'connectors_outcomes_total{{kind="written",platform="{world.platform}"}} 230.0' in page
    status = httpx.get(f"{url}/status").json()[world.platform]["accounts"]["acme"]
    assert status["open"]
    assert sum(status["waiting"].values()) == 0
    assert world.kill(how=signal.SIGTERM) == 0
    assert "tiny-secret-token" not in world.log.read_text()


def test_a_worker_that_is_killed_again_and_again_gives_every_row_one_outcome(world):
    """Shows P1 and P2: SIGKILL at any moment loses no row, and none has two outcomes."""
    world.connect("acme")
    world.connect("bolt")
    world.start()
    for name in ("acme", "bolt"):
        world.server.accounts[name].latency_s = 0.02
    rows: list = []
    for round_ in range(6):
        for n in range(30):
            fresh = world.rows(7, begin=len(rows))
            rows += fresh
            world.upload("acme" if n % 2 else "bolt", fresh)
        world.flush()
        time.sleep(0.1 + 0.15 * round_)
        world.kill()
        world.start(wait=False)
    fates = world.fates((r.row_id for r in rows), 60)
    assert {o.kind for o in fates.values()} == {OutcomeKind.written}
    notes = Counter(n.row_id for e in world.journal() for n in e.rows)
    assert notes == Counter(r.row_id for r in rows)
    for name in ("acme", "bolt"):
        assert world.server.accounts[name].twice_at_once == 0


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.soak)])
def test_no_window_of_a_quota_is_overspent_whoever_is_killed(world, kills):
    """Shows P6: a moving window and requests at once, counted by the platform; and use of them."""
    world.limit(
        second={"kind": "moving", "window_s": 1, "limit": {"default": 12}},
        slots={"kind": "slots", "limit": {"default": 3}},
    )
    world.connect("acme")
    acme = world.server.accounts["acme"]
    acme.latency_s = 0.1
    draw = random.Random(kills)
    rows: list = []
    world.start()
    for _ in range(kills):
        fresh = world.rows(400, begin=len(rows))
        rows += fresh
        for n in range(0, 400, 100):
            world.upload("acme", fresh[n : n + 100], priority=Priority.bulk)
        world.flush()
        before = len(acme.times)
        until(lambda b=before: len(acme.times) > b, what="something is under way")
        time.sleep(draw.uniform(0.0, 1.5))
        world.kill()
        world.start(wait=False)
    world.fates((r.row_id for r in rows), 120)
    assert acme.most_within(1.0) <= 12
    assert acme.at_once_most <= 3
    # undisturbed, it is used: of the scarcer window, requests under way included
    world.kill()
    url = world.start()
    acme.times.clear()
    rows = world.rows(2_500, begin=100_000)
    for n in range(0, 2_500, 500):
        world.upload("acme", rows[n : n + 500], priority=Priority.bulk)
    world.flush()
    world.fates((r.row_id for r in rows), 60)
    assert len(acme.times) == 50
    assert acme.most_within(1.0) <= 12
    status = httpx.get(f"{url}/status").json()[world.platform]["accounts"]["acme"]
    assert status["quota_use"]["write"] > 0.8


@pytest.mark.soak
def test_forty_kills_of_two_workers_with_everything_going_on(world):
    """Shows P1, P2 and P7 together: uploads, matches, letters and fetches, kills at random."""
    names = ["a", "b", "c", "d"]
    for name in names:
        world.connect(name, match="email" if name in "ab" else "")
        world.server.accounts[name].latency_s = 0.03
    for slot in "01":
        world.start(slot)
    draw, states, letters = random.Random(1), [], []
    for kill in range(40):
        for n in range(20):
            fresh = world.rows(9, begin=len(states))
            states += fresh
            world.upload(names[n % 4], fresh, partition=n % 4)
        fresh = world.rows(5, begin=1_000_000 + len(letters))
        letters += fresh
        world.upload("c", fresh, partition=2, object_type="letter")
        world.flush()
        time.sleep(draw.uniform(0.05, 3.0))
        slot = draw.choice("01")
        world.kill(slot)
        time.sleep(draw.choice([0.0, 0.0, 11.0]) if kill % 8 == 0 else 0.0)
        world.start(slot, wait=False)
    fates = world.fates((r.row_id for r in (*states, *letters)), 120)
    assert {fates[r.row_id].kind for r in states} == {OutcomeKind.written}
    kinds = {fates[r.row_id].kind for r in letters}
    assert kinds <= {OutcomeKind.written, OutcomeKind.unknown}
    assert set(world.server.accounts["c"].letters.values()) == {1}
    for name in names:
        people = [o["our_key"] for o in world.server.accounts[name].objects.values()]
        assert len(people) == len(set(people))


def test_what_was_finished_above_the_committed_offset_is_not_done_again(world):
    """Shows the bitmap: one slow account holds the offset, the others are not repeated."""
    world.connect("slow")
    world.connect("quick")
    world.server.accounts["slow"].latency_s = 20.0
    world.start()
    world.upload("slow", world.rows(1), partition=0)
    quick = world.rows(300, begin=1000)
    for n in range(0, 300, 3):
        world.upload("quick", quick[n : n + 3], partition=0)
    world.flush()
    world.fates(r.row_id for r in quick)
    world.kill()
    world.server.accounts["slow"].latency_s = 0.0
    world.start()
    world.fates(["row-0"])
    more = world.rows(1, begin=5000)
    world.upload("quick", more, partition=0)
    world.flush()
    world.fates([more[0].row_id])
    assert set(world.server.accounts["quick"].writes.values()) == {1}
    world.once({r.row_id for r in quick})


def test_a_halted_account_gives_back_and_spares_the_other_on_its_partition(world):
    """Shows P7: a refused key closes one account; it opens again when somebody says so."""
    world.connect("shut")
    world.connect("fine")
    world.server.accounts["shut"].refuse_token = True
    world.start()
    shut, fine = world.rows(20), world.rows(20, begin=100)
    world.upload("shut", shut, partition=1)
    world.upload("fine", fine, partition=1)
    world.flush()
    begun = time.monotonic()
    assert {o.kind for o in world.fates(r.row_id for r in fine).values()} == {OutcomeKind.written}
    assert time.monotonic() - begun < 5
    fates = world.fates(r.row_id for r in shut)
    assert {(o.kind, o.until_ms) for o in fates.values()} == {(OutcomeKind.returned, 0)}
    assert all("token refused" in o.words for o in fates.values())
    states = until(lambda: _states(world), what="announced")
    assert len(states) == 4
    assert {(s.account, s.open) for s in states} == {("shut", False)}
    # a successor knows, and asks nothing of the account with the rows that come
    world.kill()
    url = world.start()
    asked = len(world.server.accounts["shut"].requests)
    more = world.rows(3, begin=200)
    world.upload("shut", more, partition=1)
    world.flush()
    assert {o.kind for o in world.fates(r.row_id for r in more).values()} == {OutcomeKind.returned}
    assert [p for p, _ in world.server.accounts["shut"].requests[asked:] if p == "person"] == []
    assert not httpx.get(f"{url}/status").json()[world.platform]["accounts"]["shut"]["open"]
    # somebody acts
    world.server.accounts["shut"].refuse_token = False
    act = Act(act_id="a1", kind=ActKind.account_open, account="shut", who="x",
              when_ms=int(time.time() * 1000), values=b"{}")  # fmt: skip
    world.send(topics.CONTROL, "shut", act)
    world.flush()
    until(lambda: len(_states(world)) == 8, what="opened")
    assert {s.open for s in _states(world)[4:]} == {True}
    again = world.rows(5, begin=300)
    world.upload("shut", again, partition=1)
    world.flush()
    assert {o.kind for o in world.fates(r.row_id for r in again).values()} == {OutcomeKind.written}


def _states(world) -> list[AccountState]:
    found = world.read(topics.outcomes_of(world.platform))
    return sorted((m for m in found if isinstance(m, AccountState)), key=lambda s: s.at_ms)


def test_a_request_refused_as_a_whole_costs_only_the_rows_to_blame(world):
    """Shows bisection: one bad row among 50, and one that makes the platform fail."""
    world.connect("acme")
    world.start()
    rows = world.rows(50)
    rows[17] = world.row("17", name="spoils")
    rows[31] = world.row("31", name="refused")
    world.upload("acme", rows)
    world.flush()
    fates = world.fates(r.row_id for r in rows)
    parked = {r: o for r, o in fates.items() if o.kind is OutcomeKind.parked}
    assert set(parked) == {"row-17", "row-31"}
    assert parked["row-17"].code == "400"
    assert "one of them is bad" in parked["row-17"].words
    assert (parked["row-31"].code, parked["row-31"].field) == ("REFUSED", "name")
    note = next(n for e in world.journal() for n in e.rows if n.row_id == "row-31")
    assert note.reason == "bad value <name>"  # our own value is no part of the journal
    crash = [*world.rows(9, begin=100), world.row("crash", name="crashes")]
    world.upload("acme", crash)
    world.flush()
    fates = world.fates((r.row_id for r in crash), 60)
    parked = [o.row_id for o in fates.values() if o.kind is OutcomeKind.parked]
    assert parked == ["row-crash"]


def test_passing_faults_are_waited_out_and_park_nobody(world):
    """Shows that 5xx, lost answers and 429 spend no row's attempts while nothing else works."""
    world.connect("acme")
    acme = world.server.accounts["acme"]
    acme.fail, acme.throttle = 5, 2
    world.start()
    rows = world.rows(120)
    world.upload("acme", rows[:60])
    world.flush()
    fates = world.fates((r.row_id for r in rows[:60]), 60)
    assert {o.kind for o in fates.values()} == {OutcomeKind.written}
    acme.lose = 2
    world.upload("acme", rows[60:])
    world.flush()
    fates = world.fates((r.row_id for r in rows[60:]), 60)
    assert {o.kind for o in fates.values()} == {OutcomeKind.written}
    assert len(acme.objects) == 120


def test_a_row_that_stays_locked_is_parked_after_three_attempts(world):
    world.connect("acme")
    world.start()
    rows = [*world.rows(3), world.row("locked", name="locked")]
    world.upload("acme", rows)
    world.flush()
    fates = world.fates(r.row_id for r in rows)
    locked = fates["row-locked"]
    assert (locked.kind, locked.code) == (OutcomeKind.parked, "retries_exhausted")
    assert (locked.words, locked.attempts) == ("row is locked", 3)


def test_too_many_rows_are_split_and_the_size_that_worked_is_remembered(world):
    world.connect("acme")
    acme = world.server.accounts["acme"]
    acme.rows_max = 20
    url = world.start()
    rows = world.rows(50)
    world.upload("acme", rows)
    world.flush()
    fates = world.fates(r.row_id for r in rows)
    assert {o.kind for o in fates.values()} == {OutcomeKind.written}
    status = httpx.get(f"{url}/status").json()[world.platform]["accounts"]["acme"]
    assert status["rows_max"]["person"] <= 25
    world.kill()
    world.start()
    before = len(acme.requests)
    more = world.rows(50, begin=100)
    world.upload("acme", more)
    world.flush()
    world.fates(r.row_id for r in more)
    assert max(n for _, n in acme.requests[before:]) <= status["rows_max"]["person"]


def test_people_who_are_there_already_are_adopted_and_never_made_twice(world):
    """Shows matching before the first write: none, one, several, another's, two at once."""
    world.connect("acme", match="email")
    acme = world.server.accounts["acme"]
    acme.objects["old1"] = {"email": "One@example.com"}
    acme.objects["two1"] = {"email": "two@example.com"}
    acme.objects["two2"] = {"email": "two@example.com"}
    acme.objects["his"] = {"email": "his@example.com", "our_key": "person-of-somebody-else"}
    world.start()
    rows = [world.row(n) for n in ("one", "two", "his", "new", "nobody")]
    twin = world.row("twin")
    twin = twin.model_copy(update={"fields": b'{"email": "NEW@example.com"}'})
    blank = world.row("blank").model_copy(update={"fields": b'{"email": null}'})
    world.upload("acme", [*rows, twin, blank])
    world.flush()
    fates = world.fates([r.row_id for r in (*rows, twin, blank)])
    assert fates["row-one"].object_id == "old1"
    assert acme.objects["old1"]["our_key"] == "person-one"
    assert (fates["row-two"].kind, fates["row-two"].code) == (OutcomeKind.parked, "ambiguous_match")
    assert fates["row-two"].words == "2 person objects with this email"
    assert (fates["row-his"].kind, fates["row-his"].code) == (OutcomeKind.parked, "matched_another")
    assert {fates[f"row-{n}"].kind for n in ("nobody", "blank")} == {OutcomeKind.written}
    # of two persons with one address the first is made, the other one is not
    kinds = sorted(fates[r].kind.value for r in ("row-new", "row-twin"))
    assert kinds == ["parked", "written"]
    assert sum(str(o.get("email")).lower() == "new@example.com" for o in acme.objects.values()) == 1


def test_letters_are_sent_at_most_once(world):
    """Shows a repeat that is unsafe: what was sent and not answered is unknown."""
    world.connect("acme")
    acme = world.server.accounts["acme"]
    world.start()
    world.upload("acme", world.rows(5), object_type="letter")
    world.flush()
    world.fates(f"row-{n}" for n in range(5))
    acme.lose = 1
    world.upload("acme", world.rows(5, begin=10), object_type="letter")
    world.flush()
    fates = world.fates(f"row-{n}" for n in range(10, 15))
    assert {o.kind for o in fates.values()} == {OutcomeKind.unknown}
    acme.latency_s = 20.0
    world.upload("acme", world.rows(5, begin=20), object_type="letter")
    world.flush()
    until(lambda: acme.requests.count(("letter", 5)) == 3, what="the letters are under way")
    world.kill()
    acme.latency_s = 0.0
    world.upload("acme", world.rows(5, begin=30), object_type="letter")
    world.flush()
    world.start()
    fates = world.fates(f"row-{n}" for n in (*range(20, 25), *range(30, 35)))
    assert {fates[f"row-{n}"].kind for n in range(20, 25)} == {OutcomeKind.unknown}
    assert {fates[f"row-{n}"].kind for n in range(30, 35)} == {OutcomeKind.written}
    assert acme.requests.count(("letter", 5)) == 4
    assert set(acme.letters.values()) == {1}


def test_a_job_outlives_a_kill_and_holds_up_nobody(world):
    """Shows verdicts that come later: one job whoever asks about it, and a command's other rows
    have their outcomes long before."""
    world.connect("acme")
    acme = world.server.accounts["acme"]
    acme.job_s = 8.0
    world.start()
    rows = world.rows(110)  # enough for a job, whether the other command is here already or not
    bad = world.row("bad").model_copy(update={"fields": b"{nonsense"})
    world.upload("acme", [bad, *rows], object_type="crowd", priority=Priority.bulk)
    more = world.rows(60, begin=200)
    world.upload("acme", more, object_type="crowd", priority=Priority.bulk)
    world.flush()
    until(lambda: acme.jobs, what="a job")
    world.fates(["row-bad"])
    assert [job["state"] for job in acme.jobs.values()] == ["closed"]

    def asked() -> list[CheckJob]:
        commands = world.read(topics.commands_of(world.platform))
        return [c for c in commands if isinstance(c, CheckJob)]

    wanted = {r.row_id for r in rows}
    until(asked, what="the job is asked for")
    assert {r.row_id for c in asked() for r in c.rows} <= wanted
    assert {c.receipt for c in asked()} == {"job-1"}
    world.kill()
    world.start()
    fates = world.fates((r.row_id for r in (*rows, *more)), 60)
    assert {o.kind for o in fates.values()} == {OutcomeKind.written}
    assert set(acme.writes.values()) == {1}
    assert len(acme.jobs) == 1


def test_guests_that_may_be_there_are_looked_for_and_made_once(world):
    """Shows a repeat that is unsafe, of what can be found: unanswered, and killed in between."""
    world.connect("acme", match="email")
    acme = world.server.accounts["acme"]
    acme.lose = 1
    world.start()
    world.upload("acme", world.rows(5), object_type="guest")
    world.flush()
    until(lambda: acme.lose == 0, what="the first request is lost")
    acme.latency_s = 3.0
    late = world.rows(5, begin=10)
    world.upload("acme", late, object_type="guest")
    world.flush()
    until(lambda: acme.requests.count(("guest", 5)) >= 2, what="the second is under way")
    world.kill()
    acme.latency_s = 0.0
    world.start()
    fates = world.fates([f"row-{n}" for n in (*range(5), *range(10, 15))], 60)
    assert {o.kind for o in fates.values()} == {OutcomeKind.written}
    keys = [o["our_key"] for o in acme.objects.values()]
    assert sorted(keys) == sorted({o.person for o in fates.values()})


def test_a_recalled_row_that_has_not_gone_out_comes_back(world):
    name = world.connect("acme")
    world.server.accounts["acme"].latency_s = 1.0
    world.start()
    world.upload("acme", [world.row("a")], partition=2)
    # the same person again: waits for the first
    second = world.row("a").model_copy(update={"row_id": "row-a2"})
    world.upload("acme", [second], partition=2)
    recall = Recall(account="acme", connection=name, row_ids=["row-a", "row-a2", "row-unheard-of"])
    until(lambda: world.flush() or world.server.accounts["acme"].requests, what="the first is out")
    world.send(topics.commands_of(world.platform), "acme", recall, 2)
    world.flush()
    fates = world.fates(["row-a", "row-a2"])
    assert fates["row-a"].kind is OutcomeKind.written
    assert (fates["row-a2"].kind, fates["row-a2"].words) == (OutcomeKind.returned, "recalled")
    assert len(world.server.accounts["acme"].objects) == 1


def test_a_recalled_row_that_was_never_looked_up_is_hurried(world):
    """Shows that a person who is there under the old address is not made a second time."""
    name = world.connect("acme", match="email")
    acme = world.server.accounts["acme"]
    acme.objects["old"] = {"email": "a@example.com"}
    acme.fail = 1  # so that the row waits for a moment
    world.start()
    world.upload("acme", [world.row("a")], partition=2, priority=Priority.bulk)
    recall = Recall(account="acme", connection=name, row_ids=["row-a"])
    world.send(topics.commands_of(world.platform), "acme", recall, 2)
    world.flush()
    assert world.fates(["row-a"])["row-a"].object_id == "old"
    moved = world.row("a", email="moved@example.com")
    moved = moved.model_copy(update={"row_id": "row-a2", "object_id": "old"})
    world.upload("acme", [moved], partition=2)
    world.flush()
    world.fates(["row-a2"])
    assert [o["email"] for o in acme.objects.values()] == ["moved@example.com"]


def test_rows_that_wait_do_not_hold_back_the_outcomes_of_their_message(world):
    """Shows the rewrite: what still waits goes to the end of the partition, with its attempts."""
    world.connect("acme")
    acme = world.server.accounts["acme"]
    url = world.start()
    acme.latency_s = 0.5
    same = [world.row("a").model_copy(update={"row_id": f"row-a{n}"}) for n in range(20)]
    begun = time.monotonic()
    world.upload("acme", [*same, *world.rows(3)], partition=3)
    world.flush()
    world.fates((f"row-{n}" for n in range(3)), 8)
    assert time.monotonic() - begun < 8  # all of them one after the other take more than 10 s
    fates = world.fates((r.row_id for r in same), 60)
    assert {o.kind for o in fates.values()} == {OutcomeKind.written}
    assert acme.twice_at_once == 0
    page = httpx.get(f"{url}/metrics").text
    assert f'connectors_rows_again_total{{platform="{world.platform}"}} 0.0' not in page


def test_pages_are_fetched_as_events_in_one_transaction(world):
    """Shows a fetch that is killed in the middle: all records once, steps in order."""
    name = world.connect("acme")
    acme = world.server.accounts["acme"]
    for n in range(95):
        acme.objects[f"o{n}"] = {"email": f"{n}@example.com"}
    world.start()
    acme.latency_s = 0.3
    cursor, record_no, step, last = "", 0, 0, False
    while not last:
        step += 1
        fetch = FetchPages(
            account="acme", connection=name, object_type="person", sync=name, run=f"{name}-1",
            cursor=cursor, record_no=record_no, pages_max=4, step=step,
        )  # fmt: skip
        world.send(topics.commands_of(world.platform), "acme", fetch)
        world.flush()
        if step == 2:
            time.sleep(0.7)
            world.kill()
            world.start()
        entry = until(
            lambda s=step: next((e for e in world.journal() if e.step == s), None), what="page"
        )
        assert entry.records == len(entry.rows)
        assert [n.record_no for n in entry.rows] == list(
            range(record_no, record_no + entry.records)
        )
        cursor, record_no, last = entry.cursor, record_no + entry.records, entry.last
    assert record_no == 95
    events = world.read(topics.events_of(world.platform))
    assert Counter(e.object_id for e in events) == Counter(f"o{n}" for n in range(95))
    assert {e.run for e in events} == {f"{name}-1"}
    assert sorted(e.record_no for e in events) == list(range(95))
    noted = {n.event_id for e in world.journal() for n in e.rows}
    assert noted == {e.event_id for e in events}


def test_objects_are_read_and_one_that_is_gone_is_told_so(world):
    name = world.connect("acme")
    for n in range(7):
        world.server.accounts["acme"].objects[f"o{n}"] = {"email": f"{n}@example.com"}
    world.start()
    ids = [f"o{n}" for n in range(8)]
    for _ in range(2):
        world.send(
            topics.commands_of(world.platform), "acme",
            ReadObjects(account="acme", connection=name, object_type="person", object_ids=ids,
                        fields=["email"]),
        )  # fmt: skip
    world.flush()
    events = until(
        lambda: len(found := world.read(topics.events_of(world.platform))) >= 16 and found,
        what="events",
    )
    assert len({e.event_id for e in events}) == 16  # an answer is never mistaken for a repeat
    assert Counter(e.kind.value for e in events) == {"updated": 14, "deleted": 2}
    assert {e.object_id for e in events if e.kind.value == "deleted"} == {"o7"}
    assert {(e.origin.value, e.run, e.record_no) for e in events} == {("read", "", -1)}


def test_single_reads_that_wait_for_their_quota_go_out_together(world):
    """Live changes ask for one object each; a call carries many."""
    world.limit(second={"kind": "moving", "window_s": 1, "limit": {"default": 2}})
    name = world.connect("acme")
    acme = world.server.accounts["acme"]
    for n in range(40):
        acme.objects[f"o{n}"] = {"email": f"{n}@example.com"}
        world.send(
            topics.commands_of(world.platform), "acme",
            ReadObjects(account="acme", connection=name, object_type="person",
                        object_ids=[f"o{n}"], fields=["email"]),
        )  # fmt: skip
    world.flush()
    world.start()
    events = until(
        lambda: len(found := world.read(topics.events_of(world.platform))) >= 40 and found,
        what="events",
    )
    assert Counter(e.object_id for e in events) == Counter(f"o{n}" for n in range(40))
    assert len(acme.requests) <= 10


def test_a_broker_that_is_killed_costs_nothing(fresh_stack, tmp_path):
    """Shows that commits, leases and polling outlive a broker that is away for some seconds."""
    stack = fresh_stack()
    with World(stack, tmp_path) as world:
        world.connect("acme")
        world.server.accounts["acme"].latency_s = 0.05
        url = world.start()
        rows = world.rows(600)
        for n in range(0, 600, 10):
            world.upload("acme", rows[n : n + 10])
        world.flush()
        until(lambda: world.server.accounts["acme"].requests, what="the first is out")
        stack.kill_broker()
        time.sleep(1.0)
        stack.restart_broker()
        wanted = {r.row_id for r in rows}

        def done() -> bool:
            nonlocal url
            if world.workers["0"].poll() is not None:  # the broker took longer than its session
                url = world.start()  # as a supervisor does
            return wanted <= {o.row_id for o in world.outcomes()}

        until(done, 90, "all outcomes")
        assert {o.kind for o in world.once(wanted).values()} == {OutcomeKind.written}
        more = world.rows(10, begin=1000)
        world.upload("acme", more)
        world.flush()
        world.fates((r.row_id for r in more), 30)
        assert httpx.get(f"{url}/readyz").status_code == 200


def test_a_worker_that_slept_longer_than_its_session_writes_nothing_and_ends(world):
    """Shows the fence: a frozen process wakes when its partitions may have another owner."""
    world.connect("acme")
    acme = world.server.accounts["acme"]
    acme.latency_s = 1.0
    world.start()
    rows = world.rows(40)
    for n in range(0, 40, 10):
        world.upload("acme", rows[n : n + 10])
    world.flush()
    until(lambda: acme.requests, what="the first is out")
    process = world.workers["0"]
    process.send_signal(signal.SIGSTOP)
    time.sleep(11)  # longer than the session of 10 s
    process.send_signal(signal.SIGCONT)
    assert process.wait(15) == 70
    world.start()
    fates = world.fates((r.row_id for r in rows), 40)
    assert {o.kind for o in fates.values()} == {OutcomeKind.written}


def test_two_workers_share_and_hand_over(world):
    """Shows that a second worker takes partitions over, and gives them back, with no row twice."""
    for name in ("a", "b", "c", "d"):
        world.connect(name)
        world.server.accounts[name].latency_s = 0.05
    first = world.start("0")
    rows: list = []

    def more(count: int) -> None:
        for n in range(count):
            fresh = world.rows(5, begin=len(rows))
            rows.extend(fresh)
            world.upload("abcd"[n % 4], fresh, partition=n % 4)
        world.flush()

    more(400)  # much is under way, and is committed, while the group changes
    second = world.start("1")
    more(40)
    until(lambda: _partitions(world, second), what="the second owns some")
    assert world.workers["0"].poll() is None
    assert not {*_partitions(world, first)} & {*_partitions(world, second)}
    more(40)
    assert world.kill("1", signal.SIGTERM) == 0
    more(40)
    until(lambda: len(_partitions(world, first)) == 4, what="the first owns all again")
    fates = world.fates((r.row_id for r in rows), 60)
    assert {o.kind for o in fates.values()} == {OutcomeKind.written}
    assert {world.server.accounts[n].twice_at_once for n in "abcd"} == {0}


def _partitions(world, url: str) -> list[int]:
    return httpx.get(f"{url}/status").json()[world.platform]["partitions"]


def test_what_cannot_be_decoded_is_parked_with_its_bytes(world):
    world.connect("acme")
    world.start()
    topic = topics.commands_of(world.platform)
    world.send(topic, "acme", b"\x00\x00rubbish", 0)
    bad = world.row("bad").model_copy(update={"fields": b"{nonsense"})
    world.upload("acme", [bad, *world.rows(2)], partition=0)
    world.flush()
    fates = world.fates(["row-bad", "row-0", "row-1"])
    assert (fates["row-bad"].kind, fates["row-bad"].code) == (
        OutcomeKind.parked,
        "undecodable_fields",
    )
    parked = until(
        lambda: [p for p in world.read(topics.PARKED) if p.parked_id == f"{topic}-0-0"],
        what="parked",
    )
    assert parked[0].source == b"\x00\x00rubbish"


def test_a_connection_that_cannot_work_halts_with_words_and_opens_when_mended(world):
    name = world.connect("acme")
    broken = world.connection("acme").model_copy(
        update={"secrets": {"token": "env:NOT_SET_AT_ALL"}}
    )
    world.define("connection", name, broken, 2)
    world.flush()
    world.start()
    world.upload("acme", world.rows(2))
    world.flush()
    fates = world.fates(["row-0", "row-1"])
    assert {o.kind for o in fates.values()} == {OutcomeKind.returned}
    assert all("NOT_SET_AT_ALL" in o.words for o in fates.values())
    world.define("connection", name, world.connection("acme"), 3)
    world.flush()
    until(lambda: any(s.open for s in _states(world)), 40, "opened")
    world.upload("acme", world.rows(2, begin=10))
    world.flush()
    assert {o.kind for o in world.fates(["row-10", "row-11"]).values()} == {OutcomeKind.written}

"""The balance closes exactly when every record has a fate, and names what has none (P4)."""

from hypothesis import given
from hypothesis import strategies as st

from audit.balance import Balance, total
from schemas import ids
from schemas.definitions import Sync
from schemas.events import PlatformEvent
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing

SYNC = Sync(
    sync="leads", source="hubspot", source_object="contact", destination="salesforce",
    destination_object="Lead", mapping="m",
)  # fmt: skip
RUN = ids.run_id("leads", "20260101T000000")


def event(n: int, run: str = RUN) -> PlatformEvent:
    return PlatformEvent(
        event_id=f"e{n}", connection="hubspot", platform="hubspot", object_type="contact",
        object_id=str(n), run=run, occurred_ms=1, received_ms=7_200_001, values=b"{}", payload=b"",
    )  # fmt: skip


def note(n: int, standing: Standing, run: str = RUN, **more: str) -> JournalEntry:
    row = RowNote(row_id=ids.row_id(f"e{n}", "leads"), event_id=f"e{n}", standing=standing, **more)  # type: ignore[arg-type]
    return JournalEntry(kind=JournalKind.decided, at_ms=1, sync="leads", run=run, rows=[row])


@given(
    st.lists(st.sampled_from([Standing.written, Standing.parked, Standing.filtered]), max_size=20),
    st.randoms(),
)
def test_it_closes_in_whatever_order_the_topics_are_read(fates, shuffle) -> None:
    balance = Balance({"leads": SYNC})
    feed = [lambda n=n: balance.received(event(n)) for n in range(len(fates))]
    feed += [lambda n=n, f=f: balance.noted(note(n, f)) for n, f in enumerate(fates)]
    shuffle.shuffle(feed)
    for take in feed:
        take()
    assert balance.difference == 0
    line = total(balance.lines())
    assert (line.received, line.open) == (len(fates), 0)
    assert sum(line.standings.values()) == len(fates)


def test_a_record_without_a_note_is_in_transit_and_named() -> None:
    balance = Balance({"leads": SYNC})
    balance.received(event(1))
    [line] = balance.lines()
    assert line.standings == {Standing.in_transit: 1}
    assert line.open == 1
    assert [r[0] for r in balance.overdue(before_ms=8_000_000)] == [ids.row_id("e1", "leads")]


def test_a_repeat_is_a_record_of_its_own_with_fate_duplicate() -> None:
    balance = Balance({"leads": SYNC})
    for _ in range(3):
        balance.received(event(1))
    balance.noted(note(1, Standing.written))
    assert balance.difference == 2, "two repeats have no fate yet"
    balance.noted(note(1, Standing.duplicate))
    balance.noted(note(1, Standing.duplicate))
    [line] = balance.lines()
    assert balance.difference == 0
    assert line.standings == {Standing.written: 1, Standing.duplicate: 2}


def test_a_fate_of_something_never_received_is_a_difference() -> None:
    balance = Balance({"leads": SYNC})
    balance.noted(note(1, Standing.written))
    assert balance.difference == 1
    assert balance.strangers == [ids.row_id("e1", "leads")]


def test_live_records_are_counted_under_the_hour_of_receipt() -> None:
    balance = Balance({"leads": SYNC})
    balance.received(event(1, run=""))
    balance.noted(note(1, Standing.written, run=""))
    [line] = balance.lines()
    assert (line.cohort.run, line.cohort.hour_ms) == ("", 7_200_000)


def test_another_syncs_run_is_not_counted() -> None:
    balance = Balance({"leads": SYNC})
    balance.received(event(1, run=ids.run_id("newsletter", "1")))
    assert balance.lines() == []


def test_the_last_standing_counts() -> None:
    balance = Balance({"leads": SYNC})
    balance.received(event(1))
    for standing in (Standing.out, Standing.parked, Standing.out, Standing.written):
        balance.noted(note(1, standing))
    [line] = balance.lines()
    assert line.standings == {Standing.written: 1}


def test_a_wait_that_has_a_name_is_shown_and_no_alarm() -> None:
    balance = Balance({"leads": SYNC})
    for n in (1, 2, 3):
        balance.received(event(n))
    balance.noted(note(1, Standing.waiting, code="account_closed", reason="unpaid"))
    balance.noted(note(2, Standing.waiting, code="behind"))
    balance.noted(note(3, Standing.out))
    assert [r[0] for r in balance.overdue(before_ms=8_000_000)] == [ids.row_id("e3", "leads")]
    assert {w.why: n for w, (n, _) in balance.waits().items()} == {
        "account_closed (unpaid)": 1, "behind": 1,
    }  # fmt: skip


def test_what_was_released_and_has_not_gone_on_is_an_alarm() -> None:
    balance = Balance({"leads": SYNC})
    balance.received(event(1))
    balance.noted(note(1, Standing.waiting, code="released", reason="mended"))
    assert len(balance.overdue(before_ms=8_000_000)) == 1
    assert balance.waits() == {}


def test_a_record_that_an_act_has_made_is_received_when_the_journal_says_so() -> None:
    balance = Balance({"leads": SYNC})
    balance.noted(note(1, Standing.waiting, run="", code="resent"))
    balance.noted(note(1, Standing.out, run=""))
    [line] = balance.lines()
    assert (line.received, line.standings, line.difference) == (1, {Standing.out: 1}, 0)
    assert balance.strangers == []

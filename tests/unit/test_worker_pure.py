"""The worker's decisions without Kafka or HTTP: checkpoints, lanes, matching, words, gates."""

from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import Found, ObjectSpec, Row
from connectors.gate import Gate
from connectors.handover import Inherited
from connectors.intake import Record
from connectors.lanes import Item, Lane, Lanes, Place, Stage, Taken
from connectors.matching import verdict
from connectors.offsets import METADATA_BYTES_MAX, STRETCH_MAX, Stretch
from connectors.outcome import Parked, Returned, Unknown, Written
from connectors.partition import HOLD_S, Partition
from connectors.rows import item_of
from connectors.settling import AGAIN, Request, Settled, redacted, sends_of
from connectors.wire import Wire
from schemas.codec import Codec
from schemas.commands import Priority, UploadBatch
from schemas.events import PlatformEvent
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing
from schemas.outcomes import OutcomeKind, RecordOutcome

# ---- offsets


@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_no_message_is_lost_and_none_is_done_twice_whatever_finishes_first(data):
    """A log with gaps, messages that finish in any order, and crashes in between."""
    gaps = data.draw(
        st.lists(st.one_of(st.integers(1, 5), st.just(9_000)), min_size=1, max_size=60)
    )
    offsets = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    done: Counter[int] = Counter()
    committed, metadata = data.draw(st.integers(0, offsets[0])), ""
    for _ in range(data.draw(st.integers(1, 4))):
        stretch = Stretch(committed, metadata)
        unread = [o for o in offsets if o >= committed]
        in_hand: list[int] = []
        for _ in range(data.draw(st.integers(0, 80))):
            if unread and stretch.room(unread[0]) and data.draw(st.booleans()):
                offset = unread.pop(0)
                if stretch.take(offset):
                    in_hand.append(offset)
            elif in_hand:
                offset = in_hand.pop(data.draw(st.integers(0, len(in_hand) - 1)))
                stretch.finish(offset)
                done[offset] += 1
            assert stretch.room(unread[0]) if unread and not in_hand else True
            committed, metadata = stretch.checkpoint()
        assert stretch.in_hand == len(in_hand)
        # a crash: what is in hand is forgotten, what was committed is not
    stretch = Stretch(committed, metadata)
    for offset in [o for o in offsets if o >= committed]:
        if stretch.take(offset):
            stretch.finish(offset)
            done[offset] += 1
    assert done == Counter(offsets)
    assert stretch.checkpoint() == (offsets[-1] + 1, "")


def test_a_full_bitmap_fits_into_the_metadata():
    stretch = Stretch(1_000_000)
    for offset in range(1_000_000, 1_000_000 + STRETCH_MAX):
        assert stretch.room(offset)
        stretch.take(offset)
    assert not stretch.room(1_000_000 + STRETCH_MAX)
    for offset in range(1_000_001, 1_000_000 + STRETCH_MAX):
        stretch.finish(offset)
    base, metadata = stretch.checkpoint()
    assert base == 1_000_000
    assert len(metadata) < METADATA_BYTES_MAX
    again = Stretch(base, metadata)
    assert again.take(1_000_000)
    assert not any(again.take(o) for o in range(1_000_001, 1_000_000 + STRETCH_MAX))
    again.finish(1_000_000)
    assert again.checkpoint() == (1_000_000 + STRETCH_MAX, "")


def test_metadata_that_cannot_be_read_counts_as_empty():
    for text in ("", "2:AAAA", "1:!!", "nonsense", "1:"):
        assert Stretch(7, text).take(7)


# ---- lanes

SPEC = ObjectSpec(kind="state", repeat="safe", batch_rows_max=10, key_field="key")


def _raw(number: int, person: str, object_id: str = "", **fields) -> dict:
    return {
        "row_id": f"r{number}", "event_id": f"e{number}", "person": person, "record_no": number,
        "object_id": object_id, "occurred_ms": 1, "fields": msgspec.json.encode(fields),
        "removal": "",
    }  # fmt: skip


def _item(number: int, person: str, object_id: str = "", match: str = "", **fields) -> Item:
    taken = Taken(0, 1, number, 0.0)
    return item_of(_raw(number, person, object_id, **fields), taken, SPEC, "c:o", match)


def _lane(item: Item, priority: Priority = Priority.live) -> Lane:
    return Lane("write", priority, Stage.write, "c", "o", "", bool(item.row.object_id))


@settings(deadline=None)  # the machine may be busy
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 4), st.sampled_from(list(Priority))),
        max_size=60,
    ),
    rows_max=st.integers(1, 7),
    bytes_max=st.integers(1, 2_000),
    data=st.data(),
)
def test_every_row_goes_out_once_and_no_identity_twice_at_a_time(rows, rows_max, bytes_max, data):
    lanes, out, sent = Lanes(), [], Counter()
    for number, (person, thing, priority) in enumerate(rows):
        item = _item(number, f"p{person}", f"o{thing}" if thing else "", email="x" * thing * 50)
        lanes.put(item, _lane(item, priority))
    for _ in range(100):
        busy = [key for batch in out for item in batch for key in item.keys]
        assert len(busy) == len(set(busy))
        turns = lanes.turns()
        if turns and data.draw(st.booleans()):
            group, priority = data.draw(st.sampled_from(turns))
            cut = lanes.cut(group, priority, lambda lane: (rows_max, bytes_max))
            if cut is None:
                continue
            lane, batch = cut
            assert 1 <= len(batch) <= rows_max
            assert len(batch) == 1 or sum(i.byte_count(lane.stage) for i in batch) <= bytes_max
            assert {_lane(item, priority) for item in batch} == {lane}
            out.append(batch)
            sent.update(item.row.row_id for item in batch)
        elif out:
            for item in out.pop(data.draw(st.integers(0, len(out) - 1))):
                item.place = Place.gone
                lanes.release(item)
        elif not turns:
            break
    while out or lanes.turns():
        for item in out.pop() if out else ():
            item.place = Place.gone
            lanes.release(item)
        for group, priority in lanes.turns():
            if cut := lanes.cut(group, priority, lambda lane: (rows_max, bytes_max)):
                out.append(cut[1])
                sent.update(item.row.row_id for item in cut[1])
    assert sent == Counter(f"r{n}" for n in range(len(rows)))


def test_rows_of_one_person_go_out_in_the_order_in_which_they_came():
    lanes = Lanes()
    first, second, third = (_item(n, "p") for n in range(3))
    for item in (first, second, third):
        lanes.put(item, _lane(item))
    order = []
    while cut := lanes.cut("write", Priority.live, lambda lane: (10, 10_000)):
        [item] = cut[1]
        order.append(item)
        item.place = Place.gone
        lanes.release(item)
    assert order == [first, second, third]


def test_rows_that_were_given_back_are_not_kept_where_nothing_goes_out():
    lanes = Lanes()
    items = [_item(n, f"p{n}") for n in range(3)]
    for item in items:
        lanes.put(item, _lane(item))
    items[0].place = items[1].place = Place.gone
    assert lanes.full("write", Priority.live, lambda lane: (2, 10_000))  # counts what it keeps
    lanes.prune()
    assert not lanes.full("write", Priority.live, lambda lane: (2, 10_000))
    assert lanes.turns() == [("write", Priority.live)]
    items[2].place = Place.gone
    lanes.prune()
    assert not lanes.turns()


def test_of_too_many_the_newest_that_were_given_back_are_not_kept_behind_the_oldest():
    lanes = Lanes()
    oldest = _item(0, "p0")
    lanes.put(oldest, _lane(oldest))
    for n in range(1, 50):
        item = _item(n, f"p{n}")
        lanes.put(item, _lane(item))
        item.place = Place.gone
        lanes.prune()
        assert lanes.waiting(_lane(oldest)) == 1
    assert lanes.first(_lane(oldest)) is oldest


def test_a_row_that_learns_its_object_waits_for_whoever_has_it_out():
    lanes = Lanes()
    owner, other = _item(0, "p", "o1"), _item(1, "q", match="email", email="q@x")
    lanes.put(owner, _lane(owner))
    lanes.put(other, _lane(other))
    lanes.cut("write", Priority.live, lambda lane: (1, 10_000))
    lanes.cut("write", Priority.live, lambda lane: (1, 10_000))
    assert not lanes.claim(other, ("c:o", "object", "o1"))
    assert (other.place, other.holds) == (Place.waiting, False)
    assert not lanes.turns()
    owner.place = Place.gone
    lanes.release(owner)
    assert lanes.cut("write", Priority.live, lambda lane: (1, 10_000)) is not None
    assert lanes.claim(other, ("c:o", "object", "o1"))
    lanes.release(other)
    assert lanes.claim(_item(2, "z"), ("c:o", "object", "o1"))


def test_rows_that_are_appended_are_not_serialised():
    fact = ObjectSpec(kind="fact", repeat="unsafe", batch_rows_max=10)
    lanes = Lanes()
    for n in range(5):
        item = item_of(_raw(n, "p"), Taken(0, 1, n, 0.0), fact, "c:o", "")
        lanes.put(item, _lane(item))
    cut = lanes.cut("write", Priority.live, lambda lane: (10, 10_000))
    assert cut is not None
    assert len(cut[1]) == 5


def test_an_address_that_is_the_identity_is_serialised_and_not_looked_for():
    spec = ObjectSpec(kind="state", repeat="safe", batch_rows_max=10, identity_field="address")
    one = item_of(_raw(1, "p", address="A@x"), Taken(0, 1, 1, 0.0), spec, "c:o", "address")
    two = item_of(_raw(2, "q", address="a@x"), Taken(0, 1, 2, 0.0), spec, "c:o", "address")
    assert one.match == ""
    assert set(one.keys) & set(two.keys) == {("c:o", "value", "a@x")}


# ---- matching


def _found(object_id: str, key: str = "") -> Found:
    return Found(object_id, msgspec.json.encode({"key": key}), b"{}")


def test_what_is_found_there_is_adopted_parked_or_made():
    assert verdict("p", [], "key", "Lead", "Email") is None
    assert verdict("p", [_found("1")], "key", "Lead", "Email") == Written("1")
    assert verdict("p", [_found("1"), _found("2")], "key", "Lead", "Email") == Parked(
        "ambiguous_match", "2 Lead objects with this Email", "Email"
    )
    # ours, from a request whose answer was lost: also among several
    assert verdict("p", [_found("1"), _found("2", "p")], "key", "Lead", "Email") == Written("2")
    taken = verdict("p", [_found("1", "q")], "key", "Lead", "Email")
    assert isinstance(taken, Parked)
    assert taken.code == "matched_another"


# ---- what is written


def _settled(outcome, request: Request | None, **fields) -> Settled:
    item = _item(7, "p", **fields)
    item.attempts = 2
    return Settled(item, outcome, request, 3, 1_000)


def test_outcomes_and_journal_of_a_command():
    codec = Codec.offline()
    request = Request("q1", 50, "POST /x", 200, 12)
    taken = Taken(0, 1, 5, 0.0, "a", "c", "o", "s", "s-1")
    refused = Parked("BAD", "not an address: ann@example", "email")
    taken.settled = [
        _settled(Written("id7"), request),
        _settled(refused, request, email="ann@example", n=12),
        _settled(Unknown("no answer"), request),
        _settled(Returned("quota used up", 99), None),
    ]
    sends = sends_of("tiny", [taken], Wire(codec))
    told = [codec.decode_as(RecordOutcome, s.value) for s in sends if s.topic == "outcomes.tiny"]
    assert [o.kind for o in told] == list(
        map(OutcomeKind, ("written", "parked", "unknown", "returned"))
    )
    assert {s.key for s in sends if s.topic == "outcomes.tiny"} == {"p"}
    assert told[0].object_id == "id7"
    assert (told[1].code, told[1].field, told[1].words) == ("BAD", "email", refused.words)
    assert (told[1].request_id, told[1].position, told[1].attempts) == ("q1", 3, 2)
    assert (told[3].until_ms, told[3].words, told[3].request_id) == (99, "quota used up", "")
    [entry] = [codec.decode_as(JournalEntry, s.value) for s in sends if s.topic == "journal"]
    assert (entry.kind, entry.request, entry.records) == (JournalKind.settled, "POST /x", 50)
    assert [n.standing for n in entry.rows] == [
        Standing.written, Standing.parked, Standing.parked,
    ]  # fmt: skip
    assert entry.rows[1].reason == "not an address: <email>"
    assert [(n.code, n.attempts, n.position) for n in entry.rows] == [
        ("", 2, 3), ("BAD", 2, 3), ("unknown", 2, 3),
    ]  # fmt: skip


def test_what_waits_is_written_again_with_its_attempts():
    codec = Codec.offline()
    taken = Taken(3, 1, 5, 0.0, "a", "c", "o", "s", "s-1", Priority.bulk, 5, 77)
    item = _item(7, "p", email="x")
    item.attempts = 2
    taken.again = [item]
    [send] = sends_of("tiny", [taken], Wire(codec))
    batch = codec.decode_as(UploadBatch, send.value)
    assert (send.topic, send.partition, send.key) == ("commands.tiny", 3, "a")
    assert (batch.priority, batch.sync, batch.run) == (Priority.bulk, "s", "s-1")
    assert batch.rows[0].model_dump() == item.raw
    assert send.headers is not None
    assert send.headers[0][0] == AGAIN
    assert msgspec.json.decode(send.headers[0][1]) == {"taken_ms": 77, "attempts": {"r7": 2}}


def test_the_quick_writers_agree_with_the_codec():
    codec = Codec.offline()
    wire = Wire(codec)
    outcome = RecordOutcome(
        row_id="r", person="p", connection="c", object_type="o", sync="s", at_ms=4,
        kind=OutcomeKind.parked, code="X", words="é",
    )  # fmt: skip
    assert wire.outcome(outcome.model_dump(exclude_unset=True)) == codec.encode(outcome)
    event = PlatformEvent(
        event_id="e", connection="c", platform="x", object_type="o", object_id="i",
        occurred_ms=1, received_ms=2, values=b"{}", payload=b"\0", changed=["a"],
    )  # fmt: skip
    assert wire.event(event.model_dump(exclude_unset=True)) == codec.encode(event)
    entry = JournalEntry(kind=JournalKind.page_fetched, at_ms=1, sync="s", cursor="z", last=True)
    written = wire.entry(JournalKind.page_fetched, [], at_ms=1, sync="s", cursor="z", last=True)
    assert written == codec.encode(entry)


QUICK = Wire(Codec.offline())


@settings(deadline=None)  # the machine may be busy
@given(
    st.text(max_size=200),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.sampled_from(OutcomeKind),
    st.none() | st.binary(max_size=100),
)
def test_the_quick_writers_agree_with_the_codec_on_any_value(text, number, kind, seen):
    codec, wire = QUICK.codec, QUICK
    outcome = RecordOutcome(
        row_id=text, person="p", connection=text, object_type="o", sync="s", at_ms=number,
        kind=kind, words=text, until_ms=number, position=-1, seen=seen,
    )  # fmt: skip
    given_ = outcome.model_dump(exclude_unset=True)
    assert wire.outcome(given_) == codec.encode(outcome)
    note = {"row_id": text, "event_id": "e", "record_no": number, "standing": "parked"}
    entry = JournalEntry(kind=JournalKind.settled, at_ms=number, rows=[RowNote(**note)] * 2)
    assert wire.entry(JournalKind.settled, [note, note], at_ms=number) == codec.encode(entry)


@settings(deadline=None)  # the machine may be busy
@given(
    st.text(max_size=200),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.sampled_from(OutcomeKind),
)
def test_what_many_have_in_common_is_written_as_the_codec_writes_it(text, number, kind):
    codec, wire = QUICK.codec, QUICK
    common = {
        "connection": text, "object_type": "o", "sync": text, "kind": kind.value, "words": text,
        "request_id": text, "attempts": 2, "at_ms": number,
    }  # fmt: skip
    write = wire.outcomes(common)
    for own in (
        {"row_id": "r", "person": text, "object_id": "", "position": 0},
        {"row_id": text, "person": "p", "object_id": text, "position": 499},
    ):
        assert write(**own) == codec.encode(RecordOutcome.model_validate(common | own))
    noted = {"standing": "parked", "code": text, "reason": text, "request_id": text}
    notes = [
        {"row_id": text, "event_id": f"e{n}", "person": "p", "record_no": n, "position": number,
         "attempts": n}
        for n in range(3)
    ]  # fmt: skip
    rows = [RowNote.model_validate(note | noted) for note in notes]
    entry = JournalEntry(kind=JournalKind.settled, at_ms=number, sync=text, rows=rows)
    written = wire.entry(JournalKind.settled, notes, noted, at_ms=number, sync=text)
    assert written == codec.encode(entry)


@settings(deadline=None)  # the machine may be busy
@given(
    st.dictionaries(st.text(min_size=1), st.text(min_size=3), max_size=5),
    st.lists(st.text(max_size=10)),
)
def test_no_value_of_ours_is_left_in_the_reason(fields, words):
    text = " ".join([*words, *fields.values()])
    said = redacted(text, fields)
    assert len(said) <= 300
    names = "".join(f"<{name}>" for name in fields)
    for value in fields.values():
        assert value not in said or value in names or any(value in f"<{n}>" for n in fields)


# ---- partitions and gates


def test_a_partition_defers_what_has_no_room_and_takes_it_later():
    part = Partition(0, 1, 10, "", Inherited())
    assert not part.defer(Record(0, 10, b"", None))
    part.stretch.take(10)
    assert part.defer(Record(0, 10 + STRETCH_MAX, b"", None))
    assert part.defer(Record(0, 10 + STRETCH_MAX + 1, b"", None))
    assert not list(part.with_room())
    part.stretch.finish(10)
    taken = [r.offset for r in part.with_room() if part.stretch.take(r.offset)]
    assert taken == [10 + STRETCH_MAX, 10 + STRETCH_MAX + 1]
    part.rows = part.rows_max
    assert part.defer(Record(0, 10 + STRETCH_MAX + 2, b"", None))


def test_what_counts_in_hand_are_rows_and_large_ones_by_their_size():
    part = Partition(0, 1, 0, "", Inherited())
    small, large = Taken(0, 1, 0, 100.0, left=500), Taken(0, 1, 1, 100.0, left=50)
    part.hold(small, Record(0, 0, bytes(400_000), None))
    assert part.rows == 500
    part.hold(large, Record(0, 1, bytes(1_000_000), None))
    assert part.rows == 500 + 1_000
    assert part.rows == small.weight + large.weight


def test_a_command_half_done_is_overdue_after_a_while():
    part = Partition(0, 1, 0, "", Inherited())
    fresh, half = Taken(0, 1, 0, 100.0), Taken(0, 1, 1, 100.0, first_s=100.0)
    part.open = {0: fresh, 1: half}
    assert part.overdue(100.0 + HOLD_S / 2) == []
    assert part.overdue(100.1 + HOLD_S) == [half]


def test_trouble_waits_longer_each_time_and_then_asks_something_cheap():
    gate = Gate()
    now_s, waits = 100.0, []
    for _ in range(4):
        gate.failed(now_s, "HTTP 503")
        gate.failed(now_s, "HTTP 503")  # under way at the same time: counts once
        waits.append(gate.until_s - now_s)
        now_s = gate.until_s
    assert waits == [0.5, 1.0, 2.0, 4.0]
    assert gate.probes
    assert not gate.open(now_s)
    gate.answered(now_s)
    assert gate.open(now_s)


def test_a_halt_lasts_until_somebody_acts_and_is_probed_less_and_less():
    gate, waits = Gate(), []
    for _ in range(3):
        gate.halt(0.0, 5, "key refused")
        assert not gate.open(1e9)
        waits.append(gate.until_s)
        gate.reopen(0.0)
        assert gate.open(0.0)
    assert waits == [15.0, 30.0, 60.0]  # a probe that succeeds is no proof that rows will
    gate.wrote()
    gate.halt(0.0, 5, "key refused")
    assert gate.until_s == 15.0


def test_what_a_person_closed_only_a_person_opens_and_nothing_is_asked_meanwhile():
    gate = Gate()
    gate.halt(0.0, 5, "key refused")
    gate.held = "closed by eve: wrong list"
    assert not gate.probes
    assert gate.shut == "closed by eve: wrong list"
    gate.reopen(1e6)
    assert not gate.open(1e6)
    gate.held = ""
    assert gate.open(1e6)
    gate.halt(1e6, 5, "key refused")
    assert gate.shut == "account halted: key refused"


def test_rows_are_taken_apart_with_what_they_must_not_share():
    item = _item(1, "p", match="email", email=" Ann@X.org ")
    assert item.match == "Ann@X.org"
    assert item.keys == (("c:o", "person", "p"), ("c:o", "value", "ann@x.org"))
    known = _item(1, "p", "o1", match="email", email="ann@x.org")
    assert known.match == ""
    assert known.keys == (("c:o", "person", "p"), ("c:o", "object", "o1"))
    broken = item_of({**_raw(1, "p"), "fields": b"["}, Taken(0, 1, 1, 0.0), SPEC, "c:o", "")
    assert broken.broken
    assert isinstance(broken.row, Row)


def test_a_row_can_be_moved_to_another_lane_wherever_it_waits():
    lanes = Lanes()
    first, behind, other = _item(0, "p"), _item(1, "p"), _item(2, "q")
    for item in (first, behind, other):
        lanes.put(item, _lane(item, Priority.bulk))
    lanes.cut("write", Priority.bulk, lambda lane: (1, 10_000))
    lanes.cut("write", Priority.bulk, lambda lane: (0, 10_000))
    lanes.move(behind, _lane(behind))
    lanes.move(other, _lane(other))
    assert lanes.turns() == [("write", Priority.live)]
    cut = lanes.cut("write", Priority.live, lambda lane: (10, 10_000))
    assert cut is not None
    assert other in cut[1]
    lanes.release(first)
    cut = lanes.cut("write", Priority.live, lambda lane: (10, 10_000))
    assert cut is not None
    assert cut[1] == [behind]
    assert lanes.turns() == []


def test_the_entry_of_a_large_job_is_several_that_fit_into_a_message():
    request = Request("req", 5_000, "PATCH /jobs/ingest/7", 200, 9)
    taken = Taken(0, 1, 0, 0.0, connection="c", object_type="o", sync="s", run="r")
    words = "x" * 300
    taken.settled = [_settled(Parked("NO", words), request) for _ in range(5_000)]
    wire = Wire(Codec.offline())
    journal = [send.value for send in sends_of("acme", [taken], wire) if send.topic == "journal"]
    entries = [wire.codec.decode(value) for value in journal]
    assert [len(entry.rows) for entry in entries] == [2_000, 2_000, 1_000]
    assert {entry.request_id for entry in entries} == {"req"}
    assert max(len(value) for value in journal if value) < 1_500_000

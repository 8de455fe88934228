"""The ledger: what is decided and not committed, without Kafka and without Faust."""

import pytest

from streams.engine import chunk as chunks
from streams.engine import ledger as ledgers
from streams.engine.chunk import Chunk, Record, State, Table, TooLarge
from streams.engine.ledger import Ledger, Member, Part, decode_ahead, encode_ahead


class Left(BaseException):
    """The worker would have ended here."""


@pytest.fixture(autouse=True)
def leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(why: str, **_: object) -> None:
        raise Left(why)

    for module in (chunks, ledgers):
        monkeypatch.setattr(module, "leave", leave)


class Rows:
    """A local store: what is committed."""

    def __init__(self, rows: dict[tuple[str, bytes], bytes] | None = None) -> None:
        self.rows = rows or {}

    def get(self, table: str, key: bytes) -> bytes | None:
        return self.rows.get((table, key))


ME = Member(3, "me")


@pytest.fixture
def ledger() -> Ledger:
    """Agents a (topic t) and b (topics t, u) on partition 0, everything at offset 10."""
    ledger = Ledger({"a": ("t",), "b": ("t", "u")}, ["out"], 1000)
    ledger.open(ME, [Part(0, Rows({("rows", b"old"): b"1"}))],
                {("t", 0): (10, ""), ("u", 0): (10, "")}, 0)  # fmt: skip
    return ledger


def records(first: int, count: int, topic: str = "t") -> list[Record]:
    return [Record(topic, 0, n, 0, b"k", b"%d" % n, ()) for n in range(first, first + count)]


def begun(ledger: Ledger, agent: str = "a", start: int = 10, count: int = 3) -> Chunk:
    chunk = ledger.begin(agent, ("t", 0), start, start + count, records(start, count), ledger.turn)
    assert chunk is not None
    return chunk


def decided(ledger: Ledger, agent: str, start: int, count: int, table: Table[bytes]) -> Chunk:
    chunk = begun(ledger, agent, start, count)
    with chunk.decide(table) as out:
        for record in chunk:
            table[b"k"] = record.value or b""
            out.emit("out", record.key, record.value)
    return chunk


@pytest.fixture
def table() -> Table[bytes]:
    return Table("rows", None, None)


def test_rows_are_seen_by_the_next_chunk_before_any_checkpoint(
    ledger: Ledger, table: Table[bytes]
) -> None:
    decided(ledger, "a", 10, 3, table)
    with begun(ledger, "a", 13).decide(table):
        assert table[b"k"] == b"12"
        assert table[b"old"] == b"1"


def test_rows_are_seen_while_their_checkpoint_runs_and_after(
    ledger: Ledger, table: Table[bytes]
) -> None:
    decided(ledger, "a", 10, 3, table)
    batch = ledger.take()
    assert batch is not None
    with begun(ledger, "a", 13).decide(table):
        assert table[b"k"] == b"12"
    assert isinstance(ledger.parts[0].store, Rows)
    ledger.parts[0].store.rows["rows", b"k"] = b"12"  # as the checkpoint does, before it lands
    ledger.landed(batch)
    assert ledger.parts[0].read("rows", b"k") == b"12"


def test_a_deleted_row_is_gone_though_the_store_still_has_it(
    ledger: Ledger, table: Table[bytes]
) -> None:
    with begun(ledger).decide(table):
        del table[b"old"]
        assert b"old" not in table
    with begun(ledger, "a", 13).decide(table):
        assert table.get(b"old") is None
    batch = ledger.take()
    assert batch is not None
    assert batch.rows == {0: {"rows": {b"old": None}}}


def test_changes_of_one_key_are_one_row_of_the_checkpoint(
    ledger: Ledger, table: Table[bytes]
) -> None:
    decided(ledger, "a", 10, 3, table)
    decided(ledger, "a", 13, 3, table)
    batch = ledger.take()
    assert batch is not None
    assert batch.rows == {0: {"rows": {b"k": b"15"}}}
    assert [value for _, value, _, _, _ in batch.outputs] == [b"%d" % n for n in range(10, 16)]


def test_a_checkpoint_commits_the_slowest_agent_and_notes_who_is_ahead(
    ledger: Ledger, table: Table[bytes]
) -> None:
    """Two agents read t; the group has one offset for it."""
    decided(ledger, "a", 10, 3, table)
    batch = ledger.take()
    assert batch is not None
    assert batch.offsets == {("t", 0): (10, "a+3")}
    ledger.landed(batch)
    assert ledger.take() is None
    decided(ledger, "b", 10, 3, Table("others", None, None))
    batch = ledger.take()
    assert batch is not None
    assert batch.offsets == {("t", 0): (13, "")}
    assert batch.vectors == {0: {"a": {"t": 13}, "b": {"t": 13, "u": 10}}}


def test_an_agent_that_was_ahead_is_not_given_a_record_twice(ledger: Ledger) -> None:
    """After a restart the source is read from the slowest agent's offset."""
    ledger.open(ME, [Part(0, Rows())], {("t", 0): (10, "a+2"), ("u", 0): (10, "")}, 0)
    chunk = begun(ledger, "a", 10, 3)
    assert [record.offset for record in chunk.records] == [12]
    assert (chunk.start, chunk.end) == (12, 13)
    assert ledger.begin("a", ("t", 0), 10, 12, records(10, 2), ledger.turn) is None
    assert len(begun(ledger, "b", 10, 3)) == 3


def test_a_gap_before_a_chunk_ends_the_worker(ledger: Ledger) -> None:
    with pytest.raises(Left, match="records missing"):
        ledger.begin("a", ("t", 0), 11, 12, records(11, 1), ledger.turn)


def test_a_chunk_decided_twice_ends_the_worker(ledger: Ledger, table: Table[bytes]) -> None:
    first, second = begun(ledger), begun(ledger)
    with first.decide(table):
        pass
    with pytest.raises(Left, match="decided twice"), second.decide(table):
        pass


def test_no_chunk_begins_once_a_rebalance_has_begun(ledger: Ledger) -> None:
    ledger.revocations += 1  # as the consumer thread does
    assert ledger.begin("a", ("t", 0), 10, 11, records(10, 1), ledger.turn) is None


def test_a_chunk_of_another_assignment_leaves_no_trace(ledger: Ledger, table: Table[bytes]) -> None:
    chunk = begun(ledger)
    ledger.open(ME, [Part(0, Rows())], {("t", 0): (10, ""), ("u", 0): (10, "")}, 0)
    with chunk.decide(table) as out:
        table[b"k"] = b"x"
        out.emit("out", b"k", b"x")
    assert chunk.state is State.DROPPED
    assert ledger.take() is None
    assert ledger.parts[0].read("rows", b"k") is None


def test_what_is_not_committed_is_forgotten_with_its_partitions(
    ledger: Ledger, table: Table[bytes]
) -> None:
    decided(ledger, "a", 10, 3, table)
    ledger.drop()
    assert ledger.take() is None
    assert not ledger.outputs


def test_a_failed_chunk_leaves_no_trace_and_comes_again_in_pieces(
    ledger: Ledger, table: Table[bytes]
) -> None:
    chunk = ledger.begin("a", ("t", 0), 10, 20, records(12, 3), ledger.turn)  # gaps around
    assert chunk is not None
    with chunk.decide(table) as out:
        for record in chunk:
            table[b"k"] = b"x"
            out.emit("out", b"k", b"x")
            if record.offset == 13:
                raise ValueError("bad")
    assert chunk.state is State.FAILED
    assert str(chunk.error) == "bad"
    assert ledger.take() is None
    pieces = list(chunk.one_by_one())
    assert [(p.start, p.end, p.records[0].offset) for p in pieces] == [
        (10, 13, 12), (13, 14, 13), (14, 20, 14)]  # fmt: skip
    for piece in pieces:
        with piece.decide(table):
            pass
    batch = ledger.take()
    assert batch is not None
    assert batch.offsets == {("t", 0): (10, "a+10")}


def test_an_exception_outside_of_the_records_is_not_a_record_s(
    ledger: Ledger, table: Table[bytes]
) -> None:
    with pytest.raises(RuntimeError, match="bug"), begun(ledger).decide(table):
        raise RuntimeError("bug")


@pytest.mark.parametrize("what", ["key", "value", "headers"])
def test_an_output_over_the_limit_parks_its_record(
    ledger: Ledger, table: Table[bytes], what: str
) -> None:
    big = b"x" * 1000
    chunk = begun(ledger)
    with chunk.decide(table) as out:
        for _ in chunk:
            out.emit(
                "out",
                big if what == "key" else b"k",
                big if what == "value" else b"v",
                [("h", big)] if what == "headers" else (),
            )
    assert isinstance(chunk.error, TooLarge)


def test_a_row_over_the_limit_parks_its_record(ledger: Ledger, table: Table[bytes]) -> None:
    chunk = begun(ledger)
    with chunk.decide(table):
        for _ in chunk:
            table[b"k"] = b"x" * 1000
    assert isinstance(chunk.error, TooLarge)
    with begun(ledger).decide(table):
        assert table.get(b"k") is None


@pytest.mark.parametrize("key", [b"", b"\0meta"])
def test_keys_that_the_store_keeps_for_itself_are_refused(
    ledger: Ledger, table: Table[bytes], key: bytes
) -> None:
    chunk = begun(ledger)
    with chunk.decide(table):
        for _ in chunk:
            table[key] = b"x"
    assert isinstance(chunk.error, ValueError)


def test_an_output_to_a_topic_that_was_not_named_ends_the_worker(
    ledger: Ledger, table: Table[bytes]
) -> None:
    with pytest.raises(Left, match="not named"), begun(ledger).decide(table) as out:
        out.emit("elsewhere", b"k", b"v")


def test_a_table_of_two_agents_ends_the_worker(ledger: Ledger, table: Table[bytes]) -> None:
    decided(ledger, "a", 10, 1, table)
    with pytest.raises(Left, match="two agents"), begun(ledger, "b", 10).decide(table):
        pass


def test_a_table_is_closed_outside_of_a_decision(ledger: Ledger, table: Table[bytes]) -> None:
    with begun(ledger).decide(table):
        pass
    with pytest.raises(RuntimeError, match="only inside"):
        table[b"k"] = b"x"
    with pytest.raises(RuntimeError, match="only inside"):
        table.get(b"k")


def test_empty_makes_the_row_that_is_not_there(ledger: Ledger) -> None:
    class Text:
        def encode(self, row: str) -> bytes:
            return row.encode()

        def decode(self, data: bytes) -> str:
            return data.decode()

    names: Table[str] = Table("names", Text(), lambda: "nobody")
    with begun(ledger).decide(names):
        assert names[b"k"] == "nobody"
        assert b"k" not in names
        names[b"k"] = "Ada"
    with begun(ledger, "a", 13).decide(names):
        assert names[b"k"] == "Ada"


@pytest.mark.parametrize("member", [Member(-1, ""), Member(-1, "me"), Member(3, "")])
def test_a_member_without_generation_never_opens(ledger: Ledger, member: Member) -> None:
    """The broker takes (-1, '') without any check, so such a commit would not be fenced."""
    with pytest.raises(Left, match="no generation"):
        ledger.open(member, [], {}, 0)


def test_lag_counts_from_the_slowest_agent(ledger: Ledger, table: Table[bytes]) -> None:
    decided(ledger, "a", 10, 3, table)
    assert ledger.lag({("t", 0): 15, ("u", 0): 9}) == {("t", 0): 5, ("u", 0): 0}


@pytest.mark.parametrize("ahead", [{}, {"a": 1}, {"shape": 12, "admit+x": 3}])
def test_who_is_ahead_survives_the_offset_s_metadata(ahead: dict[str, int]) -> None:
    assert decode_ahead(encode_ahead(ahead)) == ahead


def test_state_newer_than_the_group_is_found() -> None:
    check = ledgers.check_vector
    vector = {"a": {"t": 12}}
    assert check(vector, 0, {("a", "t", 0): 12}) == ""
    assert check(vector, 0, {("a", "t", 0): 13}) == ""
    assert check(vector, 0, {}) == ""  # the agent is gone, or does not read it any more
    assert "a" in check(vector, 0, {("a", "t", 0): 11})

"""What became of an event, told as spans of one trace."""

import itertools

import pytest

from audit.spans import Span, Spans
from schemas.base import Message
from schemas.events import PlatformEvent
from schemas.journal import JournalEntry, JournalKind, RowNote, Standing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def event(name: str = "e1", trace: str = f"00-{TRACE}-{PARENT}-01") -> PlatformEvent:
    return PlatformEvent(
        event_id=name, connection="hub", platform="hubspot", object_type="contact", object_id="7",
        occurred_ms=900, received_ms=1_000, trace=trace, values=b"{}", payload=b"{}",
    )  # fmt: skip


def entry(kind: JournalKind, at_ms: int, *notes: RowNote, sync: str = "leads") -> JournalEntry:
    return JournalEntry(kind=kind, at_ms=at_ms, sync=sync, rows=list(notes))


def note(
    standing: Standing, row: str = "r1", was: str = "", request: str = "", name: str = "e1"
) -> RowNote:
    return RowNote(
        row_id=row, event_id=name, standing=standing, was=was, code="why", request_id=request
    )


OUT = entry(JournalKind.decided, 1_200, note(Standing.out))
FILTERED = entry(JournalKind.decided, 1_250, note(Standing.filtered, "r2"), sync="newsletter")
WRITTEN = entry(JournalKind.settled, 1_500, note(Standing.written, request="q1"))
SETTLED = entry(JournalKind.decided, 1_600, note(Standing.written, was="out"))


def told(*messages: Message, spans: Spans | None = None) -> dict[str, Span]:
    spans = spans or Spans()
    return {s.name: s for m in messages for s in spans.take(m, written_ms=1_010)}


def test_each_step_is_a_span_on_the_senders_trace() -> None:
    spans = told(event(), OUT, FILTERED, WRITTEN, SETTLED)
    assert {name: (s.begin_ms, s.end_ms) for name, s in spans.items()} == {
        "receive hub": (1_000, 1_010),
        "decide leads": (1_000, 1_200),
        "decide newsletter": (1_000, 1_250),
        "upload leads": (1_200, 1_500),
    }
    assert {(s.trace_id, s.parent_id) for s in spans.values()} == {
        (int(TRACE, 16), int(PARENT, 16))
    }
    assert len({s.span_id for s in spans.values()}) == 4
    assert spans["decide newsletter"].about["syncline.standing"] == "filtered"
    assert spans["upload leads"].about["syncline.request_id"] == "q1"
    assert not any(s.failed for s in spans.values())


@pytest.mark.parametrize("order", [p for p in itertools.permutations(range(3)) if p != (0, 1, 2)])
def test_topics_may_be_read_in_any_order(order: tuple[int, ...]) -> None:
    """The journal of an event may be read before the event, as they are topics of their own."""
    messages = (event(), OUT, WRITTEN)
    spans = told(*(messages[n] for n in order))
    assert set(spans) == {"receive hub", "decide leads", "upload leads"}
    assert spans == {**told(*messages), "upload leads": spans["upload leads"]}


def test_telling_it_twice_gives_the_same_ids() -> None:
    assert told(event(), OUT, WRITTEN) == told(event(), OUT, WRITTEN)
    spans = Spans()
    told(event(), spans=spans)
    assert told(event(), spans=spans) == {}


def test_a_refusal_is_an_error() -> None:
    spans = told(event(), OUT, entry(JournalKind.settled, 1_500, note(Standing.parked)))
    assert [s.name for s in spans.values() if s.failed] == ["upload leads"]


def test_what_is_not_sampled_or_of_no_trace_is_left_alone() -> None:
    for trace in ("", f"00-{TRACE}-{PARENT}-00", "nonsense", "00-xx-yy-01"):
        assert told(event(trace=trace), OUT, WRITTEN) == {}
    assert told(event(), OUT, spans=Spans(ratio=0.0)) == {}
    run = OUT.model_copy(update={"run": "leads-1"})
    assert set(told(event(), run)) == {"receive hub"}


def test_what_is_left_alone_does_not_push_out_what_was_read_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("audit.spans.KEPT_MAX", 2)
    spans = Spans()
    told(OUT, spans=spans)
    for trace in ("", f"00-{TRACE}-{PARENT}-00", "nonsense"):
        name = f"left {trace}"
        left = entry(JournalKind.decided, 1_200, note(Standing.out, name, name=name))
        assert told(event(name, trace), left, spans=spans) == {}
    assert set(told(event(), spans=spans)) == {"receive hub", "decide leads"}


def test_the_share_is_of_traces() -> None:
    spans = Spans(ratio=0.25)
    count = 4_000
    kept = sum(
        bool(
            spans.take(event(f"e{n}", f"00-{n * 0x9E3779B97F4A7C15 % 2**128:032x}-{PARENT}-01"), 1)
        )
        for n in range(1, count)
    )
    assert 0.2 < kept / count < 0.3

"""Faults put into the steps by hand, as patches: the simulation must find each of them.

One line says what a careless change would have done; the patch does it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import patch

from schemas.events import Origin
from schemas.outcomes import OutcomeKind
from streams.steps import (
    acts,
    admit,
    audience,
    echo,
    joins,
    people,
    reading,
    runs,
    sending,
    settle,
    shape,
    work,
)  # fmt: skip
from streams.steps.rows import Destination, Values
from streams.steps.values import Ruling, fold

__all__ = ["FAULTS", "TWO_WAY_FAULTS"]


def _latest_wins() -> AbstractContextManager[Any]:
    true = shape.patch

    def patched(known: Values, seen: Any, fields: Any, at_ms: int, **more: Any) -> Any:
        return true(known, seen, fields, max(at_ms, known.newest() + 1), **more)

    return patch.object(shape, "patch", patched)


def _two_rows_out() -> AbstractContextManager[Any]:
    true = shape.advance

    def patched(work: Any, there: Any) -> None:
        if any(s.next for s in there.syncs.values()):
            there.out = None
        true(work, there)

    return patch.object(shape, "advance", patched)


def _any_outcome_settles() -> AbstractContextManager[Any]:
    true = settle.settle

    def patched(work: Any, outcome: Any) -> None:
        there = work.person.destinations.get(f"{outcome.connection}:{outcome.object_type}")
        if there is not None and there.out is not None:
            outcome = outcome.model_copy(update={"row_id": there.out.row_id})
        true(work, outcome)

    return patch.object(people, "settle", patched)


def _commanded_is_written() -> AbstractContextManager[Any]:
    true = sending._depart

    def patched(work: Any, plan: Any, there: Any, row: Any) -> None:
        true(work, plan, there, row)
        if there.out is row:
            there.written = fold(there.written, row.fields)

    return patch.object(sending, "_depart", patched)


def _returned_is_forgotten() -> AbstractContextManager[Any]:
    true = settle._settle_state

    def patched(work: Any, there: Any, row: Any, outcome: Any) -> None:
        if outcome.kind is not OutcomeKind.returned:
            true(work, there, row, outcome)

    return patch.object(settle, "_settle_state", patched)


def _repeats_pass() -> AbstractContextManager[Any]:
    return patch.object(admit, "seen", lambda link, event: False)


def _nobody_waits_for_the_address() -> AbstractContextManager[Any]:
    def patched(link: Any, event: Any, catalog: Any, out: Any) -> Any:
        link.person = link.person or admit.person_key(event.object_key)
        link.state = "linked"
        admit._pass_on(link, event, catalog.identity(event), out)
        return link

    true = admit.admit

    def early(link: Any, event: Any, catalog: Any, out: Any) -> Any:
        if link.state == "asking" and not admit.seen(link, event):
            return patched(link, event, catalog, out)
        return true(link, event, catalog, out)

    return patch("streams.steps.links.admit", early)


def _release_sends_what_was_refused() -> AbstractContextManager[Any]:
    def patched(work: Any, plan: Any, there: Any, row: Any, *, invalid: bool) -> None:
        work.person.seq += 1
        row.seq = work.person.seq
        row.fields = Values(2**60, KEPT.get(row.row_id, {}))
        if row.fields.values:
            sending.offer(work, plan, there, row)
            sending.advance(work, there)
        else:
            shape.map_again(work, plan, there, row, invalid=invalid)

    true = sending.park_again

    def park(work: Any, owed: Any, **more: Any) -> None:
        KEPT[owed.row.row_id] = dict(owed.row.fields.values)
        true(work, owed, **more)

    return _both(
        patch.object(acts, "map_again", patched), patch.object(sending, "park_again", park)
    )


KEPT: dict[str, dict[str, Any]] = {}


def _a_waiting_person_is_lost() -> AbstractContextManager[Any]:
    true = work.Lanes.join

    def patched(self: Any, lane: str, person: str) -> None:
        queue = self._index.lanes.get(lane)
        if queue is None or queue.waiting != 1:
            true(self, lane, person)

    return patch.object(work.Lanes, "join", patched)


def _a_run_ends_early() -> AbstractContextManager[Any]:
    return patch.object(runs, "_open", lambda run: 0)


def _cancelling_drops_live_changes() -> AbstractContextManager[Any]:
    def merge(work: Any, earlier: Any, later: Any) -> Any:
        later.fields = fold(earlier.fields, later.fields)
        work.note(earlier, sending.Standing.superseded, "newer", by=later.row_id)
        return later

    return _both(patch.object(sending, "merge", merge), patch.object(settle, "merge", merge))


def _read_when_received() -> AbstractContextManager[Any]:
    true = shape.decide

    def patched(work: Any, record: Any, *more: Any) -> None:
        event = record.event
        if event.origin is Origin.fetch:
            event = event.model_copy(update={"occurred_ms": event.received_ms})
        true(work, record.model_copy(update={"event": event}), *more)

    return patch.object(people, "decide", patched)


def _half_known() -> AbstractContextManager[Any]:
    return patch.object(reading, "_unknown", lambda *_: False)


def _ties_to_the_last() -> AbstractContextManager[Any]:
    true = shape.patch

    def patched(*args: Any, **more: Any) -> Any:
        return true(*args, **{**more, "doubts": None})

    return patch.object(shape, "patch", patched)


def _reads_without_end() -> AbstractContextManager[Any]:
    true = shape.wait

    def patched(work: Any, source: Any, *more: Any) -> None:
        source.reading = 0
        true(work, source, *more)

    return patch.object(shape, "wait", patched)


def _nothing_is_sent_on() -> AbstractContextManager[Any]:
    true = joins.here

    def patched(work: Any, home: str, message: Any, object_key: str = "") -> bool:
        moved = work.person.joins
        return not (moved and moved.moved_to) and true(work, home, message, object_key)

    return patch.object(people, "here", patched)


def _hear_as_it_comes(work: Any, event: Any, at_ms: int) -> None:
    work.person.consent = (work.person.consent[0] + 1, event.kind.value)


class _both(AbstractContextManager[Any]):  # noqa: N801 - reads as the function that it is
    def __init__(self, *patches: AbstractContextManager[Any]) -> None:
        self.patches = patches

    def __enter__(self) -> None:
        for each in self.patches:
            each.__enter__()

    def __exit__(self, *args: object) -> None:
        for each in self.patches:
            each.__exit__(None, None, None)


class Fault(NamedTuple):
    near: int
    """A seed that finds it: tried before all others."""
    put_in: Callable[[], AbstractContextManager[Any]]


FAULTS: dict[str, Fault] = {
    "the latest event wins, not the newest": Fault(0, _latest_wins),
    "a second row goes out while one is out": Fault(0, _two_rows_out),
    "any outcome settles whatever is out": Fault(23, _any_outcome_settles),
    "what was commanded counts as written": Fault(72, _commanded_is_written),
    "a row that is given back is forgotten": Fault(0, _returned_is_forgotten),
    "a repeat passes as a new event": Fault(0, _repeats_pass),
    "an event overtakes those that wait for the address": Fault(0, _nobody_waits_for_the_address),
    "a release sends what was refused, as it was": Fault(23, _release_sends_what_was_refused),
    "the second person to wait in a lane is forgotten": Fault(0, _a_waiting_person_is_lost),
    "a run ends before its records have": Fault(0, _a_run_ends_early),
    "cancelling a run drops the live change it carried": Fault(1, _cancelling_drops_live_changes),
    "a page counts as read when it is received": Fault(2, _read_when_received),
    "a record is decided with half of its object known": Fault(4, _half_known),
    "of two changes in one millisecond the last to come wins": Fault(107, _ties_to_the_last),
    "an object is read again while it is being read": Fault(0, _reads_without_end),
    "a person moves while a row is out": Fault(1, lambda: patch.object(
        joins, "_something_out", lambda person: False
    )),
    "what comes for somebody who has moved is dropped": Fault(0, _nothing_is_sent_on),
    "two who were joined are not decided anew": Fault(23, lambda: patch.object(
        joins, "_decide_anew", lambda *_, **__: None
    )),
    "the source that rules counts no more than others": Fault(29, lambda: patch.object(
        Ruling, "over", lambda _, stamped: stamped
    )),
    "a merged object is decided before it was read": Fault(142, lambda: patch.object(
        shape, "all_in_doubt", lambda *_: None
    )),
    "whoever is on no list counts as a member": Fault(27, lambda: patch.object(
        audience, "member", lambda *_: True
    )),
    "whoever said no is subscribed by the next row": Fault(1, lambda: _both(
        patch.object(shape, "overlay", lambda *_: None),
        patch.object(sending, "overlay", lambda *_: None),
    )),
    "an older word on consent counts as the last": Fault(38, lambda: patch.object(
        shape, "hear", _hear_as_it_comes
    )),
}  # fmt: skip


def _as_new_as_its_arrival() -> AbstractContextManager[Any]:
    true = shape.told

    def patched(work: Any, source: Any, event: Any, seen: Any) -> Any:
        turns = true(work, source, event, seen)
        source.born.clear()
        return turns

    return patch.object(shape, "told", patched)


def _clobbered_is_an_echo() -> AbstractContextManager[Any]:
    true = echo.look

    def patched(work: Any, source: Any, event: Any) -> Any:
        seen = true(work, source, event)
        return seen and seen._replace(stamps={})

    return patch.object(shape, "look", patched)


TWO_WAY_FAULTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "our own writes are not remembered": lambda: patch.object(
        sending, "remember", lambda *_: None
    ),
    "what stands at the other side is not looked at": lambda: patch.object(
        shape, "look", lambda *_: None
    ),
    "an echo is as new as its arrival": _as_new_as_its_arrival,
    "a write that met a newer edit counts as an echo": _clobbered_is_an_echo,
    "a change that met a row of ours on its way is not read": lambda: patch.object(
        echo, "_met", lambda *_: False
    ),
    "what is on its way does not count": lambda: patch.object(
        shape, "stands", lambda there, row: echo.stands(Destination(written=there.written), row)
    ),
}  # fmt: skip

"""Persons who were forgotten: deleted at a source for the sake of privacy.

As soon as one sync says in its `kinds` what becomes of them (`forgotten: erase`), they are sent
nowhere any more: not live, by no run, no release, no resend and no replay, whichever sync it is.
What is known of them here goes at once: values, what waits, what was refused, what people have
mended. What stays is that they are forgotten, and of each destination the ids of objects that were
not taken away. Their address leads here for ever, by its keyed hash.
"""

from schemas.ids import row_id
from schemas.journal import Standing
from schemas.topics import FIXES
from streams.steps.reading import take_waiting
from streams.steps.rows import Destination, Row, Values
from streams.steps.sending import settle_parked
from streams.steps.work import Work

__all__ = ["ended", "forget_all", "refuse", "wipe"]


def refuse(work: Work, row: Row) -> None:
    """The record is about somebody who is forgotten: that is its fate."""
    reason = "deleted for the sake of privacy"
    work.note(row, Standing.filtered, "forgotten", reason=reason)


def forget_all(work: Work, at_ms: int) -> None:
    """All that is known and all that waits ends here; what is out is awaited. What stands at a
    destination is remembered until `wipe`: an erasure needs it to find its object."""
    person = work.person
    person.erased_ms = max(person.erased_ms, at_ms)
    for key, source in person.sources.items():
        for event, syncs in take_waiting(source):
            for sync in syncs:
                row = Row(
                    row_id=row_id(event.event_id, sync), event_id=event.event_id, sync=sync,
                    source=key, fields=Values(), run=event.run, record_no=event.record_no,
                    standing=Standing.held.value,
                )  # fmt: skip
                refuse(work, row)
        for name in source.fixes:
            work.out.send(FIXES, f"{work.key}|{key}|{name}", None)
    person.sources = {}
    for row in person.previews.values():
        refuse(work, row)
    person.previews = {}
    for there in person.destinations.values():
        _end_what_waits(work, there)


def _end_what_waits(work: Work, there: Destination) -> None:
    for state in there.syncs.values():
        for owed in (*state.invalid.values(), *((state.owed,) if state.owed else ())):
            if not owed.row.removal:
                settle_parked(work, state, owed)
                refuse(work, owed.row)
        if state.next is not None and not state.next.removal:
            refuse(work, state.next)
            state.next = None
    for name, fact in list(there.facts.items()):
        if fact.state != "out":
            del there.facts[name]
            refuse(work, fact.row)
            if fact.owed is not None:
                work.out.parked(name, None)


def ended(work: Work, row: Row) -> bool:
    """A row that was out when its person was forgotten has not been written -> whether it was one
    of theirs, and not what takes them away."""
    if not work.person.erased_ms or row.urgent:
        return False
    refuse(work, row)
    return True


def wipe(work: Work) -> None:
    """Leave no value where nothing is under way any more."""
    for target, there in list(work.person.destinations.items()):
        for name in [name for name, state in there.syncs.items() if state.idle()]:
            del there.syncs[name]
        if there.out is None and not there.syncs:
            there.written, there.maybe, there.sent, there.released = Values(), {}, {}, {}
            if there.blank():
                del work.person.destinations[target]

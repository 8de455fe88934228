"""A destination that was replaced, such as a refreshed sandbox: what we believe of it is void.

An act tells each partition; a person's row follows when it is next opened, and not while a row of
it is out, whose outcome speaks of what stood there before. What was owed or waits is kept. From
then on nothing is known to stand there, so all goes out, and each person is matched anew.
"""

from collections.abc import Mapping

from streams.steps.rows import Person, Values
from streams.steps.work import Work

__all__ = ["catch_up", "forget"]


def forget(work: Work, target: str) -> None:
    """`target`: `connection:object_type`."""
    work.index.forgotten[target] = work.index.forgotten.get(target, 0) + 1


def catch_up(person: Person, forgotten: Mapping[str, int]) -> None:
    """What has been forgotten since the person was opened last; or while it moved here, from where
    it may be ahead. `forgotten`: of its partition (Index)."""
    for target, times in forgotten.items():
        there = person.destinations.get(target)
        if person.forgotten.get(target, 0) >= times or (
            there is not None and there.out is not None
        ):
            continue
        person.forgotten[target] = times
        if there is not None:
            there.object_id, there.written, there.sent, there.also = "", Values(), {}, []
            there.released = {}
            if there.blank():
                del person.destinations[target]
        for key, source in list(person.sources.items()):
            if key.startswith(f"{target}:") and not (source.waiting or source.reading):
                del person.sources[key]

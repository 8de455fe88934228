"""Objects of one type in memory, and a ledger of every effective write to them.

An effect is a changed value or a new object. A repeated equal write is none: it is only counted.
The ledger keeps an entry of about 26 bytes plus the changed values; a creation keeps none, since
the values at creation are the present ones with the later changes taken back.
"""

from array import array
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

Values = dict[str, Any]


class Writer(Protocol):
    """Who writes: `number` is the request (0: a person in the platform's own screens)."""

    number: int
    at_ms: int
    dry: bool  # answer as if written, write nothing


class Obj:
    """One object. `number` counts them in the order of creation; values hold no None."""

    __slots__ = ("archived", "changed_ms", "created_ms", "id", "number", "values")

    def __init__(self, number: int, object_id: str, values: Values, created_ms: int) -> None:
        self.number, self.id, self.values = number, object_id, values
        self.created_ms = self.changed_ms = created_ms
        self.archived = False


class Index:
    """Objects by the value of a field; `fold` makes equal what the platform takes for equal."""

    def __init__(self, fold: Callable[[str], str] = str) -> None:
        self.fold = fold
        self.table: dict[str, list[Obj]] = {}

    def find(self, value: Any) -> list[Obj]:
        """Objects in use with this value, oldest first."""
        found = self.table.get(self.fold(str(value)), ())
        return [obj for obj in found if not obj.archived]

    def add(self, value: Any, obj: Obj) -> int:
        """-> how many objects have the value now."""
        found = self.table.setdefault(self.fold(str(value)), [])
        found.append(obj)
        return len(found)

    def remove(self, value: Any, obj: Obj) -> None:
        key = self.fold(str(value))
        found = self.table[key]
        found.remove(obj)
        if not found:
            del self.table[key]


class Kept(NamedTuple):
    """A store as it goes into a file."""

    objects: list[tuple[str, Values, int, int, bool]]
    seeded: int
    counts: tuple[int, int, int]
    columns: list[list[int]]
    changes: list[list[Any] | None]


class Store:
    """All objects of one type. `identity` names the indexed field that stands for one person."""

    def __init__(self, indexes: dict[str, Index], identity: str) -> None:
        self.indexes, self.identity = indexes, identity
        self.clear()

    def clear(self) -> None:
        self.objects: dict[str, Obj] = {}
        self.numbered: list[Obj] = []
        self.seeded = 0  # objects that were there before anybody wrote
        self.unchanged_rows = 0  # writes that changed nothing
        self.dry_rows = 0  # writes that a fault swallowed
        self.made_twice = 0  # creations that found an object of the same identity in use
        self._by_change: list[tuple[int, int]] = []  # (changed_ms, number); old places stay
        for index in self.indexes.values():
            index.table.clear()
        self._at_ms, self._who = array("q"), array("I")
        self._request, self._row = array("I"), array("H")
        self._changes: list[tuple[Any, ...] | None] = []

    # -- writing

    def seed(self, object_id: str, values: Values, created_ms: int, changed_ms: int) -> Obj:
        """An object that was there before: no entry in the ledger."""
        obj = self._add(object_id, values, created_ms)
        obj.changed_ms = changed_ms
        insort(self._by_change, (changed_ms, obj.number))
        self.seeded = len(self.numbered)
        return obj

    def create(self, by: Writer, row: int, object_id: str, values: Values) -> Obj:
        """`values` becomes the store's own. An id that exists is a bug."""
        if by.dry:
            self.dry_rows += 1
            return Obj(-1, object_id, values, by.at_ms)
        same = self.indexes[self.identity].table.get(
            self.indexes[self.identity].fold(str(values.get(self.identity)))
        )
        if same and any(not other.archived for other in same):
            self.made_twice += 1
        obj = self._add(object_id, values, by.at_ms)
        insort(self._by_change, (by.at_ms, obj.number))
        self._note(by, row, obj, None)
        return obj

    def update(self, by: Writer, row: int, obj: Obj, values: Values) -> tuple[Any, ...]:
        """-> the changes, flat: field, old, new, field, …; None clears. Empty: nothing changed."""
        old = obj.values
        changes: list[Any] = []
        for name, value in values.items():
            before = old.get(name)
            if before != value:
                changes += (name, before, value)
        if not changes:
            self.unchanged_rows += 1
            return ()
        flat = tuple(changes)
        if by.dry:
            self.dry_rows += 1
            return flat
        for place in range(0, len(flat), 3):
            self._set(obj, *flat[place : place + 3])
        self.touch(by, obj)
        self._note(by, row, obj, flat)
        return flat

    def archive(self, by: Writer, row: int, obj: Obj) -> None:
        """Deleted, as a user sees it: no longer found, still explained."""
        if not obj.archived and not by.dry:
            obj.archived = True
            self.touch(by, obj)
            self._note(by, row, obj, ("(deleted)", False, True))

    def touch(self, by: Writer, obj: Obj) -> None:
        if obj.changed_ms != by.at_ms and not by.dry:
            obj.changed_ms = by.at_ms
            insort(self._by_change, (by.at_ms, obj.number))
            if len(self._by_change) > 2 * len(self.numbered) + 10_000:
                self._by_change = sorted((o.changed_ms, o.number) for o in self.numbered)

    def rename(self, obj: Obj, object_id: str) -> None:
        """Gives an object another id, where the id is made from a value."""
        del self.objects[obj.id]
        obj.id = object_id
        self.objects[object_id] = obj

    def _add(self, object_id: str, values: Values, created_ms: int) -> Obj:
        assert object_id not in self.objects
        obj = Obj(len(self.numbered), object_id, values, created_ms)
        self.numbered.append(obj)
        self.objects[object_id] = obj
        for field, index in self.indexes.items():
            value = values.get(field)
            if value is not None:
                index.add(value, obj)
        return obj

    def _set(self, obj: Obj, name: str, before: Any, value: Any) -> None:
        index = self.indexes.get(name)
        if index is not None:
            if before is not None:
                index.remove(before, obj)
            if value is not None:
                index.add(value, obj)
        if value is None:
            obj.values.pop(name, None)
        else:
            obj.values[name] = value

    def _note(self, by: Writer, row: int, obj: Obj, changes: tuple[Any, ...] | None) -> None:
        self._at_ms.append(by.at_ms)
        self._who.append(obj.number)
        self._request.append(by.number)
        self._row.append(row)
        self._changes.append(changes)

    # -- between two runs

    def keep(self) -> Kept:
        ledger = (self._at_ms, self._who, self._request, self._row)
        return Kept(
            [(o.id, o.values, o.created_ms, o.changed_ms, o.archived) for o in self.numbered],
            self.seeded,
            (self.unchanged_rows, self.dry_rows, self.made_twice),
            [column.tolist() for column in ledger],
            [None if flat is None else list(flat) for flat in self._changes],
        )

    def restore(self, kept: Kept) -> None:
        self.clear()
        for object_id, values, created_ms, changed_ms, archived in kept.objects:
            self.seed(object_id, values, created_ms, changed_ms).archived = archived
        self.seeded = kept.seeded
        self.unchanged_rows, self.dry_rows, self.made_twice = kept.counts
        for column, filled in zip(
            (self._at_ms, self._who, self._request, self._row), kept.columns, strict=True
        ):
            column.extend(filled)
        self._changes = [None if flat is None else tuple(flat) for flat in kept.changes]

    # -- reading

    def alive(self) -> Iterator[Obj]:
        return (obj for obj in self.numbered if not obj.archived)

    def changed_since(self, since_ms: int) -> Iterator[Obj]:
        """Objects by (changed_ms, number), also archived ones, from `since_ms` on, each once."""
        place = bisect_left(self._by_change, (since_ms, -1))
        while place < len(self._by_change):
            changed_ms, number = self._by_change[place]
            obj = self.numbered[number]
            if obj.changed_ms == changed_ms:
                yield obj
            place += 1

    # -- the ledger

    def entries(
        self, since_ms: int = 0, object_id: str = "", updates_only: bool = False
    ) -> Iterator[dict[str, Any]]:
        """What was written, oldest first: `{at_ms, id, request, row, created | changes}`.

        `changes` is `{field: [old, new]}`. Request 0 is a person in the platform's own screens.
        """
        wanted = self.objects[object_id].number if object_id in self.objects else -1
        for place in range(bisect_left(self._at_ms, since_ms), len(self._at_ms)):
            who, flat = self._who[place], self._changes[place]
            if (object_id and who != wanted) or (updates_only and flat is None):
                continue
            entry: dict[str, Any] = {
                "at_ms": self._at_ms[place],
                "id": self.numbered[who].id,
                "request": self._request[place],
                "row": self._row[place],
            }
            if flat is None:
                entry["created"] = self._at_birth(who, place)
            else:
                entry["changes"] = {flat[i]: [flat[i + 1], flat[i + 2]] for i in _thirds(flat)}
            yield entry

    def _at_birth(self, who: int, place: int) -> Values:
        """The values now, with the changes after `place` taken back, newest first."""
        values = dict(self.numbered[who].values)
        later = [flat for flat in self._of(who, place) if flat is not None]
        for flat in reversed(later):
            for i in _thirds(flat):
                values[flat[i]] = flat[i + 1]
        values.pop("(deleted)", None)
        return {name: value for name, value in values.items() if value is not None}

    def _of(self, who: int, place: int) -> list[tuple[Any, ...] | None]:
        return [self._changes[p] for p in self._updated().get(who, ()) if p > place]

    def _updated(self) -> dict[int, list[int]]:
        """Places in the ledger of the changes of each object; brought up to date when asked."""
        known, done = getattr(self, "_updates", ({}, 0))
        if done > len(self._changes):
            known, done = {}, 0
        for place in range(done, len(self._changes)):
            if self._changes[place] is not None:
                known.setdefault(self._who[place], []).append(place)
        self._updates = (known, len(self._changes))
        return known

    def effects(self, most: int = 100) -> dict[str, Any]:
        """Counts over the ledger, and at most `most` examples of each kind of harm.

        `twice`: identities with two objects in use, at least one of them written by request or
        act. `returns`: a field that went A→B→A. `flaps`: one that went A→B→A→B.
        """
        returns, flaps, returned = 0, 0, []
        for who, places in self._updated().items():
            for field, values in _histories(self._changes[place] for place in places).items():
                back = [i for i in range(2, len(values)) if values[i] == values[i - 2]]
                again = [i for i in back if i - 1 in back]
                returns, flaps = returns + len(back), flaps + len(again)
                if back and len(returned) < most:
                    obj_id = self.numbered[who].id
                    returned.append({"id": obj_id, "field": field, "values": values[:20]})
        twice = {
            key: [obj.id for obj in objs]
            for key, objs in self._doubled()
            if any(obj.number >= self.seeded for obj in objs)
        }
        created = sum(1 for flat in self._changes if flat is None)
        return {
            "objects": sum(1 for _ in self.alive()),
            "seeded": self.seeded,
            "created": created,
            "changed": len(self._changes) - created,
            "unchanged_rows": self.unchanged_rows,
            "dry_rows": self.dry_rows,
            "made_twice": self.made_twice,
            "twice_total": len(twice),
            "twice": dict(list(twice.items())[:most]),
            "returns": returns,
            "flaps": flaps,
            "returned": returned,
        }

    def _doubled(self) -> Iterator[tuple[str, list[Obj]]]:
        for key, objs in self.indexes[self.identity].table.items():
            if len(objs) > 1 and len(used := [o for o in objs if not o.archived]) > 1:
                yield key, used


def _thirds(flat: tuple[Any, ...]) -> range:
    return range(0, len(flat), 3)


def _histories(changes: Iterable[tuple[Any, ...] | None]) -> dict[str, list[Any]]:
    """Per field its values in order, beginning with the one before the first change."""
    histories: dict[str, list[Any]] = {}
    for flat in changes:
        for i in _thirds(flat or ()):
            histories.setdefault(flat[i], [flat[i + 1]]).append(flat[i + 2])  # type: ignore[index]
    return histories

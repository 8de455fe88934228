"""Objects of one type in memory, and a ledger of every effective write to them.

An effect is a changed value or a new object. A repeated equal write is none: it is only counted.
An entry of the ledger is one tuple of about 90 bytes plus the changed values; that of a creation
has none, since the values at creation are the present ones with the later changes taken back.
"""

from bisect import bisect_left
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

    @property
    def erased(self) -> bool:
        return self.archived and not self.values


Changes = tuple[Any, ...]  # flat: field, old, new, field, old, new, …
Entry = tuple[int, int, int, int, Changes | None]  # at_ms, object, request, row, changes


class Index:
    """Objects by the value of a field; `fold` makes equal what the platform takes for equal."""

    def __init__(self, fold: Callable[[str], str] | None = None) -> None:
        self.fold = fold
        self.table: dict[str, list[Obj]] = {}

    def _key(self, value: Any) -> str:
        text = value if type(value) is str else str(value)
        return self.fold(text) if self.fold is not None else text

    def all(self, value: Any) -> list[Obj]:
        """Objects with this value, archived ones too, oldest first."""
        return self.table.get(self._key(value), [])

    def first(self, value: Any) -> Obj | None:
        """The oldest object in use with this value."""
        for obj in self.table.get(self._key(value), ()):
            if not obj.archived:
                return obj
        return None

    def find(self, value: Any) -> list[Obj]:
        """Objects in use with this value, oldest first."""
        found = self.table.get(self._key(value))
        return [obj for obj in found if not obj.archived] if found is not None else []

    def add(self, value: Any, obj: Obj) -> list[Obj]:
        """-> all objects with this value now, `obj` last."""
        key = self._key(value)
        found = self.table.get(key)
        if found is None:
            found = self.table[key] = [obj]
        else:
            found.append(obj)
        return found

    def remove(self, value: Any, obj: Obj) -> None:
        key = self._key(value)
        found = self.table[key]
        found.remove(obj)
        if not found:
            del self.table[key]


class Kept(NamedTuple):
    """A store as it goes into a file."""

    objects: list[tuple[str, Values, int, int, bool]]
    seeded: int
    counts: tuple[int, int, int]
    ledger: list[Entry]


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
        self._in_order = True
        for index in self.indexes.values():
            index.table.clear()
        self._ledger: list[Entry] = []
        self._updates: dict[int, list[int]] = {}  # object -> places of its changes; see _updated
        self._updates_done = 0

    # -- writing

    def seed(self, object_id: str, values: Values, created_ms: int, changed_ms: int) -> Obj:
        """An object that was there before: no entry in the ledger."""
        obj = self._add(object_id, values, created_ms)
        self.made_twice = 0  # it was so before
        obj.changed_ms = changed_ms
        self._place(changed_ms, obj.number)
        self.seeded = len(self.numbered)
        return obj

    def create(self, by: Writer, row: int, object_id: str, values: Values) -> Obj:
        """`values` becomes the store's own. An id that exists is a bug."""
        if by.dry:
            self.dry_rows += 1
            return Obj(-1, object_id, values, by.at_ms)
        obj = self._add(object_id, values, by.at_ms)
        self._place(by.at_ms, obj.number)
        self._ledger.append((by.at_ms, obj.number, by.number, row, None))
        return obj

    def update(self, by: Writer, row: int, obj: Obj, values: Values) -> Changes:
        """-> the changes; None clears. Empty: nothing changed."""
        old = obj.values
        if values.items() <= old.items():  # the usual repeat, without a loop of our own
            self.unchanged_rows += 1
            return ()
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
        for name, before, value in _each(flat):
            self._set(obj, name, before, value)
        self.touch(by, obj)
        self._ledger.append((by.at_ms, obj.number, by.number, row, flat))
        return flat

    def archive(self, by: Writer, row: int, obj: Obj) -> None:
        """Deleted, as a user sees it: no longer found, still explained."""
        self._set_archived(by, row, obj, True)

    def erase(self, by: Writer, row: int, obj: Obj) -> None:
        """Deleted for good: nothing is left of its values."""
        self.update(by, row, obj, dict.fromkeys(obj.values))
        self.archive(by, row, obj)

    def revive(self, by: Writer, row: int, obj: Obj) -> None:
        """In use again, with the values it had."""
        self._set_archived(by, row, obj, False)

    def _set_archived(self, by: Writer, row: int, obj: Obj, archived: bool) -> None:
        if obj.archived != archived and not by.dry:
            obj.archived = archived
            self.touch(by, obj)
            changes = ("(deleted)", not archived, archived)
            self._ledger.append((by.at_ms, obj.number, by.number, row, changes))

    def touch(self, by: Writer, obj: Obj) -> None:
        if obj.changed_ms != by.at_ms and not by.dry:
            obj.changed_ms = by.at_ms
            self._place(by.at_ms, obj.number)
            if len(self._by_change) > 2 * len(self.numbered) + 10_000:
                self._by_change = [(o.changed_ms, o.number) for o in self.numbered]
                self._in_order = False

    def _place(self, changed_ms: int, number: int) -> None:
        place = (changed_ms, number)
        self._in_order = self._in_order and (not self._by_change or place > self._by_change[-1])
        self._by_change.append(place)

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
                same = index.add(value, obj)
                if len(same) > 1 and field == self.identity:
                    self.made_twice += any(not other.archived for other in same[:-1])
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

    # -- between two runs

    def keep(self) -> Kept:
        return Kept(
            [(o.id, o.values, o.created_ms, o.changed_ms, o.archived) for o in self.numbered],
            self.seeded,
            (self.unchanged_rows, self.dry_rows, self.made_twice),
            self._ledger,
        )

    def restore(self, kept: Kept) -> None:
        self.clear()
        for object_id, values, created_ms, changed_ms, archived in kept.objects:
            self.seed(object_id, values, created_ms, changed_ms).archived = archived
        self.seeded, self._ledger = kept.seeded, kept.ledger
        self.unchanged_rows, self.dry_rows, self.made_twice = kept.counts

    # -- reading

    def alive(self) -> Iterator[Obj]:
        return (obj for obj in self.numbered if not obj.archived)

    def changed_since(self, since_ms: int) -> Iterator[Obj]:
        """Objects by (changed_ms, number), also archived ones, from `since_ms` on, each once."""
        if not self._in_order:
            self._by_change.sort()  # nearly in order, hence nearly free
            self._in_order = True
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
        start = bisect_left(self._ledger, since_ms, key=lambda entry: entry[0])
        for place in range(start, len(self._ledger)):
            at_ms, who, request, row, changes = self._ledger[place]
            if (object_id and who != wanted) or (updates_only and changes is None):
                continue
            entry: dict[str, Any] = {
                "at_ms": at_ms,
                "id": self.numbered[who].id,
                "request": request,
                "row": row,
            }
            if changes is None:
                entry["created"] = self._at_birth(who)
            else:
                entry["changes"] = {name: [old, new] for name, old, new in _each(changes)}
            yield entry

    def _at_birth(self, who: int) -> Values:
        """The values now, with all changes taken back, newest first."""
        values = dict(self.numbered[who].values)
        for place in reversed(self._updated().get(who, ())):
            values.update((name, old) for name, old, _ in _each(self._ledger[place][4]))
        values.pop("(deleted)", None)
        return {name: value for name, value in values.items() if value is not None}

    def _updated(self) -> dict[int, list[int]]:
        """Places in the ledger of the changes of each object, brought up to date when asked."""
        for place in range(self._updates_done, len(self._ledger)):
            _, who, _, _, changes = self._ledger[place]
            if changes is not None:
                self._updates.setdefault(who, []).append(place)
        self._updates_done = len(self._ledger)
        return self._updates

    def effects(self, most: int = 100) -> dict[str, Any]:
        """Counts over the ledger, and at most `most` examples of each kind of harm.

        `twice`: identities with two objects in use, at least one of them written by request or
        act. `returns`: a field that went A→B→A. `flaps`: one that went A→B→A→B.
        """
        returns, flaps, returned = 0, 0, []
        for who, places in self._updated().items():
            for field, values in _histories(self._ledger[place][4] for place in places).items():
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
        created = sum(1 for entry in self._ledger if entry[4] is None)
        return {
            "objects": sum(1 for _ in self.alive()),
            "seeded": self.seeded,
            "created": created,
            "changed": len(self._ledger) - created,
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


def _each(changes: Changes | None) -> Iterator[tuple[str, Any, Any]]:
    """(field, old, new), one after the other."""
    flat = changes or ()
    return zip(flat[0::3], flat[1::3], flat[2::3], strict=True)


def _histories(changes: Iterable[Changes | None]) -> dict[str, list[Any]]:
    """Per field its values in order, beginning with the one before the first change."""
    histories: dict[str, list[Any]] = {}
    for one in changes:
        for name, old, new in _each(one):
            histories.setdefault(name, [old]).append(new)
    return histories

"""Did it keep its promises? Computed from what the platforms hold, never from our own counters.

The source and the destinations are read as they stand; what each destination ought to hold is
worked out anew here, by the mapping documents and nothing else.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mappings.document import CLEAR, Compiled, Mapped

__all__ = ["Change", "Contact", "Held", "Write", "compare", "disorder", "flaps", "latencies_ms"]


@dataclass(frozen=True, slots=True)
class Contact:
    """One contact of the source, as it stands at the end."""

    id: str
    properties: Mapping[str, str]
    updated_ms: int

    @property
    def address(self) -> str:
        return (self.properties.get("email") or "").strip().lower()


@dataclass(frozen=True, slots=True)
class Held:
    """One object that a destination holds."""

    id: str
    address: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One change made at the source while the job ran."""

    contact_id: str
    property: str
    value: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Write:
    """One value that a destination took on."""

    object_id: str
    field: str
    value: Any
    at_ms: int


@dataclass
class Verdict:
    """What a destination holds against what it ought to hold."""

    expected: int = 0
    present: int = 0
    missing: list[str] = field(default_factory=list)
    wrong_fields: list[str] = field(default_factory=list)
    persons_twice: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)


def compare(
    contacts: Iterable[Contact], held: Iterable[Held], mapping: Compiled, parked: frozenset[str]
) -> Verdict:
    """One destination. `parked`: addresses of persons that are owed there and known to be.

    Contacts of one address are one person; of their values the newest counts, field by field.
    Objects of addresses that no contact has are strangers: somebody's former address.
    """
    persons: dict[str, list[Contact]] = defaultdict(list)
    for contact in contacts:
        if contact.address:
            persons[contact.address].append(contact)
    there: dict[str, list[Held]] = defaultdict(list)
    for object_ in held:
        there[object_.address].append(object_)
    verdict = Verdict()
    verdict.strangers = sorted(set(there) - set(persons))
    for address, group in persons.items():
        wanted = ought(group, mapping)
        if wanted is None or address in parked:
            continue
        verdict.expected += 1
        found = there.get(address, [])
        verdict.present += bool(found)
        if not found:
            verdict.missing.append(address)
        elif len(found) > 1:
            verdict.persons_twice.append(address)
        for name, value in wanted.items() if len(found) == 1 else ():
            if not _same(found[0].fields.get(name), value):
                verdict.wrong_fields.append(f"{found[0].id}.{name}")
    return verdict


def ought(group: Sequence[Contact], mapping: Compiled) -> dict[str, Any] | None:
    """The fields that a person's object must have; None: the mapping leaves the person out."""
    fields: dict[str, Any] = {}
    wanted = False
    for contact in sorted(group, key=lambda c: c.updated_ms):
        row = mapping.apply(dict(contact.properties.items()), {"changed": []}, {})
        if isinstance(row, Mapped):
            wanted = True
            fields |= row.fields
    # Platforms nest and name as they like; what is compared is the last part of each name.
    named = {k.rpartition(".")[2]: v for k, v in fields.items() if k != "status_if_new"}
    return named if wanted else None


def _same(found: Any, value: Any) -> bool:
    if value is CLEAR:
        return found in (None, "")
    return str(found) == str(value) if found is not None else False


def disorder(
    changes: Iterable[Change], writes: Iterable[Write], sources: Mapping[str, str]
) -> list[str]:
    """Values that a destination took on after a newer one of the same field.

    Every change has a value of its own, so a value says which change it is. `sources`: field at
    the destination to property at the source.
    """
    age = {(c.property, c.value): (c.contact_id, c.at_ms) for c in changes}
    newest: dict[tuple[str, str], int] = {}
    wrong: list[str] = []
    for write in sorted(writes, key=lambda w: w.at_ms):
        known = age.get((sources.get(write.field, ""), str(write.value)))
        if known is None:
            continue
        key = (write.object_id, write.field)
        if known[1] < newest.get(key, 0):
            wrong.append(f"{write.object_id}.{write.field}")
        newest[key] = max(newest.get(key, 0), known[1])
    return wrong


def flaps(writes: Iterable[Write]) -> list[str]:
    """Fields that took on a value which they had had before: A, B, A."""
    had: dict[tuple[str, str], list[Any]] = defaultdict(list)
    wrong: list[str] = []
    for write in writes:
        key = (write.object_id, write.field)
        if write.value in had[key] and had[key][-1] != write.value:
            wrong.append(f"{write.object_id}.{write.field}")
        had[key].append(write.value)
    return wrong


def latencies_ms(
    changes: Iterable[Change], writes: Iterable[Write], sources: Mapping[str, str]
) -> list[int]:
    """Of each change that arrived: from the change at the source to the write at the destination.

    A change that a newer one overtook before it was sent is none: it never arrives.
    """
    at = {(c.property, c.value): c.at_ms for c in changes}
    found: list[int] = []
    for write in writes:
        changed_ms = at.get((sources.get(write.field, ""), str(write.value)))
        if changed_ms is not None:
            found.append(write.at_ms - changed_ms)
    return sorted(found)

"""Who is where before the syncs begin, and what three platforms should hold of them in the end.

HubSpot and Salesforce are kept equal both ways, and so are Salesforce and Mailchimp. Fields have
one name here; `NAMES` has each platform's own.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Values = dict[str, str]

NAMES: dict[str, dict[str, str]] = {
    "hubspot": {
        "email": "email", "first": "firstname", "last": "lastname", "company": "company",
        "country": "country", "title": "jobtitle", "city": "city",
    },
    "salesforce": {
        "email": "Email", "first": "FirstName", "last": "LastName", "company": "Company",
        "country": "Country", "title": "Title", "city": "City",
    },
    "mailchimp": {
        "email": "email_address", "first": "FNAME", "last": "LNAME", "company": "COMPANY",
        "country": "COUNTRY",
    },
}  # fmt: skip
OBJECTS = {"hubspot": "contact", "salesforce": "Lead", "mailchimp": "member"}
SYNCS = {
    "leads": ("hubspot", "salesforce"),
    "contacts": ("salesforce", "hubspot"),
    "members": ("salesforce", "mailchimp"),
    "subscribers": ("mailchimp", "salesforce"),
}
BEHIND = {"salesforce": ("mailchimp",)}
SHARES = {"both": 0.05, "salesforce": 0.15, "mailchimp": 0.05}
"""Of those whom nobody refuses; the others are in HubSpot only."""
EDITED = ("first", "last", "company", "country", "title", "city")
LONG = "Chief Officer of Everything " * 6


@dataclass(frozen=True)
class Cause:
    """Why some of them are refused, and what a person types to mend all of them at once."""

    name: str
    of_500: int
    at: str
    """Where they are from."""
    spoilt: Mapping[str, str]
    """Field to its value; `{}` is the person's number. Empty: they have none."""
    sync: str
    code: str
    refused: str
    """Field at the destination; empty: it names none."""
    pattern: str
    mend: tuple[str, ...] = ()
    """Arguments of `parked fix`."""
    mended: Mapping[str, str] = field(default_factory=dict[str, str])
    """What stands at the sync's destination then, and behind it."""
    fault: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the destination is told to refuse; nothing: it refuses by its own rules."""


CAUSES = (
    Cause(
        "addresses without a domain of the world", 100, "hubspot", {"email": "p{}@intranet"},
        "leads", "INVALID_EMAIL_ADDRESS", "Email", "a9@a",
        ("--rule", "email=record.email + '.example.com'"), {"email": "p{}@intranet.example.com"},
    ),
    Cause(
        "titles that are too long", 90, "hubspot", {"title": LONG.strip()},
        "leads", "STRING_TOO_LONG", "Title", "a_" * 19 + "a…",
        ("--rule", "jobtitle=truncate(record.jobtitle, 128)"), {"title": LONG[:128].strip()},
    ),
    Cause(
        "no last name", 80, "hubspot", {"last": ""},
        "leads", "REQUIRED_FIELD_MISSING", "LastName", "",
        ("--set", "lastname=Unknown"), {"last": "Unknown"},
    ),
    Cause(
        "test records of the agency", 70, "hubspot", {"company": "TEST {}"},
        "leads", "FIELD_CUSTOM_VALIDATION_EXCEPTION", "Company", "a_9",
        fault={
            "action": "refuse_rows", "rows": {"field": "Company", "matches": r"^TEST \d+$"},
            "code": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": "No test records, please",
        },
    ),
    Cause(
        "countries in another language", 60, "hubspot", {"country": "Deutschland"},
        "leads", "FIELD_INTEGRITY_EXCEPTION", "Country", "a", mended={"country": "Germany"},
        fault={
            "action": "refuse_rows", "rows": {"field": "Country", "matches": "^Deutschland$"},
            "code": "FIELD_INTEGRITY_EXCEPTION",
            "message": "There's a problem with this country, even though it may appear correct.",
        },
    ),
    Cause(
        "a rule of the audience that was wrong", 50, "salesforce", {"first": "Zz{}"},
        "members", "ERROR_GENERIC", "merge_fields.FNAME", "a9",
        fault={
            "action": "refuse_rows", "rows": {"field": "FNAME", "matches": r"^Zz\d+$"},
            "code": "ERROR_GENERIC", "message": "This name looks fake",
        },
    ),
    Cause(
        "a spreadsheet's error for a title", 50, "salesforce", {"title": "#REF!"},
        "contacts", "VALIDATION_ERROR", "", "",
        ("--set", "Title=Buyer"), {"title": "Buyer"},
        fault={
            "action": "refuse_rows", "rows": {"field": "jobtitle", "matches": "^#REF!$"},
            "code": "INVALID_OPTION", "message": "#REF! is no job title",
        },
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """`at`: where they are first; `both` is HubSpot and Salesforce, with different companies."""

    number: int
    at: str
    values: Values
    cause: Cause | None = None

    @property
    def email(self) -> str:
        return self.values["email"]

    def first_at(self, platform: str) -> Values | None:
        """What that platform holds before anything runs; None: it does not know them."""
        if self.at == platform or (self.at == "both" and platform == "hubspot"):
            return self.values
        if self.at == "both" and platform == "salesforce":
            return self.values | {"company": f"Formerly {self.number}"}
        return None

    def should(self, platform: str) -> Values:
        """What it should hold in the end if nobody edits anything: what we put in place of a
        refused value stands where it was refused, and at what lies behind."""
        if self.cause is None:
            return self.values
        destination = SYNCS[self.cause.sync][1]
        if platform not in (destination, *BEHIND.get(destination, ())):
            return self.values
        return self.values | {n: v.format(self.number) for n, v in self.cause.mended.items()}

    def is_wanted(self, platform: str) -> bool:
        """A test record that is discarded stays where it was."""
        cause = self.cause
        if cause is None or cause.mended or cause.sync == "members":
            return True
        return platform == self.at


def people(count: int) -> list[Person]:
    """Refused are one in forty, by cause; who is where of the others is a matter of the number."""
    found: list[Person] = []
    for cause in CAUSES:
        for _ in range(size(cause, count)):
            spoilt = {n: v.format(len(found)) for n, v in cause.spoilt.items()}
            found.append(Person(len(found), cause.at, _first_values(len(found)) | spoilt, cause))
    draw = random.Random(count)
    homes = draw.choices(
        [*SHARES, "hubspot"], [*SHARES.values(), 1 - sum(SHARES.values())], k=count - len(found)
    )
    for number, at in enumerate(homes, len(found)):
        values = _first_values(number)
        if at == "mailchimp":
            values |= {"title": "", "city": ""}  # it has no such fields
        found.append(Person(number, at, values))
    return found


def size(cause: Cause, count: int) -> int:
    return max(2, round(cause.of_500 * count / 20_000))


def _first_values(number: int) -> Values:
    return {
        "email": f"p{number}@example.com", "first": f"First{number}", "last": f"Last {number}",
        "company": f"Company {number % 97}", "country": "Norway", "title": f"Title {number % 13}",
        "city": f"City {number % 31}",
    }  # fmt: skip


def own(platform: str, values: Values) -> Values:
    """In the platform's own names; what is empty is not there."""
    names = NAMES[platform]
    return {names[n]: v for n, v in values.items() if n in names and v}


def common(platform: str, held: Mapping[str, Any]) -> Values:
    return {n: str(held.get(o) or "") for n, o in NAMES[platform].items()}


# -- configuration


def connections(urls: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    yield {
        "connection": "hubspot", "platform": "hubspot", "account": "4711001",
        "tier": "professional", "base_url": urls["hubspot"],
        "secrets": {"token": "env:HUBSPOT_TOKEN"}, "webhook": {"secret": "env:HUBSPOT_SECRET"},
        "identify": {"contact": {"field": "email"}}, "quotas": {"ten_seconds": 60},
    }  # fmt: skip
    yield {
        "connection": "salesforce", "platform": "salesforce", "account": "00D5g000004abcD",
        "tier": "enterprise", "base_url": urls["salesforce"],
        "secrets": {
            "client_id": "env:SALESFORCE_CLIENT_ID",
            "client_secret": "env:SALESFORCE_CLIENT_SECRET",
        },
        "webhook": {
            "secret": "env:SALESFORCE_HOOK", "options": {"organization_id": "00D5g000004abcDEAU"},
        },
        "identify": {"Lead": {"field": "Email"}},
    }  # fmt: skip
    yield {
        "connection": "mailchimp", "platform": "mailchimp", "account": "newsletter",
        "base_url": urls["mailchimp"], "secrets": {"api_key": "env:MAILCHIMP_API_KEY"},
        "options": {"list_id": "a1b2c3d4e5", "data_centre": "us1"},
        "webhook": {"secret": "env:MAILCHIMP_HOOK"},
        "identify": {"member": {"field": "email_address"}},
    }  # fmt: skip


def sync(name: str) -> dict[str, Any]:
    source, destination = SYNCS[name]
    match = {"hubspot": {"match": "email"}, "salesforce": {"match": "Email"}, "mailchimp": {}}
    return {
        "sync": name, "source": source, "source_object": OBJECTS[source],
        "destination": destination, "destination_object": OBJECTS[destination],
        "mapping": name, **match[destination],
    }  # fmt: skip


def mapping(name: str, version: int = 1, **instead: str) -> dict[str, Any]:
    """`instead`: other expressions for fields, by our name."""
    source, destination = SYNCS[name]
    fields: dict[str, str] = {}
    for one, theirs in NAMES[destination].items():
        if one not in NAMES[source]:
            continue
        of = f"record.{_path(source, NAMES[source][one])}"
        plain = f"email_normalise({of})" if one == "email" else f"trim({of})"
        fields[_path(destination, theirs)] = instead.get(one, plain)
    if destination == "mailchimp":
        fields["status_if_new"] = '"subscribed"'
    return {
        "mapping": name, "version": version,
        "from": {"platform": source, "object": OBJECTS[source]},
        "to": {
            "platform": destination, "object": OBJECTS[destination],
            "key": NAMES[destination]["email"],
        },
        "where": f"!empty(record.{_path(source, NAMES[source]['email'])})", "fields": fields,
    }  # fmt: skip


def _path(platform: str, name: str) -> str:
    return f"merge_fields.{name}" if platform == "mailchimp" and name.isupper() else name


def files(urls: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Path in the configuration's folder, and text: JSON is YAML, too."""
    for one in connections(urls):
        yield f"connections/{one['connection']}.yaml", json.dumps(one)
    for name in SYNCS:
        yield f"syncs/{name}.yaml", json.dumps(sync(name))
        yield f"mappings/{name}.yaml", json.dumps(mapping(name))


# -- what happened, and what is wrong with it


@dataclass(frozen=True)
class Edit:
    """Somebody changed a field at one platform. No value occurs twice."""

    person: int
    field: str
    platform: str
    value: str
    at_ms: int


@dataclass(frozen=True)
class Held:
    """An object in use."""

    object_id: str
    values: Values


@dataclass(frozen=True)
class Write:
    """An effective write: a new object (no field), or another value of one field."""

    object_id: str
    ours: bool
    """Else a person's, in the platform's own screens."""
    field: str = ""
    old: str = ""
    new: str = ""


@dataclass
class Ended:
    """All that is known in the end, from the platforms' own stores and ledgers."""

    people: list[Person]
    edits: list[Edit]
    merges: dict[int, int]
    """Person whose contact is gone, to the one into whose it went."""
    held: dict[str, list[Held]]
    writes: dict[str, list[Write]]
    """Oldest first."""
    near_ms: int
    """Edits of both sides within such a time have met: either may stand."""

    def __post_init__(self) -> None:
        self._edits: dict[tuple[int, str], list[Edit]] = defaultdict(list)
        for edit in sorted(self.edits, key=lambda e: e.at_ms):
            self._edits[edit.person, edit.field].append(edit)
        self._by_email: dict[str, dict[str, list[Held]]] = {}
        for platform, objects in self.held.items():
            index: dict[str, list[Held]] = defaultdict(list)
            for one in objects:
                index[one.values["email"].lower()].append(one)
            self._by_email[platform] = index
        self._merged = {*self.merges, *self.merges.values()}

    def wrong(self) -> list[str]:
        """What is not as it should be, in words; empty: all promises are kept."""
        return [
            *self._presence(), *self._values(), *self._merges(), *self._count_writes(),
            *self._come_back(),
        ]  # fmt: skip

    def _found(self, person: Person, platform: str) -> list[Held]:
        return self._by_email[platform].get(person.should(platform)["email"], [])

    def _presence(self) -> Iterator[str]:
        """Nobody lost, nobody twice, no strangers."""
        known: dict[str, set[str]] = {platform: set() for platform in NAMES}
        for person in self.people:
            for platform in NAMES:
                found = self._found(person, platform)
                known[platform] |= {one.object_id for one in found}
                if person.number not in self._merged and len(found) != person.is_wanted(platform):
                    yield f"{_name(person)} is {len(found)} times at {platform}"
        for platform, objects in self.held.items():
            for one in objects:
                if one.object_id not in known[platform]:
                    yield f"{one.object_id} at {platform} is nobody: {one.values}"

    def _values(self) -> Iterator[str]:
        """Equal everywhere, and the last word of those who edited."""
        for person in self.people:
            if person.number in self._merged:
                continue
            for platform in NAMES:
                for one in self._found(person, platform):
                    yield from self._compare(person, platform, one)

    def _compare(self, person: Person, platform: str, held: Held) -> Iterator[str]:
        for name in NAMES[platform]:
            stands = held.values[name]
            may = self._may(person, name) or {person.should(platform)[name]}
            others = {
                other.values[name]
                for p in NAMES if name in NAMES[p]
                for other in self._found(person, p)
            }  # fmt: skip
            mended = person.cause is not None and name in person.cause.mended
            if stands not in may:
                yield f"{_name(person)}.{name} at {platform} is {stands!r}, not one of {may}"
            elif len(others) > 1 and not mended:
                yield f"{_name(person)}.{name} differs: {others}"

    def _may(self, person: Person, name: str) -> set[str]:
        """Values that may stand in the end; empty: nobody edited it."""
        edits = self._edits.get((person.number, name), [])
        firsts = [first[name] for p in NAMES if (first := person.first_at(p)) and name in NAMES[p]]
        if not edits:
            return set(firsts) if len(set(firsts)) > 1 else set()
        last = edits[-1]
        near = [e for e in edits if e.platform != last.platform]
        near = [e for e in near if last.at_ms - e.at_ms < self.near_ms]
        if person.at == "both":  # a whole object is told with the time of its last change
            return {e.value for e in edits} | set(firsts)
        return {last.value, *(e.value for e in near)}

    def _merges(self) -> Iterator[str]:
        """The contact that stays is one lead's, in all its fields; what the other had stays."""
        for gone, stays in self.merges.items():
            one, other = self.people[stays], self.people[gone]
            contacts = self._found(one, "hubspot") + self._found(other, "hubspot")
            if len(contacts) != 1:
                yield f"{_name(one)} has {len(contacts)} contacts after a merge"
                continue
            leads = self._found(one, "salesforce") + self._found(other, "salesforce")
            if contacts[0].values not in [lead.values for lead in leads]:
                yield f"{_name(one)} merged: {contacts[0].values} is none of {leads}"
            if not self._found(one, "mailchimp") and not self._found(other, "mailchimp"):
                yield f"{_name(one)} merged: is no member"

    def _count_writes(self) -> Iterator[str]:
        """One write to each platform that did not know them; of edits at most twice as many, and
        one, as were made elsewhere. No more, so nothing goes round."""
        mine = {
            (platform, one.object_id): person
            for person in self.people
            for platform in NAMES
            for one in self._found(person, platform)
        }
        counts = Counter(
            (mine[platform, w.object_id].number, platform, w.field)
            for platform, writes in self.writes.items()
            for w in writes
            if w.ours and (platform, w.object_id) in mine
        )
        for (number, platform, name), count in counts.items():
            person = self.people[number]
            edits = len(self._edits.get((number, name), ()))
            most = _writes_max(person, platform, name, edits)
            if number in self._merged:  # two objects, and each field of either once more
                most += 2 if name else 1
            if count > most:
                yield f"{_name(person)}.{name} was written {count} times to {platform}"

    def _come_back(self) -> Iterator[str]:
        """No value goes A→B→A, but where people changed one at two platforms at once."""
        sides: dict[int, set[str]] = defaultdict(set)
        for edit in self.edits:
            sides[edit.person].add(edit.platform)
        disputed = {
            p.number for p in self.people
            if p.at == "both" or p.number in self._merged or len(sides[p.number]) > 1
        }  # fmt: skip
        for platform, writes in self.writes.items():
            calm = {
                one.object_id: person
                for person in self.people
                if person.number not in disputed
                for one in self._found(person, platform)
            }
            before: dict[tuple[str, str], str] = {}
            for w in writes:
                if w.object_id in calm and w.field and before.get((w.object_id, w.field)) == w.new:
                    yield f"{_name(calm[w.object_id])}.{w.field} is {w.new!r} again at {platform}"
                before[w.object_id, w.field] = w.old

    def figures(self) -> dict[str, int]:
        ours = [w for writes in self.writes.values() for w in writes if w.ours]
        return {
            "persons": len(self.people),
            "edits": len(self.edits),
            "merges": len(self.merges),
            "objects made": sum(not w.field for w in ours),
            "fields written": sum(bool(w.field) for w in ours),
        }


def _writes_max(person: Person, platform: str, name: str, edits: int) -> int:
    here = person.first_at(platform) is not None
    if name == "":
        return 0 if here else 1
    # The first row to an object that is there already may find something newer in it afterwards.
    adopted = 2 * (person.at == "both" and name == "company")
    return adopted + 2 * edits + (1 if edits else 0)


def _name(person: Person) -> str:
    cause = f", {person.cause.name}" if person.cause else ""
    return f"person {person.number} ({person.at}{cause})"


def counted(causes: Iterable[Cause], count: int) -> Counter[tuple[str, str, str, str]]:
    """What `parked list` should show: sync, code, field, value's make -> records."""
    return Counter({(c.sync, c.code, c.refused, c.pattern): size(c, count) for c in causes})

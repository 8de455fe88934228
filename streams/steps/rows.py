"""State rows: what the tables `links`, `addresses`, `people` and `runs` hold. msgpack, as arrays.

A new field goes to the end of its struct and has a default: rows written before it stay readable.
"""

from typing import Any

import msgspec
from msgspec import Struct, field

__all__ = [
    "Account",
    "Destination",
    "Fact",
    "Index",
    "JoinAsked",
    "Joins",
    "Lane",
    "Link",
    "Member",
    "Owed",
    "Own",
    "Owner",
    "Person",
    "Refusal",
    "Release",
    "Row",
    "Run",
    "RunMark",
    "Source",
    "SyncState",
    "Values",
    "pack",
    "unpack_index",
    "unpack_link",
    "unpack_names",
    "unpack_owner",
    "unpack_person",
    "unpack_run",
]


class Values(Struct, array_like=True, omit_defaults=True):
    """Fields and the time of each: `at_ms`, but for those in `times` (see streams.steps.values).

    In a snapshot, `at_ms` > 0 says that the whole was seen then: a field that is not in `values`
    was empty.
    """

    at_ms: int = 0
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    times: dict[str, int] = field(default_factory=dict[str, int])
    uncertain: list[str] = field(default_factory=list[str])
    """Fields whose time is a guess; `*` stands for all at `at_ms`."""

    def time(self, name: str) -> int:
        return self.times.get(name, self.at_ms)

    def newest(self) -> int:
        return max(self.at_ms, *self.times.values()) if self.times else self.at_ms


class Source(Struct, array_like=True, omit_defaults=True):
    """What we know of one source object."""

    known: Values = field(default_factory=Values)
    revision: int = 0
    """Grows with each change of `known`."""
    decided: dict[str, int] = field(default_factory=dict[str, int])
    """Sync to the revision that it was last decided with."""
    fixes: dict[str, tuple[Any, Any]] = field(default_factory=dict[str, tuple[Any, Any]])
    """Field to (value at the source that it replaces, value that a person put there)."""
    scope: int = 0
    """Which fields the whole spoke of when it was seen last (Index.scopes); 0: all."""
    doubts: list[str] = field(default_factory=list[str])
    """Fields of which two values are known, and not which is the later one."""
    reading: int = 0
    """A read of it is under way (streams.steps.reading)."""
    waiting: list[tuple[bytes, list[str]]] = field(default_factory=list[tuple[bytes, list[str]]])
    """Events that wait for it, in order, each with the syncs it is to be decided for."""
    born: dict[str, int] = field(default_factory=dict[str, int])
    """Field to the stamp of the change that it holds, where that is not the time at which it was
    told last: kept of objects that are destinations too (streams.steps.echo)."""
    echoes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Field that holds what we wrote there, to the `connection:object_type`s it came through."""
    lists: dict[str, tuple[int, bool]] = field(default_factory=dict[str, tuple[int, bool]])
    """Sync to the stamp of its newest list, and whether the object is on it."""
    became: str = ""
    """Object that it was merged into, or whose id it has now: it does not speak any more."""
    gone_ms: int = 0
    """When."""
    deleted_ms: int = 0
    """When it was deleted; 0: it was not, or has told of itself since."""
    made_ms: int = 0
    """When it was told to be made, or made again; 0: nobody told."""
    met: bool = False
    """A change there met a row of ours on its way: it is read when nothing is out, and nothing
    goes out until then."""

    @property
    def stands(self) -> bool:
        """It is neither another object now, nor deleted."""
        return not (self.became or self.deleted_ms)


class Row(Struct, array_like=True):
    """What one event owes one destination, from its decision to its fate."""

    row_id: str
    event_id: str
    sync: str
    source: str
    """Object key of the source object."""
    fields: Values
    run: str = ""
    record_no: int = -1
    rank: int = 0
    """0 live, 1 released, 2 bulk, 3 replay."""
    seq: int = 0
    """Grows with each decision for the person: of two rows the higher one is the later."""
    standing: str = ""
    """As last journalled; empty: not yet."""
    lane: str = ""
    """Where it waits, if it waits in a lane."""
    tries: int = 0
    """How often it was refused, those folded into it included."""
    carries_others: bool = False
    """Holds values of a record that is not of its run: cancelling the run does not drop it."""
    first_ms: int = 0
    """When it was refused first; 0: never."""
    not_before_ms: int = 0
    """The worker gave it back until then."""
    force: bool = False
    """Goes out also where it equals what stands there; never where it is older."""
    asked: bool = False
    """Somebody asked for it, and what it waits for has not been told yet."""
    paths: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Field to the `connection:object_type`s that it came through before its source."""
    echo: bool = False
    """Something was left out of it that came from where it leads."""
    urgent: bool = False
    """Withdraws a consent: overtakes what is out, and waits behind nothing that was refused."""
    look: bool = False
    """What stands there is read just before it goes out (streams.steps.undoing)."""
    expect: dict[str, Any] = field(default_factory=dict[str, Any])
    """Field to what must stand there still: else it is left out."""
    removal: str = ""
    """archive, delete or erase: takes the object away (streams.steps.removal)."""


class Own(Struct, array_like=True):
    """One value that we wrote to an object that tells its changes."""

    text: str
    stamp: int
    """Of the change that it came from."""
    path: list[str]
    """`connection:object_type` of the objects that it came through."""
    sent_ms: int
    row_id: str
    sync: str
    back: bool = False
    """It has come back, or never will."""
    other: str = ""
    """Object that it was written to, where that is one of `Destination.also`."""
    done_ms: int = 0
    """When the outcome of its row came; 0: it is out yet."""


class Owed(Struct, array_like=True):
    """A row that the destination, or our own checks, refused: waits for a person or a change."""

    row: Row
    stage: str
    code: str
    field: str = ""
    words: str = ""
    """The platform's, verbatim."""


class SyncState(Struct, array_like=True):
    """What comes next for one sync of a destination, and what is owed."""

    next: Row | None = None
    owed: Owed | None = None
    """Refused by the destination."""
    invalid: dict[str, Owed] = field(default_factory=dict[str, Owed])
    """Refused by our own mapping or checks, by source object."""

    def idle(self) -> bool:
        """Nothing comes next, and nothing is owed."""
        return self.next is None and self.owed is None and not self.invalid


class Fact(Struct, array_like=True):
    """A row that is appended once: never merged, its outcome found by its id."""

    row: Row
    state: str
    """out, waiting or owed."""
    owed: Owed | None = None


class Release(Struct, array_like=True):
    """A released row, so that it can be undone."""

    before: dict[str, Any]
    """What stood there just before."""
    wrote: dict[str, Any]
    """Empty: not written yet."""
    sync: str


class Destination(Struct, array_like=True):
    """One object at a destination: what stands there, what is out, what comes next."""

    object_id: str = ""
    written: Values = field(default_factory=Values)
    out: Row | None = None
    syncs: dict[str, SyncState] = field(default_factory=dict[str, SyncState])
    facts: dict[str, Fact] = field(default_factory=dict[str, Fact])
    sent: dict[str, list[Own]] = field(default_factory=dict[str, list[Own]])
    """Field to our own writes that may come back; only where some sync reads from there."""
    released: dict[str, Release] = field(default_factory=dict[str, Release])
    """By row id."""
    also: list[str] = field(default_factory=list[str])
    """Other objects of the person there, from before a join: nothing is written to them."""
    maybe: dict[str, Any] = field(default_factory=dict[str, Any])
    """By what to find the object that a row may have made that was never answered."""
    gone: list[str] = field(default_factory=list[str])
    """Objects of the person that were archived or deleted there, or may have been."""

    def blank(self) -> bool:
        """Nothing was ever sent there, and nothing is to be."""
        written = self.written
        known = self.object_id or written.values or written.times or self.maybe or self.gone
        return not (known or self.out or self.syncs or self.facts)


class JoinAsked(Struct, array_like=True):
    """A join that somebody, or a rule, asked for; or its undoing."""

    join_id: str
    other: str
    """The other person."""
    why: str = ""
    who: str = ""


class Member(Struct, array_like=True):
    """A person who was joined to another one: what an undoing needs to know."""

    into: str
    """To whom it was joined; that person may have been joined to a third since."""
    join_id: str
    objects: list[str] = field(default_factory=list[str])
    """Its source objects."""
    destinations: dict[str, str] = field(default_factory=dict[str, str])
    """`connection:object_type` to its object there."""
    brought: list[str] = field(default_factory=list[str])
    """Of these, where the other person had none: it was taken over."""


class Joins(Struct, array_like=True, omit_defaults=True):
    """What a person has to do with others (streams.steps.joins)."""

    moved_to: str = ""
    """This row is empty: what comes for it is sent on."""
    leaving: JoinAsked | None = None
    """It moves when nothing of it is out; until then nothing more goes out."""
    parting: list[JoinAsked] = field(default_factory=list[JoinAsked])
    """Members that are given their own rows back when nothing is out."""
    proposed: dict[str, JoinAsked] = field(default_factory=dict[str, JoinAsked])
    """By join id: waits for a person's approval."""
    apart: list[str] = field(default_factory=list[str])
    """Joins that people said no to, or have undone: not proposed again."""
    members: dict[str, Member] = field(default_factory=dict[str, Member])
    """Persons who have moved here, by key."""


class Person(Struct, array_like=True):
    """One row of `people`: a subject with its source objects and destinations."""

    sources: dict[str, Source] = field(default_factory=dict[str, Source])
    """By object key."""
    destinations: dict[str, Destination] = field(default_factory=dict[str, Destination])
    """By `connection:object_type`."""
    seq: int = 0
    acts: list[str] = field(default_factory=list[str])
    """Last acts that were done here."""
    mended: list[str] = field(default_factory=list[str])
    """Last row ids of events parked undecided that were released or discarded."""
    rounds: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Sync to when its hour began, and how often something has gone round in it."""
    consent: tuple[int, str] = (0, "")
    """Stamp and kind of the latest word on it: subscribed, unsubscribed or bounced."""
    forgotten: dict[str, int] = field(default_factory=dict[str, int])
    """As in Index, as far as it has followed."""
    previews: dict[str, Row] = field(default_factory=dict[str, Row])
    """Rows of runs that send nothing, of which the platform is asked whether they are there."""
    joins: Joins | None = None
    erased_ms: int = 0
    """When they were forgotten for the sake of privacy: nothing goes out of them any more, and
    nothing is kept (streams.steps.privacy). 0: never."""


class Lane(Struct, array_like=True):
    """A queue of waiting persons: numbers of its first and last bucket rows."""

    head: int = 0
    tail: int = 0
    waiting: int = 0
    """Entries, some of which may be out of date."""


class Account(Struct, array_like=True):
    """Whether an account takes rows, as it was last announced."""

    open: bool = True
    until_ms: int = 0
    """When it is expected to open; 0: when somebody acts."""
    reason: str = ""


class RunMark(Struct, array_like=True):
    """What a partition of `people` knows of a run."""

    state: str
    """running, paused or cancelled."""
    pins: dict[str, int]
    who: str = ""
    why: str = ""
    force: bool = False
    """Its rows go out also where they are equal to what stands there."""
    preview: bool = False
    """It shows what it would do, and sends nothing."""


class Index(Struct, array_like=True):
    """One row a partition of `people`: what all its persons have in common."""

    now_ms: int = 0
    """The latest time that any record told."""
    pins: dict[str, int] = field(default_factory=dict[str, int])
    """`kind:name` to the version that is active from here on."""
    runs: dict[str, RunMark] = field(default_factory=dict[str, RunMark])
    paused: dict[str, str] = field(default_factory=dict[str, str])
    """Sync to who paused it."""
    accounts: dict[str, Account] = field(default_factory=dict[str, Account])
    lanes: dict[str, Lane] = field(default_factory=dict[str, Lane])
    acts: list[str] = field(default_factory=list[str])
    closed: dict[str, str] = field(default_factory=dict[str, str])
    """`platform/account` that a person has closed, to who and why."""
    scopes: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    """Number of a set of source fields to the fields."""
    echoes: dict[str, int] = field(default_factory=dict[str, int])
    """`sync|code` to how many: echo, echo_expired, echo_near_miss (streams.steps.echo)."""
    forgotten: dict[str, int] = field(default_factory=dict[str, int])
    """`connection:object_type` to how often what stands there was declared void."""


class Link(Struct, array_like=True):
    """One row of `links`: whose a source object is, and which of its events were seen."""

    state: str = "new"
    """new, reading (waits for the whole object), asking (waits for the address), linked."""
    person: str = ""
    identity: str = ""
    """Of the newest identifying key that was asked for."""
    recent: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """Day of receipt to the event ids of that day, 16 bytes each."""
    waiting: list[bytes] = field(default_factory=list[bytes])
    """Events that wait for the person, in order."""
    asked_ms: int = 0
    join: str = ""
    """Another person who owns the identity too: a join is proposed."""
    became: str = ""
    """Not used any more: rows are arrays, so its place stays."""
    mended: list[str] = field(default_factory=list[str])
    """Last event ids parked here that were released or discarded."""
    asked_by: list[bytes] = field(default_factory=list[bytes])
    """What it was told that it is now (ObjectMerged), while its person is not known."""


class Owner(Struct, array_like=True, omit_defaults=True):
    """One row of `addresses`: who owns an identity."""

    person: str
    holders: dict[str, str] = field(default_factory=dict[str, str])
    """`connection:object_type` whose objects may share it, to the one that is the owner's."""


class Refusal(Struct, array_like=True):
    """A record of a run that was refused, for the headline."""

    batch: int
    record_no: int
    times: int
    code: str


class Run(Struct, array_like=True):
    """One row of `runs`: control state, counters and the place of the fetch."""

    run: str
    sync: str
    state: str = "requested"
    why: str = ""
    where: str = ""
    who: str = ""
    since_ms: int = 0
    started_ms: int = 0
    now_ms: int = 0
    pins: dict[str, int] = field(default_factory=dict[str, int])
    # fetch
    step: int = 0
    """Fetch commands given."""
    answered: int = 0
    """Fetch commands answered."""
    cursor: str = ""
    fetched: int = 0
    pages: int = 0
    last: bool = False
    expected: int = 0
    """Records that the source holds, as far as it said; 0: unknown."""
    credit: int = 0
    batch_rows: int = 1
    pages_max: int = 1
    # what became of the records
    counts: dict[str, int] = field(default_factory=dict[str, int])
    """Standing to number of records."""
    departed: int = 0
    """Rows that went out, each time, but for those that were given back."""
    batches: int = 0
    """Requests settled."""
    batch_sum: int = 0
    """Rows in them."""
    requests: dict[str, int] = field(default_factory=dict[str, int])
    """Last request ids to batch number."""
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    released: int = 0
    """Parked records released after the run had completed."""
    waits_for: str = ""
    # liveness and confirmations
    progress_ms: int = 0
    awaited: str = ""
    """Act that the partitions of `people` are to confirm; empty: none."""
    confirmed: list[int] = field(default_factory=list[int])
    acts: list[str] = field(default_factory=list[str])
    samples: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """(time, records with a fate), one a tick, for the rate."""
    changed: bool = False
    """Since the last view of it was published."""
    trouble: str = ""
    """What the worker said last of the fetch under way."""
    parts: int = 0
    """Of a list that people gave; 0: its records are fetched."""
    part: int = 0
    """Parts handed out."""
    listed_ms: int = 0
    """When the list was given."""
    fetch_max: int = 0
    """Records after which no more are fetched; 0: all are."""


pack = msgspec.msgpack.Encoder().encode
unpack_person = msgspec.msgpack.Decoder(Person).decode
unpack_index = msgspec.msgpack.Decoder(Index).decode
unpack_link = msgspec.msgpack.Decoder(Link).decode
unpack_owner = msgspec.msgpack.Decoder(Owner).decode
unpack_run = msgspec.msgpack.Decoder(Run).decode
unpack_names = msgspec.msgpack.Decoder(list[str]).decode

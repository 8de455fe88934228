"""Our own writes that come back, and what stands at a destination that is a source as well.

A platform tells every change, ours too. What it tells is held against what we wrote there:

- the very value, unexpired, once: an *echo*. For syncs that lead back to where the value came from
  it is no news; for all others it is a change like any other. It is as old as the change that it
  came from, not as its arrival here: else it would beat what has been changed there since;
- the value, but for case, spaces and punctuation: a *near miss*. The platform has its own way to
  write it, so it goes through, as old as that change;
- the value, but the change that it came from is older than what it replaced: two people met; the
  platform holds this one now, so it is taken for a change of its own. Only where a read shows it
  at a platform that tells no writes is it as old as it is, and those who know better say so again;
- anything else, a workflow that rewrites our value included, is a genuine change. What so goes
  round between two syncs more than `ROUNDS_MAX` times an hour is stopped, at that person only.
"""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import msgspec

from schemas.events import Origin, PlatformEvent
from schemas.journal import Standing
from streams.steps.catalog import Plan
from streams.steps.rows import Destination, Own, Row, Source, Values
from streams.steps.values import DOUBT_MS, RULES, drop, fold, same, stamp_at, text, timed
from streams.steps.work import Work

__all__ = [
    "ROUNDS_MAX", "Told", "Turn", "adopt", "echoed", "leave_out", "look", "read_since", "remember",
    "rounds", "settled", "stands", "told", "withdraw",
]  # fmt: skip

EXPIRES_MS = 24 * 3_600_000
"""HubSpot tries a webhook again for up to 24 hours; others give up earlier."""
HOUR_MS = 3_600_000
SKEW_MS = 5 * 60_000
OWN_MAX = 4
"""Own writes of one field that are remembered; the oldest are forgotten."""
ROUNDS_MAX = 20
PERSONS = frozenset(("CRM", "CRM_UI", "FORM", "IMPORT", "SALES", "USER"))
"""HubSpot's changeSource where a person made the change: never ours, though it may be equal."""


class _Marked(msgspec.Struct):
    changeSource: str = ""  # noqa: N815 - the platform's name


_marked = msgspec.json.Decoder(_Marked).decode


class Look(NamedTuple):
    """An object that is a destination too, before an event is entered."""

    there: Destination
    values: dict[str, Any]
    stamps: dict[str, int]
    spoken: Collection[str]
    """Fields that the event names, and that are not known of the very same moment: else it only
    tells once more what a read, or an event with more in it, has told."""


class Turn(NamedTuple):
    """A genuine change of a field that we had written not long ago."""

    field: str
    sync: str
    path: list[str]


class Told(NamedTuple):
    """What an event tells of an object that is a destination too."""

    turns: list[Turn]
    """What may go round."""
    met: list[str]
    """Fields whose change met a row of ours on its way, where the platform does not tell of it."""
    behind: list[str]
    """Fields that hold something older than what was not sent there, as they held it already."""


def look(work: Work, source: Source, event: PlatformEvent) -> Look | None:
    """None: nothing of ours is sent to such objects."""
    target = f"{event.connection}:{event.object_type}"
    if not work.catalog.written_to(target):
        return None
    there = work.person.destinations.get(target) or Destination()  # none yet: births count already
    known, key = source.known, event.object_key
    stamps = {name: _stamp(source, key, name) for name in known.values.keys() | source.born.keys()}
    said = msgspec.json.decode(event.values).keys() if event.thin else ()
    at_ms = event.occurred_ms
    whole_s = at_ms % 1000 == 0  # the platform may have changed it again within the second
    spoken = [n for n in said if at_ms > known.time(n) or (whole_s and at_ms == known.time(n))]
    return Look(there, dict(known.values), stamps, spoken)


def told(work: Work, source: Source, event: PlatformEvent, seen: Look) -> Told:
    """The event has been entered: tell our own writes from changes, remember what stands there.

    The destination takes the object for its own from now on.
    """
    there, known = seen.there, source.known
    there.object_id = there.object_id or event.object_id
    twin = event.object_id != there.object_id
    quiet = not twin and work.catalog.quiet(event.connection, event.object_type)
    fresh, turns = dict[str, Any](), list[Turn]()
    for name in known.values.keys() | seen.values.keys():
        before = seen.stamps.get(name, 0)
        value = known.values.get(name)
        came_back = not twin and _came_back(there, known, name, event.occurred_ms, seen.spoken)
        if value == seen.values.get(name) and not came_back:
            if not twin and (name in seen.spoken or not event.thin):
                _confirmed(there, name, value, event.occurred_ms)
            if before:
                source.born[name] = before  # told again is not changed again
            continue
        own, code = _own(work, there, name, value, event)
        source.born.pop(name, None)
        source.echoes.pop(name, None)
        ours = own is not None and own.stamp & ~RULES >= before
        if own is not None and (ours or (quiet and event.origin is Origin.read)):
            source.born[name] = own.stamp & ~RULES
            if code == Standing.echo:
                source.echoes[name] = own.path
        if own is not None and ours:
            if code != Standing.echo:
                work.count(own.sync, code)
            continue
        fresh[name] = value
        for write in there.sent.get(name, ())[-1:]:
            if work.index.now_ms - write.sent_ms < HOUR_MS:
                turns.append(Turn(name, write.sync, write.path))
        if not twin:
            _outdated(there, name, known.time(name))
    behind = _hold(there, source, event.object_key, fresh) if fresh and not twin else []
    met = [n for n in fresh if quiet and _met(there, n, event.occurred_ms)]
    return Told(turns, met, behind)


def _hold(there: Destination, source: Source, key: str, fresh: dict[str, Any]) -> list[str]:
    """These changes stand there now, whoever rules, until that source speaks again -> those of
    them that are `_behind`."""
    for name in fresh:
        if there.written.time(name) & RULES:
            there.written.times[name] = there.written.time(name) & ~RULES
    stands = timed(fresh, {name: _stamp(source, key, name) for name in fresh})
    behind = [n for n in fresh if _behind(there, stands, n, source.known.time(n))]
    for name in behind:
        drop(there.written, name)
    there.written = fold(there.written, stands)
    return behind


def settled(there: Destination, row: Row, at_ms: int) -> None:
    """The row's outcome has come: what it wrote stands there by now, if it ever does."""
    for name in row.fields.values:
        for own in there.sent.get(name, ()):
            if own.row_id == row.row_id:
                own.done_ms = at_ms


def read_since(there: Destination, names: Iterable[str]) -> None:
    """What these fields hold was read after all outcomes: nothing of ours comes back in them."""
    for own in (own for name in names for own in there.sent.get(name, ())):
        own.back |= own.done_ms > 0


def adopt(work: Work, plan: Plan) -> Destination:
    """The destination of a person. Where the person has an object there that we know, it is that
    one, and holds what it has told: it is not looked for, nor made twice."""
    there = work.person.destinations.get(plan.target)
    if there is not None:
        return there
    there = work.person.destinations[plan.target] = Destination()
    if plan.claims:
        of = f"{plan.target}:"
        mine = [
            key
            for key, source in work.person.sources.items()
            if key.startswith(of) and source.stands
        ]
        if mine:
            first = min(mine, key=lambda key: (len(key), key))  # of several the oldest, mostly
            source = work.person.sources[first]
            there.object_id = first[len(of) :]
            there.also = sorted(key[len(of) :] for key in mine if key != first)
            values = dict(source.known.values)
            there.written = timed(values, {f: _stamp(source, first, f) for f in values})
        elif heirs := [s.became for s in work.person.sources.values() if s.became.startswith(of)]:
            there.object_id = min(heirs)[len(of) :]  # its person is about to join this one
    return there


def leave_out(plan: Plan, there: Destination, source: Source, row: Row) -> None:
    """Drop from a decided row what came from where it leads, unless something older stands there
    by now; and note of the rest by which ways it has come."""
    written = there.written
    for name in list(row.fields.values):
        made_of = plan.mapping.reads.get(name)
        paths = [source.echoes[f] for f in made_of or () if f in source.echoes]
        if not paths:
            continue
        row.paths[name] = sorted({target for path in paths for target in path})
        if len(paths) < len(made_of or ()) or any(plan.target not in path for path in paths):
            continue
        value, known = row.fields.values[name], name in written.values
        behind = known and written.time(name) < row.fields.time(name)
        if behind and not same(written.values[name], value):
            continue
        if name in plan.always and not there.object_id:
            continue
        if name == plan.identity and not known:  # else it goes along as it stands there
            continue
        drop(row.fields, name)
        row.echo = True


def stands(there: Destination, row: Row) -> bool:
    """Whether all that is left of the row stands there already, and nothing else is on its way."""
    if row.fields.values and (there.out or any(s.next for s in there.syncs.values())):
        return False
    written = there.written.values
    return all(n in written and same(written[n], v) for n, v in row.fields.values.items())


def echoed(work: Work, row: Row) -> None:
    """Nothing but what came from where it leads: that is its fate."""
    work.note(row, Standing.echo, "own_write", reason="it came from there")
    work.count(row.sync, Standing.echo.value)


def remember(work: Work, plan: Plan, there: Destination, row: Row) -> None:
    """The row goes out: from now on its values may come back."""
    now_ms = work.index.now_ms
    _forget_old(there, now_ms)
    came_from = row.source.rpartition(":")[0]
    for name, value in row.fields.values.items():
        path = sorted({came_from, *row.paths.get(name, ())})
        own = Own(text(value), row.fields.time(name), path, now_ms, row.row_id, plan.sync)
        kept = [o for o in there.sent.get(name, ()) if o.row_id != row.row_id or o.back]
        there.sent[name] = [*kept[1 - OWN_MAX :], own]


def withdraw(there: Destination, row_id: str) -> None:
    """The row was refused, or never tried: nothing of it comes back."""
    for name, writes in list(there.sent.items()):
        kept = [own for own in writes if own.row_id != row_id]
        if kept:
            there.sent[name] = kept
        else:
            del there.sent[name]


def rounds(work: Work, plan: Plan, turns: list[Turn]) -> Turn | None:
    """Count a change that leads back to where the value before it came from -> what goes round too
    often, if it does."""
    turn = next((turn for turn in turns if plan.target in turn.path), None)
    if turn is None:
        return None
    since_ms, number = work.person.rounds.get(plan.sync, (0, 0))
    if work.index.now_ms - since_ms >= HOUR_MS:
        since_ms, number = work.index.now_ms, 0
    work.person.rounds[plan.sync] = (since_ms, number + 1)
    return turn if number >= ROUNDS_MAX else None


def _own(
    work: Work, there: Destination, name: str, value: Any, event: PlatformEvent
) -> tuple[Own | None, str]:
    """Our write that this value is, if it is one: from now on it has come back, as all before it
    have, of which some are never told."""
    plain = text(value)
    object_id = "" if event.object_id == there.object_id else event.object_id
    writes = [own for own in there.sent.get(name, ()) if own.other == object_id]
    for own in sorted(writes, key=lambda own: (own.text != plain, -own.sent_ms)):
        near = own.text != plain
        if own.back or (near and _loose(own.text) != _loose(plain)) or _by_a_person(event):
            continue
        for other in writes:
            other.back |= other.sent_ms <= own.sent_ms
        if work.index.now_ms - own.sent_ms > EXPIRES_MS:
            return own, "echo_expired"
        return own, "echo_near_miss" if near else Standing.echo.value
    return None, ""


def _came_back(
    there: Destination, known: Values, name: str, at_ms: int, spoken: Collection[str]
) -> bool:
    """What we know of the object is what it says now; but in between it has held what we wrote.
    Not if it was said before our write had gone out: an older save tells all fields, too."""
    written = there.written.values
    if name not in written or same(written[name], known.values.get(name)):
        return False
    sent_ms = [own.sent_ms for own in there.sent.get(name, ())]
    if not sent_ms:
        return False
    until_ms = at_ms + 999 if at_ms % 1000 == 0 else at_ms  # some platforms tell whole seconds
    said_since = name in spoken and until_ms >= sent_ms[-1]
    return said_since or known.time(name) > sent_ms[-1] + SKEW_MS


def _behind(there: Destination, stands: Values, name: str, at_ms: int) -> bool:
    """Whether a change at `at_ms` took the place of a value that we thought newer, as something
    newer was equal to it and so was never sent. What went out since will stand there itself."""
    written = there.written
    if name not in written.values or written.time(name) <= stands.time(name):
        return False
    later = any(own.sent_ms >= at_ms and not own.other for own in there.sent.get(name, ()))
    return not later and not same(written.values[name], stands.values[name])


def _met(there: Destination, name: str, at_ms: int) -> bool:
    """Whether a row of ours to this field was on its way at that time, or came later, and the
    platform has not told since what it holds."""
    return any(
        not own.back and not own.other and not 0 < own.done_ms < at_ms - DOUBT_MS
        for own in there.sent.get(name, ())
    )


def _confirmed(there: Destination, name: str, value: Any, at_ms: int) -> None:
    """What we wrote last is told to stand there: neither it nor what was written before it comes
    back any more, though nobody may have told of each of them."""
    writes = there.sent.get(name, ())
    if writes and 0 < writes[-1].done_ms < at_ms and writes[-1].text == text(value):
        for own in writes:
            own.back = True


def _outdated(there: Destination, name: str, at_ms: int) -> None:
    """Something else stood there at this time: what was written long before will not come back."""
    for own in there.sent.get(name, ()):
        own.back |= own.sent_ms + SKEW_MS < at_ms


def _forget_old(there: Destination, now_ms: int) -> None:
    for name, writes in list(there.sent.items()):
        kept = [o for o in writes if now_ms - o.sent_ms < (HOUR_MS if o.back else 2 * EXPIRES_MS)]
        if kept:
            there.sent[name] = kept
        else:
            del there.sent[name]


def _stamp(source: Source, object_key: str, name: str) -> int:
    return source.born.get(name) or stamp_at(source.known.time(name), object_key)


def _loose(plain: str) -> str:
    return "".join(char for char in plain.casefold() if char.isalnum())


def _by_a_person(event: PlatformEvent) -> bool:
    if event.platform != "hubspot" or b"changeSource" not in event.payload:
        return False
    try:
        return _marked(event.payload).changeSource in PERSONS
    except msgspec.DecodeError:
        return False

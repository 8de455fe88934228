"""Two persons become one, and one two again. In the rows of `people`; everything else stays.

A join is asked for by admit (an object of one person shows the key of another; we wrote an object
that somebody else has; a platform merged two objects) or by a person. By policy it is done at once,
or proposed on `parked` until somebody releases it (they are one) or discards it (they are not).

- Of two persons the one with the smaller key stays. So nobody moves in a circle, whoever asks.
- The other one moves when nothing of it is out; until then nothing more of it goes out.
- Its row goes to the other as a message, and from then on what comes for it is sent on: objects,
  addresses and old events need not know of it, and their order stays.
- Then all that is known of both is decided anew, per field the newest. Of two objects at one
  destination one is written from then on, and the journal names the other.
- An undoing gives both their objects back, and decides anew for both.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from schemas.base import Message
from schemas.control import Act, ActKind
from schemas.definitions import ERASE
from schemas.identity import Join, Moved
from schemas.ids import derive
from schemas.journal import JournalEntry, JournalKind, Standing
from schemas.parked import Fix, ParkedRecord, Stage
from schemas.topics import ACTS, FIXES, JOURNAL
from streams.steps import facts
from streams.steps.forgetting import catch_up
from streams.steps.privacy import forget_all, wipe
from streams.steps.removal import another
from streams.steps.rows import (
    Destination,
    JoinAsked,
    Joins,
    Member,
    Person,
    Row,
    Source,
    SyncState,
    Values,
    pack,
    unpack_person,
)
from streams.steps.sending import advance, merge, offer, park_again, parked_id, settle_parked
from streams.steps.shape import map_again, say_again
from streams.steps.values import fold, forget, same
from streams.steps.work import Work, json

__all__ = ["answer_proposal", "asked_to_join", "go_on", "here", "take_in", "unjoin"]

APART_MAX = 64
ROW_BYTES_MAX = 700_000
"""Of a row that moves: a message must stay below the brokers' customary limit of 1 MB."""


def here(work: Work, home: str, message: Message, object_key: str = "") -> bool:
    """Whether what concerns the person `home` is decided in this row; else it has been sent on."""
    joins = work.person.joins
    if joins is not None and joins.moved_to:
        work.out.send(ACTS, joins.moved_to, message)
        return False
    if home == work.key:
        return True
    member = joins.members.get(home) if joins is not None else None
    if member is None:  # it has its own row again
        work.out.send(ACTS, home, message)
        return False
    if object_key and object_key not in member.objects:
        member.objects.append(object_key)
    return True


def asked_to_join(work: Work, join: Join) -> None:
    """Done, proposed, or passed on to the one of the two who moves. A repeat changes nothing."""
    if not here(work, join.person, join):
        return
    if join.gone:
        _object_gone(work, join)
    joins = work.person.joins or Joins()
    asked = JoinAsked(join.join_id, join.into, join.why, join.who)
    if join.into == work.key or join.into in joins.members:
        return
    if join.join_id in joins.apart and not join.became:
        return  # people said no; only the platform itself knows better
    work.person.joins = joins
    if join.into > work.key:
        turned = join.model_copy(update={"person": join.into, "into": work.key, "gone": ""})
        work.out.send(ACTS, join.into, turned)
    elif join.apart:
        _tell(work, JournalKind.kept_apart, work.key, asked)
    elif join.automatic:
        _approve(work, asked)
    elif join.join_id not in joins.proposed:
        joins.proposed[join.join_id] = asked
        _tell(work, JournalKind.join_proposed, work.key, asked)
        _propose(work, asked, join.by_object)


def answer_proposal(work: Work, act: Act, name: str) -> bool:
    """release: they are one; discard: they are not -> whether that is an answer."""
    joins = work.person.joins
    assert joins is not None
    if act.kind not in (ActKind.release, ActKind.discard):
        return False
    asked = joins.proposed[name]
    asked.why, asked.who = act.why or asked.why, act.who
    if act.kind is ActKind.discard:
        _keep_apart(work, asked)
        return True
    _approve(work, asked)
    return True


def unjoin(work: Work, act: Act, home: str) -> bool:
    """Give a person who was joined to this one its own row back -> whether there is such a one."""
    joins = work.person.joins
    if joins is None or home not in joins.members:
        return False
    if all(asked.other != home for asked in joins.parting):
        asked = JoinAsked(joins.members[home].join_id, home, act.why, act.who)
        joins.parting.append(asked)
    return True


def go_on(work: Work) -> None:
    """Move, or part, if that was decided and nothing is out any more."""
    joins = work.person.joins
    if joins is None or not (joins.leaving or joins.parting) or _something_out(work.person):
        return
    while joins.parting:
        _part(work, joins, joins.parting.pop(0))
    if joins.leaving is not None:
        _move(work, joins, joins.leaving)


def take_in(work: Work, moved: Moved) -> None:
    """A person's row has come: to be one with this one, or back to where it was."""
    joins = work.person.joins = work.person.joins or Joins()
    theirs = unpack_person(moved.row)
    catch_up(theirs, work.index.forgotten)  # replaced while the row was on its way
    if moved.person == work.key:
        apart = _some([*joins.apart, moved.join_id])
        work.person = theirs
        work.person.joins = theirs.joins or Joins()
        work.person.joins.apart = apart
        _park_all_again(work)
        _map_next_again(work)
        _decide_anew(work, moved, theirs.sources, force=True)
        return
    if not here(work, moved.into, moved):
        return  # where the person it goes to has gone, or has come back from
    asked = JoinAsked(moved.join_id, moved.into, moved.why, moved.who)
    _tell(work, JournalKind.joined, moved.person, asked)
    differ = work.person.consent != theirs.consent
    _become_one(work, joins, moved, theirs)
    if work.person.erased_ms:
        forget_all(work, work.person.erased_ms)
        wipe(work)
        go_on(work)
        return
    for fact in (f for there in theirs.destinations.values() for f in there.facts.values()):
        facts.park_again(work, fact)
    if differ:  # what stands there of either must hear the last word
        _decide_anew(work, moved, work.person.sources, force=False, word=work.person.consent[1])
    else:
        _decide_anew(work, moved, theirs.sources, force=False)
    go_on(work)


# ---- asking


def _propose(work: Work, asked: JoinAsked, by_object: str) -> None:
    connection, _, rest = by_object.partition(":")
    record = ParkedRecord(
        parked_id=asked.join_id, stage=Stage.joining, person=work.key, code="join_proposed",
        connection=connection, object_type=rest.partition(":")[0], first_ms=work.index.now_ms,
        last_ms=work.index.now_ms, source=b"{}", fields=b"{}",
        words=f"{asked.why}: {work.key} and {asked.other} may be one person",
    )  # fmt: skip
    work.out.parked(asked.join_id, record)


def _approve(work: Work, asked: JoinAsked) -> None:
    """The two are one. Where this one is on its way to somebody else, or would not be the one to
    move (it has been joined since it was asked), somebody else is told."""
    joins = work.person.joins
    assert joins is not None
    _settle_proposal(work, joins, asked)
    person, into = work.key, asked.other
    if joins.leaving is not None:
        person = joins.leaving.other
    elif into > work.key:
        person, into = into, work.key
    elif into != work.key and into not in joins.members:
        joins.leaving = asked
    if person != work.key and person != into:
        join = Join(
            join_id=asked.join_id, person=person, into=into, automatic=True, why=asked.why,
            who=asked.who,
        )  # fmt: skip
        work.out.send(ACTS, person, join)


def _keep_apart(work: Work, asked: JoinAsked) -> None:
    joins = work.person.joins
    assert joins is not None
    _settle_proposal(work, joins, asked)
    joins.apart = _some([*joins.apart, asked.join_id])
    _tell(work, JournalKind.kept_apart, work.key, asked)


def _settle_proposal(work: Work, joins: Joins, asked: JoinAsked) -> None:
    if joins.proposed.pop(asked.join_id, None) is not None:
        work.out.parked(asked.join_id, None)


def _tell(work: Work, kind: JournalKind, person: str, asked: JoinAsked) -> None:
    entry = JournalEntry(
        kind=kind, at_ms=work.index.now_ms, before=person, after=asked.other, why=asked.why,
        who=asked.who, act_id=asked.join_id,
    )  # fmt: skip
    work.out.send(JOURNAL, person, entry)


def _some(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))[-APART_MAX:]


def _object_gone(work: Work, join: Join) -> None:
    """An object is another one now: it speaks no more, and what we write goes to the other."""
    source = work.person.sources.get(join.gone)
    if source is None or source.known.newest() <= join.gone_ms:
        source = work.person.sources.setdefault(join.gone, Source())
        source.became, source.gone_ms = join.became, join.gone_ms
    target, _, gone = join.gone.rpartition(":")
    there = work.person.destinations.get(target)
    if there is not None and there.object_id == gone and join.became.startswith(f"{target}:"):
        there.object_id = join.became[len(target) + 1 :]
        forget(there.written, list(there.written.values))


# ---- moving


def _something_out(person: Person) -> bool:
    return bool(person.previews) or any(
        there.out is not None or any(fact.state == "out" for fact in there.facts.values())
        for there in person.destinations.values()
    )


def _move(work: Work, joins: Joins, asked: JoinAsked) -> None:
    """This row goes to the other person; what comes for it from now on is sent on."""
    person = work.person
    joins.leaving = None
    row = pack(person)
    if len(row) > ROW_BYTES_MAX:
        asked.why = f"{asked.why}; not done: too much of it waits"
        joins.proposed[asked.join_id] = asked
        _propose(work, asked, "")
        _advance_all(work)
        return
    moved = Moved(
        join_id=asked.join_id, person=work.key, into=asked.other, who=asked.who, why=asked.why,
        row=row,
    )  # fmt: skip
    for there in person.destinations.values():
        for state in there.syncs.values():
            if state.owed is not None:
                work.out.parked(parked_id(state.owed, work.key), None)
    for key, source in person.sources.items():
        for name in source.fixes:
            work.out.send(FIXES, f"{work.key}|{key}|{name}", None)
    work.out.send(ACTS, asked.other, moved)
    work.person = Person(joins=Joins(moved_to=asked.other, apart=joins.apart))


def _become_one(work: Work, joins: Joins, moved: Moved, theirs: Person) -> None:
    mine = work.person
    members = theirs.joins.members if theirs.joins is not None else {}
    among = {key for other in members.values() for key in other.objects}
    member = Member(moved.into, moved.join_id, [k for k in theirs.sources if k not in among])
    joins.members |= {**members, moved.person: member}
    if theirs.joins is not None:
        joins.proposed |= theirs.joins.proposed
        joins.apart = _some([*joins.apart, *theirs.joins.apart])
        joins.parting += theirs.joins.parting
    for asked in list(joins.proposed.values()):
        if asked.other == work.key or asked.other in joins.members:
            _settle_proposal(work, joins, asked)  # they are one by now
        elif theirs.joins is not None and asked.join_id in theirs.joins.proposed:
            _propose(work, asked, "")  # it has another person now
    for key, source in theirs.sources.items():
        mine.sources[key] = source
        for name, (was, value) in source.fixes.items():
            fix = Fix(
                person=work.key, source=key, field=name, act_id=moved.join_id, who=moved.who,
                why=moved.why, when_ms=work.index.now_ms, was=json(was), value=json(value),
            )  # fmt: skip
            work.out.send(FIXES, f"{work.key}|{key}|{name}", fix)
    mine.seq = max(mine.seq, theirs.seq)
    mine.acts = [*mine.acts, *theirs.acts]
    mine.mended = [*mine.mended, *theirs.mended]
    mine.consent = max(mine.consent, theirs.consent)
    mine.erased_ms = max(mine.erased_ms, theirs.erased_ms)
    for person in (mine, theirs):
        _stay(work, person)
    for name, (since_ms, number) in theirs.rounds.items():
        mine.rounds[name] = max(mine.rounds.get(name, (0, 0)), (since_ms, number))
    for target, other in theirs.destinations.items():
        there = mine.destinations.setdefault(target, Destination())
        if other.object_id:
            member.destinations[target] = other.object_id
            if not there.object_id:
                member.brought.append(target)
        _one_destination(work, there, other)


def _stay(work: Work, person: Person) -> None:
    """What was to be taken away stays, where another object leads there now; but not who is
    forgotten."""
    for there in person.destinations.values():
        for state in there.syncs.values():
            rows = [state.next, state.owed.row if state.owed else None]
            for row in (r for r in rows if r is not None and r.removal not in ("", ERASE)):
                plan = work.plan(row.sync, row.run)
                if plan is None or not another(work, plan, ""):
                    continue
                if state.owed is not None and state.owed.row is row:
                    settle_parked(work, state, state.owed)
                else:
                    state.next = None
                work.note(row, Standing.filtered, "another_remains", reason="joined")


def _one_destination(work: Work, mine: Destination, theirs: Destination) -> None:
    """What stands at a destination of both, and what waits for it there."""
    if theirs.object_id and mine.object_id and theirs.object_id != mine.object_id:
        mine.also = [*dict.fromkeys([*mine.also, *theirs.also, theirs.object_id])]
        for own in (own for writes in theirs.sent.values() for own in writes):
            own.other = own.other or theirs.object_id
    else:
        differ = [
            name
            for name in {*mine.written.values, *theirs.written.values}
            if not _alike(mine.written, theirs.written, name)
        ]
        alone = theirs.blank() or mine.blank()
        mine.written = fold(mine.written, theirs.written)
        if not alone:
            forget(mine.written, differ)
        mine.object_id = mine.object_id or theirs.object_id
        mine.also = [*dict.fromkeys([*mine.also, *theirs.also])]
    for name, writes in theirs.sent.items():
        mine.sent[name] = sorted([*mine.sent.get(name, ()), *writes], key=lambda own: own.sent_ms)
    mine.facts |= theirs.facts
    mine.maybe = {**theirs.maybe, **mine.maybe}
    mine.gone = [*dict.fromkeys([*mine.gone, *theirs.gone])]
    for name, state in theirs.syncs.items():
        _one_sync(work, mine, name, mine.syncs.setdefault(name, SyncState()), state)
    for row in _waiting(mine):
        row.lane = ""  # of the other partition


def _one_sync(
    work: Work, there: Destination, name: str, mine: SyncState, theirs: SyncState
) -> None:
    if mine.next is not None and theirs.next is not None:
        mine.next = merge(work, *sorted((theirs.next, mine.next), key=lambda row: row.seq))
    else:
        mine.next = mine.next or theirs.next
    for owed in theirs.invalid.values():
        mine.invalid[owed.row.source] = owed
        park_again(work, owed)
    if theirs.owed is not None:
        if mine.owed is not None:
            theirs.owed.row = merge(
                work, *sorted((theirs.owed.row, mine.owed.row), key=lambda row: row.seq)
            )
        mine.owed = theirs.owed
        park_again(work, mine.owed)
    plan = work.plan(name, "")
    if mine.owed is not None and mine.next is not None and plan is not None:
        later, mine.next = mine.next, None
        offer(work, plan, there, later)


def _alike(one: Values, other: Values, name: str) -> bool:
    return (
        name in one.values and name in other.values and same(one.values[name], other.values[name])
    )


# ---- parting


def _part(work: Work, joins: Joins, asked: JoinAsked) -> None:
    """A member gets its objects back, at the source and at the destinations. What stands at those
    may be of both: it is unknown from now on, and all is sent again."""
    person, home = work.person, asked.other
    member = joins.members.get(home)
    if member is None:
        return
    _release_owed(work, asked)
    homes = {h for h in joins.members if _came_through(joins, h, home)}
    theirs = Person(
        seq=person.seq, acts=list(person.acts), mended=list(person.mended), consent=person.consent,
        forgotten=dict(person.forgotten), erased_ms=person.erased_ms,
    )  # fmt: skip
    left = {h: joins.members[h] for h in homes if h != home}
    for key in [key for h in homes for key in joins.members[h].objects]:
        if key in person.sources:
            theirs.sources[key] = person.sources.pop(key)
    theirs.joins = Joins(members=left)
    for target, there in person.destinations.items():
        leaving = [member, *left.values()]
        theirs.destinations[target] = _their_destination(there, target, leaving, theirs)
    for h in homes:
        del joins.members[h]
    undone = JoinAsked(asked.join_id, work.key, asked.why, asked.who)
    _tell(work, JournalKind.join_undone, home, undone)
    moved = Moved(
        join_id=asked.join_id, person=home, into=home, who=asked.who, why=asked.why,
        row=pack(theirs),
    )  # fmt: skip
    work.out.send(ACTS, home, moved)
    _map_next_again(work)
    _decide_anew(work, moved, person.sources, force=True)


def _release_owed(work: Work, asked: JoinAsked) -> None:
    """What was refused would be of both: it is decided anew, by whom it is of then."""
    for there in work.person.destinations.values():
        for state in there.syncs.values():
            if state.owed is None:
                continue
            row = state.owed.row
            settle_parked(work, state, state.owed)
            work.note(row, Standing.waiting, "released", reason=asked.why, by=asked.who)
            if state.next is not None:
                row = merge(work, *sorted((row, state.next), key=lambda each: each.seq))
            state.next = row


def _came_through(joins: Joins, home: str, other: str) -> bool:
    """Whether `home` is `other`, or was joined to somebody who was joined to it."""
    while home != other:
        member = joins.members.get(home)
        if member is None:
            return False
        home = member.into
    return True


def _their_destination(
    there: Destination, target: str, leaving: list[Member], theirs: Person
) -> Destination:
    """What of a destination is theirs who part: a member, and those who came through it."""
    had = [*dict.fromkeys(m.destinations[target] for m in leaving if target in m.destinations)]
    other = Destination(object_id=had[0] if had else "", also=had[1:])
    for name, writes in there.sent.items():
        theirs_too = [own for own in writes if own.other in ("", other.object_id)]
        other.sent[name] = [replace(own, other="") for own in theirs_too]
    there.also = [object_id for object_id in there.also if object_id not in had]
    if there.object_id in had and any(target in m.brought for m in leaving):
        there.object_id = ""
    there.written = Values()
    for name, state in list(there.syncs.items()):
        moving = SyncState()
        if state.next is not None and state.next.source in theirs.sources:
            moving.next, state.next = state.next, None
        for key in [k for k in state.invalid if k in theirs.sources]:
            moving.invalid[key] = state.invalid.pop(key)
        if not moving.idle():
            other.syncs[name] = moving
    for row_id in [r for r, fact in there.facts.items() if fact.row.source in theirs.sources]:
        other.facts[row_id] = there.facts.pop(row_id)
    for row in _waiting(other):
        row.lane = ""
    return other


# ---- deciding anew


def _park_all_again(work: Work) -> None:
    """What is parked has another person now."""
    for there in work.person.destinations.values():
        for owed in (o for s in there.syncs.values() for o in s.invalid.values()):
            park_again(work, owed)
        for fact in there.facts.values():
            facts.park_again(work, fact)


def _map_next_again(work: Work) -> None:
    """What waits holds values of both: it is decided anew from what is this person's."""
    for there in work.person.destinations.values():
        for state in list(there.syncs.values()):
            row = state.next
            plan = work.plan(row.sync, row.run) if row is not None else None
            if row is None or plan is None or row.removal:
                continue
            state.next, row.fields = None, Values()
            map_again(work, plan, there, row, invalid=False)


def _decide_anew(
    work: Work, moved: Moved, keys: Iterable[str], *, force: bool, word: str = ""
) -> None:  # fmt: skip
    """One record of its own for each sync that one of these objects has come through. `word`: the
    last one on consent, where it is news for one of those that became one."""
    keys = set(keys)
    for name in work.catalog.names():
        plan = work.plan(name, "")
        if plan is None or plan.fact:
            continue
        speak = [k for k, s in work.person.sources.items() if k in keys and name in s.decided]
        row_id = derive("joined", moved.join_id, name, work.key, str(work.person.seq))
        why = f"joined: {moved.why}"
        say_again(
            work, plan, speak, row_id, moved.join_id, why=why, by=moved.who, force=force,
            word=word if word in plan.kinds else "",
        )  # fmt: skip
    _advance_all(work)
    for target in [t for t, there in work.person.destinations.items() if there.blank()]:
        del work.person.destinations[target]


def _advance_all(work: Work) -> None:
    for there in work.person.destinations.values():
        advance(work, there)
        facts.advance(work, there)


def _waiting(there: Destination) -> list[Row]:
    rows = [state.next for state in there.syncs.values() if state.next is not None]
    return [*rows, *(fact.row for fact in there.facts.values())]

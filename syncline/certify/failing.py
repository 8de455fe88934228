"""What becomes of a request that fails as a whole: limits, faults, lost answers, refused keys."""

import asyncio
import socket
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

from connectors.base import Changes, Fetch, FieldsOf, PlatformError
from connectors.http import Trail, trail
from connectors.outcome import Halted, Parked, Retry, Throttled, TooLarge
from syncline.certify.bench import Bench, NotHere, kinds, same_for_all
from syncline.certify.checks import check
from syncline.certify.places import Place

FAULTS, LIMITS = "lost answers and faults", "limits"
SECRET = "tell-nobody-us1"  # noqa: S105 - a wrong one; Mailchimp's end with the data centre
PATIENCE = 40
WAIT_S = 120
"""Long, so that what passes until the answer is read makes no difference."""


async def _lost(bench: Bench, action: str) -> None:
    """It was written, we just do not know: a repeat is no second effect."""
    rows = bench.one(4)
    bench.strike(action)
    assert isinstance(same_for_all(await bench.upload(rows), len(rows)), Retry)
    assert bench.effects["created"] == len(rows)
    assert kinds(await bench.resend(rows)) == [bench.good] * len(rows)
    effects = bench.effects
    assert (effects["created"], effects["changed"], effects["twice_total"]) == (len(rows), 0, 0)


@check(FAULTS, "no answer after the write: repeated or looked up, one effect")
async def a_lost_answer_and_a_repeat_are_one_effect(bench: Bench) -> None:
    await _lost(bench, "lose_after")


@check(FAULTS, "the connection cut in the middle of the answer: one effect")
async def an_answer_cut_short_and_a_repeat_are_one_effect(bench: Bench) -> None:
    await _lost(bench, "truncate")


@check(FAULTS, "a gateway's 503 after the write: one effect")
async def a_fault_after_the_write_and_a_repeat_are_one_effect(bench: Bench) -> None:
    await _lost(bench, "status_after")


@check(FAULTS, "the connection cut before the write: tried again")
async def a_connection_cut_before_the_write_is_tried_again(bench: Bench) -> None:
    rows = bench.one(3)
    bench.strike("lose_before")
    assert isinstance(same_for_all(await bench.upload(rows), len(rows)), Retry)
    assert bench.effects["created"] == 0
    assert kinds(await bench.upload(rows)) == [bench.good] * len(rows)


@check(FAULTS, "a slow answer is waited for; one that is too slow counts as lost, one effect")
async def a_slow_answer_is_waited_for_and_one_too_slow_is_lost(bench: Bench) -> None:
    rows = bench.one(3)
    bench.strike("slow_body", ms=100)
    assert kinds(await bench.upload(rows)) == [bench.good] * len(rows)
    more = [bench.place.row(n) for n in range(10, 10 + len(rows))]
    async with bench.connect(bench.url, bench.slow(2.0)) as impatient:
        bench.strike("slow_body", ms=6_000)
        outcomes = await impatient.upload_batch(bench.place.object_type, more)
    assert isinstance(same_for_all(outcomes, len(more)), Retry)
    again = await bench.resend(more)
    for _ in range(PATIENCE):  # whose first request still runs there may be told so
        if Retry not in kinds(again):
            break
        await asyncio.sleep(0.5)
        again = await bench.resend(more)
    assert kinds(again) == [bench.good] * len(more)
    assert (bench.effects["created"], bench.effects["twice_total"]) == (2 * len(rows), 0)


@check(FAULTS, "500, 502, 503, 504 pass")
async def their_faults_pass(bench: Bench) -> None:
    rows = bench.one(3)
    for status in (500, 502, 503, 504):
        bench.strike("status", status=status, body="<html>oops</html>")
        assert isinstance(same_for_all(await bench.upload(rows), len(rows)), Retry), status
    assert kinds(await bench.upload(rows)) == [bench.good] * len(rows)


@check(FAULTS, "a 200 of somebody in between is no success")
async def a_success_of_somebody_in_between_is_none(bench: Bench) -> None:
    rows = bench.one(3)
    for body in ("<html>maintenance</html>", {"status": "fine"}):
        bench.strike("status", status=200, body=body)
        assert isinstance(same_for_all(await bench.upload(rows), len(rows)), Retry), body


@check(FAULTS, "a refusal that nobody knows parks, and does not loop")
async def an_unknown_refusal_parks_and_does_not_loop(bench: Bench) -> None:
    rows = bench.one(2)
    bench.strike("status", status=418, body="teapot")
    assert isinstance(same_for_all(await bench.upload(rows), len(rows)), Parked)


@check(FAULTS, "nobody there: known to have sent nothing")
async def nobody_there_is_known_to_have_sent_nothing(bench: Bench) -> None:
    rows = bench.one(2)
    with socket.socket() as taken:  # bound and not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        async with bench.connect(f"http://127.0.0.1:{taken.getsockname()[1]}") as connector:
            outcomes = await connector.upload_batch(bench.place.object_type, rows)
            assert isinstance(same_for_all(outcomes, len(rows)), Retry)
            error = await _read_fails(connector, bench.place)
    assert (error.status, error.sent) == (0, False)


@check(FAULTS, "a read without answer: known that it may have been sent")
async def a_lost_answer_may_have_been_sent(bench: Bench) -> None:
    fault = {"method": bench.place.read_method, "action": "lose_before", "count": 1}
    bench.platform.script.add([fault])
    error = await _read_fails(bench.connector, bench.place)
    assert (error.status, error.sent) == (0, True)


async def _read_fails(connector: Any, place: Place) -> PlatformError:
    something: Fetch = (
        Changes(place.object_type, "") if "changes" in place.reads else FieldsOf(place.object_type)
    )
    try:
        await connector.fetch_records(something)
    except PlatformError as error:
        return error
    raise AssertionError("a read that cannot have worked was answered")


async def _throttled(bench: Bench, fault: Mapping[str, Any]) -> tuple[Throttled, int]:
    """A limit struck -> what it became, and the status it came with. Nothing was written."""
    rows, of = bench.one(2), Trail()
    bench.platform.script.clear()
    bench.strike("throttle", **fault)
    with trail(of):
        outcome = same_for_all(await bench.upload(rows), len(rows))
    assert bench.fired() == 1
    assert isinstance(outcome, Throttled), (fault, outcome)
    assert bench.effects["objects"] == 0
    return outcome, of.calls[-1].status


@check(LIMITS, "the platform's own refusals for a limit: they wait, and cost no attempt")
async def too_much_costs_no_attempt(bench: Bench) -> None:
    if not bench.place.throttles:
        raise NotHere("it has no limit on writing")
    for fault in bench.place.throttles:
        outcome, _ = await _throttled(bench, fault)
        if policy := fault.get("policy"):
            assert outcome.window == policy


async def _429(bench: Bench, headers: Mapping[str, str], body: Any = None) -> Throttled:
    """A plain 429, as platforms and the gateways before them give it -> what it became."""
    if all(fault.get("policy") for fault in bench.place.throttles):
        raise NotHere("its limits do not come as 429")
    rows = bench.one(2)
    told = {"message": "too much"} if body is None else body
    bench.strike("status", status=429, body=told, headers=dict(headers))
    outcome = same_for_all(await bench.upload(rows), len(rows))
    assert isinstance(outcome, Throttled), outcome
    assert bench.effects["objects"] == 0
    return outcome


@check(LIMITS, "429 with `Retry-After` in seconds")
async def a_429_with_seconds_waits_so_long(bench: Bench) -> None:
    form = bench.place.waits
    if form.header != "retry-after":
        raise NotHere(f"it tells the wait in `{form.header}`" if form.header else "it tells none")
    assert (await _429(bench, {"Retry-After": str(WAIT_S)})).wait_s == WAIT_S


@check(LIMITS, "429 with `Retry-After` as a date")
async def a_429_with_a_date_waits_until_then(bench: Bench) -> None:
    form = bench.place.waits
    if form.header != "retry-after":
        raise NotHere(f"it tells the wait in `{form.header}`" if form.header else "it tells none")
    date = formatdate(bench.platform.clock.now() + WAIT_S, usegmt=True)
    outcome = await _429(bench, {"Retry-After": date})
    assert outcome.wait_s is not None, "the wait was not understood"
    assert WAIT_S / 2 <= outcome.wait_s <= WAIT_S + 1


@check(LIMITS, "429 with a wait of the platform's own form (milliseconds, a unix time)")
async def a_429_in_the_platforms_own_form_waits_so_long(bench: Bench) -> None:
    form = bench.place.waits
    if form.header in ("", "retry-after"):
        raise NotHere("it tells the wait in `Retry-After`" if form.header else "it tells none")
    now_s = bench.platform.clock.now()
    said = {"milliseconds": WAIT_S * 1000, "unix_s": int(now_s) + WAIT_S, "seconds": WAIT_S}
    outcome = await _429(bench, {form.header: str(said[form.unit])})
    assert outcome.wait_s is not None, "the wait was not understood"
    assert WAIT_S / 2 <= outcome.wait_s <= WAIT_S + 1


@check(LIMITS, "429 that says nothing of the wait")
async def a_429_without_any_wait_is_a_limit_all_the_same(bench: Bench) -> None:
    assert (await _429(bench, {}, "<html>429</html>")).wait_s is None


@check(LIMITS, "limits dressed as 200, 400 or 403")
async def a_limit_in_another_dress_is_a_limit(bench: Bench) -> None:
    if not bench.place.throttles:
        raise NotHere("it has no limit on writing")
    statuses = {(await _throttled(bench, fault))[1] for fault in bench.place.throttles}
    if statuses == {429}:
        raise NotHere("all of its limits come as 429")


@check(LIMITS, "a request that is too large is told apart")
async def too_large_is_told_apart(bench: Bench) -> None:
    rows = bench.one(2)
    bench.strike("status", status=413, body="<html>413</html>")
    assert isinstance(same_for_all(await bench.upload(rows), len(rows)), TooLarge)


@check("keys", "a refused key halts, and is not told")
async def a_refused_key_halts(bench: Bench) -> None:
    rows, wrong = bench.one(2), dict.fromkeys(bench.place.secrets, SECRET)
    async with bench.connect(bench.url, instead=wrong) as connector:
        outcomes = await connector.upload_batch(bench.place.object_type, rows)
        outcome = same_for_all(outcomes, len(rows))
    assert isinstance(outcome, Halted)
    assert SECRET not in repr(outcome)
    assert bench.effects["objects"] == 0


@check("keys", "a token that expires between two batches, or in one, is renewed and costs no row")
async def an_expired_token_is_renewed(bench: Bench) -> None:
    place = bench.place
    if not place.logins:
        raise NotHere("its key does not expire")
    assert kinds(await bench.upload(bench.one(2))) == [bench.good] * len(bench.one(2))
    bench.platform.expire_tokens()
    assert kinds(await bench.upload(bench.one(2, "Bea"))) == [bench.good] * len(bench.one(2))
    bench.strike("expire_token")
    assert kinds(await bench.upload(bench.one(2, "Cis"))) == [bench.good] * len(bench.one(2))
    bench.strike("expire_token", count=None)  # and never good again
    rows = bench.one(2)
    assert isinstance(same_for_all(await bench.upload(rows), len(rows)), Retry | Halted)

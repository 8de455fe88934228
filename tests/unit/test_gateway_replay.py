"""Raw requests through today's normaliser: what is the same, missing, changed, gone, refused."""

import hashlib
import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from schemas.codec import Codec
from schemas.definitions import Definition
from schemas.events import EventKind, Origin, PlatformEvent
from schemas.parked import ParkedRecord
from syncline.errors import Misused
from syncline.since import parse_place
from webhook_gateway import intake, replay
from webhook_gateway.replay import Piece, Raw, assembled, compared, normalised, proven
from webhook_gateway.routes import Route, Routes
from webhook_gateway.senders.base import Request, Unparseable
from webhook_gateway.senders.hubspot import Sender

NOW_MS = 1_795_000_000_000
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
codec = Codec.offline()


def routes(*accounts: str) -> Route:
    made = Routes(codec, lambda _: SecretStr("secret"))
    assert not made.load(
        Definition(
            kind="connection",
            name=f"hub-{account}",
            version=1,
            document=json.dumps({
                "connection": f"hub-{account}", "platform": "hubspot", "account": account,
                "webhook": {"secret": "env:SECRET"},
            }),
            applied_ms=1,
        )
        for account in accounts
    )  # fmt: skip
    return made.table["hub-33"]


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "subscriptionType": "contact.propertyChange", "objectId": number, "portalId": 33,
        "occurredAt": NOW_MS, "propertyName": "email", "propertyValue": "ada@example.com",
    } | fields  # fmt: skip


def received(
    route: Route, *events: Any, headers: dict[str, str] | None = None
) -> tuple[Raw, dict[str, PlatformEvent], dict[str, ParkedRecord]]:
    """As the gateway took it then: the request, the events, what was parked."""
    body = json.dumps(events).encode()
    asked = Request("/hooks/hub-33?a=1", "", "", headers or {}, body, NOW_MS)
    parts = route.sender.parse(asked)
    records, _ = intake.records(
        route.sender.spec, "hub-33", route.encoder_of, codec, asked, parts, TRACE
    )
    told = {n: v if isinstance(v, str) else (v or b"").decode() for n, v in records[0].headers}
    messages = [codec.decode(r.value) for r in records[1:]]
    return (
        Raw("intake.hubspot-0-1", "hub-33", told, records[0].value),
        {m.event_id: m for m in messages if isinstance(m, PlatformEvent)},
        {m.parked_id: m for m in messages if isinstance(m, ParkedRecord)},
    )


def test_nothing_differs_where_nothing_changed() -> None:
    route = routes("33")
    raw, events, parked = received(route, event(1), event(2), {"objectId": 3})
    d = compared([normalised(route, raw)], events, parked)
    assert (d.requests, d.same, d.missing, d.changed, d.gone, d.settled) == (1, 2, [], [], [], [])
    assert [p.position for _, p in d.refused] == [2]


def test_what_is_missing_has_the_ids_of_then_and_is_marked() -> None:
    route = routes("33")
    raw, events, _ = received(route, event(1), event(2))
    lost, kept = sorted(events)
    d = compared([normalised(route, raw)], {kept: events[kept]}, {})
    [(place, made, record)] = d.missing
    assert (place, made.event_id, d.same) == (raw.place, lost, 1)
    told = codec.decode_as(PlatformEvent, record.value)
    assert told == events[lost].model_copy(update={"origin": Origin.replay})
    assert (record.topic, dict(record.headers)["ce_id"]) == ("events.hubspot", lost)


def test_a_part_of_an_account_that_is_a_connection_by_now_is_settled() -> None:
    raw, events, parked = received(routes("33"), event(1), event(2, portalId=44))
    [parked_id] = parked
    d = compared([normalised(routes("33", "44"), raw)], events, parked)
    assert [e.connection for _, e, _ in d.missing] == ["hub-44"]
    assert (d.settled, d.refused) == ([parked_id], [])
    d = compared([normalised(routes("33", "44"), raw)], events, {})
    assert d.settled == []  # settled already


def test_a_part_that_made_no_sense_then_and_does_now(monkeypatch: pytest.MonkeyPatch) -> None:
    route = routes("33")
    real = Sender.parse

    def strict(self: Sender, asked: Request) -> list[Any]:
        first, *others = real(self, asked)
        assert not isinstance(first, Unparseable)
        return [Unparseable(0, first.payload, "not known yet"), *others]

    def failing(*_: object) -> list[Any]:
        raise ZeroDivisionError

    for parse in (strict, failing):
        with monkeypatch.context() as then:
            then.setattr(Sender, "parse", parse)
            raw, events, parked = received_or_failed(route, event(1), event(2))
        d = compared([normalised(route, raw)], events, parked)
        assert len(d.missing) == 2 - len(events)
        assert d.settled == list(parked)


def received_or_failed(route: Route, *events: Any) -> Any:
    try:
        return received(route, *events)
    except ZeroDivisionError:  # the gateway parks the body whole then
        body = json.dumps(events).encode()
        asked = Request("/hooks/hub-33", "", "", {}, body, NOW_MS)
        records, _ = intake.records(
            route.sender.spec, "hub-33", route.encoder_of, codec, asked,
            [Unparseable(-1, body, "our sender failed: ZeroDivisionError")], TRACE,
        )  # fmt: skip
        record = codec.decode_as(ParkedRecord, records[1].value)
        headers = {"received_ms": str(NOW_MS), "traceparent": TRACE, "path": "/hooks/hub-33"}
        return Raw("p", "hub-33", headers, body), {}, {record.parked_id: record}


def test_a_normaliser_that_says_it_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    route = routes("33")
    raw, events, _ = received(route, event(1))
    real = Sender.parse

    def other(self: Sender, asked: Request) -> list[Any]:
        return [
            msgspec.structs.replace(p, kind=EventKind.other, object_type="Contact")
            for p in real(self, asked)
        ]

    monkeypatch.setattr(Sender, "parse", other)
    d = compared([normalised(route, raw)], events, {})
    [(_, _, fields)] = d.changed
    assert (fields, d.missing, d.gone) == (["object_type", "kind"], [], [])


def test_a_normaliser_that_refuses_it_or_gives_it_another_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    route = routes("33")
    raw, events, _ = received(route, event(1))
    real = Sender.parse
    monkeypatch.setattr(
        Sender,
        "parse",
        lambda self, asked: [Unparseable(0, p.payload, "no") for p in real(self, asked)],
    )
    d = compared([normalised(route, raw)], events, {})
    assert (d.gone, [p.words for _, p in d.refused]) == ([*events.values()], ["no"])
    assert (d.same, d.missing) == (0, [])


def test_a_repeat_among_the_chosen_counts_once() -> None:
    route = routes("33")
    first, events, _ = received(route, event(1, attemptNumber=0))
    again, _, _ = received(route, event(1, attemptNumber=1))
    d = compared([normalised(route, raw) for raw in (first, again)], {}, {})
    assert (d.requests, len(d.missing)) == (2, 1)
    assert d.missing[0][1].event_id in events


def test_a_refused_request_is_proven_with_todays_secret() -> None:
    route = routes("33")
    body = json.dumps([event(1)]).encode()
    good = hashlib.sha256(b"secret" + body).hexdigest()
    for proof, reason in (("0fa1" * 16, "signature wrong"), (good, "")):
        headers = {
            "received_ms": str(NOW_MS), "path": "/hooks/hub-33", "verdict": "signature wrong",
            "http.x-hubspot-signature": proof, "http.x-hubspot-signature-version": "v1",
        }  # fmt: skip
        raw = Raw("quarantine-0-1", "hub-33", headers, body)
        assert proven(route, raw, "") == reason
    made = normalised(route, raw)
    assert [r.topic for r in made.records] == ["intake.hubspot", "events.hubspot"]
    [(told, _)] = made.events.values()
    assert told.trace == normalised(route, raw).raw.trace == raw.trace
    assert replay.Raw("quarantine-0-2", *raw[1:]).trace != raw.trace


bodies = st.lists(st.binary(min_size=0, max_size=40), min_size=1, max_size=5)


@given(bodies=bodies, size=st.integers(1, 20), seed=st.integers(0, 1000))
def test_requests_in_pieces_are_whole_again(bodies: list[bytes], size: int, seed: int) -> None:
    """Requests of several gateways stand between each other's pieces."""
    chance = random.Random(seed)
    queues: list[list[Piece]] = []
    for number, body in enumerate(bodies):
        parts = [body[n : n + size] for n in range(0, len(body), size)] or [b""]
        queues.append([
            Piece(
                f"{number}-{n}", "hub",
                {"part": f"{n}/{len(parts)}", "request": str(number)} if len(parts) > 1 else {},
                part,
            )
            for n, part in enumerate(parts, 1)
        ])  # fmt: skip
    mixed: list[Piece] = []
    while queues:
        queue = chance.choice(queues)
        mixed.append(queue.pop(0))
        queues = [q for q in queues if q]
    found = list(assembled(mixed))
    assert all(isinstance(f, Raw) for f in found)
    assert sorted(f.body for f in found) == sorted(bodies)


def test_pieces_without_their_neighbours_are_told() -> None:
    def piece(n: int) -> Piece:
        return Piece(f"t-0-{n}", "hub", {"part": f"{n}/3", "request": "r"}, b"x")

    assert list(assembled([piece(2), piece(3)])) == [piece(2), piece(3)]
    whole = Raw("t-0-1", "hub", piece(1).headers, b"xxx")
    assert list(assembled([piece(3), piece(1), piece(2), piece(3)])) == [whole]


def test_a_place() -> None:
    assert parse_place("intake.hubspot-3-120") == ("intake.hubspot", 3, 120)
    for wrong in ("", "intake.hubspot", "intake.hubspot-3", "-1-2", "a-b-2", "a-1-2-3"):
        with pytest.raises(Misused):
            parse_place(wrong)


def test_all_fields_of_an_event_are_compared_or_left_out_on_purpose() -> None:
    """How we came to know of it, and what names it, is no difference."""
    left_out = {"event_id", "platform", "origin", "run", "record_no", "received_ms", "trace",
                "payload"}  # fmt: skip
    assert set(replay.COMPARED) | left_out == set(PlatformEvent.model_fields)

"""Any bytes at any sender: it takes them or refuses them by name, and nothing of them is lost.

A failure names its round: `FUZZ=0:17 pytest tests/fuzz/test_fuzz_senders.py` runs it again.
"""

import base64
import binascii
import random
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from schemas import topics
from schemas.codec import Codec
from schemas.events import PlatformEvent
from schemas.parked import ParkedRecord
from tests.fuzz.mutate import UNSIGNABLE, mutated, rounds
from tests.unit.senders_kit import CASES, HOST, NOW_MS, SECRET, SESSION, Case, Lower
from webhook_gateway import intake
from webhook_gateway.encode import EventEncoder
from webhook_gateway.senders.base import Event, Refused, Request, Unparseable

SLOW_S = 3.0
"""CPU time of one body; the slowest that is allowed holds up everybody behind it."""
PROOF = re.compile(r"[\w+/=]{20,}")
codec = Codec.offline()
ALL = list(CASES.values())


@dataclass
class Tally:
    taken: int = 0
    refused: int = 0
    events: int = 0
    parked: int = 0


@pytest.mark.parametrize(
    "seconds",  # together a minute, and ten in `make soak`
    [30, pytest.param(300, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_no_bytes_make_a_sender_fail(seconds: float) -> None:
    tally = Tally()
    for name, chance in rounds(seconds):
        case = chance.choice(ALL)
        try:
            one(case, chance, tally)
        except Exception as error:
            error.add_note(f"{case.platform}: FUZZ={name} runs it again")
            raise
    print(f"\nfuzzed the senders: {tally}")
    if seconds >= 30 and tally.taken > 100:  # a single round asked for tells nothing of this
        assert tally.refused
        assert tally.events
        assert tally.parked


def one(case: Case, chance: random.Random, tally: Tally) -> None:
    body = case.body(chance.choice(case.counts))
    body = mutated(chance, body, chance.choice(ALL).body(1))
    spec = case.sender().spec
    if len(body) > spec.body_bytes_max:
        return
    if chance.random() < 0.2:
        refused_or_not(case, body, chance)
    try:
        request = case.request(body)
    except UNSIGNABLE:  # the signing side of the test needs it whole
        request = unsigned(spec.cut(body) if spec.cut else body, {})
    began_s = time.process_time()
    sender, named = case.sender(), True
    try:
        sender.verify(request)
        tally.taken += 1
    except Refused as refused:
        tally.refused += 1
        named = refused.status in (200, 400, 401) and 0 < len(refused.reason) < 60
    assert named
    parts = sender.parse(request)  # also of what is refused: no order of calls saves a sender
    again = case.sender().parse(request)
    assert time.process_time() - began_s < SLOW_S, f"{len(body)} bytes"
    assert parts == again
    assert all(isinstance(p, Event | Unparseable) for p in parts)
    kept_whole(case, body, request, parts, tally)


def kept_whole(case: Case, sent: bytes, request: Request, parts: list[Any], tally: Tally) -> None:
    """One record for each part, all readable, and the body beside them as it was."""
    encoder = EventEncoder(codec, case.platform, case.platform)
    spec = case.sender().spec
    records, parked = intake.records(
        spec, case.platform, lambda _: encoder, codec, request, parts, "t"
    )
    raw = [r for r in records if r.topic == topics.intake_of(case.platform)]
    assert b"".join(r.value for r in raw) == request.body
    assert len(records) == len(raw) + len(parts)
    for record in records[len(raw) :]:
        if record.topic == topics.PARKED:
            codec.decode_as(ParkedRecord, record.value)
        else:
            assert record.topic == topics.events_of(case.platform)
            event = codec.decode_as(PlatformEvent, record.value)
            assert event.object_key == record.key
            assert event.occurred_ms > 0
        assert len(record.value) <= intake.VALUE_BYTES_MAX + 100_000
        record.key.encode()
    # Where one of its elements was broken on the way nobody can know that one for a session; nor
    # does any other sender, into whose body the mixing has brought one.
    whole = sent.count(f"<SessionId>{SESSION}</SessionId>".encode())
    if case.platform == "salesforce" and whole == sent.count(SESSION.encode()):
        assert not any(SESSION.encode() in r.value for r in records)
    tally.events += len(parts) - parked
    tally.parked += parked


def refused_or_not(case: Case, body: bytes, chance: random.Random) -> None:
    """A proof that is broken: refused by name, never anything else."""
    try:
        good = case.request(body)
    except UNSIGNABLE:
        return
    headers = {
        name: mutated(chance, value.encode()).decode("utf-8", "surrogateescape")
        if chance.random() < 0.5
        else value
        for name, value in good.headers.items()
    }
    rest = mutated(chance, good.rest.encode()).decode("utf-8", "surrogateescape")
    target = f"{good.target.partition('?')[0]}{chance.choice(('', '?', '?a=b&=&%', '?' + rest))}"
    broken = good._replace(
        headers=Lower(headers), rest=rest, target=target, url=HOST + target,
        received_ms=chance.choice((NOW_MS, 0, 2**53)),
    )  # fmt: skip
    try:
        case.sender().verify(broken)
    except Refused:
        return
    # What differs was not proven with, or stands for the same: the proof itself has to be there.
    proof = SECRET
    if case.signs_body:
        proof = max(PROOF.findall(" ".join(good.headers.values())), key=len)
    assert proof.lower() in told(broken).lower()


def told(request: Request) -> str:
    """All that could prove it, as it stands there and decoded."""
    texts = [*request.headers.values(), request.rest, request.target]
    words = [word.encode("utf-8", "surrogateescape") for text in texts for word in text.split(" ")]
    for word in words:
        texts.append(unquote_to_bytes(word).decode("latin-1"))
        with suppress(binascii.Error):
            texts.append(base64.b64decode(word + b"==").decode("latin-1"))
    return " ".join(texts)


def unsigned(body: bytes, headers: Mapping[str, str]) -> Request:
    return Request("/hooks/x", f"{HOST}/hooks/x", "", Lower(headers), body, NOW_MS)

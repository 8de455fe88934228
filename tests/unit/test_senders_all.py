"""What holds for every sender at once: each body splits whole, proofs prove, nothing raises, a
repeat is a repeat, and no secret is kept."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import ids
from schemas.codec import Codec
from schemas.events import PlatformEvent
from tests.unit.senders_kit import CASES, HOST, NOW_MS, SECRET, SESSION, Case, Lower
from webhook_gateway import intake
from webhook_gateway.encode import EventEncoder
from webhook_gateway.senders import platforms, sender_type
from webhook_gateway.senders.base import Event, Refused, Request, Unparseable
from webhook_gateway.senders.forms import fields

codec = Codec.offline()
cases = st.sampled_from(list(CASES.values()))
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
COUNTS = [(c, n) for c in CASES.values() for n in c.counts]

# Of all: what a stranger might add to a request, or write in place of a proof.
HEADERS = sorted(
    {name for case in CASES.values() for name in case.sender().spec.kept_headers}
    | {"authorization", "x-signature", "webhook-signature"}
)


def ids_of(case: Case, request: Request) -> list[str]:
    parts = case.sender().parse(request)
    assert all(isinstance(part, Event) for part in parts), parts
    return [ids.event_id(case.platform, p.identity, p.content) for p in parts]


def records(case: Case, request: Request) -> list[Any]:
    """All that the gateway would write for a good request."""
    encoder = EventEncoder(codec, case.platform, case.platform)
    sender = case.sender()
    made, _ = intake.records(
        sender.spec, case.platform, lambda _: encoder, codec, request, sender.parse(request), "t"
    )
    return made


def test_every_sender_is_here() -> None:
    assert set(CASES) == set(platforms())


@each
def test_what_a_sender_says_of_itself(case: Case) -> None:
    spec = case.sender().spec
    assert sender_type(case.platform).spec.platform == spec.platform == case.platform
    assert 1024 <= spec.body_bytes_max <= 64 * 1024 * 1024
    assert 1 <= spec.answer_within_s <= 60
    assert all(name == name.lower() for name in spec.kept_headers)
    assert not {"authorization", "cookie", "proxy-authorization"} & set(spec.kept_headers)
    assert spec.secret_in_path == (case.platform in {
        "salesforce", "mailchimp", "activecampaign", "marketo", "braze", "iterable", "pipedrive",
    })  # fmt: skip
    for name, field in sender_type(case.platform).spec.options.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize(("case", "count"), COUNTS, ids=[f"{c.platform}-{n}" for c, n in COUNTS])
def test_a_valid_body_splits_into_as_many_events_as_it_has(case: Case, count: int) -> None:
    request = case.request(case.body(count))
    case.sender().verify(request)
    made = ids_of(case, request)
    assert len(made) == len(set(made)) == count
    raw, *events = records(case, request)
    assert (raw.topic, raw.value) == (f"intake.{case.platform}", request.body)
    assert {record.topic for record in events} <= {f"events.{case.platform}"}
    written = _decoded(case, request.body)
    for record, event_id in zip(events, made, strict=True):
        message = codec.decode_as(PlatformEvent, record.value)
        assert (message.event_id, message.object_key) == (event_id, record.key)
        assert message.payload in written
        assert message.object_id
        assert message.platform_kind
        assert message.occurred_ms <= NOW_MS


def _decoded(case: Case, body: bytes) -> bytes:
    """Where the bytes of an event stand."""
    return dict(fields(body) or ())["mandrill_events"] if case.platform == "mandrill" else body


@each
def test_either_of_two_secrets_is_good_and_no_other(case: Case) -> None:
    body = case.body(1)
    both = case.sender("the-new-one", "the-old-one")
    for secret in ("the-new-one", "the-old-one"):
        both.verify(case.request(body, secret))
    for sender in (both, sender_without(case)):
        with pytest.raises(Refused) as caught:
            sender.verify(case.request(body, "the-stolen-one"))
        assert caught.value.status == 401


def sender_without(case: Case) -> Any:
    kind = sender_type(case.platform)
    return kind(kind.spec.options.model_validate(case.options), [])


@each
def test_a_request_without_proof_is_refused(case: Case) -> None:
    url = f"/hooks/{case.platform}"
    with pytest.raises(Refused) as caught:
        case.sender().verify(Request(url, HOST + url, "", Lower({}), case.body(1), NOW_MS))
    assert caught.value.status == 401


@settings(max_examples=150, deadline=None)
@given(case=st.sampled_from([c for c in CASES.values() if c.signs_body]), data=st.data())
def test_any_changed_byte_breaks_the_signature(case: Case, data: st.DataObject) -> None:
    request = case.request(body := case.body(1))
    case.sender().verify(request)
    position = data.draw(st.integers(0, len(body) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda b: b != body[position]))
    changed = body[:position] + bytes([other]) + body[position + 1 :]
    if case.platform == "mandrill" and fields(changed) == fields(body):
        return  # %5B and %5b are one value; values are what it signs
    with pytest.raises(Refused) as caught:
        case.sender().verify(request._replace(body=changed))
    assert caught.value.reason == "signature wrong"


@settings(max_examples=150, deadline=None)
@given(case=cases, data=st.data())
def test_any_changed_character_of_the_proof_breaks_it(case: Case, data: st.DataObject) -> None:
    request = case.request(case.body(1))
    headers = dict(request.headers)
    longest = max(headers, key=lambda name: len(headers[name]), default="")
    proof = headers[longest] if longest else request.rest
    where = proof.find(SECRET) if SECRET in proof else len(proof) // 2
    position = data.draw(st.integers(where, len(proof) - 2))  # base64 ends in bits of no meaning
    other = data.draw(st.sampled_from("0123456789abcdef").filter(lambda c: c != proof[position]))
    changed = proof[:position] + other + proof[position + 1 :]
    if longest:
        request = request._replace(headers=Lower(headers | {longest: changed}))
    else:
        request = request._replace(rest=changed)
    with pytest.raises(Refused):
        case.sender().verify(request)


@settings(max_examples=200, deadline=None)
@given(case=cases, data=st.data())
def test_no_bytes_make_parsing_raise(case: Case, data: st.DataObject) -> None:
    body = case.body(data.draw(st.sampled_from(case.counts[:2])))
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 60)))
    cut = sender_type(case.platform).spec.cut or bytes
    body = cut(body[:start] + data.draw(st.binary(max_size=40)) + body[end:])
    request = case.request(case.body(1))._replace(body=body)
    parts = case.sender().parse(request)
    assert all(isinstance(part, Event | Unparseable) for part in parts)
    assert [p.position for p in parts if isinstance(p, Unparseable) and p.position >= 0] == sorted(
        {n for n, p in enumerate(parts) if isinstance(p, Unparseable) and p.position >= 0}
    )
    records(case, request)  # whatever came out can be written
    with_proof = case.sender()
    try:
        with_proof.verify(request)
    except Refused as refused:
        assert refused.status in (200, 401)  # noqa: PT017 - where it is taken all is well, too


@settings(max_examples=200, deadline=None)
@given(
    case=cases,
    headers=st.dictionaries(
        st.sampled_from(HEADERS),
        st.one_of(
            st.text(max_size=60),
            st.sampled_from(["t=,v1=", "v1,", "sha1=", "Basic !", "Bearer ", "\\udcff", "\udcff"]),
        ),
    ),
    rest=st.one_of(st.text(max_size=30), st.sampled_from(["%", "%ff", "%zz/%00"])),
    query=st.text(max_size=60),
    body=st.binary(max_size=100),
)
def test_no_headers_or_address_make_the_check_raise_or_pass(
    case: Case, headers: dict[str, str], rest: str, query: str, body: bytes
) -> None:
    target = f"/hooks/{case.platform}/{rest}?{query}"
    request = Request(target, HOST + target, rest, Lower(headers), body, NOW_MS)
    with pytest.raises(Refused) as caught:
        case.sender().verify(request)
    assert caught.value.status == 401
    assert caught.value.reason.isascii()
    assert len(caught.value.reason) < 40


@each
def test_a_repeat_gives_the_same_ids(case: Case) -> None:
    request = case.request(case.body(case.counts[-1]))
    later = request._replace(received_ms=NOW_MS + 3_600_000)
    assert ids_of(case, request) == ids_of(case, later)


@each
def test_a_repeat_that_is_cut_otherwise_gives_the_same_ids(case: Case) -> None:
    if len(case.counts) == 1:
        assert case.counts == (1,)
        return
    whole = ids_of(case, case.request(case.body(case.counts[-1])))
    assert whole[:1] == ids_of(case, case.request(case.body(1)))


@each
def test_nothing_secret_is_kept(case: Case) -> None:
    body = case.body(1)
    request = case.request(body)
    headers = dict(request.headers) | {"cookie": SESSION, "x-api-key": SECRET}
    request = request._replace(headers=Lower(headers))
    written = records(case, request)
    written += intake.quarantined(case.sender().spec, case.platform, request, "signature wrong")
    assert len(written) == 3
    for record in written:
        kept = record.value + repr(record.headers).encode() + repr(record.key).encode()
        assert SECRET.encode() not in kept
        assert SESSION.encode() not in kept


STAMPED = {
    "mailchimp": ("x-mailchimp-signature", 300),
    "klaviyo": ("klaviyo-timestamp", 300),
    "customerio": ("x-cio-timestamp", 300),
    "generic": ("webhook-timestamp", 300),
}


@pytest.mark.parametrize(("platform", "window_s"), [(p, w) for p, (_, w) in STAMPED.items()])
def test_a_signed_time_is_good_for_its_window(platform: str, window_s: int) -> None:
    case = CASES[platform]
    for off_s in (-window_s, window_s):
        case.sender().verify(case.request(case.body(1), now_ms=NOW_MS + off_s * 1000))
    for off_s in (-window_s - 1, window_s + 1, 86_400):
        with pytest.raises(Refused) as caught:
            case.sender().verify(case.request(case.body(1), now_ms=NOW_MS + off_s * 1000))
        assert caught.value.reason == "timestamp outside the window"
    proof = case.sign(case.body(1), SECRET, "")
    name, _ = STAMPED[platform]
    unstamped = {n: v for n, v in proof.headers.items() if n.lower() != name}
    request = case.request(case.body(1))._replace(headers=Lower(unstamped))
    with pytest.raises(Refused):
        case.sender().verify(request)
